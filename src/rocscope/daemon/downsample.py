"""What is read every second, put into the store as spans of ten and of sixty seconds."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from rocscope import serving_names as ours
from rocscope.daemon.part import Part
from rocscope.daemon.store_samples import RESOLUTIONS_S, Bucket

if TYPE_CHECKING:
    from rocscope.daemon.context import Context

FINE_S, COARSE_S = RESOLUTIONS_S
SETTLE_S: Final = 2.0  # after a span's end: a reading may arrive late
LOOK_S: Final = 1.0
MISSED_S: Final = 120.0  # so much is made up for where the event loop was held up
_UNKEPT: Final = frozenset(
    {
        *ours.TOTALS,
        ours.STARTED,
        ours.ENGINES,
        "energy_j",
        "throttle_status",
        "xgmi_read_bytes",
        "xgmi_write_bytes",
    }
)
"""Totals and bits: their mean over a span says nothing; the rates made of them are kept."""


def kept(metric: str) -> bool:
    """Whether a series is one for the store."""
    return not (":" in metric or metric in _UNKEPT or metric.endswith(("_sum", "_count", "cpu_s")))


class Spans:
    """Makes the buckets: each ten seconds those of ten, and of six of them those of sixty."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._minute: dict[tuple[str, str, str], Bucket] = {}
        self._minute_ts: int | None = None

    def of(self, ts: int, behind_s: float) -> list[Bucket]:
        """Return the buckets that end with the ten seconds from Unix time ``ts``.

        ``behind_s``: what to take off Unix time to have the history's.
        """
        found = list(self._fine(ts, ts - behind_s))
        minute = ts - ts % COARSE_S
        done = self._begin(minute)
        for each in found:
            key = (each.source, each.subject, each.metric)
            self._minute[key] = merged(self._minute.get(key), each, minute)
        if ts + FINE_S == minute + COARSE_S:
            done += self._begin(None)
        return found + done

    def rest(self) -> list[Bucket]:
        """Return what there is of a minute that did not end."""
        return self._begin(None)

    def _begin(self, minute: int | None) -> list[Bucket]:
        """Begin a minute; return the buckets of the one before, if it is another."""
        if minute == self._minute_ts:
            return []
        done, self._minute, self._minute_ts = list(self._minute.values()), {}, minute
        return done

    def _fine(self, ts: int, since_s: float) -> Iterable[Bucket]:
        for source, subject, metric, values in self._context.history.spans(since_s, since_s + FINE_S):
            if kept(metric):
                low, high = min(values), max(values)
                mean = min(max(math.fsum(values) / len(values), low), high)
                yield Bucket(source, subject, metric, FINE_S, ts, len(values), mean, low, high)


def merged(one: Bucket | None, other: Bucket, ts: int) -> Bucket:
    """Return the bucket of a minute with one more of its tens."""
    if one is None:
        return other._replace(res_s=COARSE_S, ts=ts)
    n = one.n + other.n
    low, high = min(one.low, other.low), max(one.high, other.high)
    mean = one.mean + (other.mean - one.mean) * (other.n / n)
    return one._replace(n=n, mean=min(max(mean, low), high), low=low, high=high)


class Downsample(Part):
    """Writes a span when it has ended; one that the store does not take is lost, and counted there."""

    name = "samples"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._spans = Spans(context)
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Write until told to stop, and then what there is of the last minute."""
        clock = self.context.clock
        next_ts = _floor(clock.wall_s())
        while not self._stopping.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._stopping.wait()
                    break
            now = clock.wall_s()
            if not next_ts - FINE_S <= now <= next_ts + MISSED_S:  # it was set, or the node slept
                next_ts = _floor(now)
            if now >= next_ts + FINE_S + SETTLE_S:
                self.context.store.add_samples(self._spans.of(next_ts, now - clock.monotonic_s()))
                next_ts += FINE_S
        self.context.store.add_samples(self._spans.rest())

    async def stop(self) -> None:
        """End it."""
        self._stopping.set()


def _floor(wall_s: float) -> int:
    return int(wall_s // FINE_S) * FINE_S


PART: Final = Downsample
