"""Wall and monotonic time, and how far the wall may be trusted for ages.

The wall clock of a node may be wrong at boot, be set by hand, or leap. Nothing may be deleted for its age
because of that, so ages are counted on another clock:

    **The trusted wall is the earliest wall that was in force at any instant of the last 24 hours.**

It runs at the rate of real time (suspended time included). A forward jump, however far, moves it only after
it has lasted for 24 hours; a backward jump moves it at once, which only makes everything look younger. After
a reboot, or where the daemon did not run, what was trusted when it last ran counts as in force until now.
``latest_wall_s`` is the same with *latest*: what is dated beyond it was dated by a clock that was wrong.
"""

from __future__ import annotations

import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from threading import Lock
from typing import Any, Final, NamedTuple

JUMP_S: Final = 2.0
HOLD_S: Final = 86_400.0
KEPT_JUMPS: Final = 100
_KEPT_SPANS: Final = 64
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Jump:
    """The wall clock was set, by more than two seconds between two looks at it."""

    at_wall_s: float  # after it
    at_monotonic_s: float
    by_s: float  # negative: set back

    @property
    def text(self) -> str:
        """Say it."""
        way = "forward" if self.by_s > 0 else "back"
        return f"the wall clock was set {way} by {abs(self.by_s):.0f} s"


class _Span(NamedTuple):
    """Offsets of the wall against time since boot that were in force until a moment since boot."""

    until_s: float
    low_s: float
    high_s: float


def _since_boot() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)  # counts suspended time: waking up is no jump


def _boot_id() -> str:
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return str(uuid.uuid4())  # unknown: never taken for the same boot


class WallClock:
    """The daemon's clocks. Every look at the wall is also a look for jumps; any thread may look."""

    def __init__(
        self,
        *,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        since_boot: Callable[[], float] = _since_boot,
        boot_id: str | None = None,
    ) -> None:
        self.boot_id = _boot_id() if boot_id is None else boot_id
        self.jumps: deque[Jump] = deque(maxlen=KEPT_JUMPS)
        self._wall, self._monotonic, self._since_boot = wall, monotonic, since_boot
        self._lock = Lock()
        self._new: deque[Jump] = deque(maxlen=KEPT_JUMPS)
        self._past: deque[_Span] = deque()
        self._offset_s = self._anchor_s = wall() - since_boot()
        self._low_s = self._high_s = self._offset_s  # since the anchor was set

    def wall_s(self) -> float:
        """Unix time, which may jump."""
        with self._lock:
            return sum(self._look())

    def monotonic_s(self) -> float:
        """Time that only runs on; not comparable across boots."""
        return self._monotonic()

    def trusted_wall_s(self) -> float:
        """Return the earliest wall in force in the last 24 hours: what ages are counted by."""
        with self._lock:
            return self._look()[0] + self._bounds()[0]

    def latest_wall_s(self) -> float:
        """Return the latest wall in force in the last 24 hours."""
        with self._lock:
            return self._look()[0] + self._bounds()[1]

    def new_jumps(self) -> list[Jump]:
        """Return the jumps since the last call; for one caller, who makes events of them."""
        with self._lock:
            self._look()
            found = list(self._new)
            self._new.clear()
            return found

    def saved(self) -> dict[str, Any]:
        """Return what :meth:`restore` needs after a restart, for the store."""
        with self._lock:
            now, _ = self._look()
            low, high = self._bounds()
        return {"boot_id": self.boot_id, "since_boot_s": now, "low_s": low, "high_s": high}

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Take over what was trusted when the daemon last ran; what makes no sense is left out."""
        try:
            then, low, high = (float(saved[key]) for key in ("since_boot_s", "low_s", "high_s"))
        except (KeyError, TypeError, ValueError):
            return
        if not all(map(isfinite, (then, low, high))):
            return
        with self._lock:
            now, offset = self._look()
            if saved.get("boot_id") == self.boot_id and then <= now:
                self._keep(_Span(then, low, high))
            else:  # another boot: by now it is at least as late as it was then, plus the time since boot
                self._keep(_Span(now, min(then + low, offset), offset))

    def _look(self) -> tuple[float, float]:
        """Return time since boot and the wall's offset to it, noting a jump; the lock is held."""
        now = self._since_boot()
        offset = self._wall() - now
        by = offset - self._offset_s
        if abs(by) > JUMP_S:
            jump = Jump(now + offset, self._monotonic(), by)
            self.jumps.append(jump)
            self._new.append(jump)
        if abs(offset - self._anchor_s) > JUMP_S:  # a jump, or so much slewed by and by
            self._keep(_Span(now, self._low_s, self._high_s))
            self._anchor_s = self._low_s = self._high_s = offset
        self._offset_s = offset
        self._low_s, self._high_s = min(self._low_s, offset), max(self._high_s, offset)
        while self._past and now - self._past[0].until_s > HOLD_S:
            self._past.popleft()
        return now, offset

    def _bounds(self) -> tuple[float, float]:
        """Return the lowest and highest offset of the last 24 hours, as of the last look."""
        lows, highs = [span.low_s for span in self._past], [span.high_s for span in self._past]
        return min([self._low_s, *lows]), max([self._high_s, *highs])

    def _keep(self, span: _Span) -> None:
        self._past.append(span)
        if len(self._past) > _KEPT_SPANS:  # a clock that leaps about: two spans become one, on the safe side
            one, two = self._past.popleft(), self._past.popleft()
            self._past.appendleft(_Span(two.until_s, min(one.low_s, two.low_s), max(one.high_s, two.high_s)))
