"""From paths to one capture: folders, duplicates, damage, and what cannot be used."""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import tarfile
from pathlib import Path

import pyarrow.compute as pc
import pytest
import synthetic_rocpd as synthetic

from rocscope.capture import Capture
from rocscope.collectors import reader, stems
from rocscope.collectors.discovery import load, recognise
from rocscope.errors import DamagedInput, InputError, UnknownFormat

KERNELS = (
    "Kind,Agent_Id,Queue_Id,Thread_Id,Dispatch_Id,Kernel_Id,Kernel_Name,Correlation_Id,Start_Timestamp,"
    "End_Timestamp,Workgroup_Size_X,Workgroup_Size_Y,Workgroup_Size_Z,Grid_Size_X,Grid_Size_Y,Grid_Size_Z\n"
)
STATS = "Name,Calls,TotalDurationNs,AverageNs,Percentage,MinNs,MaxNs,StdDev\nk,1,20,20,100,20,20,0\n"
CALLS = "Domain,Function,Process_Id,Thread_Id,Correlation_Id,Start_Timestamp,End_Timestamp\n"


def trace(path: Path, duration: int = 20) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{KERNELS}KERNEL_DISPATCH,Agent 1,1,5,1,7,k,1,10,{10 + duration},8,8,1,32,32,1\n")
    return path


def codes(capture: Capture) -> dict[str, str]:
    return {notice.code: notice.message for notice in capture.manifest.notices}


def read(capture: Capture) -> list[str]:
    return sorted(each.path for each in capture.manifest.sources)


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("results.csv", "results"),
        ("results.stats.csv", "results"),
        ("results.db.gz", "results"),
        ("results_q4.hip_stats.csv", "results_q4"),
        ("123_kernel_trace.csv", "123"),
        ("123_results.db", "123"),
        ("123_results.json.gz", "123"),
        ("123_kernel_stats.csv", "123"),
        ("123_hip_api_trace.csv", "123"),
        ("results_123.csv", "123"),
        ("hip_api_trace_123.csv", "123"),
        ("run_a_counter_collection.csv", "run_a"),
        ("kernel_trace.csv", ""),
        ("rank0.pt.trace.json.gz", "rank0.pt.trace"),
        ("pmc_perf.csv", "pmc_perf"),
    ],
)
def test_stems(name: str, stem: str) -> None:
    assert stems.split(name)[0] == stem


def test_every_reader_keeps_the_protocol() -> None:
    names = [each.name for each in reader.readers()]
    assert len(names) == len(set(names))
    for each in reader.readers():
        assert isinstance(each, reader.Reader)
        assert each.content in reader.CONTENT
        assert each.help


def test_one_run_in_four_formats_is_counted_once(captures: Path) -> None:
    folder = captures / "rocprofv1/aiter_gfx942"
    capture = load([folder])
    assert read(capture) == ["results.csv"]
    left = [n.source for n in capture.manifest.notices if n.code == "duplicate-format"]
    assert sorted(left) == ["results.db", "results.json", "results.stats.csv"]
    alone = load([folder / "results.csv"])
    assert capture.dispatches.num_rows == alone.dispatches.num_rows > 0


def test_the_database_holds_everything_that_the_tables_hold(tmp_path: Path) -> None:
    trace(tmp_path / "11_kernel_trace.csv", 99)
    (tmp_path / "11_kernel_stats.csv").write_text(STATS)
    (tmp_path / "11_hip_api_trace.csv").write_text(CALLS + "HIP_RUNTIME_API,hipFree,11,11,1,5,6\n")
    synthetic.write(tmp_path / "11_results.db", [synthetic.Run(pid=11, dispatches=[(0, 10, 30, 64)])])
    trace(tmp_path / "12_kernel_trace.csv", 7)  # another process
    capture = load([tmp_path])
    assert read(capture) == ["11_results.db", "12_kernel_trace.csv"]
    assert sorted(capture.dispatches["duration_ns"].to_pylist()) == [7, 20]
    assert "11_results.db holds the same run" in codes(capture)["duplicate-format"]


def test_a_damaged_database_gives_way_to_the_tables(tmp_path: Path) -> None:
    trace(tmp_path / "11_kernel_trace.csv", 99)
    (tmp_path / "11_kernel_stats.csv").write_text(STATS)
    (tmp_path / "11_results.db").write_bytes(b"SQLite format 3\x00rocpd_info_" + b"\x07" * 3000)
    capture = load([tmp_path])
    assert read(capture) == ["11_kernel_trace.csv"]
    assert capture.dispatches["duration_ns"].to_pylist() == [99]
    assert "11_results.db: damaged" in codes(capture)["unreadable-file"]
    assert [(each.reason, each.count) for each in capture.manifest.dropped] == [("unreadable files", 1)]


def test_totals_only_where_there_is_nothing_better(tmp_path: Path) -> None:
    (tmp_path / "11_kernel_stats.csv").write_text(STATS)
    assert load([tmp_path]).dispatches["count"].to_pylist() == [1]
    trace(tmp_path / "11_kernel_trace.csv")
    (tmp_path / "11_hip_api_trace.csv").write_text(CALLS + "HIP_RUNTIME_API,hipFree,11,11,1,5,6\n")
    capture = load([tmp_path])
    assert read(capture) == ["11_hip_api_trace.csv", "11_kernel_trace.csv"]  # calls beside dispatches
    assert capture.dispatches.num_rows == 1


def test_a_folder_of_many_processes(tmp_path: Path) -> None:
    for host in ("a", "b"):
        for pid in (1, 2):
            trace(tmp_path / host / f"{pid}_kernel_trace.csv")
    said: list[str] = []
    capture = load([tmp_path], progress=said.append)
    assert [(each.host, each.pid) for each in capture.manifest.processes] == [
        ("a", 1),
        ("a", 2),
        ("b", 1),
        ("b", 2),
    ]
    assert [gpu.host for gpu in capture.manifest.gpus] == ["a", "b"]
    assert capture.manifest.host == ""
    assert len(said) == 4
    source = capture.manifest.sources[0]
    assert source.path == "a/1_kernel_trace.csv"
    assert len(source.sha256) == 64
    assert capture.manifest.window_ns == (10, 30)
    assert capture.manifest.duration_s == pytest.approx(2e-8)


def test_the_window_is_that_of_the_clean_pass(tmp_path: Path) -> None:
    trace(tmp_path / "1_kernel_trace.csv")
    (tmp_path / "2_counter_collection.csv").write_text(
        "Correlation_Id,Dispatch_Id,Agent_Id,Process_Id,Kernel_Name,Counter_Name,Counter_Value,"
        "Start_Timestamp,End_Timestamp\n1,1,Agent 1,2,k,A,1,90000,90010\n"
    )
    assert load([tmp_path]).manifest.window_ns == (10, 30)


def test_unknown_files_in_a_folder_are_said_once(tmp_path: Path) -> None:
    trace(tmp_path / "1_kernel_trace.csv")
    for i in range(7):
        (tmp_path / f"note{i}.txt").write_text("hello")
    (tmp_path / "empty.csv").touch()
    message = codes(load([tmp_path]))["unknown-files"]
    assert message.startswith("8 files")
    assert message.endswith("empty.csv, note0.txt, note1.txt, note2.txt, note3.txt and 3 more")


def test_links_pipes_and_hidden_folders_are_left_alone(tmp_path: Path) -> None:
    top = tmp_path / "top"
    trace(top / "1_kernel_trace.csv")
    trace(top / ".hidden" / "2_kernel_trace.csv")
    outside = trace(tmp_path / "elsewhere" / "3_kernel_trace.csv")
    (top / "round").symlink_to(top, target_is_directory=True)
    (top / "out").symlink_to(outside.parent, target_is_directory=True)
    (top / "4_kernel_trace.csv").symlink_to(outside)
    os.mkfifo(top / "5_kernel_trace.csv")
    assert read(load([top])) == ["1_kernel_trace.csv"]
    assert read(load([top / "4_kernel_trace.csv"])) == ["4_kernel_trace.csv"]  # named, so meant
    with pytest.raises(InputError, match="not a regular file"):
        load([top / "5_kernel_trace.csv"])


def test_the_same_file_twice_is_read_once(tmp_path: Path) -> None:
    path = trace(tmp_path / "1_kernel_trace.csv")
    assert load([path, tmp_path, path]).dispatches.num_rows == 1


def test_an_unfinished_run_is_said(tmp_path: Path) -> None:
    trace(tmp_path / "8_kernel_trace.csv")
    (tmp_path / ".rocprofv3").mkdir()
    for pid in (8, 9):
        (tmp_path / ".rocprofv3" / f"7-{pid}-counter_values.dat").write_bytes(b"x")
    message = codes(load([tmp_path]))["unfinished-run"]
    assert "process 9:" in message
    (tmp_path / "8_kernel_trace.csv").unlink()
    with pytest.raises(InputError, match="killed before its data were written") as error:
        load([tmp_path])
    assert error.value.exit_code == 14


def test_one_bad_file_of_many(tmp_path: Path) -> None:
    trace(tmp_path / "1_kernel_trace.csv")
    (tmp_path / "2_results.db").write_bytes(b"SQLite format 3\x00rocpd_info_" + b"\x07" * 3000)
    (tmp_path / "3_kernel_trace.csv.gz").write_bytes(b"\x1f\x8b\x08" + bytes(7) + b"\xff" * 50)
    capture = load([tmp_path])
    assert capture.dispatches.num_rows == 1
    assert len([n for n in capture.manifest.notices if n.code == "unreadable-file"]) == 2


def test_all_files_bad(tmp_path: Path) -> None:
    for pid in (1, 2):
        (tmp_path / f"{pid}_results.db").write_bytes(b"SQLite format 3\x00rocpd_info_" + b"\x07" * 3000)
    with pytest.raises(InputError, match="none of 2 files can be used"):
        load([tmp_path])


def test_what_cannot_be_used_is_said_plainly(tmp_path: Path) -> None:
    empty, text = tmp_path / "empty.csv", tmp_path / "notes.txt"
    cut = tmp_path / "cut.csv.gz"
    cut.write_bytes(gzip.compress(b"a,b")[:8])
    empty.touch()
    text.write_text("hello, world\n")
    (tmp_path / "nothing").mkdir()
    for paths, match in (
        ([], "no recording named"),
        ([tmp_path / "absent"], "no such file"),
        ([empty], "empty"),
        ([cut], "nothing can be unpacked"),
        ([tmp_path / "nothing"], "no file in it"),
    ):
        with pytest.raises(InputError, match=match) as error:
            load(paths)
        assert error.value.hint
    with pytest.raises(UnknownFormat) as unknown:
        load([text])
    assert "rocprofv3" in unknown.value.hint
    assert "notes.txt" in unknown.value.message
    with pytest.raises(UnknownFormat):
        load([tmp_path])
    assert recognise(text) is None
    assert recognise(trace(tmp_path / "x.bin")) is not None  # by content, whatever its name


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_out_of_reach(tmp_path: Path) -> None:
    path = trace(tmp_path / "1_kernel_trace.csv")
    path.chmod(0)
    with pytest.raises(InputError, match="permission denied"):
        load([path])


def test_saved_captures(tmp_path: Path) -> None:
    path = trace(tmp_path / "rec" / "1_kernel_trace.csv")
    saved = load([path]).save(tmp_path / "rec" / "saved")
    again = load([saved])
    assert again.dispatches.num_rows == 1
    assert pc.sum(again.dispatches["duration_ns"]).as_py() == 20
    other = shutil.copytree(saved, tmp_path / "other")
    with pytest.raises(InputError) as error:
        load([saved, other])
    assert "compare" in error.value.hint
    capture = load([tmp_path / "rec"])
    assert capture.dispatches.num_rows == 1
    assert "capture-skipped" in codes(capture)


def test_a_folder_of_reports_is_the_capture_in_it(tmp_path: Path) -> None:
    raw = trace(tmp_path / "out" / "raw" / "1_kernel_trace.csv")
    capture = load([raw])
    capture.manifest.command = ["vllm", "serve"]  # known to the capture alone
    capture.save(tmp_path / "out" / "capture")
    assert load([tmp_path / "out"]).manifest.command == []
    (tmp_path / "out" / "analysis.json").write_text("{}")
    assert load([tmp_path / "out"]).manifest.command == ["vllm", "serve"]


def test_an_archive_that_somebody_sent_is_not_trusted(tmp_path: Path) -> None:
    saved = load([trace(tmp_path / "1_kernel_trace.csv")]).save(tmp_path / "capture")

    def packed(name: str, *more: tuple[str, bytes], twice: bool = False) -> Path:
        with tarfile.open(tmp_path / name, "w:gz") as tar:
            for path in [*saved.iterdir()] * (2 if twice else 1):
                tar.add(path, f"../../capture/{path.name}")  # names that lead out are not followed
            for inside, content in more:
                entry = tarfile.TarInfo(inside)
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
        return tmp_path / name

    assert load([packed("more.tar.gz", ("../../evil.sh", b"x"))]).dispatches.num_rows == 1
    assert not (tmp_path.parent.parent / "evil.sh").exists()
    with pytest.raises(InputError, match="more than one capture"):
        load([packed("twice.tar.gz", twice=True)])
    with pytest.raises(UnknownFormat):
        load([_tar_of(tmp_path / "other.tar.gz", "notes.txt", b"hello")])
    with pytest.raises(InputError, match="unpacks to too much"):
        load([_tar_of(tmp_path / "bomb.tar.gz", "manifest.json", bytes(64 << 20))])
    whole = packed("whole.tar.gz").read_bytes()
    (tmp_path / "cut.tar.gz").write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises(DamagedInput):
        load([tmp_path / "cut.tar.gz"])


def _tar_of(path: Path, inside: str, content: bytes) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        entry = tarfile.TarInfo(inside)
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))
    return path


def test_no_gpu_kernels_is_no_error(tmp_path: Path, captures: Path) -> None:
    (tmp_path / "1_hip_api_trace.csv").write_text(CALLS + "HIP_RUNTIME_API,hipFree,11,11,1,5,6\n")
    capture = load([tmp_path])
    assert codes(capture)["no-gpu-kernels"] == "no GPU kernels in this recording"
    assert capture.manifest.window_ns == (5, 6)
    cpu = load([captures / "vllm/rank0.pt.trace.json.gz"])
    assert "no-gpu-kernels" in codes(cpu)


def test_host_and_command_of_the_run(tmp_path: Path) -> None:
    synthetic.write(tmp_path / "a.db", [synthetic.Run(dispatches=[(0, 1, 2, 64)])])
    manifest = load([tmp_path]).manifest
    assert manifest.host == "synthetic-host"
    assert manifest.command == ["python", "-m", "vllm", "serve", "synthetic"]
    assert manifest.profiler == "rocprofv3"


def test_random_bytes_are_refused_not_crashed(tmp_path: Path) -> None:
    for i, data in enumerate(
        (
            b"\x00" * 100,
            os.urandom(5000),
            b"{" * 300,
            b'"a\n',
            b",,,\n,,\n",
            b"\xff\xfe,\x00",
            gzip.compress(b""),
        )
    ):
        path = tmp_path / f"{i}.bin"
        path.write_bytes(data)
        with pytest.raises(InputError):
            load([path])
    (tmp_path / "x.json").write_text(json.dumps({"a": 1}))
    with pytest.raises(InputError):
        load([tmp_path / "x.json"])
