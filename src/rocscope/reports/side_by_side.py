"""GPUs of one run side by side: who works, who waits, who is slow."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from rocscope.findings import Analysis, GpuSummary
from rocscope.reports import figures

TITLE: Final = "Ranks side by side"
HEADER: Final = ("rank", "busy", "of window", "kernels", "waiting*", "step", "clock")
NOTE: Final = "* kernels of communication, which last while other ranks are waited for"
MAX_ROWS: Final = 16
_WAITS: Final = "communication"
_Part = Mapping[str, Any]


def present(analysis: Analysis) -> bool:
    """Return whether several GPUs ran kernels."""
    return len({kernel.gpu for kernel in analysis.kernels}) > 1


def rows(analysis: Analysis) -> list[list[str]]:
    """Return a row for each GPU under :data:`HEADER`, at most :data:`MAX_ROWS`."""
    spent, waited = _times(analysis)
    steps = {each.gpu: each.period_s for each in analysis.step_table.ranks} if analysis.step_table else {}
    sensors: dict[Any, _Part] = {each["gpu"]: each for each in analysis.telemetry.get("gpus") or ()}
    return [
        [
            label(gpu),
            figures.seconds(gpu.busy_s),
            figures.percent(gpu.busy_frac),
            figures.seconds(spent.get(gpu.gpu)),
            figures.percent(waited[gpu.gpu] / spent[gpu.gpu] if spent.get(gpu.gpu) else None),
            figures.seconds(steps.get(gpu.gpu)),
            _clock(sensors.get(gpu.gpu)),
        ]
        for gpu in _working(analysis)[:MAX_ROWS]
    ]


def label(gpu: GpuSummary) -> str:
    """Name a GPU by its rank where that is recorded."""
    name = f"GPU {gpu.gpu}" if gpu.rank is None else f"rank {gpu.rank}"
    return f"{name}, {gpu.host}" if gpu.host else name


def sentences(analysis: Analysis) -> list[str]:
    """Return who makes the others wait, and how many GPUs have no row."""
    told = [
        f"{target.problem}: {'; '.join(target.evidence[:2])}"
        for target in analysis.targets
        if target.id.startswith("timeline:straggler")
    ]
    more = len(_working(analysis)) - MAX_ROWS
    if more > 0:
        told.append(f"{more} more GPUs are in analysis.json")
    return [f"{text[:1].upper()}{text[1:]}." for text in told]


def _working(analysis: Analysis) -> list[GpuSummary]:
    used = {kernel.gpu for kernel in analysis.kernels}
    return [gpu for gpu in analysis.gpus if gpu.gpu in used]


def _times(analysis: Analysis) -> tuple[dict[int, float], dict[int, float]]:
    """Return kernel time by GPU, s, and what of it is communication."""
    parts: dict[int, list[float]] = {}
    waits: dict[int, list[float]] = {}
    for kernel in analysis.kernels:
        if kernel.time_s is not None:
            parts.setdefault(kernel.gpu, []).append(kernel.time_s)
            waits.setdefault(kernel.gpu, []).append(kernel.time_s if kernel.family == _WAITS else 0.0)
    return (
        {gpu: math.fsum(each) for gpu, each in parts.items()},
        {gpu: math.fsum(each) for gpu, each in waits.items()},
    )


def _clock(entry: _Part | None) -> str:
    mean = ((entry or {}).get("clock_hz") or {}).get("mean")
    return figures.UNKNOWN if mean is None else f"{figures.significant(mean / 1e6, 4)}{figures.NBSP}MHz"
