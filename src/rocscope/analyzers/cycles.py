"""Cycles beside seconds: each kernel's time in clocks of the GPU, where its clock was read while it ran."""

from __future__ import annotations

from typing import Final

import numpy as np

from rocscope import columns, metrics
from rocscope.analyzers import gpu_samples
from rocscope.analyzers.gpu_samples import LEAST_SAMPLES, Floats, Ints, Series, Telemetry
from rocscope.study import Study
from rocscope.wording import amount

CYCLES_SOURCE: Final = (
    "mean over dispatches of their time by the clock that was read around them, a straight line between "
    "readings"
)


class Cycles:
    """Adds the mean cycles of a dispatch, and a sentence of evidence with the clock."""

    name = "cycles"
    help = "cycles of a dispatch, where the clock was sampled"
    needs = ("gpu", "mean_ns", "perturbed", "measures_source", "evidence")
    adds = ("mean_cycles", "mean_clock_hz")  # NaN where the clock is not known

    def run(self, study: Study) -> None:
        """Interpolate the clock at the middle of each dispatch that lies between two readings."""
        # a column at a time makes a frame slow beyond a hundred of them, and pandas warns: lay them together
        frame = study.kernels = study.kernels.copy()
        frame["mean_cycles"] = frame["mean_clock_hz"] = np.nan
        found = dispatches(study)
        if found is None:
            return
        place, seconds, clock = found
        size = len(frame)
        ran = np.bincount(place, minlength=size)
        spent = np.bincount(place, weights=seconds, minlength=size)
        cycles = np.bincount(place, weights=seconds * clock, minlength=size)
        whole = (
            ran == frame["dispatches"].to_numpy()
        )  # of a part the mean would be another than that in seconds
        with np.errstate(invalid="ignore", divide="ignore"):
            frame["mean_cycles"] = np.where(whole & (ran > 0), cycles / ran, np.nan)
            frame["mean_clock_hz"] = np.where(whole & (spent > 0), cycles / spent, np.nan)
        _tell(study)


def dispatches(study: Study) -> tuple[Ints, Floats, Floats] | None:
    """Return row of ``study.kernels``, s and clock in Hz of each dispatch during which the clock is known.

    ``None`` where it never is, or times were taken under counters.
    """
    frame, telemetry = study.kernels, Telemetry.read(study.capture)
    if telemetry.unrelated or frame.empty or frame["perturbed"].any():
        return None
    clocks = {gpu: each.get("clock_hz") for gpu, each in telemetry.gpus.items()}
    known = {gpu: series for gpu, series in clocks.items() if series is not None and _often(study, series)}
    if not known:
        return None
    rows = metrics.timing(study.capture).rows
    place = metrics.members(study.capture, frame, study.placed)
    gpu, start, end, count = (columns.ints(rows[name]) for name in ("gpu", "start_ns", "end_ns", "count"))
    placed = rows["start_ns"].is_valid().to_numpy(zero_copy_only=False) & (end >= start) & (count == 1)
    at = np.full(len(gpu), np.nan)
    for each, series in known.items():
        mine = (gpu == each) & placed
        at[mine] = nearby(series, start[mine] + (end[mine] - start[mine]) // 2)
    good = np.isfinite(at) & (place >= 0)
    return place[good], (end - start)[good] * 1e-9, at[good]


def nearby(series: Series, times: Ints) -> Floats:
    """Return the value at each time by a straight line; NaN beyond a gap, or a period before and after."""
    period = series.period_ns
    after = np.searchsorted(series.times, times)
    low, high = np.clip(after - 1, 0, len(series.times) - 1), np.clip(after, 0, len(series.times) - 1)
    base = series.times[0]  # differences alone are exact as floats
    value = np.interp((times - base).astype(float), (series.times - base).astype(float), series.values)
    nearest = np.minimum(np.abs(times - series.times[low]), np.abs(series.times[high] - times))
    wide = (series.times[high] - series.times[low]) > gpu_samples.MOST_MISSING * period
    found: Floats = np.where((nearest <= period) & ~wide, value, np.nan)
    return found


def _often(study: Study, series: Series) -> bool:
    window = gpu_samples.window_ns(study.capture)
    return window is not None and len(series.between(*window).times) >= LEAST_SAMPLES


def _tell(study: Study) -> None:
    import pandas as pd

    frame = study.kernels
    sources = {"mean_cycles": CYCLES_SOURCE, "mean_clock_hz": CYCLES_SOURCE}
    measured, evidence = [], []
    for cycles, clock, source, told in zip(
        *(frame[name] for name in ("mean_cycles", "mean_clock_hz", "measures_source", "evidence")),
        strict=True,
    ):
        known = not np.isnan(cycles)
        sentence = (
            [f"{amount(cycles, 'cycles')} a dispatch at {amount(clock, 'Hz')} [cycles]"] if known else []
        )
        measured.append({**source, **sources} if known else source)
        # the last sentence stays the limiter's: targets repeat it
        evidence.append([*told[:-1], *sentence, *told[-1:]])
    frame["measures_source"] = pd.Series(measured, index=frame.index, dtype=object)
    frame["evidence"] = pd.Series(evidence, index=frame.index, dtype=object)


ANALYZER = Cycles()
