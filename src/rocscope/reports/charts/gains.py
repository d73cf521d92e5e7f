"""Expected gains as intervals on one scale."""

from __future__ import annotations

import math
from dataclasses import dataclass

from rocscope.findings import Analysis, Gain
from rocscope.reports import figures


@dataclass(frozen=True)
class Scale:
    """From no gain to a round figure above the highest."""

    end_frac: float

    def at(self, frac: float) -> float:
        """Return where ``frac`` lies, 0 to 1."""
        return min(max(frac / self.end_frac, 0.0), 1.0)

    def ticks(self) -> list[tuple[float, str]]:
        """Return where marks stand and what they say."""
        return [(part, figures.percent(part * self.end_frac)) for part in (0.0, 0.5, 1.0)]


@dataclass(frozen=True)
class Interval:
    """Where a gain lies on the scale, 0 to 1."""

    low: float
    width: float
    mid: float


def scale(analysis: Analysis) -> Scale:
    """Return the scale that all targets of an analysis share."""
    widest = max((t.expected_gain.high_frac for t in analysis.targets if t.expected_gain), default=0.0)
    if widest <= 0:
        return Scale(1.0)
    size = 10.0 ** math.floor(math.log10(widest))
    end = next(step * size for step in (1, 2, 4, 5, 6, 8, 10) if step * size >= widest * (1 - 1e-9))
    return Scale(min(end, 1.0) if widest <= 1 else end)


def interval(gain: Gain | None, on: Scale) -> Interval | None:
    """Return where the gain is drawn; ``None`` where it is not known."""
    if gain is None:
        return None
    low, mid, high = (on.at(value) for value in (gain.low_frac, gain.mid_frac, gain.high_frac))
    return Interval(low, max(high - low, 0.004), mid)
