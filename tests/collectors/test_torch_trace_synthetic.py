"""Quirks of Kineto traces, in small synthetic ones."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rocscope.capture import Capture, Clock
from rocscope.collectors.builder import CaptureBuilder
from rocscope.collectors.columns import MISSING
from rocscope.collectors.source import Source
from rocscope.collectors.torch_trace import TorchTraceReader
from rocscope.errors import InputError

READER = TorchTraceReader()


def event(cat: str, name: str, ts: Any, dur: Any, **more: Any) -> dict[str, Any]:
    args = {key.replace("_", " "): more.pop(key) for key in list(more) if key not in ("pid", "tid", "ph")}
    found = {"ph": "X", "cat": cat, "name": name, "pid": 10, "tid": 10, "ts": ts, "dur": dur, **more}
    return {**found, "args": args} if args else found


def kernel(name: str = "k", ts: Any = 100.5, dur: Any = 2.25, **args: Any) -> dict[str, Any]:
    return event("kernel", name, ts, dur, pid=0, tid=7, **{"device": 0, "stream": 7, **args})


def write(path: Path, events: Any, **header: Any) -> Path:
    text = json.dumps({"schemaVersion": 1, "deviceProperties": [], **header, "traceEvents": events})
    path.write_text(text)
    return path


def read(*paths: Path, builder: CaptureBuilder | None = None) -> Capture:
    builder = builder or CaptureBuilder()
    for path in paths:
        source = Source.open(path)
        assert READER.recognises(source)
        READER.read(source, builder)
    return builder.build()


def dispatches(capture: Capture) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = capture.dispatches.to_pylist()
    return found


def dropped(capture: Capture) -> dict[str, int]:
    return {each.reason: each.count for each in capture.manifest.dropped}


def test_bad_rows_are_dropped_and_counted_by_reason(tmp_path: Path) -> None:
    events = [
        kernel("good"),
        kernel("negative", dur=-1),
        {key: value for key, value in kernel("no start").items() if key != "ts"},
        {key: value for key, value in kernel("no duration").items() if key != "dur"},
        kernel("null", dur=None),
        kernel("far", ts=1e300),
        kernel("word", ts="soon"),
        event("cpu_op", "aten::mm", 1, -5),
        event("cpu_op", "aten::mm", None, 5),
        7,
    ]
    capture = read(write(tmp_path / "a.json", events))
    assert [row["kernel"] for row in dispatches(capture)] == ["good"]
    assert dropped(capture) == {
        "ends before it starts": 1,
        "unreadable times": 4,
        "host events: ends before it starts": 1,
        "host events: unreadable times": 1,
        "malformed rows": 2,
    }


def test_numbers_as_texts_and_bad_floats(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", [kernel("k", "100.125", "2", correlation="9", bytes="BAD")])
    path.write_text(path.read_text().replace('"BAD"', "-nan"))
    row = dispatches(read(path))[0]
    assert (row["start_ns"], row["end_ns"], row["duration_ns"]) == (100125, 102125, 2000)
    assert (row["correlation_id"], row["copied_bytes"]) == (9, None)


def test_whole_microseconds_since_1970_and_old_categories(tmp_path: Path) -> None:
    """Before base times, and before the categories had their present names."""
    first = 1676123456789012
    events = [
        event("Operator", "aten::add", first, 9, **{"external id": 3}),
        event("Runtime", "cudaLaunchKernel", first + 1, 2, **{"external id": 3, "correlation": 5}),
        event("Kernel", "k", first + 4, 3, pid=0, tid=7, **{"external id": 3, "correlation": 5, "device": 0}),
    ]
    row = dispatches(read(write(tmp_path / "a.json", events)))[0]
    assert (row["start_ns"], row["duration_ns"]) == ((first + 4) * 1000, 3000)
    assert row["operator"] == "aten::add"
    assert row["operator_shapes"] is None


def test_fractions_of_large_times_are_exact(tmp_path: Path) -> None:
    """us since 1970 with three decimals have 19 digits; a float keeps 16."""
    path = write(tmp_path / "a.json", [kernel("k", "TS")])
    path.write_text(path.read_text().replace('"TS"', "1709766158937498.123"))
    assert dispatches(read(path))[0]["start_ns"] == 1709766158937498123


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, (1 << 43) * 1000 - 1), st.integers(0, 10**10)), min_size=1))
def test_times_are_exact_to_the_nanosecond(tmp_path_factory: Any, times: list[tuple[int, int]]) -> None:
    def us(ns: int) -> float:
        return float(f"{ns // 1000}.{ns % 1000:03}")

    path = tmp_path_factory.mktemp("t") / "a.json"
    capture = read(write(path, [kernel("k", us(start), us(duration)) for start, duration in times]))
    assert [(row["start_ns"], row["duration_ns"]) for row in dispatches(capture)] == times


def test_array_form_without_header_and_without_args(tmp_path: Path) -> None:
    bare = {key: value for key, value in kernel("k").items() if key != "args"}
    path = tmp_path / "a.json"
    path.write_text(json.dumps([bare]))
    capture = read(path)
    row = dispatches(capture)[0]
    assert (row["kernel"], row["stream"], row["correlation_id"], row["grid_x"]) == ("k", None, None, None)
    assert [(gpu.agent, gpu.arch, gpu.name) for gpu in capture.manifest.gpus] == [("device 0", "", "")]
    assert capture.manifest.clock == Clock()


def test_an_activity_of_no_device(tmp_path: Path) -> None:
    lost = {**kernel("k"), "pid": "GPU"}
    del lost["args"]
    assert [gpu.agent for gpu in read(write(tmp_path / "a.json", [lost])).manifest.gpus] == [""]


def device(**known: Any) -> dict[str, Any]:
    return {"id": 0, "name": "", "computeMajor": 9, "computeMinor": 0, "warpSize": 64, **known}


@pytest.mark.parametrize(
    ("properties", "header", "arch"),
    [
        (device(numSms=120), {"roctracer_version": 4.1}, "gfx908"),
        (device(numSms=104), {"hip_runtime_version": 6}, "gfx90a"),
        (device(numSms=64), {"roctracer_version": 4.1}, ""),
        (device(computeMinor=5), {"roctracer_version": 4.1}, "gfx950"),
        (device(computeMajor=11), {"roctracer_version": 4.1}, ""),
        (device(name="AMD Instinct MI300X", computeMinor=4), {}, "gfx942"),
        (device(computeMinor=None), {}, ""),
        (device(), {"cupti_version": 1}, "sm_90"),
    ],
)
def test_architecture_where_it_is_certain(
    tmp_path: Path, properties: dict[str, Any], header: dict[str, Any], arch: str
) -> None:
    capture = read(write(tmp_path / "a.json", [kernel()], deviceProperties=[properties], **header))
    assert [gpu.arch for gpu in capture.manifest.gpus] == [arch]


def test_a_header_after_the_events_counts_too(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(
        json.dumps(
            {
                "traceEvents": [kernel(), event("cuda_runtime", "hipLaunchKernel", 90, 3, correlation=1)],
                "baseTimeNanoseconds": 10**18,
                "deviceProperties": [device(name="AMD Instinct MI100")],
                "distributedInfo": {"rank": 3, "world_size": 4, "pg_config": []},
                "host_name": "node7",
                "rocprofiler-sdk_version": 1.1,
            }
        )
    )
    manifest = read(path).manifest
    assert [(gpu.name, gpu.host) for gpu in manifest.gpus] == [("AMD Instinct MI100", "node7")]
    assert manifest.processes[0].rank == 3
    assert manifest.clock == Clock(domain="realtime", wall_offset_ns=10**18)
    assert (manifest.host, manifest.profiler_version) == ("node7", "rocprofiler-sdk 1.1")


def test_odd_headers_are_not_held_against_the_events(tmp_path: Path) -> None:
    odd = {"deviceProperties": {"id": 0}, "distributedInfo": [], "baseTimeNanoseconds": "x", "host_name": 7}
    capture = read(write(tmp_path / "a.json", [kernel()], **odd))
    assert capture.dispatches.num_rows == 1
    assert capture.manifest.dropped == []


def test_spans_and_processes(tmp_path: Path) -> None:
    def label(pid: int, name: str, value: str) -> dict[str, Any]:
        key = "name" if name == "process_name" else "labels"
        return {"ph": "M", "name": name, "ts": 1, "pid": pid, "tid": 0, "args": {key: value}}

    events = [
        label(10, "process_name", "VLLM::Worker_TP1"),
        label(10, "process_labels", "CPU"),
        label(0, "process_name", "VLLM::Worker_TP1"),
        label(0, "process_labels", "GPU 0"),
        {"ph": "M", "name": "process_name", "pid": "Spans"},
        event("user_annotation", "step", 1, 9),
        event("gpu_user_annotation", "step", 2, 9, pid=0, tid=7),
        event("overhead", "Buffer", 3, 1, pid=-1, tid=0),
        event("python_function", "f", 1, 9),
        event("Trace", "PyTorch Profiler (0)", 0, 2_000_000, pid="Spans", tid="PyTorch Profiler"),
        {"ph": "i", "name": "Iteration Start", "pid": "Traces", "tid": "Trace", "ts": 1},
        kernel(),
    ]
    capture = read(write(tmp_path / "a.json", events, distributedInfo={"world_size": 2}))
    manifest = capture.manifest
    assert [(p.pid, p.name, p.rank) for p in manifest.processes] == [(10, "VLLM::Worker_TP1", 1)]
    assert manifest.model_tp == 2
    assert manifest.duration_s == 2.0
    assert [(s["kind"], s["thread"], s["gpu"]) for s in capture.spans.to_pylist()] == [
        ("annotation", 10, None),
        ("gpu_annotation", None, 0),
        ("overhead", 0, None),
    ]


def test_a_second_process_labelled_as_one_has_its_own_spans(tmp_path: Path) -> None:
    labels = [
        {"ph": "M", "name": "process_labels", "pid": pid, "args": {"labels": "CPU"}} for pid in (10, 11)
    ]
    events = [event("cpu_op", "a", 1, 9), event("cpu_op", "b", 1, 9), event("cpu_op", "c", 1, 9, pid=11)]
    capture = read(write(tmp_path / "a.json", [*labels, *events, kernel()]))
    assert [process.pid for process in capture.manifest.processes] == [10, 11]
    assert capture.spans["process"].to_pylist() == [0, 0, 1]


def test_traces_with_other_base_times_come_on_one_clock(tmp_path: Path) -> None:
    first = write(tmp_path / "a.json", [kernel()], baseTimeNanoseconds=5000, distributedInfo={"rank": 0})
    second = write(tmp_path / "b.json", [kernel()], baseTimeNanoseconds=7000, distributedInfo={"rank": 1})
    capture = read(first, second)
    assert capture.dispatches["start_ns"].to_pylist() == [100500, 102500]
    assert capture.manifest.clock.wall_offset_ns == 5000
    assert len(capture.manifest.gpus) == 2  # both call theirs 0
    builder = CaptureBuilder()
    builder.manifest["clock"] = Clock(domain="boottime")
    assert read(second, builder=builder).dispatches["start_ns"].to_pylist() == [100500]


def test_a_trace_cut_off_gives_what_was_before(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", [kernel(f"k{n}") for n in range(50)])
    path.write_text(path.read_text()[:-200])
    capture = read(path)
    assert 45 < capture.dispatches.num_rows < 50
    (notice,) = capture.manifest.notices
    assert notice.code == "truncated-file"
    assert "a.json is cut off at byte" in notice.message


def test_gzip_is_read_alike(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", [kernel("k", correlation=3)])
    packed = tmp_path / "b.json.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert read(path).dispatches.equals(read(packed).dispatches)


@pytest.mark.parametrize("how", ["cut", "spoilt"])
def test_a_damaged_gzip_gives_what_was_before(tmp_path: Path, how: str) -> None:
    rng = random.Random(0)
    events = [kernel(f"k{rng.random()}") for _ in range(4000)]
    packed = bytearray(gzip.compress(write(tmp_path / "a.json", events).read_bytes()))
    half = len(packed) // 2
    if how == "cut":
        del packed[half:]
    else:
        packed[half : half + 400] = bytes(range(200)) * 2
    path = tmp_path / "b.json.gz"
    path.write_bytes(packed)
    capture = read(path)
    names = [row["kernel"] for row in dispatches(capture)]
    assert 1000 < len(names) < 3000
    assert names[:1000] == [each["name"] for each in events[:1000]]
    assert [notice.code for notice in capture.manifest.notices] == ["truncated-file"]


KINETO_LATE = {"schemaVersion": 1, "distributedInfo": {"pad": "x" * 70000}, "traceEvents": []}


@pytest.mark.parametrize(
    ("text", "ours"),
    [
        (json.dumps(KINETO_LATE), True),
        ('{"traceEvents":[{"ph":"M","name":"process_labels","args":{"labels":"GPU 3"}}]}', True),
        ('{ "traceEvents":[{}\n,{"ph":"X","name":"k","args":{"BeginNs":"1"}}\n]}', False),
        ('{"traceEvents":[{"ph":"X","cat":"kernel","args":{"BeginNs":"1"}}]}', False),
        ('{"rocprofiler-sdk-tool": [{"traceEvents": 1, "record_shapes": 1}]}', False),
        ('{"traceEvents":[{"ph":"X","cat":"blink","name":"paint"}]}', False),
        ('{"otherData":{"made by":"rocscope"},"traceEvents":[{"cat":"kernel"}]}', False),
        ('[{"name": "kernel"}]', False),
        ("Name,Calls\nkernel,1\n", False),
        ("", False),
    ],
)
def test_recognised_by_content(tmp_path: Path, text: str, ours: bool) -> None:
    path = tmp_path / "a.csv"
    path.write_text(text)
    assert READER.recognises(Source.open(path)) is ours


def test_other_traces_are_not_ours(captures: Path) -> None:
    for name in (
        "rocprofv1/stencil_xr/results.json",
        "rocprofv1/aiter_gfx942/results.json",
        "rocprofv1/llamacpp_gfx1201/results.json.gz",
        "rocprofv3/tracelens_908/908_results.json.gz",
        "vllm/bench_serve_result.json",
        "h200/fp16_config.json",
    ):
        assert not READER.recognises(Source.open(captures / name)), name


def test_a_damaged_start_is_an_input_error(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("not a trace")
    with pytest.raises(InputError, match=r"a\.json: byte 0, line 1: expected an object"):
        READER.read(Source.open(path), CaptureBuilder())


def test_ids_beyond_64_bits_are_missing(tmp_path: Path) -> None:
    row = dispatches(read(write(tmp_path / "a.json", [kernel(correlation=1 << 64, stream="seven")])))[0]
    assert (row["correlation_id"], row["stream"]) == (None, None)
    assert MISSING not in row.values()
