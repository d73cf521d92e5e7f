"""The spool: what others drop into a folder is taken once, analysed, or refused with the reason.

A thread of the operating system's notices tells when something changes; a full scan from time to time finds
what it missed. What is still written is waited for.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import secrets
from collections.abc import Callable
from pathlib import Path
from sqlite3 import Connection
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar

from rocscope.daemon import drops, intake, spooled, store_spool, store_windows
from rocscope.daemon.drops import Drop, Refusal
from rocscope.daemon.part import Health, Part
from rocscope.daemon.quarantine import Quarantine
from rocscope.daemon.state_dir import SPOOL_MODE, own_folder
from rocscope.daemon.store_schema import FINAL_STATES
from rocscope.errors import InputError, StoreError

if TYPE_CHECKING:
    from rocscope.daemon.context import Context
    from rocscope.daemon.settings import Settings

WAITING: Final = 2  # analyses that wait, above which nothing more is taken
QUICK_S: Final = 1.0  # between looks while something settles
CALM_S: Final = 0.2  # between two scans at least, however much is told
TROUBLE_S: Final = 10.0
TOLD: Final = 8  # refusals of one scan that are told one by one
STAYS: Final = ("too-large", "unreadable")  # codes of what is left where it lies
_EVENTS: Final = ("created", "modified", "moved", "closed", "deleted")

T = TypeVar("T")


class Spool(Part):
    """Watches the folder; hands windows to the analysis."""

    name = "spool"
    sections: ClassVar[tuple[str, ...]] = ("spool",)

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.folder = context.settings.spool_folder
        self.watches = True  # a test turns the observer off
        self._given = context.settings.spool
        self._quarantine = Quarantine(context.folder.quarantine, self._given.quarantine_max_bytes)
        self._seen: dict[str, tuple[str, float]] = {}  # by name: its state, and since when (monotonic)
        self._left: dict[str, str] = {}  # by name: the state in which it was refused and left where it lies
        self._wake, self._stopping = asyncio.Event(), asyncio.Event()
        self._observer: Any = None
        self._inode: int | None = None
        self._trouble = ""
        self.counts = dict.fromkeys(("taken", "known", "refused"), 0)  # since the part began

    @classmethod
    def wanted(cls, settings: Settings) -> bool:
        """Whether there is to be a spool."""
        return settings.spool.enabled

    def health(self) -> Health:
        """Degraded while nothing can be taken."""
        return Health("degraded", self._trouble) if self._trouble else Health()

    async def run(self) -> None:
        """Scan, take, wait."""
        await asyncio.to_thread(self._quarantine.open)
        await self._recover()
        try:
            while not self._stopping.is_set():
                self._wake.clear()
                try:
                    pause_s = await self._round()
                    self._trouble = ""
                except (StoreError, OSError) as error:
                    self._trouble = error.message if isinstance(error, StoreError) else str(error)
                    self.context.events.note("spool", f"nothing is taken: {self._trouble}", logging.WARNING)
                    pause_s = TROUBLE_S
                await self._pause(pause_s)
        finally:
            await self._unwatch()

    async def stop(self) -> None:
        """End; what was begun is taken up by the next start."""
        self._stopping.set()
        self._wake.set()

    async def _pause(self, seconds: float) -> None:
        if not self._stopping.is_set():
            await asyncio.sleep(min(CALM_S, seconds))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._wake.wait()

    # the folder

    async def _round(self) -> float:
        """Look at the folder and take what has settled; return after how long to look again."""
        await self._watch()
        found = await asyncio.to_thread(drops.listed, self.folder, self._given.max_file_bytes)
        known = self._left
        fresh = [drop for drop in found if known.get(drop.name) != drop.state]
        self._left = {drop.name: drop.state for drop in found if known.get(drop.name) == drop.state}
        settled = self._settled(fresh)
        refused = [(drop, drop.refusal) for drop in settled if drop.refusal is not None]
        if refused:
            await self._refuse(refused)
        for drop in settled:
            if drop.refusal is None and not self._stopping.is_set():
                if not await self._room(drop):
                    return QUICK_S
                if await asyncio.to_thread(intake.written_to, drop):
                    self._seen[drop.name] = (drop.state, self.context.clock.monotonic_s())
                    continue
                await self._take(drop)
        return min(QUICK_S, max(0.05, self._given.settle_s / 3)) if self._seen else self._given.scan_s

    def _settled(self, found: list[Drop]) -> list[Drop]:
        """Return what has not changed for long enough."""
        now = self.context.clock.monotonic_s()
        before, self._seen = self._seen, {}
        done = []
        for drop in found:
            state, since = before.get(drop.name, ("", now))
            if state != drop.state:
                since = now
            if state == drop.state and now - since >= self._given.settle_s:
                done.append(drop)
            self._seen[drop.name] = (drop.state, since)
        return done

    async def _watch(self) -> None:
        """Have the system tell of changes; where the folder is gone or another, begin anew."""
        try:
            inode = self.folder.stat().st_ino
        except FileNotFoundError:
            await asyncio.to_thread(own_folder, self.folder, SPOOL_MODE)
            inode = self.folder.stat().st_ino
        if inode == self._inode or not self.watches:
            return
        await self._unwatch()
        try:
            self._observer = await asyncio.to_thread(
                _observer, self.folder, asyncio.get_running_loop(), self._wake
            )
        except OSError as error:  # no watch is left, or a file system that tells nothing
            self.context.events.note("spool", f"changes are not told ({error}): it is looked for them alone")
        self._inode = inode

    async def _unwatch(self) -> None:
        observer, self._observer = self._observer, None
        if observer is not None:
            observer.stop()
            await asyncio.to_thread(observer.join)

    async def _room(self, drop: Drop) -> bool:
        """Tell whether there is room for one more: in the queue, and on the disk."""
        analysis = self.context.part("analysis")
        if analysis is None or analysis.waiting >= WAITING:
            return False
        keeping = self.context.part("housekeeping")
        if keeping is None or await keeping.make_room(drop.size):
            return True
        self.context.events.note(
            "spool", f"there is no room for {drop.name} ({drop.size} bytes): it stays where it is"
        )
        return False

    # what becomes of a drop

    async def _take(self, drop: Drop) -> None:
        work = self.context.folder.work / f"in-{secrets.token_hex(6)}"
        try:
            await asyncio.to_thread(intake.take, drop, work / spooled.FOLDER, self._given.max_file_bytes)
        except FileNotFoundError:
            await asyncio.to_thread(intake.remove, work)
            return
        except (InputError, PermissionError) as error:
            await asyncio.to_thread(intake.remove, work)
            said = error.message if isinstance(error, InputError) else f"{error.strerror}"
            await self._refuse([(drop, Refusal("unreadable", said))])
            return
        await self._admit(work, drop.name)
        await self._gone(drop)

    async def _gone(self, drop: Drop) -> None:
        """Remove what was copied, or leave it and look at it no more."""
        self._seen.pop(drop.name, None)
        error = await asyncio.to_thread(self._removed, drop)
        if error is not None:
            self._left[drop.name] = drop.state
            self.context.events.note(
                "spool", f"{drop.name} was taken and cannot be removed ({error.strerror}): remove it yourself"
            )

    def _removed(self, drop: Drop) -> OSError | None:
        """Remove what was looked at; what was dropped under the same name since then stays."""
        try:
            now = drops.look(drop.path, self._given.max_file_bytes)
        except FileNotFoundError:
            return None
        return intake.remove(drop.path) if now.state == drop.state else None

    async def _admit(self, work: Path, name: str) -> None:
        """Bring what lies in the work folder into the ledger, once for each content."""
        content = spooled.content(work)
        if content is None:
            await asyncio.to_thread(intake.remove, work)
            return
        spool_id, size = await asyncio.to_thread(intake.identity, content)
        place = self.context.folder.work / spooled.window_id(spool_id)
        known = await asyncio.to_thread(self._read, lambda c: store_spool.get(c, spool_id))
        if known is None:
            if work != place and not place.exists():
                await asyncio.to_thread(work.rename, place)
            now = self.context.clock.wall_s()
            known = await self._write(lambda c: spooled.accept(c, spool_id, name=name, size=size, at_s=now))
        if known is not None:
            self.counts["known"] += 1
            said = "was analysed before" if known.state == "done" else f"is {known.state} already"
            said += f" ({known.reason})" if known.reason else ""
            self.context.events.note("spool", f"{name}: the same content {said}, as {known.name}")
            if work != place or known.state in store_spool.FINAL_STATES:
                await asyncio.to_thread(intake.remove, work)
            return
        if work != place:
            await asyncio.to_thread(intake.remove, work)
        self.counts["taken"] += 1
        self.context.events.note("spool", f"{name} ({size} bytes) is taken as {place.name}")
        if (analysis := self.context.part("analysis")) is not None:
            analysis.dropped(place.name)

    async def _refuse(self, refused: list[tuple[Drop, Refusal]]) -> None:
        """Quarantine what is not analysed, and say why."""
        for drop, why in refused:
            self._seen.pop(drop.name, None)
            if why.code in STAYS:
                self._left[drop.name] = drop.state
        now = self.context.clock.wall_s()
        ids = [_id(drop) for drop, _ in refused]

        def note(connection: Connection) -> list[bool]:
            return [
                spooled.refuse(
                    connection,
                    spool_id,
                    name=drop.name,
                    size=drop.size,
                    at_s=now,
                    reason=f"{why.code}: {why.reason}",
                )
                for (drop, why), spool_id in zip(refused, ids, strict=True)
            ]

        # in the ledger first: what a kill leaves in the folder is then moved by the next scan
        noted = await self._write(note)
        new = [each for each, fresh in zip(refused, noted, strict=True) if fresh]
        self.counts["refused"] += len(new)
        await asyncio.to_thread(self._keep, refused, ids, now)
        for drop, why in new[:TOLD]:
            self.context.events.note("spool", f"{drop.name} is refused: {why.reason}", logging.WARNING)
        if len(new) > TOLD:
            self.context.events.note(
                "spool", f"{len(new) - TOLD} more are refused: see the quarantine", logging.WARNING
            )

    def _keep(self, refused: list[tuple[Drop, Refusal]], ids: list[str], now: float) -> None:
        """Move into quarantine what can be moved; the reason is kept in any case."""
        for (drop, why), spool_id in zip(refused, ids, strict=True):
            content, work = None, self.context.folder.work / f"in-{secrets.token_hex(6)}"
            if why.code not in STAYS and not drop.special:
                with contextlib.suppress(OSError, InputError):
                    content = intake.take(drop, work, self._given.max_file_bytes)
            self._quarantine.keep(
                spool_id, drop.name, why.code, why.reason, size=drop.size, at_s=now, content=content
            )
            intake.remove(work)
            if why.code not in STAYS and self._removed(drop) is not None:
                self._left[drop.name] = drop.state

    async def _recover(self) -> None:
        """Go on with what a stop or a kill cut short, wherever it was."""
        work = self.context.folder.work
        found = await asyncio.to_thread(lambda: [path for path in work.iterdir() if path.is_dir()])
        for path in found:
            content = spooled.content(path)
            if content is None:
                if path.name.startswith("in-"):
                    await asyncio.to_thread(intake.remove, path)
                continue
            row = await asyncio.to_thread(self._read, lambda c, name=path.name: store_windows.get(c, name))
            if row is None:
                await self._admit(path, content.name)
            elif row.state in FINAL_STATES:
                await spooled.over(self.context, row.id, row.state, row.refusal or "")
        for each in await asyncio.to_thread(self._read, store_spool.unfinished):
            window = each.window_id
            if window is not None and spooled.content(work / window) is None:
                row = await asyncio.to_thread(self._read, lambda c, name=window: store_windows.get(c, name))
                if row is not None and row.state in FINAL_STATES:
                    await spooled.over(self.context, window, row.state, row.refusal or "")

    def _read(self, group: Callable[[Connection], T]) -> T:
        with self.context.store.read() as connection:
            return group(connection)

    async def _write(self, group: Callable[[Connection], T]) -> T:
        return await asyncio.wrap_future(self.context.store.write(group))


def _id(drop: Drop) -> str:
    """Return what names a refusal: of an entry as it was, since its content is not read."""
    text = f"refused\0{drop.name}\0{drop.state}"
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def _observer(folder: Path, loop: asyncio.AbstractEventLoop, wake: asyncio.Event) -> Any:
    """Start a thread that wakes us when something in the folder changes."""
    from watchdog.events import FileSystemEvent, FileSystemEventHandler
    from watchdog.observers import Observer

    class Handler(FileSystemEventHandler):
        def on_any_event(self, event: FileSystemEvent) -> None:
            if event.event_type in _EVENTS:  # not that we ourselves opened something
                with contextlib.suppress(RuntimeError):  # the loop is closed
                    loop.call_soon_threadsafe(wake.set)

    observer = Observer()
    observer.schedule(Handler(), str(folder), recursive=False)
    observer.start()
    return observer


PART: Final = Spool
