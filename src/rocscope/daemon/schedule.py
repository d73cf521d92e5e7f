"""When the next scheduled window is due: every so often, each time a little earlier or later.

The jitter keeps windows from falling in step with what else happens every quarter of an hour, and nodes from
falling in step with each other. It follows from the node's name and the turn alone, so that it can be told
beforehand and is the same after a restart.
"""

from __future__ import annotations

import hashlib

from rocscope.daemon.context import Clock
from rocscope.daemon.settings import Windows


class Schedule:
    """Gives the moments at which windows are due, on the monotonic clock."""

    def __init__(self, settings: Windows, clock: Clock, node: str) -> None:
        self.settings = settings  # another after a reload
        self._clock, self._node = clock, node
        self._turn = int(clock.wall_s() // settings.every_s)
        self.due_s = clock.monotonic_s() + settings.every_s * _share(node, self._turn)
        """When the next is due. The first comes anywhere in the first period: a fleet starts as one."""

    @property
    def due(self) -> bool:
        """Whether it is time."""
        return self.settings.enabled and self._clock.monotonic_s() >= self.due_s

    def taken(self) -> None:
        """The window that was due was opened or given up: the next one is a period later."""
        given, now = self.settings, self._clock.monotonic_s()
        self._turn += 1
        jitter = (2 * _share(self._node, self._turn) - 1) * given.jitter_frac * given.every_s
        self.due_s = now + max(given.min_gap_s, given.every_s + jitter)

    def later(self, seconds: float) -> None:
        """It is not this node's turn, or the budget wants a pause first: ask again then."""
        self.due_s = self._clock.monotonic_s() + max(1.0, seconds)


def _share(node: str, turn: int) -> float:
    """Return a number from 0 to 1 that depends on node and turn alone."""
    digest = hashlib.sha256(f"jitter\x00{turn}\x00{node}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") / 2.0**64
