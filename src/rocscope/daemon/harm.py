"""What a window may do to those who are served, and to the machine: looked at each second while it is open.

An engine's latencies are held against its own minute before the window, a GPU's throttling and errors against
what they were. What was not known before is no harm now: nothing is aborted for want of a reading.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from rocscope.daemon.history import History
from rocscope.daemon.settings import Windows

BEFORE_S: Final = 60.0
DURING_S: Final = 10.0  # of the latest samples, in a window that has lasted so long
LEAST_COUNT: Final = 20.0  # tokens' gaps in a span before its 99th percentile says anything
P99: Final = 0.99
LATENCY: Final = "itl_s"  # gaps between tokens: the only latency that a few seconds hold enough of
MEMORY: Final = "memory_available_bytes"
DISK: Final = "disk_free_bytes"
ROOM_S: Final = (
    40.0  # for which a reading of room counts: the disk is read every ten seconds, all of it slower
)
# where the daemon costs too much


@dataclass(frozen=True)
class Before:
    """How things stood when the window began."""

    p99_high_s: float | None  # upper bound of the bucket in which it lay
    waiting: float | None
    throttled: frozenset[str]  # GPUs that were throttled already
    errors: dict[str, float]  # uncorrectable memory errors of a GPU


class Harm:
    """Watches one window of one engine."""

    def __init__(self, history: History, engine: str, settings: Windows, min_free_bytes: int) -> None:
        self._history, self._engine = history, engine
        self._settings, self._min_free_bytes = settings, min_free_bytes

    def before(self, now_s: float) -> Before:
        """Note how things stand."""
        history, engine = self._history, self._engine
        p99 = history.quantile_range(engine, LATENCY, P99, BEFORE_S, now_s)
        enough = p99 is not None and p99.observed >= LEAST_COUNT
        return Before(
            p99_high_s=p99.high if p99 is not None and enough else None,
            waiting=history.mean(engine, "requests_waiting", now_s - BEFORE_S, now_s),
            throttled=frozenset(self._throttled()),
            errors=self._errors(),
        )

    def machine(self) -> str | None:
        """Return why the machine has no room for a window, ``None`` where it has or nothing is known."""
        least = self._settings.abort.min_available_memory_bytes
        for metric, limit, what in ((MEMORY, least, "memory"), (DISK, self._min_free_bytes, "disk")):
            free = self._history.latest("host", metric, ROOM_S)
            if free is not None and free < limit:
                return f"{what}: {free / 1e9:.2f} GB free, of {limit / 1e9:.2f} GB that must stay"
        return None

    def found(self, before: Before, began_s: float, now_s: float) -> str | None:
        """Return what has got worse since ``before``, in words; ``None`` where nothing has.

        Latencies are those since ``began_s``, when the profiler was started.
        """
        abort = self._settings.abort
        if reason := self.machine():
            return reason
        if abort.throttled and (new := sorted(set(self._throttled()) - before.throttled)):
            return f"throttled: {', '.join(new)}"
        if abort.ecc:
            for gpu, count in self._errors().items():
                if count > before.errors.get(gpu, count):
                    return f"uncorrectable memory errors on {gpu}"
        return self._queue(before) or self._latency(before, began_s, now_s)

    def _queue(self, before: Before) -> str | None:
        abort = self._settings.abort
        waiting = self._history.latest(self._engine, "requests_waiting")
        if waiting is None or before.waiting is None or waiting < abort.waiting_least:
            return None
        if waiting <= abort.waiting_factor * before.waiting:
            return None
        return f"requests waiting: {waiting:.0f}, {before.waiting:.1f} before"

    def _latency(self, before: Before, began_s: float, now_s: float) -> str | None:
        """Compare buckets, not places within them: worse for certain, by the factor that is allowed."""
        over_s = min(DURING_S, now_s - began_s)
        if before.p99_high_s is None or over_s <= 0:
            return None
        p99 = self._history.quantile_range(self._engine, LATENCY, P99, over_s, now_s)
        if p99 is None or p99.observed < LEAST_COUNT:
            return None
        if p99.low <= self._settings.abort.p99_factor * before.p99_high_s:
            return None
        return f"p99 between tokens: above {p99.low * 1e3:.0f} ms, below {before.p99_high_s * 1e3:.0f} before"

    def _throttled(self) -> list[str]:
        return [gpu for gpu in self._gpus("throttled") if self._history.latest(gpu, "throttled")]

    def _errors(self) -> dict[str, float]:
        metric = "ecc_uncorrectable"  # read every ten seconds
        found = {gpu: self._history.latest(gpu, metric, 60.0) for gpu in self._gpus(metric)}
        return {gpu: count for gpu, count in found.items() if count is not None}

    def _gpus(self, metric: str) -> list[str]:
        return sorted({subject for _, subject, name in self._history.series() if name == metric})
