"""The wall clock leaps, the node reboots: nothing looks older than it is known to be."""

import pytest
from daemon_clocks import NOON, Hands
from hypothesis import given
from hypothesis import strategies as st

from rocscope.daemon.wall_clock import HOLD_S, JUMP_S, WallClock

YEAR_S = 366 * 86_400.0


def test_the_real_clocks_agree():
    clock = WallClock()
    assert clock.trusted_wall_s() <= clock.wall_s() <= clock.latest_wall_s() + 1
    assert clock.boot_id and clock.new_jumps() == [] and clock.monotonic_s() > 0


def test_a_forward_jump_counts_for_ages_once_it_has_lasted(hands):
    clock = hands.clock()
    hands.wall_s += YEAR_S
    assert clock.wall_s() == NOON + YEAR_S and clock.trusted_wall_s() == NOON
    hands.pass_s(HOLD_S - 1)
    assert clock.trusted_wall_s() == NOON + HOLD_S - 1
    hands.pass_s(2)
    assert clock.trusted_wall_s() == clock.wall_s()


def test_a_backward_jump_counts_at_once(hands):
    clock = hands.clock()
    hands.wall_s -= YEAR_S
    assert clock.trusted_wall_s() == NOON - YEAR_S and clock.latest_wall_s() == NOON
    hands.wall_s += YEAR_S
    assert clock.trusted_wall_s() == NOON - YEAR_S  # it was in force within the last day
    hands.pass_s(HOLD_S + 1)
    assert clock.trusted_wall_s() == clock.wall_s() == clock.latest_wall_s()


def test_jumps_are_told_once_and_kept(hands):
    clock = hands.clock()
    hands.pass_s(10)
    hands.wall_s += JUMP_S * 0.9  # as slewing does
    assert clock.new_jumps() == []
    hands.wall_s += 3600
    hands.pass_s(1)
    hands.wall_s -= 7200
    clock.wall_s()
    told = clock.new_jumps()
    assert [each.text for each in told] == ["the wall clock was set back by 3600 s"]
    hands.wall_s += 60
    assert [each.text for each in clock.new_jumps()] == ["the wall clock was set forward by 60 s"]
    assert clock.new_jumps() == [] and len(clock.jumps) == 2


def test_sleep_is_no_jump(hands):
    clock = hands.clock()
    hands.pass_s(8 * 3600)  # real time passes, as time since boot counts it
    assert clock.new_jumps() == [] and clock.trusted_wall_s() == NOON + 8 * 3600


def test_a_restart_forgets_nothing(hands):
    clock = hands.clock()
    hands.wall_s += YEAR_S
    saved = clock.saved()
    hands.pass_s(60)
    again = hands.clock()
    assert again.trusted_wall_s() == NOON + 60 + YEAR_S  # knows of no past
    again.restore(saved)
    assert again.trusted_wall_s() == NOON + 60 and again.new_jumps() == []
    hands.pass_s(HOLD_S)
    assert again.trusted_wall_s() == again.wall_s()


def test_after_a_reboot_the_clock_is_not_believed_at_once():
    before = Hands()
    saved = before.clock().saved()
    after = Hands(wall_s=NOON + YEAR_S, since_boot_s=20.0)  # off for a year, or a broken clock: unknown
    clock = after.clock(boot_id="boot-2")
    clock.restore(saved)
    assert clock.trusted_wall_s() == NOON + 20.0
    after.pass_s(HOLD_S + 1)
    assert clock.trusted_wall_s() == after.wall_s
    wrong = Hands(wall_s=0.0, since_boot_s=20.0).clock(boot_id="boot-3")  # begins in 1970
    wrong.restore(saved)
    assert wrong.trusted_wall_s() == 0.0


def test_what_makes_no_sense_is_not_restored(hands):
    clock = hands.clock()
    for saved in ({}, {"since_boot_s": "x", "low_s": 0, "high_s": 0}, {"since_boot_s": 1, "low_s": None},
                  {"since_boot_s": 1, "low_s": float("nan"), "high_s": 1}):  # fmt: skip
        clock.restore(saved)
    assert clock.trusted_wall_s() == NOON


def test_slewing_is_no_jump_but_counts_for_ages_as_one(hands):
    clock = hands.clock()
    for _ in range(100):
        hands.wall_s += 1.0
        clock.wall_s()
    assert clock.new_jumps() == [] and NOON <= clock.trusted_wall_s() <= NOON + JUMP_S


@pytest.mark.parametrize("largest_s", [4, 1_000_000])
@given(st.data())
def test_the_trusted_wall_is_the_earliest_of_the_last_day(largest_s, data):
    step = st.tuples(st.integers(0, 40_000), st.integers(-largest_s, largest_s))
    steps = data.draw(st.lists(step, max_size=200))
    hands = Hands()
    clock = hands.clock()
    held = []  # (until, offset) of each offset that was in force
    for passed, jump in steps:
        before = clock.trusted_wall_s()
        hands.pass_s(passed)
        assert clock.trusted_wall_s() >= before  # real time only makes things older
        held.append((hands.real_s, hands.wall_s - hands.real_s))
        hands.wall_s += jump
        offset = clock.wall_s() - hands.real_s
        offsets = [offset, *(each for until, each in held if hands.real_s - until <= HOLD_S)]
        early, late = clock.trusted_wall_s() - hands.real_s, clock.latest_wall_s() - hands.real_s
        assert early <= min(offsets) <= max(offsets) <= late  # never on the unsafe side
        if len(steps) <= 32:  # many jumps are told apart less finely
            assert early >= min(offsets) - 2 * JUMP_S and late <= max(offsets) + 2 * JUMP_S
    assert len(clock.saved()) == 4
