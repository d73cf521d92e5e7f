"""Small captures made by hand, for arithmetic that can be checked on paper. Nothing here was recorded."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from rocscope import metrics
from rocscope.capture import Capture
from rocscope.collectors.builder import CaptureBuilder
from rocscope.config import AnalyzeOptions
from rocscope.hardware import GpuSpec
from rocscope.study import Study

INTEGERS = [
    *("queue", "stream", "dispatch_id", "correlation_id", "start_ns", "end_ns", "duration_ns", "count"),
    *metrics.SHAPE,
    *metrics.RESOURCES,
    "copied_bytes",
]

# 100 CUs at 1 GHz, 1 TB/s by datasheet, 0.8 TB/s reached, 10 TFLOP/s: the ridge is at 10 FLOP/B.
SPEC = GpuSpec.model_validate(
    {
        "name": "Paper",
        "vendor": "amd",
        "arch": "gfx000",
        "marketing_names": ["paper"],
        "compute_units": 100,
        "simds_per_cu": 4,
        "wave_size": 64,
        "waves_per_cu": 40,
        "workgroups_per_cu": 16,
        "vgprs_per_simd": 256,
        "vgpr_granule": 4,
        "lds_bytes_per_cu": 65536,
        "l2_bytes": 1_000_000,
        "memory_bytes": 32 << 30,
        "clock_hz": {"value": 1e9, "source": "made up for tests"},
        "launch_floor_s": {"value": 4e-6, "source": "made up for tests"},
        "datasheet": {
            "bandwidth_bytes_per_s": {"value": 1e12, "source": "made up for tests"},
            "flops_per_s": {"vector_fp16": {"value": 1e13, "source": "made up for tests"}},
        },
        "achievable": {"bandwidth_bytes_per_s": {"value": 0.8e12, "source": "made up for tests"}},
    }
)


def row(kernel: str, start: int | None, duration: int | None, **more: Any) -> dict[str, Any]:
    """One dispatch; 200 workgroups of 256 work-items unless said otherwise."""
    end = start + duration if start is not None and duration is not None else None
    shape = {
        "grid_x": 51200,
        "grid_y": 1,
        "grid_z": 1,
        "workgroup_x": 256,
        "workgroup_y": 1,
        "workgroup_z": 1,
    }
    base = {"kernel": kernel, "start_ns": start, "end_ns": end, "duration_ns": duration, "count": 1}
    return {"pass": 0, "process": 0, "gpu": 0, "kind": "kernel", **shape, **base, **more}


def capture(
    rows: list[dict[str, Any]],
    *,
    passes: list[dict[str, Any]] | None = None,
    spans: list[dict[str, Any]] | None = None,
    ranks: int = 1,
    **manifest: Any,
) -> Capture:
    """Build a capture of ``rows``; ``ranks`` GPUs with a process each."""
    builder = CaptureBuilder()
    for rank in range(ranks):
        builder.gpu(str(rank), arch="gfx000", name="Paper")
        builder.process(100 + rank, rank=rank if ranks > 1 else None)
    for each in passes or [{}]:
        builder.add_pass(**each)
    if rows:
        builder.append("dispatches", len(rows), **_columns(rows, INTEGERS))
    if spans:
        builder.append(
            "spans", len(spans), **_columns(spans, ["start_ns", "end_ns", "correlation_id", "gpu"])
        )
    builder.manifest.update(manifest)
    return builder.build()


def _columns(rows: list[dict[str, Any]], integers: list[str]) -> dict[str, Any]:
    names = dict.fromkeys(name for each in rows for name in each)
    return {
        name: pa.array([each.get(name) for each in rows], pa.int64() if name in integers else None)
        for name in names
    }


def study(
    made: Capture,
    models: dict[str, dict[str, Any]] | None = None,
    *,
    families: dict[str, str] | None = None,
    spec: GpuSpec | None = SPEC,
    **options: Any,
) -> Study:
    """A workspace as analyzers find it: groups, and bytes and FLOPs as ``models`` gives them by kernel."""
    frame = metrics.group(made)
    frame["family"] = [(families or {}).get(name, "elementwise") for name in frame["raw_name"]]
    for column in ("bytes", "flops"):
        values = [(models or {}).get(name, {}).get(column, np.nan) for name in frame["raw_name"]]
        frame[column] = np.array(values, dtype=float)
        frame[f"{column}_basis"] = pd.Series(
            ["modelled" if not np.isnan(v) else None for v in values], dtype=object
        )
        frame[f"{column}_source"] = pd.Series(
            ["by hand" if not np.isnan(v) else None for v in values], dtype=object
        )
    frame["flops_unit"] = pd.Series(["vector_fp16"] * len(frame), dtype=object)
    frame["intensity_limit"] = np.nan
    frame["intensity_limit_source"] = pd.Series([None] * len(frame), dtype=object)
    frame["problem_shape"] = pd.Series([None] * len(frame), dtype=object)
    return Study(
        capture=made,
        options=AnalyzeOptions(**options),
        kernels=frame,
        specs={gpu.gpu: spec for gpu in made.manifest.gpus},
    )
