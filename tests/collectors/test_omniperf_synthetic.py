"""What no recording of Omniperf shows: raw tables beside merged ones, other versions, damage. Synthetic."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocscope.capture import Capture
from rocscope.collectors import omniperf_columns
from rocscope.collectors.discovery import load, recognise
from rocscope.errors import InputError

SHAPE = "Grid_Size,Workgroup_Size,LDS_Per_Workgroup,Scratch_Per_Workitem,Arch_VGPR,Accum_VGPR,SGPR,wave_size"
RAW = f"Dispatch_ID,Kernel_Name,GPU_ID,queue-id,queue-index,pid,tid,{SHAPE},sig,obj"
MERGED = f"Dispatch_ID,Kernel_Name,GPU_ID,{SHAPE},obj"
TIMES = "DispatchNs,Start_Timestamp,End_Timestamp,CompleteNs"
V2 = (
    "Dispatch_ID,GPU_ID,Queue_ID,PID,TID,Grid_Size,Workgroup_Size,Kernel_Name,Start_Timestamp,End_Timestamp,"
    "Correlation_ID"
)
SYSTEM = "workload_name,command,timestamp,hostname,gpu_model,gpu_arch,cu_per_gpu,wave_size\n"
MI100 = "w,./app,Thu 21 Mar 2024 03:52:12 PM  (CDT),node1,MI100,gfx908,120,64\n"


def raw(dispatch: int, *further: object, pid: int = 7) -> str:
    shape = "1024,256,0,0,8,8,16,64"
    return ",".join(
        map(str, (dispatch, '"f(int, int) [clone .kd]"', 2, 0, 0, pid, pid, shape, "0x0", "0x7f", *further))
    )


def merged(dispatch: int, *further: object, grid: int = 1024) -> str:
    return ",".join(map(str, (dispatch, "f", 2, f"{grid},256,0,0,8,8,16,64,0x7f", *further)))


def write(path: Path, header: str, *rows: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def folder(path: Path) -> Path:
    """Write a folder with a machine and a clean run of two dispatches."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "sysinfo.csv").write_text(SYSTEM + MI100)
    write(path / "timestamps.csv", f"{RAW},{TIMES}", raw(0, 100, 110, 150, 160), raw(1, 200, 210, 270, 280))
    return path


ROOFS = "device,HBMBw,L2Bw,FP16Flops,FP32Flops,MFMAF16Flops,MFMAF16FlopsLow"


def test_ceilings_that_the_datasheet_forbids_are_refused_and_said(tmp_path: Path) -> None:
    """1300 GB/s of 1228.8 is a fault of the benchmark; 16-bit at the rate of 32-bit is not packed."""
    home = folder(tmp_path / "w")
    write(home / "roofline.csv", ROOFS, "0,1300,2530,21000,21500,150000,1", "1,1302,nan,inf,0,150002,1")
    found = load([home])
    assert found.manifest.ceilings
    (recorded,) = found.manifest.ceilings
    measured = recorded.ceilings
    assert not recorded.same_card and measured.bandwidth_of == "the median of 2 GPUs"
    assert measured.bandwidth_bytes_per_s is None and measured.l2_bandwidth_bytes_per_s == 2.53e12
    assert measured.flops_per_s == {"vector_fp32": 2.15e13, "matrix_fp16": 1.50001e14}
    assert {each.figure for each in measured.refused} == {"bandwidth_bytes_per_s", "vector_fp16"}
    said = [each.message for each in found.manifest.notices if each.code == "ceiling-refused"]
    assert len(said) == 2 and "1.3e+12 against 1.23e+12 by datasheet" in said[1]


def test_ceilings_of_one_gpu_are_of_the_card_itself(tmp_path: Path) -> None:
    home = folder(tmp_path / "w")
    write(home / "roofline.csv", ROOFS, "0,1041,2530,40000,21500,150000,1")
    (recorded,) = load([home]).manifest.ceilings or []
    assert recorded.same_card and recorded.ceilings.bandwidth_bytes_per_s == 1.041e12
    assert recorded.ceilings.source(same_card=True).startswith("measured on this card ")
    assert recorded.ceilings.bandwidth_of == ""
    assert load([folder(tmp_path / "without")]).manifest.ceilings is None


WIDE = "w,./app,Thu 21 Mar 2024 03:52:12 PM  (CDT),node1,MI100,gfx908,120,64,{},1\n"


@pytest.mark.parametrize(("channels", "summed"), [(3, True), (4, False)])
def test_channels_without_a_sum_are_added_up_where_all_are_there(
    tmp_path: Path, channels: int, summed: bool
) -> None:
    """One that ran over, or is missing, leaves no sum: a part of it would look like all."""
    home = folder(tmp_path / "w")
    (home / "sysinfo.csv").write_text(SYSTEM.replace("wave_size", "wave_size,total_l2_chan,num_xcd"))
    with (home / "sysinfo.csv").open("a") as stream:
        stream.write(WIDE.format(channels))
    counters = "TCC_HIT[0],TCC_HIT[2],TCC_HIT[1],TCC_MISS[0],TCC_MISS[1],TCC_MISS_sum,TCC_REQ[1],TCC_REQ[2]"
    write(
        home / "pmc_perf_0.csv",
        f"{RAW},{counters},{TIMES}",
        raw(0, 5, 7, 6, 1, 2, 3, 1, 1, 100, 110, 150, 160),
        raw(1, 5, 4294967295, 6, 1, 2, 3, 1, 1, 200, 210, 270, 280),
    )
    found = load([home])
    got = {(d, c): v for d, c, v in values(found) if c.endswith("_sum")}
    assert got.pop((0, "TCC_MISS_sum")) == 3 and got.pop((1, "TCC_MISS_sum")) == 3
    assert got == ({(0, "TCC_HIT_sum"): 18, (1, "TCC_HIT_sum"): None} if summed else {})
    notes = [each.note for each in found.manifest.passes if each.counters]
    assert notes == (["sums of its channels are rocscope's"] if summed else ["omniperf"])


def test_ceilings_without_a_machine_are_of_no_gpu(tmp_path: Path) -> None:
    write(tmp_path / "roofline.csv", ROOFS, "0,1041,2530,40000,21500,150000,1")
    found = load([tmp_path / "roofline.csv"])
    assert codes(found)[0] == "ceilings-not-used" and found.manifest.ceilings is None


def values(found: Capture) -> list[tuple[int, str, float]]:
    return [(c["dispatch_id"], c["counter"], c["value"]) for c in found.counters.to_pylist()]


def codes(found: Capture) -> list[str]:
    return [notice.code for notice in found.manifest.notices]


def test_a_run_that_is_there_raw_and_merged_counts_once(tmp_path: Path) -> None:
    folder(tmp_path)
    write(tmp_path / "pmc_perf_0.csv", f"{RAW},SQ_WAVES,SQ_INSTS", raw(0, 16, 5, pid=8), raw(1, 16, 6, pid=8))
    header = (
        f"{MERGED},SQ_WAVES,SQ_INSTS,wave_size_1,obj_1,GRBM_COUNT,SQ_WAVES_1,Start_Timestamp,End_Timestamp"
    )
    rows = [merged(d, 16, 5 + d, 64, "0x1", 900 + d, 16, 110, 150) for d in (0, 1)]
    write(tmp_path / "pmc_perf.csv", header, *rows)
    found = load([tmp_path])
    assert codes(found) == ["duplicate-run"]
    assert sorted(values(found)) == sorted(
        (d, counter, value + (d if counter in ("SQ_INSTS", "GRBM_COUNT") else 0))
        for d in (0, 1)
        for counter, value in (
            ("SQ_WAVES", 16.0),
            ("SQ_WAVES", 16.0),
            ("SQ_INSTS", 5.0),
            ("GRBM_COUNT", 900.0),
        )
    )
    assert [(p.counters, p.note) for p in found.manifest.passes] == [
        ((), ""),
        (("SQ_INSTS", "SQ_WAVES"), "omniperf"),
        (("GRBM_COUNT", "SQ_WAVES"), "run 1 of pmc_perf.csv"),
    ]
    assert [d["duration_ns"] for d in found.dispatches.to_pylist()] == [40, 60, None, None, None, None]


def test_runs_without_leftovers_are_told_apart_by_their_inputs(tmp_path: Path) -> None:
    folder(tmp_path)
    write(tmp_path / "pmc_perf.csv", f"{MERGED},A,B,C,D,E", merged(0, 1, 2, 3, 4, 5))
    for number, counters in enumerate(["A B E", "C E"]):
        write(tmp_path / f"perfmon/pmc_perf_{number}.txt", f"pmc: {counters}", "gpu:", "kernel:")
    passes = load([tmp_path]).manifest.passes[1:]
    assert [p.counters for p in passes] == [("A", "B"), ("C",), ("D", "E")]  # E was asked for twice, D never
    assert all("merged from several runs" in p.note for p in passes)


def test_runs_without_inputs_are_one_pass_that_says_so(tmp_path: Path) -> None:
    folder(tmp_path)
    write(tmp_path / "pmc_perf.csv", f"{MERGED},A,B", merged(0, 1, 2))
    last = load([tmp_path]).manifest.passes[-1]
    assert (last.counters, last.perturbed) == (("A", "B"), True)
    assert last.note == "pmc_perf.csv: merged from several runs: ratios across blocks may mix runs"
    write(tmp_path / "perfmon/pmc_perf_0.txt", "pmc: A B")
    (tmp_path / "perfmon/pmc_perf_1.txt").mkdir()
    (tmp_path / "perfmon/pmc_perf_2.txt").write_text("range:\n")
    assert load([tmp_path]).manifest.passes[-1].note == "run 0 of pmc_perf.csv"


def test_columns_of_rocprofv2_are_omniperfs_only_beside_its_sysinfo(tmp_path: Path) -> None:
    path = write(
        tmp_path / "SQ_LEVEL_WAVES.csv",
        f"{V2},SQ_LEVEL_WAVES,SQ_ACCUM_PREV_HIRES",
        "0,2,1,7,7,1024,256,f,10,60,0,0,9",
    )
    reader = recognise(path)
    assert reader is not None
    assert reader.name == "rocprofv2-kernels"
    (tmp_path / "sysinfo.csv").write_text(SYSTEM)  # a header that describes nothing
    assert getattr(recognise(path), "name", "") == "rocprofv2-kernels"
    (tmp_path / "sysinfo.csv").write_text(SYSTEM + MI100)
    assert getattr(recognise(path), "name", "") == "omniperf-run"
    found = load([tmp_path])
    assert [p.note for p in found.manifest.passes] == ["level SQ_LEVEL_WAVES"]
    assert codes(found) == ["times-of-counter-run"]
    assert found.dispatches["duration_ns"].to_pylist() == [50]


def test_a_dispatch_on_several_dies_counts_once(tmp_path: Path) -> None:
    (tmp_path / "sysinfo.csv").write_text(SYSTEM + MI100)
    rows = [f"{d},2,1,7,7,1024,256,f,10,60,0,{die},16,{die}" for d in (0, 1) for die in (0, 1)]
    write(tmp_path / "pmc_perf_0.csv", f"{V2},XCC_Index,SQ_WAVES,TCC_HIT[0]", *rows)
    found = load([tmp_path])
    assert "dies-merged" in codes(found)
    assert sorted(values(found), key=str) == [
        (0, "SQ_WAVES", 16.0),
        (0, "TCC_HIT[0]", None),
        (1, "SQ_WAVES", 16.0),
        (1, "TCC_HIT[0]", None),
    ]


def test_impossible_values_are_left_out_and_said(tmp_path: Path) -> None:
    folder(tmp_path)
    header = f"{MERGED},SQ_WAVES,GRBM_COUNT,wave_size_1,TCC_HIT[0]"
    write(tmp_path / "pmc_perf.csv", header, merged(0, 17, 2**32 - 1, 64, ""), merged(1, 16, "x", 64, "NA"))
    found = load([tmp_path])
    assert sorted(values(found)[:2]) == [(0, "SQ_WAVES", 17.0), (1, "SQ_WAVES", 16.0)]
    assert [value for *_, value in values(found)[2:]] == [None] * 4
    assert codes(found) == ["saturated-counters", "waves-mismatch"]


def test_a_dispatch_without_an_id_keeps_no_counters(tmp_path: Path) -> None:
    folder(tmp_path)
    write(
        tmp_path / "pmc_perf.csv",
        f"{MERGED},A,wave_size_1,B",
        merged(0, 1, 64, 2),
        "?" + merged(0, 3, 64, 4)[1:],
    )
    assert values(load([tmp_path])) == [(0, "A", 1.0), (0, "B", 2.0)]


def test_rows_of_another_width_are_an_error_that_names_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "pmc_perf.csv", f"{MERGED},A", "0,f")
    with pytest.raises(InputError, match=r"pmc_perf\.csv: line 2"):
        load([path])


def test_a_header_beyond_all_reason_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "pmc_perf.csv"
    path.write_text(MERGED + "".join(f",COUNTER{i:07}" for i in range(300_000)))
    assert getattr(recognise(path), "name", "") == "omniperf-merged"
    with pytest.raises(InputError, match="line 1 is longer than 4 MiB"):
        load([path])
    path.write_text(MERGED + "," + "A" * 200_000 + "\n")
    with pytest.raises(InputError, match="line 1 is no header"):
        load([path])


def test_a_header_longer_than_the_head_of_a_file_is_read_whole(tmp_path: Path) -> None:
    names = [f"TCC_A_RATHER_LONG_NAME_OF_A_COUNTER[{channel}]" for channel in range(3000)]
    path = write(tmp_path / "pmc_perf.csv", ",".join([MERGED, *names]), merged(0, *range(3000)))
    found = load([path])
    assert values(found) == [(0, name, float(place)) for place, name in enumerate(names)]


def test_a_folder_of_another_version_and_no_known_zone(tmp_path: Path) -> None:
    folder(tmp_path)
    (tmp_path / "log.txt").write_text("  rocprofiler-compute version: 3.0.0\nTarget: MI100\n")
    row = MI100.replace("Thu 21", "Thu 41").replace("./app", "sh -c 'x").replace("120", "many")
    (tmp_path / "sysinfo.csv").write_text(SYSTEM + row)
    found = load([tmp_path]).manifest
    assert (found.profiler, found.profiler_version) == ("rocprof-compute", "3.0.0")
    assert (found.started_at, found.command) == (None, ["sh", "-c", "'x"])
    assert [(g.name, g.compute_units) for g in found.gpus] == [("MI100", None)]
    (tmp_path / "sysinfo.csv").write_text(SYSTEM + MI100.replace("Thu 21 Mar 2024", "yesterday"))
    assert load([tmp_path]).manifest.started_at is None
    (tmp_path / "sysinfo.csv").write_text(SYSTEM + MI100.replace("CDT", "UTC"))
    assert load([tmp_path]).manifest.started_at == "2024-03-21T15:52:12+00:00"


def test_a_machine_that_is_not_described_leaves_the_rest(tmp_path: Path) -> None:
    folder(tmp_path)
    (tmp_path / "sysinfo.csv").write_text(SYSTEM + "w,./app\n")
    found = load([tmp_path])
    assert [d.reason for d in found.manifest.dropped] == ["unreadable files"]
    assert found.dispatches["duration_ns"].to_pylist() == [40, 60]
    assert [(g.agent, g.name) for g in found.manifest.gpus] == [("2", "")]
    with pytest.raises(InputError, match=r"sysinfo\.csv: line 2 does not describe a machine"):
        load([tmp_path / "sysinfo.csv"])


def test_tables_that_only_repeat_others_say_so_where_these_are_missing(tmp_path: Path) -> None:
    path = write(tmp_path / "pmc_dispatch_info.csv", "Dispatch_ID,Kernel_Name,GPU_ID", "0,f,2")
    assert codes(load([path])) == ["repeats-other-tables", "no-gpu-kernels"]
    write(
        tmp_path / "pmc_kernel_top.csv", "Kernel_Name,Count,Sum(ns),Mean(ns),Median(ns),Pct", "f,1,5,5,5,100"
    )
    assert codes(load([folder(tmp_path)])) == []


def test_an_empty_roofline_and_an_odd_empty_table(tmp_path: Path) -> None:
    write(tmp_path / "roofline.csv", "device,HBMBw,L2Bw,FP32Flops")
    write(tmp_path / "a/b/pmc_perf_0.csv", "Dispatch_ID,Kernel_Name", "0,f")
    found = load([tmp_path])
    assert codes(found) == ["ceilings-missing", "matched-nothing", "no-gpu-kernels"]
    assert "no figure" in found.manifest.notices[0].message
    assert "in a/b have" in found.manifest.notices[1].message
    assert [(d.reason, d.count) for d in found.manifest.dropped] == [("malformed rows", 1)]


NAMES = st.lists(
    st.sampled_from(
        ["SQ_WAVES", "GRBM_COUNT", "TCC_HIT[0]", "TCC_HIT[12]", "SQC_DCACHE_REQ_READ_1", "SQC_READ_2"]
    ),
    unique=True,
    min_size=1,
)


@given(st.lists(NAMES, min_size=2, max_size=4))
def test_the_join_of_any_runs_is_undone(runs: list[list[str]]) -> None:
    """As the tool joins: a column that an earlier run has is given the number of its run."""
    columns = MERGED.split(",")
    for number, counters in enumerate(runs):
        own = ["wave_size", "obj", *counters] if number else counters
        columns += [f"{name}_{number}" if name in columns else name for name in own]
    table = omniperf_columns.parse([*columns, "Start_Timestamp", "End_Timestamp"])
    assert [list(run.counters) for run in table.runs] == runs
    assert table.told_apart
    assert len(set(table.layout.names)) == len(columns) + 2


@given(st.text(max_size=200))
def test_any_header_is_parsed(text: str) -> None:
    table = omniperf_columns.parse(text.split(","))
    assert len(table.layout.names) == len(text.split(","))
