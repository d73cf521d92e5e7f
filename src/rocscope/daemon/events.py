"""What happened, for the operator: logged, kept in memory for the page, and kept in the store."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from rocscope.untrusted import visible

if TYPE_CHECKING:
    from rocscope.daemon.context import Clock

LOG: Final = logging.getLogger("rocscope.daemon")
RECENT: Final = 200
LONGEST: Final = 500  # characters of an event
AGAIN_S: Final = 300.0  # for so long the same event is not told again


class Event(NamedTuple):
    """One thing that happened."""

    at_s: float  # Unix time
    kind: str  # a closed set of words, such as "window" or "engine"
    text: str


class Events:
    """Takes events from any part, in the event loop.

    The same event told again within five minutes is counted alone, so that a fault which repeats every
    second fills neither journal nor store; when it is told next, the count is said.
    """

    def __init__(self, clock: Clock, keep: Callable[[Event], None] | None = None) -> None:
        self.recent: deque[Event] = deque(maxlen=RECENT)
        self._clock, self._keep = clock, keep
        self._told: dict[tuple[str, str], tuple[float, int]] = {}

    def note(self, kind: str, text: str, level: int = logging.INFO) -> None:
        """Tell of an event; ``text`` may hold what others wrote, and is made harmless here."""
        text = visible(text)[:LONGEST]
        now = self._clock.monotonic_s()
        first, times = self._told.get((kind, text), (float("-inf"), 0))
        if now - first < AGAIN_S:
            self._told[(kind, text)] = (first, times + 1)
            return
        self._forget(now)
        self._told[(kind, text)] = (now, 0)
        said = f"{text} (and {times} times since it was last told)" if times else text
        event = Event(self._clock.wall_s(), kind, said)
        self.recent.append(event)
        LOG.log(level, said, extra={"kind": kind})
        if self._keep is not None:
            self._keep(event)

    def _forget(self, now: float) -> None:
        if len(self._told) >= RECENT:
            self._told = {key: told for key, told in self._told.items() if now - told[0] < AGAIN_S}
        while len(self._told) >= RECENT:
            del self._told[next(iter(self._told))]
