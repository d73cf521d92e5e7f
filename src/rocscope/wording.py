"""Figures in evidence sentences: three significant digits, SI prefixes, the unit always named."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

_PREFIXES: Final = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))


def digits(value: float) -> str:
    """Three significant digits, thousands apart, never with an exponent: 0.0123, 1.23, 123, 1,230."""
    return f"{Decimal(f'{value:.3g}'):,f}"


def amount(value: float, unit: str) -> str:
    """A value with a decimal prefix: ``8.73 MB``, ``1.23 TB/s``."""
    scale, prefix = next(((s, p) for s, p in _PREFIXES if abs(value) >= s * 0.9995), (1.0, ""))
    return f"{digits(value / scale)} {prefix}{unit}"


def duration(value_ns: float) -> str:
    """A time in the unit that suits it."""
    for scale, unit in ((1e9, "s"), (1e6, "ms"), (1e3, "µs")):
        if abs(value_ns) >= scale * 0.9995:
            return f"{digits(value_ns / scale)} {unit}"
    return f"{digits(value_ns)} ns"


def percent(value: float) -> str:
    """A share as a percentage: ``15.7 %``."""
    return f"{digits(value * 100)} %"


def signed(value: float, told: str) -> str:
    """What is ``told`` of a value's size, with the value's sign: ``+1.23 ms``, ``−938 µs``; a bare 0."""
    return f"{'+' if value > 0 else '−' if value < 0 else ''}{told}"


def change(value: float) -> str:
    """A change as a percentage: ``+50.7 %``, ``−3.2 %``."""
    return signed(value, percent(abs(value)))
