"""Families, kernels and phases of both recordings, paired by name."""

from __future__ import annotations

from typing import Any

from rocscope.comparison.result import Difference
from rocscope.comparison.side import Side

Table = dict[str, tuple[str | None, float | None, float | None, int | None]]  # family, s, share, dispatches


def kernel_table(side: Side) -> Table:
    """Return what each kernel took."""
    found: dict[str, list[Any]] = {}
    for each in side.analysis.kernels:
        row = found.setdefault(each.kernel, [each.family, 0.0, 0.0, 0])
        row[1] += each.time_s or 0.0
        row[2] += each.time_frac or 0.0
        row[3] += each.dispatches
    return {name: (row[0], row[1], row[2], row[3]) for name, row in found.items()}


def family_table(side: Side) -> Table:
    """Return what each family took."""
    return {
        each.family: (each.family, each.time_s, each.time_frac, each.dispatches)
        for each in side.analysis.families
    }


def phase_table(side: Side) -> Table:
    """Return what each phase took."""
    return {
        each.phase: (None, each.time_s / each.steps if each.time_s and each.steps else None, None, None)
        for each in side.analysis.phases
    }


def differences(base: Table, new: Table, steps_in: tuple[float, float] | None) -> list[Difference]:
    """Pair what has one name; largest change of time first. Times are divided by ``steps_in``."""
    found = []
    scale = [1 / count for count in steps_in] if steps_in else [1.0, 1.0]
    for name in sorted(set(base) | set(new)):
        first, second = base.get(name), new.get(name)
        before = first[1] * scale[0] if first and first[1] is not None else None
        after = second[1] * scale[1] if second and second[1] is not None else None
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
            )
        )
    return sorted(found, key=lambda each: (-abs((each.new_s or 0.0) - (each.base_s or 0.0)), each.name))
