"""Joining counters to kernels, and arithmetic that can be checked on paper. Nothing here was recorded."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rocscope import hardware, tables
from rocscope.analyzers import runner
from rocscope.analyzers.counters import ANALYZER as COUNTERS
from rocscope.analyzers.occupancy import ANALYZER as OCCUPANCY
from rocscope.capture import Source
from rocscope.study import MEASURE_COLUMNS, Study
from synthetic_capture import capture, row, study

MI100 = hardware.by_name("MI100")
FLAT = {"grid_y": None, "grid_z": None, "workgroup_y": None, "workgroup_z": None}


def workspace(
    timed: list[dict[str, Any]],
    runs: list[list[tuple[dict[str, Any], dict[str, float | None]]]],
    *,
    notes: tuple[str, ...] = (),
    tool: str = "omniperf",
) -> Study:
    """A pass without counters and one a run; each dispatch of a run has its counters."""
    rows = [each | {"dispatch_id": place, "pass": 0} for place, each in enumerate(timed)]
    found: list[tuple[int, int, str, float | None]] = []
    passes: list[dict[str, Any]] = [{}]
    for index, run in enumerate(runs, start=1):
        names = sorted({name for _, counters in run for name in counters})
        note = notes[index - 1] if notes else ""
        passes.append({"counters": tuple(names), "perturbed": True, "note": note})
        for place, (dispatch, counters) in enumerate(run):
            rows.append(dispatch | {"dispatch_id": place, "pass": index, "duration_ns": None})
            found += [(index, place, name, value) for name, value in counters.items()]
    made = capture(rows, passes=passes, profiler=tool)
    zero = pa.scalar(0, pa.int32())
    made.counters = tables.conform(
        "counters",
        {
            "pass": pa.array([each[0] for each in found], pa.int16()),
            "process": zero,
            "gpu": zero,
            "dispatch_id": pa.array([each[1] for each in found], pa.int64()),
            "counter": pa.array([each[2] for each in found], pa.string()),
            "value": pa.array([each[3] for each in found], pa.float64()),
        },
        len(found),
    )
    checked = study(made, spec=MI100)
    runner.run(checked, [COUNTERS, OCCUPANCY])
    return checked


def kernel(name: str = "k", start: int | None = None, duration: int | None = 10_000, **more: Any) -> Any:
    return row(name, start, duration, **more)


def test_without_counters_every_measure_is_missing_and_nothing_is_said() -> None:
    checked = workspace([kernel(start=0)], [])
    measured = [name for name in MEASURE_COLUMNS if name not in OCCUPANCY.adds]
    assert checked.kernels[measured].isna().all(axis=None) and not checked.warnings


def test_bytes_are_the_mean_a_dispatch_and_rates_that_of_each_dispatchs_own_time() -> None:
    timed = [kernel(start=0, duration=1_000), kernel(start=5_000, duration=4_000)]
    reads = [
        {"TCC_EA_RDREQ_sum": 100.0, "TCC_EA_RDREQ_32B_sum": 50.0},
        {"TCC_EA_RDREQ_sum": 300.0, "TCC_EA_RDREQ_32B_sum": 0.0},
    ]
    (found,) = workspace(timed, [[(kernel(), each) for each in reads]]).kernels.to_dict("records")
    assert found["read_bytes"] == (4_800 + 19_200) / 2
    assert found["read_bytes_per_s"] == pytest.approx((4_800 / 1e-6 + 19_200 / 4e-6) / 2)


def test_where_runs_had_not_the_same_dispatches_the_mean_time_counts() -> None:
    timed = [kernel(start=0, duration=1_000), kernel(start=5_000, duration=3_000)]
    counters = {"TCC_EA_RDREQ_sum": 100.0, "TCC_EA_RDREQ_32B_sum": 0.0}
    (found,) = workspace(timed, [[(kernel(), counters)]]).kernels.to_dict("records")
    assert found["read_bytes_per_s"] == pytest.approx(6_400 / 2e-6)


def test_a_ratio_of_two_runs_is_none_but_amounts_of_two_are_put_together() -> None:
    hits, misses = {"TCC_HIT_sum": 3.0}, {"TCC_MISS_sum": 1.0}
    apart = workspace([kernel(start=0)], [[(kernel(), hits)], [(kernel(), misses)]])
    assert np.isnan(apart.kernels["l2_hit_frac"].iloc[0])
    both = workspace([kernel(start=0)], [[(kernel(), hits | misses)]])
    assert both.kernels["l2_hit_frac"].iloc[0] == 0.75
    requests = [{"TCC_EA_RDREQ_sum": 10.0}, {"TCC_EA_RDREQ_32B_sum": 4.0}]
    summed = workspace([kernel(start=0)], [[(kernel(), each)] for each in requests])
    assert summed.kernels["read_bytes"].iloc[0] == 64 * 10 - 32 * 4
    assert "several runs" in summed.kernels["measures_source"].iloc[0]["read_bytes"]


def test_what_waves_do_with_their_life_is_of_one_run() -> None:
    counters = {"SQ_WAIT_ANY": 80.0, "SQ_WAIT_INST_ANY": 15.0, "SQ_ACTIVE_INST_ANY": 5.0}
    life = {"SQ_WAVE_CYCLES": 100.0}
    (found,) = workspace([kernel(start=0)], [[(kernel(), counters | life)]]).kernels.to_dict("records")
    shares = [found[name] for name in ("dependency_wait_frac", "issue_wait_frac", "issuing_frac")]
    assert shares == [0.8, 0.15, 0.05]
    apart = workspace([kernel(start=0)], [[(kernel(), counters)], [(kernel(), life)]])
    assert np.isnan(apart.kernels["dependency_wait_frac"].iloc[0])


def test_latencies_are_of_the_instructions_whose_level_was_added_up() -> None:
    counters = {"SQ_ACCUM_PREV_HIRES": 5_000.0, "SQ_INSTS_VMEM": 10.0, "SQ_INSTS_LDS": 0.0}
    run = [[(kernel(), counters)]]
    (found,) = workspace([kernel(start=0)], run, notes=("level SQ_INST_LEVEL_VMEM",)).kernels.to_dict(
        "records"
    )
    assert found["vmem_latency_cycles"] == 500
    other = workspace([kernel(start=0)], run, notes=("level SQ_INST_LEVEL_LDS",)).kernels.iloc[0]
    assert np.isnan(other["vmem_latency_cycles"]) and np.isnan(other["lds_latency_cycles"])  # none ran


def test_a_merged_table_whose_runs_cannot_be_told_apart_gives_no_ratio() -> None:
    counters = {"TCC_HIT_sum": 3.0, "TCC_MISS_sum": 1.0, "SQ_INSTS_VALU": 7.0}
    note = "merged from several runs: ratios across blocks may mix runs"
    checked = workspace([kernel(start=0)], [[(kernel(), counters)]], notes=(f"pmc_perf.csv: {note}",))
    assert np.isnan(checked.kernels["l2_hit_frac"].iloc[0]) and checked.kernels["valu_insts"].iloc[0] == 7


def test_counters_that_one_run_rotates_over_dispatches_are_pooled_as_means() -> None:
    timed = [kernel(start=place * 20_000) for place in range(4)]
    groups = [{"TCC_EA_RDREQ_sum": 8.0}, {"TCC_EA_RDREQ_32B_sum": 2.0}] * 2
    checked = workspace(timed, [[(kernel(), each) for each in groups]])
    assert checked.kernels["read_bytes"].iloc[0] == 64 * 8 - 32 * 2


def test_a_flat_grid_is_joined_on_the_product_where_one_kernel_alone_has_it() -> None:
    shape = {"grid_x": 64, "grid_y": 8, "grid_z": 2, "workgroup_x": 16, "workgroup_y": 4, "workgroup_z": 1}
    flat = FLAT | {"grid_x": 1024, "workgroup_x": 64}
    timed = [kernel(start=0, **shape)]
    checked = workspace(timed, [[(kernel(**flat), {"SQ_INSTS_VALU": 5.0})]])
    assert checked.kernels["valu_insts"].iloc[0] == 5 and not checked.warnings
    other = shape | {"grid_x": 8, "grid_y": 64}
    two = workspace([*timed, kernel(start=20_000, **other)], [[(kernel(**flat), {"SQ_INSTS_VALU": 5.0})]])
    assert two.kernels["valu_insts"].isna().all()
    assert [each.code for each in two.warnings] == ["counters-unmatched"]


def test_full_shapes_of_one_product_are_not_taken_for_each_other() -> None:
    one = {"grid_x": 512, "grid_y": 2}
    other = {"grid_x": 256, "grid_y": 4}
    checked = workspace([kernel(start=0, **one)], [[(kernel(**other), {"SQ_INSTS_VALU": 5.0})]])
    assert np.isnan(checked.kernels["valu_insts"].iloc[0])


def test_two_shapes_under_counters_that_would_be_one_flat_kernel_are_left_out() -> None:
    flat = FLAT | {"grid_x": 1024}
    shapes = [{"grid_x": 512, "grid_y": 2}, {"grid_x": 256, "grid_y": 4}]
    run = [(kernel(**shape), {"SQ_INSTS_VALU": 5.0}) for shape in shapes]
    checked = workspace([kernel(start=0, **flat)], [run])
    assert np.isnan(checked.kernels["valu_insts"].iloc[0])
    assert "2 dispatches" in checked.warnings[0].message


def test_a_kernel_recorded_without_a_shape_takes_counters_of_its_only_one() -> None:
    bare = FLAT | {"grid_x": None, "workgroup_x": None}
    run = [(kernel(), {"SQ_INSTS_VALU": 5.0})]
    assert workspace([kernel(start=0, **bare)], [run]).kernels["valu_insts"].iloc[0] == 5
    assert workspace([kernel("other", start=0, **bare)], [run]).kernels["valu_insts"].isna().all()


def test_kernels_of_one_launch_but_other_operands_share_no_counters() -> None:
    timed = [kernel(start=0, operator_shapes="[1]"), kernel(start=20_000, operator_shapes="[2]")]
    checked = workspace(timed, [[(kernel(), {"SQ_INSTS_VALU": 5.0})]])
    assert len(checked.kernels) == 2 and checked.kernels["valu_insts"].isna().all()


@pytest.mark.parametrize(("value", "kept"), [(98.0, 0.98), (103.0, 1.0), (131.0, np.nan)])
def test_a_share_above_one_is_withheld_and_said_one_a_little_above_says_so(value: float, kept: float) -> None:
    checked = workspace([kernel(start=0)], [[(kernel(), {"VALUBusy": value})]])
    found = checked.kernels["valu_busy_frac"].iloc[0]
    assert found == kept or (np.isnan(found) and np.isnan(kept))
    source = checked.kernels["measures_source"].iloc[0].get("valu_busy_frac", "")
    assert ("recorded as 1.030" in source) == (value == 103.0)
    assert [each.message for each in checked.warnings] == (
        ["shares above 105 % are withheld: valu_busy_frac of k: 1.31"] if np.isnan(kept) else []
    )


def test_a_busy_share_is_over_the_kernels_time_where_the_window_is_longer() -> None:
    """10 us at 1502 MHz are 15,020 cycles on each of 120 CUs; the window reads half as much again."""
    counters = {"SQ_ACTIVE_INST_VALU": 0.25 * 15_020 * 120, "GRBM_GUI_ACTIVE": 22_530.0}
    (found,) = workspace([kernel(start=0)], [[(kernel(), counters)]]).kernels.to_dict("records")
    assert found["valu_busy_frac"] == pytest.approx(0.25)
    assert found["valu_busy_of_window_frac"] == pytest.approx(0.25 / 1.5)
    slow = counters | {"GRBM_GUI_ACTIVE": 10_000.0}  # a clock below the peak: fewer cycles than that
    (found,) = workspace([kernel(start=0)], [[(kernel(), slow)]]).kernels.to_dict("records")
    assert found["valu_busy_frac"] == pytest.approx(0.25 * 1.502)


def test_occupancy_is_taken_only_from_the_run_that_added_up_waves() -> None:
    level = {"SQ_ACCUM_PREV_HIRES": 0.5 * 15_020 * 4_800}
    other = {"SQ_ACCUM_PREV_HIRES": 1e6}
    runs = [[(kernel(), other)], [(kernel(), level)]]
    notes = ("level SQ_INST_LEVEL_VMEM", "level SQ_LEVEL_WAVES, run 3 of pmc_perf.csv")
    (found,) = workspace([kernel(start=0)], runs, notes=notes).kernels.to_dict("records")
    assert found["achieved_occupancy_frac"] == pytest.approx(0.5)
    assert np.isnan(workspace([kernel(start=0)], runs[:1], notes=notes[:1]).kernels["resident_waves"].iloc[0])


def test_quad_cycles_of_waves_give_occupancy_too() -> None:
    counters = {"SQ_WAVE_CYCLES": 0.25 * 15_020 * 4_800 / 4}
    (found,) = workspace([kernel(start=0)], [[(kernel(), counters)]]).kernels.to_dict("records")
    assert found["achieved_occupancy_frac"] == pytest.approx(0.25)


def test_fetch_and_write_size_are_kibibytes_and_instructions_a_wave_are_multiplied() -> None:
    counters = {"FETCH_SIZE": 2.0, "WRITE_SIZE": 1.0, "VALUInsts": 10.0}
    (found,) = workspace([kernel(start=0)], [[(kernel(), counters)]], tool="rocprofv3").kernels.to_dict(
        "records"
    )
    assert (found["read_bytes"], found["write_bytes"]) == (2048, 1024)
    assert found["valu_insts"] == 10 * 200 * 4  # 200 workgroups of four waves


def test_the_same_share_of_another_tool_keeps_its_words() -> None:
    for tool, word in (("rocprof", "as v1"), ("rocprofv3", "as v3")):
        checked = workspace([kernel(start=0)], [[(kernel(), {"MemUnitBusy": 20.5})]], tool=tool)
        assert checked.kernels["mem_unit_busy_frac"].iloc[0] == pytest.approx(0.205)
        assert word in checked.kernels["measures_source"].iloc[0]["mem_unit_busy_frac"]


def test_measures_given_by_name_come_through_and_win() -> None:
    counters = {"read_bytes": 7.0, "theoretical_occupancy_frac": 0.3, "waves": 5.0, "FETCH_SIZE": 2.0}
    (found,) = workspace([kernel(start=0)], [[(kernel(), counters)]], tool="rocprofv3").kernels.to_dict(
        "records"
    )
    assert (found["read_bytes"], found["theoretical_occupancy_frac"], found["waves"]) == (7.0, 0.3, 5.0)
    assert found["measures_source"]["read_bytes"] == "given by rocprofv3"


def test_rejected_values_leave_a_measure_missing() -> None:
    counters: dict[str, float | None] = {"TCC_HIT_sum": 3.0, "TCC_MISS_sum": None, "SQ_INSTS_VALU": None}
    (found,) = workspace([kernel(start=0)], [[(kernel(), counters)]]).kernels.to_dict("records")
    assert np.isnan(found["l2_hit_frac"]) and np.isnan(found["valu_insts"])


def test_plain_names_of_sums_are_understood_and_nothing_divided_by_nothing_is_missing() -> None:
    (found,) = workspace(
        [kernel(start=0)], [[(kernel(), {"TCC_HIT": 0.0, "TCC_MISS": 0.0, "TCC_REQ": 2.0})]], tool="rocprofv3"
    ).kernels.to_dict("records")
    assert np.isnan(found["l2_hit_frac"]) and found["l2_bytes"] == 128


def test_suffixes_that_one_tool_adds_to_a_name_do_not_part_a_kernel_from_its_counters() -> None:
    run = [(kernel("k(int) [clone .kd]"), {"SQ_INSTS_VALU": 5.0})]
    assert workspace([kernel("k(int)", start=0)], [run]).kernels["valu_insts"].iloc[0] == 5


@pytest.mark.parametrize(
    ("formats", "found"),
    [
        (["torch-trace", "rocprofv3-csv-counters"], 0.5),
        (["rocprof-v1-csv", "rocprofv3-csv-counters"], np.nan),
    ],
)
def test_derived_counters_are_read_by_the_tool_whose_files_were_read(
    formats: list[str], found: float
) -> None:
    made = workspace([kernel(start=0)], [[(kernel(), {"L2CacheHit": 50.0})]], tool="torch").capture
    made.manifest.sources = [Source(path="x", format=each, size_bytes=1) for each in formats]
    checked = study(made, spec=MI100)
    runner.run(checked, [COUNTERS])
    np.testing.assert_equal(checked.kernels["l2_hit_frac"].iloc[0], found)


amounts = st.integers(0, 10**9)


@settings(max_examples=12)
@given(st.lists(st.tuples(amounts, amounts, amounts, amounts), min_size=1, max_size=4))
def test_bytes_and_hits_of_any_counts_stay_in_their_range(values: list[tuple[int, ...]]) -> None:
    timed = [kernel(start=place * 20_000) for place in range(len(values))]
    run = []
    for requests, small, hits, misses in values:
        counters = {"TCC_EA_RDREQ_sum": requests + small, "TCC_EA_RDREQ_32B_sum": small}
        run.append(
            (
                kernel(),
                {k: float(v) for k, v in (counters | {"TCC_HIT_sum": hits, "TCC_MISS_sum": misses}).items()},
            )
        )
    found = workspace(timed, [run]).kernels.iloc[0]
    assert found["read_bytes"] == pytest.approx(np.mean([64 * r + 32 * s for r, s, _, _ in values]))
    shares = [h / (h + m) for _, _, h, m in values if h + m]
    assert (pd.isna(found["l2_hit_frac"]) and not shares) or found["l2_hit_frac"] == pytest.approx(
        np.mean(shares)
    )
