"""Whether a series of windows has come to another level: robust, sequential, at a set rate of false alarms.

The last k windows (k of :data:`SCALES`) are held against those before them, as in window-limited tests for
change points (T. L. Lai, J. R. Statist. Soc. B 57, 1995, 613-658). Both levels are medians. The spread of one
window is the larger of the scaled median absolute deviation and the standard deviation without what lies
beyond 3.5 of the former (P. J. Rousseeuw and C. Croux, J. Am. Statist. Assoc. 88, 1993, 1273-1283). Windows
that follow each other are not independent: variances of means are those of a first-order autoregression with
the correlation that the past shows, and never less than :data:`LEAST_CORRELATION`. All values are logarithms.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, median
from typing import Final, Literal

from rocscope import student

SCALES: Final = (3, 6, 12)
LEAST_CORRELATION: Final = 0.2
MOST_CORRELATION: Final = 0.95
MAD_FACTOR: Final = 1.4826  # to the standard deviation of a normal distribution
CLIPPED: Final = 3.5
LEAST_SPREAD: Final = 0.002  # clocks and timers alone move times so much
MEDIAN_FACTOR: Final = math.pi / 2  # variance of a median against that of a mean


@dataclass(frozen=True)
class Level:
    """The past: its middle, the spread of one window around it, and how windows hang together."""

    middle: float
    spread: float
    correlation: float
    count: int

    @property
    def degrees(self) -> float:
        """Degrees of freedom of the spread, fewer where windows repeat each other."""
        own = (1 - self.correlation) / (1 + self.correlation)
        return max(1.0, 0.7 * (self.count - 1) * own)

    def error(self, count: int) -> float:
        """Return the standard error of the difference to a median of ``count`` later windows."""
        later = mean_variance(count, self.correlation)
        before = mean_variance(self.count, self.correlation)
        return self.spread * math.sqrt(MEDIAN_FACTOR * (later + before))


@dataclass(frozen=True)
class Change:
    """What the last windows say. ``low`` and ``high`` hold the change; all are logarithms."""

    kind: Literal["none", "watch", "shift"]
    change: float = 0.0
    low: float = 0.0
    high: float = 0.0
    windows: int = 0  # that are at the new level
    before: Level | None = None
    strength: float = 0.0  # times the critical value


def past(values: Sequence[float]) -> Level:
    """Return the level of at least three windows."""
    middle = median(values)
    rough = MAD_FACTOR * median(abs(value - middle) for value in values)
    kept = [value - middle for value in values if abs(value - middle) <= CLIPPED * max(rough, LEAST_SPREAD)]
    spread = max(rough, math.sqrt(fmean(each * each for each in kept)), LEAST_SPREAD)
    limit = CLIPPED * spread
    near = [max(-limit, min(limit, value - middle)) for value in values]
    square = sum(each * each for each in near)
    product = sum(one * two for one, two in pairwise(near))
    found = product / square if square > 0 else 0.0
    return Level(middle, spread, min(MOST_CORRELATION, max(LEAST_CORRELATION, found)), len(values))


def look(values: Sequence[float], chance: float, least: float, least_windows: int) -> Change:
    """Tell whether the last of ``values``, oldest first, are at another level than those before.

    ``chance`` is that of a false alarm at this look; ``least`` the smallest change that is told of.
    """
    best = Change("none")
    scales = [k for k in SCALES if len(values) - k >= least_windows]
    for k in scales:
        before, after = past(values[:-k]), values[-k:]
        change, error = median(after) - before.middle, before.error(k)
        critical = student.value(chance / len(scales), before.degrees)
        same_side = all((value - before.middle) * change > 0 for value in after[-SCALES[0] :])
        half = all(abs(value - before.middle) >= abs(change) / 2 for value in after[-SCALES[0] :])
        strength = abs(change) / error / critical
        if strength >= 1 and abs(change) >= least and same_side and half and strength > best.strength:
            margin = student.value(0.05, before.degrees) * error
            best = Change("shift", change, change - margin, change + margin, k, before, strength)
    if best.kind == "none" and len(values) - 1 >= least_windows:
        before = past(values[:-1])
        change = values[-1] - before.middle
        if abs(change) >= max(least, student.value(0.01, before.degrees) * before.spread):
            return Change("watch", change, change, change, 1, before)
    return best


def mean_variance(count: int, correlation: float) -> float:
    """Return the variance of a mean of ``count`` values of unit variance that follow each other."""
    share = sum((1 - lag / count) * correlation**lag for lag in range(1, min(count, 200)))
    return (1 + 2 * share) / count
