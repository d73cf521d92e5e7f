"""Totals of rocprof v1: told apart by the names in their rows, never by the file's name."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from rocscope.capture import Capture
from rocscope.collectors.builder import CaptureBuilder
from rocscope.collectors.discovery import load
from rocscope.collectors.rocprof_v1_stats import RocprofV1StatsReader
from rocscope.collectors.source import Source
from rocscope.errors import InputError

HEADER = '"Name","Calls","TotalDurationNs","AverageNs","Percentage"\n'
KERNELS = [
    "aiter_gfx942/results.stats.csv",
    "gunrock_gfx942/results.stats.csv",
    "laplacian_xr/results.stats.csv",
    "llamacpp_gfx1201/results.stats.csv",
    "llamacpp_gfx900/results_f16.stats.csv",
    "llamacpp_gfx900/results_q4.stats.csv",
    "stencil_xr/results.stats.csv",
]


def read(path: Path) -> Capture:
    source = Source.open(path)
    assert RocprofV1StatsReader().recognises(source)
    builder = CaptureBuilder()
    RocprofV1StatsReader().read(source, builder)
    return builder.build()


def write(folder: Path, *rows: str, header: str = HEADER) -> Path:
    path = folder / "anything.csv"
    path.write_text(header + "".join(f"{row}\n" for row in rows), encoding="utf-8")
    return path


def independent(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.captures
@pytest.mark.parametrize("name", KERNELS)
def test_recorded_totals_are_conserved(captures: Path, name: str) -> None:
    path = captures / "rocprofv1" / name
    rows = independent(path)
    found = read(path).dispatches
    assert found["kernel"].to_pylist() == [r["Name"] for r in rows]
    assert found["count"].to_pylist() == [int(r["Calls"]) for r in rows]
    total = sum(int(r["TotalDurationNs"]) for r in rows)
    assert sum(found["duration_ns"].to_pylist()) == pytest.approx(total, rel=1e-9)
    assert found["start_ns"].null_count == found.num_rows
    barriers = [r["Name"] == "<barrier packet>" for r in rows]
    assert [kind == "barrier" for kind in found["kind"].to_pylist()] == barriers


@pytest.mark.captures
def test_recorded_barriers_are_not_work(captures: Path) -> None:
    found = read(captures / "rocprofv1/llamacpp_gfx900/results_q4.stats.csv").dispatches.to_pylist()
    waiting = [each for each in found if each["kind"] == "barrier"]
    assert [each["duration_ns"] for each in waiting] == [1421345213]  # 40.0 % of the file's rows


@pytest.mark.captures
def test_recorded_copies_are_copies(captures: Path) -> None:
    found = read(captures / "rocprofv1/llamacpp_gfx900/results.copy_stats.csv").dispatches.to_pylist()
    assert [(each["kernel"], each["kind"], each["count"]) for each in found] == [
        ("CopyHostToDevice", "memcpy", 943),
        ("CopyDeviceToHost", "memcpy", 131),
        ("CopyDeviceToDevice", "memcpy", 2064),
        ("FillBuffer", "memset", 2),
    ]


@pytest.mark.captures
@pytest.mark.parametrize("name", ["results_f16", "results_q4"])
def test_recorded_calls_are_no_dispatches(captures: Path, name: str) -> None:
    path = captures / "rocprofv1/llamacpp_gfx900" / f"{name}.hip_stats.csv"
    assert RocprofV1StatsReader().content_of(Source.open(path)) == "api"
    found = read(path)
    assert found.dispatches.num_rows == 0
    (notice,) = found.manifest.notices
    assert notice.code == "calls-without-times"
    assert f"{sum(int(r['Calls']) for r in independent(path))} host calls" in notice.message


@pytest.mark.captures
def test_the_gpu_is_what_all_gpus_of_the_node_share(captures: Path) -> None:
    (gpu,) = read(captures / "rocprofv1/llamacpp_gfx900/results_q4.stats.csv").manifest.gpus
    assert (gpu.agent, gpu.arch, gpu.compute_units) == ("all", "gfx900", 64)


@pytest.mark.captures
def test_a_folder_of_totals_only_is_a_capture(captures: Path) -> None:
    folder = captures / "rocprofv1/llamacpp_gfx900"
    names = ("results.copy_stats.csv", "results_f16.stats.csv", "results_q4.stats.csv")
    total = sum(int(r["TotalDurationNs"]) for name in names for r in independent(folder / name))
    assert sum(load([folder]).dispatches["duration_ns"].to_pylist()) == pytest.approx(total, rel=1e-9)


def test_average_and_percentage_are_not_used_synthetic(tmp_path: Path) -> None:
    found = read(write(tmp_path, '"a",3,1000,333,12.5', '"b",1,7,0,0')).dispatches
    assert found["duration_ns"].to_pylist() == [1000, 7]


def test_hsa_calls_are_calls_and_a_kernel_among_them_makes_all_kernels_synthetic(tmp_path: Path) -> None:
    reader = RocprofV1StatsReader()
    calls = write(tmp_path, '"hsa_queue_create",3,1000,333,50', '"__hipPushCallConfiguration",1,7,7,50')
    assert reader.content_of(Source.open(calls)) == "api"
    mixed = write(tmp_path, '"hsa_queue_create",3,1000,333,50', '"gemm",1,7,7,50')
    assert reader.content_of(Source.open(mixed)) == "aggregate"
    assert read(mixed).dispatches.num_rows == 2
    kernels = write(tmp_path, '"hipblasLt_kernel(float)",3,1000,333,50')
    assert reader.content_of(Source.open(kernels)) == "aggregate"


def test_rows_without_calls_or_time_are_counted_synthetic(tmp_path: Path) -> None:
    found = read(write(tmp_path, '"a",3,1000,333,50', '"b",0,0,0,0', '"c",x,5,5,5', '"d",1,-4,-4,1'))
    assert found.dispatches["kernel"].to_pylist() == ["a"]
    assert [d.count for d in found.manifest.dropped] == [3]


def test_a_header_alone_says_so_and_rows_without_numbers_are_an_error(tmp_path: Path) -> None:
    assert [n.code for n in read(write(tmp_path)).manifest.notices] == ["no-dispatches"]
    with pytest.raises(InputError, match=r"anything\.csv"):
        read(write(tmp_path, '"a",b,c,d,e'))


@pytest.mark.parametrize(
    "header", ["", HEADER.replace("\n", ',"MinNs","MaxNs","StdDev"\n'), "Name,Calls\n", "\x00"]
)
def test_other_tables_are_not_taken_for_it(tmp_path: Path, header: str) -> None:
    assert not RocprofV1StatsReader().recognises(Source.open(write(tmp_path, header=header)))
