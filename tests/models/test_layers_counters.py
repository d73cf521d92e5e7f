"""Counters of a launch shape of several layers: attributed by order, or said to be left. Synthetic."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from test_sequence import CONFIG, LAYERS, Launch, step

from rocscope import pipeline, tables
from rocscope.capture import Capture, Gpu
from rocscope.config import AnalyzeOptions
from synthetic_capture import capture, row

SPLIT = "void wvSplitK_hf_sml_<__half, 64, 2, 16, 8, 1>(int, int, __half const*)"
BYTES = {"qkv_proj": 3.2e6, "o_proj": 2.2e6, "gate_up_proj": 17e6, "down_proj": 8.5e6, "lm_head": 66e6}


def product(shape: tuple[int, int], m: int) -> list[Launch]:
    return [(SPLIT, (120, 1, 1), 64)]


def recorded(steps: int, counted: int, **more: Any) -> Capture:
    """``steps`` timed decode steps, and a pass under counters of ``counted`` steps: bytes by layer."""
    order = [*["qkv_proj", "o_proj", "gate_up_proj", "down_proj"] * LAYERS, "lm_head"]
    rows, values = [], []
    for index, times in enumerate((steps, counted)):
        roles = iter(order * times)
        for place, (name, groups, threads) in enumerate(step(1, product, product) * times):
            shape = {"grid_x": groups[0] * threads, "grid_y": groups[1], "grid_z": groups[2]}
            where = {"workgroup_x": threads, "stream": 1, "dispatch_id": place, "pass": index}
            rows.append(row(name, 100_000 * place, 90_000, **shape, **where, **more))
            if name == SPLIT and (role := next(roles)) and index:
                values.append((place, BYTES[role]))
    made = capture(rows, passes=[{}, {"counters": ("read_bytes",), "perturbed": True}], profiler="rocprofv3")
    made.manifest.gpus[:] = [Gpu(gpu=0, arch="gfx908", name="MI100")]
    made.counters = tables.conform(
        "counters",
        {
            "pass": pa.scalar(1, pa.int16()),
            **dict.fromkeys(("process", "gpu"), pa.scalar(0, pa.int32())),
            "dispatch_id": pa.array([place for place, _ in values], pa.int64()),
            "counter": pa.scalar("read_bytes"),
            "value": pa.array([value for _, value in values], pa.float64()),
        },
        len(values),
    )
    return made


def bytes_by_k(made: Capture) -> tuple[dict[tuple[int, int], tuple[float, str]], set[str]]:
    found = pipeline.analyze_capture(made, AnalyzeOptions(model=None))
    products = [each for each in found.kernels if each.raw_name == SPLIT]
    return {
        (each.problem_shape["n"], each.problem_shape["k"]): (
            each.bytes_per_dispatch.value or 0.0,
            each.bytes_per_dispatch.basis or "",
        )
        for each in products
        if each.problem_shape
    }, {each.code for each in found.integrity.warnings}


def with_model(made: Capture) -> Capture:
    made.manifest.model, made.manifest.model_tp = CONFIG, 1
    return made


def test_each_layer_has_the_counters_of_its_own_dispatches() -> None:
    found, warned = bytes_by_k(with_model(recorded(2, 2)))
    assert found == {
        (1536, 1024): (3.2e6, "measured"),
        (1024, 1024): (2.2e6, "measured"),
        (8192, 1024): (17e6, "measured"),
        (1024, 4096): (8.5e6, "measured"),
        (32000, 1024): (66e6, "measured"),
    }
    assert warned.isdisjoint({"counters-of-several-problems", "counters-unmatched"})


@pytest.mark.parametrize("counted", [1, 3])
def test_where_the_passes_ran_other_numbers_it_is_said(counted: int) -> None:
    found, warned = bytes_by_k(with_model(recorded(2, counted)))
    assert {basis for _, basis in found.values()} == {"modelled"} and len(found) == 5
    assert {"counters-of-several-problems", "counters-unmatched"} <= warned


def test_several_queues_have_no_one_order() -> None:
    made = with_model(recorded(2, 2))
    index = made.dispatches.schema.get_field_index("stream")
    odd = pa.array([0 if place % 2 else 1 for place in range(made.dispatches.num_rows)], pa.int64())
    made.dispatches = made.dispatches.set_column(index, made.dispatches.schema.field(index), odd)
    _, warned = bytes_by_k(made)
    # nothing is placed then: one row of all layers, with the counters of all
    assert "counters-of-several-problems" not in warned


def test_without_a_model_the_launch_shape_keeps_all_its_counters() -> None:
    found = pipeline.analyze_capture(recorded(2, 2))
    (whole,) = (each for each in found.kernels if each.raw_name == SPLIT)
    mean = (sum(BYTES[name] for name in list(BYTES)[:4]) * LAYERS + BYTES["lm_head"]) / (4 * LAYERS + 1)
    assert whole.bytes_per_dispatch.value == pytest.approx(mean)
