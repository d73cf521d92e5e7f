"""What became of a kernel's time a step: of the same kernel, or of what took its place.

Rows of a comparison pair what does one thing in a step, whatever its name. Where rows of one role are left
without a partner, or lost dispatches to others, the new time of that role is shared out over those that lost,
by how much each lost: one change replaced them together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from rocscope.comparison import work
from rocscope.comparison.result import Difference
from rocscope.comparison.work import Work
from rocscope.findings import Analysis

PRODUCTS: Final = frozenset({"gptq_gemm", "awq_gemm", "gguf_gemm", "bnb_gemm", "dequant", "gemm"})
_NORMS: Final = frozenset({"rmsnorm", "layernorm"})
_FEWER: Final = 0.95  # of its dispatches a step: below it others took some over
LEAST_STEP_FRAC: Final = 0.01  # of a step, by which what was worked on changes: less may be a side effect


@dataclass(frozen=True)
class Outcome:
    """A kernel's exposed time a step before and after, s, and how that was told."""

    before_s: float
    after_s: float
    changed: bool  # so that something was done about it, as far as seen
    how: str
    by: list[str] = field(default_factory=list)  # names of what took its place
    change_low_frac: float | None = None  # interval of the change of its time, where it stayed what it was
    change_high_frac: float | None = None
    other_work: str | None = None  # why what is done now is not what was done before


class Steps:
    """Kernels of both recordings a step: rows of a comparison, weighed by how much of each was exposed."""

    def __init__(self, rows: list[Difference], base: Analysis, new: Analysis, step_s: float) -> None:
        """Take ``rows`` whose times are of a step; ``step_s`` is base's."""
        self._rows = rows
        self._step_s = step_s
        self._base, self._new = exposed_frac(base), exposed_frac(new)
        self._work = (Work(base), Work(new))

    def of(self, kernel: str, family: str | None) -> Outcome | str:
        """Return what became of ``kernel``, or why that is not known."""
        mine = [row for row in self._rows if row.base_s and kernel in _base_names(row)]
        before = sum(self._before(row) for row in mine)
        if before <= 0:
            return "it is in none of the steps that were compared"
        kept = sum(self._after(row) for row in mine)
        own = before - kept
        role = role_of(family or mine[0].family)
        lost, grown, fresh = self._role(role, mine) if any(_gave(row) for row in mine) else (0.0, 0.0, [])
        names = list(dict.fromkeys([*_renamed(mine, kernel), *fresh]))
        gone = all(not row.new_s for row in mine)
        if gone and not names and (others := self._new_elsewhere(mine)):
            return (
                f"it is gone, and which of what is new took over its work is not known: {', '.join(others)}"
            )
        after = kept + (grown * own / lost if lost > 0 and grown > 0 else 0.0)
        if not names and not gone:
            return self._same(mine, before, kept)
        how = "the kernel is gone" if gone else "the kernel gave work to others"
        if _renamed(mine, kernel):
            how = "the kernel was replaced"
        how += f" by {', '.join(names)}" if names else ", with nothing in its place"
        how += (
            ", whose time is shared out over all that they replaced" if lost > own * 1.001 and fresh else ""
        )
        low, high = self._interval(mine, before, after) if not fresh else (None, None)
        return Outcome(before, after, True, how, names, low, high, work.other(*self._work, mine))

    def _same(self, mine: list[Difference], before: float, kept: float) -> Outcome:
        """Tell whether a kernel that stayed was worked on: changed by enough, or is launched otherwise."""
        beyond = [row for row in mine if row.verdict in {"better", "worse"} and not row.explained_by]
        moved = abs(sum((row.new_s or 0.0) - (row.base_s or 0.0) for row in beyond))
        how = "the kernel's time shows no difference"
        changed = bool(beyond) and (
            moved >= LEAST_STEP_FRAC * self._step_s or any(_launched_otherwise(row) for row in beyond)
        )
        if changed:
            how = "the kernel stayed and its time changed"
        elif clock := next((row.explained_by for row in mine if row.explained_by), None):
            how = f"the kernel's time changed with {clock}"
        elif beyond:
            how = "the kernel's time changed by less than a hundredth of a step, which may be a side effect"
        interval = self._interval(mine, before, kept)
        return Outcome(before, kept, changed, how, [], *interval, work.other(*self._work, mine))

    def _interval(
        self, mine: list[Difference], before: float, after: float
    ) -> tuple[float | None, float | None]:
        """Return an interval of the change: what the rows' own allow to either side, which hold at once."""
        sides = [(row.step_low_frac, row.step_high_frac) for row in mine]
        widths = [high - low for low, high in sides if low is not None and high is not None]
        whole = sum(row.base_s or 0.0 for row in mine) / self._step_s
        if len(widths) < len(mine) or whole <= 0:
            return None, None
        change, half = after / before - 1, sum(widths) / 2 / whole
        return change - half, change + half

    def _role(self, role: str | None, mine: list[Difference]) -> tuple[float, float, list[str]]:
        """Return time a step that rows of a role lost and others took on, s, and the names of these."""
        lost, grown, names = 0.0, 0.0, []
        for row in self._rows:
            if row not in mine and role_of(row.family) != role:
                continue
            if row.base_s and _gave(row):
                lost += self._before(row) - self._after(row)
            elif not row.base_s and row.new_s:
                grown += self._after(row)
                names += _new_names(row)
            elif row.verdict == "worse" and not row.explained_by and _ratio(row) > 1 / _FEWER:
                grown += self._after(row) - self._before(row)
                names += _new_names(row)
        return lost, grown, names

    def _new_elsewhere(self, mine: list[Difference]) -> list[str]:
        """Name what may have taken over work of another role: what is new, or takes longer."""
        rest = [row for row in self._rows if row not in mine and row.new_s]
        new = [row for row in rest if not row.base_s]
        worse = [row for row in rest if row.base_s and row.verdict == "worse" and not row.explained_by]
        return [name for row in (*new, *worse) for name in _new_names(row)][:3]

    def _before(self, row: Difference) -> float:
        return (row.base_s or 0.0) * self._base.get(_base_names(row)[0], 1.0)

    def _after(self, row: Difference) -> float:
        return (row.new_s or 0.0) * self._new.get(_new_names(row)[0], 1.0)


def _base_names(row: Difference) -> list[str]:
    return row.base_kernels or [row.base_name or row.name]


def _new_names(row: Difference) -> list[str]:
    return row.new_kernels or [row.new_name or row.name]


def _renamed(rows: list[Difference], kernel: str) -> list[str]:
    """Name what took the place of ``kernel`` in rows that pair it with another."""
    pairs = [_new_names(row) for row in rows if row.match == "renamed" and row.new_s]
    return [name for names in pairs for name in names if name != kernel]


def _gave(row: Difference) -> bool:
    """Tell whether what a row is of went, or left dispatches to others that it is not paired with."""
    if not row.new_s:
        return True
    return row.match != "renamed" and _ratio(row) < _FEWER


def _ratio(row: Difference) -> float:
    """Return dispatches a step after, of those before; 1 where they are not known."""
    return row.new_calls / row.base_calls if row.base_calls and row.new_calls is not None else 1.0


def _launched_otherwise(row: Difference) -> bool:
    return row.launch_shape is not None and "base" in row.launch_shape


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
