"""The period of a step in both recordings, with an interval from a seeded bootstrap over steps."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from rocscope import steps
from rocscope.comparison.result import Tier
from rocscope.comparison.side import Side

_SEED: Final = 20261120
_DRAWS: Final = 4000
_LEVEL: Final = (2.5, 97.5)  # percentiles of the interval
_LEAST_STEPS: Final = 3
_LEAST_TO_JUDGE: Final = 4  # of three, equal recordings would be told apart one time in fourteen


def step_tier(
    base: Side, new: Side, *, comparable: bool
) -> tuple[Tier, float, tuple[float, float] | None] | None:
    """Return the tier of the step period, the noise floor, and how many steps fill each recording.

    Only where one step repeats through the whole recording can times of kernels be given a step.
    """
    annotated = _annotated_pair(base, new)
    pair = annotated or _repeating_pair(base, new)
    if pair is None:
        return None
    first, second = pair
    before, after = float(np.median(first.lengths_s)), float(np.median(second.lengths_s))
    change = after / before - 1
    low, high = bootstrap(first.lengths_s, second.lengths_s)
    floor = float(np.hypot(_error(first.lengths_s), _error(second.lengths_s)))
    fewest = min(len(first.lengths_s), len(second.lengths_s))
    enough = fewest >= _LEAST_TO_JUDGE
    shown = comparable and enough and (low > 0 or high < 0) and abs(change) > floor
    tier = Tier(
        tier="step",
        metric="period_s",
        unit="s",
        base=before,
        new=after,
        change_frac=change,
        low_frac=low,
        high_frac=high,
        verdict=("better" if change < 0 else "worse") if shown else "no difference shown",
        basis=f"median of {len(first.lengths_s)} and {len(second.lengths_s)} periods; "
        f"base: {first.found_by}; new: {second.found_by}"
        + ("" if enough else f"; no verdict from fewer than {_LEAST_TO_JUDGE} periods"),
    )
    whole = not annotated and first.whole and second.whole
    return tier, floor, (first.steps, second.steps) if whole else None


def _annotated_pair(base: Side, new: Side) -> tuple[steps.Periods, steps.Periods] | None:
    """Return periods of the annotation that both recordings have most steps of."""
    first, second = (steps.decode_periods(side.capture, side.gpu) for side in (base, new))
    shared = {
        name: min(len(first[name].lengths_s), len(second[name].lengths_s))
        for name in set(first) & set(second)
    }
    best = max(shared, key=lambda name: (shared[name], name), default=None)
    if best is None or shared[best] < _LEAST_STEPS:
        return None
    return first[best], second[best]


def _repeating_pair(base: Side, new: Side) -> tuple[steps.Periods, steps.Periods] | None:
    first = steps.repeating(base.capture, base.gpu)
    second = steps.repeating(new.capture, new.gpu) if first else None
    return (first, second) if first and second else None


def bootstrap(base: NDArray[np.float64], new: NDArray[np.float64]) -> tuple[float, float]:
    """Return the 95 % interval of ``median(new) / median(base) - 1`` over resampled steps, seeded."""
    random = np.random.default_rng(_SEED)
    before = np.median(base[random.integers(0, len(base), (_DRAWS, len(base)))], axis=1)
    after = np.median(new[random.integers(0, len(new), (_DRAWS, len(new)))], axis=1)
    low, high = np.percentile(after / before - 1, _LEVEL)
    return float(low), float(high)


def _error(lengths: NDArray[np.float64]) -> float:
    """Return twice the standard error of the median, relative; 1.4826 MAD stands for the deviation."""
    middle = np.median(lengths)
    spread = 1.4826 * np.median(np.abs(lengths - middle))
    return float(2 * 1.2533 * spread / np.sqrt(len(lengths)) / middle)
