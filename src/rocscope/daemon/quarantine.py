"""What was refused: kept for a while with the reason beside it, within a limit.

quarantine/<time>-<id>/reason.json       why, in JSON
quarantine/<time>-<id>/content           what it was, under a name of ours
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from rocscope.daemon import intake
from rocscope.daemon.disk_use import BLOCK_BYTES, Entry, entries
from rocscope.untrusted import visible

REASON: Final = "reason.json"
CONTENT: Final = "content"
MOST: Final = 1000  # entries, beside the limit of bytes
_ENDS: Final = re.compile(r"[0-9]{8}T[0-9]{6}Z-([0-9a-f]{12})")


class Quarantine:
    """The folder; used by one thread at a time."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder, self._max_bytes = folder, max_bytes
        self._known: dict[str, Entry] = {}  # by the id's first characters, oldest first
        self._bytes = 0

    def keep(
        self,
        spool_id: str,
        name: str,
        code: str,
        reason: str,
        *,
        size: int,
        at_s: float,
        content: Path | None,
    ) -> Path:
        """Keep one, ``content`` with it if that fits; the oldest make room. Return its folder.

        What is there already, under the same id, is not kept twice: its content is then removed. Raises
        :class:`OSError`.
        """
        if (known := self.find(spool_id)) is not None:
            if content is not None:
                intake.remove(content)
            return known
        fits = content is not None and size <= self._max_bytes
        temporary = self._folder / f".{spool_id[:12]}.tmp"
        intake.remove(temporary)
        temporary.mkdir(mode=0o700)
        told = {
            "name": visible(name)[:1000],
            "code": code,
            "reason": visible(reason),
            "size_bytes": size,
            "at": datetime.fromtimestamp(at_s, UTC).isoformat(timespec="seconds"),
            "id": spool_id,
            "content": CONTENT if fits else None,
        }
        with (temporary / REASON).open("w", encoding="utf-8") as stream:
            stream.write(json.dumps(told, indent=1) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        if content is not None:
            if fits:
                content.rename(temporary / CONTENT)
            else:
                intake.remove(content)
        place = self._folder / f"{datetime.fromtimestamp(at_s, UTC):%Y%m%dT%H%M%SZ}-{spool_id[:12]}"
        temporary.rename(place)
        self._add(Entry(place, (size if fits else 0) + 2 * BLOCK_BYTES, at_s))
        self._bound()
        return place

    def find(self, spool_id: str) -> Path | None:
        """Return where something of that id lies."""
        entry = self._known.get(spool_id[:12])
        return entry.path if entry is not None and entry.path.is_dir() else None

    def open(self) -> None:
        """Look at what is there, and finish what a kill cut short: the reason was written first."""
        for path in self._folder.glob(".*.tmp"):
            with contextlib.suppress(OSError, ValueError, KeyError):
                told = json.loads((path / REASON).read_text(encoding="utf-8"))
                at = datetime.fromisoformat(told["at"])
                path.rename(self._folder / f"{at:%Y%m%dT%H%M%SZ}-{str(told['id'])[:12]}")
                continue
            intake.remove(path)
        for entry in entries(self._folder):
            self._add(entry)

    def _add(self, entry: Entry) -> None:
        if named := _ENDS.fullmatch(entry.path.name):
            self._known[named[1]] = entry
            self._bytes += entry.bytes

    def _bound(self) -> None:
        while len(self._known) > MOST or (self._bytes > self._max_bytes and len(self._known) > 1):
            oldest = self._known.pop(next(iter(self._known)))
            self._bytes -= oldest.bytes
            intake.remove(oldest.path)
