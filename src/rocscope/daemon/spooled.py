"""The ledger's side of the spool: a dropped file becomes a window, and its row follows that to its end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from pathlib import Path
from sqlite3 import Connection
from typing import TYPE_CHECKING, Final

from rocscope.daemon import intake, store_spool, store_windows
from rocscope.daemon.quarantine import Quarantine
from rocscope.daemon.store_schema import FINAL_STATES
from rocscope.untrusted import visible

if TYPE_CHECKING:
    from rocscope.daemon.context import Context
    from rocscope.daemon.store_spool import SpoolRow

FOLDER: Final = "spooled"  # in a window's folder of the work folder: in it lies what was dropped
TRIGGER: Final = "spool"


def window_id(spool_id: str) -> str:
    """Return the window that a content is analysed as: the same each time."""
    return f"spool-{spool_id[:16]}"


def content(work: Path) -> Path | None:
    """Return what was dropped, in a window's folder of the work folder."""
    with contextlib.suppress(OSError):
        inside = list((work / FOLDER).iterdir())
        if len(inside) == 1:
            return inside[0]
    return None


def accept(connection: Connection, spool_id: str, *, name: str, size: int, at_s: float) -> SpoolRow | None:
    """Note a content as about to be analysed, once; return the row of one that was dropped before."""
    window, shown = window_id(spool_id), visible(name)
    if store_spool.take(connection, spool_id, name=shown, size=size, seen_at=at_s, state="analysing"):
        return store_spool.get(connection, spool_id)
    store_spool.set_state(connection, spool_id, "analysing", window_id=window)
    new = store_windows.create(
        connection, window, TRIGGER, at_s, state="analysing", reason=f"dropped as {shown}"[:300], bytes=size
    )
    if not new and (row := store_windows.get(connection, window)) is not None and row.state in FINAL_STATES:
        state = "done" if row.state == "done" else "quarantined"  # its own row was too old to be kept
        store_spool.set_state(connection, spool_id, state, reason=row.refusal or "", done_at=at_s)
        return store_spool.get(connection, spool_id)
    return None


def refuse(connection: Connection, spool_id: str, *, name: str, size: int, at_s: float, reason: str) -> bool:
    """Note what is not analysed; ``False`` where that is known."""
    if store_spool.take(connection, spool_id, name=visible(name), size=size, seen_at=at_s, state="analysing"):
        return False
    return store_spool.set_state(connection, spool_id, "quarantined", reason=visible(reason), done_at=at_s)


async def over(context: Context, window: str, state: str, reason: str) -> None:
    """Bring a dropped file to its end once its window has come to its own; nothing stays in the work folder.

    What failed goes into quarantine. May come twice.
    """
    work = context.folder.work / window
    with context.store.read() as connection:
        row = next((each for each in store_spool.unfinished(connection) if each.window_id == window), None)
    now = context.clock.wall_s()
    if state != "done" and row is not None:
        given = context.settings.spool.quarantine_max_bytes
        await asyncio.to_thread(_quarantine, context, row, reason, given, content(work))
        context.events.note("spool", f"{row.name} is quarantined: {reason}", logging.WARNING)
    final, said = ("done", "") if state == "done" else ("quarantined", reason)
    if row is not None:
        await asyncio.wrap_future(
            context.store.write(
                lambda c: store_spool.set_state(c, row.id, final, reason=visible(said), done_at=now)
            )
        )
    await asyncio.to_thread(intake.remove, work)


def _quarantine(context: Context, row: SpoolRow, reason: str, max_bytes: int, dropped: Path | None) -> None:
    quarantine = Quarantine(context.folder.quarantine, max_bytes)
    quarantine.open()
    at_s = context.clock.wall_s()
    quarantine.keep(row.id, row.name, "unusable", reason, size=row.size, at_s=at_s, content=dropped)
