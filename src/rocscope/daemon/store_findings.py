"""Findings: what changed against a window's own past, each kept once by an id that follows from it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

STATES: Final = ("open", "acknowledged", "resolved")


@dataclass(frozen=True, slots=True)
class FindingRow:
    """One finding; ``*_frac`` is the change, with its interval."""

    id: str
    window_id: str | None
    at: float  # Unix seconds
    kind: str
    family: str | None
    gpu: str | None
    size_frac: float | None
    low_frac: float | None
    high_frac: float | None
    confidence: str | None
    evidence: Any
    state: str


_COLUMNS: Final = tuple(each.name for each in fields(FindingRow))
_NAMES: Final = ", ".join(_COLUMNS)
_MARKS: Final = ", ".join("?" * len(_COLUMNS))
_SELECT: Final = f"SELECT {_NAMES} FROM findings"


def add(
    connection: sqlite3.Connection, findings: Iterable[Mapping[str, Any]], *, window_id: str | None = None
) -> int:
    """Add findings; those whose id is there already stay as they are. Return how many were new."""
    new = 0
    for each in findings:
        row = {"state": "open", "window_id": window_id, **each}
        row["evidence"] = json.dumps(row.get("evidence"))
        new += connection.execute(
            f"INSERT OR IGNORE INTO findings ({_NAMES}) VALUES ({_MARKS})",
            tuple(row.get(name) for name in _COLUMNS),
        ).rowcount
    return new


def set_state(connection: sqlite3.Connection, finding_id: str, state: str) -> bool:
    """Set a finding's state; ``False`` where there is none of that id."""
    if state not in STATES:
        raise ValueError(f"{state!r} is no state of a finding")
    return connection.execute("UPDATE findings SET state = ? WHERE id = ?", (state, finding_id)).rowcount == 1


def latest(
    connection: sqlite3.Connection,
    limit: int = 50,
    *,
    since_s: float | None = None,
    before_s: float | None = None,
    state: str | None = None,
    window_id: str | None = None,
) -> list[FindingRow]:
    """Return findings, newest first."""
    found = connection.execute(
        f"{_SELECT} WHERE at >= ? AND at < ? AND (?3 IS NULL OR state = ?3)"
        " AND (?4 IS NULL OR window_id = ?4) ORDER BY at DESC, id LIMIT ?5",
        (
            float("-inf") if since_s is None else since_s,
            float("inf") if before_s is None else before_s,
            state,
            window_id,
            limit,
        ),
    )
    return [_row(each) for each in found]


def get(connection: sqlite3.Connection, finding_id: str) -> FindingRow | None:
    """Return a finding."""
    found = connection.execute(f"{_SELECT} WHERE id = ?", (finding_id,)).fetchone()
    return None if found is None else _row(found)


def counts(connection: sqlite3.Connection) -> dict[str, int]:
    """Return the number of findings by state."""
    found = connection.execute("SELECT state, count(*) FROM findings GROUP BY state")
    return {str(state): int(count) for state, count in found}


def pinned(connection: sqlite3.Connection) -> set[str]:
    """Return ids of windows and of captures that a finding which is not resolved points to."""
    found = connection.execute(
        "SELECT w.id, w.capture_id FROM findings f JOIN windows w ON w.id = f.window_id"
        " WHERE f.state <> 'resolved'"
    )
    return {str(each) for row in found for each in row if each is not None}


def _row(values: tuple[Any, ...]) -> FindingRow:
    named = dict(zip(_COLUMNS, values, strict=True))
    named["evidence"] = None if named["evidence"] is None else json.loads(named["evidence"])
    return FindingRow(**named)
