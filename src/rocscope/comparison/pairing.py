"""Which kernels of one side do what which kernels of the other side do. Never a guess: what is not certain is
grouped by what is, or left alone.

In this order: the same kernel, launch and problem; the same layer of the served model or the same product;
the same place in a step (:mod:`slots`); the same kernel whatever its launch. What is left, one side only has.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

import numpy as np

from rocscope.comparison.slots import END, START, Slots
from rocscope.comparison.step_matrix import Column, Steps

Match = Literal["same", "renamed", "base only", "new only"]

PRODUCTS: Final = frozenset({"gemm", "gptq_gemm", "awq_gemm", "gguf_gemm", "bnb_gemm"})
_HELPERS: Final = frozenset({"dequant", "elementwise", "memcpy", "reduction", "quantize"})  # of a product
_SELDOM: Final = 0.1  # of the launches of a pair of kernels: the first layer has other neighbours


@dataclass
class Pair:
    """Columns of either side that do the same."""

    base: list[int]
    new: list[int]
    match: Match
    role: str | None = None


@dataclass
class _Open:
    """Columns that have found no partner yet."""

    base: Steps
    new: Steps
    left: list[int]
    right: list[int]
    pairs: list[Pair] = field(default_factory=list)

    def take(self, left: Iterable[int], right: Iterable[int], match: Match, role: str | None = None) -> None:
        """Pair columns."""
        first, second = sorted(left), sorted(right)
        self.pairs.append(Pair(first, second, match, role))
        self.left = [each for each in self.left if each not in first]
        self.right = [each for each in self.right if each not in second]

    def by(self, key: Callable[[Column], Hashable | None]) -> list[tuple[Any, list[int], list[int]]]:
        """Return the open columns of both sides that share a key which is not ``None``."""
        sides: list[dict[Any, list[int]]] = []
        for steps, indices in ((self.base, self.left), (self.new, self.right)):
            found = defaultdict(list)
            for index in indices:
                if (value := key(steps.columns[index])) is not None:
                    found[value].append(index)
            sides.append(found)
        return [(value, sides[0][value], sides[1][value]) for value in sides[0] if value in sides[1]]


def exact(base: Steps, new: Steps) -> dict[Column, int]:
    """Return the columns that both sides launch equally often in every step, numbered: the anchors."""
    found: dict[Column, int] = {}
    other = {column: index for index, column in enumerate(new.columns)}
    steady = base.steady(), new.steady()
    for index, column in enumerate(base.columns):
        at = other.get(column)
        known = at is not None and steady[0][index] and steady[1][at]
        if known and base.calls[0, index] == new.calls[0, at]:
            found[column] = len(found)
    return found


def pair(base: Steps, new: Steps, slots: Slots, anchors: dict[Column, int]) -> list[Pair]:
    """Pair the columns of both sides; every column is in exactly one pair."""
    known = _Open(base, new, list(range(len(base.columns))), list(range(len(new.columns))))
    for _, left, right in known.by(lambda column: column):
        known.take(left, right, "same")
    _by_layer(known)
    names = list(anchors)
    for slot, left, right in known.by(lambda column: column.slot):
        if slots.alike(slot):
            _in_slot(known, left, right, _place(slots, slot, names))
    for key in (_exactly, _name):
        for _, left, right in known.by(key):
            known.take(left, right, "same")
    for index in list(known.left):
        known.take([index], [], "base only", _alone(base.columns[index], slots, names))
    for index in list(known.right):
        known.take([], [index], "new only", _alone(new.columns[index], slots, names))
    return _merged(known, slots)


def _alone(column: Column, slots: Slots, names: list[Column]) -> str | None:
    return None if column.slot is None else _place(slots, column.slot, names)


def _exactly(column: Column) -> Hashable:
    return (column.kind, column.raw_name, column.launch, column.problem)


def _name(column: Column) -> Hashable:
    return (column.kind, column.kernel, column.family)


def _by_layer(known: _Open) -> None:
    """Pair what does one product of the served model, and what helps it; else what does the same product."""
    for layer, left, right in known.by(lambda column: column.layer):
        if _has_product(known.base, left) and _has_product(known.new, right):
            role = ", ".join(part for part in (layer, _problem(known, left, right)) if part)
            known.take(left, right, _match(known, left, right), role)
    for _, left, right in known.by(lambda column: column.problem or None):
        if len(left) == len(right) == 1 or (
            _has_product(known.base, left) and _has_product(known.new, right)
        ):
            known.take(left, right, _match(known, left, right), _problem(known, left, right))


def _in_slot(known: _Open, left: list[int], right: list[int], role: str) -> None:
    """Pair what runs at one place: a kernel under its own name, all that a product takes, one of a family."""
    base, new = known.base, known.new
    left, right = list(left), list(right)
    for name in sorted({base.columns[each].kernel for each in left}):
        first = [each for each in left if base.columns[each].kernel == name]
        second = [each for each in right if new.columns[each].kernel == name]
        if len(first) == len(second) == 1:
            known.take(first, second, "same", role)
            left.remove(first[0])
            right.remove(second[0])
    if _has_product(base, left) and _has_product(new, right):
        first = [each for each in left if _helps(base, each)]
        second = [each for each in right if _helps(new, each)]
        words = ("product", _problem(known, first, second), role)
        known.take(first, second, "renamed", " ".join(word for word in words if word))
        left = [each for each in left if each not in first]
        right = [each for each in right if each not in second]
    for family in sorted({base.columns[each].family for each in left}):
        first = [each for each in left if base.columns[each].family == family]
        second = [each for each in right if new.columns[each].family == family]
        if len(first) == len(second) == 1 and family != "other":
            known.take(first, second, "renamed", f"{family} {role}")


def _has_product(steps: Steps, indices: list[int]) -> bool:
    return any(steps.columns[each].family in PRODUCTS for each in indices)


def _helps(steps: Steps, index: int) -> bool:
    return steps.columns[index].family in PRODUCTS | _HELPERS


def _match(known: _Open, left: list[int], right: list[int]) -> Match:
    names = [
        {s.columns[each].kernel for each in side} for s, side in ((known.base, left), (known.new, right))
    ]
    return "same" if names[0] == names[1] else "renamed"


def _problem(known: _Open, left: list[int], right: list[int]) -> str | None:
    """Return the product's sizes in words where all that have any agree."""
    told = {known.base.columns[each].problem for each in left} | {
        known.new.columns[each].problem for each in right
    }
    told.discard(())
    if len(told) != 1:
        return None
    sizes = dict(told.pop())
    return f"N={sizes['n']}, K={sizes['k']}, M={sizes['m']}"


def _place(slots: Slots, slot: int, names: list[Column]) -> str:
    before, after = slots.ends(slot)
    if before == START and after == END:
        return "in the step"
    if before == START:
        return f"before {names[after].kernel}"
    if after == END:
        return f"after {names[before].kernel}"
    return f"between {names[before].kernel} and {names[after].kernel}"


def _merged(known: _Open, slots: Slots) -> list[Pair]:
    """Join pairs of the same kernels at several places: where they are seldom, as in the first layer."""
    found: dict[Any, list[Pair]] = defaultdict(list)
    for each in known.pairs:
        key = (
            frozenset(replace(known.base.columns[i], slot=None) for i in each.base),
            frozenset(replace(known.new.columns[i], slot=None) for i in each.new),
        )
        found[key].append(each)
    return [each for alike in found.values() for each in _joined(known, alike, slots)]


def _joined(known: _Open, alike: list[Pair], slots: Slots) -> list[Pair]:
    alike = sorted(alike, key=lambda each: -_calls(known, each))
    kept: list[Pair] = []
    for each in alike:
        beside = [
            other for other in kept if _neighbours(known, each, slots) & _neighbours(known, other, slots)
        ]
        if beside and _calls(known, each) <= _SELDOM * _calls(known, beside[0]):
            beside[0].base += each.base
            beside[0].new += each.new
        else:
            kept.append(each)
    return kept


def _calls(known: _Open, each: Pair) -> float:
    return float(
        known.base.calls[:, each.base].mean(axis=0).sum() + known.new.calls[:, each.new].mean(axis=0).sum()
    )


def _neighbours(known: _Open, each: Pair, slots: Slots) -> set[tuple[int, int]]:
    """Return the anchors beside a pair, with the side they are on; a place without slot has none."""
    places = {known.base.columns[i].slot for i in each.base} | {known.new.columns[i].slot for i in each.new}
    return {
        (side, end) for place in places if place is not None for side, end in enumerate(slots.ends(place))
    }


def names(steps: Steps, indices: list[int]) -> list[str]:
    """Return the kernels of one side of a pair, most time first."""
    time = steps.time_ns.mean(axis=0)
    ordered = sorted(indices, key=lambda each: (-time[each], each))
    return list(dict.fromkeys(steps.columns[each].kernel for each in ordered))


def unsteady(base: Steps, new: Steps) -> set[Column]:
    """Return the columns that some steps of either side launch more often than others."""
    found: set[Column] = set()
    for steps in (base, new):
        found |= {steps.columns[each] for each in np.flatnonzero(~steps.steady())}
    return found
