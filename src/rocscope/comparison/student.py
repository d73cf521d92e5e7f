"""Student's t: the chance of a value beyond t, and the value of a chance, also for fractional degrees."""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist
from typing import Final

import numpy as np

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(96)
_AS_NORMAL: Final = 5000.0  # degrees from which the normal distribution is as good
_PANELS: Final = 4  # pieces of an integral, denser towards where most of it lies


def beyond(t: float, degrees: float) -> float:
    """Return the chance of |T| > ``t`` for ``degrees`` > 0 of freedom.

    With t = sqrt(degrees) * tan(a) the density is cos(a) ** (degrees - 1) but for a factor.
    """
    if degrees >= _AS_NORMAL:
        return 2 * (1 - NormalDist().cdf(abs(t)))
    low = math.atan(abs(t) / math.sqrt(degrees))
    return _integral(low, degrees) / _integral(0.0, degrees)


def value(chance: float, degrees: float) -> float:
    """Return the t that |T| exceeds with this ``chance``, for ``degrees`` > 0 of freedom."""
    return _value(float(f"{chance:.12g}"), float(f"{degrees:.6g}"))


@lru_cache(maxsize=65536)
def _value(chance: float, degrees: float) -> float:
    if chance >= 1:
        return 0.0
    if degrees >= _AS_NORMAL:
        return NormalDist().inv_cdf(1 - chance / 2)
    low, high = 0.0, 1.0
    while beyond(high, degrees) > chance and high < 1e12:
        low, high = high, high * 4
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if beyond(middle, degrees) > chance else (low, middle)
        if high - low <= 1e-9 * high:
            break
    return (low + high) / 2


def _integral(low: float, degrees: float) -> float:
    """Integrate cos(a) ** (degrees - 1) from ``low`` to a right angle.

    With b = pi/2 - a it is sin(b) ** (degrees - 1), which b = (end) * u ** 2 makes smooth for few degrees.
    """
    end = math.pi / 2 - low
    reach = min(1.0, 12 / math.sqrt(degrees) / end) if degrees > 8 else 1.0  # nearly all lies near `low`
    total = 0.0
    for index in range(_PANELS):
        first = 1 - reach * (index + 1) / _PANELS
        last = 1 - reach * index / _PANELS
        u = (last - first) / 2 * _NODES + (last + first) / 2
        b = end * u * u
        total += float(((last - first) / 2 * _WEIGHTS * np.sin(b) ** (degrees - 1) * 2 * end * u).sum())
    return total
