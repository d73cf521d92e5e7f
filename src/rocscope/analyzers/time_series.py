"""What was sampled, on the axis of the kernels: sensors of GPUs, requests and tokens of the server."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from rocscope.analyzers.gpu_samples import MOST_MISSING, Series, Telemetry
from rocscope.analyzers.time_axis import Axis
from rocscope.findings import TimelineSeries
from rocscope.serving_metrics import Scrapes

_SENSORS: Final = {
    "power": ("W", ("power_w",)),
    "clock": ("Hz", ("clock_hz",)),
    "memory clock": ("Hz", ("memory_clock_hz",)),
    "temperature": ("°C", ("temperature_hotspot_c", "temperature_edge_c")),  # the first that was sampled
}
_GAUGES: Final = {
    "requests running": ("", "requests_running"),
    "requests waiting": ("", "requests_waiting"),
    "KV cache used": ("share", "kv_cache_used_frac"),
}
_RATES: Final = {"tokens generated": "generation_tokens", "prompt tokens": "prompt_tokens"}
_OF_SERVER: Final = "the server's /metrics"
_DIGITS: Final = 6  # significant; sensors have fewer
Floats = NDArray[np.float64]


def sensors(telemetry: Telemetry, axis: Axis, bin_ns: float) -> list[TimelineSeries]:
    """Return power, clocks and temperature of the GPUs that are on the axis."""
    found = []
    for gpu, samples in telemetry.gpus.items():
        if gpu not in axis.lanes:
            continue
        for name, (unit, metrics) in _SENSORS.items():
            metric = next((each for each in metrics if samples.get(each) is not None), None)
            series = samples.get(metric) if metric else None
            points = _points(_placed(series, axis, gpu), axis.span_ns, bin_ns) if series else None
            if points is not None:
                source = f"{', '.join(samples.sources)}: {metric}"
                found.append(_told(name, unit, gpu, source, points))
    return found


def server(scrapes: Scrapes | None, axis: Axis, bin_ns: float) -> list[TimelineSeries]:
    """Return requests, cache use and tokens a second, where a server's metrics were read as kernels ran."""
    if scrapes is None or not scrapes.timed:
        return []
    found = []
    for name, (unit, metric) in _GAUGES.items():
        found.append((name, unit, metric, _known(scrapes.times, scrapes.column(metric))))
    for name, metric in _RATES.items():
        found.append((name, "tokens/s", metric, _rate(scrapes, metric)))
    told = []
    for name, unit, metric, series in found:
        points = _points(_placed(series, axis, None), axis.span_ns, bin_ns)
        if points is not None:
            told.append(_told(name, unit, None, f"{_OF_SERVER}: {metric}", points))
    return told


def _known(times: NDArray[np.int64], values: Floats) -> Series:
    good = np.isfinite(values)
    return Series(times[good], values[good])


def _rate(scrapes: Scrapes, metric: str) -> Series:
    """Return by how much a total grew a second, between two scrapes; not where it fell, as it began anew."""
    total = _known(scrapes.times, scrapes.column(metric))
    grown, passed = np.diff(total.values), np.diff(total.times)
    good = (grown >= 0) & (passed > 0)
    return Series((total.times[:-1] + passed // 2)[good], grown[good] / passed[good] * 1e9)


def _placed(series: Series, axis: Axis, gpu: int | None) -> Series:
    return Series(axis.place(gpu, series.times), series.values)


def _points(series: Series, span_ns: int, bin_ns: float) -> tuple[Floats, Floats] | None:
    """Return times in ns and values, NaN where readings are missing; ``None`` without two readings."""
    inside = series.between(0, span_ns)
    if len(inside.times) < 2:
        return None
    if series.period_ns >= bin_ns:
        return _readings(inside, series.period_ns)
    at = np.minimum((inside.times / bin_ns).astype(np.int64), int(span_ns / bin_ns + 0.5) - 1)
    first = int(at[0])
    at = at - first
    count = np.bincount(at)
    with np.errstate(invalid="ignore"):
        means: Floats = np.bincount(at, weights=inside.values).astype(np.float64) / count
    times: Floats = (np.arange(len(count), dtype=np.float64) + first + 0.5) * bin_ns
    return times, means


def _readings(series: Series, period_ns: float) -> tuple[Floats, Floats]:
    """Return each reading, and a NaN in the middle of a stretch without any."""
    missed = np.flatnonzero(np.diff(series.times) > MOST_MISSING * period_ns)
    middle = (series.times[missed] + series.times[missed + 1]) / 2
    times = np.insert(series.times.astype(np.float64), missed + 1, middle)
    return times, np.insert(series.values, missed + 1, np.nan)


def _told(
    name: str, unit: str, gpu: int | None, source: str, points: tuple[Floats, Floats]
) -> TimelineSeries:
    times, values = points
    return TimelineSeries(
        name=name,
        unit=unit,
        gpu=gpu,
        source=source,
        time_s=[round(float(each) * 1e-9, 9) for each in times],
        value=[None if np.isnan(each) else float(f"{each:.{_DIGITS}g}") for each in values],
    )
