"""Steps compared at one length of context: what grows with the cache is nobody's doing.

Where annotations tell how many tokens lie in the cache of each step, every column of either side is fitted by
a straight line over them and read off at the mean of both sides. Where their contexts do not overlap that
would be extrapolated, and is not done.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from rocscope.comparison.panel import Panel

Floats = NDArray[np.float64]
Table = tuple[Floats, Floats]  # values [steps, columns], launches a step [columns]

_LEAST_STEPS: Final = 8  # of either side, for a slope
_ALIKE_FRAC: Final = 0.02  # by which mean contexts may differ and be as good as one


def adjusted(panel: Panel, tables: list[Table]) -> tuple[list[Table], list[Floats]]:
    """Return the tables at one context, and the variance that this adds to the means of either side."""
    at = mean(panel)
    if at is None:
        return tables, [np.zeros(values.shape[1]) for values, _ in tables]
    found, extra = [], []
    for (values, calls), tokens in zip(tables, (panel.base.context, panel.new.context), strict=True):
        away = tokens - tokens.mean()
        square = float(away @ away)
        rest = values - values.mean(axis=0)
        slope = away @ rest / square
        rest = rest - np.outer(away, slope)
        noise = (rest * rest).sum(axis=0) / (len(tokens) - 2)
        found.append((values - np.outer(tokens - at, slope), calls))
        extra.append((float(tokens.mean()) - at) ** 2 * noise / square)
    return found, extra


def mean(panel: Panel) -> float | None:
    """Return the context that both sides are compared at, tokens; ``None`` where they are not."""
    sides = (panel.base.context, panel.new.context)
    if min(len(each) for each in sides) < _LEAST_STEPS or not all(np.isfinite(each).all() for each in sides):
        return None
    lowest, highest = max(each.min() for each in sides), min(each.max() for each in sides)
    if not highest > lowest:
        return None
    return float(np.mean([each.mean() for each in sides]))


def note(panel: Panel) -> str | None:
    """Say at which context steps are compared, or that they are not, where that makes a difference."""
    sides = (panel.base.context, panel.new.context)
    if not all(np.isfinite(each).all() and (each > 0).any() for each in sides):
        return None
    means = [float(each.mean()) for each in sides]
    at = mean(panel)
    if at is not None:
        return f"steps are compared at {round(at):,} tokens in the cache" if means[0] != means[1] else None
    if abs(means[0] / means[1] - 1) < _ALIKE_FRAC:
        return None
    return (
        f"{round(means[0]):,} tokens lay in the cache of base's steps and {round(means[1]):,} of new's: what "
        "grows with them, attention above all, is not compared at one length"
    )
