"""Deleting rows of the store that are old, a little at a time, so that other writes are not held up."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from rocscope.daemon.store_schema import FINAL_STATES

SERIES_AT_ONCE: Final = 64
BUCKETS_AT_ONCE: Final = 720  # of each series
VACUUM_PAGES: Final = 2000  # 8 MB
ROWS_AT_ONCE: Final = 500


class Ages(NamedTuple):
    """Which buckets go: those that begin before one time, or after another, dated there by a wrong clock."""

    res_s: int
    before_s: float
    after_s: float


def series_groups(connection: sqlite3.Connection) -> list[tuple[int, ...]]:
    """Return the ids of all series, in groups for one transaction each."""
    ids = [row[0] for row in connection.execute("SELECT id FROM series ORDER BY id")]
    return [tuple(ids[at : at + SERIES_AT_ONCE]) for at in range(0, len(ids), SERIES_AT_ONCE)]


def delete_samples(connection: sqlite3.Connection, ages: Ages, series: Sequence[int]) -> bool:
    """Delete some of the oldest buckets of these series that are out of bounds; return whether more are."""
    found = [
        connection.execute("SELECT min(ts) FROM samples WHERE res_s = ? AND series = ?", (ages.res_s, each))
        for each in series
    ]
    begins = [ts for each in found if (ts := each.fetchone()[0]) is not None]
    if not begins:
        return False
    until_s = min(ages.before_s, min(begins) + BUCKETS_AT_ONCE * ages.res_s)
    connection.executemany(
        "DELETE FROM samples WHERE res_s = ? AND series = ? AND (ts < ? OR ts > ?)",
        [(ages.res_s, each, until_s, ages.after_s) for each in series],
    )
    return bool(min(begins) < until_s < ages.before_s)


def delete_new_samples(connection: sqlite3.Connection, ages: Ages) -> None:
    """Delete what is out of bounds of what was appended lately."""
    connection.execute(
        "DELETE FROM samples_new WHERE res_s = ? AND (ts < ? OR ts > ?)",
        (ages.res_s, ages.before_s, ages.after_s),
    )


def first_sample(connection: sqlite3.Connection, res_s: int) -> int | None:
    """Return the first bucket of a resolution, ``None`` where there is none."""
    found = connection.execute("SELECT min(ts) FROM samples_new WHERE res_s = ?", (res_s,)).fetchone()
    for group in series_groups(connection):
        for each in group:
            found += connection.execute(
                "SELECT min(ts) FROM samples WHERE res_s = ? AND series = ?", (res_s, each)
            ).fetchone()
    return min((int(each) for each in found if each is not None), default=None)


def delete_empty_series(connection: sqlite3.Connection) -> int:
    """Delete series without a bucket; return how many."""
    filled = {row[0] for row in connection.execute("SELECT DISTINCT series FROM samples_new")}
    empty = [
        (each,)
        for (each,) in connection.execute("SELECT id FROM series").fetchall()
        if each not in filled
        and not connection.execute(
            "SELECT 1 FROM samples WHERE res_s = 60 AND series = ?1 UNION ALL"
            " SELECT 1 FROM samples WHERE res_s = 10 AND series = ?1 LIMIT 1",
            (each,),
        ).fetchone()
    ]
    connection.executemany("DELETE FROM series WHERE id = ?", empty)
    return len(empty)


def delete_details(connection: sqlite3.Connection, before_s: float) -> int:
    """Delete families and findings of some windows that ended before a time; return of how many.

    The windows' own rows stay, with their state.
    """
    ids = [
        row[0]
        for row in connection.execute(
            f"""SELECT id FROM windows WHERE requested_at < ? AND state IN {FINAL_STATES} AND (
              EXISTS (SELECT 1 FROM window_families WHERE window_id = windows.id)
              OR EXISTS (SELECT 1 FROM findings WHERE window_id = windows.id))
            ORDER BY requested_at LIMIT ?""",
            (before_s, ROWS_AT_ONCE),
        )
    ]
    connection.executemany("DELETE FROM window_families WHERE window_id = ?", [(each,) for each in ids])
    connection.executemany("DELETE FROM findings WHERE window_id = ?", [(each,) for each in ids])
    connection.execute("DELETE FROM findings WHERE window_id IS NULL AND at < ?", (before_s,))
    return len(ids)


def delete_rows(connection: sqlite3.Connection, before_s: float) -> int:
    """Delete rows of some windows and spooled files that are final and older; return how many."""
    windows = connection.execute(
        f"""DELETE FROM windows WHERE id IN (SELECT id FROM windows WHERE requested_at < ?
          AND state IN {FINAL_STATES} AND files <> 'kept' ORDER BY requested_at LIMIT ?)""",
        (before_s, ROWS_AT_ONCE),
    ).rowcount
    spool = connection.execute(
        """DELETE FROM spool WHERE id IN (SELECT id FROM spool WHERE done_at < ? LIMIT ?)""",
        (before_s, ROWS_AT_ONCE),
    ).rowcount
    return windows + spool


def kept_folders(connection: sqlite3.Connection) -> Iterator[tuple[str, float]]:
    """Give the id of each window whose files are kept, and when it was asked for."""
    yield from connection.execute("SELECT id, requested_at FROM windows WHERE files = 'kept'")


def files_deleted(connection: sqlite3.Connection, window_ids: Iterable[str]) -> None:
    """Note of windows that their files are gone."""
    connection.executemany(
        "UPDATE windows SET files = 'deleted' WHERE id = ? AND files = 'kept'",
        [(each,) for each in window_ids],
    )


def vacuum(connection: sqlite3.Connection, least_frac: float = 0.0) -> bool:
    """Give some free pages back to the file system; return whether there are more.

    Nothing where they are less than a share of all: new rows will fill them, and to move others in their
    place is work.
    """
    pages = int(connection.execute("PRAGMA page_count").fetchone()[0])
    free = int(connection.execute("PRAGMA freelist_count").fetchone()[0])
    if free < least_frac * pages:
        return False
    for _ in range(min(free, VACUUM_PAGES)):
        connection.execute("PRAGMA incremental_vacuum(1)")  # one at a time: the module takes one step of each
    return free > VACUUM_PAGES
