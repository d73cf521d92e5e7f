"""The ring of the last minutes: what is in it, what vanishes from it, how it stays small."""

import math
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from manual_clock import ManualClock

from rocscope.daemon import history as module
from rocscope.daemon.history import History

ENGINE = "engine:http://127.0.0.1:8000"


def ring(span_s=900.0):
    clock = ManualClock()
    return clock, History(clock, hz=1.0, span_s=span_s)


def read(clock, history, **values):
    clock.go(1)
    history.add_all(clock.now_s, "serving", ENGINE, {k.replace("__", ":"): v for k, v in values.items()})


def test_a_value_that_stops_coming_vanishes():
    clock, history = ring()
    history.add(clock.now_s, "sysfs", "gpu:a", "power_w", 211.0)
    clock.go(4)
    assert history.latest("gpu:a", "power_w") == 211.0
    assert history.latest_at("gpu:a", "power_w") == (1000.0, 211.0)
    clock.go(2)
    assert history.latest("gpu:a", "power_w") is None
    assert history.latest("gpu:a", "power_w", max_age_s=30) == 211.0
    assert history.latest("gpu:b", "power_w") is None and history.latest("gpu:a", "clock_hz") is None


def test_a_metric_that_is_read_seldom_is_found_among_rows_without_it():
    clock, history = ring()
    history.add_all(clock.now_s, "sysfs", "gpu:a", {"power_w": 1.0, "power_cap_w": 290.0})
    for _ in range(8):
        clock.go(1)
        history.add(clock.now_s, "sysfs", "gpu:a", "power_w", 2.0)
    assert history.latest("gpu:a", "power_cap_w", max_age_s=30) == 290.0
    assert history.points("gpu:a", "power_cap_w") == [(1000.0, 290.0)]


def test_what_is_not_finite_or_comes_late_is_left_out():
    clock, history = ring()
    history.add(clock.now_s, "host", "host", "cpu_frac", math.nan)
    history.add(clock.now_s, "host", "host", "cpu_frac", math.inf)
    assert history.series() == []
    history.add(clock.now_s, "host", "host", "cpu_frac", 0.5)
    history.add(clock.now_s - 1, "host", "host", "cpu_frac", 0.9)
    assert history.latest("host", "cpu_frac") == 0.5 and history.late == 1


def test_the_newest_of_two_sources_of_a_metric_counts_and_both_are_points():
    clock, history = ring()
    history.add(clock.now_s, "amdsmi", "gpu:a", "power_w", 1.0)
    clock.go(1)
    history.add(clock.now_s, "sysfs", "gpu:a", "power_w", 2.0)
    assert history.latest("gpu:a", "power_w") == 2.0
    assert history.points("gpu:a", "power_w") == [(1000.0, 1.0), (1001.0, 2.0)]
    assert history.mean("gpu:a", "power_w", 1000.0) == 1.5
    assert history.mean("gpu:a", "power_w", 1000.5) == 2.0
    assert history.mean("gpu:a", "power_w", 1002.0) is None


@given(st.lists(st.tuples(st.floats(0.1, 30), st.one_of(st.none(), st.floats(-1e9, 1e9))), max_size=120))
def test_points_are_the_last_rows_that_were_added(steps):
    clock, history = ring(span_s=20)
    rows = 21
    added = []
    for pause, value in steps:
        clock.go(pause)
        if value is None:
            history.add(clock.now_s, "s", "x", "other", 1.0)
        else:
            history.add(clock.now_s, "s", "x", "m", value)
        added.append((clock.now_s, value))
    kept = [(at, value) for at, value in added[-rows:] if value is not None and at >= clock.now_s - 20]
    assert history.points("x", "m", 20) == kept
    if kept:
        assert history.mean("x", "m", clock.now_s - 20) == pytest.approx(
            math.fsum(value for _, value in kept) / len(kept)
        )


@given(st.lists(st.floats(0, 1e6), min_size=12, max_size=60), st.integers(5, 40))
def test_a_rate_is_growth_over_time_whatever_the_steps(steps, over_s):
    clock, history = ring()
    total, totals = 0.0, []
    for step in steps:
        total += step
        read(clock, history, generation_tokens=total)
        totals.append(total)
    used = totals[-(over_s + 1) :]
    rate = history.rate(ENGINE, "generation_tokens", over_s)
    if len(used) - 1 < over_s / 2:
        assert rate is None
    else:
        assert rate == pytest.approx((used[-1] - used[0]) / (len(used) - 1))


def test_no_rate_across_a_restart_nor_of_a_stale_or_young_total():
    clock, history = ring()
    for total in range(0, 3000, 100):
        read(clock, history, generation_tokens=total)
    assert history.rate(ENGINE, "generation_tokens", 10) == 100.0
    read(clock, history, generation_tokens=5)  # it began anew
    assert history.rate(ENGINE, "generation_tokens", 10) is None
    for total in range(105, 1205, 100):
        read(clock, history, generation_tokens=total)
    assert history.rate(ENGINE, "generation_tokens", 10) == 100.0
    assert history.rate(ENGINE, "generation_tokens", 30) is None
    history.restarted(ENGINE, clock.now_s - 4)  # told by its start time: totals may have passed the old ones
    assert history.rate(ENGINE, "generation_tokens", 10) is None
    assert history.rate(ENGINE, "generation_tokens", 10, until_s=clock.now_s - 12) == 100.0
    clock.go(6)
    assert history.rate(ENGINE, "generation_tokens", 30) is None
    assert history.rate(ENGINE, "nothing", 30) is None
    clock, history = ring()
    read(clock, history, generation_tokens=1)
    read(clock, history, generation_tokens=2)
    assert history.rate(ENGINE, "generation_tokens", 60) is None


BOUNDS = (0.01, 0.025, 0.05, 0.1, math.inf)


def observe(clock, history, observations):
    """Read every second a histogram that has counted ever more of ``observations``."""
    for upto in range(len(observations) + 1):
        seen = observations[:upto]
        values = {f"tpot_s_bucket__{bound:g}": float(sum(o <= bound for o in seen)) for bound in BOUNDS}
        read(clock, history, tpot_s_count=float(len(seen)), **values)


@given(st.lists(st.floats(0, 0.2), min_size=6, max_size=40), st.floats(0.01, 1))
def test_a_quantile_lies_in_the_bucket_that_the_observation_fell_in(observations, share):
    clock, history = ring()
    observe(clock, history, observations)
    exact = sorted(observations)[max(0, math.ceil(share * len(observations)) - 1)]
    found = history.quantile_range(ENGINE, "tpot_s", share, len(observations))
    assert found is not None and found.observed == len(observations)
    assert found.low <= exact <= found.high
    value = history.quantile(ENGINE, "tpot_s", share, len(observations))
    assert value is None if math.isinf(found.high) else found.low <= value <= found.high


def test_no_quantile_without_observations_or_across_a_restart():
    clock, history = ring()
    observe(clock, history, [0.02] * 10)
    assert history.quantile(ENGINE, "tpot_s", 0.99, 10) == pytest.approx(0.01 + 0.015 * 0.99)
    zeros = {f"tpot_s_bucket__{bound:g}": 0.0 for bound in BOUNDS}
    read(clock, history, tpot_s_count=0.0, **zeros)
    assert history.quantile(ENGINE, "tpot_s", 0.99, 10) is None
    for _ in range(11):
        read(clock, history, tpot_s_count=0.0, **zeros)
    assert history.quantile(ENGINE, "tpot_s", 0.99, 10) is None
    assert history.quantile(ENGINE, "ttft_s", 0.99, 10) is None


def test_what_is_no_histogram_gives_no_quantile():
    clock, history = ring()
    for count in range(10):  # not cumulative: fewer below 0.05 than below 0.01
        read(clock, history, tpot_s_count=float(count), **{"tpot_s_bucket__0.01": count,
             "tpot_s_bucket__0.05": 0.0, "tpot_s_bucket__inf": count})  # fmt: skip
    assert history.quantile_range(ENGINE, "tpot_s", 0.99, 8) is None
    clock, history = ring()
    for count in range(10):  # without its last bucket
        read(clock, history, tpot_s_count=float(count), **{"tpot_s_bucket__0.01": count})
    assert history.quantile_range(ENGINE, "tpot_s", 0.5, 8) is None


def held_bytes(history):
    return sum(
        sys.getsizeof(track.times) + sum(map(sys.getsizeof, track.columns.values()))
        for track in history._tracks.values()
    )


def test_memory_is_bounded_whatever_series_appear(monkeypatch):
    monkeypatch.setattr(module, "MAX_SERIES", 40)
    monkeypatch.setattr(module, "MAX_SUBJECTS", 8)
    monkeypatch.setattr(module, "MAX_METRICS", 10)
    clock, history = ring(span_s=30)
    for tick in range(200):
        for subject in range(12):
            history.add_all(clock.now_s, "s", f"hostile:{subject}", {f"m{tick}_{i}": 1.0 for i in range(30)})
        clock.go(1)
    assert len(history.series()) <= 40 and len(history._tracks) <= 8
    assert history.refused > 200 * 300
    assert held_bytes(history) < 40 * 31 * 8 * 2


def test_room_is_made_of_what_ended():
    clock, history = ring(span_s=30)
    for subject in range(module.MAX_SUBJECTS):
        history.add(clock.now_s, "s", f"engine:{subject}", "requests_running", 1.0)
    history.add(clock.now_s, "s", "engine:new", "requests_running", 1.0)
    assert history.latest("engine:new", "requests_running") is None and history.refused == 1
    clock.go(60)
    history.add(clock.now_s, "s", "engine:new", "requests_running", 1.0)
    assert history.series() == [("s", "engine:new", "requests_running")]


def test_series_that_ended_make_room_for_others_of_their_subject():
    clock, history = ring(span_s=30)
    history.add_all(clock.now_s, "s", "x", {f"old{i}": 1.0 for i in range(module.MAX_METRICS)})
    for _ in range(40):
        clock.go(1)
        history.add(clock.now_s, "s", "x", "old0", 1.0)
    history.add(clock.now_s, "s", "x", "new", 2.0)
    assert sorted(metric for _, _, metric in history.series()) == ["new", "old0"]
