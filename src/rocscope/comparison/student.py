"""Student's t: how far a mean may be off whose spread is itself known from few values."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np

_POINTS: Final = 200_001


@lru_cache(maxsize=1024)
def value(chance: float, degrees: float) -> float:
    """Return the t that |T| exceeds with this ``chance``, for ``degrees`` of degrees.

    With t = sqrt(degrees) tan(a) the density is cos(a) ** (degrees - 1), which is smooth on a finite range.
    """
    angles = np.linspace(0.0, np.pi / 2, _POINTS)
    density = np.cos(angles) ** (degrees - 1)
    inside = np.concatenate(([0.0], np.cumsum((density[1:] + density[:-1]) / 2)))
    angle = np.interp((1 - chance) * inside[-1], inside, angles)
    return float(np.sqrt(degrees) * np.tan(angle))
