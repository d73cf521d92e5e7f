"""What the launching process did while the GPU paused: its CPU by samples, its thread's calls by spans."""

from __future__ import annotations

import re
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from rocscope import columns, intervals
from rocscope.analyzers import clocks, gpu_samples, host
from rocscope.capture import unrelated
from rocscope.study import Study
from rocscope.wording import percent

_MOSTLY: Final = 0.5  # of the time between two readings: then the reading is of a pause
_LEAST_READINGS: Final = 5
_LEAST_TIME_FRAC: Final = 0.2  # of the pauses that such readings must cover, to speak for them
_FULL_CORE: Final = 0.9
_ASLEEP: Final = 0.1
_NAMED: Final = 3
_LEAST_SHARE: Final = 0.05
_LONGEST_NAME: Final = 80
_WAITING: Final = re.compile(r"synchroni[sz]e|StreamWait|EventQuery|hsa_signal_wait", re.IGNORECASE)
Ints = NDArray[np.int64]


def sentences(study: Study, gpu: int, starts: Ints, ends: Ints) -> list[str]:
    """Say what samples and spans tell of the pauses from ``starts`` to ``ends``, if they tell anything."""
    return [*_cpu(study, gpu, starts, ends), *_calls(study, gpu, starts, ends)]


def _cpu(study: Study, gpu: int, starts: Ints, ends: Ints) -> list[str]:
    """Weigh the process's CPU readings by the pause that lies in each; they cover the time since the last."""
    capture = study.capture
    subject = host.launchers(capture).get(gpu)
    if unrelated(capture.manifest) or subject is None:
        return []
    rows = gpu_samples.pick(capture.samples, "subject", subject)
    cpu = host.series(rows, "cpu_frac")
    if cpu is None or len(cpu.times) < 2:
        return []
    first, last = cpu.times[:-1], cpu.times[1:]
    paused = intervals.overlap(first, last, starts, ends)
    good = paused >= _MOSTLY * (last - first)
    lost = float((ends - starts).sum())
    if good.sum() < _LEAST_READINGS or paused[good].sum() < _LEAST_TIME_FRAC * lost:
        return []
    used = float(np.average(cpu.values[1:][good], weights=paused[good]))
    what = (
        "it computed on the host, so Python or other host code is what the GPU waits for"
        if used >= _FULL_CORE
        else "it slept, so it waited for something: requests, other processes, I/O"
        if used <= _ASLEEP
        else "it computed for a part of the time and waited for the rest"
    )
    named = subject.split(":", 2)[2][:_LONGEST_NAME] or "unnamed"
    return [
        f"the process that launches ({named}) used {percent(used)} of a core in the pauses: {what} "
        f"({int(good.sum())} readings, {percent(float(paused[good].sum()) / lost)} of the pauses) "
        "[stalls-cpu]"
    ]


def _calls(study: Study, gpu: int, starts: Ints, ends: Ints) -> list[str]:
    """Say how much of the pauses the launching thread spent within calls of the GPU's API, and which."""
    spans = study.capture.spans
    spans = spans.filter(columns.holds(spans["kind"], "api".__eq__))
    processes = study.capture.dispatches.filter(pc.equal(study.capture.dispatches["gpu"], gpu))["process"]
    spans = spans.filter(pc.is_in(spans["process"], pc.unique(processes)))
    launches = spans.filter(columns.holds(spans["name"], lambda name: bool(clocks.LAUNCH.search(name))))
    threads = pc.value_counts(launches["thread"].drop_null())
    if not len(threads):
        return []
    counted = sorted(zip(threads.field(1).to_pylist(), threads.field(0).to_pylist(), strict=True))
    mine = spans.filter(pc.equal(spans["thread"], counted[-1][1]))
    first, last = mine["start_ns"].to_numpy(), mine["end_ns"].to_numpy()
    if (last < first).any():
        return []
    merged = intervals.clusters(first, last)
    lost = float((ends - starts).sum())
    within = float(intervals.overlap(merged.starts, merged.ends, starts, ends).sum())
    named = _by_name(mine["name"], intervals.overlap(first, last, starts, ends), lost)
    between = max(0.0, 1 - within / lost)
    waits = sum(share for name, share in named if _WAITING.search(name))
    what = (
        ": it computes between calls"
        if between >= 0.75
        else ": it waits within them"
        if waits >= _MOSTLY
        else ""
    )
    listed = ", ".join(f"{name[:_LONGEST_NAME]} {percent(share)}" for name, share in named[:_NAMED])
    inside = f" ({listed})" if listed else ""
    return [
        f"the thread that launches was within API calls for {percent(min(1.0, within / lost))} of the "
        f"pauses{inside} and outside of any for {percent(between)}{what} [stalls-api]"
    ]


def _by_name(names: pa.ChunkedArray, inside: NDArray[np.float64], lost: float) -> list[tuple[str, float]]:
    table = pa.table({"name": names.cast(pa.string()), "time": inside}).group_by("name")
    sums = table.aggregate([("time", "sum")])
    shares = zip(sums["name"].to_pylist(), sums["time_sum"].to_pylist(), strict=True)
    found = [(name, time / lost) for name, time in shares if time >= _LEAST_SHARE * lost]
    return sorted(found, key=lambda each: (-each[1], each[0]))
