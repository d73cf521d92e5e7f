"""Events: what happened, for the operator to read."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Final, NamedTuple

from rocscope.untrusted import visible

LONGEST: Final = 500  # characters of an event
MOST: Final = 1_000_000  # rows, whatever retention is set to


class EventRow(NamedTuple):
    """One thing that happened."""

    id: int  # grows
    at_s: float
    kind: str
    text: str


def add(connection: sqlite3.Connection, at_s: float, kind: str, text: str) -> None:
    """Add an event; ``text`` may hold what others wrote, and is made harmless and cut."""
    number = connection.execute(
        "INSERT INTO events (at, kind, text) VALUES (?, ?, ?)",
        (at_s, visible(kind)[:64], visible(text)[:LONGEST]),
    ).lastrowid
    connection.execute("DELETE FROM events WHERE id <= ?", ((number or 0) - MOST,))


def add_all(connection: sqlite3.Connection, events: Iterable[tuple[float, str, str]]) -> None:
    """Add events: when, kind and text of each."""
    for at_s, kind, text in events:
        add(connection, at_s, kind, text)


def latest(
    connection: sqlite3.Connection, limit: int = 100, *, before_id: int | None = None, kind: str | None = None
) -> list[EventRow]:
    """Return the newest events, newest first; ``before_id`` goes on where a page ended."""
    found = connection.execute(
        "SELECT id, at, kind, text FROM events WHERE (?1 IS NULL OR id < ?1) AND (?2 IS NULL OR kind = ?2)"
        " ORDER BY id DESC LIMIT ?3",
        (before_id, kind, limit),
    )
    return [EventRow(*row) for row in found]


def trim(connection: sqlite3.Connection, keep: int) -> int:
    """Delete all but the newest ``keep``; return how many."""
    return connection.execute(
        "DELETE FROM events WHERE id <= (SELECT max(id) FROM events) - ?", (keep,)
    ).rowcount
