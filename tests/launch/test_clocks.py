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
