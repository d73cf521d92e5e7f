"""The budget of windows: what may be opened now, and if not, why not and when.

A pure state machine over an injected clock. Every request passes here, whoever makes it; nothing but root's
own ``--force`` passes by the duty, the gap and the slot, and that too opens no second window.
"""

from __future__ import annotations

import hashlib
import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from rocscope.daemon.context import Clock
from rocscope.daemon.settings import Windows

HOUR_S: Final = 3600.0
DAY_S: Final = 86_400.0
SKEW_S: Final = 5.0  # by which the clocks of a fleet's nodes may differ
_SLOTS_AHEAD: Final = 10_000  # that are looked through for this node's next turn

Code = Literal[
    "disabled", "paused", "open", "too-long", "breaker", "gap", "duty-hour", "duty-day", "bytes-day", "slot"
]
Outcome = Literal["done", "failed", "aborted", "stopped"]  # stopped: with the daemon, no fault of windows


@dataclass(frozen=True)
class Refusal:
    """Why no window may be opened, and after how many seconds to ask again; ``None``: not by waiting."""

    code: Code
    text: str
    retry_s: float | None


@dataclass(frozen=True)
class Spent:
    """A window that was: when it ended on the monotonic clock, what it took, how it came out."""

    ended_s: float
    seconds: float
    bytes: int
    outcome: Outcome


class Budget:
    """Holds windows to the settings.

    Ask with :meth:`refusal`, then :meth:`open`; :meth:`close` when the profiler is off again. ``past`` are
    the windows of the last day, as the ledger knows them, ``ended_s`` on this clock (negative before boot).
    """

    def __init__(self, settings: Windows, clock: Clock, node: str, past: Iterable[Spent] = ()) -> None:
        self.settings = settings  # another after a reload
        self._clock, self._node = clock, node
        self._past: deque[Spent] = deque(sorted(past, key=lambda each: each.ended_s))
        self._opened_s: float | None = None
        self._paused_until_s = -math.inf
        self._broken_until_s = -math.inf
        self._failures = 0
        for each in self._past:
            self._count(each)

    @property
    def is_open(self) -> bool:
        """Whether a window is open."""
        return self._opened_s is not None

    @property
    def paused(self) -> bool:
        """Whether the operator has stopped windows for now."""
        return self._clock.monotonic_s() < self._paused_until_s

    @property
    def broken(self) -> bool:
        """Whether too many windows failed in a row, so that none is opened for a while."""
        return self._clock.monotonic_s() < self._broken_until_s

    def pause(self, for_s: float = math.inf) -> None:
        """Open no window for ``for_s`` seconds."""
        self._paused_until_s = self._clock.monotonic_s() + for_s

    def resume(self) -> None:
        """End a pause, and close the breaker: the operator has looked."""
        self._paused_until_s = self._broken_until_s = -math.inf
        self._failures = 0

    def refusal(self, window_s: float, *, force: bool = False) -> Refusal | None:
        """Return why a window of ``window_s`` may not be opened now, ``None`` where it may."""
        given, now = self.settings, self._clock.monotonic_s()
        if self.is_open:
            return Refusal("open", "a window is open already", given.max_window_s)
        if not window_s <= given.max_window_s:
            text = f"{window_s:g} s are more than max_window_s, {given.max_window_s:g}"
            return Refusal("too-long", text, None)
        if force:
            return None
        return self._stopped(now) or self._over_budget(window_s, now) or self._other_slot()

    def open(self) -> None:
        """A window begins: the profiler is about to be started. Raises ``ValueError`` where one is open."""
        if self.is_open:
            raise ValueError("a window is open already")
        self._opened_s = self._clock.monotonic_s()

    def close(self, outcome: Outcome, taken_bytes: int = 0) -> Spent:
        """The profiler is off again. Its whole time counts, however long it was meant to be."""
        if self._opened_s is None:
            raise ValueError("no window is open")
        now = self._clock.monotonic_s()
        spent = Spent(now, max(0.0, now - self._opened_s), taken_bytes, outcome)
        self._opened_s = None
        self._past.append(spent)
        self._count(spent)
        return spent

    def duty_frac(self, over_s: float = HOUR_S) -> float:
        """Return the share of the last ``over_s`` in which a window was open."""
        now = self._clock.monotonic_s()
        current = now - self._opened_s if self._opened_s is not None else 0.0
        return (self._spent_s(now, over_s) + min(current, over_s)) / over_s

    def bytes_left(self) -> int:
        """Return how many bytes today's windows may still write, of which one may take its own share."""
        self._forget()
        used = sum(each.bytes for each in self._past)
        return max(0, min(self.settings.max_window_bytes, self.settings.max_day_bytes - used))

    def next_slot_s(self, wall_s: float) -> float:
        """Return in how many seconds this node's next turn of the fleet begins; 0 where it is now."""
        given = self.settings
        if not given.max_nodes or given.max_nodes >= len(given.fleet):
            return 0.0
        length, needed = given.every_s, given.max_window_s + SKEW_S
        now = int(wall_s // length)
        for slot in range(now, now + _SLOTS_AHEAD):
            if not self._has(slot):
                continue
            begin = slot * length + SKEW_S
            if slot == now and wall_s > (slot + 1) * length - needed:  # it would reach into the next one
                continue
            return max(0.0, begin - wall_s)
        return math.inf

    def _has(self, slot: int) -> bool:
        """Tell whether this node is among the slot's: of all names those with the least hashes."""
        mine = _place(self._node, slot)
        before = sum(1 for name in set(self.settings.fleet) - {self._node} if _place(name, slot) < mine)
        return self._node in self.settings.fleet and before < self.settings.max_nodes

    def _stopped(self, now: float) -> Refusal | None:
        """Return why no window at all is opened for now."""
        if not self.settings.enabled:
            return Refusal("disabled", "windows are switched off in the settings", None)
        if self.paused:
            left = self._paused_until_s - now
            until = f"for {left:.0f} s more" if math.isfinite(left) else "until they are resumed"
            return Refusal("paused", f"windows are paused {until}", left if math.isfinite(left) else None)
        if self.broken:
            text = f"{self._failures} windows in a row failed: the breaker is open"
            return Refusal("breaker", text, self._broken_until_s - now)
        return None

    def _other_slot(self) -> Refusal | None:
        wait_s = self.next_slot_s(self._clock.wall_s())
        if wait_s <= 0:
            return None
        if math.isinf(wait_s):
            return Refusal("slot", f"{self._node} is not in windows.fleet", None)
        return Refusal("slot", "it is the turn of other nodes of the fleet", wait_s)

    def _over_budget(self, window_s: float, now: float) -> Refusal | None:
        given = self.settings
        self._forget()
        last = self._past[-1].ended_s if self._past else -math.inf
        if now < last + given.min_gap_s:
            left = last + given.min_gap_s - now
            return Refusal("gap", f"the last window ended {now - last:.0f} s ago", left)
        spans: tuple[tuple[Code, float], ...] = (("duty-hour", HOUR_S), ("duty-day", DAY_S))
        for code, over_s in spans:
            allowed, used = given.max_duty_frac * over_s, self._spent_s(now, over_s)
            if used + window_s > allowed * (1 + 1e-9):
                hours = f"{over_s / HOUR_S:.0f} h"
                text = f"windows took {used:.1f} s of the last {hours}, of {allowed:.1f} s allowed"
                return Refusal(code, text, self._until_freed(window_s - (allowed - used), now, over_s))
        if not self.bytes_left():
            used_bytes = sum(each.bytes for each in self._past)
            text = f"windows wrote {used_bytes} bytes in the last 24 h, of {given.max_day_bytes} allowed"
            return Refusal("bytes-day", text, self._past[0].ended_s + DAY_S - now)
        return None

    def _spent_s(self, now: float, over_s: float) -> float:
        """Return the seconds of windows in the last ``over_s``; one that began before counts in part."""
        since = now - over_s
        return math.fsum(
            min(each.seconds, each.ended_s - since) for each in self._past if each.ended_s > since
        )

    def _until_freed(self, seconds: float, now: float, over_s: float) -> float | None:
        """Return after how long so many seconds have left the span; ``None`` where it never had them."""
        for each in self._past:
            inside = min(each.seconds, each.ended_s - (now - over_s))
            if inside <= 0:
                continue
            if inside >= seconds:
                return each.ended_s - inside + seconds + over_s - now
            seconds -= inside
        return None

    def _count(self, spent: Spent) -> None:
        if spent.outcome == "stopped":
            return
        if spent.outcome == "done":
            self._failures = 0
            return
        self._failures += 1
        if self._failures >= self.settings.failures_to_open:
            self._broken_until_s = spent.ended_s + self.settings.breaker_s

    def _forget(self) -> None:
        since = self._clock.monotonic_s() - DAY_S
        while self._past and self._past[0].ended_s <= since:
            self._past.popleft()


def _place(node: str, slot: int) -> bytes:
    return hashlib.sha256(f"{slot}\x00{node}".encode("utf-8", "surrogatepass")).digest()
