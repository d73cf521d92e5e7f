"""When windows are due, and which of our own samples ask for one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from manual_clock import ManualClock

from rocscope.daemon.history import History
from rocscope.daemon.schedule import Schedule
from rocscope.daemon.settings import Trigger, Windows
from rocscope.daemon.watch import Watch


@given(st.text(max_size=20), st.integers(1, 50))
def test_periods_stay_within_their_jitter(node, turns):
    clock = ManualClock()
    settings = Windows(every_s=900, jitter_frac=0.2)
    schedule = Schedule(settings, clock, node)
    assert 0 <= schedule.due_s - clock.now_s <= 900
    for _ in range(turns):
        clock.now_s = schedule.due_s
        assert schedule.due
        schedule.taken()
        assert not schedule.due and 720 <= schedule.due_s - clock.now_s <= 1080


def test_nodes_do_not_fall_in_step_and_a_restart_changes_nothing():
    clock = ManualClock()
    first = {Schedule(Windows(), clock, f"n{i}").due_s for i in range(50)}
    assert len(first) == 50
    assert Schedule(Windows(), clock, "n1").due_s == Schedule(Windows(), clock, "n1").due_s


def test_it_can_be_put_off_and_switched_off():
    clock = ManualClock()
    schedule = Schedule(Windows(), clock, "n")
    clock.now_s = schedule.due_s
    schedule.later(30)
    assert not schedule.due
    clock.go(30)
    assert schedule.due
    schedule.settings = Windows(enabled=False)
    assert not schedule.due


def filled(clock, values, metric="power_w", subject="gpu:0", every=1.0):
    history = History(clock)
    for value in values:
        if value is not None:
            history.add(clock.now_s, "t", subject, metric, value)
        clock.go(every)
    return history


def trigger(**more):
    return Trigger.model_validate({"name": "low", "metric": "power_w", "below": 100.0, "for_s": 20, **more})


def test_a_value_that_stays_low_fires_once_until_it_has_cooled_down():
    clock = ManualClock()
    history = filled(clock, [50.0] * 30)
    watch = Watch([trigger(cooldown_s=600)], clock, history)
    (hit,) = watch.fired()
    assert hit.subject == "gpu:0" and "below 100 for 20 s" in hit.reason
    assert watch.fired() == []
    for _ in range(620):
        history.add(clock.now_s, "t", "gpu:0", "power_w", 50.0)
        clock.go(1)
    assert len(watch.fired()) == 1


@pytest.mark.parametrize(
    "values",
    [
        [50.0] * 25 + [150.0] + [50.0] * 4,  # above it once
        [50.0] * 10,  # too short
        [50.0] * 12 + [None] * 10 + [50.0] * 8,  # a hole, which may hide anything
        [50.0] * 30 + [None] * 10,  # nothing came of late
        [],
    ],
)
def test_what_is_not_shown_does_not_fire(values):
    clock = ManualClock()
    assert Watch([trigger()], clock, filled(clock, values)).fired() == []


def test_above_globs_and_conditions_beside_it():
    clock = ManualClock()
    history = filled(clock, [9.0] * 30, "requests_waiting", "engine:http://127.0.0.1:8000")
    above = trigger(name="queue", metric="requests_waiting", below=None, above=5.0, subject="engine:*")
    assert Watch([above], clock, history).fired()
    assert not Watch([above.model_copy(update={"subject": "gpu:*"})], clock, history).fired()
    idle = above.model_copy(update={"while_metric": "activity_frac", "while_above": 0.5})
    assert not Watch([idle], clock, history).fired()
    history.add(clock.now_s, "t", "gpu:0", "activity_frac", 0.9)
    assert Watch([idle], clock, history).fired()


def test_a_rate_of_a_total_can_be_watched():
    clock = ManualClock()
    history = filled(clock, [10.0 * i for i in range(40)], "generation_tokens", "engine:a")
    slow = trigger(metric="generation_tokens_per_s", below=20.0)
    (hit,) = Watch([slow], clock, history).fired()
    assert "nearest 10" in hit.reason
    assert not Watch([trigger(metric="generation_tokens_per_s", below=5.0)], clock, history).fired()
