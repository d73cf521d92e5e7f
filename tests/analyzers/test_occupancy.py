"""Theoretical occupancy against counters of real launches, and against arithmetic on paper."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocscope import hardware
from rocscope.analyzers import runner
from rocscope.analyzers.counters import ANALYZER as COUNTERS
from rocscope.analyzers.occupancy import ANALYZER as OCCUPANCY
from rocscope.analyzers.occupancy import limits
from synthetic_capture import capture, row, study

MI100, MI300X, H200 = (hardware.by_name(name) for name in ("MI100", "MI300X", "H200"))


def launch(**more: Any) -> dict[str, Any]:
    base = {"wave_size": np.nan, "vgprs": 32.0, "agprs": 0.0, "sgprs": 16.0, "lds_bytes": 0.0}
    return base | {"workgroup_x": 256.0, "workgroup_y": 1.0, "workgroup_z": 1.0} | more


def one(spec: hardware.GpuSpec, **more: Any) -> tuple[float, float, str | None]:
    occupancy, groups, names = limits(pd.DataFrame([launch(**more)]), spec)
    return occupancy[0], groups[0], names[0]


def test_the_gptq_kernel_of_the_field_notes_is_not_held_at_one_workgroup_by_registers() -> None:
    """72 VGPRs let three waves on a SIMD, 12 of 40 on a CU; one workgroup of four waves was resident."""
    assert one(MI100, vgprs=72.0, agprs=72.0) == (12 / 40, 3, "vgprs")


def test_accumulation_registers_are_a_file_of_their_own_on_gfx908_and_share_one_from_gfx90a_on() -> None:
    assert one(MI100, vgprs=64.0, agprs=64.0)[0] == 16 / 40
    assert one(MI300X, vgprs=64.0, agprs=64.0) == (16 / 32, 4, "vgprs")
    assert one(MI300X, vgprs=64.0)[0] == 1
    assert one(MI100, vgprs=32.0, agprs=128.0) == (8 / 40, 2, "agprs")


@pytest.mark.parametrize(
    ("more", "waves", "limiter"),
    [
        ({}, 32, "vgprs"),
        ({"vgprs": 24.0}, 40, None),
        ({"vgprs": 24.0, "sgprs": 96.0}, 32, "sgprs"),
        ({"vgprs": 24.0, "lds_bytes": 16_384.0}, 16, "lds"),
        ({"vgprs": 24.0, "lds_bytes": 16_385.0}, 12, "lds"),  # rounded up to 512 bytes
        ({"vgprs": 24.0, "workgroup_x": 128.0}, 32, "workgroup-slots"),
        ({"vgprs": 24.0, "workgroup_x": 64.0}, 40, None),  # a lone wave takes no barrier slot
        ({"vgprs": 24.0, "workgroup_x": 1024.0}, 32, "wave-slots"),
    ],
)
def test_each_resource_of_an_mi100_limits(more: dict[str, float], waves: int, limiter: str | None) -> None:
    occupancy, _, name = one(MI100, **more)
    assert (occupancy, name) == (waves / 40, limiter)


@pytest.mark.parametrize("unknown", ["vgprs", "lds_bytes", "workgroup_x"])
def test_what_is_not_recorded_leaves_occupancy_unknown(unknown: str) -> None:
    occupancy, groups, name = one(MI100, **{unknown: np.nan})
    assert math.isnan(occupancy) and math.isnan(groups) and name is None


def test_scalar_registers_that_are_not_recorded_matter_only_where_they_could_limit() -> None:
    assert one(MI100, vgprs=64.0, sgprs=np.nan)[0] == 16 / 40
    assert math.isnan(one(MI100, vgprs=24.0, sgprs=np.nan)[0])
    assert math.isnan(one(MI300X, agprs=np.nan)[0])


def test_rdna_and_other_wave_sizes_are_not_guessed() -> None:
    assert math.isnan(one(hardware.by_name("RX 7900 XTX"))[0])
    assert math.isnan(one(MI100, wave_size=32.0)[0])


def test_more_than_a_cu_has_is_no_occupancy() -> None:
    assert math.isnan(one(MI100, lds_bytes=65_537.0)[0])


def test_shared_memory_on_nvidia_has_a_share_of_the_system() -> None:
    assert one(H200, lds_bytes=231_424.0, workgroup_x=384.0, vgprs=168.0)[1:] == (1, "vgprs")
    assert one(H200, lds_bytes=75_000.0) == (3 * 8 / 64, 3, "lds")


@pytest.mark.captures
@pytest.mark.parametrize(("recording", "agreeing", "launches"), [("h200", 18, 22), ("h200_vllm", 120, 120)])
def test_agrees_with_nsight_compute(captures: Path, recording: str, agreeing: int, launches: int) -> None:
    """The tables have no shared memory: without it four tiled GEMMs of 142 rows come out too high."""
    with (captures / recording / "kernel_truth.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == launches
    sides = [[int(side) for side in each["block"].strip("()").split(",")] for each in rows]
    made = [
        launch(vgprs=float(each["registers_per_thread"]), workgroup_x=float(math.prod(block)), sgprs=np.nan)
        for each, block in zip(rows, sides, strict=True)
    ]
    occupancy, groups, _ = limits(pd.DataFrame(made), H200)
    truth = np.array([float(each["theoretical_occupancy_pct"]) / 100 for each in rows])
    same = np.abs(occupancy - truth) < 1e-4
    assert int(same.sum()) == agreeing
    assert (occupancy >= truth - 1e-4).all()
    tiled = {each["kernel_name"] for each, ok in zip(rows, same, strict=True) if not ok}
    assert tiled <= {"gptq_w4a16_gemm_kernel"}
    grids = [math.prod(int(side) for side in each["grid"].strip("()").split(",")) for each in rows]
    full = np.array(grids) / (H200.compute_units * groups)
    recorded = np.array([float(each["waves_per_sm"]) for each in rows])
    np.testing.assert_allclose(full[same], recorded[same], atol=0.0051)


def workspace(**shape: Any) -> dict[str, Any]:
    made = study(capture([row("k", 0, 10_000, **shape)]), spec=MI100)
    runner.run(made, [COUNTERS, OCCUPANCY])
    return made.kernels.to_dict("records")[0]


KNOWN = {"vgprs": 72, "agprs": 72, "sgprs": 32, "lds_bytes": 0}


def test_a_launch_says_its_workgroups_waves_and_full_waves_of_workgroups() -> None:
    found = workspace(**KNOWN)
    assert (found["workgroups"], found["waves"], found["active_cus"]) == (200, 800, 120)
    assert found["waves_per_cu"] == pytest.approx(200 / (120 * 3))
    assert found["theoretical_occupancy_frac"] == 0.3
    assert found["occupancy_limited_by"] == "grid"  # 800 waves of 4,800, and registers would let 1,440


def test_a_launch_that_fills_the_gpu_is_limited_by_what_a_workgroup_takes() -> None:
    assert workspace(**KNOWN, grid_x=256 * 360)["occupancy_limited_by"] == "vgprs"


def test_a_launch_without_a_workgroup_says_nothing() -> None:
    found = workspace(**KNOWN, workgroup_x=None)
    assert math.isnan(found["workgroups"]) and math.isnan(found["active_cus"])
    assert found["occupancy_limited_by"] is None and found["measures_source"] == {}


def test_an_occupancy_that_was_given_counts_and_its_reason_is_not_guessed() -> None:
    made = study(capture([row("k", 0, 10_000, grid_x=1 << 20, **KNOWN)]), spec=MI100)
    runner.run(made, [COUNTERS])
    made.kernels["theoretical_occupancy_frac"] = 0.1
    runner.run(made, [OCCUPANCY])
    found = made.kernels.iloc[0]
    assert found["theoretical_occupancy_frac"] == 0.1 and found["occupancy_limited_by"] is None
    assert found["waves_per_cu"] == pytest.approx(4096 / 120)  # 0.1 of 40 waves is one workgroup


sizes = st.integers(1, 256)


@given(sizes, sizes, st.integers(0, 65_536), st.integers(1, 1024), sizes)
def test_occupancy_is_a_share_and_more_registers_never_raise_it(
    vgprs: int, agprs: int, lds: int, items: int, more: int
) -> None:
    shape = {"agprs": float(agprs), "lds_bytes": float(lds), "workgroup_x": float(items)}
    low, groups, _ = one(MI100, vgprs=float(vgprs), **shape)
    high, _, _ = one(MI100, vgprs=float(min(256, vgprs + more)), **shape)
    if not math.isnan(low):
        assert 0 < low <= 1 and groups * math.ceil(items / 64) == pytest.approx(low * 40)
        assert math.isnan(high) or high <= low
