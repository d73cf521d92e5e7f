"""What a layer's products would take at a number of rows that was not recorded: bounds, and their grounds.

For vLLM's fused GPTQ kernel (``models/gptq.py``) the launch tells how work grows: the weights are read once
for each 8 rows. Up to 8 rows time is continued in a straight line through the two largest numbers of rows
recorded; beyond, ``p = ceil(M / 8)`` passes take no less than one and no more than p one after the other, as
a launch of p times the workgroups is paid once and may run them side by side. Above 24 rows vLLM takes
another path.

For a dense product time does not fall with more rows: it lies between those of fewer and of more rows. While
memory bandwidth limits it, it lies below the straight line between them, as only operations grow with rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from rocscope.comparison import measured_alone
from rocscope.comparison.measured_alone import Alone
from rocscope.comparison.product_words import rows, time
from rocscope.comparison.products import Products, time_s

ROWS_A_PASS: Final = 8  # BLOCK_M_SIZE_MAX of vLLM's q_gemm.cu
_MOST_ROWS: Final = 24  # MAX_Q_GEMM_ROWS_8BIT, the least of those of vLLM and its gfx906 fork


@dataclass(frozen=True)
class Expected:
    """Time of a layer's products at so many rows."""

    low_s: float
    mid_s: float | None  # None where nothing tells where in between
    high_s: float
    measured: bool
    how: str


def expected(found: Products, m: int, tables: list[Alone] | None = None) -> Expected | None:
    """Return what one layer's products take at ``m`` rows, measured if recorded; ``None`` where not known.

    ``tables`` of kernels measured alone may tell what eight rows take.
    """
    row = found.at(m)
    if row is not None:
        took = time_s(row)
        return Expected(took, took, took, measured=True, how=f"measured at {rows(m)}")
    known = found.rows(prompts=False)
    if len(known) < 2:
        return None
    fused = all(each.passes is not None for each in found.at(known[-1]) or [])
    return _fused(found, known, m, tables or []) if fused else _dense(found, known, m)


def _fused(found: Products, known: list[int], m: int, tables: list[Alone]) -> Expected | None:
    small = [each for each in known if each <= ROWS_A_PASS]
    if len(small) < 2 or m < small[-1] or m > _MOST_ROWS:
        return None
    first, last = small[-2:]
    before, after = time_s(found.at(first)), time_s(found.at(last))
    slope = (after - before) / (last - first)
    if slope <= 0:
        return None
    full = after + slope * (ROWS_A_PASS - last)
    line = f"t(8) = {time(full)}"
    if last < ROWS_A_PASS:
        line += (
            f", continued in a straight line from {time(before)} at {first} and {time(after)} at {rows(last)}"
        )
    alone = measured_alone.time_s(tables, found.at(last) or [], ROWS_A_PASS) if last < ROWS_A_PASS else None
    if alone is not None:
        full, name = alone
        slope, line = (full - after) / (ROWS_A_PASS - last), f"t(8) = {time(full)}, measured alone ({name})"
    if m <= ROWS_A_PASS:
        middle = after + slope * (m - last)
        return Expected(after, middle, max(full, middle), measured=False, how=line)
    passes = -(-m // ROWS_A_PASS)
    middle = after + slope * (m - last)
    how = (
        f"{passes} passes of {ROWS_A_PASS} rows, ceil(M / 8): at least t(8), at most {passes} x t(8), where "
        f"the launch that they share is paid again; in between, the straight line at {m} rows; {line}"
    )
    return Expected(full, min(max(middle, full), passes * full), passes * full, measured=False, how=how)


def _dense(found: Products, known: list[int], m: int) -> Expected | None:
    fewer = [each for each in known if each < m]
    more = [each for each in found.rows() if each > m]
    if not fewer or not more:
        return None
    few = found.at(fewer[-1]) or []
    low, high = time_s(few), time_s(found.at(more[0]))
    if high < low:
        return None
    if all(each.limiter == "memory-bandwidth" for each in few):
        line = low + (high - low) * (m - fewer[-1]) / (more[0] - fewer[-1])
        how = (
            f"at least {time(low)} as at {rows(fewer[-1])}, where memory bandwidth is the limiter, at most "
            f"the straight line to {time(high)} at {rows(more[0])}, as operations are not the limit"
        )
        return Expected(low, None, line, measured=False, how=how)
    how = f"between {time(low)} at {rows(fewer[-1])} and {time(high)} at {rows(more[0])}: more take no less"
    return Expected(low, None, high, measured=False, how=how)
