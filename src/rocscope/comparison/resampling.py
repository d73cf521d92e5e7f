"""How large a studentised difference chance alone makes, over many columns at once.

Whole steps are drawn, so that kernels stay correlated as they are. Two ways of drawing answer two questions:
steps dealt anew to the two sides (exact where both sides are the same), and a bootstrap of each side's
deviations from its own mean (what intervals rest on where they are not). The larger answer is used.
Seeded, and the same whichever side is called base.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Final

import numpy as np
from numpy.typing import NDArray

from rocscope.comparison.spread import Spread

Floats = NDArray[np.float64]

SEED: Final = 20261120
DRAWS: Final = 4000
_AT_ONCE: Final = 500  # draws, which bounds memory
_MOST_UNITS: Final = 400  # steps of a side that are drawn one by one; more are drawn in successive groups


@dataclass(frozen=True)
class Chance:
    """What chance makes of differences: |t| of each draw, both ways of drawing."""

    dealt: Floats  # [draws, columns]
    all_dealt: bool  # these are all ways of dealing, not some of them
    bootstrapped: Floats  # [draws, columns]

    def critical(self, chance: float, columns: NDArray[np.bool_]) -> float:
        """Return the |t| that any of ``columns`` exceeds with at most this ``chance``."""
        if not columns.any():
            return 0.0
        dealt, bootstrapped = (each[:, columns].max(axis=1) for each in (self.dealt, self.bootstrapped))
        return max(_upper(dealt, chance, self.all_dealt), _upper(bootstrapped, chance, False))


def _upper(values: Floats, chance: float, all_of_them: bool) -> float:
    """Return the value of which no more than ``chance`` lie above, what was recorded being one of them."""
    above = int(chance * len(values) + 1e-9) if all_of_them else int(chance * (len(values) + 1)) - 1
    return float(np.sort(values)[len(values) - 1 - above]) if above >= 0 else math.inf


def draw(base: Floats, new: Floats, floors: tuple[Spread, Spread], draws: int = DRAWS) -> Chance:
    """Draw steps of ``base`` and ``new``, [steps, columns], and return what differences chance makes."""
    base, new = _grouped(base), _grouped(new)
    floor = floors[0].floor + floors[1].floor
    if _later(base, new):
        base, new = new, base
    scale = np.sqrt((base.var(axis=0) + new.var(axis=0)) / 2)
    middle = (base.mean(axis=0) + new.mean(axis=0)) / 2
    scale = np.where(scale > 0, scale, 1.0)
    base, new, floor = (base - middle) / scale, (new - middle) / scale, floor / scale**2
    random = np.random.default_rng(SEED)
    ways = math.comb(len(base) + len(new), len(base))
    weights = _every_deal if ways <= draws else _some_deals
    dealt = _dealt(np.concatenate([base, new]), len(base), floor, weights(len(base), len(new), random, draws))
    rest = [(each - each.mean(axis=0)) * math.sqrt(len(each) / (len(each) - 1)) for each in (base, new)]
    bootstrapped = _bootstrapped(np.concatenate(rest), (len(base), len(new)), floor, random, draws)
    return Chance(dealt, ways <= draws, bootstrapped)


def _later(base: Floats, new: Floats) -> bool:
    """Tell whether ``base`` comes after ``new`` in an order that does not ask which is called base."""
    return (len(base), base.tobytes()) > (len(new), new.tobytes())


def _grouped(values: Floats) -> Floats:
    """Return means of successive steps where there are more than can be drawn one by one."""
    if len(values) <= _MOST_UNITS:
        return values
    edges = np.linspace(0, len(values), _MOST_UNITS + 1).astype(np.int64)
    sums = np.add.reduceat(values, edges[:-1], axis=0)
    found: Floats = sums / np.diff(edges)[:, None]
    return found


def _every_deal(first: int, second: int, random: np.random.Generator, draws: int) -> Iterator[Floats]:
    """Give all ways of dealing steps to two sides: 1 where a step goes to the first, [ways, steps]."""
    del random, draws
    chosen = np.array(list(combinations(range(first + second), first)), np.int64)
    weights = np.zeros((len(chosen), first + second))
    np.put_along_axis(weights, chosen, 1.0, axis=1)
    yield weights


def _some_deals(first: int, second: int, random: np.random.Generator, draws: int) -> Iterator[Floats]:
    for begin in range(0, draws, _AT_ONCE):
        size = min(_AT_ONCE, draws - begin)
        order = random.permuted(np.tile(np.arange(first + second), (size, 1)), axis=1)[:, :first]
        weights = np.zeros((size, first + second))
        np.put_along_axis(weights, order, 1.0, axis=1)
        yield weights


def _dealt(pool: Floats, first: int, floor: Floats, weights: Iterator[Floats]) -> Floats:
    """Deal the steps of ``pool`` to two sides, ``first`` to one of them; |t| of [draws, columns]."""
    counts = (first, len(pool) - first)
    squared = pool * pool
    total, total_squared = pool.sum(axis=0), squared.sum(axis=0)
    parts = []
    for each in weights:
        one, one_squared = each @ pool, each @ squared
        other = (total - one, total_squared - one_squared)
        parts.append(_t((one, one_squared), other, counts, floor))
    return np.concatenate(parts)


def _bootstrapped(
    pool: Floats, counts: tuple[int, int], floor: Floats, random: np.random.Generator, draws: int
) -> Floats:
    """Draw steps with replacement for either side from ``pool``; |t| of [draws, columns]."""
    parts = []
    squared = pool * pool
    for begin in range(0, draws, _AT_ONCE):
        size = min(_AT_ONCE, draws - begin)
        sides = []
        for count in counts:
            drawn = random.integers(0, len(pool), (size, count)) + np.arange(size)[:, None] * len(pool)
            times = np.bincount(drawn.ravel(), minlength=size * len(pool)).reshape(size, len(pool))
            weights = times.astype(np.float64)  # integers are not multiplied by the fast library
            sides.append((weights @ pool, weights @ squared))
        parts.append(_t(sides[0], sides[1], counts, floor))
    return np.concatenate(parts)


def _t(
    first: tuple[Floats, Floats], second: tuple[Floats, Floats], counts: tuple[int, int], floor: Floats
) -> Floats:
    """Return |t| of Welch from sums and sums of squares of either side; 0 where nothing varies."""
    means, variances = [], []
    for (total, squares), count in zip((first, second), counts, strict=True):
        mean = total / count
        means.append(mean)
        variances.append(np.maximum(squares / count - mean * mean, 0.0) / (count - 1))
    difference = np.abs(means[0] - means[1])
    error = np.sqrt(variances[0] + variances[1] + floor)
    smallest = 1e-9  # of a scaled column: rounding
    found: Floats = np.where(difference > smallest, difference / np.maximum(error, smallest), 0.0)
    return found
