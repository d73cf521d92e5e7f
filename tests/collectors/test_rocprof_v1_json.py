"""results.json of rocprof v1: recordings against the json module, cut and odd ones as synthetic twins."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pytest

from rocscope.capture import Capture
from rocscope.collectors.builder import CaptureBuilder
from rocscope.collectors.rocprof_v1_csv import RocprofV1CsvReader
from rocscope.collectors.rocprof_v1_db import RocprofV1DbReader
from rocscope.collectors.rocprof_v1_json import RocprofV1JsonReader
from rocscope.collectors.source import Source
from rocscope.errors import InputError


def read(path: Path) -> Capture:
    source = Source.open(path)
    assert RocprofV1JsonReader().recognises(source)
    builder = CaptureBuilder()
    RocprofV1JsonReader().read(source, builder)
    return builder.build()


def kernel(name: str, begin: int, end: int, **further: str) -> str:
    args = {
        "KernelName": name,
        "gpu-id": "1",
        "pid": "7",
        "grd": "640",
        "wgr": "64",
        "BeginNs": str(begin),
        "EndNs": str(end),
        "DurationNs": str(end - begin),
        **further,
    }
    event = {
        "ph": "X",
        "name": name,
        "pid": 7,
        "tid": 0,
        "ts": str(begin // 1000),
        "dur": str((end - begin) // 1000),
    }
    return "," + json.dumps(event)[:-1] + ',\n  "args":' + json.dumps(args, indent=4) + "\n}\n"


def operation(name: str, lane: int, begin: int, end: int, **args: str) -> str:
    found = {"BeginNs": str(begin), "EndNs": str(end), "pid": "7", "tid": "9", "dev-id": "0", **args}
    return (
        "," + json.dumps({"ph": "X", "name": name, "pid": lane, "ts": "1", "dur": "0", "args": found}) + "\n"
    )


def lane(pid: int, name: str) -> str:
    return "," + json.dumps({"args": {"name": name}, "ph": "M", "pid": pid, "name": "process_name"}) + "\n"


OPENING = '{ "traceEvents":[{}\n'
CLOSING = """],
"otherData": {
    "Agent2.Name": "gfx908",
    "Agent2.Node": "1",
    "Agent2.DeviceType": "GPU"
  }
}"""
FLOW = ',{"ts":12,"ph":"s","cat":"DataFlow","id":0,"pid":2,"tid":9,"name":"dep"}\n'


def write(folder: Path, text: str) -> Path:
    path = folder / "synthetic.json"
    path.write_text(text, encoding="utf-8")
    return path


def codes(capture: Capture) -> list[str]:
    return [notice.code for notice in capture.manifest.notices]


@pytest.mark.captures
@pytest.mark.parametrize("name", ["aiter_gfx942/results.json", "llamacpp_gfx1201/results.json.gz"])
def test_recorded_time_is_conserved(captures: Path, name: str) -> None:
    path = captures / "rocprofv1" / name
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    events = [e for e in json.loads(raw)["traceEvents"] if e.get("ph") == "X"]
    found = read(path)
    assert found.dispatches.num_rows == len(events)
    total = sum(int(e["args"]["EndNs"]) - int(e["args"]["BeginNs"]) for e in events)
    assert pc.sum(found.dispatches["duration_ns"]).as_py() == pytest.approx(total, rel=1e-9)
    assert found.dispatches["kernel"].to_pylist() == [e["args"]["KernelName"] for e in events]
    assert found.dispatches["vgprs"].to_pylist() == [int(e["args"]["arch_vgpr"]) for e in events]
    assert not codes(found)
    (gpu,) = found.manifest.gpus
    assert gpu.arch == {"aiter": "gfx950", "llama": "gfx1201"}[name[:5]]


@pytest.mark.captures
def test_csv_database_and_json_of_one_run_agree(captures: Path) -> None:
    folder = captures / "rocprofv1/aiter_gfx942"
    found = []
    for reader, name in (
        (RocprofV1CsvReader(), "results.csv"),
        (RocprofV1DbReader(), "results.db"),
        (RocprofV1JsonReader(), "results.json"),
    ):
        builder = CaptureBuilder()
        reader.read(Source.open(folder / name), builder)
        capture = builder.build()
        found.append((capture.dispatches.to_pylist(), capture.manifest.gpus, capture.manifest.processes))
    assert found[0] == found[1] == found[2]
    assert sum(each["duration_ns"] for each in found[0][0]) == 4870186


@pytest.mark.captures
@pytest.mark.parametrize("folder", ["stencil_xr", "laplacian_xr"])
def test_recorded_files_without_opening_and_closing_are_read_with_a_notice(
    captures: Path, folder: str
) -> None:
    found = read(captures / "rocprofv1" / folder / "results.json")
    assert codes(found) == ["malformed-json", "no-dispatches"]
    assert "does not begin as a trace" in found.manifest.notices[0].message


def test_kernels_of_a_file_without_opening_are_all_there_synthetic_twin(tmp_path: Path) -> None:
    found = read(write(tmp_path, lane(1, "COPY") + kernel("a", 1000, 1900) + kernel("b", 2000, 2800)))
    assert found.dispatches["duration_ns"].to_pylist() == [900, 800]  # ts and dur would say 0
    assert codes(found) == ["malformed-json"]


def test_a_file_cut_off_gives_its_whole_events_synthetic(tmp_path: Path) -> None:
    whole = OPENING + "".join(kernel(f"k{i}", i * 100 + 10, i * 100 + 60) for i in range(50)) + CLOSING
    found = read(write(tmp_path, whole[: whole.index('"k40"')]))
    assert found.dispatches.num_rows == 40
    assert codes(found) == ["malformed-json"]


def test_a_gzip_cut_off_gives_its_whole_events_synthetic(tmp_path: Path) -> None:
    events = [kernel(f"k{n}", n * 1000, n * 1000 + n * 7919 % 997 + 1) for n in range(1, 2000)]
    packed = gzip.compress((OPENING + "".join(events) + CLOSING).encode())
    path = tmp_path / "synthetic.json.gz"
    path.write_bytes(packed[: len(packed) // 2])
    capture = read(path)
    assert 500 < capture.dispatches.num_rows < 1999
    assert "malformed-json" in codes(capture)


def test_a_whole_file_describes_the_gpu_and_passes_flow_events_over_synthetic(tmp_path: Path) -> None:
    found = read(write(tmp_path, OPENING + FLOW + kernel("a", 10, 60) + FLOW + CLOSING))
    assert found.dispatches.num_rows == 1
    assert [(g.agent, g.arch) for g in found.manifest.gpus] == [("1", "gfx908")]
    assert not codes(found)


def test_tracing_runs_sorted_by_lane_synthetic(tmp_path: Path) -> None:
    text = (
        OPENING
        + lane(1, "COPY")
        + lane(2, "CPU HIP API")
        + lane(6, "GPU0")
        + lane(518, "GPU Barriers0")
        + lane(4, "Markers and Ranges")
        + operation("CopyDeviceToHost", 1, 10, 30)
        + operation("hipLaunchKernel", 2, 5, 8)
        + operation("gemm", 6, 40, 90)
        + operation("sync", 518, 90, 99)
        + operation("decode", 4, 1, 99)
        + CLOSING
    )
    found = read(write(tmp_path, text))
    assert sorted((d["kind"], d["kernel"], d["duration_ns"]) for d in found.dispatches.to_pylist()) == [
        ("barrier", "sync", 9),
        ("kernel", "gemm", 50),
        ("memcpy", "CopyDeviceToHost", 20),
    ]
    assert sorted((s["kind"], s["name"]) for s in found.spans.to_pylist()) == [
        ("annotation", "decode"),
        ("api", "hipLaunchKernel"),
    ]


def test_kernels_that_are_there_twice_count_once_synthetic(tmp_path: Path) -> None:
    found = read(
        write(tmp_path, OPENING + lane(6, "GPU0") + operation("a", 6, 10, 60) + kernel("a", 10, 60) + CLOSING)
    )
    assert found.dispatches["grid_x"].to_pylist() == [640]


def test_counters_among_the_arguments_synthetic(tmp_path: Path) -> None:
    text = OPENING + kernel("a", 10, 60, SQ_WAVES="16.5") + kernel("b", 70, 80, SQ_WAVES="?") + CLOSING
    found = read(write(tmp_path, text))
    assert found.counters.select(["dispatch_id", "counter", "value"]).to_pylist() == [
        {"dispatch_id": 0, "counter": "SQ_WAVES", "value": 16.5},
        {"dispatch_id": 1, "counter": "SQ_WAVES", "value": None},
    ]


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (',{"ph":"X","name":"a","pid":7}\n', "event-without-times"),
        (',{"ph":"X","name":"a","pid":7,"args":{"BeginNs":"1"}}\n', "event-without-times"),
        (',{"ph":"X","name":"a","pid":7,"args":[1,2]}\n', "malformed-event"),
        (kernel("a", 60, 10), "negative-duration"),
    ],
)
def test_events_that_cannot_be_used_are_counted_synthetic(tmp_path: Path, event: str, reason: str) -> None:
    found = read(write(tmp_path, OPENING + event + kernel("b", 10, 60) + CLOSING))
    assert found.dispatches["kernel"].to_pylist() == ["b"]
    assert [(d.reason, d.count) for d in found.manifest.dropped] == [(reason, 1)]


@pytest.mark.parametrize("name", ['"), (\\"', "{lambda()#1}}]},{", "<img onerror=x>", "\u2028\x1b[2J"])
def test_hostile_names_survive_untouched_synthetic(tmp_path: Path, name: str) -> None:
    found = read(write(tmp_path, OPENING + kernel(name, 10, 60) + CLOSING))
    assert found.dispatches["kernel"].to_pylist() == [name]


def test_a_file_written_again_on_one_line_is_known_by_its_arguments_synthetic(tmp_path: Path) -> None:
    whole: dict[str, Any] = json.loads(OPENING + kernel("a", 10, 60) + CLOSING)
    whole["traceEvents"].pop(0)
    found = read(write(tmp_path, json.dumps(whole)))
    assert found.dispatches.num_rows == 1


def test_a_lone_opening_is_empty_and_says_so(tmp_path: Path) -> None:
    assert codes(read(write(tmp_path, OPENING))) == ["malformed-json", "no-dispatches"]


def test_events_that_are_no_array_are_an_error_that_names_the_file(tmp_path: Path) -> None:
    text = '{"traceEvents":{"gpu-id":1,"BeginNs":2}}'
    with pytest.raises(InputError, match=r"synthetic\.json"):
        read(write(tmp_path, text))


@pytest.mark.parametrize(
    "text", ["", "[]", '{"schemaVersion":1,"traceEvents":[{"ph":"X"}]}', ",,,", "\x00\x01"]
)
def test_other_content_is_not_taken_for_it(tmp_path: Path, text: str) -> None:
    assert not RocprofV1JsonReader().recognises(Source.open(write(tmp_path, text)))
