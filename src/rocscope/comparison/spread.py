"""How far a mean over steps can be off: spread, steps that resemble their neighbours, drift, the timer.

For each column of a matrix [steps, columns]:

* successive steps are not independent: with a lag-one correlation r of the detrended series, corrected for
  its bias (Kendall 1954) and taken at the upper end of its error, n count for n (1 - r) / (1 + r);
* a recording may drift, or wander about: by what its trend moves it from first to last, D, and how far its
  quarters lie apart beyond that, each less what chance makes. Another may begin where it ends: a variance
  of D^2 / 4, and 2.4 times that of the means of quarters (which is as much for a straight drift);
* a timer that shows each dispatch of a column in the same tick every time says nothing finer than the tick.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_LEAST_FOR_ORDER: Final = 8  # steps from which their order says something
_MOST_ALIKE: Final = 0.97
_LEAST_STEPS: Final = 2.0  # that a series counts for, however alike its steps are
_QUARTERS: Final = 4
_DRIFT_BY_CHANCE: Final = 4.0  # times the variance of a drift that steps explain: 1 in 20 has more by chance
_WANDER_BY_CHANCE: Final = 3.0  # times the variance of quarters that steps explain: 1 in 30
_WANDER: Final = 2.4  # times the variance of the means of quarters: D^2 / 4 of a straight drift by D


@dataclass(frozen=True)
class Spread:
    """Means and what is known of their errors; arrays of [columns]."""

    mean: Floats
    variance: Floats  # of the mean; NaN of a single step
    degrees: Floats  # of freedom of the variance
    floor: Floats  # part of the variance that is the timer's
    wander: Floats  # part of it that is drift and wandering

    def plus(self, variance: Floats) -> Spread:
        """Return it with a variance more."""
        return replace(self, variance=self.variance + variance)


def of_steps(values: Floats, calls: Floats, tick_ns: float) -> Spread:
    """Return the spread of the means over successive steps; ``calls`` a step are of each column."""
    count, width = values.shape
    mean = values.mean(axis=0)
    floor = timer(values, calls, tick_ns)
    if count < 2:
        nothing = np.full(width, np.nan)
        return Spread(mean, nothing, nothing, floor, np.zeros(width))
    square = values.var(axis=0, ddof=1)
    worth, wander = np.full(width, float(count)), np.zeros(width)
    if count >= _LEAST_FOR_ORDER:
        worth, wander = _order(values - mean)
    return Spread(mean, square / worth + wander + floor, worth - 1, floor, wander)


def timer(values: Floats, calls: Floats, tick_ns: float) -> Floats:
    """Return the variance that the timer's tick leaves in each mean.

    Where the spread within a column is above half a tick a dispatch, ticks average out and are in it.
    """
    steady = values.std(axis=0) < tick_ns / 2 * np.sqrt(np.maximum(calls, 1))
    found: Floats = np.where(steady, (calls * tick_ns) ** 2 / 12, 0.0)
    return found


def _order(deviation: Floats) -> tuple[Floats, Floats]:
    """Return how many independent steps each column is worth, and the variance that it may wander by."""
    count = len(deviation)
    moment = np.arange(count) - (count - 1) / 2
    slope = moment @ deviation / (moment @ moment)
    rest = deviation - moment[:, None] * slope
    power = (rest * rest).sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        alike = np.where(power > 0, (rest[1:] * rest[:-1]).sum(axis=0) / power, 0.0)
    alike = alike + (2 + 4 * alike) / count  # of a series less its mean and its trend
    error = np.sqrt(np.maximum(1 - alike * alike, 0.0) / count)
    alike = np.where(alike > error, np.clip(alike + error, 0, _MOST_ALIKE), 0.0)
    worth = np.maximum(count * (1 - alike) / (1 + alike), _LEAST_STEPS)
    of_mean = power / max(1, count - 2) / worth  # variance
    drift = np.maximum((slope * count) ** 2 - _DRIFT_BY_CHANCE * 12 * of_mean, 0.0) / 4
    edges = np.linspace(0, count, _QUARTERS + 1).astype(np.int64)
    means = np.add.reduceat(rest, edges[:-1], axis=0) / np.diff(edges)[:, None]
    apart = means.var(axis=0, ddof=1) - _WANDER_BY_CHANCE * _QUARTERS * of_mean
    return worth, drift + _WANDER * np.maximum(apart, 0.0)
