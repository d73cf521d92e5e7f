"""What became of a kernel's time a step: of the same kernel, or of what took its place.

Where kernels of one role went or lost dispatches, and others of that role are new or took more time, the new
time is shared out over those that lost, by how much each lost: one change replaced them together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from rocscope.comparison.result import Difference
from rocscope.findings import Analysis

PRODUCTS: Final = frozenset({"gptq_gemm", "awq_gemm", "gguf_gemm", "bnb_gemm", "dequant", "gemm"})
_NORMS: Final = frozenset({"rmsnorm", "layernorm"})
_LEAST_CHANGE: Final = 0.05  # of a kernel's time: less is seldom what somebody tried
_FEWER: Final = 0.95  # times the usual ratio of dispatches: below it others took some over


@dataclass(frozen=True)
class Outcome:
    """A kernel's exposed time a step before and after, s, and how that was told."""

    before_s: float
    after_s: float
    changed: bool  # beyond noise, gone or renamed
    how: str
    by: list[str] = field(default_factory=list)  # names of what took its place
    change_low_frac: float | None = None  # interval of the change of its time, where it stayed what it was
    change_high_frac: float | None = None


class Steps:
    """Kernels of both recordings a step: rows of a comparison, weighed by how much of each was exposed."""

    def __init__(self, rows: list[Difference], base: Analysis, new: Analysis) -> None:
        """Take ``rows`` whose times are of a step."""
        self._rows = rows
        self._base, self._new = exposed_frac(base), exposed_frac(new)
        both = [row for row in rows if row.base_dispatches and row.new_dispatches]
        ratios = [(row.new_dispatches or 0) / (row.base_dispatches or 1) for row in both]
        self._usual = float(np.median(ratios)) if ratios else 1.0

    def of(self, kernel: str, family: str | None) -> Outcome | str:
        """Return what became of ``kernel``, or why that is not known."""
        mine = [row for row in self._rows if _base_name(row) == kernel and row.base_s]
        before = sum(self._before(row) for row in mine)
        if before <= 0:
            return "it is in none of the steps that were compared"
        kept = sum(self._after(row) for row in mine)
        gone = all(not row.new_s for row in mine)
        if not any(self._gave(row) for row in mine):
            return self._same(mine, before, kept)
        role = role_of(family or mine[0].family)
        lost, grown, names = self._role(role, {_base_name(row) for row in mine})
        own = before - kept
        after = kept + (grown * own / lost if lost > 0 and grown > 0 else 0.0)
        if gone and not names and (others := self._new_elsewhere(role)):
            return (
                f"it is gone, and which of what is new took over its work is not known: {', '.join(others)}"
            )
        how = "is gone" if gone else "was renamed" if mine[0].match == "renamed" else "gave work to others"
        taken = f", its place taken by {', '.join(names)}" if names else ", with nothing in its place"
        if lost > own * 1.001 and names:
            taken += ", whose time is shared out over all that they replaced"
        return Outcome(before, after, True, f"the kernel {how}{taken}", names)

    def _same(self, mine: list[Difference], before: float, kept: float) -> Outcome:
        shown = any(row.verdict in {"better", "worse"} and not row.explained_by for row in mine)
        changed = shown and abs(kept - before) >= _LEAST_CHANGE * before
        how = "the kernel stayed and its time changed" if changed else "the kernel's time shows no difference"
        if clock := next((row.explained_by for row in mine if row.explained_by), None):
            how = f"the kernel's time changed with {clock}"
        if len(mine) > 1:
            return Outcome(before, kept, changed, how)
        return Outcome(
            before, kept, changed, how, change_low_frac=mine[0].low_frac, change_high_frac=mine[0].high_frac
        )

    def _role(self, role: str | None, own: set[str]) -> tuple[float, float, list[str]]:
        """Return time a step that kernels of a role lost and others took on, s, and the names of these."""
        lost, grown, names = 0.0, 0.0, []
        for row in self._rows:
            if role_of(row.family) != role and _base_name(row) not in own:
                continue
            if self._gave(row):
                lost += self._before(row) - self._after(row)
                names += [row.new_name] if row.match == "renamed" and row.new_name else []
            elif not row.base_s and row.new_s:
                grown += self._after(row)
                names.append(row.new_name or row.name)
            elif row.verdict == "worse" and not row.explained_by and self._more(row):
                grown += self._after(row) - self._before(row)
                names.append(row.new_name or row.name)
        return lost, grown, names

    def _new_elsewhere(self, role: str | None) -> list[str]:
        new = [row for row in self._rows if role_of(row.family) != role and row.new_s and not row.base_s]
        worse = [row for row in self._rows if row.base_s and row.verdict == "worse" and not row.explained_by]
        return [row.new_name or row.name for row in (*new, *worse)][:3]

    def _gave(self, row: Difference) -> bool:
        """Tell whether a kernel went, was renamed, or left dispatches to others."""
        if not row.base_s:
            return False
        if not row.new_s or row.match == "renamed":
            return True
        return self._ratio(row) < _FEWER

    def _more(self, row: Difference) -> bool:
        return self._ratio(row) > 1 / _FEWER

    def _ratio(self, row: Difference) -> float:
        if not row.base_dispatches or row.new_dispatches is None:
            return 1.0
        return row.new_dispatches / row.base_dispatches / self._usual

    def _before(self, row: Difference) -> float:
        return (row.base_s or 0.0) * self._base.get(_base_name(row), 1.0)

    def _after(self, row: Difference) -> float:
        return (row.new_s or 0.0) * self._new.get(row.new_name or row.name, 1.0)


def _base_name(row: Difference) -> str:
    return row.base_name or row.name


def role_of(family: str | None) -> str | None:
    """Return what kernels of a family do in a step, by which one can stand for another."""
    if family in PRODUCTS:
        return "products of weights"
    return "norms" if family in _NORMS else family


def exposed_frac(analysis: Analysis) -> Mapping[str, float]:
    """Return which part of each kernel's time nothing else ran beside it; 1 where that is not known."""
    time: dict[str, float] = {}
    alone: dict[str, float] = {}
    for each in analysis.kernels:
        spent = each.time_s or 0.0
        time[each.kernel] = time.get(each.kernel, 0.0) + spent
        exposed = spent if each.exposed_s is None else each.exposed_s
        alone[each.kernel] = alone.get(each.kernel, 0.0) + exposed
    return {name: min(1.0, alone[name] / spent) for name, spent in time.items() if spent > 0}
