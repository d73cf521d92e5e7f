"""A capture made by hand for the tests of exports and redaction: synthetic, nothing was recorded."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from rocscope import tables
from rocscope.capture import Capture, Clock, Dropped, Gpu, Manifest, Notice, Pass, Process, Source

GEMM = "void vllm::gptq::gemm_half_q_half_gptq_8bit_kernel<true, 1>(__half const*, int)"
HOSTILE = '=1+1","ph":"X"}\x1b</script>'


def columns(rows: list[dict[str, Any]], name: str) -> pa.Table:
    schema = tables.SCHEMAS[name]
    found = {
        field.name: pa.array(
            [row.get(field.name) for row in rows], pa.string() if field.type == tables.TEXT else field.type
        )
        for field in schema
        if any(row.get(field.name) is not None for row in rows)
    }
    return tables.conform(name, found, len(rows))


def dispatch(**known: Any) -> dict[str, Any]:
    return {
        "pass": 0, "process": 0, "gpu": 0, "queue": 1, "kind": "kernel", "kernel": GEMM, "count": 1,
        "dispatch_id": 1, "grid_x": 3584, "grid_y": 40, "grid_z": 1, "workgroup_x": 256, "workgroup_y": 1,
        "workgroup_z": 1, **known,
    }  # fmt: skip


def sample_manifest(**known: Any) -> Manifest:
    return Manifest(
        **{
            "id": "synthetic01",
            "provenance": "synthetic",
            "profiler": "rocprofv3",
            "profiler_version": "1.0.0",
            "command": ["/opt/venv/bin/vllm", "serve", "acme/secret-8b", "--tensor-parallel-size", "2"],
            "host": "node-1",
            "started_at": "2026-01-02T03:04:05+00:00",
            "clock": Clock(domain="boottime", wall_offset_ns=17),
            "gpus": [
                Gpu(gpu=0, host="node-1", agent="Agent 4", arch="gfx908", name="AMD Instinct MI100"),
                Gpu(gpu=1, host="node-1", agent="Agent 5", arch="gfx908", name="AMD Instinct MI100"),
            ],
            "processes": [Process(process=0, pid=1234, host="node-1", name="VLLM::Worker_TP0", rank=0)],
            "passes": [
                Pass(index=0),
                Pass(index=1, counters=("FetchSize", "SQ_WAVES"), perturbed=True, note="second run"),
            ],
            "sources": [Source(path="run/1234_results.csv", format="rocprofv3-csv", size_bytes=10)],
            "notices": [Notice(code="malformed-rows", message="in /home/ann/x.csv", source="x.csv")],
            "dropped": [Dropped(reason="malformed rows", count=2)],
            "environment": {"VLLM_USE_V1": "1"},
            "model": {"hidden_size": 5120, "_name_or_path": "acme/secret-8b", "torch_dtype": "float16"},
            "model_tp": 2,
            **known,
        }
    )


def sample_capture() -> Capture:
    """Two GPUs, two overlapping kernels on one queue, a counter pass, host spans, telemetry."""
    rows = [
        dispatch(start_ns=1_000_000, end_ns=1_045_400, duration_ns=45_400),
        dispatch(start_ns=1_020_000, end_ns=1_030_001, duration_ns=10_001, dispatch_id=2, kernel=HOSTILE),
        dispatch(start_ns=1_050_000, end_ns=1_051_000, duration_ns=1_000, dispatch_id=3, operator="aten::mm",
                 operator_shapes='[{"dims": [1, 5120], "dtype": "c10::Half"}]'),
        dispatch(start_ns=1_000_500, end_ns=1_002_000, duration_ns=1_500, gpu=1, queue=None, stream=7,
                 kind="memcpy", kernel="Memcpy HtoD", copied_bytes=4096),
        dispatch(**{"pass": 1}, start_ns=9_000_000, end_ns=9_900_000, duration_ns=900_000),
        dispatch(dispatch_id=9),
    ]  # fmt: skip
    spans = [
        {"process": 0, "thread": 5, "kind": "api", "name": "hipLaunchKernel",
         "start_ns": 999_000, "end_ns": 999_900},
        {"process": 0, "thread": 5, "kind": "operator", "name": "aten::mm",
         "start_ns": 998_000, "end_ns": 1_000_100},
        {"process": 0, "kind": "annotation", "name": "execute_context_0(0)_generation_1(1)",
         "start_ns": 997_000, "end_ns": 1_100_000},
        {"process": 0, "kind": "gpu_annotation", "name": "ProfilerStep#3", "start_ns": 1_000_000,
         "end_ns": 1_051_000, "gpu": 0},
    ]  # fmt: skip
    samples = [
        {"time_ns": 1_010_000, "source": "amdsmi", "subject": "gpu:0", "metric": "power_w", "value": 201.5},
        {"time_ns": 1_020_000, "source": "amdsmi", "subject": "gpu:0", "metric": "power_w",
         "value": float("nan")},
        {"time_ns": 1_030_000, "source": "host", "subject": "process:1234:VLLM::Worker_TP0",
         "metric": "rss_bytes", "value": 1e9},
    ]  # fmt: skip
    counters = [
        {"pass": 1, "process": 0, "gpu": 0, "dispatch_id": 1, "counter": "FetchSize", "value": 19_600.0},
        {"pass": 1, "process": 0, "gpu": 0, "dispatch_id": 1, "counter": "SQ_WAVES", "value": None},
    ]
    return Capture(
        manifest=sample_manifest(),
        dispatches=columns(rows, "dispatches"),
        counters=columns(counters, "counters"),
        spans=columns(spans, "spans"),
        samples=columns(samples, "samples"),
    )


def many_dispatches(rows: int) -> Capture:
    """``rows`` kernels of 1 µs, one after another: synthetic."""
    import numpy as np

    start = np.arange(rows, dtype=np.int64) * 2000
    table = tables.conform(
        "dispatches",
        {
            "pass": pa.scalar(0), "process": pa.scalar(0), "gpu": pa.scalar(0), "kind": pa.scalar("kernel"),
            "kernel": pa.DictionaryArray.from_arrays(
                pa.array(np.arange(rows, dtype=np.int32) % 3), pa.array([GEMM, "a", "b"])
            ),
            "start_ns": pa.array(start), "end_ns": pa.array(start + 1000),
            "duration_ns": pa.scalar(1000), "count": pa.scalar(1), "queue": pa.scalar(0),
        },
        rows,
    )  # fmt: skip
    return Capture(manifest=sample_manifest(passes=[Pass(index=0)]), dispatches=table)
