"""How a number is written, the same in every report: 3 significant digits, SI units, a dash for unknown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from rocscope.findings import Gain, LaunchShape

UNKNOWN: Final = "–"
_PREFIXES: Final = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))
_SMALL: Final = ((1.0, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n"))
MINUS: Final = "−"  # as wide as a plus, and no hyphen
NBSP: Final = "\u00a0"  # between a number and its unit: a line never breaks there


def significant(value: float, digits: int = 3) -> str:
    """Write ``value`` with ``digits`` significant digits, thousands separated, never an exponent."""
    if value == 0:
        return "0"
    rounded = float(f"{value:.{digits - 1}e}")
    exponent = math.floor(math.log10(abs(rounded)))
    return f"{rounded:,.{max(0, digits - 1 - exponent)}f}".replace("-", MINUS)


def _scaled(value: float | None, unit: str, steps: Sequence[tuple[float, str]]) -> str:
    if value is None or not math.isfinite(value):
        return UNKNOWN
    if value == 0:
        return f"0{NBSP}{unit}"
    rounded = abs(float(f"{value:.2e}"))  # 999.6 ns is 1.00 µs
    size, prefix = next(((s, p) for s, p in steps if rounded >= s), steps[-1])
    return f"{significant(value / size)}{NBSP}{prefix}{unit}"


def seconds(value: float | None) -> str:
    """Write a time in s: ``12.6 ms``, ``125 s``."""
    return _scaled(value, "s", _SMALL)


def nanoseconds(value: float | None) -> str:
    """Write a time in ns: ``45.4 µs``."""
    return seconds(None if value is None else value / 1e9)


def milliseconds(value: float) -> str:
    """Write a time in s as milliseconds without the unit, two decimals as in a column: ``12.64``."""
    shown = value * 1e3
    return "<0.01" if 0 < shown < 0.005 else "0" if shown == 0 else f"{shown:,.2f}"


def size_bytes(value: float | None) -> str:
    """Write an amount of data, decimal: ``18.3 MB``."""
    return _scaled(value, "B", _PREFIXES)


def rate_bytes(value: float | None) -> str:
    """Write a bandwidth: ``468 GB/s``."""
    return _scaled(value, "B/s", _PREFIXES)


def rate_flops(value: float | None) -> str:
    """Write a rate of operations: ``46.1 TFLOP/s``."""
    return _scaled(value, "FLOP/s", _PREFIXES)


def watts(value: float | None) -> str:
    """Write a power: ``187 W``."""
    return _scaled(value, "W", _PREFIXES)


def hertz(value: float | None) -> str:
    """Write a clock: ``1.50 GHz``."""
    return _scaled(value, "Hz", _PREFIXES)


def celsius(value: float | None) -> str:
    """Write a temperature: ``73 °C``."""
    return UNKNOWN if value is None or not math.isfinite(value) else f"{value:.0f}{NBSP}°C"


def operations(value: float | None) -> str:
    """Write a number of operations: ``36.7 MFLOP``."""
    return _scaled(value, "FLOP", _PREFIXES)


def intensity(value: float | None) -> str:
    """Write an arithmetic intensity: ``1.97 FLOP/B``."""
    return UNKNOWN if value is None or not math.isfinite(value) else f"{significant(value)}{NBSP}FLOP/B"


def rounded(value: float) -> str:
    """Write a mark of an axis: ``100``, ``10 T``, ``0.01``."""
    if value < 1e3:
        return f"{value:g}"
    size, prefix = next((s, p) for s, p in _PREFIXES if value >= s)
    return f"{value / size:g}{NBSP}{prefix}"


def percent(frac: float | None) -> str:
    """Write a share: ``59.9 %``, ``0.04 %``, ``<0.01 %``."""
    if frac is None or not math.isfinite(frac):
        return UNKNOWN
    value = frac * 100
    if 0 < abs(value) < 0.01:
        return f"{'<' if value > 0 else f'>{MINUS}'}0.01{NBSP}%"
    if abs(value) < 1 and value != 0:
        return f"{value:.2f}{NBSP}%".replace("-", MINUS)
    return f"{significant(value)}{NBSP}%"


def change(frac: float | None) -> str:
    """Write a change with its sign: ``+50.7 %``, ``−3.20 %``, ``~0 %``."""
    if frac is None or not math.isfinite(frac):
        return UNKNOWN
    if abs(frac) < 1e-4:
        return f"±0{NBSP}%" if frac == 0 else f"~0{NBSP}%"
    return ("+" if frac > 0 else MINUS) + percent(abs(frac))


def percent_range(low_frac: float, high_frac: float) -> str:
    """Write an interval of shares: ``6.60 to 48.1 %``."""
    low, high = percent(low_frac), percent(high_frac)
    return f"{low.removesuffix(f'{NBSP}%')}{NBSP}to{NBSP}{high}"


def count(value: float | None) -> str:
    """Write a whole number exactly: ``43,915``."""
    return UNKNOWN if value is None or not math.isfinite(value) else f"{round(value):,}"


def gain(value: Gain | None) -> str:
    """Write an expected gain with its interval: ``4.90 % (1.20 % to 9.80 %)``."""
    if value is None:
        return UNKNOWN
    return f"{percent(value.mid_frac)} ({percent(value.low_frac)} to {percent(value.high_frac)})"


def calls(value: float) -> str:
    """Write how often something happens a step: ``144 calls``, ``0.50 calls``."""
    whole = value >= 100 or abs(value - round(value)) < 0.005
    return f"{count(value) if whole else significant(value)}{NBSP}call{'' if value == 1 else 's'}"


def size(value: object) -> str:
    """Write a size of a problem: a whole number as it is (``24576``), a mean in three digits, else text."""
    if not isinstance(value, float) or not math.isfinite(value):
        return str(value)
    return str(int(value)) if value.is_integer() else significant(value)


def extent(values: Sequence[int | None]) -> str:
    """Write a grid or workgroup in work-items: ``7168×1×1``; only what is known."""
    present = [str(value) for value in values if value is not None]
    return "×".join(present) or UNKNOWN


def launch(shape: LaunchShape) -> str:
    """Write a launch shape: ``grid 7168×1×1, workgroup 256×1×1``; of which nothing is known a dash."""
    if extent(shape.grid) == extent(shape.workgroup) == UNKNOWN:
        return UNKNOWN
    return f"grid {extent(shape.grid)}, workgroup {extent(shape.workgroup)}"


def ordinary_spaces(text: str) -> str:
    """Replace the unbreakable spaces, for formats where they would only surprise."""
    return text.replace(NBSP, " ")
