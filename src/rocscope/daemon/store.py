"""The daemon's memory on disk: one SQLite file in WAL mode, one thread that writes, readers beside it.

A write is a function of the connection; it runs as one transaction in the writer's thread, and the
:class:`~concurrent.futures.Future` that comes back is done when the transaction is on disk. Ledger writes are
synced one by one, as files are renamed into place on their strength; samples are written without a sync (a
kill loses none, a power cut those since the last sync). Nothing waits without bound: samples that find the
queue full are dropped and counted, a ledger write is refused with an error to its caller.

Where the disk is full or read-only, each write fails at once with :class:`~rocscope.errors.StoreError`, reads
go on, and the store tries again by itself. A damaged file is moved aside, never deleted, and a new one begun.
"""

from __future__ import annotations

import queue
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any, Final, Literal, Self, TypeVar

from rocscope.daemon import store_connection, store_events, store_meta, store_samples, store_schema
from rocscope.daemon.store_health import StoreHealth
from rocscope.daemon.store_writer import Kind, Writer
from rocscope.errors import StoreError

if TYPE_CHECKING:
    from rocscope.daemon.state_dir import StateDir
    from rocscope.daemon.store_samples import Bucket
    from rocscope.daemon.wall_clock import WallClock

T = TypeVar("T")

QUEUE: Final = 1024
SAMPLES_QUEUE: Final = 64  # of those: ten minutes of ten-second ticks, a few MB
RETRY_S: Final = 5.0  # between trials while writes fail
CLOCK_S: Final = 60.0  # between two writes of what the clock needs after a restart
STUCK_S: Final = 30.0  # a write that takes longer: the disk does not answer
READ_S: Final = 10.0  # a query that runs longer is interrupted: it keeps the log from being reused


@dataclass
class _Job:
    group: Callable[[sqlite3.Connection], Any]
    future: Future[Any]
    kind: Kind
    rows: int


class Store:
    """Open it with :meth:`open`; any thread may write and read."""

    def __init__(self, folder: StateDir, clock: WallClock, writer: Writer, retry_s: float) -> None:
        self._folder, self._clock, self._writer, self._retry_s = folder, clock, writer, retry_s
        self._used_bytes: int | None = None
        self._limit_bytes: int | None = None
        self._lock = Lock()
        self._queue: queue.Queue[_Job | Literal["verify", "end"]] = queue.Queue(QUEUE)
        self._samples_queued = self._dropped = self._failed = 0
        self._began_s: float | None = None  # monotonic: of the write that runs
        self._saved_s = clock.monotonic_s()
        self._suspect = self._closed = False
        self._thread = Thread(target=self._run, name="store", daemon=True)

    @classmethod
    def open(
        cls,
        folder: StateDir,
        clock: WallClock,
        *,
        retry_s: float = RETRY_S,
        chain: Sequence[store_schema.Migration] = store_schema.MIGRATIONS,
    ) -> Self:
        """Open the store of a claimed folder, made or migrated where need be, and give the clock its past.

        Where the disk is full or read-only the store opens all the same, degraded. Raises
        :class:`StoreError` with the next step where the file is a newer rocscope's or another program's.
        """
        writer = Writer(folder, clock, chain)
        writer.connect(first=True)
        store = cls(folder, clock, writer, retry_s)
        try:
            with store.read() as connection:
                clock.restore(store_meta.clock(connection))
        except (StoreError, sqlite3.Error):
            pass  # the clock then begins as on a first start; health tells of the store
        store._thread.start()
        return store

    def write(
        self, statement_group: Callable[[sqlite3.Connection], T], *, kind: Kind = "ledger", rows: int = 1
    ) -> Future[T]:
        """Have ``statement_group`` run as one transaction; what it returns comes with the future.

        It runs in the writer's thread and must not commit by itself. The future fails with what the group
        raises, then nothing of it is kept; and with :class:`StoreError` where the store cannot write now: the
        caller decides whether to try again.
        """
        job = _Job(statement_group, Future(), kind, rows)
        with self._lock:
            if self._closed:
                return self._refused(job, "the store is closed")
            if kind == "samples" and self._samples_queued >= SAMPLES_QUEUE:
                return self._refused(job, "the store's writer is behind: these samples are dropped")
            try:
                self._queue.put_nowait(job)
            except queue.Full:
                return self._refused(job, "the store's writer is far behind: the disk does not keep up")
            self._samples_queued += kind == "samples"
        return job.future

    def add_samples(self, buckets: Sequence[Bucket]) -> Future[int]:
        """Write buckets of samples; dropped and counted where the writer is behind or cannot write."""
        return self.write(
            lambda connection: store_samples.add_buckets(connection, buckets),
            kind="samples",
            rows=len(buckets),
        )

    def event(self, kind: str, text: str) -> Future[None]:
        """Write an event."""
        at_s = self._clock.wall_s()
        return self.write(lambda connection: store_events.add(connection, at_s, kind, text))

    @contextmanager
    def read(self, deadline_s: float = READ_S) -> Iterator[sqlite3.Connection]:
        """Open a read-only connection that sees one state of the store, also while something is written.

        Keep it short. Where there is no store yet (the disk was full), an empty one is seen. Raises
        :class:`StoreError` where the file cannot be read, or a query ran longer than ``deadline_s``.
        """
        try:
            with closing(self._reader(deadline_s)) as connection:
                yield connection
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT:
                raise StoreError("the query took too long", "ask for a shorter time") from error
            kind = store_connection.trouble(error, self._folder)
            if kind is None:
                raise
            if kind == "corrupt":
                self._verify()
            raise StoreError(f"the store cannot be read: {error}", "see `rocscope status`") from error

    def checkpoint(self) -> Future[None]:
        """Write the log back into the file, which then gives free pages at its end back to the disk."""
        return self.write(lambda connection: None, kind="checkpoint")

    @property
    def folder(self) -> StateDir:
        """The state folder it lies in."""
        return self._folder

    @property
    def clock(self) -> WallClock:
        """The clock whose past it keeps."""
        return self._clock

    @property
    def health(self) -> StoreHealth:
        """How it does now."""
        state, since_s, reason = self._writer.condition
        began = self._began_s
        if began is not None and (took := self._clock.monotonic_s() - began) > STUCK_S:
            state, reason = "failing", f"the disk has not answered for {took:.0f} s"
        return StoreHealth(
            state=state,
            since_s=since_s,
            reason=reason,
            bytes=self._used_bytes,
            limit_bytes=self._limit_bytes,
            queued=self._queue.qsize(),
            dropped_samples=self._dropped,
            failed_writes=self._failed,
        )

    def measured(self, used_bytes: int, limit_bytes: int) -> None:
        """Take what retention measured, for :attr:`health`."""
        self._used_bytes, self._limit_bytes = used_bytes, limit_bytes

    def close(self, timeout_s: float = 10.0) -> bool:
        """Write what is queued and end; ``False`` where ``timeout_s`` was too short. May come twice."""
        with self._lock:
            first, self._closed = not self._closed, True
        if first:
            with suppress(queue.Full):  # the disk hangs; the thread ends with the process
                self._queue.put("end", timeout=timeout_s)
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _reader(self, deadline_s: float) -> sqlite3.Connection:
        database = self._folder.database
        if not database.exists() or not database.stat().st_size:
            return store_connection.connect_nothing(deadline_s)
        return store_connection.connect_reader(self._folder, deadline_s)

    def _verify(self) -> None:
        with self._lock:
            if not self._suspect and not self._closed:
                with suppress(queue.Full):
                    self._queue.put_nowait("verify")
                    self._suspect = True

    def _refused(self, job: _Job, why: str) -> Future[Any]:
        self._count(job)
        job.future.set_exception(StoreError(why, "`rocscope status` says how the store does"))
        return job.future

    def _count(self, job: _Job) -> None:
        if job.kind == "samples":
            self._dropped += job.rows
        else:
            self._failed += 1

    def _run(self) -> None:
        self._save_clock()  # a first write: whether one can be, and what opening had to tell
        while True:
            try:
                item = self._queue.get(timeout=self._retry_s)
            except queue.Empty:
                self._writer.retry()
            else:
                if item == "end":
                    break
                if item == "verify":
                    self._writer.verify()
                    self._suspect = False
                else:
                    self._do(item)
            if self._clock.monotonic_s() - self._saved_s >= CLOCK_S:
                self._save_clock()
        self._save_clock()
        self._writer.close()

    def _do(self, job: _Job) -> None:
        with self._lock:
            self._samples_queued -= job.kind == "samples"
        if not job.future.set_running_or_notify_cancel():
            return
        self._began_s = self._clock.monotonic_s()
        try:
            result = self._writer.run(job.group, job.kind)
        except BaseException as error:  # noqa: BLE001  # the caller's: it is told, and the thread lives on
            if isinstance(error, StoreError):
                with self._lock:
                    self._count(job)
            job.future.set_exception(error)
        else:
            job.future.set_result(result)
        finally:
            self._began_s = None

    def _save_clock(self) -> None:
        self._saved_s = self._clock.monotonic_s()
        saved = self._clock.saved()
        with suppress(StoreError, sqlite3.Error):
            self._writer.run(lambda connection: store_meta.put_clock(connection, saved), "samples")
