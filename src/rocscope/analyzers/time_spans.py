"""Stretches of the axis: successive steps of one phase, and time in which a GPU was throttled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from rocscope import steps
from rocscope.analyzers import sensors
from rocscope.analyzers.gpu_samples import MOST_MISSING, GpuSamples, Series, Telemetry
from rocscope.analyzers.time_axis import Axis
from rocscope.findings import TimelineSpan
from rocscope.study import Study

if TYPE_CHECKING:
    import pandas as pd

MOST_OF_ONE: Final = 200  # stretches of phases of one GPU; beyond that short neighbours become one
_ANY: Final = "reason not told"
Ints = NDArray[np.int64]


def phases(study: Study, axis: Axis) -> list[TimelineSpan]:
    """Return stretches of steps of one phase, by time.

    Ranks that run the same steps are told once, as ``gpu`` null. Where a GPU has more than
    :data:`MOST_OF_ONE` stretches, those that begin in the same two-hundredth of the axis are one, named
    after all of their phases.
    """
    found = steps.annotated(study.capture)
    if found.empty:
        return []
    if study.options.steps is None:
        found = steps.extended(found)
    found = found[found["gpu"].isin(axis.lanes)]
    names = {int(gpu): tuple(found.loc[found["gpu"] == gpu, "name"]) for gpu in sorted(found["gpu"].unique())}
    alike = axis.one_clock and len(names) > 1 and len(set(names.values())) == 1
    told: list[TimelineSpan] = []
    for gpu in list(names)[:1] if alike else names:
        told += _of_gpu(axis, gpu, found[found["gpu"] == gpu], of=None if alike else gpu)
    return sorted(told, key=lambda each: (each.start_s, -1 if each.gpu is None else each.gpu))


def _of_gpu(axis: Axis, gpu: int, mine: pd.DataFrame, of: int | None) -> list[TimelineSpan]:
    start, end = (
        np.clip(axis.place(gpu, mine[name].to_numpy(np.int64)), 0, axis.span_ns)
        for name in ("start_ns", "end_ns")
    )
    phase = mine["phase"].to_numpy(object)
    some = end > start
    start, end, phase = start[some], end[some], phase[some]
    if not len(start):
        return []
    new = np.append(True, (phase[1:] != phase[:-1]) | (start[1:] > end[:-1]))
    if new.sum() > MOST_OF_ONE:
        at = start * MOST_OF_ONE // max(axis.span_ns, 1)
        new &= np.append(True, at[1:] != at[:-1])
    first = np.flatnonzero(new)
    last = np.append(first[1:], len(start))
    return [
        TimelineSpan(
            kind="phase",
            name=" and ".join(sorted(set(phase[low:high]))),
            gpu=of,
            start_s=float(start[low]) * 1e-9,
            end_s=float(end[low:high].max()) * 1e-9,
            steps=int(high - low),
        )
        for low, high in zip(first, last, strict=True)
    ]


def throttled(telemetry: Telemetry, axis: Axis, bin_ns: float) -> list[TimelineSpan]:
    """Return stretches in which a GPU said that it was throttled, by reason.

    A reading stands until the next one. Stretches closer to each other than a bin are one. The reason
    ``any`` of a GPU is told only where it names no other.
    """
    found: list[TimelineSpan] = []
    for gpu, samples in telemetry.gpus.items():
        if gpu in axis.lanes:
            found += _reasons(samples, axis, bin_ns)
    return found


def _reasons(samples: GpuSamples, axis: Axis, bin_ns: float) -> list[TimelineSpan]:
    told = []
    for reason, metric in sensors.REASONS.items():
        series = samples.get(metric)
        if series is not None and reason != "any":
            told += _stretches(samples.gpu, series, reason, axis, bin_ns)
    general = samples.get(sensors.REASONS["any"])
    if not told and general is not None:
        told = _stretches(samples.gpu, general, _ANY, axis, bin_ns)
    return told


def _stretches(gpu: int, series: Series, name: str, axis: Axis, bin_ns: float) -> list[TimelineSpan]:
    start = axis.place(gpu, series.times)
    longest = int(MOST_MISSING * series.period_ns)
    end = np.minimum(np.append(start[1:], start[-1] + int(series.period_ns)), start + longest)
    start, end = (np.clip(each, 0, axis.span_ns)[series.values > 0] for each in (start, end))
    some = end > start
    start, end = start[some], end[some]
    if not len(start):
        return []
    new = np.append(True, start[1:] - end[:-1] >= max(bin_ns, 1))
    first = np.flatnonzero(new)
    last = np.append(first[1:], len(start)) - 1
    return [
        TimelineSpan(
            kind="throttled",
            name=name,
            gpu=gpu,
            start_s=float(start[low]) * 1e-9,
            end_s=float(end[high]) * 1e-9,
        )
        for low, high in zip(first, last, strict=True)
    ]
