"""What else the sensors say while kernels ran: clocks, throttling, temperature, memory, links, errors."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from rocscope import intervals
from rocscope.analyzers import gpu_samples
from rocscope.analyzers.gpu_samples import LEAST_SAMPLES, GpuSamples, Series, Telemetry
from rocscope.study import Study

CLOCKS: Final = ("clock_hz", "memory_clock_hz", "soc_clock_hz")
REASONS: Final = {
    "any": "throttled",
    "power": "throttled_power",
    "thermal": "throttled_thermal",
    "current": "throttled_current",
    "reliability": "throttled_reliability",
}
_TEMPERATURES: Final = ("temperature_hotspot_c", "temperature_edge_c", "temperature_memory_c")
_MEANS: Final = ("busy_frac", "memory_busy_frac", "fan_rpm", "pcie_bytes_per_s")
_TOTALS: Final = ("xgmi_read_bytes", "xgmi_write_bytes")
_ERRORS: Final = ("ecc_correctable", "ecc_uncorrectable")
Work = tuple[NDArray[np.int64], NDArray[np.int64]]


class Sensors:
    """Puts clocks, throttling, temperatures, memory and errors into ``telemetry``; no columns."""

    name = "sensors"
    help = "clocks, throttling, temperatures and memory errors of each GPU while kernels ran"
    needs = ("gpu", "wall_ns")
    adds = ()

    def run(self, study: Study) -> None:
        """Add to each GPU's entry what was sampled of it; warn of memory errors."""
        telemetry = Telemetry.read(study.capture)
        window = gpu_samples.window_ns(study.capture) if telemetry.unrelated is None else None
        runs = gpu_samples.work(study.capture) if telemetry.unrelated is None else {}
        for gpu, samples in telemetry.gpus.items():
            entries: list[dict[str, Any]] = study.telemetry.setdefault("gpus", [])
            entry = next((each for each in entries if each["gpu"] == gpu), None)
            if entry is None:
                entries.append(entry := {"gpu": gpu})
            spec = study.specs.get(gpu)
            peak = spec.clock_hz if spec is not None else None
            for name in CLOCKS:
                entry[name] = clock(samples.get(name), window, runs.get(gpu))
            if entry["clock_hz"] is not None:
                entry["clock_hz"]["peak"] = peak.value if peak else None
                entry["clock_hz"]["peak_source"] = peak.source if peak else None
            entry["throttled_frac"] = throttled(samples, window, runs.get(gpu))
            entry |= _others(samples, window)
            entry["ecc"] = _errors(study, gpu, samples, window)


def at_work(series: Series, window: tuple[int, int] | None, runs: Work | None) -> Series:
    """Return the readings that were taken while kernels ran; without kernels all of the window."""
    inside = series.between(*window) if window else series
    if runs is None:
        return inside
    rows = intervals.inside(inside.times, *runs) >= 0
    return Series(inside.times[rows], inside.values[rows])


def clock(series: Series | None, window: tuple[int, int] | None, runs: Work | None) -> dict[str, Any] | None:
    """Return a clock while kernels ran, Hz; ``None`` where it was sampled too seldom then.

    Readings between kernels do not count, as a GPU without work lowers its clock by itself.
    """
    if series is None:
        return None
    inside = series.between(*window) if window else series
    working = at_work(series, window, runs).values
    if len(working) < LEAST_SAMPLES:
        return None
    low, median, high = (float(each) for each in np.percentile(working, (5, 50, 95)))
    return {
        "mean": float(working.mean()),
        "median": median,
        "low": low,
        "high": high,
        "lowest": float(working.min()),
        "highest": float(inside.values.max()),
        "readings": len(working),
        "basis": "measured",
        "source": (
            "readings while kernels ran; low and high are the 5th and 95th percentile"
            if runs is not None
            else "all readings: which of them were taken while kernels ran is not known"
        ),
    }


def throttled(
    samples: GpuSamples, window: tuple[int, int] | None, runs: Work | None
) -> dict[str, float | None]:
    """Return the share of readings at work in which the GPU said that it was throttled, by reason."""
    found: dict[str, float | None] = {}
    for reason, metric in REASONS.items():
        series = samples.get(metric)
        working = at_work(series, window, runs).values if series else np.empty(0)
        found[reason] = float((working > 0).mean()) if len(working) >= LEAST_SAMPLES else None
    return found


def _others(samples: GpuSamples, window: tuple[int, int] | None) -> dict[str, Any]:
    told: dict[str, Any] = {}
    for name in (*_TEMPERATURES, *_MEANS, "vram_used_bytes"):
        series = samples.get(name)
        values = (series.between(*window) if window else series).values if series else np.empty(0)
        told[name] = {"mean": float(values.mean()), "most": float(values.max())} if len(values) else None
    total = samples.get("vram_total_bytes")
    told["vram_total_bytes"] = float(total.values[-1]) if total else None
    for name in _TOTALS:
        series = samples.get(name)
        inside = (series.between(*window) if window else series) if series else None
        grown = float(inside.values[-1] - inside.values[0]) if inside and len(inside.times) > 1 else None
        told[name] = grown if grown is not None and grown >= 0 else None  # it fell: the driver began anew
    return told


def _errors(
    study: Study, gpu: int, samples: GpuSamples, window: tuple[int, int] | None
) -> dict[str, dict[str, float]] | None:
    """Return memory errors counted before and during the run. They are read seldom: all readings count."""
    found: dict[str, dict[str, float]] = {}
    for name in _ERRORS:
        series = samples.get(name)
        if series is None:
            continue
        kind = name.removeprefix("ecc_")
        grown = float(series.values[-1] - series.values[0])
        found[kind] = {"total": float(series.values[-1]), "grown": max(0.0, grown)}
        if grown > 0:
            effect = (
                "results of this run may be wrong"
                if kind == "uncorrectable"
                else "they were corrected, but such a card is about to need care"
            )
            study.warn(f"ecc-{kind}", f"GPU {gpu} counted {grown:.0f} {kind} memory errors: {effect}")
    return found or None


ANALYZER = Sensors()
