"""Families and kernels of both sides: what each takes of a step, or of a recording without steps."""

from __future__ import annotations

from typing import Any

import numpy as np

from rocscope.comparison import pairing
from rocscope.comparison.judging import BUSY, GAPS, OVERLAP, PERIOD, Group, Judged, Measured, judge
from rocscope.comparison.pairing import Pair
from rocscope.comparison.panel import Panel
from rocscope.comparison.result import Difference
from rocscope.comparison.side import Side
from rocscope.comparison.step_matrix import Column, Steps

Table = dict[str, tuple[str | None, float | None, float | None, int | None]]  # family, s, share, dispatches


def groups(panel: Panel) -> tuple[list[str], list[Group]]:
    """Return the families of a panel, and its groups: of each family, then of each pair of kernels."""
    families = sorted({each.family for steps in (panel.base, panel.new) for each in steps.columns})
    of_family: list[Group] = [(_of(panel.base, family), _of(panel.new, family)) for family in families]
    return families, [*of_family, *((each.base, each.new) for each in panel.pairs)]


def _of(steps: Steps, family: str) -> list[int]:
    return [index for index, each in enumerate(steps.columns) if each.family == family]


def rows(
    panel: Panel, measured: Measured, families: list[str], critical: Any, *, comparable: bool
) -> tuple[list[Difference], list[Difference], list[Difference]]:
    """Return differences of families, of kernels, and of what lies between kernels; largest change first."""
    judged = [judge(measured, each, float(critical[each])) for each in range(len(critical))]
    writer = _Writer(panel, measured, judged, comparable)
    first = BUSY + 1
    of_families = [
        writer.row(first + index, name=family, family=family) for index, family in enumerate(families)
    ]
    first += len(families)
    of_kernels = [writer.row(first + index, **_told(panel, each)) for index, each in enumerate(panel.pairs)]
    gaps = [
        writer.row(place, name=name)
        for place, name in ((GAPS, "idle"), (OVERLAP, "overlap"))
        if judged[place].base or judged[place].new
    ]
    return _ordered(of_families), _ordered(of_kernels), gaps


def _ordered(found: list[Difference]) -> list[Difference]:
    return sorted(found, key=lambda each: (-abs((each.new_s or 0.0) - (each.base_s or 0.0)), each.name))


class _Writer:
    """Writes rows of a panel."""

    def __init__(self, panel: Panel, measured: Measured, judged: list[Judged], comparable: bool) -> None:
        self._judged = judged
        self._calls = measured.calls
        self._comparable = comparable
        self._steps = (len(panel.base.period_ns), len(panel.new.period_ns))
        self._total = [float(steps.time_ns.sum(axis=1).mean()) for steps in (panel.base, panel.new)]

    def row(self, column: int, **told: Any) -> Difference:
        """Return the row of a column of the panel's table."""
        each, whole = self._judged[column], self._judged[PERIOD].base
        kernels = column > BUSY
        calls = [float(side[column]) for side in self._calls]
        here = [not kernels or bool(count) for count in calls]
        part = (each.new - each.base) / whole
        margin = None if each.margin is None else each.margin / whole
        dispatches = [
            round(count * steps) if kernels and count else None
            for count, steps in zip(calls, self._steps, strict=True)
        ]
        shares = [
            time / total if kernels and there and total else None
            for time, there, total in zip((each.base, each.new), here, self._total, strict=True)
        ]
        return Difference(
            base_s=each.base * 1e-9 if here[0] else None,
            new_s=each.new * 1e-9 if here[1] else None,
            change_frac=each.change,
            low_frac=each.low,
            high_frac=each.high,
            verdict=each.verdict if self._comparable and column != OVERLAP else None,  # nobody's aim
            step_frac=part,
            step_low_frac=None if margin is None else part - margin - max(0.0, each.idle_ns) / whole,
            step_high_frac=None if margin is None else part + margin - min(0.0, each.idle_ns) / whole,
            base_frac=shares[0],
            new_frac=shares[1],
            base_dispatches=dispatches[0],
            new_dispatches=dispatches[1],
            base_calls=calls[0] if kernels else None,
            new_calls=calls[1] if kernels else None,
            **told,
        )


def _told(panel: Panel, pair: Pair) -> dict[str, Any]:
    """Return what a pair of kernels is called, and how both are launched."""
    base, new = (
        pairing.names(steps, indices) for steps, indices in ((panel.base, pair.base), (panel.new, pair.new))
    )
    parts = [" + ".join(each) for each in (base, new) if each]
    plain = len(set(parts)) == 1 and len(base or new) == 1
    return {
        "name": " -> ".join(dict.fromkeys(parts)),
        "family": _family(panel, pair),
        "match": pair.match,
        "base_name": base[0] if base and not plain else None,
        "new_name": new[0] if new and not plain else None,
        "base_kernels": base,
        "new_kernels": new,
        "role": pair.role,
        "launch_shape": _both(panel, pair, _launch),
        "problem_shape": _both(panel, pair, lambda column: column.shape),
    }


def _family(panel: Panel, pair: Pair) -> str:
    """Return the family of the most time on either side; of both where they differ the new one's."""
    steps, indices = (panel.new, pair.new) if pair.new else (panel.base, pair.base)
    time = steps.time_ns[:, indices].sum(axis=0)
    return steps.columns[indices[int(np.argmax(time))]].family


def _launch(column: Column) -> dict[str, Any] | None:
    if column.launch is None or all(each is None for each in column.launch):
        return None
    return {"grid": list(column.launch[:3]), "workgroup": list(column.launch[3:])}


def _both(panel: Panel, pair: Pair, of: Any) -> dict[str, Any] | None:
    """Return what the kernels of either side have in common; both sides' where those differ."""
    sides = []
    for steps, indices in ((panel.base, pair.base), (panel.new, pair.new)):
        found = [of(steps.columns[each]) for each in indices]
        alike = bool(found) and all(each == found[0] for each in found)
        sides.append(found[0] if alike else None)
    if not pair.base or not pair.new:
        return sides[0] or sides[1]
    return sides[0] if sides[0] == sides[1] else {"base": sides[0], "new": sides[1]}


def kernel_table(side: Side) -> Table:
    """Return what each kernel took in a recording."""
    found: dict[str, list[Any]] = {}
    for each in side.analysis.kernels:
        row = found.setdefault(each.kernel, [each.family, 0.0, 0.0, 0])
        row[1] += each.time_s or 0.0
        row[2] += each.time_frac or 0.0
        row[3] += each.dispatches
    return {name: (row[0], row[1], row[2], row[3]) for name, row in found.items()}


def family_table(side: Side) -> Table:
    """Return what each family took in a recording."""
    return {
        each.family: (each.family, each.time_s, each.time_frac, each.dispatches)
        for each in side.analysis.families
    }


def of_recording(base: Table, new: Table) -> list[Difference]:
    """Pair what has one name; largest change of time first. Nothing is judged: no step, no spread."""
    found = []
    for name in sorted(set(base) | set(new)):
        first, second = base.get(name), new.get(name)
        before, after = (row[1] if row else None for row in (first, second))
        known = next(row for row in (first, second) if row)
        found.append(
            Difference(
                name=name,
                family=known[0],
                base_s=before,
                new_s=after,
                change_frac=after / before - 1 if before and after is not None else None,
                base_frac=first[2] if first else None,
                new_frac=second[2] if second else None,
                base_dispatches=first[3] if first else None,
                new_dispatches=second[3] if second else None,
                match="same" if first and second else "base only" if first else "new only",
            )
        )
    return _ordered(found)
