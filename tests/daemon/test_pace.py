"""The rate of sampling follows what the daemon costs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocscope.daemon.pace import OVER_S, SLOWEST, Pace


def live(pace, cost_frac, seconds, at=0.0, cpu=0.0):
    """Let ``seconds`` pass at a cost of so much of a core at the full rate; return what was said."""
    said = []
    for _ in range(int(seconds / 10)):
        at += 10
        cpu += 10 * cost_frac * pace.hz
        if text := pace.seen(at, cpu):
            said.append(text)
    return said, at, cpu


def test_too_costly_is_halved_until_it_fits_and_said():
    pace = Pace(1.0, 0.01)
    said, at, cpu = live(pace, 0.035, 4 * OVER_S + 100)
    assert pace.hz == 0.25 and pace.slowed and len(said) == 2
    assert said[0].startswith("sampling at 0.5 Hz from now on: it cost 3.50% of a core")
    said, *_ = live(pace, 0.035, 20 * OVER_S, at, cpu)
    assert said == [] and pace.hz == 0.25  # neither further down nor up again: twice would not fit


def test_it_is_raised_again_when_there_is_room():
    pace = Pace(1.0, 0.01)
    _, at, cpu = live(pace, 0.015, 2 * OVER_S)
    assert pace.hz == 0.5
    said, *_ = live(pace, 0.005, 3 * OVER_S, at, cpu)
    assert pace.hz == 1.0 and not pace.slowed and "far below" in said[0]


@given(st.lists(st.floats(0, 1), max_size=30))
def test_the_rate_stays_within_its_bounds(costs):
    pace, at, cpu = Pace(2.0, 0.01), 0.0, 0.0
    for cost in costs:
        _, at, cpu = live(pace, cost, OVER_S, at, cpu)
        assert 2.0 * SLOWEST <= pace.hz <= 2.0 and pace.period_s == 1 / pace.hz


def test_nothing_is_said_before_ten_minutes_or_of_a_total_that_fell():
    pace = Pace(1.0, 0.01)
    said, at, _ = live(pace, 0.5, OVER_S - 50)
    assert said == [] and pace.cost_frac() == pytest.approx(0.5)
    assert pace.seen(at + 10, 0.0) == "" and pace.cost_frac() is None


def test_other_settings_begin_anew_and_the_same_do_not():
    pace = Pace(1.0, 0.01)
    live(pace, 0.5, 2 * OVER_S)
    pace.reset(1.0, 0.01)
    assert pace.hz == 0.5
    pace.reset(2.0, 0.01)
    assert pace.hz == 2.0 and pace.cost_frac() is None
