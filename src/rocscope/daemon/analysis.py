"""Analysis of windows and of what was spooled: one at a time, in a child that is confined and ends.

A result is made in the work folder, renamed to its place, and then taken into the ledger by one transaction;
a start looks at every window that is not final. A kill at any instant therefore loses and doubles nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from sqlite3 import Connection
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from rocscope.daemon import child_process, comparable, observed, regressions, result, spooled, store_windows
from rocscope.daemon.confinement import Limits
from rocscope.daemon.part import Health, Part
from rocscope.errors import InputError, StoreError

if TYPE_CHECKING:
    from rocscope.daemon.context import Context
    from rocscope.daemon.store_windows import WindowRow

COMMAND: Final = child_process.module("rocscope.daemon.analysis_child")
CAPTURE: Final = "capture"  # of a window, in its folder of the work folder
KEPT: Final = "kept"
RESULT: Final = "result"
LOOK_S: Final = 30.0  # between looks for windows that nobody handed on
OPEN_S: Final = 1.0  # between looks whether a window is still open
MOST_OPEN_S: Final = 600.0  # that an analysis waits for open windows

T = TypeVar("T")


class Verdict(NamedTuple):
    """What became of one analysis."""

    window_id: str
    state: str  # "done" or "failed"
    reason: str = ""


class Analysis(Part):
    """Takes captures from windows and files from the spool, in this order, one child at a time."""

    name = "analysis"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.command = COMMAND
        self.current: str | None = None  # window that is analysed now
        self.verdicts: deque[Verdict] = deque(maxlen=100)
        self._windows: deque[str] = deque()
        self._spooled: deque[str] = deque()
        self._keep: set[str] = set()
        self._wake, self._stopping = asyncio.Event(), asyncio.Event()
        self._task: asyncio.Task[Any] | None = None
        self._trouble = ""

    @property
    def waiting(self) -> int:
        """How many wait or are analysed now."""
        return len(self._windows) + len(self._spooled) + (self.current is not None)

    def health(self) -> Health:
        """Degraded while results cannot be taken into the store."""
        return Health("degraded", self._trouble) if self._trouble else Health("ok", f"{self.waiting} waiting")

    async def window(self, window_id: str, capture: Path, *, keep: bool) -> None:
        """Take the capture of a window, which lies in the window's folder of the work folder."""
        with contextlib.suppress(StoreError, OSError):
            row = await asyncio.to_thread(self._read, lambda c: store_windows.get(c, window_id))
            if row is not None:
                seen = await observed.look(self.context, row)
                await asyncio.to_thread(observed.keep, seen, capture.parent)
        if keep:
            self._keep.add(window_id)
        self._add(self._windows, window_id)

    def dropped(self, window_id: str) -> None:
        """Take what was dropped, once it lies in the work folder and its window is in the ledger."""
        self._add(self._spooled, window_id)

    def _add(self, queue: deque[str], window_id: str) -> None:
        if window_id != self.current and window_id not in queue:
            queue.append(window_id)
        self._wake.set()

    async def run(self) -> None:
        """Analyse what comes, and from time to time look for what was left."""
        await self._look()
        await asyncio.to_thread(self._clear)
        while not self._stopping.is_set():
            queue = self._windows or self._spooled
            if not queue:
                await self._sleep(LOOK_S)
                await self._look()
                continue
            self.current = queue.popleft()
            try:
                self._task = asyncio.create_task(self._one(self.current), name=f"analyse {self.current}")
                await asyncio.wait({self._task})
                if not self._task.cancelled():
                    await self._settled(self.current, self._task)
            finally:
                self.current = None

    async def stop(self) -> None:
        """Kill the child; what it was at is analysed again after the next start."""
        self._stopping.set()
        self._wake.set()
        task = self._task
        if task is not None and not task.done():
            task.cancel()
            await asyncio.wait({task})

    async def _settled(self, window_id: str, task: asyncio.Task[Any]) -> None:
        """Take how one came out; where the store or the disk was at fault, it is tried again later."""
        error = task.exception()
        if error is None:
            self._trouble = ""
            return
        if not isinstance(error, StoreError | OSError):
            raise error
        said = error.message if isinstance(error, StoreError) else str(error)
        self._trouble = f"the result of {window_id} is kept back: {said}"
        self.context.events.note("analysis", self._trouble, logging.WARNING)
        await self._sleep(LOOK_S)

    async def _sleep(self, seconds: float) -> None:
        self._wake.clear()
        if self._stopping.is_set():
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()

    async def _look(self) -> None:
        """Find windows that are to be analysed and are in no queue: of before a restart, or kept back."""
        with contextlib.suppress(StoreError):
            rows = await asyncio.to_thread(self._read, store_windows.unfinished)
            for row in rows:
                if row.state == "analysing":
                    profile = self.context.settings.windows.profiles.get(row.profile or "")
                    if profile is not None and profile.keep_capture:
                        self._keep.add(row.id)
                    self._add(self._spooled if row.trigger == spooled.TRIGGER else self._windows, row.id)

    async def _one(self, window_id: str) -> None:
        row = await asyncio.to_thread(self._read, lambda c: store_windows.get(c, window_id))
        if row is None or row.state != "analysing":
            self._keep.discard(window_id)
            return
        place = self.context.folder.window_folder(window_id, row.requested_at)
        if not place.is_dir():
            await self._quiet()
            failed = await self._analysed(row)
            if failed is not None:
                await self._fail(row, failed)
                return
        made = place if place.is_dir() else self._work(window_id) / RESULT
        try:
            found = dict(await asyncio.to_thread(result.read, made))
            if found["window_id"] != window_id:
                raise InputError("the result is of another window", "")
        except InputError as error:
            if made == place:
                await asyncio.to_thread(shutil.rmtree, place, True)
            await self._fail(row, error.message)
            return
        found["key_hash"] = comparable.key_hash(found["key"])
        await self._judge(row, found)
        await asyncio.to_thread(_place, made, place)
        await self._commit(row, found, place)

    async def _quiet(self) -> None:
        """Wait while a window is open: what we do then would be in it."""
        began = self.context.clock.monotonic_s()
        while self.context.clock.monotonic_s() - began < MOST_OPEN_S:
            windows = self.context.part("windows")
            if windows is None or windows.current is None:
                return
            await asyncio.sleep(OPEN_S)

    def _work(self, window_id: str) -> Path:
        return self.context.folder.work / window_id

    def _source(self, window_id: str) -> Path | None:
        """Return what is to be analysed, ``None`` where nothing is left of it."""
        work = self._work(window_id)
        if (work / CAPTURE / "manifest.json").is_file():
            return work / CAPTURE
        return spooled.content(work)

    async def _analysed(self, row: WindowRow) -> str | None:
        """Have a child make the result, and the capture's copy where it is wanted; return why it failed."""
        work = self._work(row.id)
        source = self._source(row.id)
        if source is None:
            return "its recording is gone"
        await asyncio.to_thread(_remove, work / RESULT, work / KEPT)
        keep = work / KEPT if row.id in self._keep else None
        answer = await self._child(row, source, result_folder=work / RESULT, capture=keep)
        await asyncio.to_thread(_remove, work / "tmp")
        if "failed" not in answer:
            return None
        return str(answer["failed"]).replace(f"{source.parent}/", "")[:500]

    async def _child(
        self, row: WindowRow, source: Path, *, result_folder: Path | None, capture: Path | None
    ) -> Mapping[str, Any]:
        given, foreign = self.context.settings.spool, row.trigger == spooled.TRIGGER
        orders = {
            "window_id": row.id,
            "node": self.context.facts.node,
            "at_s": row.requested_at,
            "source": str(source),
            "foreign": foreign,
            "result": str(result_folder) if result_folder else None,
            "capture": str(capture) if capture else None,
            "gpu": self.context.settings.node.gpu or None,
            "observed": None if foreign else observed.kept(self._work(row.id)),
            "unpacked_bytes": given.max_unpacked_bytes,
            "unpacked_ratio": given.max_unpacked_ratio,
        }
        limits = Limits(
            memory_bytes=given.analysis_memory_bytes,
            cpu_s=max(1, round(given.analysis_cpu_s)),
            file_bytes=given.max_unpacked_bytes,
        )
        child = child_process.Child(
            self.command, orders, limits,
            wall_s=given.analysis_wall_s, folder=self._work(row.id), folder_bytes=given.max_unpacked_bytes,
        )  # fmt: skip
        return await child.run()

    async def _judge(self, row: WindowRow, found: dict[str, Any]) -> None:
        """Hold a window against its past; a capture to which a regression points is kept."""
        given = self.context.settings
        if given.regressions.enabled:
            every_s = given.windows.every_s
            judged = await asyncio.to_thread(
                self._read, lambda c: regressions.judge(c, row, found, given.regressions, every_s)
            )
            found["comparison"], found["findings"] = judged.told, judged.findings
        kept, source = self._work(row.id) / KEPT, self._source(row.id)
        pinned = any(each["kind"] == "regression" for each in found.get("findings") or ())
        if pinned and not kept.is_dir() and source is not None:
            answer = await self._child(row, source, result_folder=None, capture=kept)
            if "failed" in answer:
                said = f"the capture of {row.id} is not kept: {answer['failed']}"
                self.context.events.note("analysis", said, logging.WARNING)
        if kept.is_dir():
            await asyncio.to_thread(_place, kept, self.context.folder.captures / row.id)

    async def _commit(self, row: WindowRow, found: Mapping[str, Any], place: Path) -> None:
        folder, findings = str(place.relative_to(self.context.folder.path)), found.get("findings") or ()
        new = await self._write(
            lambda c: regressions.commit(
                c, findings, lambda: store_windows.commit_window_result(c, found, folder=folder)
            )
        )
        if new:
            for each in findings:
                self.context.events.note("finding", each["evidence"]["text"], logging.WARNING)
            self.context.events.note("analysis", f"{row.id}: {found['kernels']} kernels, done")
        await self._over(Verdict(row.id, "done"))

    async def _fail(self, row: WindowRow, reason: str) -> None:
        await self._write(lambda c: store_windows.set_state(c, row.id, "failed", refusal=reason))
        if row.trigger != spooled.TRIGGER:  # of which it is said that it goes into quarantine
            self.context.events.note("analysis", f"{row.id} failed: {reason}", logging.WARNING)
        await self._over(Verdict(row.id, "failed", reason))

    async def _over(self, verdict: Verdict) -> None:
        """Leave nothing in the work folder; what was dropped goes where the spool wants it first."""
        self._keep.discard(verdict.window_id)
        self.verdicts.append(verdict)
        if (self._work(verdict.window_id) / spooled.FOLDER).is_dir():
            await spooled.over(self.context, *verdict)
        await asyncio.to_thread(_remove, self._work(verdict.window_id))

    def _clear(self) -> None:
        """Remove what windows that are over left in the work folder."""
        with contextlib.suppress(StoreError, OSError):
            left = [entry.name for entry in os.scandir(self.context.folder.work) if entry.is_dir()]
            with self.context.store.read() as connection:
                over = [
                    name
                    for name in left
                    if (row := store_windows.get(connection, name)) is not None
                    and row.state in ("done", "failed", "aborted", "skipped")
                    and not (self._work(name) / spooled.FOLDER).is_dir()  # that the spool takes up
                ]
            _remove(*(self._work(name) for name in over))

    def _read(self, group: Callable[[Connection], T]) -> T:
        with self.context.store.read() as connection:
            return group(connection)

    async def _write(self, group: Callable[[Connection], T]) -> T:
        return await asyncio.wrap_future(self.context.store.write(group))


def _place(made: Path, place: Path) -> None:
    """Rename a folder to its place, where it is not there already, and have that on disk."""
    if made == place or place.is_dir():
        return
    day = place.parent
    if not day.is_dir():
        day.mkdir(mode=0o750, exist_ok=True)
        _sync(day.parent)
    made.rename(place)
    _sync(day)
    _sync(made.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(*folders: Path) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


PART: Final = Analysis
