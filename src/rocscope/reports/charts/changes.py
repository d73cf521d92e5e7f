"""Changes as intervals around zero on a scale that the rows of a table share."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rocscope.comparison.result import Verdict
from rocscope.reports import figures


@dataclass(frozen=True)
class Change:
    """A change as drawn."""

    mid: float | None
    low: float | None
    high: float | None
    verdict: Verdict | None = None
    floor: float | None = None  # changes smaller than that would not have been shown


@dataclass(frozen=True)
class Drawn:
    """Where a change lies, 0 to 1 of the width."""

    mid: float | None
    left: float | None  # of its interval
    width: float
    floor_left: float | None
    floor_width: float
    kind: str  # "better", "worse", "none": the class that colours it


@dataclass(frozen=True)
class Scale:
    """From ``low_frac`` to ``high_frac``, with zero in it."""

    low_frac: float
    high_frac: float

    def at(self, frac: float) -> float:
        """Return where ``frac`` lies, 0 to 1; what is beyond the ends lies at them."""
        return min(max((frac - self.low_frac) / (self.high_frac - self.low_frac), 0.0), 1.0)

    @property
    def zero(self) -> float:
        """Return where no change lies."""
        return self.at(0.0)

    def ticks(self) -> list[tuple[float, str]]:
        """Return where marks stand and what they say: the ends, and zero where there is room."""
        marks = [self.low_frac, 0.0, self.high_frac]
        return [
            (self.at(each), figures.change(each))
            for each in sorted(set(marks))
            if each in (self.low_frac, self.high_frac) or 0.12 < self.zero < 0.88
        ]

    def draw(self, change: Change) -> Drawn:
        """Return where a change is drawn."""
        left, width = None, 0.0
        if change.low is not None and change.high is not None:
            left = self.at(change.low)
            width = max(self.at(change.high) - left, 0.004)
        floor_left, floor_width = None, 0.0
        if change.floor:
            floor_left = self.at(-change.floor)
            floor_width = self.at(change.floor) - floor_left
        kind = change.verdict if change.verdict in ("better", "worse") else "none"
        mid = None if change.mid is None else self.at(change.mid)
        return Drawn(mid, left, width, floor_left, floor_width, kind)


def scale(changes: Iterable[Change]) -> Scale:
    """Return the scale that holds all changes, its ends round figures; never a smaller one than 1 %."""
    known = [
        value
        for change in changes
        for value in (change.mid, change.low, change.high, change.floor, -(change.floor or 0.0))
        if value is not None and math.isfinite(value)
    ]
    return Scale(-_round_up(-min([*known, 0.0])), _round_up(max([*known, 0.0])))


def _round_up(value: float) -> float:
    if value <= 0.01:
        return 0.01
    size = 10.0 ** math.floor(math.log10(value))
    return next(step * size for step in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if step * size >= value * (1 - 1e-9))


def draw(changes: Sequence[Change]) -> tuple[Scale, list[Drawn]]:
    """Return the scale of several changes, and where each is drawn."""
    common = scale(changes)
    return common, [common.draw(change) for change in changes]
