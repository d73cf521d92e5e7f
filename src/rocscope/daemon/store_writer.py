"""The writer's side of the store: transactions, what to do when one fails, and coming back.

Used by one thread at a time; :attr:`Writer.condition` may be read by any.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeVar

from rocscope.daemon import store_connection, store_events, store_meta, store_schema
from rocscope.daemon.store_health import StoreState
from rocscope.errors import StoreError

if TYPE_CHECKING:
    from rocscope.daemon.state_dir import StateDir
    from rocscope.daemon.store_connection import Trouble
    from rocscope.daemon.wall_clock import WallClock

T = TypeVar("T")
Kind = Literal["ledger", "samples", "checkpoint"]

_SYNC: Final[dict[Kind, str]] = {"ledger": "FULL", "samples": "NORMAL", "checkpoint": "FULL"}
_READERS_MS: Final = 200
_WORDS: Final[dict[StoreState, str]] = {
    "full": "no space is left for the state folder (disk, quota or file size)",
    "read-only": "the state folder cannot be written: its file system or its modes are read-only",
}


class Condition(NamedTuple):
    """How the last write went."""

    state: StoreState
    since_s: float  # Unix time
    reason: str


class Writer:
    """Holds the one connection that writes, or none while that cannot be had."""

    def __init__(self, folder: StateDir, clock: WallClock, chain: Sequence[store_schema.Migration]) -> None:
        self._folder, self._clock, self._chain = folder, clock, chain
        self._connection: sqlite3.Connection | None = None
        self._inode = (0, 0)
        self._untold: deque[tuple[float, str, str]] = deque(
            maxlen=100
        )  # events to be written when that can be
        self.condition = Condition("ok", clock.wall_s(), "")

    def connect(self, *, first: bool = False) -> None:
        """Open the file, made or migrated; where the system does not allow it, stay without.

        ``first``: after an end that was not clean the file is read through. Raises :class:`StoreError` where
        the file is not for us.
        """
        log = self._folder.database.with_name(self._folder.database.name + "-wal")
        unclean = first and log.exists() and log.stat().st_size > 0
        try:
            self._connection = self._opened(unclean)
        except (OSError, sqlite3.Error) as error:
            kind = store_connection.trouble(error, self._folder)
            if kind is None:
                raise
            self._meet(error, kind)

    def run(self, group: Callable[[sqlite3.Connection], T], kind: Kind) -> T:
        """Run a group as one transaction; raises as it does, and :class:`StoreError`."""
        if self._connection is not None and not self._still_there():
            self._note("the store's file was taken away: a new one is begun")
            self._drop()
        if self._connection is None:
            self.connect()
        if self._connection is None:
            raise self._error()
        try:
            result = _transaction(self._connection, group, _SYNC[kind])
            if kind == "checkpoint":
                _checkpoint(self._connection)
        except sqlite3.Error as error:
            trouble = store_connection.trouble(error, self._folder)
            if trouble is None:
                raise
            self._meet(error, trouble)
            raise self._error(error) from error
        self._well()
        return result

    def retry(self) -> None:
        """Where writes fail, try one; where something is still to be told, tell it."""
        if self.condition.state != "ok" or self._untold:
            with suppress(StoreError, sqlite3.Error):
                self.run(
                    lambda connection: store_meta.put(connection, "tried", repr(self._clock.wall_s())),
                    "ledger",
                )

    def verify(self) -> None:
        """Read the file through, as a reader met damage; move it aside if there is some."""

        def damaged(connection: sqlite3.Connection) -> None:
            if said := store_connection.check(connection):
                raise _corrupt(said)

        with suppress(StoreError, sqlite3.Error):
            self.run(damaged, "samples")

    def close(self) -> None:
        """End: the log is written back and removed, where that can be."""
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.execute("PRAGMA optimize")
            self._drop()

    def _opened(self, unclean: bool) -> sqlite3.Connection:
        connection = store_connection.connect_writer(self._folder, self._chain)
        try:
            had = store_schema.migrate(connection, self._chain)
            if 0 < had < len(self._chain):
                self._note(f"the store was brought from version {had} to {len(self._chain)}")
            found = self._folder.database.stat()
            self._inode = (found.st_dev, found.st_ino)
            small = found.st_size <= store_connection.CHECKED_BYTES
            if unclean and small and (said := store_connection.check(connection)):
                raise _corrupt(said)
        except BaseException:
            connection.close()
            raise
        return connection

    def _still_there(self) -> bool:
        """Say whether what is open is what lies at the file's place: SQLite would write on without a name."""
        try:
            found = self._folder.database.lstat()
        except FileNotFoundError:
            return False
        except OSError:
            return True  # what the system says comes with the write
        return (found.st_dev, found.st_ino) == self._inode

    def _meet(self, error: Exception, kind: Trouble) -> None:
        if kind == "corrupt":
            self._begin_anew(str(error))
            return
        if kind != "full":
            self._drop()  # opened anew at the next trial: what was opened read-only stays so
        self._degrade(kind, _WORDS.get(kind, f"the store cannot be written: {error}"))

    def _begin_anew(self, why: str) -> None:
        self._drop()
        try:
            place = store_connection.set_aside(self._folder, why, self._clock.wall_s())
            self._connection = self._opened(False)
        except (OSError, sqlite3.Error, StoreError) as error:
            self._degrade("failing", f"the store is damaged ({why}) and cannot be moved aside: {error}")
            return
        self._note(f"the store was damaged ({why}): it was moved to {place}, and a new one begun")

    def _degrade(self, state: StoreState, reason: str) -> None:
        since = self.condition.since_s if self.condition.state == state else self._clock.wall_s()
        self.condition = Condition(state, since, reason)

    def _well(self) -> None:
        before = self.condition
        if before.state != "ok":
            now = self._clock.wall_s()
            self.condition = Condition("ok", now, "")
            lasted_s = max(0.0, now - before.since_s)
            self._note(f"the store can be written again, after {lasted_s:.0f} s: {before.reason}")
        if self._untold and self._connection is not None:
            untold = list(self._untold)
            with suppress(sqlite3.Error):  # then the next time
                _transaction(
                    self._connection,
                    lambda connection: store_events.add_all(connection, untold),
                    _SYNC["ledger"],
                )
                self._untold.clear()

    def _note(self, text: str) -> None:
        self._untold.append((self._clock.wall_s(), "store", text))

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()

    def _error(self, error: Exception | None = None) -> StoreError:
        reason = self.condition.reason or f"the store was damaged: {error}"
        return StoreError(reason, "`rocscope status` says how the store does")


def _transaction(connection: sqlite3.Connection, group: Callable[[sqlite3.Connection], T], sync: str) -> T:
    connection.execute(f"PRAGMA synchronous = {sync}")
    connection.execute("BEGIN IMMEDIATE")
    try:
        result = group(connection)
        if not connection.in_transaction:
            raise RuntimeError("a write ended the transaction it was given")
        connection.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        raise
    return result


def _checkpoint(connection: sqlite3.Connection) -> None:
    """Write the log back and cut it; what a reader still sees after a moment stays in it."""
    connection.execute(f"PRAGMA busy_timeout = {_READERS_MS}")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    connection.execute(f"PRAGMA busy_timeout = {int(1000 * store_connection.BUSY_S)}")


def _corrupt(said: str) -> sqlite3.DatabaseError:
    error = sqlite3.DatabaseError(said)
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error
