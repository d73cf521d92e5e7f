"""How far a mean over steps can be off: spread, steps that resemble their neighbours, drift, the timer.

For each column of a matrix [steps, columns]:

* successive steps are not independent: with a lag-one correlation r of the detrended series, corrected for
  its bias (Kendall 1954), their number counts for n (1 - r) / (1 + r);
* a recording that drifts by D from its first step to its last, beyond what chance makes of n steps, could
  have been taken at another moment of the drift: D^2 / 12 more variance, that of any moment of it;
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
_BY_CHANCE: Final = 4.0  # a drift's square, in units of its variance, that chance alone may make
_LEAST_STEPS: Final = 2.0  # that a series counts for, however alike its steps are


@dataclass(frozen=True)
class Spread:
    """Means and what is known of their errors; arrays of [columns]."""

    mean: Floats
    variance: Floats  # of the mean; NaN of a single step
    degrees: Floats  # of freedom of the variance
    floor: Floats  # part of the variance that is the timer's

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
        return Spread(mean, nothing, nothing, floor)
    square = values.var(axis=0, ddof=1)
    worth, drift = np.full(width, float(count)), np.zeros(width)
    if count >= _LEAST_FOR_ORDER:
        worth, drift = _order(values - mean, square)
    return Spread(mean, square / worth + drift + floor, worth - 1, floor)


def timer(values: Floats, calls: Floats, tick_ns: float) -> Floats:
    """Return the variance that the timer's tick leaves in each mean.

    Where the spread within a column is above half a tick a dispatch, ticks average out and are in it.
    """
    steady = values.std(axis=0) < tick_ns / 2 * np.sqrt(np.maximum(calls, 1))
    found: Floats = np.where(steady, (calls * tick_ns) ** 2 / 12, 0.0)
    return found


def _order(deviation: Floats, square: Floats) -> tuple[Floats, Floats]:
    """Return how many independent steps each column is worth, and the variance of its drift."""
    count = len(deviation)
    moment = np.arange(count) - (count - 1) / 2
    slope = moment @ deviation / (moment @ moment)
    rest = deviation - moment[:, None] * slope
    power = (rest * rest).sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        alike = np.where(power > 0, (rest[1:] * rest[:-1]).sum(axis=0) / power, 0.0)
    alike = alike + (1 + 3 * alike) / count
    alike = np.where(alike > 1 / np.sqrt(count), np.clip(alike, 0, _MOST_ALIKE), 0.0)
    worth = np.maximum(count * (1 - alike) / (1 + alike), _LEAST_STEPS)
    drift = slope * (count - 1)
    chance = 12 * power / max(1, count - 2) / worth
    return worth, np.maximum(drift**2 - _BY_CHANCE * chance, 0.0) / 12
