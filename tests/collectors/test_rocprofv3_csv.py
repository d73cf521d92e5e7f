"""rocprofv3's CSV: both eras, every quirk with the recording that shows it, or a synthetic twin."""

from __future__ import annotations

import csv
import gzip
import io
from collections import defaultdict
from pathlib import Path

import pyarrow.compute as pc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rocscope.capture import Capture
from rocscope.collectors.discovery import load, recognise
from rocscope.collectors.source import Source

KERNELS = [
    "rocprofv3/gpudiag_mi300x/sq2_kernel_trace.csv",
    "rocprofv3/sdk_docs/kernel_trace.csv",
    "rocprofv3/sdk_docs/kernel_trace_truncated.csv",
    "rocprofv3/sdk_docs_2024-10/kernel_trace.csv",
    "rocprofv3/llamacpp_gfx1151/decode_kernel_trace.csv",
    "rocprofv3/llamacpp_gfx1151/prefill_kernel_trace.csv",
]
HEADER = (
    '"Kind","Agent_Id","Queue_Id","Stream_Id","Thread_Id","Dispatch_Id","Kernel_Id","Kernel_Name",'
    '"Correlation_Id","Start_Timestamp","End_Timestamp","LDS_Block_Size","Scratch_Size","VGPR_Count",'
    '"Accum_VGPR_Count","SGPR_Count","Workgroup_Size_X","Workgroup_Size_Y","Workgroup_Size_Z",'
    '"Grid_Size_X","Grid_Size_Y","Grid_Size_Z"'
)
AGENTS = (
    '"Node_Id","Logical_Node_Id","Agent_Type","Wave_Front_Size","Cu_Count","Local_Mem_Size","Hive_Id","Name",'
    '"Product_Name"\n0,0,"CPU",0,0,0,0,"cpu","cpu"\n'
    '2,1,"GPU",64,120,34342961152,17123293265367099072,"gfx908","AMD Instinct MI100"\n'
    '4,2,"GPU",64,60,34342961152,17332996360099338395,"gfx908","AMD Instinct MI100"\n'
)


def line(dispatch: int = 1, start: object = 100, end: object = 150, agent: str = '"Agent 1"') -> str:
    return f'"KERNEL_DISPATCH",{agent},1,1,77,{dispatch},9,"k",5,{start},{end},0,0,8,0,16,64,1,1,1024,1,1'


def write(folder: Path, *lines: str, name: str = "77_kernel_trace.csv", header: str = HEADER) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join((header, *lines)) + "\n", encoding="utf-8")
    return path


def by_kernel(capture: Capture) -> dict[str, int]:
    sums: dict[str, int] = defaultdict(int)
    for kernel, duration in zip(
        capture.dispatches["kernel"].to_pylist(), capture.dispatches["duration_ns"].to_pylist(), strict=True
    ):
        sums[kernel] += duration
    return dict(sums)


def codes(capture: Capture) -> set[str]:
    return {notice.code for notice in capture.manifest.notices}


@pytest.mark.parametrize("name", KERNELS)
def test_time_is_conserved(captures: Path, name: str) -> None:
    expected: dict[str, int] = defaultdict(int)
    with (captures / name).open(encoding="utf-8-sig", newline="") as stream:
        for row in csv.DictReader(stream):
            expected[row["Kernel_Name"]] += int(row["End_Timestamp"]) - int(row["Start_Timestamp"])
    capture = load([captures / name])
    assert by_kernel(capture) == expected
    assert sum(expected.values()) > 0
    assert capture.manifest.dropped == []


def test_old_era_has_no_registers_and_bare_agents(captures: Path) -> None:
    capture = load([captures / "rocprofv3/sdk_docs_2024-10/kernel_trace.csv"])
    rows = capture.dispatches
    assert rows["vgprs"].null_count == rows["stream"].null_count == rows.num_rows
    assert rows["lds_bytes"].to_pylist() == [0] * rows.num_rows  # Group_Segment_Size
    assert rows["grid_y"].to_pylist()[0] == 1024
    assert [gpu.agent for gpu in capture.manifest.gpus] == ["1"]
    assert [each.perturbed for each in capture.manifest.passes] == [True]  # counters lie beside it


def test_agents_are_described_by_the_sibling(captures: Path) -> None:
    gpu = load([captures / "rocprofv3/gpudiag_mi300x/sq2_kernel_trace.csv"]).manifest.gpus[0]
    assert (gpu.arch, gpu.name) == ("gfx942", "AMD Instinct MI300X VF")
    assert (gpu.compute_units, gpu.wave_size, gpu.memory_bytes) == (304, 64, None)  # 0 is not recorded


def test_process_is_told_by_siblings(captures: Path) -> None:
    folder = captures / "rocprofv3/llamacpp_gfx1151"
    capture = load([folder / "prefill_kernel_trace.csv", folder / "prefill_hip_api_trace.csv"])
    assert [each.pid for each in capture.manifest.processes] == [3985093]
    assert set(capture.spans["kind"].to_pylist()) == {"api"}
    assert "hipGraphLaunch" in capture.spans["name"].to_pylist()
    graph = pc.sum(pc.equal(capture.dispatches["correlation_id"], 57328)).as_py()
    assert graph == 1123  # the nodes of one graph share the id of its launch


@pytest.mark.parametrize(
    ("agent", "compute_units"),
    [('"Agent 1"', 120), ("2", 120), ("4", 60), ('"Agent 4"', 60), ('"GPU 1"', 60), ("9", None), ("x", None)],
)
def test_agent_numbering(tmp_path: Path, agent: str, compute_units: int | None) -> None:
    """A bare number is a node; "Agent 1" a logical node, failing that a node; "GPU 1" the second GPU."""
    path = write(tmp_path, line(agent=agent))
    (tmp_path / "77_agent_info.csv").write_text(AGENTS)
    gpu = load([path]).manifest.gpus[0]
    assert gpu.compute_units == compute_units
    assert gpu.arch == ("gfx908" if compute_units else "")
    assert gpu.memory_bytes == (34342961152 if compute_units else None)


def test_the_same_gpu_in_two_processes(tmp_path: Path) -> None:
    write(tmp_path, line(agent="2"))
    write(tmp_path, line(agent='"Agent 1"'), name="78_kernel_trace.csv")
    for pid in (77, 78):
        (tmp_path / f"{pid}_agent_info.csv").write_text(AGENTS)
    capture = load([tmp_path])
    assert len(capture.manifest.gpus) == 1
    assert sorted(each.pid for each in capture.manifest.processes) == [77, 78]


def test_host_and_pid_from_the_path(tmp_path: Path) -> None:
    write(tmp_path / "node7", line(), name="1234_kernel_trace.csv")
    write(tmp_path / "pass_1", line(), name="1235_kernel_trace.csv")
    found = {each.pid: each.host for each in load([tmp_path]).manifest.processes}
    assert found == {1234: "node7", 1235: ""}


def test_a_name_without_pid_falls_back_to_the_thread(tmp_path: Path) -> None:
    capture = load([write(tmp_path, line(), name="run_kernel_trace.csv")])
    assert capture.manifest.processes[0].pid == 77


def test_rows_that_cannot_be_right_are_counted(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        line(1),
        line(2, 200, 190),
        line(3, 0, 0),
        '"KERNEL_DISPATCH","Agent 1",1',
        line(5, "x", 9),
        line(6),
    )
    capture = load([path])
    assert capture.dispatches["dispatch_id"].to_pylist() == [1, 6]
    assert {each.reason: each.count for each in capture.manifest.dropped} == {
        "ends before it starts": 1,
        "no times recorded": 1,
        "malformed rows": 1,
        "unreadable times": 1,
    }
    messages = [notice.message for notice in capture.manifest.notices if notice.code == "malformed-rows"]
    assert messages == ["77_kernel_trace.csv: 1 rows have a wrong number of fields, the first at line 5"]


def test_a_row_cut_off_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "77_kernel_trace.csv"
    path.write_text(f"{HEADER}\n{line(1)}\n{line(2)[:50]}")
    capture = load([path])
    assert capture.dispatches.num_rows == 1
    assert [(each.reason, each.count) for each in capture.manifest.dropped] == [("malformed rows", 1)]


def test_an_open_quote_swallows_no_more_than_it_must(tmp_path: Path) -> None:
    path = write(tmp_path, line(1), line(2).replace('"k"', '"k'), line(3), line(4))
    capture = load([path])
    assert capture.dispatches["dispatch_id"].to_pylist()[0] == 1
    assert sum(each.count for each in capture.manifest.dropped) + capture.dispatches.num_rows == 4


def test_text_that_is_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "77_kernel_trace.csv"
    path.write_bytes(f"{HEADER}\n{line(1)}\n".encode() + line(2).encode().replace(b'"k"', b'"k\xff"') + b"\n")
    capture = load([path])
    assert capture.dispatches["kernel"].to_pylist() == ["k", "k\ufffd"]
    assert capture.dispatches["workgroup_x"].to_pylist() == [64, 64]
    assert capture.dispatches["duration_ns"].to_pylist() == [50, 50]


def test_a_number_too_large_is_unknown_not_wrong(tmp_path: Path) -> None:
    row = line(1).replace(",64,1,1,1024", ",99999999999,1,1,1024")
    assert load([write(tmp_path, row)]).dispatches["workgroup_x"].to_pylist() == [None]


def test_header_only_is_not_zero_time(tmp_path: Path) -> None:
    capture = load([write(tmp_path)])
    assert {"matched-nothing", "no-gpu-kernels"} <= codes(capture)
    assert capture.dispatches.num_rows == 0
    assert capture.manifest.duration_s is None


def test_repeated_ids_are_kept_and_said(tmp_path: Path) -> None:
    capture = load([write(tmp_path, line(1), line(1, 200, 260))])
    assert capture.dispatches.num_rows == 2
    assert "duplicate-dispatches" in codes(capture)


def test_converted_from_rocpd(tmp_path: Path) -> None:
    header = "Guid," + HEADER.replace("LDS_", "Lds_").replace("VGPR", "Vgpr").replace('"', "")
    rows = [f"aaaa,{line(1)}", f"bbbb,{line(1, 300, 310).replace(',77,', ',78,')}"]
    capture = load([write(tmp_path, *rows, header=header, name="out_kernel_trace.csv")])
    assert sorted(each.pid for each in capture.manifest.processes) == [77, 78]
    assert len(set(capture.dispatches["process"].to_pylist())) == 2
    assert capture.dispatches["vgprs"].to_pylist() == [8, 8]
    assert "duplicate-dispatches" not in codes(capture)
    copies = "Guid,Kind,Direction,Source_Agent_Id,Destination_Agent_Id,Correlation_Id,Start_Timestamp"
    copies += ",End_Timestamp"
    copied = [f"{guid},MEMORY_COPY,MEMORY_COPY_DEVICE_TO_HOST,1,0,0,5,9" for guid in ("bbbb", "aaaa", "cccc")]
    write(tmp_path, *copied, header=copies, name="out_memory_copy_trace.csv")
    capture = load([tmp_path])
    pids = [capture.manifest.processes[each].pid for each in capture.dispatches["process"].to_pylist()]
    assert pids == [77, 78, 78, 77, 0]  # the last one's database left no kernels


def test_graph_columns_of_newer_releases_are_ignored(tmp_path: Path) -> None:
    header = HEADER + ',"Graph_Exec_Id","Graph_Node_Id"'
    assert load([write(tmp_path, line() + ",3,4", header=header)]).dispatches.num_rows == 1


def test_byte_order_mark_gzip_and_missing_newline(tmp_path: Path) -> None:
    text = "\ufeff" + HEADER + "\r\n" + line(1)
    (tmp_path / "77_kernel_trace.csv.gz").write_bytes(gzip.compress(text.encode()))
    capture = load([tmp_path])
    assert capture.dispatches.num_rows == 1
    assert capture.manifest.processes[0].pid == 77


def test_a_gzip_cut_off_gives_what_is_there(tmp_path: Path) -> None:
    rows = [line(i, 100 * i, 100 * i + 50 + i % 7) for i in range(1, 60_000)]
    whole = gzip.compress("\n".join((HEADER, *rows)).encode(), compresslevel=1)
    (tmp_path / "77_kernel_trace.csv.gz").write_bytes(whole[: len(whole) * 2 // 3])
    capture = load([tmp_path])
    assert 0 < capture.dispatches.num_rows < 59_999
    assert "truncated-file" in codes(capture)


def test_copies_are_put_on_their_gpu(captures: Path) -> None:
    capture = load([captures / "rocprofv3/sdk_docs/memory_copy_trace.csv"])
    rows = capture.dispatches
    assert set(rows["kind"].to_pylist()) == {"memcpy"}
    assert [gpu.agent for gpu in capture.manifest.gpus] == ["Agent 4"]  # never the host, which is Agent 0
    assert rows["copied_bytes"].null_count == rows.num_rows
    with (captures / "rocprofv3/sdk_docs/memory_copy_trace.csv").open(newline="") as stream:
        expected = sum(int(r["End_Timestamp"]) - int(r["Start_Timestamp"]) for r in csv.DictReader(stream))
    assert pc.sum(rows["duration_ns"]).as_py() == expected


def test_copies_within_the_host_are_dropped(tmp_path: Path) -> None:
    header = (
        "Kind,Direction,Source_Agent_Id,Destination_Agent_Id,Correlation_Id,Start_Timestamp,End_Timestamp"
    )
    rows = [
        "MEMORY_COPY,MEMORY_COPY_HOST_TO_HOST,0,0,0,10,20",
        "MEMORY_COPY,MEMORY_COPY_DEVICE_TO_DEVICE,3,4,0,30,45",
    ]
    capture = load([write(tmp_path, *rows, header=header, name="9_memory_copy_trace.csv")])
    assert capture.dispatches["duration_ns"].to_pylist() == [15]
    assert capture.manifest.gpus[0].agent == "3"
    assert [(each.reason, each.count) for each in capture.manifest.dropped] == [("copies within the host", 1)]
    only = load([write(tmp_path / "x", rows[0], header=header, name="9_memory_copy_trace.csv")])
    assert "no-gpu-kernels" in codes(only)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("hip_runtime_trace", "api"),
        ("hsa_api_trace", "api"),
        ("rccl_trace", "api"),
        ("marker_api_trace", "annotation"),
        ("rocpd-to-csv", "api"),
    ],
)
def test_host_calls_become_spans(captures: Path, name: str, kind: str) -> None:
    path = captures / f"rocprofv3/sdk_docs/{name}.csv"
    capture = load([path])
    with path.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert capture.spans["name"].to_pylist() == [row["Function"] for row in rows]
    assert capture.spans["start_ns"].to_pylist() == [int(row["Start_Timestamp"]) for row in rows]
    assert set(capture.spans["kind"].to_pylist()) == {kind}
    assert "no-gpu-kernels" in codes(capture)


def test_totals(tmp_path: Path, captures: Path) -> None:
    header = '"Name","Calls","TotalDurationNs","AverageNs","Percentage","MinNs","MaxNs","StdDev"'
    rows = [
        '"gemm<1, 2>(int)",4,1000,250.0,80.0,1,9,0.1',
        '"MEMORY_COPY_HOST_TO_DEVICE",2,250,125.0,20.0,1,9,0',
    ]
    (tmp_path / "5_agent_info.csv").write_text(AGENTS.rsplit("\n", 2)[0] + "\n")
    write(tmp_path, *rows, '"bad",x,1,1,1,1,1,1', header=header, name="5_kernel_stats.csv")
    capture = load([tmp_path])
    rows_found = capture.dispatches
    assert rows_found["count"].to_pylist() == [4, 2]
    assert rows_found["duration_ns"].to_pylist() == [1000, 250]
    assert rows_found["kind"].to_pylist() == ["kernel", "memcpy"]
    assert rows_found["start_ns"].null_count == 2
    assert capture.manifest.gpus[0].arch == "gfx908"
    assert [(each.reason, each.count) for each in capture.manifest.dropped] == [("unreadable totals", 1)]
    host = load([captures / "rocprofv3/sdk_docs/hip_api_stats.csv"])
    assert host.dispatches.num_rows == 0
    assert "not-used" in codes(host)
    assert "matched-nothing" in codes(load([write(tmp_path / "x", header=header, name="5_kernel_stats.csv")]))


def test_a_file_that_only_looks_alike_is_not_recognised(tmp_path: Path) -> None:
    path = tmp_path / "77_kernel_trace.csv"
    path.write_text("Dispatch_ID,GPU_ID,Kernel_Name,Start_Timestamp,End_Timestamp\n1,2,k,3,4\n")
    reader = recognise(path)
    assert reader is None or not reader.name.startswith("rocprofv3")
    binary = tmp_path / "a.csv"
    binary.write_bytes(b"\x00\x01,\x02\n")
    assert recognise(binary) is None
    assert Source.open(binary).head


def test_an_agent_info_without_rows(tmp_path: Path) -> None:
    write(tmp_path, line())
    (tmp_path / "77_agent_info.csv").write_text(AGENTS.split("\n", 1)[0] + "\n")
    capture = load([tmp_path])
    assert capture.dispatches.num_rows == 1
    assert "unreadable-file" in codes(capture)


NAMES = st.text(
    st.characters(exclude_categories=("Cs",), exclude_characters="\x00\r"), min_size=1, max_size=60
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    names=st.lists(NAMES, min_size=1, max_size=6),
    columns=st.permutations(range(22)),
    quote_all=st.booleans(),
    case=st.sampled_from([str.lower, str.upper, str]),
)
def test_any_name_in_any_column_order(
    tmp_path: Path, names: list[str], columns: list[int], quote_all: bool, case: type[str]
) -> None:
    """Commas, quotes, newlines and all of Unicode survive; position, case and quoting do not matter."""
    fields = [case(field.strip('"')) for field in HEADER.split(",")]
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_ALL if quote_all else csv.QUOTE_MINIMAL, lineterminator="\n")
    writer.writerow([fields[c] for c in columns])
    for i, name in enumerate(names):
        values = next(csv.reader([line(i + 1, 1000 * i + 1, 1000 * i + 1 + 7 * i)]))
        values[7] = name
        writer.writerow([values[c] for c in columns])
    path = tmp_path / "77_kernel_trace.csv"
    path.write_text(text.getvalue(), encoding="utf-8", newline="")
    capture = load([path])
    assert capture.dispatches["kernel"].to_pylist() == names
    assert capture.dispatches["duration_ns"].to_pylist() == [7 * i for i in range(len(names))]
    assert capture.dispatches["grid_x"].to_pylist() == [1024] * len(names)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=20)), min_size=1, max_size=5))
def test_damage_anywhere_loses_rows_not_the_run(tmp_path: Path, where: list[tuple[float, bytes]]) -> None:
    """Bytes changed after the header never end in a crash, nor in a negative duration."""
    rows = [line(i, 1000 * i, 1000 * i + 30) for i in range(1, 40)]
    text = "\n".join(rows).encode()
    data = bytearray(text)
    for share, noise in where:
        at = int(share * (len(data) - len(noise)))
        data[at : at + len(noise)] = noise
    path = tmp_path / "77_kernel_trace.csv"
    path.write_bytes(HEADER.encode() + b"\n" + data)
    capture = load([path])
    assert all(each >= 0 for each in capture.dispatches["duration_ns"].to_pylist())
    assert capture.dispatches.num_rows <= 39
