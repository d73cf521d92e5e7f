"""Arithmetic of half-open time intervals in whole nanoseconds: unions, gaps, exposed time.

All functions take arrays of equal length, one element an interval, and sort them as needed. Memory is a
small multiple of the input. An interval that ends before it starts is an error of the caller.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Clusters:
    """Intervals in order of start, cut where nothing runs."""

    order: Ints  # indices into the input, by start
    starts: Ints  # [clusters], first start
    ends: Ints  # [clusters], last end
    first: Ints  # [clusters], position of the first member in `order`

    @property
    def union_ns(self) -> int:
        """Time in which at least one interval is open."""
        return int((self.ends - self.starts).sum())

    @property
    def gaps_ns(self) -> Ints:
        """Times between one cluster and the next; [clusters - 1], all positive."""
        return self.starts[1:] - self.ends[:-1]


def clusters(start: Ints, end: Ints) -> Clusters:
    """Group intervals that overlap or touch end to start."""
    size = len(start)
    if not size:
        none = np.empty(0, np.int64)
        return Clusters(none, none, none, none)
    if bool(np.any(start[1:] < start[:-1])):
        order = np.argsort(start, kind="stable").astype(np.int64)
        start, end = start[order], end[order]
    else:
        order = np.arange(size, dtype=np.int64)
    reach = np.maximum.accumulate(end)
    cut = np.flatnonzero(np.concatenate(([True], start[1:] > reach[:-1]))).astype(np.int64)
    last = np.concatenate((cut[1:] - 1, [size - 1]))
    return Clusters(order, start[cut], reach[last], cut)


def union_ns(start: Ints, end: Ints) -> int:
    """Return the time in which at least one interval is open."""
    return clusters(start, end).union_ns


def exposed_ns(start: Ints, end: Ints, group: Ints, groups: int) -> Ints:
    """Return, for each of ``groups``, the time in which only intervals of that group are open.

    Overlap within a group counts once; time shared by two groups counts for neither, so that the sum is at
    most the union and equals it where no two groups overlap.
    """
    total = np.zeros(groups, np.int64)
    if not len(start):
        return total
    order = np.argsort(start, kind="stable") if bool(np.any(start[1:] < start[:-1])) else slice(None)
    start, end, group = start[order], end[order], group[order]
    reach = np.maximum.accumulate(end)
    opens = np.concatenate(([True], start[1:] >= reach[:-1]))
    alone = opens & np.concatenate((opens[1:], [True]))  # nothing before or after reaches into it
    _add(total, group[alone], (end - start)[alone])
    crowd = ~alone
    if bool(crowd.any()):
        _sweep(total, *_merged(start[crowd], end[crowd], group[crowd]))
    return total


def _merged(start: Ints, end: Ints, group: Ints) -> tuple[Ints, Ints, Ints]:
    """Join intervals of one group that overlap, where so many could be open at once that sums overflow."""
    limit = np.iinfo(np.int64).max // (int(group.max()) + 1) ** 2
    if len(start) ** 2 <= limit:
        return start, end, group
    order = np.argsort(group, kind="stable")
    cuts = np.flatnonzero(np.diff(group[order])) + 1
    parts = [(int(group[part[0]]), clusters(start[part], end[part])) for part in np.split(order, cuts)]
    of_part = [np.full(len(part.starts), each, np.int64) for each, part in parts]
    starts, ends = (np.concatenate([getattr(part, side) for _, part in parts]) for side in ("starts", "ends"))
    return starts, ends, np.concatenate(of_part)


def _sweep(total: Ints, start: Ints, end: Ints, group: Ints) -> None:
    """Walk over starts and ends, keeping count, sum and sum of squares of the groups that are open.

    All open intervals are of one group exactly where count * squares == sum ** 2 (Cauchy-Schwarz), and that
    group is then sum / count.
    """
    count_limit = np.iinfo(np.int64).max // max(1, (int(group.max()) + 1) ** 2)
    time = np.concatenate((start, end))
    order = np.argsort(time, kind="stable")
    time = time[order]
    sign = np.where(order < len(start), 1, -1)
    mark = np.concatenate((group, group))[order] + 1
    count = np.cumsum(sign)
    if int(count.max()) ** 2 > count_limit:
        raise OverflowError(f"{int(count.max())} intervals of {int(group.max()) + 1} groups open at once")
    sums = np.cumsum(sign * mark)
    squares = np.cumsum(sign * mark * mark)
    length = np.diff(time)
    one = (count[:-1] > 0) & (length > 0) & (count[:-1] * squares[:-1] == sums[:-1] ** 2)
    _add(total, sums[:-1][one] // count[:-1][one] - 1, length[one])


def _add(total: Ints, group: Ints, length: Ints) -> None:
    """Add lengths to their groups; ``bincount`` sums floats, exact below 2**53 ns (104 days)."""
    sums: NDArray[Any] = np.bincount(group, weights=length, minlength=len(total))
    total += sums.astype(np.int64)


def inside(time: Ints, start: Ints, end: Ints) -> Ints:
    """Return, for each of ``time``, the index of the interval that holds it, or -1.

    The intervals must be sorted by start; of nested ones the last to start before ``time`` is looked at.
    """
    if not len(start):
        return np.full(len(time), -1, np.int64)
    found = np.searchsorted(start, time, side="right").astype(np.int64) - 1
    return np.where((found >= 0) & (time < end[np.maximum(found, 0)]), found, -1)


def overlap(first: Ints, last: Ints, start: Ints, end: Ints) -> NDArray[np.float64]:
    """Return how much of the intervals ``start`` to ``end``, sorted and disjoint, lies in each span, ns."""
    if not len(start):
        return np.zeros(len(first))
    moments = np.column_stack((start, end)).ravel()
    lengths = np.cumsum(end - start)
    gone = np.column_stack((lengths - (end - start), lengths)).ravel()
    base = moments[0]  # differences alone are exact as floats
    until, since = (np.interp(each - base, moments - base, gone) for each in (last, first))
    found: NDArray[np.float64] = until - since
    return found


def shares(start: Ints, end: Ints, group: Ints, groups: int, edges: Floats) -> Floats:
    """Return the time that each of ``groups`` has in each bin between ``edges``, ns: [groups, bins].

    Intervals that are open at once share the time equally, so that the groups' times of a bin add up to the
    union of all intervals in it. ``edges`` rise, and times are small enough to be exact as floats.
    """
    bins = len(edges) - 1
    found = np.zeros((groups, bins))
    if not len(start):
        return found
    order = np.argsort(start, kind="stable") if bool(np.any(start[1:] < start[:-1])) else slice(None)
    start, end, group = start[order], end[order], group[order]
    opens = np.concatenate(([True], start[1:] >= np.maximum.accumulate(end)[:-1]))
    alone = opens & np.concatenate((opens[1:], [True]))
    _bin(found, (start[alone], end[alone], group[alone]), edges, lambda time: time)
    if not bool(alone.all()):
        crowd = start[~alone], end[~alone], group[~alone]
        _bin(found, crowd, edges, _each_share(*crowd[:2]))
    return found


def _each_share(start: Ints, end: Ints) -> Callable[[Floats], Floats]:
    """Return what an interval open from the beginning has had of the time until a moment, shared."""
    time = np.concatenate((start, end)).astype(np.float64)
    order = np.argsort(time, kind="stable")
    open_now = np.cumsum(np.where(order < len(start), 1, -1))[:-1]
    time = time[order]
    gone = np.append(0.0, np.cumsum(np.diff(time) / np.maximum(open_now, 1) * (open_now > 0)))
    return lambda moment: np.interp(moment, time, gone)


def _bin(
    found: Floats, rows: tuple[Ints, Ints, Ints], edges: Floats, gone: Callable[[Floats], Floats]
) -> None:
    """Add what each interval has of each bin, where ``gone`` says what it had until a moment.

    Only its first and last bin are looked at one by one: those between are counted and added at once.
    """
    bins = len(edges) - 1
    start, end, group = rows
    since, until = (np.clip(each.astype(np.float64), edges[0], edges[-1]) for each in (start, end))
    first = np.clip(np.searchsorted(edges, since, side="right") - 1, 0, bins - 1)
    last = np.maximum(np.clip(np.searchsorted(edges, until, side="left") - 1, 0, bins - 1), first)
    at_edges = gone(edges)
    at_start, at_end = gone(since), gone(until)
    over = last > first
    head = np.where(over, at_edges[first + 1], at_end) - at_start
    flat = found.reshape(-1)
    flat += np.bincount(group * bins + first, weights=head, minlength=flat.size)
    tail = (at_end - at_edges[last])[over]
    flat += np.bincount((group * bins + last)[over], weights=tail, minlength=flat.size)
    crossed = np.bincount((group * bins + first + 1)[over], minlength=flat.size)
    crossed = crossed - np.bincount((group * bins + last)[over], minlength=flat.size)
    found += np.cumsum(crossed.reshape(found.shape), axis=1) * np.diff(at_edges)
