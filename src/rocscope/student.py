"""Student's t: the chance of a value beyond t, and the value of a chance, also for fractional degrees.

Without numpy, which the resident daemon does not import.
"""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist
from typing import Final

_AS_NORMAL: Final = 5000.0  # degrees from which the normal distribution is as good


def beyond(t: float, degrees: float) -> float:
    """Return the chance of |T| > ``t`` for ``degrees`` > 0 of freedom: an incomplete beta function."""
    if degrees >= _AS_NORMAL:
        return 2 * (1 - NormalDist().cdf(abs(t)))
    return _beta(degrees / (degrees + t * t), degrees / 2, 0.5)


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


def _beta(x: float, a: float, b: float) -> float:
    """Return the regularised incomplete beta function, by its continued fraction (Lentz)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    front = math.exp(
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    )
    if x > (a + 1) / (a + b + 2):
        return 1 - front * _fraction(1 - x, b, a) / b
    return front * _fraction(x, a, b) / a


def _fraction(x: float, a: float, b: float) -> float:
    tiny = 1e-300
    c, d = 1.0, 1 / _apart(1 - (a + b) * x / (a + 1), tiny)
    found = d
    for m in range(1, 500):
        for step in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 / _apart(1 + step * d, tiny)
            c = _apart(1 + step / c, tiny)
            found *= c * d
        if abs(c * d - 1) < 1e-12:
            break
    return found


def _apart(value: float, tiny: float) -> float:
    return value if abs(value) > tiny else tiny
