import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocscope import metrics
from rocscope.study import GROUP_COLUMNS
from synthetic_capture import capture, row

ROWS = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 10**6), st.integers(0, 10**5), st.integers(1, 3)),
    min_size=1,
    max_size=30,
)


@given(ROWS)
def test_grouping_conserves_time_and_dispatches(rows):
    made = capture([row(name, start, length, grid_y=y) for name, start, length, y in rows])
    frame = metrics.group(made)
    assert frame["time_ns"].sum() == pytest.approx(sum(length for _, _, length, _ in rows), rel=1e-9)
    assert frame["dispatches"].sum() == len(rows)
    assert (frame["exposed_ns"] <= frame["time_ns"]).all()
    for found in frame.to_dict("records"):
        mine = [d for n, _, d, y in rows if n == found["raw_name"] and y == found["grid_y"]]
        assert found["mean_ns"] == pytest.approx(np.mean(mine))
        assert found["p50_ns"] == pytest.approx(np.percentile(mine, 50))
        assert found["p99_ns"] == pytest.approx(np.percentile(mine, 99))
        assert (found["min_ns"], found["max_ns"]) == (min(mine), max(mine))


def test_columns_are_those_that_the_study_promises():
    frame = metrics.group(capture([row("k", 0, 10)]))
    assert set(GROUP_COLUMNS) | {"exposed_ns"} == set(frame.columns)
    assert frame.loc[0, "kernel"] == "k" and frame.loc[0, "family"] == "other"


def test_launch_shape_operand_shapes_kind_and_gpu_keep_groups_apart():
    rows = [
        row("k", 0, 10),
        row("k", 10, 10, grid_z=2),
        row("k", 20, 10, workgroup_x=64),
        row("k", 30, 10, operator_shapes="[[1,2]]"),
        row("k", 40, 10, kind="memset"),
        row("k", 50, 10, gpu=1, process=1),
        row("k", 60, 10, grid_x=None),
    ]
    frame = metrics.group(capture(rows, ranks=2))
    assert len(frame) == 7
    assert frame["grid_x"].isna().sum() == 1
    assert frame.loc[frame["gpu"] == 1, "process"].tolist() == [1]
    assert frame.loc[frame["kind"] == "memset", "family"].tolist() == ["memcpy"]


def test_an_operator_is_kept_only_where_all_dispatches_share_it():
    rows = [
        row("same", 0, 1, operator="aten::mm"),
        row("same", 1, 1, operator="aten::mm"),
        row("mixed", 2, 1, operator="aten::mm"),
        row("mixed", 3, 1, operator="aten::add"),
    ]
    found = metrics.group(capture(rows)).set_index("raw_name")["operator"].to_dict()
    assert found == {"same": "aten::mm", "mixed": None}


def test_resources_are_the_first_recorded_and_copied_bytes_a_mean():
    rows = [
        row("k", 0, 1, vgprs=None, copied_bytes=None),
        row("k", 1, 1, vgprs=72, copied_bytes=100),
        row("k", 2, 1, vgprs=72, copied_bytes=300),
    ]
    found = metrics.group(capture(rows)).loc[0]
    assert found["vgprs"] == 72 and found["copied_bytes"] == 200 and np.isnan(found["lds_bytes"])


def test_aggregated_rows_have_a_mean_and_no_percentiles():
    found = metrics.group(capture([row("k", None, 1000, count=10), row("k", None, 100, count=1)])).loc[0]
    assert found["dispatches"] == 11 and found["mean_ns"] == 100
    assert all(np.isnan(found[name]) for name in ("min_ns", "p50_ns", "p99_ns", "max_ns", "exposed_ns"))


def test_untimed_and_negative_durations_are_dispatches_without_time():
    rows = [row("k", 0, 50), row("k", None, None), row("k", 100, -20), row("n", None, None)]
    frame = metrics.group(capture(rows)).set_index("raw_name")
    assert frame.loc["k", "dispatches"] == 3
    assert frame.loc["k", "time_ns"] == 50 and frame.loc["k", "mean_ns"] == 50
    assert np.isnan(frame.loc["n", "time_ns"]) and np.isnan(frame.loc["n", "mean_ns"])


def test_barriers_are_in_no_group():
    made = capture([row("k", 0, 10), row("<barrier packet>", 10, 90, kind="barrier")])
    assert metrics.group(made)["raw_name"].tolist() == ["k"]
    timing = metrics.timing(made)
    assert (timing.barrier_rows, timing.barrier_ns) == (1, 90)


CLEAN, COUNTED = {}, {"counters": ("SQ_WAVES",), "perturbed": True}


def test_times_come_from_the_pass_without_counters():
    rows = [row("k", 0, 10), *(row("k", 1000 * i, 900, **{"pass": 1}) for i in range(1, 4))]
    made = capture(rows, passes=[CLEAN, COUNTED])
    assert metrics.group(made)["time_ns"].tolist() == [10]
    assert not metrics.timing(made).perturbed


def test_without_a_clean_pass_the_fullest_perturbed_one_stands_in_and_says_so():
    other = {"counters": ("VALUBusy",), "perturbed": True}
    rows = [row("k", 0, 10, dispatch_id=1)]
    rows += [row("k", 1000 * i, 900, dispatch_id=i, **{"pass": 1}) for i in (1, 2)]
    made = capture(rows, passes=[COUNTED, other])
    assert metrics.group(made)["time_ns"].tolist() == [1800]
    assert metrics.timing(made).perturbed and metrics.timing(made).passes == (1,)


def test_rotating_counter_groups_of_one_run_are_pooled():
    other = {"counters": ("VALUBusy",), "perturbed": True}
    rows = [row("k", 1000 * i, 100, dispatch_id=i, **{"pass": i % 2}) for i in range(6)]
    made = capture(rows, passes=[COUNTED, other])
    assert metrics.group(made)["dispatches"].tolist() == [6]
    assert metrics.timing(made).passes == (0, 1)


def test_runs_of_their_own_are_not_pooled():
    other = {"counters": ("VALUBusy",), "perturbed": True}
    rows = [row("k", 1000 * i, 100, dispatch_id=i, process=i % 2, **{"pass": i % 2}) for i in range(6)]
    made = capture(rows, passes=[COUNTED, other], ranks=2)
    assert metrics.group(made)["dispatches"].sum() == 3


def test_a_clean_pass_without_times_does_not_count_as_one():
    rows = [row("k", None, None), row("k", 0, 100, **{"pass": 1})]
    made = capture(rows, passes=[CLEAN, COUNTED])
    assert metrics.timing(made).perturbed
    assert metrics.group(made)["time_ns"].tolist() == [100]


def test_nothing_timed_leaves_all_dispatches_untimed():
    frame = metrics.group(capture([row("k", None, None), row("k", None, None)]))
    assert frame["dispatches"].tolist() == [2] and frame["time_ns"].isna().all()


def test_an_empty_capture_has_no_groups():
    frame = metrics.group(capture([]))
    assert frame.empty and set(GROUP_COLUMNS) <= set(frame.columns)


def test_names_give_kernel_family_and_subfamily():
    names = pd.DataFrame(
        [["void k<1>()", "k", "gemm", "tensile"]], columns=["raw_name", "kernel", "family", "subfamily"]
    )
    frame = metrics.group(capture([row("void k<1>()", 0, 2), row("new", 2, 1)]), names)
    assert frame[["kernel", "family"]].to_numpy().tolist() == [["k", "gemm"], ["new", "other"]]
    assert frame["subfamily"].tolist() == ["tensile", None]


def test_huge_shapes_do_not_collide_and_huge_durations_keep_their_order():
    rows = [row("k", i, 2**60 + i, grid_x=2**40 + i, grid_y=2**40 - i, grid_z=2**40) for i in range(50)]
    frame = metrics.group(capture(rows))
    assert len(frame) == 50 and frame["grid_x"].nunique() == 50
    assert (frame["p50_ns"] == frame["min_ns"]).all()
