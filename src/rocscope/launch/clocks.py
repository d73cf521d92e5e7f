"""The clocks of a run: which of them a recording was made with, and its offset to wall time."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

DOMAINS: Final = {
    "boottime": time.CLOCK_BOOTTIME,
    "monotonic": time.CLOCK_MONOTONIC,
    "realtime": time.CLOCK_REALTIME,
}
"""In the order of preference where two agree (a machine that was never suspended)."""


def now_ns() -> int:
    """Return CLOCK_BOOTTIME, the clock that all times of a live run are kept in."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


@dataclass(frozen=True)
class Offsets:
    """What to add to a CLOCK_BOOTTIME reading to have it in another clock, ns."""

    to: dict[str, int]

    @classmethod
    def measure(cls) -> Offsets:
        """Read all clocks, bracketed by two readings of CLOCK_BOOTTIME; the tightest of five brackets."""
        found: dict[str, int] = {}
        for name, clock in DOMAINS.items():
            brackets = []
            for _ in range(5):
                before = now_ns()
                there = time.clock_gettime_ns(clock)
                after = now_ns()
                brackets.append((after - before, there - (before + after) // 2))
            found[name] = 0 if name == "boottime" else min(brackets)[1]
        return cls(found)

    def domain_of(self, first_ns: int, last_ns: int, began_ns: int, ended_ns: int) -> str | None:
        """Tell in which clock a recording's times lie within the run, else ``None``.

        ``first_ns`` to ``last_ns`` is the recording in its own clock, ``began_ns`` to ``ended_ns`` the run
        in CLOCK_BOOTTIME. A millisecond of slack on either side allows for the drift of wall time.
        """
        slack = 1_000_000
        for name, offset in self.to.items():
            if began_ns + offset - slack <= first_ns <= last_ns <= ended_ns + offset + slack:
                return name
        return None

    def shift_to(
        self, wall_offset_ns: int | None, first_ns: int, last_ns: int, began_ns: int, ended_ns: int
    ) -> int | None:
        """Return what to add to CLOCK_BOOTTIME for a recording that tells its offset to wall time.

        ``None`` where it tells none, or where its times then lie more than a second outside the run: the
        PyTorch profiler counts from a base of its own and notes that base.
        """
        if wall_offset_ns is None:
            return None
        shift, slack = self.to["realtime"] - wall_offset_ns, 1_000_000_000
        inside = began_ns + shift - slack <= first_ns <= last_ns <= ended_ns + shift + slack
        return shift if inside else None
