"""Layers told by their place in a step: recordings of a real vLLM and of a decoder, and synthetic streams."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rocscope import metrics
from rocscope.capture import Capture
from rocscope.collectors import discovery
from rocscope.models import sequence
from rocscope.models.apply import apply
from rocscope.models.served import ServedModel
from rocscope.taxonomy import classify
from synthetic_capture import capture, row

LAYERS = 3
CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "vocab_size": 32000,
    "torch_dtype": "float16",
}
QKV, OUT, UP, DOWN, HEAD = (1536, 1024), (1024, 1024), (8192, 1024), (1024, 4096), (32000, 1024)
TENSILE = "Cijk_Alik_Bljk_HHS_BH_MT128x16x32_MI16x16x16x1_SN_GSU1"
ATTENTION, NORM = (
    "kernel_unified_attention_2d",
    "void vllm::fused_add_rms_norm_kernel<c10::Half, 8>(c10::Half*)",
)
ACTIVATION = "void vllm::act_and_mul_kernel<c10::Half, &vllm::silu_kernel<c10::Half>, true>(c10::Half*)"
QUANTISED = {"quantization_config": {"quant_method": "awq", "bits": 4, "group_size": 128}}

Launch = tuple[str, tuple[int, int, int], int]  # name, workgroups, threads


def served(**changes: Any) -> ServedModel:
    return ServedModel.load(CONFIG | changes)


def tensile(shape: tuple[int, int], m: int) -> list[Launch]:
    return [(TENSILE, (-(-shape[0] // 128), -(-m // 16), 1), 256)]


def step(m: int, product: Any = tensile, head: Any = None) -> list[Launch]:
    """One decode step of ``m`` tokens as vLLM launches it."""
    norm: Launch = (NORM, (m, 1, 1), 256)
    layer = [norm, *product(QKV, m), (ATTENTION, (m, 2, 1), 64), *product(OUT, m), norm]
    layer += [*product(UP, m), (ACTIVATION, (m, 1, 1), 512), *product(DOWN, m)]
    return [*layer * LAYERS, norm, *(head or tensile)(HEAD, m)]


def stream(launches: list[Launch], **more: Any) -> Capture:
    rows = [
        row(
            name,
            10 * index,
            9,
            grid_x=groups[0] * threads,
            grid_y=groups[1],
            grid_z=groups[2],
            workgroup_x=threads,
            stream=1,
            **more,
        )
        for index, (name, groups, threads) in enumerate(launches)
    ]
    return capture(rows)


def kernels(made: Capture, model: ServedModel) -> pd.DataFrame:
    names = classify(metrics.kernel_names(made))
    placed = sequence.place(metrics.timing(made).rows, names, model)
    return apply(metrics.group(made, names, placed), {}, model)


def sequence_of(made: Capture, model: ServedModel) -> Any:
    return sequence.place(metrics.timing(made).rows, classify(metrics.kernel_names(made)), model)


def shapes(found: pd.DataFrame) -> Counter[tuple[int, int, int]]:
    rows = found[found.problem_shape.notna() & found.family.isin(["gemm", "gptq_gemm", "awq_gemm"])]
    counted: Counter[tuple[int, int, int]] = Counter()
    for shape, count in zip(rows.problem_shape, rows.dispatches, strict=True):
        counted[shape["m"], shape["n"], shape["k"]] += count
    return counted


def expected(m: int, steps: int = 1) -> dict[tuple[int, int, int], int]:
    found = {(m, *shape): LAYERS * steps for shape in (QKV, OUT, UP, DOWN)}
    return found | ({(1, *HEAD): steps} if m == 1 else {})


# ------------------------------------------------------------------------------------------ recordings
def recorded(path: Path, config: Path, tp: int = 1) -> pd.DataFrame:
    return kernels(discovery.load([path]), ServedModel.load(config, tp=tp))


def test_output_and_down_projection_of_one_launch_are_told_apart(examples: Path) -> None:
    folder = examples / "h200_decoder"
    found = recorded(folder / "kineto_strided_graph.json.gz", folder / "w4_config.json")
    shared = found[(found.kernel == "gptq_w4a16_gemv_strided_kernel") & (found.grid_x == 4096 * 128)]
    by_k = {shape["k"]: row for shape, row in zip(shared.problem_shape, shared.itertuples(), strict=True)}
    assert {k: row.dispatches for k, row in by_k.items()} == {4096: 216, 12288: 216}  # 6 steps of 36 layers
    assert "o_proj by its place" in by_k[4096].bytes_source and "[layer-order]" in by_k[4096].bytes_source
    # never the ground, but a check of it: three times the weights take longer, without overlap
    assert by_k[4096].max_ns < by_k[12288].min_ns
    assert by_k[12288].mean_ns / by_k[4096].mean_ns == pytest.approx(2.8, abs=0.3)
    products = found[found.family.isin(["gemm", "gptq_gemm"])]
    assert products.time_ns[products.bytes.notna() & products.flops.notna()].sum() == products.time_ns.sum()


def test_a_prefill_and_decode_steps_in_turn(examples: Path) -> None:
    folder = examples / "h200_decoder"
    found = recorded(folder / "kineto_strided_eager.json.gz", folder / "w4_config.json")
    prefill = found[found.kernel == "gptq_w4a16_gemm_kernel"]
    layers = [(6144, 4096), (4096, 4096), (24576, 4096), (4096, 12288)]
    assert shapes(prefill) == {(1024, *layer): 36 for layer in layers}
    assert set(prefill.flops_unit) == {"matrix_fp16"}
    assert (prefill.flops / prefill.mean_ns < 990e3).all()


def test_blas_products_of_a_graph_replay(captures: Path) -> None:
    folder = captures / "h200_vllm"
    found = recorded(folder / "fp16_graph.kineto.json.gz", folder / "fp16_config.json")
    products = found[found.family == "gemm"]
    assert products.bytes.notna().all() and products.flops.notna().all() and products.flops_unit.notna().all()
    layers = [(6144, 4096), (4096, 4096), (24576, 4096), (4096, 12288)]
    steps = {1: 1, 2: 10, 4: 11, 300: 2, 301: 1, 901: 1}  # by rows, those of padded graphs included
    decode = {key: count for key, count in shapes(products).items() if key[1:] in layers}
    assert decode == {(m, *layer): 36 * count for m, count in steps.items() for layer in layers}
    large = products[products.bytes > 60e6]
    assert (large.bytes / large.mean_ns < 4800).all()  # TB/s * 1000
    sums = products[products.kernel == "splitKreduce_kernel"]
    assert set(sums.layer) == {"o_proj", "down_proj"} and set(sums.layer_parts) == {3}


@pytest.mark.parametrize("rank", [0, 1])
def test_two_ranks_one_of_which_repeats_a_product(examples: Path, rank: int) -> None:
    folder = examples / "h200_decoder"
    found = recorded(folder / f"tp2_straggler_rank{rank}.json.gz", folder / "w4_config.json", tp=2)
    counted = shapes(found[found.family == "gptq_gemm"])
    repeats = 8 if rank == 1 else 1
    assert counted[1, 4096, 6144] == repeats * counted[1, 4096, 2048] == repeats * counted[1, 3072, 4096]


def test_every_gptq_product_of_a_real_vllm(captures: Path) -> None:
    folder = captures / "h200_vllm"
    found = recorded(folder / "gptq8_graph.kineto.json.gz", folder / "gptq8_config.json")
    for family in ("gptq_gemm", "dequant", "gemm"):
        rows = found[found.family == family]
        assert len(rows) and rows.bytes.notna().all() and rows.flops.notna().all()
    for each in found[found.family == "gptq_gemm"].itertuples():
        linear = ServedModel.load(folder / "gptq8_config.json").layer(each.layer)
        assert linear and (each.problem_shape["n"], each.problem_shape["k"]) == (linear.n, linear.k)
        assert each.problem_shape["m"] == each.layer_m  # the launch and the other kernels of the step agree
    written = found[found.family == "dequant"]
    assert {shape["m"] for shape in written.problem_shape} == {300, 301, 901}


# ------------------------------------------------------------------------------------------- synthetic
@pytest.mark.parametrize("m", [1, 3, 16, 40])
def test_tensile_products_by_place(m: int) -> None:
    found = kernels(stream(step(m) * 2), served())
    assert shapes(found) == expected(m, steps=2)
    assert set(found.flops_unit[found.bytes.notna() & (found.family == "gemm")]) == {"matrix_fp16"}
    layer = found[(found.family == "gemm") & (found.layer == "down_proj")].iloc[0]
    assert layer.bytes == 2 * (m * 4096 + 4096 * 1024 + m * 1024) and layer.flops == 2 * m * 4096 * 1024


def test_steps_cut_off_at_the_ends_keep_their_order() -> None:
    whole = step(2)
    found = kernels(stream([*whole[14:], *whole, *whole, *whole[:2]]), served())
    products = found[found.family == "gemm"]
    assert products.layer.notna().all()
    counts = products.groupby("layer").dispatches.sum()
    # the first third is missing from the first step, and the last has begun with one product
    assert dict(counts) == {"qkv_proj": 8, "o_proj": 7, "gate_up_proj": 7, "down_proj": 8, "lm_head": 3}
    cut = products[products.bytes.isna()]
    assert set(cut.layer) == {"qkv_proj", "lm_head"}  # rows unknown: no activation ran, one head a sequence
    assert cut.dispatches[cut.layer == "qkv_proj"].sum() == 1


def test_what_is_cut_off_from_its_product_is_left_alone() -> None:
    def split(shape: tuple[int, int], m: int) -> list[Launch]:
        after: Launch = ("Cijk_Alik_Bljk_HHS_BH_PostGSU4", (4, 1, 1), 256)
        before: Launch = ("awq_dequantize_kernel", (-(-shape[0] // 256), -(-shape[1] // 32), 1), 256)
        return [before, *tensile(shape, m), after]

    whole = step(2, split)
    model = served(**QUANTISED)
    found = kernels(stream([whole[3], *whole, whole[1]]), model)
    assert shapes(found) == expected(2)
    assert found.dispatches[found.layer.isna() & (found.subfamily == "awq_dequantize")].sum() == 1
    assert sequence_of(stream([*whole[:4], whole[3], *whole[4:8], whole[6], *whole[8:]]), model) is not None
    assert sequence_of(stream([*whole[:5], whole[3], *whole[5:]]), model) is None  # beside attention


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_one_product_missing_or_too_many_and_nothing_is_placed(data: st.DataObject) -> None:
    launches = step(2) * 3
    products = [at for at, (name, _, _) in enumerate(launches) if name == TENSILE]
    inside = [at for at in products if len(step(2)) <= at < 2 * len(step(2))]
    at = data.draw(st.sampled_from(inside))
    missing = [*launches[:at], *launches[at + 1 :]]
    other: Launch = (TENSILE, (999, 1, 1), 256)
    for broken in (missing, [*launches[:at], other, *launches[at:]]):
        made = stream(broken)
        assert (
            sequence.place(metrics.timing(made).rows, classify(metrics.kernel_names(made)), served()) is None
        )


@pytest.mark.parametrize(
    "changes",
    [
        {"num_hidden_layers": LAYERS + 1},
        {"num_hidden_layers": LAYERS - 1},
        {"intermediate_size": 2048},  # no such tiles
        {"model_type": "stranger"},
    ],
)
def test_another_model_than_the_one_that_ran(changes: dict[str, Any]) -> None:
    found = kernels(stream(step(4) * 3), served(**changes))
    assert found.bytes[found.family == "gemm"].isna().all()


def test_rows_that_do_not_tell_an_order() -> None:
    names = classify([TENSILE, ATTENTION, ACTIVATION, NORM])
    for made in (
        stream(step(1)[:4]),  # less than a step
        stream([each for each in step(1) if each[0] != ATTENTION]),
        stream(step(1), count=2),  # sums over dispatches
        capture([]),
    ):
        assert sequence.place(metrics.timing(made).rows, names, served()) is None
    untimed = stream(step(1))
    untimed.dispatches = untimed.dispatches.set_column(
        untimed.dispatches.schema.get_field_index("start_ns"),
        untimed.dispatches.schema.field("start_ns"),
        pa.nulls(untimed.dispatches.num_rows, pa.int64()),
    )
    assert sequence.place(metrics.timing(untimed).rows, names, served()) is None


def test_rows_of_products_are_unknown_where_the_step_contradicts_itself() -> None:
    launches = step(2)
    at = next(i for i, each in enumerate(launches) if each[0] == ACTIVATION)
    launches[at] = (ACTIVATION, (3, 1, 1), 512)
    found = kernels(stream(launches), served())
    # the norms still agree with one another, and are asked next
    assert shapes(found) == expected(2)
    norm = next(i for i, each in enumerate(launches) if each[0] == NORM)
    launches[norm + 4] = (NORM, (5, 1, 1), 256)
    assert shapes(kernels(stream(launches), served())) == {}
    wider = [(name, (3, 1, 1), 512) if name == ACTIVATION else (name, *more) for name, *more in step(2)]
    assert shapes(kernels(stream(wider), served())) == {}  # activations and norms disagree


def test_awq_with_split_k_and_written_out() -> None:
    model = served(**QUANTISED)

    def fused(shape: tuple[int, int], m: int) -> list[Launch]:
        return [("awq_gemm_kernel", (-(-m // 32) * -(-shape[0] // 32), 8, 1), 256)]

    found = kernels(stream(step(2, fused)), model)
    assert shapes(found) == expected(2)
    down = found[(found.layer == "down_proj") & (found.family == "awq_gemm")].iloc[0]
    weights = 4096 * 1024 / 2 + 2 * 32 * 1024 + 32 * 1024 / 2
    assert down.bytes == weights + 2 * 2 * 4096 + 8 * 2 * 2 * 1024 and down.flops_unit == "matrix_fp16"

    def written(shape: tuple[int, int], m: int) -> list[Launch]:
        grid = (-(-shape[0] // 8 // 32), -(-shape[1] // 32), 1)
        return [("awq_dequantize_kernel", grid, 256), *tensile(shape, m)]

    found = kernels(stream(step(300, written)), model)
    assert shapes(found[found.family == "gemm"]) == expected(300)
    out = found[(found.layer == "down_proj") & (found.family == "dequant")].iloc[0]
    assert out.bytes == weights + 2 * 4096 * 1024 and out.problem_shape["bits"] == 4


def test_vllms_triton_product_by_place() -> None:
    def product(shape: tuple[int, int], m: int) -> list[Launch]:
        rows, columns = (32, 64) if m <= 32 else (64, 64) if m <= 64 else (128, 128)
        return [("triton_w4a16_gemm_kernel", (-(-m // rows), -(-shape[0] // columns), 1), 256)]

    model = served(quantization_config={"quant_method": "gptq", "bits": 4, "group_size": 128})
    for m in (1, 48, 300):
        found = kernels(stream(step(m, product)), model)
        assert shapes(found) == expected(m)
    wrong = kernels(stream(step(48, lambda shape, m: product(shape, 300))), model)
    assert wrong.bytes[wrong.family == "gptq_gemm"].isna().all()


@pytest.mark.parametrize("m", [5, 8, 11, 24])
def test_both_dispatches_of_a_fused_gptq_product(m: int) -> None:
    def product(shape: tuple[int, int], rows: int) -> list[Launch]:
        name = "void vllm::gptq::gemm_half_q_half_gptq_4bit_kernel<true, {}>(__half const*)"
        grid = (-(-shape[0] // 512), -(-shape[1] // 128))
        full = [(name.format(8), (grid[0], rows // 8, grid[1]), 128)] if rows >= 8 else []
        return full + ([(name.format(rows % 8), (grid[0], 1, grid[1]), 128)] if rows % 8 else [])

    model = served(quantization_config={"quant_method": "gptq", "bits": 4, "group_size": 128})
    found = kernels(stream(step(m, product)), model)
    pieces = [rows for rows in (m // 8 * 8, m % 8) if rows]
    assert shapes(found[found.family == "gptq_gemm"]) == {
        (rows, *shape): LAYERS for rows in pieces for shape in (QKV, OUT, UP, DOWN)
    }
    assert set(found.layer_m[found.family == "gptq_gemm"]) == {m}
    texts = found.bytes_source[found.family == "gptq_gemm"]
    assert texts.str.contains("in a dispatch of their own").all() == (len(pieces) == 2)
    if m == 11:  # eight rows are one problem, whatever they are part of
        both = kernels(stream([*step(8, product), *step(m, product)]), model)
        assert shapes(both[both.family == "gptq_gemm"])[8, *DOWN] == 2 * LAYERS
        assert len(both[both.family == "gptq_gemm"]) == 8


def test_skinny_products_whose_launch_says_little() -> None:
    split = "void wvSplitK_hf_sml_<__half, 64, 2, 16, 8, 2, {}>(int, int, __half const*)"

    def product(shape: tuple[int, int], m: int) -> list[Launch]:
        return [(split.format(m), (120, 1, 1), 64)]

    def head(shape: tuple[int, int], m: int) -> list[Launch]:
        return [("void LLGemm1_kernel<__half, 4>(float4 const*, float4*)", (shape[0] // 4, 1, 1), 128)]

    found = kernels(stream(step(1, product, head) * 2), served())
    assert shapes(found) == expected(1, steps=2)
    assert set(found.flops_unit[found.family == "gemm"]) == {"vector_fp16"}
    wrong = kernels(stream(step(2, lambda shape, m: product(shape, 3), head)), served())
    assert (
        wrong.bytes[wrong.raw_name == split.format(3)].isna().all()
    )  # the kernel's rows and the step's differ


def test_partial_sums_of_tensile() -> None:
    name = "Cijk_Alik_Bljk_HHS_BH_MT128x16x32_MI16x16x16x1_SN_GSU4"
    after = "Cijk_Alik_Bljk_HHS_BH_PostGSU4"

    def product(shape: tuple[int, int], m: int) -> list[Launch]:
        return [(name, (-(-shape[0] // 128), 1, 4), 256), (after, (-(-shape[0] // 256), 1, 1), 256)]

    found = kernels(stream(step(3, product)), served())
    down = found[found.layer == "down_proj"].set_index("kernel")
    assert set(found.layer_parts[found.family == "gemm"].dropna()) == {4}
    assert down.bytes[name] == 2 * (3 * 4096 + 4096 * 1024) + 4 * 4 * 3 * 1024
    assert down.bytes[after] == 3 * 1024 * (4 * 4 + 2)


def test_projections_apart() -> None:
    norm: Launch = (NORM, (2, 1, 1), 256)
    part = (4096, 1024)
    layer = [norm, *tensile((1024, 1024), 2), *tensile((256, 1024), 2) * 2, (ATTENTION, (2, 2, 1), 64)]
    layer += [*tensile(OUT, 2), norm, *tensile(part, 2) * 2, (ACTIVATION, (2, 1, 1), 512), *tensile(DOWN, 2)]
    found = kernels(stream([*layer * LAYERS, *tensile(HEAD, 2)]), served())
    assert shapes(found) == {
        (2, 1024, 1024): 2 * LAYERS,
        (2, 256, 1024): 2 * LAYERS,
        (2, *part): 2 * LAYERS,
        (2, *DOWN): LAYERS,
    }
    assert "k_proj/v_proj" in set(found.layer) and "o_proj/q_proj" in set(found.layer)


@pytest.mark.parametrize("tokens", [1, 4])
def test_experts(tokens: int) -> None:
    model = served(
        model_type="mixtral", num_experts=8, num_experts_per_tok=2, intermediate_size=2048, vocab_size=None
    )
    layer: list[Launch] = [*tensile(QKV, tokens), (ATTENTION, (tokens, 2, 1), 64), *tensile(OUT, tokens)]
    layer += [*tensile((8, 1024), tokens), ("fused_moe_kernel", (64, 1, 1), 256)]
    layer += [(ACTIVATION, (tokens * 2, 1, 1), 512), ("fused_moe_kernel", (16, 1, 1), 256)]
    layer += [(NORM, (tokens, 1, 1), 256)]
    found = kernels(stream(layer * LAYERS), model)
    experts = found[found.family == "moe"].set_index("layer")
    assert len(experts) == 2
    touched = 2 if tokens == 1 else 8 * (1 - 0.75**4)
    up = experts.loc["experts_gate_up"]
    assert up.bytes == pytest.approx(touched * 2 * 4096 * 1024 + 2 * tokens * 1024 + 2 * tokens * 2 * 4096)
    assert up.flops == 2 * tokens * 2 * 4096 * 1024
    assert ("exactly" if tokens == 1 else "on average") in up.bytes_source
    assert np.isfinite(experts.bytes).all()


def test_outputs_that_are_cleared_before_a_split_product_break_no_order() -> None:
    launches = step(4, lambda shape, m: [("Cijk_H_GB", (4, 1, 1), 256), *tensile(shape, m)])
    assert shapes(kernels(stream(launches * 3), served())) == expected(4, 3)
