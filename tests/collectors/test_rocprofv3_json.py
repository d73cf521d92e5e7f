"""rocprofv3's JSON: the recording against an independent sum, and a synthetic twin with all record types."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import jsonschema
import pyarrow.compute as pc
import pytest

from rocscope.capture import Capture
from rocscope.collectors.builder import CaptureBuilder
from rocscope.collectors.rocprofv3_json import Rocprofv3JsonReader
from rocscope.collectors.source import Source
from rocscope.errors import InputError

READER = Rocprofv3JsonReader()
RECORDING = "rocprofv3/tracelens_908/908_results.json.gz"
GPU, OTHER_GPU, CPU = 37946, (1 << 64) - 5, 37944  # handles may exceed 2**63


def read(path: Path) -> Capture:
    source, builder = Source.open(path), CaptureBuilder()
    assert READER.recognises(source)
    READER.read(source, builder)
    return builder.build()


def dropped(capture: Capture) -> dict[str, int]:
    return {each.reason: each.count for each in capture.manifest.dropped}


@pytest.fixture(scope="module")
def recorded(captures: Path) -> tuple[Capture, dict[str, Any]]:
    with gzip.open(captures / RECORDING) as file:
        return read(captures / RECORDING), json.load(file)["rocprofiler-sdk-tool"][0]


def test_every_dispatch_of_the_recording_and_its_time(recorded: tuple[Capture, dict[str, Any]]) -> None:
    capture, told = recorded
    records = told["buffer_records"]["kernel_dispatch"]
    assert capture.dispatches.num_rows == len(records) == 43915
    assert capture.manifest.dropped == []
    assert capture.manifest.notices == []
    total = sum(r["end_timestamp"] - r["start_timestamp"] for r in records)
    assert pc.sum(capture.dispatches["duration_ns"]).as_py() == total
    names = {s["kernel_id"]: s["formatted_kernel_name"] for s in told["kernel_symbols"]}
    registers = {s["kernel_id"]: s["arch_vgpr_count"] for s in told["kernel_symbols"]}
    columns = ("kernel", "start_ns", "dispatch_id", "queue", "stream", "correlation_id", "grid_x", "vgprs")
    found = zip(*(capture.dispatches[name].to_pylist() for name in columns), strict=True)
    assert Counter(found) == Counter(
        (
            names[r["dispatch_info"]["kernel_id"]],
            r["start_timestamp"],
            r["dispatch_info"]["dispatch_id"],
            r["dispatch_info"]["queue_id"]["handle"],
            r["stream_id"]["handle"],
            r["correlation_id"]["internal"],
            r["dispatch_info"]["grid_size"]["x"],
            registers[r["dispatch_info"]["kernel_id"]],
        )
        for r in records
    )


def test_the_manifest_of_the_recording(recorded: tuple[Capture, dict[str, Any]]) -> None:
    """Its 908 is a process id: the GPU is a gfx950."""
    manifest = recorded[0].manifest
    assert [(g.agent, g.arch, g.name, g.compute_units, g.wave_size) for g in manifest.gpus] == [
        ("Agent 2", "gfx950", "AMD Instinct MI350X", 256, 64)
    ]
    assert [p.pid for p in manifest.processes] == [908]
    assert manifest.command[-1] == "training.max_steps=50"
    assert manifest.host == "smci350-zts-gtu-c6-25"
    assert manifest.duration_s == pytest.approx(19.20753247)
    assert "rocprof_traces" not in manifest.model_dump_json()  # of its configuration


def launch(number: int, *, kernel: int = 1, agent: int = GPU, **times: int) -> dict[str, Any]:
    info = {
        "size": 72,
        "agent_id": {"handle": agent},
        "queue_id": {"handle": 3},
        "kernel_id": kernel,
        "dispatch_id": number,
        "private_segment_size": 16,
        "group_segment_size": 512,
        "workgroup_size": {"x": 256, "y": 1, "z": 1},
        "grid_size": {"x": 1024, "y": 2, "z": 1},
    }
    return {
        "size": 184,
        "kind": 2,
        "operation": 0,
        "thread_id": 77,
        "correlation_id": {"internal": 100 + number, "external": 0},
        "dispatch_info": info,
        **times,
    }


def call(kind: int, operation: int, correlation: int, start: int, end: int, **more: Any) -> dict[str, Any]:
    return {
        "size": 40,
        "kind": kind,
        "operation": operation,
        "correlation_id": {"internal": correlation, "external": 0},
        "start_timestamp": start,
        "end_timestamp": end,
        "thread_id": 77,
        **more,
    }


def copy(operation: int, source: int, target: int, size: int) -> dict[str, Any]:
    ends = {"src_agent_id": {"handle": source}, "dst_agent_id": {"handle": target}}
    return call(1, operation, 9, 2000, 2400, **ends, bytes=size)


def counted(number: int, values: list[tuple[int, float]], **times: int) -> dict[str, Any]:
    return {
        "thread_id": 77,
        "arch_vgpr_count": 24,
        "sgpr_count": 32,
        "lds_block_size_v": 512,
        "dispatch_data": launch(number, **times),
        "records": [{"counter_id": {"handle": handle}, "value": value} for handle, value in values],
    }


def counter(handle: int, name: str) -> dict[str, Any]:
    texts = dict.fromkeys(("description", "block", "expression"), "")
    ids = {"agent_id": {"handle": GPU}, "id": {"handle": handle}, "dimension_ids": []}
    return {**ids, "is_constant": 0, "is_derived": 0, "name": name, **texts}


def agent(handle: int, kind: int, node: int, schema: dict[str, Any], **more: Any) -> dict[str, Any]:
    can = dict.fromkeys(schema["properties"]["capability"]["required"], 0)
    return {"size": 312, "id": {"handle": handle}, "type": kind, "capability": can, "node_id": node, **more}


def symbol(kernel: int, name: str, schema: dict[str, Any], **more: Any) -> dict[str, Any]:
    blank = {key: "" if key.endswith("name") else 0 for key in schema["required"]}
    return {**blank, "kernel_id": kernel, "formatted_kernel_name": name, **more}


@pytest.fixture(scope="module")
def schema(captures: Path) -> dict[str, Any]:
    with gzip.open(captures / "rocprofv3/schema/rocprofv3-schema.json.gz") as file:
        found: dict[str, Any] = json.load(file)
    return found


@pytest.fixture
def twin(schema: dict[str, Any]) -> dict[str, Any]:
    """A synthetic document of one process that has every type of record that is read."""
    element = schema["properties"]["rocprofiler-sdk-tool"]["items"]["properties"]
    wave = {"wave_front_size": 64, "cu_count": 120}
    return {
        "metadata": {
            "pid": 4321,
            "init_time": 500,
            "fini_time": 2_000_000_500,
            "command": ["vllm", "serve"],
            "node": {"hostname": "node7"},
            "environment": {"HF_TOKEN": "secret"},
        },
        "agents": [
            agent(CPU, 1, 0, element["agents"]["items"]),
            agent(GPU, 2, 4, element["agents"]["items"], name="gfx908", product_name="MI100", **wave),
            agent(OTHER_GPU, 2, 5, element["agents"]["items"], name="gfx1100", wave_front_size=32),
        ],
        "counters": [counter(1, "SQ_WAVES"), counter(2, "GRBM_COUNT"), counter(3, "TCC_HIT")],
        "strings": {
            "callback_records": [],
            "buffer_records": [
                {"kind": "HIP_RUNTIME_API", "operations": ["hipLaunchKernel", "hipGraphLaunch"]},
                {"kind": "MEMORY_COPY", "operations": ["NONE", "HOST_TO_DEVICE", "DEVICE_TO_HOST"]},
                {"kind": "MARKER_CORE_API", "operations": ["roctxRangePushA"]},
            ],
            "marker_api": [{"key": 51, "value": "decode <step>"}],
        },
        "code_objects": [],
        "kernel_symbols": [
            symbol(0, "", element["kernel_symbols"]["items"]),
            symbol(1, "gemm", element["kernel_symbols"]["items"], arch_vgpr_count=72, accum_vgpr_count=0),
        ],
        "host_functions": [],
        "callback_records": {"counter_collection": []},
        "buffer_records": {
            "kernel_dispatch": [
                launch(1, start_timestamp=1000, end_timestamp=1500),
                launch(2, start_timestamp=900, end_timestamp=1300, agent=OTHER_GPU),
            ],
            "hip_api": [call(0, 1, 101, 800, 850), call(7, 3, 102, 860, 870)],
            "marker_api": [call(2, 0, 51, 700, 1600), call(2, 0, 52, 700, 1600)],
            "rccl_api": [],
            "memory_copy": [copy(1, CPU, GPU, 4096), copy(2, GPU, CPU, 64), copy(0, CPU, CPU, 8)],
        },
    }


@pytest.fixture
def write(tmp_path: Path, schema: dict[str, Any]) -> Any:
    def save(*processes: dict[str, Any]) -> Path:
        document = {"rocprofiler-sdk-tool": list(processes)}
        jsonschema.validate(document, schema)
        path = tmp_path / "synthetic_results.json"
        path.write_text(json.dumps(document))
        return path

    return save


def test_the_twin_gives_dispatches_copies_and_spans(twin: dict[str, Any], write: Any) -> None:
    capture = read(write(twin))
    rows = capture.dispatches.to_pylist()
    assert [(r["kind"], r["kernel"], r["gpu"], r["duration_ns"], r["copied_bytes"]) for r in rows] == [
        ("kernel", "gemm", 0, 500, None),
        ("kernel", "gemm", 1, 400, None),
        ("memcpy", "HOST_TO_DEVICE", 0, 400, 4096),
        ("memcpy", "DEVICE_TO_HOST", 0, 400, 64),
    ]
    first = rows[0]
    assert (first["vgprs"], first["agprs"], first["sgprs"]) == (72, 0, None)
    assert (first["lds_bytes"], first["scratch_bytes"], first["queue"]) == (512, 16, 3)
    assert (first["grid_x"], first["grid_y"], first["workgroup_x"], first["stream"]) == (1024, 2, 256, None)
    assert [r["wave_size"] for r in rows] == [64, None, None, None]  # 32-wide GPUs run waves of 64 too
    assert dropped(capture) == {"copies within the host": 1}
    assert [(s["kind"], s["name"], s["correlation_id"]) for s in capture.spans.to_pylist()] == [
        ("api", "hipGraphLaunch", 101),
        ("api", "<operation 7.3>", 102),
        ("annotation", "decode <step>", 51),
        ("annotation", "roctxRangePushA", 52),
    ]
    manifest = capture.manifest
    assert [(g.agent, g.arch, g.name, g.wave_size) for g in manifest.gpus] == [
        ("Agent 4", "gfx908", "MI100", 64),
        ("Agent 5", "gfx1100", "", 32),
    ]
    assert (manifest.host, manifest.command, manifest.duration_s) == ("node7", ["vllm", "serve"], 2.0)
    assert "secret" not in manifest.model_dump_json()


def test_counters_are_summed_and_their_pass_is_perturbed(twin: dict[str, Any], write: Any) -> None:
    twin["callback_records"]["counter_collection"] = [
        counted(1, [(1, 32.0), (2, 10.5), (2, 10.5), (99, 1.0)]),
        counted(8, [(1, 32.0), (2, float(2**32 - 1))], start_timestamp=5000, end_timestamp=5600),
        counted(9, [(1, 31.0), (2, 3.0)]),
    ]
    capture = read(write(twin))
    (only,) = capture.manifest.passes
    assert (only.counters, only.perturbed) == (("GRBM_COUNT", "SQ_WAVES"), True)
    values = [(r["dispatch_id"], r["counter"], r["value"]) for r in capture.counters.to_pylist()]
    assert values == [
        (1, "GRBM_COUNT", 21.0),
        (1, "SQ_WAVES", 32.0),
        (8, "GRBM_COUNT", None),
        (8, "SQ_WAVES", 32.0),
        (9, "GRBM_COUNT", 3.0),
        (9, "SQ_WAVES", 31.0),
    ]
    kernels = [row for row in capture.dispatches.to_pylist() if row["kind"] == "kernel"]
    assert [(r["dispatch_id"], r["pass"], r["duration_ns"]) for r in kernels] == [
        (1, 0, 500),  # of the kernel trace, once
        (2, 0, 400),
        (8, 0, 600),
        (9, 0, None),
    ]
    assert dropped(capture)["values of unknown counters"] == 1
    assert dropped(capture)["saturated counter values"] == 1
    assert {n.code for n in capture.manifest.notices} == {"saturated-counters", "waves-mismatch"}


def test_rotating_counter_groups_are_told(twin: dict[str, Any], write: Any) -> None:
    twin["callback_records"]["counter_collection"] = [
        counted(1, [(1, 32.0), (2, 5.0)]),
        counted(2, [(2, 5.0), (3, 7.0)]),
    ]
    (only,) = read(write(twin)).manifest.passes
    assert only.counters == ("GRBM_COUNT", "SQ_WAVES", "TCC_HIT")
    assert only.note == "rotating counter groups"


def test_rows_that_cannot_be_right_are_dropped_by_reason(twin: dict[str, Any], write: Any) -> None:
    twin["buffer_records"]["kernel_dispatch"] = [
        launch(1, start_timestamp=1000, end_timestamp=1500),
        launch(2, start_timestamp=1500, end_timestamp=744),
        launch(3, start_timestamp=0, end_timestamp=0),
        launch(4, start_timestamp=1 << 70, end_timestamp=1 << 70),
        launch(5, start_timestamp=1000, end_timestamp=1001, kernel=55),
    ]
    path = write(twin)
    path.write_text(path.read_text().replace('"dispatch_id": 1,', '"dispatch_id": "one",'))
    capture = read(path)
    kernels = [row["kernel"] for row in capture.dispatches.to_pylist() if row["kind"] == "kernel"]
    assert kernels == ["<kernel 55>"]
    assert dropped(capture) == {
        "copies within the host": 1,
        "ends before it starts": 1,
        "no times recorded": 1,
        "unreadable times": 1,
        "malformed rows": 1,
    }
    assert [notice.code for notice in capture.manifest.notices] == ["kernel-name-missing"]


def test_two_processes_share_the_gpus_of_their_host(twin: dict[str, Any], write: Any) -> None:
    other = json.loads(json.dumps(twin))
    other["metadata"] |= {"pid": 4322, "fini_time": 3_000_000_500}
    capture = read(write(twin, other))
    assert [process.pid for process in capture.manifest.processes] == [4321, 4322]
    assert [gpu.agent for gpu in capture.manifest.gpus] == ["Agent 4", "Agent 5"]
    assert capture.dispatches["process"].to_pylist() == [0] * 4 + [1] * 4
    assert capture.manifest.duration_s == 3.0


def test_records_may_come_before_what_describes_them(twin: dict[str, Any], write: Any) -> None:
    path = write(twin)
    before = read(path).dispatches
    path.write_text(json.dumps({"rocprofiler-sdk-tool": [dict(reversed(twin.items()))]}))
    assert read(path).dispatches.to_pylist() == before.to_pylist()


def test_a_process_that_says_little_still_counts(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    bare = launch(1, start_timestamp=5, end_timestamp=9)
    records = {"kernel_dispatch": [bare], "memory_copy": [copy(1, 0, GPU, 8)], "hip_api": {}}
    element = {
        "metadata": [],
        "strings": 7,
        "agents": None,
        "buffer_records": records,
        "callback_records": [],
    }
    path.write_text(json.dumps({"rocprofiler-sdk-tool": [element]}))
    capture = read(path)
    assert [row["kernel"] for row in capture.dispatches.to_pylist()] == ["<kernel 1>", "<operation 1.1>"]
    assert [(gpu.agent, gpu.arch) for gpu in capture.manifest.gpus] == [(f"agent {GPU}", "")]
    assert capture.manifest.dropped == []


def test_a_recording_cut_off_gives_what_was_before(captures: Path, tmp_path: Path) -> None:
    with gzip.open(captures / RECORDING) as file:
        text = file.read()
    path = tmp_path / "908_results.json"
    path.write_bytes(text[: len(text) - 4_000_000])
    capture = read(path)
    assert 30_000 < capture.dispatches.num_rows < 43_915
    (notice,) = capture.manifest.notices
    assert notice.code == "truncated-file"
    assert "cut off at byte" in notice.message


def test_recognised_by_content_alone(captures: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text('\ufeff{ "rocprofiler-sdk-tool" : [] }')
    assert READER.recognises(Source.open(path))
    assert read(path).dispatches.num_rows == 0
    for name in ("h200/kineto_fp16_graph.json.gz", "rocprofv1/aiter_gfx942/results.json"):
        assert not READER.recognises(Source.open(captures / name))
    path.write_text('{"rocprofiler-sdk-tool": {"a": 1}}')
    with pytest.raises(InputError, match="expected an array"):
        READER.read(Source.open(path), CaptureBuilder())
