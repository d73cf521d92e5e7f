import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocscope import intervals

SPANS = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 15), st.integers(0, 4)), max_size=25)


def arrays(spans):
    start = np.array([s for s, _, _ in spans], np.int64)
    length = np.array([d for _, d, _ in spans], np.int64)
    return start, start + length, np.array([g for _, _, g in spans], np.int64)


def by_ticks(spans):
    """The same figures, one nanosecond at a time."""
    union, alone = 0, np.zeros(5, int)
    for tick in range(80):
        groups = {g for s, d, g in spans if s <= tick < s + d}
        union += bool(groups)
        if len(groups) == 1:
            alone[groups.pop()] += 1
    return union, alone


@given(SPANS)
def test_union_and_exposed_time_agree_with_a_count_by_ticks(spans):
    start, end, group = arrays(spans)
    union, alone = by_ticks(spans)
    assert intervals.union_ns(start, end) == union
    assert intervals.exposed_ns(start, end, group, 5).tolist() == alone.tolist()


@given(SPANS)
def test_clusters_and_gaps_tile_the_window(spans):
    start, end, _ = arrays(spans)
    merged = intervals.clusters(start, end)
    if len(spans):
        assert merged.union_ns + merged.gaps_ns.sum() == end.max() - start.min()
        assert (merged.gaps_ns > 0).all()
        assert sorted(merged.order) == list(range(len(spans)))
        assert len(merged.first) == len(merged.starts)
    assert merged.union_ns <= (end - start).sum()


@given(SPANS, st.lists(st.integers(-5, 90), max_size=10))
def test_a_time_lies_inside_the_interval_that_started_last(spans, times):
    start, end, _ = arrays(sorted(spans))
    found = intervals.inside(np.array(times, np.int64), start, end)
    for time, index in zip(times, found, strict=True):
        if index >= 0:
            assert start[index] <= time < end[index]
        else:
            before = [i for i in range(len(start)) if start[i] <= time]
            assert not before or end[before[-1]] <= time


EDGES = st.lists(st.integers(0, 90), min_size=2, max_size=8, unique=True).map(sorted)


@given(SPANS, EDGES)
def test_shares_of_bins_agree_with_a_count_by_ticks(spans, edges):
    start, end, group = arrays(spans)
    found = intervals.shares(start, end, group, 5, np.array(edges, float))
    expected = np.zeros((5, len(edges) - 1))
    for at, (low, high) in enumerate(itertools.pairwise(edges)):
        for tick in range(low, high):
            open_now = [g for s, d, g in spans if s <= tick < s + d]
            for each in open_now:
                expected[each, at] += 1 / len(open_now)
    assert np.allclose(found, expected)


@given(SPANS, st.integers(1, 12))
def test_shares_add_up_to_the_union(spans, bins):
    start, end, group = arrays(spans)
    edges = np.linspace(0.0, 77.0, bins + 1)  # most lie between two ticks
    found = intervals.shares(start, end, group, 5, edges)
    assert found.shape == (5, bins) and (found >= 0).all()
    assert (found.sum(axis=0) <= np.diff(edges) + 1e-9).all()
    assert found.sum() == pytest.approx(intervals.union_ns(start, end))


def test_time_shared_by_two_groups_is_exposed_for_neither():
    start, end = np.array([0, 5, 20]), np.array([10, 15, 30])
    assert intervals.exposed_ns(start, end, np.array([0, 1, 0]), 2).tolist() == [15, 5]
    assert intervals.exposed_ns(start, end, np.array([0, 0, 0]), 1).tolist() == [25]


def test_a_million_intervals_open_at_once_are_counted():
    # each of 4000 groups is open 300 times over; the last group alone stays open for 7 ns more
    size = 4_000
    group = np.tile(np.arange(size), 300)
    start, end = np.zeros(len(group), np.int64), np.where(group == size - 1, 107, 100)
    found = intervals.exposed_ns(start, end, group, size)
    assert found[-1] == 7 and found.sum() == 7


def test_counts_that_would_overflow_are_refused():
    start = np.zeros(3_000, np.int64)
    group = np.full(3_000, 2**28, np.int64)
    with pytest.raises(OverflowError, match="intervals of"):
        intervals._sweep(np.zeros(1, np.int64), start, start + 1, group)
