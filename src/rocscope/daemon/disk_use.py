"""What lies in the state folder and how large it is; and deleting it so that a kill leaves no half of it.

Links are never followed: a link counts as itself and is deleted as itself.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Final, NamedTuple

BLOCK_BYTES: Final = 4096
_DEEPEST: Final = 64
_DAY: Final = re.compile(r"date=(\d{4}-\d{2}-\d{2})")


class Entry(NamedTuple):
    """One file or folder with all that is in it."""

    path: Path
    bytes: int  # of whole blocks
    modified_s: float  # Unix seconds


def entries(folder: Path) -> list[Entry]:
    """Return what lies directly in a folder, oldest first; nothing where it is no folder."""
    found = [Entry(Path(each.path), _tree_bytes(each), _modified(each)) for each in _listed(folder)]
    return sorted(found, key=lambda entry: (entry.modified_s, entry.path.name))


class Results:
    """Results of windows by day: folders ``date=YYYY-MM-DD`` of what does not change once it is there.

    Each is measured once, when it is first seen.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[str, Entry] = {}

    def days(self) -> dict[date, list[Entry]]:
        """Return what is there now."""
        found: dict[date, list[Entry]] = {}
        seen: dict[str, Entry] = {}
        for folder in _listed(self._folder):
            named = _DAY.fullmatch(folder.name)
            with suppress(ValueError):
                day = date.fromisoformat(named[1]) if named else None
                if day is not None:
                    found[day] = []
                    for each in _listed(folder.path):
                        known = self._known.get(each.path)
                        entry = known or Entry(Path(each.path), _tree_bytes(each), _modified(each))
                        seen[each.path] = entry
                        found[day].append(entry)
        self._known = seen
        return found


def tree_bytes(path: Path) -> int:
    """Return the bytes of a file, or of a folder with all that is in it; 0 where there is none."""
    try:
        found = path.lstat()
    except OSError:
        return 0
    own = _blocks(found.st_size)
    return own + sum(map(_tree_bytes, _listed(path))) if stat.S_ISDIR(found.st_mode) else own


class Trash:
    """Deletes by renaming into a folder of the same file system first: nothing is seen half-deleted."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._number = folder, 0

    def discard(self, path: Path) -> OSError | None:
        """Take a file or folder away at once; what the system says where it cannot be.

        Its bytes are given back by :meth:`empty`.
        """
        while True:
            self._number += 1
            place = self._folder / f"{os.getpid()}-{self._number}"
            if not os.path.lexists(place):
                break
        try:
            path.rename(place)
        except FileNotFoundError:
            return None
        except OSError as error:
            return _deleted(path) if error.errno == errno.EXDEV else error
        return None

    def empty(self) -> list[OSError]:
        """Delete what was taken away, also by a daemon before; return what cannot be."""
        return [error for each in _listed(self._folder) if (error := _deleted(Path(each.path))) is not None]


def _deleted(path: Path) -> OSError | None:
    try:
        if path.is_dir() and not path.is_symlink():
            # by descriptors: a folder that turns into a link meanwhile is not followed
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        shutil.rmtree(path, ignore_errors=True)  # what else is in it
        return error if os.path.lexists(path) else None
    except RecursionError:
        return OSError(errno.ELOOP, "folders too deep in one another", str(path))
    return None


def _listed(folder: Path | str) -> Iterator[os.DirEntry[str]]:
    try:
        if not stat.S_ISDIR(os.lstat(folder).st_mode):
            return
        with os.scandir(folder) as listed:
            yield from listed
    except OSError:
        return  # gone meanwhile, or not ours to read


def _tree_bytes(entry: os.DirEntry[str], deep: int = 0) -> int:
    try:
        own = _blocks(entry.stat(follow_symlinks=False).st_size)
        if deep < _DEEPEST and entry.is_dir(follow_symlinks=False):
            return own + sum(_tree_bytes(each, deep + 1) for each in _listed(entry.path))
    except OSError:
        return 0
    return own


def _modified(entry: os.DirEntry[str]) -> float:
    try:
        return entry.stat(follow_symlinks=False).st_mtime
    except OSError:
        return 0.0


def _blocks(size: int) -> int:
    return -(-size // BLOCK_BYTES) * BLOCK_BYTES
