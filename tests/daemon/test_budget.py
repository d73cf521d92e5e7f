"""The budget of windows: no order of requests opens two, or spends more than allowed."""

import math

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from manual_clock import ManualClock

from rocscope.daemon.budget import DAY_S, HOUR_S, SKEW_S, Budget, Spent
from rocscope.daemon.settings import Windows


def given(**more):
    return Windows.model_validate({"min_gap_s": 60, "max_duty_frac": 0.01, "max_window_s": 10, **more})


def window(budget, clock, seconds=2.0, outcome="done", size=0):
    budget.open()
    clock.go(seconds)
    return budget.close(outcome, size)


class AnyOrder(RuleBasedStateMachine):
    """Requests, pauses, failures and time in any order, and what must hold all along."""

    def __init__(self):
        super().__init__()
        self.clock = ManualClock()
        self.settings = given(max_day_bytes=4000, max_window_bytes=1500, breaker_s=900)
        self.budget = Budget(self.settings, self.clock, "n1")
        self.made: list[tuple[float, float, int, str]] = []  # start, end, bytes, outcome
        self.began = None
        self.until = -math.inf

    @rule(seconds=st.floats(0.1, 5000))
    def wait(self, seconds):
        if self.began is not None:  # whoever runs a window ends it in time, which is not the budget's work
            seconds = min(seconds, self.began + self.settings.max_window_s - self.clock.now_s)
        self.clock.go(max(0.0, seconds))

    @rule(for_s=st.one_of(st.just(math.inf), st.floats(1, 3000)))
    def pause(self, for_s):
        self.budget.pause(for_s)
        self.until = self.clock.now_s + for_s

    @rule()
    def resume(self):
        self.budget.resume()
        self.until = -math.inf
        self.made = [(*each[:3], "forgiven") if each[3] == "failed" else each for each in self.made]

    @rule(seconds=st.floats(0.1, 20))
    def ask(self, seconds):
        refused = self.budget.refusal(seconds)
        if refused is not None:
            assert refused.text and (refused.retry_s is None or refused.retry_s >= 0)
            return
        assert self.began is None and seconds <= self.settings.max_window_s
        assert self.clock.now_s >= self.until
        assert not self.made or self.clock.now_s - self.made[-1][1] >= self.settings.min_gap_s - 1e-6
        last = [each[3] for each in self.made[-3:]]
        if last == ["failed"] * 3:
            assert self.clock.now_s >= self.made[-1][1] + self.settings.breaker_s
        self.budget.open()
        self.began, self.wanted = self.clock.now_s, seconds

    @precondition(lambda self: self.began is not None)
    @rule(outcome=st.sampled_from(["done", "failed"]), share=st.floats(0, 1), size=st.integers(0, 1500))
    def end(self, outcome, share, size):
        size = min(size, self.budget.bytes_left())
        self.clock.now_s = max(self.clock.now_s, self.began + share * self.wanted)
        self.budget.close(outcome, size)
        self.made.append((self.began, self.clock.now_s, size, outcome))
        self.began = None

    @invariant()
    def never_more_than_allowed(self):
        now = self.clock.now_s
        slack = self.settings.max_window_s  # of a window that was open longer than it was asked for
        for over in (HOUR_S, DAY_S):
            spent = sum(max(0.0, end - max(start, now - over)) for start, end, *_ in self.made)
            assert spent <= self.settings.max_duty_frac * over + slack + 1e-6
        assert sum(each[2] for each in self.made if each[1] > now - DAY_S) <= 4000


AnyOrder.TestCase.settings = hypothesis_settings(max_examples=40, stateful_step_count=60, deadline=None)
TestAnyOrder = AnyOrder.TestCase


def test_a_second_window_is_refused_even_to_root():
    budget = Budget(given(), ManualClock(), "n1")
    budget.open()
    assert budget.refusal(1.0, force=True).code == "open"
    with pytest.raises(ValueError, match="open already"):
        budget.open()


def test_force_passes_by_pause_and_gap_but_not_by_the_length():
    clock = ManualClock()
    budget = Budget(given(enabled=False), clock, "n1")
    assert budget.refusal(1.0).code == "disabled" and budget.refusal(1.0, force=True) is None
    window(budget, clock)
    budget.pause()
    assert budget.refusal(1.0, force=True) is None and budget.refusal(11.0, force=True).code == "too-long"
    assert budget.refusal(math.nan).code == "too-long"


def test_a_refusal_says_when_it_ends():
    clock = ManualClock()
    budget = Budget(given(max_duty_frac=0.002), clock, "n1")  # 7.2 s an hour
    window(budget, clock, 5.0)
    clock.go(20)
    assert budget.refusal(1.0).code == "gap" and budget.refusal(1.0).retry_s == pytest.approx(40)
    clock.go(40)
    refused = budget.refusal(5.0)
    assert refused.code == "duty-hour"
    clock.go(refused.retry_s - 0.01)
    assert budget.refusal(5.0) is not None
    clock.go(0.02)
    assert budget.refusal(5.0) is None


def test_three_failures_open_the_breaker_and_success_closes_the_count():
    clock = ManualClock()
    budget = Budget(given(), clock, "n1")
    for outcome in ("failed", "failed", "done", "failed", "aborted"):
        window(budget, clock, outcome=outcome)
        clock.go(61)
    assert budget.refusal(1.0) is None
    window(budget, clock, outcome="failed")
    clock.go(61)
    assert budget.refusal(1.0).code == "breaker" and budget.broken
    clock.go(3600)
    assert budget.refusal(1.0) is None  # one more try
    window(budget, clock, outcome="failed")
    clock.go(61)
    assert budget.refusal(1.0).code == "breaker"
    budget.resume()
    assert budget.refusal(1.0) is None


def test_windows_that_stopped_with_the_daemon_say_nothing_of_windows():
    clock = ManualClock()
    budget = Budget(given(), clock, "n1")
    for outcome in ("failed", "stopped", "failed", "stopped", "stopped", "stopped"):
        window(budget, clock, outcome=outcome)
        clock.go(61)
    assert budget.refusal(1.0) is None and budget.duty_frac() > 0
    window(budget, clock, outcome="failed")
    assert budget.broken  # nor do they close the count
    assert not Budget(given(), clock, "n1", [Spent(-90.0 * i, 1.0, 0, "stopped") for i in range(5)]).broken


def test_what_was_spent_before_a_restart_counts():
    clock = ManualClock(monotonic_s=100.0)
    past = [Spent(-1000.0 * i, 10.0, 10, "done") for i in range(4)]
    budget = Budget(given(), clock, "n1", past)
    assert budget.duty_frac() == pytest.approx(40 / HOUR_S)
    assert budget.refusal(1.0).code == "duty-hour"
    failed = [Spent(50.0 - i, 1.0, 0, "failed") for i in range(3)]
    assert Budget(given(), clock, "n1", failed).broken


def test_bytes_of_a_day_are_bounded():
    clock = ManualClock()
    budget = Budget(given(max_window_bytes=100, max_day_bytes=150), clock, "n1")
    window(budget, clock, size=100)
    clock.go(100)
    assert budget.bytes_left() == 50
    window(budget, clock, size=50)
    clock.go(100)
    assert budget.refusal(1.0).code == "bytes-day"
    clock.go(DAY_S)
    assert budget.refusal(1.0) is None


def test_at_most_so_many_nodes_of_a_fleet_have_a_slot():
    names = [f"node{i:02}" for i in range(20)]
    settings = given(max_nodes=3, fleet=names, every_s=900)
    clock = ManualClock()
    budgets = [Budget(settings, clock, name) for name in names]
    turns = dict.fromkeys(names, 0)
    for _ in range(300):
        chosen = [n for n, b in zip(names, budgets, strict=True) if b.next_slot_s(clock.unix_s + 10) == 0]
        assert len(chosen) == 3
        for name in chosen:
            turns[name] += 1
        clock.go(900)
    assert min(turns.values()) > 20  # 45 each on average: nobody is left out


def test_a_window_does_not_reach_into_the_slot_of_others():
    settings = given(max_nodes=1, fleet=["a", "b", "c"], every_s=100)
    budget = Budget(settings, ManualClock(), "a")
    begin = budget.next_slot_s(0.0)
    assert begin >= SKEW_S
    slot = math.floor(begin / 100)
    alone = not budget._has(slot + 1)
    late = slot * 100 + 100 - settings.max_window_s
    assert (budget.next_slot_s(late) > 0) is True or not alone
    assert Budget(settings, ManualClock(), "stranger").refusal(1.0).code == "slot"
    assert Budget(given(max_nodes=5, fleet=["a"]), ManualClock(), "a").refusal(1.0) is None
