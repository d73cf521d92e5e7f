"""Steps of one kind of both sides, with their columns paired: what is compared."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from rocscope.comparison import pairing, slots, step_matrix
from rocscope.comparison.pairing import Pair
from rocscope.comparison.step_frames import Kind
from rocscope.comparison.step_matrix import Column, Recorded, Steps

Floats = NDArray[np.float64]

_ORDER: Final = ("decode", "step", "mixed", "prefill")  # which kind of step speaks for a recording


@dataclass
class Panel:
    """Steps of one kind, of both sides."""

    kind: Kind
    base: Steps
    new: Steps
    pairs: list[Pair]

    @property
    def fewest(self) -> int:
        """The steps of the side that has fewer."""
        return min(len(self.base.period_ns), len(self.new.period_ns))


def panels(base: list[Recorded], new: list[Recorded], *, least: int) -> list[Panel]:
    """Return a panel for each kind of step that both sides have, the one that speaks for them first.

    That is the kind with most steps on the side that has fewer, of decode steps where there are ``least``.
    """
    kinds = [kind for each in base for kind in each.found.kinds]
    shared = [kind for kind in dict.fromkeys(kinds) if any(kind in each.found.kinds for each in new)]
    found = []
    for kind in shared:
        sides = [_steps(runs, kind) for runs in (base, new)]
        if sides[0] is not None and sides[1] is not None:
            found.append((kind, sides[0], sides[1]))

    def rank(entry: tuple[Kind, Steps, Steps]) -> tuple[bool, int, int, tuple[int, ...]]:
        fewest = min(len(each.period_ns) for each in entry[1:])
        return (fewest < least, _ORDER.index(entry[0].phase), -fewest, entry[0].counts)

    found.sort(key=rank)
    return [
        _paired(kind, base, new, first, second) if index == 0 else Panel(kind, first, second, [])
        for index, (kind, first, second) in enumerate(found)
    ]


def _steps(runs: list[Recorded], kind: Kind) -> Steps | None:
    found = [steps for each in runs if (steps := step_matrix.of_kind(each, kind)) is not None]
    if not found:
        return None
    return step_matrix.together(found) if len(runs) > 1 else found[0]


def _paired(kind: Kind, base: list[Recorded], new: list[Recorded], first: Steps, second: Steps) -> Panel:
    """Pair the columns of both sides, told apart by their place in the step where that is certain."""
    if not any(each.problem for each in first.columns) or not any(each.problem for each in second.columns):
        base, new = ([_nameless(each) for each in side] for side in (base, new))  # known of both, or of none
        first, second = _known(_steps(base, kind)), _known(_steps(new, kind))
    loose = pairing.unsteady(first, second)
    base, new = ([_loosened(each, loose) for each in side] for side in (base, new))
    first, second = _known(_steps(base, kind)), _known(_steps(new, kind))
    anchors = pairing.exact(first, second)
    places = slots.Slots()
    split = [[slots.apart(each, kind, anchors, places) for each in side] for side in (base, new)]
    left, right = (_known(_steps(side, kind)) for side in split)
    doubtful = {replace(each, slot=None) for each in pairing.unsteady(left, right)}
    left, right = (_rejoined(each, doubtful) for each in (left, right))
    return Panel(kind, left, right, pairing.pair(left, right, places, anchors))


def _known(steps: Steps | None) -> Steps:
    assert steps is not None  # noqa: S101  # a kind of step does not vanish when its columns are renamed
    return steps


def _nameless(recorded: Recorded) -> Recorded:
    named = [replace(each, problem=(), layer=None) for each in recorded.columns]
    return _renamed(recorded, named)


def _loosened(recorded: Recorded, loose: set[Column]) -> Recorded:
    named = [
        replace(each, launch=None, problem=(), layer=None, shape=None) if each in loose else each
        for each in recorded.columns
    ]
    return _renamed(recorded, named)


def _renamed(recorded: Recorded, named: list[Column]) -> Recorded:
    known: dict[Column, int] = {}
    numbers = np.array([known.setdefault(each, len(known)) for each in named], np.int64)
    return replace(recorded, column=numbers[recorded.column], columns=list(known))


def _rejoined(steps: Steps, doubtful: set[Column]) -> Steps:
    """Add up again what was told apart by places that it does not have in every step."""
    named = [
        replace(each, slot=None) if replace(each, slot=None) in doubtful else each for each in steps.columns
    ]
    known: dict[Column, int] = {}
    group = np.array([known.setdefault(each, len(known)) for each in named], np.int64)
    return step_matrix.pooled(steps, group, list(known))


def series(panel: Panel, groups: list[tuple[list[int], list[int]]], side: int) -> tuple[Floats, Floats]:
    """Return the times of groups of columns of one side, [steps, groups], ns, and their calls a step."""
    steps = (panel.base, panel.new)[side]
    adds = np.zeros((len(steps.columns), len(groups)))
    for index, group in enumerate(groups):
        adds[group[side], index] = 1
    return steps.time_ns @ adds, steps.calls.mean(axis=0) @ adds
