"""Energy against power and time, clocks and power against what the card can have."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa

from rocscope.capture import Capture
from rocscope.hardware import GpuSpec
from rocscope.validation.truth import Truth
from rocscope.validation.verdict import Verdict, absent, judge, not_run

if TYPE_CHECKING:
    import pandas as pd

SETTLE_NS: Final = 1_500_000_000  # power is a mean over about a second on some cards
FEWEST: Final = 5  # readings
CLOSE_FRAC: Final = 0.10
ABOVE_FRAC: Final = 1.10  # of the cap: it holds a mean, and single readings pass it
SOURCES: Final = ("amdsmi", "sysfs", "nvml")
_CHECKS: Final = ("energy", "power", "clock")


def power(capture: Capture, truth: Truth, trial: str) -> Iterator[Verdict]:
    """Hold the readings of the window in which the card was kept busy against each other."""
    if truth.energy is None:
        for check in _CHECKS:
            yield not_run(check, trial, "no kernel kept the card busy for a while")
        return
    began = truth.energy.start_boottime_ns + SETTLE_NS
    readings = _readings(capture, truth.device.index)
    readings = readings[
        (readings["time_ns"] >= began) & (readings["time_ns"] <= truth.energy.end_boottime_ns)
    ]
    if readings.empty:
        told = [each.message for each in capture.manifest.notices if each.code.startswith("telemetry")]
        for check in _CHECKS:
            yield not_run(check, trial, "the card's sensors could not be read", detail="; ".join(told))
        return
    series = {str(name): rows for name, rows in readings.groupby("metric")}
    yield _energy(series, trial)
    yield _cap(series, trial)
    yield _clock(series, truth.device.spec(), trial)


def _readings(capture: Capture, index: int) -> pd.DataFrame:
    import pandas as pd

    table = capture.samples
    frame = pd.DataFrame(
        {
            "time_ns": table["time_ns"].to_numpy(),
            "value": table["value"].to_numpy(),
            **{name: table[name].cast(pa.string()).to_pylist() for name in ("source", "subject", "metric")},
        }
    )
    frame = frame[frame["source"].isin(SOURCES) & (frame["subject"] == f"gpu:{index}")]
    return frame.sort_values("time_ns")


def _energy(series: dict[str, pd.DataFrame], trial: str) -> Verdict:
    energy, power = series.get("energy_j"), series.get("power_w")
    if energy is None or power is None or len(energy) < FEWEST or len(power) < FEWEST:
        return absent("energy", trial, "this card or driver tells not both energy and power often enough")
    first, last = energy["time_ns"].iloc[0], energy["time_ns"].iloc[-1]
    inside = power[(power["time_ns"] >= first) & (power["time_ns"] <= last)]
    if len(inside) < FEWEST:
        return absent("energy", trial, "too few readings of power between those of energy")
    used = float(energy["value"].iloc[-1] - energy["value"].iloc[0])
    at, watts = inside["time_ns"].to_numpy(float) / 1e9, inside["value"].to_numpy(float)
    mean = float(np.sum((watts[1:] + watts[:-1]) / 2 * np.diff(at)) / (at[-1] - at[0]))
    seconds = float(last - first) / 1e9
    expected = mean * seconds
    return judge(
        abs(used - expected) <= CLOSE_FRAC * expected,
        "energy",
        trial,
        expected=f"{expected:.1f} J +- 10 % = {mean:.1f} W x {seconds:.2f} s",
        seen=f"{used:.1f} J",
    )


def _cap(series: dict[str, pd.DataFrame], trial: str) -> Verdict:
    power, cap = series.get("power_w"), series.get("power_cap_w")
    if power is None or cap is None:
        return absent("power", trial, "power or its cap is not told by this card or driver")
    most, limit = float(power["value"].max()), float(cap["value"].max())
    return judge(
        0 < most <= ABOVE_FRAC * limit,
        "power",
        trial,
        expected=f"above 0 and at most {ABOVE_FRAC * limit:.0f} W, 110 % of the cap",
        seen=f"at most {most:.0f} W",
    )


def _clock(series: dict[str, pd.DataFrame], spec: GpuSpec | None, trial: str) -> Verdict:
    clock = series.get("clock_hz")
    if clock is None or spec is None:
        return absent("clock", trial, "the clock, or what the card's can be, is not known")
    least, most = float(clock["value"].min()), float(clock["value"].max())
    peak = spec.clock_hz.value
    return judge(
        0.1 * peak <= least and most <= 1.05 * peak,
        "clock",
        trial,
        expected=f"{0.1 * peak / 1e6:.0f} to {1.05 * peak / 1e6:.0f} MHz under load",
        seen=f"{least / 1e6:.0f} to {most / 1e6:.0f} MHz",
    )
