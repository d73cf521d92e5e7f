"""Runs the parts: one that fails is stopped, waited for and started anew, while the others go on."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from rocscope.daemon.log_format import where
from rocscope.daemon.part import Health, Part

if TYPE_CHECKING:
    from rocscope.daemon.context import Context

FIRST_WAIT_S: Final = 1.0
LAST_WAIT_S: Final = 60.0
STEADY_S: Final = 300.0  # a part that ran so long begins again with the first wait
PART_STOP_S: Final = 5.0  # for a part that failed
STOP_S: Final = 11.0  # for all parts together, when the daemon ends
LAST_S: Final = 2.0  # for those that were cancelled


@dataclass
class Trouble:
    """Failures of one part since the daemon started."""

    count: int = 0
    last: str = ""


@dataclass
class _Kept:
    """One wanted part: the task that keeps it running, and what it is told."""

    kind: type[Part]
    told: asyncio.Event = field(default_factory=asyncio.Event)  # to stop
    part: Part | None = None
    task: asyncio.Task[None] | None = None


class Supervisor:
    """Keeps one task a part. ``parts`` has those that run; the context shows it to all."""

    def __init__(self, context: Context, classes: Sequence[type[Part]]) -> None:
        self.parts: dict[str, Part] = {}
        self.trouble: dict[str, Trouble] = {each.name: Trouble() for each in classes}
        self.fatal: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        """Done with the error of a part without which the daemon is not to run."""
        self._context, self._classes = context, classes
        self._kept: dict[str, _Kept] = {}
        context.parts = self.parts
        context.trouble = self.trouble

    def start(self) -> None:
        """Start the parts that the settings want and that do not run."""
        for kind in self._classes:
            if kind.name not in self._kept and kind.wanted(self._context.settings):
                kept = self._kept[kind.name] = _Kept(kind)
                kept.task = asyncio.create_task(self._keep(kept), name=f"part {kind.name}")

    async def renew(self, changed: set[str]) -> list[str]:
        """After a reload: stop what is no longer wanted or reads a changed section once only, start the rest.

        Return the names of the parts that were stopped.
        """
        old = [
            kind.name
            for kind in self._classes
            if kind.name in self._kept
            and (not kind.wanted(self._context.settings) or changed & set(kind.sections))
        ]
        await self._end(old)
        self.start()
        return old

    async def stop(self) -> list[str]:
        """End all parts; return the names of those that did not end in order."""
        return await self._end(list(self._kept))

    def health(self) -> dict[str, Health]:
        """Return how each wanted part does; one that waits to be started anew fails."""
        found: dict[str, Health] = {}
        for name, kept in self._kept.items():
            if kept.part is None:
                found[name] = Health("failing", self.trouble[name].last or "not started yet")
                continue
            try:
                found[name] = kept.part.health()
            except Exception as error:  # noqa: BLE001  # one part's fault must not hide the others' health
                found[name] = Health("failing", f"its health cannot be told: {where(error)}")
        return found

    @property
    def ready(self) -> bool:
        """Whether every wanted part runs and has what others wait for, or has failed already."""
        return all(
            kept.part.ready() if kept.part is not None else self.trouble[name].count > 0
            for name, kept in self._kept.items()
        )

    async def _keep(self, kept: _Kept) -> None:
        """Run a part, again and again."""
        name, clock = kept.kind.name, self._context.clock
        trouble, wait_s = self.trouble[name], FIRST_WAIT_S
        while not kept.told.is_set():
            began = clock.monotonic_s()
            error = await self._once(kept)
            if kept.told.is_set():
                return
            trouble.count += 1
            trouble.last = where(error)
            if isinstance(error, kept.kind.fatal) and trouble.count == 1:
                if not self.fatal.done():
                    self.fatal.set_result(error)
                return
            if clock.monotonic_s() - began > STEADY_S:
                wait_s = FIRST_WAIT_S
            said = f"{name} failed and is started anew in {wait_s:g} s: {trouble.last}"
            self._context.events.note("part", said, logging.ERROR)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await kept.told.wait()
                    return
            wait_s = min(2 * wait_s, LAST_WAIT_S)

    async def _once(self, kept: _Kept) -> BaseException:
        """Build a part and run it to its end; return why it ended."""
        part: Part | None = None
        try:
            part = kept.part = self.parts[kept.kind.name] = kept.kind(self._context)
            await part.run()
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            return error  # of something that the part waited for
        except Exception as error:  # noqa: BLE001  # whatever it is, the others go on
            return error
        else:
            return RuntimeError("it ended by itself")
        finally:
            kept.part = None
            if self.parts.get(kept.kind.name) is part:
                self.parts.pop(kept.kind.name, None)
            if part is not None and not kept.told.is_set():
                await self._stop_one(part, PART_STOP_S)

    async def _end(self, names: list[str]) -> list[str]:
        """Stop parts, all at once; cancel what has not ended at the deadline."""
        ending = {name: self._kept.pop(name) for name in names}
        waited: dict[asyncio.Task[None], str] = {}
        for name, kept in ending.items():
            kept.told.set()
            if kept.task is not None:
                waited[kept.task] = name
            if kept.part is not None:
                waited[asyncio.create_task(self._stop_one(kept.part, STOP_S))] = name
        if not waited:
            return []
        _, late = await asyncio.wait(waited, timeout=STOP_S)
        for each in late:
            each.cancel()
        if late:
            await asyncio.wait(late, timeout=LAST_S)
        found = sorted({waited[each] for each in late})
        if found:
            said = f"did not end in {STOP_S:g} s: {', '.join(found)}"
            self._context.events.note("part", said, logging.WARNING)
        return found

    async def _stop_one(self, part: Part, deadline_s: float) -> None:
        try:
            async with asyncio.timeout(deadline_s):
                await part.stop()
        except Exception as error:  # noqa: BLE001  # the others are stopped all the same
            self._context.events.note("part", f"{part.name} failed to stop: {where(error)}", logging.ERROR)
