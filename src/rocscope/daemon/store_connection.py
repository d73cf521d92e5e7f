"""Connections to the store's file, what its errors mean, and moving a damaged file aside."""

from __future__ import annotations

import errno
import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import quote

from rocscope.daemon import store_schema
from rocscope.daemon.state_dir import FILE_MODE, StateDir, own_file
from rocscope.errors import StoreError

if TYPE_CHECKING:
    from pathlib import Path

Trouble = Literal["full", "read-only", "failing", "corrupt"]

BUSY_S: Final = 5.0
MOST_ASIDE: Final = 8
CHECKED_BYTES: Final = 512 << 20  # a larger file is not read through at a start
_STEPS: Final = 10_000  # of SQLite's machine between two looks at the deadline
_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_MODES: Final = (errno.EROFS, errno.EACCES, errno.EPERM)

_CODES: Final[dict[int, Trouble]] = {
    sqlite3.SQLITE_CORRUPT: "corrupt",
    sqlite3.SQLITE_NOTADB: "corrupt",
    sqlite3.SQLITE_FULL: "full",
    sqlite3.SQLITE_BUSY: "failing",
    sqlite3.SQLITE_LOCKED: "failing",
    sqlite3.SQLITE_PROTOCOL: "failing",
    sqlite3.SQLITE_NOMEM: "failing",
}
_UNSAID: Final = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN)
_COMMON: Final = (
    "PRAGMA trusted_schema = OFF",  # nothing in the file may call functions
    "PRAGMA cell_size_check = ON",  # notice damage where it is read, rather than pass it on
    "PRAGMA mmap_size = 0",  # memory flat, and no SIGBUS where a file is cut under us
    "PRAGMA temp_store = MEMORY",  # no file outside of the state folder; what is sorted is small
)
_WRITER: Final = (
    "PRAGMA foreign_keys = ON",
    "PRAGMA cache_size = -2000",  # 2 MB
    "PRAGMA secure_delete = OFF",  # measurements: no need to write zeros over what is deleted
    "PRAGMA wal_autocheckpoint = 1000",  # 4 MB of log
    "PRAGMA journal_size_limit = 8388608",  # after a long reader let the log grow, give the space back
)


def connect_writer(
    folder: StateDir, chain: Sequence[store_schema.Migration] = store_schema.MIGRATIONS
) -> sqlite3.Connection:
    """Open the store's file for writing, made where it is absent; the tables may still be missing or old.

    Raises :class:`StoreError` for a file that is not for us, :class:`OSError` or :class:`sqlite3.Error` for
    what the system says.
    """
    path = folder.database
    if not own_file(path):
        _rescue_log(folder)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, FILE_MODE))
    for beside in ("-wal", "-shm", "-journal"):
        own_file(path.with_name(path.name + beside))
    connection = _connect(path, "mode=rw", BUSY_S)
    try:
        store_schema.known(connection, chain)  # before anything is changed
        # before the first page is written: free pages can be given back a few at a time, without a VACUUM
        # that would need as much again
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        if connection.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
            raise OSError(errno.ENOTSUP, "the file system allows no write-ahead log", str(path))
        for pragma in _WRITER:
            connection.execute(pragma)
    except BaseException:
        connection.close()
        raise
    return connection


def connect_reader(folder: StateDir, deadline_s: float) -> sqlite3.Connection:
    """Open the store's file for reading; a query that runs longer than ``deadline_s`` is interrupted."""
    path = folder.database
    try:
        connection = _reading(path, "mode=ro")
    except sqlite3.OperationalError:
        # Readers share an index of the log, and make it where it is absent. On a disk that is full or
        # read-only they cannot; where the last writer left no log either, the file alone is all there is.
        log = path.with_name(path.name + "-wal")
        if log.exists() and log.stat().st_size:
            raise
        connection = _reading(path, "mode=ro&immutable=1")
    if store_schema.version(connection) == 0:  # being made
        connection.close()
        return connect_nothing(deadline_s)
    _limit(connection, deadline_s)
    return connection


def _reading(path: Path, mode: str) -> sqlite3.Connection:
    connection = _connect(path, mode, BUSY_S)
    try:
        connection.execute("PRAGMA cache_size = -1000")
        connection.execute("BEGIN")
        store_schema.version(connection)  # from here on, this state is seen
    except BaseException:
        connection.close()
        raise
    return connection


def connect_nothing(deadline_s: float) -> sqlite3.Connection:
    """Open an empty store in memory: what readers see while there is none."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    store_schema.migrate(connection)
    connection.execute("PRAGMA query_only = ON")
    connection.execute("BEGIN")
    _limit(connection, deadline_s)
    return connection


def check(connection: sqlite3.Connection) -> str:
    """Read the whole file through; return what is damaged, or nothing."""
    said = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
    return "" if said == "ok" else said


def trouble(error: Exception, folder: StateDir) -> Trouble | None:
    """Tell what an error means for the store; ``None`` where only the statement was wrong."""
    if isinstance(error, OSError):
        return _system(error)
    if not isinstance(error, sqlite3.Error):
        return None
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF  # less what it is in detail
    if code in _UNSAID:
        found = folder.write_trouble()  # SQLite keeps the system's own word to itself
        return "failing" if found is None else _system(found)
    return _CODES.get(code)


def set_aside(folder: StateDir, why: str, at_wall_s: float) -> Path:
    """Move a damaged store with its log to ``aside``, with a note that says why; return its new place.

    Raises :class:`StoreError` where many lie there already: then the disk is what wants mending.
    """
    own = [each for each in folder.aside.iterdir() if each.suffix == ".sqlite"]
    if len(own) >= MOST_ASIDE:
        raise StoreError(
            f"{folder.database}: damaged ({why}), and {len(own)} damaged ones lie in {folder.aside} already",
            f"look at the disk (`dmesg`, `smartctl`), then remove what is in {folder.aside}",
        )
    stamp = datetime.fromtimestamp(at_wall_s, UTC).strftime("%Y%m%dT%H%M%SZ")
    number = 0
    while (place := folder.aside / f"store-{stamp}-{number}.sqlite").exists():
        number += 1
    place.with_suffix(".txt").write_text(f"moved aside at {stamp}: {why}\n", encoding="utf-8")
    for beside in ("", "-wal", "-shm"):
        old = folder.database.with_name(folder.database.name + beside)
        if old.exists() or old.is_symlink():
            old.rename(place.with_name(place.name + beside))
    return place


def _rescue_log(folder: StateDir) -> None:
    """Keep a log whose store was moved aside just before a kill: SQLite would delete it."""
    log = folder.database.with_name(folder.database.name + "-wal")
    if log.exists() and log.stat().st_size:
        log.rename(folder.aside / f"store-log-{log.stat().st_mtime_ns}.sqlite-wal")


def _connect(path: Path, mode: str, busy_s: float) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"file:{quote(str(path))}?{mode}",
        uri=True,
        timeout=busy_s,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        for pragma in _COMMON:
            connection.execute(pragma)
    except BaseException:
        connection.close()
        raise
    return connection


def _limit(
    connection: sqlite3.Connection, deadline_s: float, clock: Callable[[], float] = time.monotonic
) -> None:
    until = clock() + deadline_s
    connection.set_progress_handler(lambda: clock() > until, _STEPS)


def _system(error: OSError) -> Trouble:
    if error.errno in _FULL:
        return "full"
    return "read-only" if error.errno in _MODES else "failing"
