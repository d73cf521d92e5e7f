"""A report each day at a time of day, made by a child; one whose time was missed is made at the start."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING, Any, Final

from rocscope.daemon import child_process
from rocscope.daemon.confinement import Limits
from rocscope.daemon.part import Health, Part

if TYPE_CHECKING:
    from rocscope.daemon.context import Context
    from rocscope.daemon.settings import Settings

COMMAND: Final = child_process.module("rocscope.daemon.daily_child")
LOOK_S: Final = 30.0
AGAIN_S: Final = 3600.0  # after a report that failed
LIMITS: Final = Limits(memory_bytes=1 << 30, cpu_s=60, file_bytes=64 << 20)
WALL_S: Final = 300.0


def due(now_s: float, at: str) -> float:
    """Return the latest moment not after ``now_s`` at which it was ``at`` in local time.

    Where clocks are set forward over that time, or back to it, it comes once, as the system's rules have it.
    """
    hour, minute = (int(part) for part in at.split(":"))
    local = time.localtime(now_s)
    for back in range(3):
        found = time.mktime((local.tm_year, local.tm_mon, local.tm_mday - back, hour, minute, 0, 0, 0, -1))
        if found <= now_s:
            return found
    return now_s


class Daily(Part):
    """Looks every half minute whether the latest report that was due is there."""

    name = "daily"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.command = COMMAND
        self._stopping = asyncio.Event()
        self._over: set[str] = set()  # of which there was nothing to report
        self._failed_s: float | None = None
        self._trouble = ""

    @classmethod
    def wanted(cls, settings: Settings) -> bool:
        """Whether there are to be reports."""
        return settings.reports.daily_at is not None

    def health(self) -> Health:
        """Degraded where the last report could not be made."""
        return Health("degraded", self._trouble) if self._trouble else Health()

    async def run(self) -> None:
        """Make what is due."""
        while not self._stopping.is_set():
            now = self.context.clock.monotonic_s()
            if self._failed_s is None or now - self._failed_s >= AGAIN_S:
                await self._look()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._stopping.wait()

    async def stop(self) -> None:
        """End; a report that is being made is made by the next start."""
        self._stopping.set()

    async def _look(self) -> None:
        at = self.context.settings.reports.daily_at
        if at is None:
            return
        until = due(self.context.clock.wall_s(), at)
        name = f"rocscope-{time.strftime('%Y-%m-%d', time.localtime(until))}"
        folder = self.context.settings.reports_folder
        if name in self._over or (folder / f"{name}.html").exists():
            return
        answer = await self._make(name, until, due(until - 3600, at))
        if "failed" in answer:
            self._failed_s = self.context.clock.monotonic_s()
            self._trouble = f"{name}: {answer['failed']}"
            self.context.events.note("report", f"no daily report, {self._trouble}", logging.WARNING)
            return
        self._failed_s, self._trouble = None, ""
        self._over.add(name)
        if "done" in answer:
            self.context.events.note("report", f"{name} is in {folder}")

    async def _make(self, name: str, until_s: float, since_s: float) -> dict[str, Any]:
        folder = self.context.settings.reports_folder
        work = self.context.folder.work / "daily"
        try:
            await asyncio.to_thread(folder.mkdir, 0o750, True, True)
            await asyncio.to_thread(work.mkdir, 0o700, True, True)
        except OSError as error:
            return {"failed": str(error)}
        orders = {
            "state": str(self.context.folder.path),
            "folder": str(folder),
            "name": name,
            "node": self.context.facts.node,
            "since_s": since_s,
            "until_s": until_s,
            "since": time.strftime("%Y-%m-%d %H:%M %Z", time.localtime(since_s)),
            "until": time.strftime("%Y-%m-%d %H:%M %Z", time.localtime(until_s)),
        }
        child = child_process.Child(
            self.command, orders, LIMITS, wall_s=WALL_S, folder=work, folder_bytes=LIMITS.file_bytes
        )
        making = asyncio.create_task(child.run())
        stopping = asyncio.create_task(self._stopping.wait())
        await asyncio.wait({making, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not making.done():
            making.cancel()
            await asyncio.wait({making})
            return {"stopped": True}
        return making.result()


PART: Final = Daily
