"""Traces are valid by the documented format, and say what the analysis says."""

import gzip
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample_capture import columns, dispatch, sample_capture, sample_manifest

from rocscope import pipeline
from rocscope.capture import Capture
from rocscope.exports import lanes, trace_rows
from rocscope.exports.export import exports

METADATA = {"process_name": "name", "process_sort_index": "sort_index", "thread_name": "name",
            "thread_sort_index": "sort_index"}  # fmt: skip


def trace(capture: Capture, path: Path, analysis: Any = None) -> list[dict[str, Any]]:
    exports()["perfetto"].write(capture, path, analysis)
    found = json.loads(path.read_text())
    assert found["displayTimeUnit"] == "ns" and isinstance(found["otherData"], dict)
    check(found["traceEvents"])
    return found["traceEvents"]


def check(events: list[dict[str, Any]]) -> None:
    """Hold events against the Trace Event Format: phases X, C and M with their fields, slices that nest."""
    tracks: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for event in events:
        assert isinstance(event["name"], str) and isinstance(event["pid"], int)
        if event["ph"] == "M":
            assert type(event["args"][METADATA[event["name"]]]) is (int if "index" in event["name"] else str)
            continue
        assert event["ts"] >= 0
        if event["ph"] == "C":
            assert event["args"] and all(isinstance(each, int | float) for each in event["args"].values())
            continue
        assert event["ph"] == "X" and event["dur"] >= 0 and isinstance(event["cat"], str)
        assert isinstance(event["tid"], int) and all(v is not None for v in event.get("args", {}).values())
        start = round(event["ts"] * 1000)
        tracks.setdefault((event["pid"], event["tid"]), []).append(
            (start, start + round(event["dur"] * 1000))
        )
    for slices in tracks.values():
        opened: list[int] = []
        for start, end in sorted(slices, key=lambda each: (each[0], -each[1])):
            while opened and opened[-1] <= start:
                opened.pop()
            assert not opened or end <= opened[-1], "two slices of a track overlap in part"
            opened.append(end)


def of_track(events: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    tids = {(e["pid"], e["tid"]) for e in events if e["name"] == "thread_name" and e["args"]["name"] == name}
    assert tids, name
    return [e for e in events if e["ph"] == "X" and (e["pid"], e["tid"]) in tids]


def step(name: str, start: int, end: int) -> dict[str, Any]:
    return {"process": 0, "kind": "gpu_annotation", "name": name, "start_ns": start, "end_ns": end, "gpu": 0}


DECODE = "execute_context_0(0)_generation_4(4)"


def test_a_made_up_capture_gives_a_valid_trace(tmp_path: Path) -> None:
    events = trace(sample_capture(), tmp_path / "t.json")
    assert {e["name"] for e in of_track(events, "families")} == {"gptq_gemm", "other", "memcpy"}


def test_kernels_say_what_the_analysis_says(examples: Path, tmp_path: Path) -> None:
    folder = examples / "h200_decoder"
    capture = pipeline.load(folder / "kineto_fp16_graph.json.gz")
    analysis = pipeline.analyze_capture(capture)
    events = trace(capture, tmp_path / "t.json", analysis)
    shown = [e for e in events if "kernel" in e.get("args", {})]
    assert len(shown) == analysis.integrity.dispatches
    by_limiter: dict[str, float] = {}
    for event in shown:
        assert event["cat"] == event["args"]["family"]
        key = event["args"]["limiter"]
        by_limiter[key] = by_limiter.get(key, 0.0) + event["dur"] * 1e-6
    told: dict[str, float] = {}
    for kernel in analysis.kernels:
        told[kernel.limiter] = told.get(kernel.limiter, 0.0) + (kernel.time_s or 0.0)
    assert by_limiter == pytest.approx(told)
    sized = next(k for k in analysis.kernels if k.bytes_per_dispatch.value)
    args = next(e["args"] for e in shown if e["args"]["kernel"] == sized.raw_name)
    assert args["bytes"] == pytest.approx(sized.bytes_per_dispatch.value, rel=1e-5)
    assert args["bytes_basis"] == sized.bytes_per_dispatch.basis


def test_launches_that_differ_by_problem_share_only_what_holds_for_all(tmp_path: Path) -> None:
    capture = sample_capture()
    analysis = pipeline.analyze_capture(capture)
    first = next(k for k in analysis.kernels if k.family == "gptq_gemm")
    other = first.model_copy(update={"limiter": "compute", "problem_shape": {"M": 8}})
    analysis.kernels.append(other)
    events = trace(capture, tmp_path / "t.json", analysis)
    args = next(e["args"] for e in events if e.get("args", {}).get("kernel") == first.raw_name)
    assert args["bound"] == first.bound and args["limiter"] == "differs by problem shape"
    assert args["problem"] == "differs by problem shape"


def test_families_are_runs_and_steps_are_phases(tmp_path: Path) -> None:
    rows = [
        dispatch(start_ns=0, end_ns=100),
        dispatch(start_ns=100, end_ns=200),
        dispatch(start_ns=150, end_ns=300, kernel="rms_norm_kernel"),  # beside the one before
        dispatch(start_ns=900_000, end_ns=900_100),
    ]
    spans = [step(DECODE, 0, 400), step("execute_context_1(7)_generation_0(0)", 899_000, 901_000)]
    spans += [step("ProfilerStep#1", 0, 901_000)]
    capture = Capture(
        manifest=sample_manifest(), dispatches=columns(rows, "dispatches"), spans=columns(spans, "spans")
    )
    events = trace(capture, tmp_path / "t.json")
    runs = [(e["name"], round(e["ts"] * 1000), round(e["dur"] * 1000)) for e in of_track(events, "families")]
    assert runs == [("gptq_gemm", 0, 150), ("rmsnorm", 150, 150), ("gptq_gemm", 900_000, 100)]
    phases = of_track(events, "steps by phase")
    assert [(e["name"], e["args"].get("generation_tokens"), e["args"]["context_tokens"]) for e in phases] == [
        ("decode", 4, 0),
        ("prefill", 0, 7),
    ]
    order = {e["args"]["name"]: t["args"]["sort_index"] for e in events if e["name"] == "thread_name"
             for t in events if t["name"] == "thread_sort_index" and t["tid"] == e["tid"]}  # fmt: skip
    assert order["steps by phase"] < order["families"] < order["annotations"] < order["queue 1"]


def test_sensors_stand_under_their_gpu_and_the_server_has_rates(tmp_path: Path) -> None:
    def sample(at: int, subject: str, metric: str, value: float) -> dict[str, Any]:
        source = "serving" if subject == "server" else "amdsmi"
        return {"time_ns": at, "source": source, "subject": subject, "metric": metric, "value": value}

    samples = [
        sample(0, "gpu:1", "clock_hz", 1.502e9),
        sample(0, "gpu:1", "temperature_hotspot_c", 71.0),
        sample(0, "gpu:1", "throttled_power", 1.0),
        sample(0, "gpu:1", "busy_frac", 0.5),
        *(
            sample(at * 10**9, "server", "generation_tokens", made)
            for at, made in enumerate((0, 50, 150, 10))
        ),
        *(sample(at * 10**9, "server", "requests_running", 4) for at in range(4)),
        sample(0, "server", "ttft_s_bucket:0.04", 3.0),
        sample(0, "server", "ttft_s_sum", 3.0),
    ]
    capture = Capture(
        manifest=sample_manifest(),
        dispatches=columns([dispatch(start_ns=0, end_ns=9, gpu=1)], "dispatches"),
        samples=columns(samples, "samples"),
    )
    events = trace(capture, tmp_path / "t.json")
    names = {e["pid"]: e["args"]["name"] for e in events if e["name"] == "process_name"}
    shown: dict[tuple[str, str], list[float]] = {}
    for e in events:
        if e["ph"] == "C":
            shown.setdefault((names[e["pid"]][:5], e["name"]), []).append(e["args"]["value"])
    assert shown == {
        ("GPU 1", "clock (MHz)"): [pytest.approx(1502)],
        ("GPU 1", "temperature hotspot (°C)"): [71.0],
        ("GPU 1", "throttled power"): [1.0],
        ("GPU 1", "busy (%)"): [50.0],
        ("telem", "server generation_tokens"): [0.0, 50.0, 150.0, 10.0],
        ("telem", "server requests_running"): [4.0] * 4,
        ("telem", "server generation tokens a second"): [50.0, 100.0, 0.0],
    }


def test_samples_of_another_clock_are_not_shown_as_the_gpus(tmp_path: Path) -> None:
    capture = sample_capture()
    capture.notice("clocks-unrelated", "the samples have a clock of their own")
    events = trace(capture, tmp_path / "t.json")
    names = {e["pid"]: e["args"]["name"] for e in events if e["name"] == "process_name"}
    assert {names[e["pid"]] for e in events if e["ph"] == "C"} == {
        "telemetry, by a clock that is not the kernels'"
    }
    told = json.loads((tmp_path / "t.json").read_text())["otherData"]
    assert told["samples_not_set_against_kernels"] == "the samples have a clock of their own"


def test_a_gzip_of_one_capture_is_always_the_same(tmp_path: Path) -> None:
    for name in ("a.json.gz", "b.json.gz"):
        exports()["perfetto"].write(sample_capture(), tmp_path / name)
    first, second = ((tmp_path / name).read_bytes() for name in ("a.json.gz", "b.json.gz"))
    assert first == second and json.loads(gzip.decompress(first))


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 12)), max_size=30))
def test_spans_of_a_lane_nest(spans: list[tuple[int, int]]) -> None:
    starts, ends = [s for s, _ in spans], [s + d for s, d in spans]
    lane = lanes.nested(starts, ends)
    events = [
        {"ph": "X", "name": "x", "cat": "x", "pid": 0, "tid": lane[at], "ts": s / 1000, "dur": d / 1000}
        for at, (s, d) in enumerate(spans)
    ]
    check(events)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 60), st.integers(0, 9)), max_size=25))
def test_runs_are_of_what_ran_and_never_overlap(rows: list[tuple[int, int, int]]) -> None:
    family, start, length = (np.array([each[i] for each in rows], np.int64) for i in range(3))
    which, first, last = trace_rows.runs((family, start, start + length), 0)
    assert (last >= first).all() and (first[1:] >= last[:-1]).all()
    ran = {(s + tick, f) for f, s, d in rows for tick in range(d)}
    told = [(tick, f) for f, low, high in zip(which, first, last, strict=True) for tick in range(low, high)]
    assert {tick for tick, _ in told} <= {tick for tick, _ in ran}
    starts = {(s, f) for f, s, _ in rows}
    assert all((low, f) in starts for f, low in zip(which, first, strict=True))


@pytest.mark.captures
@pytest.mark.parametrize(
    "names",
    [
        ["h200_vllm/fp16_graph.kineto.json.gz", "h200_vllm/fp16_graph.telemetry.csv"],
        ["torch_traces/vllm_decode_full_graph_execution.json.gz"],
        ["h200/tp2_straggler_rank0.json.gz", "h200/tp2_straggler_rank1.json.gz"],
        ["rocprofv3/tracelens_908"],
    ],
)
def test_recorded_captures_give_valid_traces(captures: Path, tmp_path: Path, names: list[str]) -> None:
    capture = pipeline.load(*(captures / name for name in names))
    events = trace(capture, tmp_path / "t.json", pipeline.analyze_capture(capture))
    assert not re.search(r"[\x00-\x1f]", json.dumps(events))
    counters = {e["name"] for e in events if e["ph"] == "C"}
    if "telemetry" in names[-1]:
        assert {"power (W)", "clock (MHz)", "memory clock (MHz)", "temperature edge (°C)"} <= counters
        assert {e["name"] for e in of_track(events, "steps by phase")} == {"prefill", "mixed", "decode"}
