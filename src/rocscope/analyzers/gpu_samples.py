"""Readings of a GPU's sensors over time: series by metric, and energy between any two moments.

Nothing here attributes: a reading is of a GPU at a moment, ten times a second at most, and kernels last
microseconds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from rocscope import intervals, metrics
from rocscope.capture import Capture, unrelated
from rocscope.thresholds import thresholds

LEAST_SAMPLES: Final = 5  # in a window: fewer say nothing of it
MOST_MISSING: Final = 3.0  # periods without a reading that are still bridged by a straight line
LEAST_COVERED_FRAC: Final = 0.8  # of a window, for the rest to be taken as alike
SETTLING_NS: Final = 1_000_000_000
"""Power sensors average, the recorded H200's over a second: so long a reading holds what was before."""
LEAST_BY_POWER_S: Final = 2.0  # shorter windows are mostly what was before, by power readings

_SUBJECT: Final = re.compile(r"gpu:(\d{1,4})")
_PHASE: Final = "phase:"
_DEVICE: Final = "device:"
_COUNTER: Final = "energy counter"

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Series:
    """One metric: times in ns of the capture's clock, rising, and a value at each."""

    times: Ints
    values: Floats

    def between(self, first_ns: int, last_ns: int) -> Series:
        """Return the readings from ``first_ns`` to ``last_ns``, both included."""
        low, high = np.searchsorted(self.times, [first_ns, last_ns + 1])
        return Series(self.times[low:high], self.values[low:high])

    @property
    def period_ns(self) -> float:
        """Median time from one reading to the next; 0 with fewer than two."""
        return float(np.median(np.diff(self.times))) if len(self.times) > 1 else 0.0


@dataclass(frozen=True)
class GpuSamples:
    """All that was read of one GPU."""

    gpu: int
    sources: tuple[str, ...]  # amdsmi, sysfs, nvml, file
    series: dict[str, Series]

    def get(self, metric: str) -> Series | None:
        """Return the series of ``metric``, ``None`` where it was not sampled."""
        return self.series.get(metric)


@dataclass(frozen=True)
class Telemetry:
    """GPUs' readings, phases that a file marked, and why times may not be set against kernels."""

    gpus: dict[int, GpuSamples]
    phases: dict[str, tuple[int, int]] = field(default_factory=dict)  # first and last reading, ns
    unrelated: str | None = None
    unmatched: tuple[str, ...] = ()  # subjects of cards that are none of the recording's

    @classmethod
    def read(cls, capture: Capture) -> Telemetry:
        """Take the readings of GPUs out of the table ``samples``."""
        samples = capture.samples
        gpus, phases, others = {}, {}, []
        for subject in names(samples, "subject"):
            found = _SUBJECT.fullmatch(subject)
            if found or subject.startswith((_PHASE, _DEVICE)):
                rows = pick(samples, "subject", subject)
            if found:
                read = _of_gpu(int(found[1]), rows)
                if read.series:  # not where no reading of it is a number
                    gpus[read.gpu] = read
            elif subject.startswith(_PHASE):
                span = pc.min_max(rows["time_ns"]).as_py()
                phases[subject.removeprefix(_PHASE)] = (span["min"], span["max"])
            elif subject.startswith(_DEVICE):
                others.append(subject.removeprefix(_DEVICE))
        return cls(dict(sorted(gpus.items())), phases, unrelated(capture.manifest), tuple(sorted(others)))


def names(rows: pa.Table, column: str) -> list[str]:
    """Return the distinct texts of a column, sorted."""
    found: list[str] = pc.unique(rows[column]).cast(pa.string()).drop_null().to_pylist()
    return sorted(found)


def pick(rows: pa.Table, column: str, text: str) -> pa.Table:
    """Return the rows whose dictionary column holds ``text``. Codes are compared, not texts."""
    masks = [
        pc.equal(chunk.indices, known.index(text) if text in known else -1)
        for chunk in rows[column].chunks
        for known in [chunk.dictionary.to_pylist()]
    ]
    return rows.filter(pa.chunked_array(masks, pa.bool_()))


def window_ns(capture: Capture) -> tuple[int, int] | None:
    """Return the window that is analysed, ns; ``None`` where none is marked and no kernel has a time."""
    if capture.manifest.window_ns is not None:
        return capture.manifest.window_ns
    if not capture.dispatches.num_rows:
        return None
    rows = metrics.timing(capture).rows
    first, last = pc.min(rows["start_ns"]).as_py(), pc.max(rows["end_ns"]).as_py()
    return None if first is None or last is None else (first, last)


def work(capture: Capture) -> dict[int, tuple[Ints, Ints]]:
    """Return when each GPU worked: starts and ends of runs of kernels with no pause beyond a launch gap."""
    rows = metrics.timing(capture).rows.select(["gpu", "start_ns", "end_ns"])
    rows = rows.filter(pc.greater_equal(rows["end_ns"], rows["start_ns"]))  # null where not placed: left out
    line = thresholds().timeline.launch_gap_s.value * 1e9
    found = {}
    for gpu in pc.unique(rows["gpu"]).to_pylist():
        mine = rows.filter(pc.equal(rows["gpu"], gpu))
        busy = intervals.clusters(mine["start_ns"].to_numpy(), mine["end_ns"].to_numpy())
        long = busy.gaps_ns > line
        found[int(gpu)] = (busy.starts[np.append(True, long)], busy.ends[np.append(long, True)])
    return found


def busy_ns(capture: Capture, gpu: int) -> int:
    """Return the time in which at least one kernel ran on ``gpu``."""
    rows = metrics.timing(capture).rows.select(["gpu", "start_ns", "end_ns"])
    rows = rows.filter(
        pc.and_(pc.equal(rows["gpu"], gpu), pc.greater_equal(rows["end_ns"], rows["start_ns"]))
    )
    return intervals.union_ns(rows["start_ns"].to_numpy(), rows["end_ns"].to_numpy())


def _of_gpu(gpu: int, rows: pa.Table) -> GpuSamples:
    series = {}
    for metric in names(rows, "metric"):
        mine = pick(rows, "metric", metric)
        times, values = mine["time_ns"].to_numpy(), mine["value"].to_numpy()
        good = np.isfinite(values)
        times, first = np.unique(times[good], return_index=True)  # of readings at one moment the first
        if len(times):
            series[metric] = Series(times.astype(np.int64), values[good][first].astype(np.float64))
    return GpuSamples(gpu, tuple(names(rows, "source")), series)


@dataclass(frozen=True)
class Meter:
    """Energy since the first reading as a function of time, with the time for which it is known.

    Between readings power runs in a straight line (of power), or is constant (of an energy counter). Before
    the first and after the last it is held for one period at most. Across more than
    :data:`MOST_MISSING` periods without a power reading nothing is known; a counter counts on all the same.
    """

    basis_of: str  # "energy counter" or "power, integrated by trapezoid"
    base_ns: int
    nodes: Floats  # s since base_ns
    left: Floats  # W at the beginning of each segment, one less than nodes
    right: Floats  # W at its end
    known: NDArray[np.bool_]  # of each segment
    period_s: float

    @property
    def counts(self) -> bool:
        """Whether an energy counter told it, which knows where power readings average."""
        return self.basis_of == _COUNTER

    @classmethod
    def of_power(cls, power: Series) -> Meter:
        """Integrate power by trapezoid. There must be two readings."""
        nodes = (power.times - power.times[0]) * 1e-9
        known = np.diff(power.times) <= MOST_MISSING * power.period_ns
        return cls(
            "power, integrated by trapezoid",
            int(power.times[0]),
            nodes,
            power.values[:-1],
            power.values[1:],
            known,
            power.period_ns * 1e-9,
        )

    @classmethod
    def of_counter(cls, energy: Series) -> Meter | None:
        """Follow an energy counter in J; ``None`` where it falls, as it then began anew."""
        used = np.diff(energy.values)
        if len(used) < 1 or (used < 0).any() or not used.any():
            return None
        nodes = (energy.times - energy.times[0]) * 1e-9
        power = used / np.diff(nodes)
        period = energy.period_ns * 1e-9
        everywhere = np.ones(len(used), bool)
        return cls(_COUNTER, int(energy.times[0]), nodes, power, power, everywhere, period)

    def between(self, first_ns: Ints, last_ns: Ints) -> tuple[Floats, Floats]:
        """Return J used from each of ``first_ns`` to each of ``last_ns``, and s of that which are known."""
        joules, seconds = zip(*(self._until(each) for each in (first_ns, last_ns)), strict=True)
        return joules[1] - joules[0], seconds[1] - seconds[0]

    def _until(self, time_ns: Ints) -> tuple[Floats, Floats]:
        """Return J and known s from one period before the first reading until each moment."""
        lengths = np.diff(self.nodes)
        parts = np.where(self.known, (self.left + self.right) / 2 * lengths, 0.0)
        energy = np.concatenate(([0.0], np.cumsum(parts)))
        known = np.concatenate(([0.0], np.cumsum(np.where(self.known, lengths, 0.0))))
        time = (np.asarray(time_ns, np.int64) - self.base_ns) * 1e-9
        at = np.clip(np.searchsorted(self.nodes, time, side="right") - 1, 0, len(lengths) - 1)
        into = np.clip(time - self.nodes[at], 0.0, lengths[at])
        slope = (self.right[at] - self.left[at]) / lengths[at]
        inside = np.where(self.known[at], into, 0.0)
        joules = energy[at] + inside * self.left[at] + slope * inside**2 / 2
        seconds = known[at] + inside
        before = np.clip(time, -self.period_s, 0.0) + self.period_s  # s of the period held before the first
        after = np.clip(time - self.nodes[-1], 0.0, self.period_s)
        return joules + before * self.left[0] + after * self.right[-1], seconds + before + after
