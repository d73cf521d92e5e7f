"""Small facts that the store keeps about itself."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from typing import Any, Final

_CLOCK: Final = "clock"


def get(connection: sqlite3.Connection, key: str) -> str | None:
    """Return a fact."""
    found = connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    return None if found is None else str(found[0])


def put(connection: sqlite3.Connection, key: str, value: str) -> None:
    """Set a fact."""
    connection.execute(
        "INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value", (key, value)
    )


def clock(connection: sqlite3.Connection) -> Mapping[str, Any]:
    """Return what :meth:`WallClock.saved` gave when the daemon last ran; nothing where it makes no sense."""
    try:
        found = json.loads(get(connection, _CLOCK) or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def put_clock(connection: sqlite3.Connection, saved: Mapping[str, Any]) -> None:
    """Keep what the clock needs after a restart."""
    put(connection, _CLOCK, json.dumps(saved))
