"""What comparable windows of before did, as far as a comparison needs it: no summaries, few rows."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple


class Past(NamedTuple):
    """One earlier window."""

    id: str
    at_s: float
    key: dict[str, Any]


def windows(
    connection: sqlite3.Connection, key_hash: str, since_s: float, before_s: float, limit: int
) -> Iterator[Past]:
    """Give windows that are done and of equal key, newest first."""
    found = connection.execute(
        "SELECT id, requested_at, key FROM windows WHERE key_hash = ? AND state = 'done'"
        " AND requested_at >= ? AND requested_at < ? ORDER BY requested_at DESC, id DESC LIMIT ?",
        (key_hash, since_s, before_s, limit),
    )
    for window_id, at_s, key in found:
        yield Past(str(window_id), float(at_s), json.loads(key))


def newest(connection: sqlite3.Connection, before_s: float, trigger: str) -> dict[str, Any] | None:
    """Return the key of the newest window that is done and came likewise."""
    found = connection.execute(
        "SELECT key FROM windows WHERE state = 'done' AND key IS NOT NULL AND requested_at < ?"
        " AND (trigger = 'spool') = (? = 'spool') ORDER BY requested_at DESC LIMIT 1",
        (before_s, trigger),
    ).fetchone()
    return None if found is None else dict(json.loads(found[0]))


def times(
    connection: sqlite3.Connection, window_ids: Sequence[str], per: str
) -> dict[tuple[str, str], dict[str, float]]:
    """Return time a step, or a token, by (family, gpu) and window."""
    value = "step_s" if per == "step" else "busy_s / tokens"
    found: dict[tuple[str, str], dict[str, float]] = {}
    for at in range(0, len(window_ids), 200):
        some = window_ids[at : at + 200]
        rows = connection.execute(
            f"SELECT window_id, family, gpu, {value} AS spent FROM window_families"
            f" WHERE window_id IN ({', '.join('?' * len(some))}) AND {value} > 0",
            tuple(some),
        )
        for window_id, family, gpu, spent in rows:
            found.setdefault((str(family), str(gpu)), {})[str(window_id)] = float(spent)
    return found


def findings(connection: sqlite3.Connection, since_s: float, limit: int = 500) -> list[dict[str, Any]]:
    """Return what findings said of which series, newest first: id, kind, state and evidence."""
    found = connection.execute(
        "SELECT id, kind, state, evidence FROM findings WHERE at >= ? ORDER BY at DESC, id LIMIT ?",
        (since_s, limit),
    )
    return [
        {"id": row[0], "kind": row[1], "state": row[2], "evidence": json.loads(row[3] or "null") or {}}
        for row in found
    ]
