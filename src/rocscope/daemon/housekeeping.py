"""The part that keeps the state folder within its limits."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, ClassVar, Final

from rocscope.daemon.part import Health, Part
from rocscope.daemon.retention import Limits, Retention

if TYPE_CHECKING:
    from rocscope.daemon.context import Context
    from rocscope.daemon.retention import Collected
    from rocscope.daemon.settings import Settings

EVERY_S: Final = 60.0


def limits(settings: Settings) -> Limits:
    """Return what the settings say about keeping."""
    state = settings.state
    return Limits(
        max_bytes=state.max_bytes,
        min_free_bytes=state.min_free_bytes,
        keep_samples_s={10: state.keep_10s_samples_s, 60: state.keep_60s_samples_s},
        keep_windows_s=state.keep_windows_s,
        keep_captures=state.keep_captures,
        keep_events=state.keep_events,
        keep_reports=settings.reports.keep,
        quarantine_bytes=settings.spool.quarantine_max_bytes,
        reports=settings.reports_folder,
    )


class Housekeeping(Part):
    """Runs :class:`Retention` once a minute, in a thread; others ask it for room."""

    name: ClassVar[str] = "housekeeping"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._retention = Retention(context.store, lambda: limits(context.settings))
        self._stopping = asyncio.Event()
        self._last: Collected | None = None

    async def run(self) -> None:
        """Collect until stopped."""
        while not self._stopping.is_set():
            self._last = await asyncio.to_thread(self._retention.collect)
            for said in self._last.said:
                self.context.events.note("retention", said, logging.WARNING)
            try:
                await asyncio.wait_for(self._stopping.wait(), EVERY_S)
            except TimeoutError:
                continue

    async def stop(self) -> None:
        """End after the round that runs."""
        self._stopping.set()

    def health(self) -> Health:
        """Degraded where the limit cannot be kept, or something cannot be deleted."""
        last = self._last
        if last is None:
            return Health()
        above = last.used_bytes - self.context.settings.state.max_bytes
        if above > 0:
            return Health("degraded", f"the state folder is {above / 1e6:.0f} MB above its limit")
        if last.stuck:
            return Health("degraded", f"{last.stuck} files cannot be deleted: see the events")
        return Health()

    async def make_room(self, need_bytes: int) -> bool:
        """Make room for what is about to be put into the state folder; see :meth:`Retention.make_room`."""
        return await asyncio.to_thread(self._retention.make_room, need_bytes)


PART = Housekeeping
