"""Kernels measured alone, with counters: a table as ``analyze --table`` takes, as evidence for reasons.

A row is of a product if it is the same kernel and does as many operations. Its time is of another clock, and
of a cache that may have been emptied: it is never mixed with recorded ones, but named as the table's.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from rocscope.comparison.product_words import time
from rocscope.comparison.products import Product
from rocscope.wording import amount, digits, percent

if TYPE_CHECKING:
    import pandas as pd

_SAME_FRAC: Final = 1e-3  # by which operations may differ and be those of one product
_OFTEN: Final = 2.0  # times its bytes, from which what passes the L2 is told
_BUSY_FRAC: Final = 0.6  # of a roof or of its issue slots, from which a kernel is said to be held by it


class Alone(NamedTuple):
    """One table, analysed as one side's model has it."""

    name: str
    kernels: Any  # the analysis's frame

    def rows(self, kernel: str, flops: float) -> pd.DataFrame:
        """Return the rows of a kernel that does so many operations."""
        frame = self.kernels
        alike = (frame["flops"] - flops).abs() <= _SAME_FRAC * flops
        found: pd.DataFrame = frame[(frame["kernel"] == kernel) & alike.fillna(False)]
        return found


def time_s(tables: list[Alone], row: list[Product], m: int) -> tuple[float, str] | None:
    """Return what the products of ``row`` take at ``m`` rows in the first table that has all of them."""
    for table in tables:
        times = []
        for each in row:
            alike = [one for one in row if one.n * one.k == each.n * each.k]
            found = table.rows(each.kernel, 2.0 * m * each.n * each.k)
            if found.empty or len(alike) > 1:
                break
            times.append(float(found["time_ns"].sum() / found["dispatches"].sum()) * 1e-9)
        if times and len(times) == len(row):
            return sum(times), table.name
    return None


def causes(tables: list[Alone], row: list[Product]) -> tuple[str, list[str]]:
    """Say what counters tell of the longest product of ``row`` that they know: a sentence, its evidence."""
    for each in sorted(row, key=lambda one: -one.time_s):
        for table in tables:
            found = table.rows(each.kernel, each.flops)
            if not found.empty:
                return _causes(table, each, found.iloc[0])
    return "", []


def _causes(table: Alone, product: Product, row: pd.Series) -> tuple[str, list[str]]:
    said, told = [], [f"{time(float(row['mean_ns']) * 1e-9)} a dispatch"]
    issue, passed = _number(row, "issue_active_frac"), _number(row, "l2_bytes")
    requests, sectors = _number(row, "global_load_requests"), _number(row, "global_load_sectors")
    if issue is not None:
        told.append(f"issue slots {percent(issue)} busy")
        if issue >= _BUSY_FRAC:
            said.append(f"its instructions keep the issue slots {percent(issue)} busy")
    if passed is not None and product.bytes:
        told.append(f"{amount(passed, 'B')} through the L2 for {amount(product.bytes, 'B')}")
        if passed >= _OFTEN * product.bytes:
            said.append(f"{digits(passed / product.bytes)} times its bytes pass the L2")
    if requests and sectors is not None:
        told.append(f"{digits(sectors / requests)} sectors of 32 B a load")
    told.append(f"labelled {row['limiter']}")
    where = f"{product.layer} measured alone ({table.name})"
    return "; ".join(said) and f"{where}: {' and '.join(said)}", [f"{where}: {', '.join(told)}"]


def _number(row: pd.Series, name: str) -> float | None:
    value = float(row[name])
    return None if math.isnan(value) else value
