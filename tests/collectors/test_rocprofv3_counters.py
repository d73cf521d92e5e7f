"""Counters of rocprofv3's CSV: passes, impossible values, launches that contradict them."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocscope.capture import Capture
from rocscope.collectors import counter_rows
from rocscope.collectors.discovery import load

FILES = [
    "gpudiag_mi300x/w7900",
    "sdk_docs/",
    "sdk_docs_2024-10/",
    "llamacpp_gfx1151/decode_fetch",
    "llamacpp_gfx1151/decode_stall",
    "llamacpp_gfx1151/prefill_fetch",
    "llamacpp_gfx1151/prefill_stall",
]
HEADER = (
    "Correlation_Id,Dispatch_Id,Agent_Id,Queue_Id,Process_Id,Thread_Id,Grid_Size,Kernel_Id,Kernel_Name,"
    "Workgroup_Size,LDS_Block_Size,Scratch_Size,VGPR_Count,Accum_VGPR_Count,SGPR_Count,Counter_Name,"
    "Counter_Value,Start_Timestamp,End_Timestamp"
)


def line(dispatch: int, counter: str, value: object, start: int = 10, end: int = 30, *, pid: int = 5) -> str:
    launch = f"1024,7,k{dispatch % 2},64,0,0,8,0,16"
    return f"1,{dispatch},Agent 1,1,{pid},{pid},{launch},{counter},{value},{start},{end}"


def write(folder: Path, *lines: str, name: str = "5_counter_collection.csv", header: str = HEADER) -> Path:
    path = folder / name
    path.write_text("\n".join((header, *lines)) + "\n")
    return path


def codes(capture: Capture) -> set[str]:
    return {notice.code for notice in capture.manifest.notices}


@pytest.mark.parametrize("name", FILES)
def test_every_value_arrives(captures: Path, tmp_path: Path, name: str) -> None:
    path = captures / f"rocprofv3/{name}{'' if name.endswith('/') else '_'}counter_collection.csv"
    alone = tmp_path / path.name  # away from a kernel trace beside it
    alone.symlink_to(path)
    capture = load([alone])
    with path.open(encoding="utf-8-sig", newline="") as stream:
        rows = list(csv.DictReader(stream))
    kept = [
        row
        for row in rows
        if not (float(row["Counter_Value"]) and float(row["Counter_Value"]) % 4294967295 == 0)
    ]
    assert capture.counters.num_rows == len(rows) > 0
    assert capture.counters["value"].null_count == len(rows) - len(kept)
    expected = sum(float(row["Counter_Value"]) for row in kept)
    assert pc.sum(capture.counters["value"]).as_py() == pytest.approx(expected, rel=1e-9)
    single = {(row["Process_Id"], row["Dispatch_Id"]): row for row in rows}
    assert capture.dispatches.num_rows == len(single)
    if "Start_Timestamp" in rows[0]:
        time = sum(int(r["End_Timestamp"]) - int(r["Start_Timestamp"]) for r in single.values())
        assert pc.sum(capture.dispatches["duration_ns"]).as_py() == time
    else:
        assert capture.dispatches["duration_ns"].null_count == len(single)
    only = capture.manifest.passes
    assert [set(each.counters) for each in only] == [{row["Counter_Name"] for row in rows}]
    assert only[0].perturbed


def test_saturated_counters_are_left_out(captures: Path) -> None:
    capture = load([captures / "rocprofv3/gpudiag_mi300x/w7900_counter_collection.csv"])
    rows = capture.counters.filter(pc.equal(capture.counters["counter"].cast(pa.string()), "SQ_WAVE_CYCLES"))
    values = dict(zip(rows["dispatch_id"].to_pylist(), rows["value"].to_pylist(), strict=True))
    assert values[3] is values[4] is None
    assert values[2] > 0
    assert [(each.reason, each.count) for each in capture.manifest.dropped] == [
        ("saturated counter values", 2)
    ]
    message = next(n.message for n in capture.manifest.notices if n.code == "waves-mismatch")
    assert "116097" in message
    assert "8192 expected" in message


def test_a_kernel_trace_beside_it_is_of_the_same_pass(tmp_path: Path) -> None:
    kernels = (
        "Kind,Agent_Id,Queue_Id,Thread_Id,Dispatch_Id,Kernel_Id,Kernel_Name,Correlation_Id,Start_Timestamp,"
        "End_Timestamp,Workgroup_Size_X,Workgroup_Size_Y,Workgroup_Size_Z,Grid_Size_X,Grid_Size_Y,Grid_Size_Z"
    )
    write(
        tmp_path,
        "KERNEL_DISPATCH,Agent 1,1,5,1,7,k1,1,10,30,8,8,1,32,32,1",
        "KERNEL_DISPATCH,Agent 1,1,5,2,7,k0,1,40,30,8,8,1,32,32,1",
        name="5_kernel_trace.csv",
        header=kernels,
    )
    write(tmp_path, line(1, "A", 1), line(2, "A", 2, 40, 30), line(3, "A", 3, 50, 60))
    capture = load([tmp_path])
    assert [(each.counters, each.perturbed) for each in capture.manifest.passes] == [(("A",), True)]
    assert capture.dispatches["dispatch_id"].to_pylist() == [1, 2, 3]
    assert capture.dispatches["grid_y"].to_pylist() == [32, None, None]
    assert capture.dispatches["duration_ns"].to_pylist() == [20, None, 10]
    assert capture.counters["value"].to_pylist() == [1.0, 2.0, 3.0]
    assert [(each.reason, each.count) for each in capture.manifest.dropped] == [("ends before it starts", 1)]
    assert "times-left-out" in codes(capture)
    alone = load([tmp_path / "5_kernel_trace.csv"])
    assert alone.manifest.passes[0].perturbed  # by the file beside it, though that was not named


def test_passes_by_set_of_counters(tmp_path: Path) -> None:
    write(tmp_path, line(1, "A", 1), line(1, "B", 1))
    write(tmp_path, line(1, "B", 1, pid=6), line(1, "A", 1, pid=6), name="6_counter_collection.csv")
    write(tmp_path, line(1, "C", 1, pid=7), name="7_counter_collection.csv")
    capture = load([tmp_path])
    assert [each.counters for each in capture.manifest.passes] == [("A", "B"), ("C",)]
    assert {each.note for each in capture.manifest.passes} == {""}


def test_rotating_groups_are_one_pass_and_said(tmp_path: Path) -> None:
    rows = [line(i, counter, i) for i in range(1, 9) for counter in (("A", "B") if i % 2 else ("C",))]
    capture = load([write(tmp_path, *rows)])
    assert [(each.counters, each.note) for each in capture.manifest.passes] == [
        (("A", "B", "C"), counter_rows.ROTATING)
    ]
    assert capture.dispatches.num_rows == 8


def test_a_last_dispatch_cut_short_is_no_rotation(tmp_path: Path) -> None:
    capture = load([write(tmp_path, line(1, "A", 1), line(1, "B", 1), line(2, "A", 1))])
    assert capture.manifest.passes[0].note == ""


def test_values_as_tools_print_them(tmp_path: Path) -> None:
    texts = ["16384.000000", "4.34259040e-02", "604304.0312500000", "16384", "nan", "garbage", ""]
    capture = load([write(tmp_path, *(line(i + 1, "A", text) for i, text in enumerate(texts)))])
    assert capture.counters["value"].to_pylist() == [
        16384,
        0.0434259040,
        604304.03125,
        16384,
        None,
        None,
        None,
    ]
    assert [(each.reason, each.count) for each in capture.manifest.dropped] == [
        ("unreadable counter values", 3)
    ]


def test_repeats_are_kept_and_said_and_bad_ids_dropped(tmp_path: Path) -> None:
    capture = load(
        [write(tmp_path, line(1, "A", 1), line(1, "A", 2), line(1, "A", 3).replace("1,1,", "1,x,", 1))]
    )
    assert capture.counters["value"].to_pylist() == [1.0, 2.0]
    assert "duplicate-dispatches" in codes(capture)
    assert [(each.reason, each.count) for each in capture.manifest.dropped] == [
        ("unreadable dispatch ids", 1)
    ]


def test_no_rows_and_no_agents(tmp_path: Path) -> None:
    assert {"matched-nothing", "no-gpu-kernels"} <= codes(load([write(tmp_path)]))
    bare = write(
        tmp_path, "1,k,SQ_WAVES,4", name="x.csv", header="Dispatch_Id,Kernel_Name,Counter_Name,Counter_Value"
    )
    capture = load([bare])
    assert capture.counters["value"].to_pylist() == [4.0]
    assert capture.dispatches["grid_x"].to_pylist() == [None]


@given(
    group=st.integers(1, 1024),
    groups=st.integers(1, 10**6),
    wave=st.sampled_from([32, 64]),
    error=st.integers(-3, 3),
)
def test_waves_by_launch(group: int, groups: int, wave: int, error: int) -> None:
    """Right counts are never doubted; with the wave size known every wrong one is."""
    right = groups * -(-group // wave)
    args = (np.array([float(right + error)]), np.array([float(group * groups)]), np.array([float(group)]))
    assert bool(counter_rows.check_waves(*args, wave, "f")) == (error != 0)
    if not error:
        assert counter_rows.check_waves(*args, None, "f") == ""


def test_waves_that_cannot_be_checked() -> None:
    partial = np.array([1000.0]), np.array([np.nan]), np.array([64.0])
    assert counter_rows.check_waves(np.array([5.0]), *partial[1:], 64, "f") == ""
    assert counter_rows.check_waves(np.array([5.0]), np.array([100.0]), np.array([64.0]), 64, "f") == ""
