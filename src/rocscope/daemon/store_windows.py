"""The ledger of windows: what was asked for, what became of it, and its result by kernel family.

A window is in exactly one state. Once that is final (done, skipped, failed, aborted) it stays, so a result
that comes twice, as after a kill, is taken once.
"""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

from rocscope.daemon import store_findings
from rocscope.daemon.store_schema import FINAL_STATES, STATES

_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")  # also a folder's name
_FINAL: Final = str(FINAL_STATES)
_SUMMARY: Final = ("phases", "targets", "integrity", "serving", "comparison", "analysis_path")
_SUMMARY_BYTES: Final = 64 << 10  # larger is left in the result's folder


@dataclass(frozen=True, slots=True)
class WindowRow:
    """One window; times in Unix seconds of the wall clock."""

    id: str
    trigger: str  # "schedule", "threshold", "webhook", "operator", "spool"
    reason: str
    engine: str | None
    way: str | None
    profile: str | None
    state: str
    requested_at: float
    started_at: float | None
    ended_at: float | None
    window_s: float | None
    bytes: int | None
    refusal: str | None
    abort: str | None
    overhead: Mapping[str, Any] | None
    key: Mapping[str, Any] | None  # what must be equal for two windows to be compared
    key_hash: str | None
    capture_id: str | None
    boot_id: str | None
    folder: str | None  # of its result, relative to the state folder
    files: str  # "none" yet, "kept", or "deleted" by retention
    summary: Mapping[str, Any] | None  # phases, targets and integrity of its analysis


@dataclass(frozen=True, slots=True)
class FamilyRow:
    """What one kernel family did on one GPU in one window; unknown is ``None``."""

    window_id: str
    gpu: str
    family: str
    dispatches: int | None
    busy_s: float | None
    bytes: float | None
    bytes_basis: str | None
    flops: float | None
    flops_basis: str | None
    steps: int | None
    tokens: int | None
    bandwidth_frac: float | None
    step_s: float | None  # its kernels in one step of the most frequent kind, where steps are known


_COLUMNS: Final = tuple(each.name for each in fields(WindowRow))
_FAMILY: Final = tuple(each.name for each in fields(FamilyRow))
_JSON: Final = ("overhead", "key", "summary")
_SETTABLE: Final = frozenset(_COLUMNS) - {"id", "state", "trigger", "requested_at"}
_SELECT: Final = f"SELECT {', '.join(_COLUMNS)} FROM windows"


def create(
    connection: sqlite3.Connection,
    window_id: str,
    trigger: str,
    requested_at: float,
    *,
    state: str = "planned",
    **more: Any,
) -> bool:
    """Add a window; ``False`` where it is there already. ``more``: other columns of :class:`WindowRow`."""
    if not _ID.fullmatch(window_id):
        raise ValueError(f"{window_id!r} cannot be a window's id")
    values = {
        "id": window_id,
        "trigger": trigger,
        "requested_at": requested_at,
        "state": state,
        **_checked(more),
    }
    return (
        connection.execute(
            f"INSERT OR IGNORE INTO windows ({', '.join(values)}) VALUES ({', '.join('?' * len(values))})",
            tuple(values.values()),
        ).rowcount
        == 1
    )


def set_state(connection: sqlite3.Connection, window_id: str, state: str, **more: Any) -> bool:
    """Set state and other columns of a window that is not final; ``False`` where it is, or is not there."""
    if state not in STATES:
        raise ValueError(f"{state!r} is no state of a window")
    values = {"state": state, **_checked(more)}
    return (
        connection.execute(
            f"UPDATE windows SET {', '.join(f'{name} = ?' for name in values)}"
            f" WHERE id = ? AND state NOT IN {_FINAL}",
            (*values.values(), window_id),
        ).rowcount
        == 1
    )


def note(connection: sqlite3.Connection, window_id: str, **more: Any) -> bool:
    """Set columns of a window in any state, such as its overhead, measured after its end."""
    values = _checked(more)
    return (
        connection.execute(
            f"UPDATE windows SET {', '.join(f'{name} = ?' for name in values)} WHERE id = ?",
            (*values.values(), window_id),
        ).rowcount
        == 1
    )


def commit_window_result(
    connection: sqlite3.Connection, result: Mapping[str, Any], *, folder: str | None = None, **more: Any
) -> bool:
    """Take the result of a window, once: families, findings and the state ``done``.

    ``result`` is the analysis child's ``result.json``; ``folder``, where it lies, relative to the state
    folder, was synced and renamed to its place before. ``False`` where the window was final already,
    then nothing changes; raises :class:`ValueError` where there is no such window.
    """
    window_id = str(result["window_id"])
    found = connection.execute("SELECT state FROM windows WHERE id = ?", (window_id,)).fetchone()
    if found is None:
        raise ValueError(f"no window {window_id}")
    if found[0] in FINAL_STATES:
        return False
    key = result.get("key")
    summary = {name: result[name] for name in _SUMMARY if result.get(name) is not None}
    if len(json.dumps(summary)) > _SUMMARY_BYTES:
        summary.pop("phases", None)
        summary["cut"] = True
        if len(json.dumps(summary)) > _SUMMARY_BYTES:
            summary = {"cut": True}
    add_families(connection, window_id, result.get("families") or ())
    store_findings.add(connection, result.get("findings") or (), window_id=window_id)
    return set_state(
        connection,
        window_id,
        "done",
        capture_id=result.get("capture_id"),
        key=key,
        key_hash=result.get("key_hash") or (None if key is None else key_hash(key)),
        summary=summary,
        **({} if folder is None else {"folder": folder, "files": "kept"}),
        **more,
    )


def add_families(
    connection: sqlite3.Connection, window_id: str, families: Iterable[Mapping[str, Any]]
) -> None:
    """Add what families did in a window; what is there already stays."""
    connection.executemany(
        f"INSERT OR IGNORE INTO window_families ({', '.join(_FAMILY)})"
        f" VALUES ({', '.join('?' * len(_FAMILY))})",
        [(window_id, *(each.get(name) for name in _FAMILY[1:])) for each in families],
    )


def get(connection: sqlite3.Connection, window_id: str) -> WindowRow | None:
    """Return a window."""
    found = connection.execute(f"{_SELECT} WHERE id = ?", (window_id,)).fetchone()
    return None if found is None else _row(found)


def listing(
    connection: sqlite3.Connection,
    limit: int = 100,
    *,
    before_s: float | None = None,
    since_s: float | None = None,
    states: Iterable[str] = (),
) -> list[WindowRow]:
    """Return windows by when they were asked for, newest first."""
    wanted = tuple(states)
    where = f" AND state IN ({', '.join('?' * len(wanted))})" if wanted else ""
    found = connection.execute(
        f"{_SELECT} WHERE requested_at < ? AND requested_at >= ?{where}"
        " ORDER BY requested_at DESC, id LIMIT ?",
        (
            float("inf") if before_s is None else before_s,
            float("-inf") if since_s is None else since_s,
            *wanted,
            limit,
        ),
    )
    return [_row(each) for each in found]


def unfinished(connection: sqlite3.Connection) -> list[WindowRow]:
    """Return all windows whose state is not final, oldest first: what a start has to look at."""
    found = connection.execute(f"{_SELECT} WHERE state NOT IN {_FINAL} ORDER BY requested_at, id")
    return [_row(each) for each in found]


def families(connection: sqlite3.Connection, window_id: str) -> list[FamilyRow]:
    """Return what families did in a window, by busy time."""
    found = connection.execute(
        f"SELECT {', '.join(_FAMILY)} FROM window_families WHERE window_id = ? "
        "ORDER BY busy_s DESC, gpu, family",
        (window_id,),
    )
    return [FamilyRow(*each) for each in found]


def families_over_time(
    connection: sqlite3.Connection, since_s: float, until_s: float
) -> list[tuple[str, float, str, float]]:
    """Return (window, when it was asked for, family, busy seconds of all GPUs) of windows done in a time."""
    found = connection.execute(
        "SELECT w.id, w.requested_at, f.family, sum(f.busy_s) FROM windows w JOIN window_families f"
        " ON f.window_id = w.id WHERE w.state = 'done' AND w.requested_at >= ? AND w.requested_at < ?"
        " AND f.busy_s IS NOT NULL GROUP BY w.id, f.family ORDER BY w.requested_at, w.id, f.family",
        (since_s, until_s),
    )
    return [(str(a), float(b), str(c), float(d)) for a, b, c, d in found]


def key_hash(key: Mapping[str, Any]) -> str:
    """Return the same short text for equal keys, whatever their order."""
    text = json.dumps(key, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:16]


def _checked(more: Mapping[str, Any]) -> dict[str, Any]:
    if unknown := set(more) - _SETTABLE:
        raise ValueError(f"no such columns of a window: {', '.join(sorted(unknown))}")
    return {
        name: json.dumps(value) if name in _JSON and value is not None else value
        for name, value in more.items()
    }


def _row(values: tuple[Any, ...]) -> WindowRow:
    named = dict(zip(_COLUMNS, values, strict=True))
    for name in _JSON:
        if named[name] is not None:
            named[name] = json.loads(named[name])
    return WindowRow(**named)
