"""Places in a step: between which of the kernels that both sides share a kernel runs.

What runs between the same two neighbours, equally often, does the same part of the step, whatever its name.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from rocscope import columns
from rocscope.comparison.step_frames import Kind
from rocscope.comparison.step_matrix import Column, Recorded

Ints = NDArray[np.int64]

START: Final = -1  # of a step
END: Final = -2


@dataclass
class Slots:
    """Places by number, and how often a step of each side has them."""

    known: dict[tuple[int, int], int] = field(default_factory=dict)  # anchors before and after, to the number
    seen: list[dict[int, float]] = field(default_factory=list)  # by recording: times a step

    def number(self, before: int, after: int) -> int:
        """Return the number of the place between two anchors."""
        return self.known.setdefault((before, after), len(self.known))

    def ends(self, slot: int) -> tuple[int, int]:
        """Return the anchors before and after a place."""
        return list(self.known)[slot]

    def alike(self, slot: int) -> bool:
        """Tell whether a step of every recording has this place equally often."""
        counts = {round(each.get(slot, 0.0), 6) for each in self.seen}
        return len(counts) == 1 and counts != {0.0}


def apart(recorded: Recorded, kind: Kind, anchors: dict[Column, int], slots: Slots) -> Recorded:
    """Return ``recorded`` with all columns but the ``anchors`` told apart by place in steps of ``kind``.

    Its places are numbered in ``slots``, and counted there.
    """
    found = recorded.found
    number = found.kinds.index(kind) if kind in found.kinds else len(found.kinds)
    steps = np.flatnonzero(found.kind == number)
    rows = np.flatnonzero(np.isin(found.step, steps))
    start = columns.ints(found.rows["start_ns"])[rows]
    rows = rows[np.lexsort((start, found.step[rows]))]
    step = found.step[rows]
    of_column = np.array([anchors.get(each, END) for each in recorded.columns], np.int64)
    anchor = of_column[recorded.column[rows]]
    at = np.flatnonzero(anchor >= 0)
    before = _neighbour(step, anchor, at, np.searchsorted(at, np.arange(len(rows)), side="left") - 1, START)
    after = _neighbour(step, anchor, at, np.searchsorted(at, np.arange(len(rows)), side="right"), END)
    slots.seen.append(_seen(step, anchor, before, slots))
    column, named = recorded.column.copy(), list(recorded.columns)
    known = {each: index for index, each in enumerate(named)}
    free = np.flatnonzero(anchor < 0)
    triples, count = columns.identify([before[free], after[free], recorded.column[rows[free]]])
    first = free[columns.first_rows(triples, count)]
    numbers = np.empty(count, np.int64)
    for index, row in enumerate(first):
        place = slots.number(int(before[row]), int(after[row]))
        told = replace(recorded.columns[recorded.column[rows[row]]], slot=place)
        numbers[index] = known.setdefault(told, len(known))
    column[rows[free]] = numbers[triples]
    return replace(recorded, column=column, columns=list(known))


def _neighbour(step: Ints, anchor: Ints, at: Ints, place: Ints, none: int) -> Ints:
    """Return the anchor at ``place`` among ``at`` where it lies in the same step, else ``none``."""
    if not len(at):
        return np.full(len(step), none, np.int64)
    inside = (place >= 0) & (place < len(at))
    row = at[np.clip(place, 0, len(at) - 1)]
    return np.where(inside & (step[row] == step), anchor[row], none)


def _seen(step: Ints, anchor: Ints, before: Ints, slots: Slots) -> dict[int, float]:
    """Count how often each place comes in a step: once before each anchor, and at the end of each step."""
    if not len(step):
        return {}
    at = np.flatnonzero(anchor >= 0)
    ends = np.flatnonzero(np.append(step[1:] != step[:-1], True))
    last = np.where(anchor[ends] >= 0, anchor[ends], before[ends])
    first = np.concatenate((before[at], last))
    second = np.concatenate((anchor[at], np.full(len(ends), END)))
    places, count = columns.identify([first, second])
    row = columns.first_rows(places, count)
    times = np.bincount(places, minlength=count) / len(ends)
    return {
        slots.number(one, other): float(each)
        for one, other, each in zip(first[row].tolist(), second[row].tolist(), times, strict=True)
    }
