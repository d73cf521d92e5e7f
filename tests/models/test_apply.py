"""From a frame of kernels to bytes and FLOPs, and the real recordings held against hardware counters."""

from __future__ import annotations

import csv
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocscope import metrics
from rocscope.collectors import discovery
from rocscope.models.apply import apply, operands
from rocscope.models.model import Operand
from rocscope.models.served import ServedModel
from rocscope.study import GROUP_COLUMNS, MODEL_COLUMNS
from rocscope.taxonomy import classify

NONE = Operand((), "")
FUSED = "void vllm::gptq::gemm_half_q_half_gptq_4bit_kernel<true, 1>(__half const*)"


def frame(*rows: dict[str, Any]) -> pd.DataFrame:
    """Make a frame of groups; what a row leaves out is missing."""
    names = [row["raw_name"] for row in rows]
    found = pd.DataFrame(list(rows), columns=list(GROUP_COLUMNS)).assign(gpu=0, kind="kernel")
    for row, known in zip(found.index, rows, strict=True):
        found.loc[row, "kind"] = known.get("kind", "kernel")
    classes = classify(names)
    return found.assign(kernel=classes.kernel, family=classes.family, subfamily=classes.subfamily)


def launch(groups: tuple[int, int, int], threads: int) -> dict[str, int]:
    return {
        "grid_x": groups[0] * threads,
        "grid_y": groups[1],
        "grid_z": groups[2],
        "workgroup_x": threads,
        "workgroup_y": 1,
        "workgroup_z": 1,
    }


@pytest.fixture(scope="module")
def w4(examples: Path) -> ServedModel:
    return ServedModel.load(examples / "h200_decoder" / "w4_config.json")


def test_what_is_not_modelled_is_missing(w4: ServedModel) -> None:
    rows = frame(
        {"raw_name": FUSED, **launch((48, 1, 32), 128)},
        {"raw_name": "stranger"},
        {"raw_name": "Memset (Device)", "kind": "memset", "copied_bytes": 12.0},
    )
    found = apply(rows, {0: None}, w4)
    assert list(found.columns[-len(MODEL_COLUMNS) :]) == list(MODEL_COLUMNS)
    assert found.problem_shape[0]["m"] == 1
    assert found.bytes.tolist()[::2] == [4096 * 24576 / 2 + 32 * 24576 * 2.5 + 2 * (4096 + 24576), 12.0]
    assert np.isnan(found.bytes[1])
    assert np.isnan(found.flops[1])
    for column in (
        "problem_shape",
        "bytes_basis",
        "bytes_source",
        "flops_basis",
        "flops_source",
        "flops_unit",
    ):
        assert found[column][1] is None
    assert found.bytes_basis[0] == "modelled"
    assert (found.flops[2], found.flops_unit[2]) == (0.0, None)
    assert apply(rows, {}, None).bytes.isna().tolist() == [True, True, False]


def test_an_empty_frame_and_another_index(w4: ServedModel) -> None:
    assert apply(frame({"raw_name": "x"}).iloc[:0], {}, w4).bytes.empty
    rows = frame({"raw_name": "x"}, {"raw_name": FUSED, **launch((48, 1, 32), 128)})
    rows.index = pd.Index([7, 3])
    found = apply(rows, {}, w4)
    assert found.index.tolist() == [7, 3]
    assert found.bytes.notna().tolist() == [False, True]


def test_thousands_of_rows_are_quick(w4: ServedModel) -> None:
    one = frame({"raw_name": FUSED, **launch((48, 1, 32), 128)})
    rows = pd.concat([one] * 20_000, ignore_index=True)
    rows["grid_y"] = np.arange(20_000) % 50 + 1
    begin = time.process_time()
    found = apply(rows, {}, w4)
    assert time.process_time() - begin < 2.0
    assert found.bytes.notna().all()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, ()),
        ("", ()),
        ("[", ()),
        ("{}", ()),
        ("[1]", ()),
        ("[" * 5000, ()),
        ('[{"dims":[2,3],"dtype":"float"}]', (Operand((2, 3), "float"),)),
        ('[{"dims":[2,3],"dtype":"float","stored":3}]', (Operand((2, 3), "float", 3),)),
        (
            '[{"dims":[[1],[2]],"dtype":"TensorList"},{"dims":[4],"dtype":"int"}]',
            (Operand((), "", parts=((1,), (2,))), Operand((4,), "int")),
        ),
        ('[{"dims":[[1],[-2]],"dtype":"TensorList"}]', (NONE,)),
        ('[{"dims":[-1],"dtype":"float"},{"dims":[true],"dtype":"float"},{"dtype":"float"}]', (NONE,) * 3),
        ('[{"dims":[2],"dtype":null},{"dims":[2],"dtype":"int","stored":-4}]', (NONE, Operand((2,), "int"))),
    ],
)
def test_operands_out_of_recorded_text(text: str | None, expected: tuple[Operand, ...]) -> None:
    assert operands(text) == expected


@given(st.text(max_size=60))
def test_operands_out_of_any_text(text: str) -> None:
    assert isinstance(operands(text), tuple)


# ------------------------------------------------------------------ against hardware counters
def truth(path: Path) -> list[dict[str, str]]:
    with path.open() as stream:
        return list(csv.DictReader(stream))


def of_truth(row: dict[str, str], **known: Any) -> dict[str, Any]:
    groups, block = (tuple(int(n) for n in re.findall(r"\d+", row[name])) for name in ("grid", "block"))
    shape = {f"workgroup_{axis}": size for axis, size in zip("xyz", block, strict=True)}
    shape |= {f"grid_{axis}": n * size for axis, n, size in zip("xyz", groups, block, strict=True)}
    return {"raw_name": row["kernel_name"], **shape, **known}


def test_fused_gptq_against_the_counters_of_the_same_launches(captures: Path) -> None:
    rows = [
        row
        for row in truth(captures / "h200_vllm" / "kernel_truth.csv")
        if "gemm_half_q_half_gptq_8bit" in row["kernel_name"]
    ]
    served = ServedModel.load(captures / "h200_vllm" / "gptq8_config.json")
    found = apply(frame(*(of_truth(row) for row in rows)), {}, served)
    assert len(rows) == 15
    assert found.bytes.notna().all()
    assert sorted({shape["m"] for shape in found.problem_shape}) == [1, 8]
    read = np.array([float(row["dram_read_bytes"]) for row in rows])
    assert np.abs(found.bytes / read - 1).max() < 0.06


@pytest.mark.parametrize(
    ("case", "hidden", "intermediate", "known"),
    [
        ("w4_gemv_gateup32b", 5120, 25600, {}),
        ("fused_add_rms_norm_t32768_h5120", 5120, 25600, {}),
        (
            "gemm_m1_lmhead", 4096, 12288,
            {"operator": "aten::mm", "operator_shapes": '[{"dims":[1,4096],"dtype":"c10::Half"},'
             '{"dims":[4096,151936],"dtype":"c10::Half"}]'},
        ),
        (
            "add_512m", 4096, 12288,
            {"operator": "aten::add", "operator_shapes": '[{"dims":[268435456],"dtype":"c10::Half"},'
             '{"dims":[268435456],"dtype":"c10::Half"}]'},
        ),
    ],
)  # fmt: skip
def test_cases_larger_than_the_cache(
    examples: Path, case: str, hidden: int, intermediate: int, known: dict[str, Any]
) -> None:
    """Bytes are those of the case by arithmetic, and within 4 % of what the counters saw."""
    row = next(r for r in truth(examples / "h200_decoder" / "kernel_truth.csv") if r["case"] == case)
    config = ServedModel.load(examples / "h200_decoder" / "w4_config.json")
    served = ServedModel(**(vars(config) | {"hidden_size": hidden, "intermediate_size": intermediate}))
    found = apply(frame(of_truth(row, **known)), {}, served)
    assert found.bytes[0] == float(row["case_min_bytes"])
    assert found.flops[0] == float(row["case_flops"])
    moved = float(row["dram_read_bytes"]) + float(row["dram_write_bytes"])
    assert moved > 100e6
    assert found.bytes[0] == pytest.approx(moved, rel=0.04)


def grouped(path: Path) -> pd.DataFrame:
    capture = discovery.load([path])
    return metrics.group(capture, classify(metrics.kernel_names(capture)))


def test_every_fused_dispatch_of_a_real_vllm_has_its_shape(captures: Path) -> None:
    rows = grouped(captures / "h200_vllm" / "gptq8_graph.kineto.json.gz")
    served = ServedModel.load(captures / "h200_vllm" / "gptq8_config.json")
    begin = time.process_time()
    found = apply(rows, {}, served)
    assert time.process_time() - begin < 1.0
    fused = found[found.kernel == "gemm_half_q_half_gptq_8bit_kernel"]
    shapes = {(s["m"], s["n"], s["k"]): n for s, n in zip(fused.problem_shape, fused.dispatches, strict=True)}
    layers = [(6144, 4096), (4096, 4096), (24576, 4096), (4096, 12288)]
    launches = {1: 36, 2: 360, 4: 396}  # layers of all steps at that batch
    assert shapes == {(m, n, k): count for m, count in launches.items() for n, k in layers}
    for family in ("gptq_gemm", "dequant", "gemm", "rmsnorm"):
        assert found.bytes[found.family == family].notna().all(), family
    assert found.time_ns[found.bytes.notna()].sum() / found.time_ns.sum() > 0.85


def test_no_modelled_bytes_move_faster_than_the_memory_can(captures: Path, examples: Path) -> None:
    """What exceeds the 60 MB cache cannot come faster than 4.8 TB/s: a model that overstates shows here."""
    for path, config in (
        (captures / "h200_vllm" / "gptq8_graph.kineto.json.gz", captures / "h200_vllm" / "gptq8_config.json"),
        (
            examples / "h200_decoder" / "kineto_strided_eager.json.gz",
            examples / "h200_decoder" / "w4_config.json",
        ),
        (
            examples / "h200_decoder" / "kineto_fp16_graph.json.gz",
            examples / "h200_decoder" / "fp16_config.json",
        ),
    ):
        found = apply(grouped(path), {}, ServedModel.load(config))
        large = found[found.bytes > 60e6]
        assert (large.bytes / large.mean_ns < 4800).all()


def test_two_ranks_have_half_the_columns(examples: Path) -> None:
    rows = grouped(examples / "h200_decoder" / "tp2_straggler_rank1.json.gz")
    found = apply(rows, {}, ServedModel.load(examples / "h200_decoder" / "w4_config.json", tp=2))
    shapes = found.problem_shape[(found.family == "gptq_gemm") & found.problem_shape.notna()]
    assert sorted((s["n"], s["k"]) for s in shapes) == [(3072, 4096), (12288, 4096)]
    shared = found[(found.kernel == "gptq_w4a16_gemv_kernel") & (found.grid_x == 16 * 128)]
    assert shared.bytes.isna().all()  # output and down projection: the same launch, two shapes
