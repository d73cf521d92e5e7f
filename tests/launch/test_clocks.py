"""Which clock a recording was made with."""

from __future__ import annotations

import time

from rocscope.launch.clocks import Offsets, now_ns


def test_each_clock_is_told_from_times_that_lie_within_the_run() -> None:
    offsets = Offsets.measure()
    began = now_ns()
    wall = time.time_ns()
    ended = began + 1_000_000_000
    assert offsets.domain_of(began, ended, began, ended) == "boottime"
    assert offsets.domain_of(wall, wall + 1_000, began, ended) == "realtime"
    assert offsets.domain_of(5, 10, began, ended) is None
    assert offsets.domain_of(began, ended + 10**12, began, ended) is None


def test_monotonic_is_told_where_it_differs_from_boottime() -> None:
    offsets = Offsets({"boottime": 0, "monotonic": -(10**12), "realtime": 10**18})
    assert offsets.domain_of(4 * 10**12, 4 * 10**12 + 5, 5 * 10**12, 5 * 10**12 + 9) == "monotonic"


def test_the_wall_offset_gives_unix_time() -> None:
    assert abs(now_ns() + Offsets.measure().to["realtime"] - time.time_ns()) < 50_000_000


def test_a_clock_of_its_own_is_told_from_the_offset_that_the_recording_notes() -> None:
    offsets = Offsets({"boottime": 0, "monotonic": 0, "realtime": 10**18})
    run = (5 * 10**12, 6 * 10**12)
    base = 10**18 - 4 * 10**15  # so that boot time 0 is 4e15 in the recording
    assert offsets.shift_to(base, 4 * 10**15 + run[0], 4 * 10**15 + run[1], *run) == 4 * 10**15
    assert offsets.shift_to(None, 1, 2, *run) is None
    assert offsets.shift_to(base, run[0], run[1], *run) is None
