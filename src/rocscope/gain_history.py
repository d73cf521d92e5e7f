"""Which shares of what could be gained to expect: those of ``data/thresholds.toml``, and what changes gave.

The former, a prior, are taken for the 10th, 50th and 90th percentile of the share that a change realises,
with straight lines between them and out to 0 and 1. It weighs as much as a number of scored changes (see
[forecasts] there). Each scored change adds its realised share, cut to 0 to 1 and spread evenly to either
side, since no two changes are alike. The same percentiles of that mixture are the shares to expect:

    F(share) = (prior_changes * F_prior(share) + sum(w * F_change(share)) + ends(share)) / their weights

where ends(share) keeps the interval wide enough: percentiles of few changes lie too near together for the
next one, so that up to one change more is put in, half at 0 and half at 1, n / (prior_changes + n) of it for
n = sum(w). So without changes it is the prior, the order of changes does not matter, and one that is far out
moves a percentile no farther than its weight reaches. Several changes of one target on one model of GPU are
not as many witnesses: k of them weigh sqrt(k) together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from rocscope.thresholds import Shares, thresholds

LEVELS: Final = (0.1, 0.5, 0.9)  # of low, middle and high: four forecasts in five are to hit
_POINT: Final = 1e-9  # of the way: no share is told from another within it
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Realised:
    """What one scored change realised of what could be gained."""

    shares_of: str  # the name of the shares that it was forecast with
    share_frac: float  # below 0: a regression; above 1: the least time was beaten
    what: str  # the target and the GPU: several of one count for less


class GainHistory:
    """The realised shares that a ledger holds, by the name of the shares."""

    def __init__(self, realised: Iterable[Realised] = ()) -> None:
        """Take realised shares, in any order."""
        self._by_name: dict[str, list[Realised]] = {}
        for each in sorted(realised, key=lambda one: (one.shares_of, one.what, one.share_frac)):
            self._by_name.setdefault(each.shares_of, []).append(each)

    def shares(self, name: str, prior: Shares) -> Shares:
        """Return the shares to expect; ``prior`` itself where no change of this name was scored."""
        known = self._by_name.get(name)
        if not known:
            return prior
        low, mid, high = combined((prior.low, prior.mid, prior.high), *_weighed(known))
        changes = "1 scored change" if len(known) == 1 else f"{len(known)} scored changes"
        return Shares(
            low=low,
            mid=mid,
            high=high,
            source=f"from {changes} of the ledger of forecasts and the prior: {prior.source}",
        )


def _weighed(known: Sequence[Realised]) -> tuple[Floats, Floats]:
    counts = Counter(each.what for each in known)
    shares = np.array([each.share_frac for each in known], np.float64)
    return shares, np.array([counts[each.what] ** -0.5 for each in known], np.float64)


def combined(
    prior: tuple[float, float, float], shares: Floats, weights: Floats
) -> tuple[float, float, float]:
    """Return low, middle and high of the mixture of a prior and realised shares [n], weighed [n]."""
    if not len(shares):
        return prior
    lines = thresholds().forecasts
    spread, middle = lines.spread_frac.value, np.clip(shares, 0.0, 1.0)
    prior_weight, changes = lines.prior_changes.value, float(weights.sum())
    ends = changes / (prior_weight + changes) / 2
    # every part is spread evenly from its first to its last share; where those are one, it is all there
    first = np.concatenate(([0.0, *prior], middle - spread, [0.0, 1.0]))
    last = np.concatenate(([*prior, 1.0], middle + spread, [0.0, 1.0]))
    weight = np.concatenate((prior_weight * np.diff([0.0, *LEVELS, 1.0]), weights, [ends, ends]))
    weight /= weight.sum()
    at = np.unique(np.concatenate((first, last)))  # between these every part rises straight
    width = np.where(last - first > _POINT, last - first, 0.0)
    risen = np.clip((at[:, None] - first) / np.where(width > 0, width, 1.0), 0.0, 1.0)
    below = np.where(width > 0, risen, at[:, None] > first) @ weight
    upto = np.where(width > 0, risen, at[:, None] >= first) @ weight
    points, reached = np.repeat(at, 2), np.column_stack((below, upto)).ravel()
    low, mid, high = (min(1.0, max(0.0, _first_at(points, reached, level))) for level in LEVELS)
    return low, mid, high


def _first_at(points: Floats, reached: Floats, level: float) -> float:
    """Return where a distribution function, given at points in order, reaches a level."""
    after = int(np.searchsorted(reached, level, side="left"))
    if after == 0:
        return float(points[0])
    if after >= len(points):
        return float(points[-1])
    rise = reached[after] - reached[after - 1]
    part = (level - reached[after - 1]) / rise if rise > 0 else 0.0
    return float(points[after - 1] + part * (points[after] - points[after - 1]))
