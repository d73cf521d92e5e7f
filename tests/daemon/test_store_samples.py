"""Samples: merged where a time comes twice, drawn at the resolution that fits."""

import math
import sqlite3
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_store import bucket

from rocscope.daemon import store_samples, store_schema
from rocscope.daemon.store_samples import Bucket, add_buckets, draw, settle

values = st.floats(-1e12, 1e12)


def fresh():
    connection = sqlite3.connect(":memory:", isolation_level=None)
    store_schema.migrate(connection)
    return closing(connection)


def made(ts, readings):
    return Bucket("host", "host", "load", 10, ts, len(readings), math.fsum(readings) / len(readings),
                  min(readings), max(readings))  # fmt: skip


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.lists(values, min_size=1, max_size=8), st.booleans()),
        min_size=1, max_size=12,
    )
)  # fmt: skip
def test_buckets_of_one_time_are_merged_as_if_read_together(parts):
    with fresh() as connection:
        together = {}
        for slot, readings, settled in parts:
            add_buckets(connection, [made(10 * slot, readings)])
            together.setdefault(10 * slot, []).extend(readings)
            if settled:
                settle(connection)
        found = {point.ts: point for point in draw(connection, "host", "load", 0, 40).points}
        assert set(found) == set(together)
        for ts, readings in together.items():
            point = found[ts]
            assert (point.n, point.low, point.high) == (len(readings), min(readings), max(readings))
            scale = max(map(abs, readings))
            assert math.isclose(point.mean, math.fsum(readings) / len(readings), abs_tol=1e-9 * scale)
            assert point.low <= point.mean + 1e-9 * scale and point.mean <= point.high + 1e-9 * scale


@given(
    st.integers(0, 5_000),
    st.integers(1, 100_000),
    st.integers(1, 700),
    st.sets(st.integers(0, 2_000), max_size=80),
)
def test_a_drawn_series_keeps_its_bounds_and_loses_no_reading(since, span, most, slots):
    with fresh() as connection:
        add_buckets(connection, [made(10 * slot, [float(slot)]) for slot in slots])
        drawn = draw(connection, "host", "load", since, since + span, most=most)
        inside = [slot for slot in slots if since <= 10 * slot < since + span]
        assert len(drawn.points) <= max(most, 2)
        times = [point.ts for point in drawn.points]
        assert times == sorted(set(times)) and all(ts % drawn.step_s == 0 for ts in times)
        if drawn.step_s % 60 or not slots:  # at 60 s nothing was written in this test
            covered = [s for s in slots if any(ts <= 10 * s < ts + drawn.step_s for ts in times)]
            assert set(inside) <= set(covered) and sum(point.n for point in drawn.points) == len(covered)


def test_the_coarse_resolution_is_drawn_where_the_fine_one_is_gone_or_too_fine():
    with fresh() as connection:
        day = [bucket(ts=60 * minute, n=60, res_s=60) for minute in range(1440)]
        add_buckets(connection, [*day, *(bucket(ts=ts, n=10) for ts in range(82_800, 86_400, 10))])
        assert draw(connection, "host", "cpu_frac", 82_800, 86_400).step_s == 10
        assert draw(connection, "host", "cpu_frac", 0, 3_600).step_s == 60
        whole = draw(connection, "host", "cpu_frac", 0, 86_400, most=300)
        assert whole.step_s % 60 == 0 and sum(point.n for point in whole.points) == 86_400
        assert draw(connection, "host", "cpu_frac", 100, 100).points == []
        assert draw(connection, "host", "unknown", 0, 100).points == []
        fine_alone = draw(connection, "host", "cpu_frac", 86_000, 90_000)
        assert fine_alone.step_s == 10 and len(fine_alone.points) == 40


def test_sources_of_one_metric_are_drawn_together_or_apart():
    with fresh() as connection:
        add_buckets(connection, [bucket(), bucket()._replace(source="daemon")])
        at = bucket().ts
        assert [each.n for each in draw(connection, "host", "cpu_frac", at, at + 10).points] == [20]
        assert [
            each.n for each in draw(connection, "host", "cpu_frac", at, at + 10, source="host").points
        ] == [10]
        assert [each.source for each in store_samples.series(connection, "host")] == ["daemon", "host"]
        assert store_samples.series(connection, "gpu:0") == []


def test_what_is_no_reading_is_left_out_and_what_is_no_bucket_refused():
    with fresh() as connection:
        assert add_buckets(connection, [bucket(mean=math.nan), bucket(mean=math.inf), bucket()]) == 1
        for wrong in (bucket(ts=1_800_000_003), bucket(n=0), bucket(res_s=7)):
            with pytest.raises(ValueError, match="no bucket"):
                add_buckets(connection, [wrong])


def test_what_was_appended_is_moved_to_where_it_is_read(monkeypatch):
    monkeypatch.setattr(store_samples, "SETTLE_ROWS", 10)
    with fresh() as connection:
        for tick in range(25):
            add_buckets(connection, [bucket(ts=10 * tick)])
        rows = {name: connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0]
                for name in ("samples", "samples_new")}  # fmt: skip
        assert rows == {"samples": 20, "samples_new": 5}
        assert len(draw(connection, "host", "cpu_frac", 0, 250).points) == 25
