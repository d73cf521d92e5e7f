"""Real Kineto traces, each against an independent reading with json.load and decimals."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pytest

from rocscope.capture import Capture
from rocscope.collectors.builder import CaptureBuilder
from rocscope.collectors.source import Source
from rocscope.collectors.torch_trace import TorchTraceReader

DEVICE = {"kernel": "kernel", "gpu_memcpy": "memcpy", "gpu_memset": "memset"}
HOST = {
    "cpu_op": "operator",
    "user_annotation": "annotation",
    "gpu_user_annotation": "gpu_annotation",
    "cuda_runtime": "api",
    "cuda_driver": "api",
    "overhead": "overhead",
}
TRACES = {
    "h200/kineto_fp16_graph.json.gz": (4344, 438, 12),
    "h200/kineto_strided_eager.json.gz": (4636, 439, 50),
    "h200/kineto_strided_graph.json.gz": (4350, 0, 12),
    "h200/tp2_straggler_rank0.json.gz": (2612, 12, 8),
    "h200/tp2_straggler_rank1.json.gz": (5636, 12, 8),
    "h200_vllm/fp16_graph.kineto.json.gz": (14174, 124, 62),
    "h200_vllm/gptq8_graph.kineto.json.gz": (16910, 124, 314),
    "torch_traces/mi210_gpu_only_trace.json.gz": (562, 0, 0),
    "torch_traces/vllm_decode_full_graph_execution.json.gz": (425, 9, 0),
    "vllm/rank0.pt.trace.json.gz": (0, 0, 0),
}


def read(*paths: Path) -> Capture:
    builder = CaptureBuilder()
    for path in paths:
        source = Source.open(path)
        assert TorchTraceReader().recognises(source)
        TorchTraceReader().read(source, builder)
    return builder.build()


def rows(capture: Capture, table: str = "dispatches") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = getattr(capture, table).to_pylist()
    return found


def ns(us: float) -> int:
    """What the file says, as repr gives back its digits."""
    return int(Decimal(repr(us)) * 1000)


@pytest.fixture(scope="module")
def load(captures: Path) -> Any:
    cache: dict[str, tuple[Capture, list[dict[str, Any]]]] = {}

    def get(name: str) -> tuple[Capture, list[dict[str, Any]]]:
        if name not in cache:
            with gzip.open(captures / name) as file:
                cache[name] = (read(captures / name), json.load(file)["traceEvents"])
        return cache[name]

    return get


@pytest.mark.parametrize("name", TRACES)
def test_time_is_conserved_and_every_row_is_there(load: Any, name: str) -> None:
    capture, events = load(name)
    device = [event for event in events if event.get("cat") in DEVICE]
    kinds = Counter(capture.dispatches["kind"].to_pylist())
    assert (kinds["kernel"], kinds["memcpy"], kinds["memset"]) == TRACES[name]
    assert capture.manifest.dropped == []
    assert capture.manifest.notices == []
    told = sum(Decimal(repr(event["dur"])) for event in device)
    assert (pc.sum(capture.dispatches["duration_ns"]).as_py() or 0) == told * 1000
    found = zip(
        capture.dispatches["kernel"].to_pylist(),
        capture.dispatches["start_ns"].to_pylist(),
        capture.dispatches["end_ns"].to_pylist(),
        strict=True,
    )
    expected = ((e["name"], ns(e["ts"]), ns(e["ts"]) + ns(e["dur"])) for e in device)
    assert Counter(found) == Counter(expected)


@pytest.mark.parametrize("name", TRACES)
def test_host_events_are_spans(load: Any, name: str) -> None:
    capture, events = load(name)
    expected = Counter((HOST[e["cat"]], e["name"]) for e in events if e.get("cat") in HOST)
    spans = capture.spans
    assert Counter(zip(spans["kind"].to_pylist(), spans["name"].to_pylist(), strict=True)) == expected
    assert pc.all(pc.less_equal(spans["start_ns"], spans["end_ns"])).as_py()
    on_gpu = pc.equal(spans["kind"].cast("string"), "gpu_annotation")
    assert pc.all(pc.equal(pc.is_valid(spans["gpu"]), on_gpu)).as_py()
    assert set(spans["process"].to_pylist()) == {0}


def launched_by(events: list[dict[str, Any]]) -> dict[int, str | None]:
    """Operator of each correlation, found the slow way: by id, else the last begun around the call."""
    operators = [e for e in events if e.get("cat") == "cpu_op"]
    by_id = {e["args"]["External id"]: e["name"] for e in operators}
    spans = sorted((op["ts"], op["ts"] + op["dur"], op["tid"], op["name"]) for op in operators)
    found: dict[int, str | None] = {}
    for call in events:
        if call.get("cat") not in ("cuda_runtime", "cuda_driver") or "Launch" not in call["name"]:
            continue
        name = by_id.get(call["args"].get("External id"))
        if name is None:
            end = call["ts"] + call["dur"]
            around = [s for s in spans if s[0] <= call["ts"] and end <= s[1] and s[2] == call["tid"]]
            name = around[-1][3] if around else None
        found[call["args"]["correlation"]] = None if "Graph" in call["name"] else name
    return found


@pytest.mark.parametrize(
    "name", ["h200/tp2_straggler_rank0.json.gz", "torch_traces/vllm_decode_full_graph_execution.json.gz"]
)
def test_operators_are_those_found_the_slow_way(load: Any, name: str) -> None:
    capture, events = load(name)
    expected = launched_by(events)
    kernels = [row for row in rows(capture) if row["kind"] == "kernel"]
    assert len(kernels) > 400
    assert [row["operator"] for row in kernels] == [expected[row["correlation_id"]] for row in kernels]


def test_operators_carry_the_shapes_of_their_inputs(load: Any) -> None:
    capture, events = load("h200/kineto_strided_eager.json.gz")
    gather = next(row for row in rows(capture) if "vectorized_gather_kernel" in row["kernel"])
    assert gather["operator"] == "aten::gather"
    launcher = next(e for e in events if e.get("args", {}).get("External id") == 8)
    assert launcher["name"] == "aten::gather"
    inputs = json.loads(gather["operator_shapes"])
    assert [(each["dims"], each["dtype"]) for each in inputs] == list(
        zip(launcher["args"]["Input Dims"], launcher["args"]["Input type"], strict=True)
    )
    index_rows = 1024  # the index is expanded over the columns
    assert [each["stored"] for each in inputs] == [151936 * 4096, 1, index_rows, 1, 1024 * 4096]
    linked = Counter(bool(row["operator"]) for row in rows(capture))
    assert linked == {True: 3138, False: 1987}  # Triton kernels are launched outside of any operator


@pytest.mark.parametrize(
    "name",
    [
        "h200/kineto_strided_graph.json.gz",
        "h200_vllm/fp16_graph.kineto.json.gz",
        "torch_traces/vllm_decode_full_graph_execution.json.gz",
    ],
)
def test_replayed_kernels_have_no_operator(load: Any, name: str) -> None:
    capture, events = load(name)
    replays = {e["args"]["correlation"] for e in events if "GraphLaunch" in str(e.get("name"))}
    replayed = [row for row in rows(capture) if row["correlation_id"] in replays]
    assert len(replayed) > 400
    assert {row["operator"] for row in replayed} == {None}
    assert {row["operator_shapes"] for row in replayed} == {None}


def test_grids_are_work_items_on_nvidia(load: Any) -> None:
    capture, events = load("h200/kineto_strided_eager.json.gz")
    expected = Counter(
        tuple(g * b for g, b in zip(e["args"]["grid"], e["args"]["block"], strict=True))
        for e in events
        if e.get("cat") == "kernel"
    )
    found = [(r["grid_x"], r["grid_y"], r["grid_z"]) for r in rows(capture) if r["kind"] == "kernel"]
    assert Counter(found) == expected
    copies = [row for row in rows(capture) if row["kind"] != "kernel"]
    assert {row["grid_x"] for row in copies} == {None}
    assert all(row["copied_bytes"] > 0 for row in copies)


def test_grids_of_hip_depend_on_the_call(load: Any) -> None:
    """114944 / 256 = 449 tiles of 448 columns of 201088; hipLaunchKernel counts workgroups."""
    capture, _ = load("torch_traces/vllm_decode_full_graph_execution.json.gz")
    eager = [row for row in rows(capture) if row["grid_x"] is not None]
    assert len(eager) == 4
    assert next(row for row in eager if "Cijk_Alik" in row["kernel"])["grid_x"] == 114944
    gather = next(row for row in eager if "gather_kernel" in row["kernel"])
    assert (gather["grid_x"], gather["grid_y"], gather["workgroup_x"]) == (32 * 256, 2, 256)
    capture, _ = load("torch_traces/mi210_gpu_only_trace.json.gz")
    transpose = [row for row in rows(capture) if row["kernel"].startswith("batched_transpose")]
    assert max(row["grid_x"] for row in transpose) == 1048576
    assert all(row["grid_x"] % row["workgroup_x"] == 0 for row in rows(capture))


def test_devices_are_those_with_work(load: Any) -> None:
    gpu = load("torch_traces/mi210_gpu_only_trace.json.gz")[0].manifest.gpus
    assert [(g.agent, g.arch, g.name, g.compute_units, g.wave_size) for g in gpu] == [
        ("device 1", "gfx90a", "AMD Instinct MI210", 104, 64)
    ]
    gpu = load("torch_traces/vllm_decode_full_graph_execution.json.gz")[0].manifest.gpus
    assert [(g.agent, g.arch, g.name, g.compute_units) for g in gpu] == [("device 2", "gfx942", "", 304)]
    gpu = load("h200/kineto_fp16_graph.json.gz")[0].manifest.gpus
    assert [(g.arch, g.name, g.compute_units, g.memory_bytes) for g in gpu] == [
        ("sm_90", "NVIDIA H200", 132, 150109880320)
    ]


def test_manifest_of_a_vllm_trace(load: Any) -> None:
    manifest = load("h200_vllm/fp16_graph.kineto.json.gz")[0].manifest
    assert manifest.profiler == "torch"
    assert manifest.profiler_version == "cupti 130001"
    assert [(p.pid, p.name, p.rank) for p in manifest.processes] == [(2167, "VLLM::EngineCore", 0)]
    assert manifest.started_at == "2026-11-20T21:30:14.678+00:00"
    assert manifest.duration_s == pytest.approx(0.340013442)
    assert manifest.clock.wall_offset_ns == 1790857026000000000
    assert manifest.model_tp is None


def test_a_trace_of_the_cpu_has_no_gpu_and_no_dispatch(load: Any) -> None:
    capture, _ = load("vllm/rank0.pt.trace.json.gz")
    assert capture.manifest.gpus == []
    assert capture.manifest.host == "vm"
    assert capture.dispatches.num_rows == 0
    steps = [row["name"] for row in rows(capture, "spans") if row["kind"] == "annotation"]
    assert "execute_7_context_1(sq7sk7sqsq49sqsk49)_generation_0(sq0sk0sqsq0sqsk0)" in steps


def test_two_ranks_are_two_gpus_on_one_clock(captures: Path, load: Any) -> None:
    names = [f"h200/tp2_straggler_rank{rank}.json.gz" for rank in (0, 1)]
    both = read(*(captures / name for name in names))
    assert [(p.pid, p.rank) for p in both.manifest.processes] == [(592, 0), (593, 1)]
    assert [gpu.agent for gpu in both.manifest.gpus] == ["device 0", "device 1"]
    busy = both.dispatches.group_by("gpu").aggregate([("duration_ns", "sum")]).sort_by("gpu").to_pylist()
    for row, name in zip(busy, names, strict=True):
        assert row["duration_ns_sum"] == pc.sum(load(name)[0].dispatches["duration_ns"]).as_py()
