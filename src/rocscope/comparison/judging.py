"""From the steps of both sides to a change, its interval, and whether chance alone could have made it.

The interval is Fieller's for a ratio of means: all ratios r for which ``new - r * base`` lies within the
critical multiple of its standard error of nothing. It holds 0 % exactly where the difference is not shown,
and the interval of the sides swapped is its mirror image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from rocscope import student
from rocscope.comparison import context, resampling, spread
from rocscope.comparison.allowance import NOTHING, Allowance
from rocscope.comparison.panel import Panel
from rocscope.comparison.resampling import Chance
from rocscope.comparison.result import Verdict
from rocscope.comparison.spread import Spread

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Group = tuple[list[int], list[int]]  # columns of base, of new

LEAST_STEPS: Final = 4  # of three, equal recordings would be told apart one time in ten
_LEAST_RUNS: Final = 4  # of both sides together, for the spread from run to run
PERIOD, GAPS, OVERLAP, BUSY = range(4)  # what stands before the groups in a table


@dataclass
class Measured:
    """Columns of a panel: its period, gaps, overlap, busy time, then groups of kernels; ns."""

    base: Spread
    new: Spread
    chance: Chance | None  # None: repeats, whose number is too small to draw from
    counts: tuple[int, int]  # units of either side
    by_run: bool  # the unit is a repeat
    judged: bool  # there are enough units for a verdict
    calls: tuple[Floats, Floats]  # launches a step
    families: int  # groups that are families, before those of kernels
    allowed: Allowance  # by which runs of one thing may differ; nothing where repeats show it

    def allowance(self, column: int) -> float:
        """By how much the time of a column may differ between runs of one thing, relative."""
        group = column - BUSY - 1
        if group < 0:
            return self.allowed.frac
        launches, time_ns = (
            max(float(each[column]) for each in pair)
            for pair in (self.calls, (self.base.mean, self.new.mean))
        )
        return self.allowed.of_launches(launches, time_ns, family=group < self.families)

    @property
    def idle_ns(self) -> float:
        """The part of the change of idle time that a run may have made by itself."""
        return self.allowed.of_idle(float(self.new.mean[GAPS] - self.base.mean[GAPS]))

    @property
    def degrees(self) -> Floats:
        """Degrees of freedom of the difference: of repeats those of their pooled spread, else Welch's."""
        if self.by_run:
            return self.base.degrees
        first, second = self.base.variance, self.new.variance
        with np.errstate(invalid="ignore", divide="ignore"):
            found = (first + second) ** 2 / (first**2 / self.base.degrees + second**2 / self.new.degrees)
        return np.where(np.isfinite(found), found, 1.0)

    def critical(self, chance: float, mask: Bools, comparisons: int) -> Floats:
        """Return the |t| of each column that chance makes in any of ``mask`` with at most ``chance``.

        Without draws, as of repeats, ``comparisons`` of them share it out (Bonferroni).
        """
        degrees = self.degrees
        if self.by_run or self.chance is None:
            return np.array([student.value(chance / max(1, comparisons), each) for each in degrees])
        full = float(sum(self.counts) - 2)
        least = min(self.counts) - 1.0
        drawn = max(self.chance.critical(chance, mask), student.value(chance, full))
        if math.isinf(drawn):
            return np.full(len(degrees), np.inf)
        beyond = student.beyond(drawn, least)  # steps that count for less than one have wider tails
        return np.array([drawn if each >= least else student.value(beyond, each) for each in degrees])


@dataclass(frozen=True)
class Judged:
    """One figure of both sides, ns."""

    base: float
    new: float
    change: float | None  # relative; None where base or new is nothing
    low: float | None
    high: float | None
    shown: bool | None  # None: nothing can be said
    error: float  # standard error of the difference; NaN unknown
    critical: float
    allowance: float  # by which runs of one thing may differ, relative
    idle_ns: float = 0.0  # of the change, that a run may have made by itself

    @property
    def verdict(self) -> Verdict | None:
        """Say which way it went, less time being better."""
        if self.shown is None:
            return None
        if not self.shown:
            return "no difference shown"
        return "better" if abs(self.new) < abs(self.base) else "worse"

    @property
    def margin(self) -> float | None:
        """The smallest difference that would have been shown, ns."""
        found = self.error * self.critical + self.allowance * max(abs(self.base), abs(self.new))
        return found if math.isfinite(found) else None


def measure(
    panel: Panel,
    groups: list[Group],
    draws: int = resampling.DRAWS,
    *,
    families: int = 0,
    allowed: Allowance = NOTHING,
) -> Measured:
    """Return what both sides of a panel took: columns as in :class:`Measured`.

    The first ``families`` of ``groups`` are families. ``allowed`` is between runs, where no repeats tell.
    """
    tables = [_table(panel, groups, side) for side in (0, 1)]
    tables, extra = context.adjusted(panel, tables)
    runs = [panel.base.run, panel.new.run]
    numbers = [len(np.unique(each)) for each in runs]
    spreads = [
        _drifting(spread.of_steps(values, calls, steps.tick_ns))
        for (values, calls), steps in zip(tables, (panel.base, panel.new), strict=True)
    ]
    calls = (tables[0][1], tables[1][1])
    if by_repeats(*numbers):
        inside = [
            _within(values, counts, of_run, steps.tick_ns)
            for (values, counts), of_run, steps in zip(tables, runs, (panel.base, panel.new), strict=True)
        ]
        base, new = (each.plus(more) for each, more in zip(between(*inside), extra, strict=True))
        return Measured(base, new, None, (numbers[0], numbers[1]), True, True, calls, families, NOTHING)
    counts = (len(tables[0][0]), len(tables[1][0]))
    chance = None
    if min(counts) > 1:
        chance = resampling.draw(tables[0][0], tables[1][0], (spreads[0], spreads[1]), draws)
    enough = min(counts) >= LEAST_STEPS and chance is not None
    base, new = (each.plus(more) for each, more in zip(spreads, extra, strict=True))
    return Measured(base, new, chance, counts, False, enough, calls, families, allowed)


def _drifting(found: Spread) -> Spread:
    """Let a period wander by as much as its busy time is seen to, where uneven gaps hide it."""
    more = np.zeros(len(found.mean))
    more[PERIOD] = max(0.0, float(found.wander[BUSY] - found.wander[PERIOD]))
    return found.plus(more)


def by_repeats(base: int, new: int) -> bool:
    """Tell whether so many recordings of either side tell how much runs differ."""
    return base + new >= _LEAST_RUNS


def _table(panel: Panel, groups: list[Group], side: int) -> tuple[Floats, Floats]:
    """Return [steps, period | gaps | overlap | busy | groups] of one side, ns, and launches a step."""
    steps = (panel.base, panel.new)[side]
    adds = np.zeros((len(steps.columns), len(groups)))
    for index, group in enumerate(groups):
        adds[group[side], index] = 1
    kernels = steps.time_ns.sum(axis=1)
    period, busy = steps.period_ns, steps.busy_ns
    whole = np.column_stack((period, period - busy, busy - kernels, busy))
    calls = steps.calls.mean(axis=0)
    total = float(calls.sum())
    # a period is told by two readings of the timer, gaps and overlap by those of all kernels, which even out
    return (
        np.column_stack((whole, steps.time_ns @ adds)),
        np.concatenate(([1.0, *[math.sqrt(total)] * 3], calls @ adds)),
    )


def _within(values: Floats, calls: Floats, run: NDArray[np.int64], tick_ns: int) -> tuple[Floats, Floats]:
    """Return the mean of each run, [runs, columns], and the variance that its own steps give it."""
    found = [spread.of_steps(values[run == each], calls, tick_ns) for each in np.unique(run)]
    return (
        np.array([each.mean for each in found]),
        np.array([np.nan_to_num(each.variance) for each in found]),
    )


def between(base: tuple[Floats, Floats], new: tuple[Floats, Floats]) -> tuple[Spread, Spread]:
    """Return the spread of means over runs, from the deviations of both sides together.

    ``base`` and ``new`` are means and variances within runs, [runs, columns]. The variance from run to run is
    relative to the mean, so that it holds for both sides, and never below what steps within runs make.
    """
    middle = [each[0].mean(axis=0) for each in (base, new)]
    scale = [np.where(each != 0, np.abs(each), 1.0) for each in middle]
    degrees = sum(len(each[0]) for each in (base, new)) - 2
    square = sum(
        (((each[0] - mean) / size) ** 2).sum(axis=0)
        for each, mean, size in zip((base, new), middle, scale, strict=True)
    )
    found = []
    for (means, inside), mean, size in zip((base, new), middle, scale, strict=True):
        runs = len(means)
        variance = np.maximum(square / degrees * size**2 / runs, inside.sum(axis=0) / runs**2)
        width = len(mean)
        found.append(Spread(mean, variance, np.full(width, float(degrees)), np.zeros(width), np.zeros(width)))
    return found[0], found[1]


def judge(measured: Measured, column: int, critical: float) -> Judged:
    """Say of one column what changed, by the multiple of its standard error that chance can reach."""
    base, new = float(measured.base.mean[column]), float(measured.new.mean[column])
    first, second = float(measured.base.variance[column]), float(measured.new.variance[column])
    known = critical if measured.judged else None
    idle_ns = measured.idle_ns if column in (PERIOD, GAPS) else 0.0
    return decided(base, new, first, second, known, allowance=measured.allowance(column), idle_ns=idle_ns)


def decided(
    base: float,
    new: float,
    first: float,
    second: float,
    critical: float | None,
    *,
    allowance: float,
    idle_ns: float = 0.0,
) -> Judged:
    """Say what changed from ``base`` to ``new``, whose variances are ``first`` and ``second``.

    By ``allowance``, relative, runs of one thing may differ: the interval is so much wider either way. Of the
    change ``idle_ns`` may be the run's own: what is said holds with it and without it.
    """
    seen = _decided(base, new, first, second, critical, allowance=allowance)
    if not idle_ns or seen.shown is None:
        return seen
    without = _decided(base, new - idle_ns, first, second, critical, allowance=allowance)
    both = (seen, without)
    known = all(each.low is not None and each.high is not None for each in both)
    return replace(
        seen,
        low=min(each.low or 0.0 for each in both) if known else None,
        high=max(each.high or 0.0 for each in both) if known else None,
        shown=bool(seen.shown and without.shown and seen.verdict == without.verdict),
        idle_ns=idle_ns,
    )


def _decided(
    base: float, new: float, first: float, second: float, critical: float | None, *, allowance: float
) -> Judged:
    change = new / base - 1 if base > 0 and new > 0 else None
    error = math.sqrt(first + second) if math.isfinite(first + second) else math.nan
    if critical is None or math.isnan(error):
        return Judged(base, new, change, None, None, None, error, math.nan, allowance)
    low, high = (None, None) if change is None else fieller(base, new, first, second, critical)
    wider = 1 + allowance
    return Judged(
        base=base,
        new=new,
        change=change,
        low=None if low is None else (1 + low) / wider - 1,
        high=None if high is None else (1 + high) * wider - 1,
        shown=_longer(base, new, first, second, critical, wider=wider)
        or _longer(new, base, second, first, critical, wider=wider),
        error=error,
        critical=critical,
        allowance=allowance,
    )


def _longer(base: float, new: float, first: float, second: float, critical: float, *, wider: float) -> bool:
    """Tell whether ``new`` is longer than ``wider`` times ``base``, beyond chance."""
    beyond = abs(new) - wider * abs(base)
    return beyond > critical * math.sqrt(second + wider * wider * first) and beyond > _ROUNDING * abs(new)


_ROUNDING: Final = 1e-9  # of a mean: sums of floats in another order


def fieller(
    base: float, new: float, first: float, second: float, critical: float
) -> tuple[float | None, float | None]:
    """Return the interval of ``new / base - 1``; ``None`` where ``base`` itself could be nothing."""
    square = critical * critical
    if not math.isfinite(square) or (lead := base * base - square * first) <= 0:
        return None, None
    root = critical * math.sqrt(max(0.0, second * base * base + first * new * new - square * first * second))
    middle = base * new
    return max(0.0, middle - root) / lead - 1, (middle + root) / lead - 1
