"""Products of a layer in words: one product with its figures and their basis, times, rates."""

from __future__ import annotations

from typing import Final

from rocscope import wording
from rocscope.comparison.products import Product
from rocscope.wording import amount, digits, duration

_LONGEST_NAME: Final = 44


def line(name: str, each: Product) -> str:
    """Write one product's figures, each with its basis; ``name`` says whose."""
    shape = f"{name} {each.layer} (M={each.m}, N={each.n}, K={each.k})"
    parts = [f"{_shortened(each.kernel)} {time(each.multiply_s)}"]
    if each.write_out_s:
        parts.append(f"{time(each.write_out_s)} writing out 16-bit weights")
    parts[-1] += f" (measured, mean of {each.count:g})"
    if each.bytes:
        rate = amount(each.bytes / each.time_s, "B/s")
        parts.append(f"{amount(each.bytes, 'B')} ({each.bytes_basis}), {rate}")
    pipe = f" on {each.unit.replace('_', ' ')}" if each.unit else ""
    parts.append(f"{amount(each.flops / each.multiply_s, 'FLOP/s')}{pipe}")
    if each.passes is not None:
        times = "pass" if each.passes == 1 else "passes"
        parts.append(f"{digits(each.passes)} {times} over the weights by the launch")
    parts.append(f"limiter {each.limiter}")
    return f"{shape}: {', '.join(parts)}"


def rows(m: int) -> str:
    """Say how many rows."""
    return f"{m} row" if m == 1 else f"{m} rows"


def time(value_s: float) -> str:
    """Write a time."""
    return duration(value_s * 1e9)


def signed(value_s: float) -> str:
    """Write a difference of times with its sign."""
    return wording.signed(value_s, time(abs(value_s)))


def _shortened(name: str) -> str:
    """Keep both ends of a long name: variants of one kernel differ at the end."""
    if len(name) <= _LONGEST_NAME:
        return name
    half = _LONGEST_NAME // 2
    return f"{name[:half]}…{name[1 - half :]}"
