"""The store's tables, by version, and the way from each version to the next.

A change of the tables is a new entry at the end of :data:`MIGRATIONS`; entries that were released are never
edited. Each entry runs in one transaction together with the new version's number, so a kill leaves the old
tables or the new ones.

Times are Unix seconds of the node's wall clock (``at``, ``*_at``), with the boot's id where order matters.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final

from rocscope.errors import StoreError

APPLICATION_ID: Final = 0x726F6373  # "rocs", in the file's header: that the file is ours
FINAL_STATES: Final = ("done", "skipped", "failed", "aborted")
STATES: Final = ("planned", "open", "gathering", "analysing", *FINAL_STATES)

_SAMPLES: Final = """
CREATE TABLE {name} (
  res_s INTEGER NOT NULL, series INTEGER NOT NULL, ts INTEGER NOT NULL,
  n INTEGER NOT NULL, mean REAL NOT NULL, low REAL NOT NULL, high REAL NOT NULL,
  PRIMARY KEY ({key})
) WITHOUT ROWID
"""

# Samples arrive by time and are asked for by series. Written where they are read, each tick of 260 series
# would touch 260 pages; so they are first appended to samples_new, and moved to samples many at a time.
_VERSION_1: Final = (
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    """CREATE TABLE series (
      id INTEGER PRIMARY KEY, source TEXT NOT NULL, subject TEXT NOT NULL, metric TEXT NOT NULL,
      UNIQUE (subject, metric, source))""",
    _SAMPLES.format(name="samples", key="res_s, series, ts"),
    _SAMPLES.format(name="samples_new", key="ts, res_s, series"),
    f"""CREATE TABLE windows (
      id TEXT PRIMARY KEY, trigger TEXT NOT NULL, reason TEXT NOT NULL DEFAULT '', engine TEXT, way TEXT,
      profile TEXT, state TEXT NOT NULL CHECK (state IN {STATES}),
      requested_at REAL NOT NULL, started_at REAL, ended_at REAL, window_s REAL, bytes INTEGER,
      refusal TEXT, abort TEXT, overhead TEXT, key TEXT, key_hash TEXT, capture_id TEXT, boot_id TEXT,
      folder TEXT, files TEXT NOT NULL DEFAULT 'none' CHECK (files IN ('none', 'kept', 'deleted')),
      summary TEXT)""",
    "CREATE INDEX windows_requested ON windows (requested_at)",
    "CREATE INDEX windows_comparable ON windows (key_hash, requested_at) WHERE key_hash IS NOT NULL",
    f"CREATE INDEX windows_unfinished ON windows (state) WHERE state NOT IN {FINAL_STATES}",
    """CREATE TABLE window_families (
      window_id TEXT NOT NULL REFERENCES windows (id) ON DELETE CASCADE, gpu TEXT NOT NULL,
      family TEXT NOT NULL, dispatches INTEGER, busy_s REAL, bytes REAL, bytes_basis TEXT, flops REAL,
      flops_basis TEXT, steps INTEGER, tokens INTEGER, bandwidth_frac REAL, step_s REAL,
      PRIMARY KEY (window_id, gpu, family)) WITHOUT ROWID""",
    """CREATE TABLE spool (
      id TEXT PRIMARY KEY, name TEXT NOT NULL, size INTEGER NOT NULL, state TEXT NOT NULL,
      reason TEXT NOT NULL DEFAULT '', window_id TEXT, seen_at REAL NOT NULL, done_at REAL)""",
    "CREATE INDEX spool_state ON spool (state, seen_at)",
    """CREATE TABLE findings (
      id TEXT PRIMARY KEY, window_id TEXT, at REAL NOT NULL, kind TEXT NOT NULL, family TEXT, gpu TEXT,
      size_frac REAL, low_frac REAL, high_frac REAL, confidence TEXT, evidence TEXT,
      state TEXT NOT NULL DEFAULT 'open')""",
    "CREATE INDEX findings_at ON findings (at)",
    "CREATE INDEX findings_window ON findings (window_id)",
    "CREATE TABLE events (id INTEGER PRIMARY KEY, at REAL NOT NULL, kind TEXT NOT NULL, text TEXT NOT NULL)",
)

Migration = tuple[str, ...]
MIGRATIONS: Final[tuple[Migration, ...]] = (_VERSION_1,)
"""Statements that make version 1 of nothing, 2 of 1, and so on."""


def version(connection: sqlite3.Connection) -> int:
    """Return the version of a store's tables; 0: none yet."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def known(connection: sqlite3.Connection, chain: Sequence[Migration] = MIGRATIONS) -> int:
    """Return the version of a store's tables, changing nothing.

    Raises :class:`StoreError` where the file is a newer rocscope's or no store at all.
    """
    found = version(connection)
    mark = int(connection.execute("PRAGMA application_id").fetchone()[0])
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if mark != APPLICATION_ID and (found or tables):
        raise StoreError(
            "the store's file is a database of another program", "give another folder with --state"
        )
    if found > len(chain):
        raise StoreError(
            f"the store has version {found}, this rocscope knows up to {len(chain)}",
            "upgrade rocscope, or give another folder with --state",
        )
    return found


def migrate(connection: sqlite3.Connection, chain: Sequence[Migration] = MIGRATIONS) -> int:
    """Bring a store to the newest version of ``chain``; return the version it had.

    The connection must be in autocommit mode. Raises as :func:`known` does.
    """
    found = known(connection, chain)
    for number, statements in enumerate(chain[found:], found + 1):
        connection.execute("BEGIN EXCLUSIVE")
        try:
            for statement in statements:
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {number}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
    return found
