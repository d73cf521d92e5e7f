"""CSV of rocprofv2's file plugin: no whole recording is public, so synthetic, from its documented headers."""

from __future__ import annotations

from pathlib import Path

import pytest

from rocscope.capture import Capture
from rocscope.collectors.builder import CaptureBuilder
from rocscope.collectors.discovery import load, recognise
from rocscope.collectors.rocprof_v2 import RocprofV2KernelsReader
from rocscope.collectors.source import Source
from rocscope.errors import InputError

SHAPE = "Grid_Size,Workgroup_Size,LDS_Per_Workgroup,Scratch_Per_Workitem,Arch_VGPR,Accum_VGPR,SGPR,Wave_Size"
HEADER = (
    f"Dispatch_ID,GPU_ID,Queue_ID,PID,TID,{SHAPE},Kernel_Name,Start_Timestamp,End_Timestamp,Correlation_ID"
)
OPS = "Domain,Operation,Kernel_Name,Start_Timestamp,Stop_Timestamp,Correlation_ID\n"
CALLS = "Domain,Function,Start_Timestamp,End_Timestamp,Correlation_ID\n\n"


def row(dispatch: int, name: str, begin: int, end: int, *further: object) -> str:
    return ",".join(
        [f'{dispatch},4,1,77,78,1048576,256,512,0,16,8,32,64,"{name}",{begin},{end},0', *map(str, further)]
    )


def write(path: Path, *rows: str, header: str = HEADER) -> Path:
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def read(path: Path) -> Capture:
    reader = recognise(path)
    assert reader is not None
    builder = CaptureBuilder()
    reader.read(Source.open(path), builder)
    return builder.build()


def test_dispatches_synthetic(tmp_path: Path) -> None:
    path = write(tmp_path / "results_77.csv", row(1, "f<1, 2>(float*) (.kd)", 10, 60), row(2, "g", 70, 75))
    found = read(path)
    assert RocprofV2KernelsReader().content_of(Source.open(path)) == "dispatches"
    (first, second) = found.dispatches.to_pylist()
    assert first["kernel"] == "f<1, 2>(float*) (.kd)"
    assert [
        first[k] for k in ("grid_x", "workgroup_x", "lds_bytes", "vgprs", "agprs", "sgprs", "wave_size")
    ] == [
        1048576,
        256,
        512,
        16,
        8,
        32,
        64,
    ]
    assert first["correlation_id"] is None  # 0 joins nothing
    assert (first["duration_ns"], second["duration_ns"]) == (50, 5)
    assert found.manifest.profiler == "rocprofv2"
    assert not found.manifest.passes[0].perturbed


def test_counters_are_a_perturbed_pass_synthetic(tmp_path: Path) -> None:
    header = HEADER + ",GRBM_COUNT,TCC_HIT[0]"
    found = read(write(tmp_path / "results_77.csv", row(1, "f", 10, 60, "14222.000000", 3), header=header))
    assert [(c["counter"], c["value"]) for c in found.counters.to_pylist()] == [
        ("GRBM_COUNT", 14222.0),
        ("TCC_HIT[0]", 3.0),
    ]
    assert [(p.perturbed, p.note) for p in found.manifest.passes] == [(True, "rocprofv2")]


def test_a_dispatch_on_several_dies_counts_once_synthetic(tmp_path: Path) -> None:
    header = HEADER + ",XCC_Index,GRBM_COUNT,TCC_HIT[0]"
    rows = [row(d, f"k{d}", d * 100, d * 100 + 50, die, 500, 10 + die) for d in (1, 2) for die in (0, 1)]
    found = read(write(tmp_path / "results_77.csv", *rows, header=header))
    assert found.dispatches["duration_ns"].to_pylist() == [50, 50]
    assert [(c["dispatch_id"], c["counter"], c["value"]) for c in found.counters.to_pylist()] == [
        (1, "GRBM_COUNT", 500.0),
        (2, "GRBM_COUNT", 500.0),
        (1, "TCC_HIT[0]", None),  # the dies differ, and the file does not say whether to add them
        (2, "TCC_HIT[0]", None),
    ]
    assert [n.code for n in found.manifest.notices] == ["dies-merged"]


def test_one_die_is_left_as_it_is_synthetic(tmp_path: Path) -> None:
    rows = [row(d, "k", d * 100, d * 100 + 50, 0, 7) for d in (1, 2)]
    found = read(write(tmp_path / "results_77.csv", *rows, header=HEADER + ",XCC_Index,SQ_WAVES"))
    assert found.counters["value"].to_pylist() == [7.0, 7.0]
    assert not found.manifest.notices


@pytest.mark.captures
@pytest.mark.parametrize("name", ["timestamps.csv", "SQ_LEVEL_WAVES.csv"])
def test_recorded_times_that_a_spreadsheet_rounded_are_no_times(captures: Path, name: str) -> None:
    found = read(captures / "omniperf/vcopy/MI300X_A1" / name)  # 8.1097E+14 for begin and for end
    assert found.dispatches.num_rows == 3
    assert found.dispatches["duration_ns"].null_count == 3
    assert [n.code for n in found.manifest.notices] == ["untimed-dispatches"]


def test_rows_of_another_width_are_an_error_that_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"results_77\.csv: line 2"):
        read(write(tmp_path / "results_77.csv", "1,2"))


def test_operations_synthetic(tmp_path: Path) -> None:
    path = tmp_path / "hcc_ops_trace_77.csv"
    path.write_text(
        OPS
        + 'HIP_OPS_DOMAIN,DispatchKernel,"gemm(float*, int)",100,150,1\n'
        + "HIP_OPS_DOMAIN,DispatchKernel,copyElements,150,160,2\n"
        + "HIP_OPS_DOMAIN,CopyHostToDevice,,10,40,3\n"
        + "HIP_OPS_DOMAIN,FillBuffer,,50,60,4\n"
        + "HIP_OPS_DOMAIN,Barrier,,60,70,5\n"
        + "HIP_OPS_DOMAIN,CopyHostToDevice,,60,10,6\n"
    )
    found = read(path)
    assert sorted((d["kind"], d["kernel"], d["duration_ns"]) for d in found.dispatches.to_pylist()) == [
        ("barrier", "Barrier", 10),
        ("kernel", "copyElements", 10),
        ("kernel", "gemm(float*, int)", 50),
        ("memcpy", "CopyHostToDevice", 30),
        ("memset", "FillBuffer", 10),
    ]
    assert [(d.reason, d.count) for d in found.manifest.dropped] == [("negative-duration", 1)]
    assert [p.pid for p in found.manifest.processes] == [77]
    assert [g.agent for g in found.manifest.gpus] == ["not recorded"]


def test_kernels_of_a_trace_beside_results_count_once_synthetic(tmp_path: Path) -> None:
    write(tmp_path / "results_77.csv", row(1, "gemm", 100, 150))
    (tmp_path / "hcc_ops_trace_77.csv").write_text(
        OPS + "HIP_OPS_DOMAIN,DispatchKernel,gemm,100,150,1\nHIP_OPS_DOMAIN,CopyHostToDevice,,10,40,3\n"
    )
    (tmp_path / "hip_api_trace_77.csv").write_text(CALLS + "HIP_API_DOMAIN,hipMemcpy,5,45,3\n")
    found = load([tmp_path])
    assert sorted(found.dispatches["kind"].to_pylist()) == ["kernel", "memcpy"]
    assert found.spans["name"].to_pylist() == ["hipMemcpy"]
    assert "operations-repeat-dispatches" in {n.code for n in found.manifest.notices}
    assert [p.pid for p in found.manifest.processes] == [77]


def test_copies_without_a_column_for_kernels_synthetic(tmp_path: Path) -> None:
    path = tmp_path / "async_copy_trace.csv"
    path.write_text(OPS.replace("Kernel_Name,", "") + "HSA_OPS_DOMAIN,ASYNC_COPY,10,40,3\n")
    found = read(path)
    assert found.dispatches.select(["kind", "kernel"]).to_pylist() == [
        {"kind": "memcpy", "kernel": "ASYNC_COPY"}
    ]
    assert [p.pid for p in found.manifest.processes] == [0]  # renamed: whose it is cannot be told


def test_calls_after_the_empty_second_line_synthetic(tmp_path: Path) -> None:
    path = tmp_path / "hip_api_trace_4242.csv"
    path.write_text(
        CALLS + "HIP_API_DOMAIN,hipMalloc,5,45,3\nHIP_API_DOMAIN,hipFree,50,40,4\nHIP_API_DOMAIN,hipInit,60,6"
    )
    found = read(path)
    assert found.dispatches.num_rows == 0
    assert [(s["kind"], s["name"], s["correlation_id"]) for s in found.spans.to_pylist()] == [
        ("api", "hipMalloc", 3)
    ]
    assert {d.count for d in found.manifest.dropped} == {1}
    assert [p.pid for p in found.manifest.processes] == [4242]


@pytest.mark.parametrize("rows", [[], [""]])
def test_a_header_alone_says_so(tmp_path: Path, rows: list[str]) -> None:
    found = read(write(tmp_path / "results_77.csv", *rows))
    assert [n.code for n in found.manifest.notices] == ["no-dispatches"]
