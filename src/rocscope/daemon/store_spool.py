"""The ledger of the spool: each file that was dropped, by its content, and what became of it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, Final

FINAL_STATES: Final = ("done", "quarantined", "failed")


@dataclass(frozen=True, slots=True)
class SpoolRow:
    """One file; times in Unix seconds."""

    id: str  # of content and size
    name: str
    size: int
    state: str
    reason: str
    window_id: str | None
    seen_at: float
    done_at: float | None


_COLUMNS: Final = tuple(each.name for each in fields(SpoolRow))
_SELECT: Final = f"SELECT {', '.join(_COLUMNS)} FROM spool"
_SETTABLE: Final = frozenset({"name", "reason", "window_id", "done_at"})


def take(
    connection: sqlite3.Connection,
    spool_id: str,
    *,
    name: str,
    size: int,
    seen_at: float,
    state: str = "taken",
) -> str | None:
    """Add a file; ``None`` where it is new, else the state it is in already: it is then not taken again."""
    new = connection.execute(
        "INSERT OR IGNORE INTO spool (id, name, size, state, seen_at) VALUES (?, ?, ?, ?, ?)",
        (spool_id, name, size, state, seen_at),
    ).rowcount
    if new == 1:
        return None
    return str(connection.execute("SELECT state FROM spool WHERE id = ?", (spool_id,)).fetchone()[0])


def set_state(connection: sqlite3.Connection, spool_id: str, state: str, **more: Any) -> bool:
    """Set state and other columns of a file that is not final; ``False`` where it is, or is not there."""
    if unknown := set(more) - _SETTABLE:
        raise ValueError(f"no such columns of the spool: {', '.join(sorted(unknown))}")
    values = {"state": state, **more}
    return (
        connection.execute(
            f"UPDATE spool SET {', '.join(f'{name} = ?' for name in values)}"
            f" WHERE id = ? AND state NOT IN {FINAL_STATES}",
            (*values.values(), spool_id),
        ).rowcount
        == 1
    )


def get(connection: sqlite3.Connection, spool_id: str) -> SpoolRow | None:
    """Return a file."""
    found = connection.execute(f"{_SELECT} WHERE id = ?", (spool_id,)).fetchone()
    return None if found is None else SpoolRow(*found)


def unfinished(connection: sqlite3.Connection) -> list[SpoolRow]:
    """Return all files whose state is not final, oldest first."""
    found = connection.execute(f"{_SELECT} WHERE state NOT IN {FINAL_STATES} ORDER BY seen_at, id")
    return [SpoolRow(*each) for each in found]


def latest(connection: sqlite3.Connection, limit: int = 50, states: Iterable[str] = ()) -> list[SpoolRow]:
    """Return files by when they were seen, newest first."""
    wanted = tuple(states)
    where = f" WHERE state IN ({', '.join('?' * len(wanted))})" if wanted else ""
    found = connection.execute(f"{_SELECT}{where} ORDER BY seen_at DESC, id LIMIT ?", (*wanted, limit))
    return [SpoolRow(*each) for each in found]
