"""What a server gave under one load and another, level by level, with intervals for all of them at once.

An interval is of ``ln(new / base)``: its standard error adds up what one run differs from the next and, where
single requests are known, what their mean or percentile may be off. What runs differ by is taken from several
runs of the same load (pooled over the levels, since a few runs of one level tell little; a level whose runs
differ more counts with its own), else from runs that were recorded for that, ``data/thresholds.toml``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rocscope import student
from rocscope.comparison import serving_levels
from rocscope.comparison.result import Tier, Verdict
from rocscope.comparison.serving_levels import Level
from rocscope.comparison.side import Side
from rocscope.thresholds import thresholds
from rocscope.wording import percent

_SEED: Final = 20261121
_DRAWS: Final = 2000
_OUTSIDE_FRAC: Final = 0.05  # of all comparisons together, in which one interval or more may miss
_MANY: Final = 1_000_000  # degrees of freedom of a bootstrap
_LEAST_FREEDOM: Final = 2  # of runs that were repeated, below which noise is taken from elsewhere


class Metric(NamedTuple):
    """A figure of a level: where it stands, and which way is better."""

    name: str
    unit: str
    spread: str  # of the level, "" for a plain number
    point: str
    more_is_better: bool = False


METRICS: Final = (
    Metric("output_tokens_per_s", "tokens/s", "", "output_tokens_per_s", more_is_better=True),
    Metric("tpot_s", "s", "tpot_s", "mean"),
    Metric("ttft_s", "s", "ttft_s", "mean"),
    Metric("latency_s", "s", "e2e_s", "mean"),
    Metric("tpot_p99_s", "s", "tpot_s", "p99"),
    Metric("ttft_p99_s", "s", "ttft_s", "p99"),
    Metric("latency_p99_s", "s", "e2e_s", "p99"),
)


class Served(NamedTuple):
    """What loads say of two sides."""

    tiers: list[Tier]
    notes: list[str]


@dataclass(frozen=True)
class _Pair:
    """One figure of one level on both sides."""

    tier: str
    metric: Metric
    base: NDArray[np.float64]  # ln of it, a value a run
    new: NDArray[np.float64]
    requests_var: float | None  # of the difference, from single requests; None: not known
    times_s: tuple[float | None, float | None]  # against which a host's noise is held, see _time_s

    @property
    def runs(self) -> tuple[int, int]:
        return len(self.base), len(self.new)


@dataclass(frozen=True)
class _Noise:
    """What ln of a figure differs by from run to run, how well that is known, and from what."""

    frac: float
    absolute_s: float
    freedom: int
    source: str

    def var(self, time_s: float | None) -> float | None:
        """Return the variance of ln of a figure that rests on this time; ``None`` where that is not known."""
        if not self.absolute_s:
            return self.frac**2
        return None if time_s is None else self.frac**2 + (self.absolute_s / time_s) ** 2


def serving_tiers(base: Side, new: Side, *, comparable: bool = True) -> list[Tier]:
    """Return a tier for each figure of each level that both sides have; see :func:`served`."""
    return served(base, new, comparable=comparable).tiers


def served(base: Side, new: Side, *, comparable: bool = True) -> Served:
    """Compare loads level by level; levels that are not of the same load, and why, are in the notes.

    Where the sides are not ``comparable`` there is no verdict.
    """
    both = serving_levels.chosen(base, new)
    if both is None:
        known = [name for name, side in (("base", base), ("new", new)) if serving_levels.measured(side)]
        return Served([], [_alone(known)] if known else [])
    pairs, notes = _matched(serving_levels.of(base, both[0]), serving_levels.of(new, both[1]))
    rows = [row for named, first, second in pairs for row in _rows(named, first, second)]
    if "beside" in both:
        notes.append("files of a load do not tell whether a profiler was on while it ran")
    noises = {metric.name: _noise(metric, rows) for metric in METRICS}
    outside = _OUTSIDE_FRAC / max(1, len(rows))
    return Served(
        [_tier(row, noises[row.metric.name], outside, len(rows), comparable) for row in rows], notes
    )


def _alone(known: list[str]) -> str:
    if len(known) == 2:
        return "loads are not compared: one side's ran with the profiler on, the other's without"
    return f"only {known[0]} has the result of a load: no serving figures are compared"


def _matched(base: list[Level], new: list[Level]) -> tuple[list[tuple[str, Level, Level]], list[str]]:
    pairs, notes = [], []
    for first in base:
        same = [each for each in new if each.load == first.load]
        like = next((each for each in same if serving_levels.unlike(first, each) is None), None)
        if like is not None:
            several = len(same) > 1 or sum(each.load == first.load for each in base) > 1
            pairs.append((f"{first.name}, {first.lengths}" if several else first.name, first, like))
        elif same:
            notes.append(f"{first.name} is not compared: {serving_levels.unlike(first, same[0])}")
    for levels, others, side in ((base, new, "base"), (new, base, "new")):
        there = {each.load for each in others}
        if alone := list(dict.fromkeys(each.name for each in levels if each.load not in there)):
            notes.append(f"{'; '.join(alone)}: in {side} only")
    return pairs, notes


def _rows(name: str, base: Level, new: Level) -> Iterable[_Pair]:
    for metric in METRICS:
        before, after = _values(base, metric), _values(new, metric)
        if before is None or after is None:
            continue
        spread = [_requests_var(level, metric) for level in (base, new)]
        known = None if None in spread else math.fsum(each or 0.0 for each in spread)
        times = _time_s(base, metric, before), _time_s(new, metric, after)
        yield _Pair(name, metric, np.log(before), np.log(after), known, times)


def _values(level: Level, metric: Metric) -> NDArray[np.float64] | None:
    """Return the figure of each run that tells it, ``None`` where none does."""
    found = []
    for run, requests in zip(level.runs, level.requests, strict=True):
        held = run if not metric.spread else run[metric.spread] or {}
        value = held.get(metric.point)
        if value is None and len(requests.get(metric.spread, ())):
            value = _statistic(requests[metric.spread][None, :], metric)[0]
        if value is not None and value > 0:
            found.append(float(value))
    return np.array(found) if found else None


def _time_s(level: Level, metric: Metric, values: NDArray[np.float64]) -> float | None:
    """Return the time that a host's noise lengthens: a token's of one client, or to the first token.

    Of tokens a second it is that of the clients, of a latency that of its tokens.
    """
    value = float(np.exp(np.log(values).mean()))
    if not metric.spread:
        return level.concurrency / value if level.concurrency else None
    if metric.spread != "e2e_s":
        return value
    length, rate = level.runs[0]["output_length"], level.runs[0]["output_tokens_per_s"]
    if length:
        return float(value / length)
    return level.concurrency / rate if level.concurrency and rate else None


def _statistic(draws: NDArray[np.float64], metric: Metric) -> NDArray[np.float64]:
    """Return mean or percentile of each row."""
    return draws.mean(axis=1) if metric.point == "mean" else np.percentile(draws, 99, axis=1)


def _requests_var(level: Level, metric: Metric) -> float | None:
    """Return the variance of ln of the figure over bootstrapped requests, of the mean of all runs; seeded."""
    arrays = [each[metric.spread] for each in level.requests if len(each.get(metric.spread, ())) > 1]
    if not metric.spread or len(arrays) < len(level.requests):
        return None
    random = np.random.default_rng(_SEED)
    found = []
    for values in arrays:
        draws = max(
            1, min(_DRAWS, 20_000_000 // len(values))
        )  # a long load needs fewer, and memory is finite
        drawn = _statistic(values[random.integers(0, len(values), (draws, len(values)))], metric)
        if (drawn <= 0).any():
            return None
        found.append(float(np.var(np.log(drawn))))
    return math.fsum(found) / len(found) ** 2


def _noise(metric: Metric, rows: list[_Pair]) -> _Noise | None:
    """Return what a figure differs by from run to run: of the runs given, else of those recorded for that."""
    mine = [side for row in rows if row.metric == metric for side in (row.base, row.new) if len(side) > 1]
    freedom = sum(len(side) - 1 for side in mine)
    if freedom >= _LEAST_FREEDOM:
        var = math.fsum(float(((side - side.mean()) ** 2).sum()) for side in mine) / freedom
        source = (
            f"{freedom + len(mine)} runs of {len(mine)} loads in these files; of one start of a server they "
            "do not hold what starts differ by"
        )
        return _Noise(math.sqrt(var), 0.0, freedom, source)
    known = thresholds().compare.serving_noise.get(metric.name)
    return None if known is None else _Noise(known.frac, known.absolute_s, known.freedom, known.source)


def _own(row: _Pair, noise: _Noise) -> _Noise:
    """Return the noise of one level where its own runs differ more than those of all levels do."""
    sides = [side for side in (row.base, row.new) if len(side) > 1]
    freedom = sum(len(side) - 1 for side in sides)
    if freedom < _LEAST_FREEDOM or noise.absolute_s:
        return noise
    own = math.sqrt(math.fsum(float(((side - side.mean()) ** 2).sum()) for side in sides) / freedom)
    return (
        noise if own <= noise.frac else _Noise(own, 0.0, noise.freedom, f"{sum(row.runs)} runs of this load")
    )


class _Interval(NamedTuple):
    low: float | None  # of ln(new / base)
    high: float | None
    basis: str
    judged: bool = False  # whether it holds what the figure differs by from run to run


def _tier(row: _Pair, noise: _Noise | None, outside: float, count: int, comparable: bool) -> Tier:
    middle = float(row.new.mean() - row.base.mean())
    low, high, basis, judged = _interval(row, middle, noise, outside)
    verdict: Verdict = "no difference shown"
    if comparable and judged and low is not None and high is not None and not low <= 0 <= high:
        verdict = "better" if (middle > 0) == row.metric.more_is_better else "worse"
    return Tier(
        tier=row.tier,
        metric=row.metric.name,
        unit=row.metric.unit,
        base=float(np.exp(row.base.mean())),
        new=float(np.exp(row.new.mean())),
        change_frac=math.expm1(middle),
        low_frac=None if low is None else math.expm1(low),
        high_frac=None if high is None else math.expm1(high),
        verdict=verdict,
        basis=f"measured by the load's clients; {basis}"
        + ("" if low is None else f"; 95 % for all {count} figures at once"),
    )


def _interval(row: _Pair, middle: float, noise: _Noise | None, outside: float) -> _Interval:
    runs = "one run each" if row.runs == (1, 1) else f"{row.runs[0]} and {row.runs[1]} runs"
    if noise is not None:
        noise = _own(row, noise)
        each = [noise.var(time) for time in row.times_s]
        if each[0] is not None and each[1] is not None:
            requests = "" if row.requests_var is None else "spread of single requests (bootstrap) and "
            var = (row.requests_var or 0.0) + each[0] / row.runs[0] + each[1] / row.runs[1]
            half = student.value(outside, noise.freedom) * math.sqrt(var)
            typical = percent(math.sqrt((each[0] + each[1]) / 2))
            told = f"{runs}; {requests}{typical} from run to run ({noise.source})"
            return _Interval(middle - half, middle + half, told, judged=True)
    unknown = "what it differs by from run to run is not known: no verdict"
    if row.requests_var is None:
        return _Interval(None, None, f"{runs}; {unknown}")
    half = student.value(outside, _MANY) * math.sqrt(row.requests_var)
    told = f"{runs}; spread of single requests (bootstrap) alone, {unknown}"
    return _Interval(middle - half, middle + half, told)
