"""Samples on disk: buckets of ten and sixty seconds, and the series that views draw of them.

A bucket holds the number, mean, lowest and highest of what was read in its time. One that is given twice, as
after the wall clock was set back, is merged with what is there: nothing is lost, nothing counted twice.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from math import isfinite
from typing import Final, NamedTuple

RESOLUTIONS_S: Final = (10, 60)
SETTLE_ROWS: Final = 20_000  # then what was appended is moved to where it is read
MOST_POINTS: Final = 600


class Bucket(NamedTuple):
    """What was read of one metric in one span of time."""

    source: str  # "telemetry", "host", "engine", "daemon"
    subject: str  # "gpu:0000:c1:00.0", "engine:http://127.0.0.1:8000", "host", "daemon"
    metric: str
    res_s: int  # length of the span
    ts: int  # its start, Unix seconds, a multiple of ``res_s``
    n: int
    mean: float
    low: float
    high: float


class Series(NamedTuple):
    """One metric of one subject."""

    id: int
    source: str
    subject: str
    metric: str


class Point(NamedTuple):
    """One point of a drawn series: what was read in ``step_s`` from ``ts`` on."""

    ts: int
    mean: float
    low: float
    high: float
    n: int


class Drawn(NamedTuple):
    """A series for drawing; a time without readings has no point."""

    step_s: int
    points: list[Point]


_MERGE: Final = """
ON CONFLICT DO UPDATE SET
  n = n + excluded.n,
  mean = max(min(low, excluded.low), min(max(high, excluded.high),
    mean + (excluded.mean - mean) * (CAST(excluded.n AS REAL) / (n + excluded.n)))),
  low = min(low, excluded.low),
  high = max(high, excluded.high)
"""
_SERIES: Final = "SELECT id FROM series WHERE subject = ? AND metric = ? AND source = ?"


def add_buckets(connection: sqlite3.Connection, buckets: Iterable[Bucket]) -> int:
    """Add buckets, merged with those of the same time; return how many.

    What is not finite says nothing and is left out. Raises :class:`ValueError` for a bucket that cannot be.
    """
    rows = []
    for each in buckets:
        if not (isfinite(each.mean) and isfinite(each.low) and isfinite(each.high)):
            continue
        if each.res_s not in RESOLUTIONS_S or each.ts % each.res_s or each.n < 1:
            raise ValueError(f"no bucket: {each}")
        rows.append(
            (each.res_s, _series_id(connection, each), each.ts, each.n, each.mean, each.low, each.high)
        )
    connection.executemany(f"INSERT INTO samples_new VALUES (?, ?, ?, ?, ?, ?, ?) {_MERGE}", rows)
    if connection.execute("SELECT count(*) FROM samples_new").fetchone()[0] >= SETTLE_ROWS:
        settle(connection)
    return len(rows)


def settle(connection: sqlite3.Connection) -> None:
    """Move what was appended to where it is read, merged with buckets of the same time."""
    connection.execute(
        "INSERT INTO samples SELECT res_s, series, ts, n, mean, low, high FROM samples_new WHERE true"
        f" ORDER BY res_s, series, ts {_MERGE}"
    )
    connection.execute("DELETE FROM samples_new")


def series(connection: sqlite3.Connection, subject: str | None = None) -> list[Series]:
    """Return all series, or those of one subject."""
    found = connection.execute(
        "SELECT id, source, subject, metric FROM series WHERE ?1 IS NULL OR subject = ?1"
        " ORDER BY subject, metric, source",
        (subject,),
    )
    return [Series(*row) for row in found]


def draw(
    connection: sqlite3.Connection,
    subject: str,
    metric: str,
    since_s: float,
    until_s: float,
    *,
    most: int = MOST_POINTS,
    source: str | None = None,
) -> Drawn:
    """Return at most ``most`` points of a series between two times, at the resolution that fits.

    Steps are multiples of the resolution and begin at multiples of themselves, so a view that is drawn again
    a moment later shows the same points. Cost follows the span at its resolution: 14 days of 60 s are 20,160
    rows.
    """
    ids = [
        row[0]
        for row in connection.execute(
            "SELECT id FROM series WHERE subject = ?1 AND metric = ?2 AND (?3 IS NULL OR source = ?3)",
            (subject, metric, source),
        )
    ]
    span_s = max(0.0, until_s - since_s)
    if not ids or span_s == 0 or most < 1:
        return Drawn(RESOLUTIONS_S[0], [])
    res_s = _resolution(connection, ids, since_s, span_s / most)
    # one step more than fits may be touched where the ends are no multiples
    step_s = res_s * max(1, -int(-span_s // (res_s * max(1, most - 1))))
    first, last = int(since_s // step_s) * step_s, -int(-until_s // step_s) * step_s
    marks = ", ".join("?" * len(ids))
    found = connection.execute(
        f"""SELECT ts - ts % ?, sum(n * mean) / sum(n), min(low), max(high), sum(n) FROM (
          SELECT ts, n, mean, low, high FROM samples
            WHERE res_s = ? AND series IN ({marks}) AND ts >= ? AND ts < ?
          UNION ALL SELECT ts, n, mean, low, high FROM samples_new
            WHERE ts >= ? AND ts < ? AND res_s = ? AND series IN ({marks}))
        GROUP BY 1 ORDER BY 1""",
        (step_s, res_s, *ids, first, last, first, last, res_s, *ids),
    )
    return Drawn(step_s, [Point(*row) for row in found])


def _resolution(connection: sqlite3.Connection, ids: list[int], since_s: float, step_s: float) -> int:
    """Return the coarsest resolution that is fine enough, or a coarser one where that begins too late."""
    fine, coarse = RESOLUTIONS_S
    if step_s >= coarse:
        return coarse
    begins = _begin(connection, fine, ids)
    if begins is not None and begins <= since_s + coarse:
        return fine
    earlier = _begin(connection, coarse, ids)
    if earlier is None or (begins is not None and begins <= earlier + coarse):
        return fine
    return coarse


def _begin(connection: sqlite3.Connection, res_s: int, ids: list[int]) -> int | None:
    marks = ", ".join("?" * len(ids))
    found = connection.execute(
        f"""SELECT min(ts) FROM (
          SELECT min(ts) AS ts FROM samples WHERE res_s = ?1 AND series IN ({marks})
          UNION ALL SELECT min(ts) FROM samples_new WHERE res_s = ?1 AND series IN ({marks}))""",
        (res_s, *ids, *ids),
    ).fetchone()
    return None if found[0] is None else int(found[0])


def _series_id(connection: sqlite3.Connection, bucket: Bucket) -> int:
    key = (bucket.subject, bucket.metric, bucket.source)
    found = connection.execute(_SERIES, key).fetchone()
    if found is None:
        connection.execute("INSERT INTO series (subject, metric, source) VALUES (?, ?, ?)", key)
        found = connection.execute(_SERIES, key).fetchone()
    return int(found[0])
