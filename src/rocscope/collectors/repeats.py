"""A folder of repeated recordings of one thing, told from one recording in several files by its content.

Saved captures, folders of reports and archives that lie beside each other are repeats. So are folders of
recordings that a profiler wrote, unless together they are one run: ranks that differ, or one stretch of time.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from rocscope import archive
from rocscope.capture import Capture
from rocscope.collectors import discovery, saved
from rocscope.errors import InputError, RocscopeError

Progress = Callable[[str], None]
_SAME_TIME_FRAC: Final = 0.5  # of the shorter of two recordings, that lies within the other


def load(path: Path, *, progress: Progress | None = None, companions: bool = True) -> list[Capture]:
    """Return the recordings at ``path``: one, or each repeat of a folder of them.

    Raises as :func:`rocscope.collectors.discovery.load`; what cannot be read beside repeats is noticed.
    """
    found = _stored(path) or _folders(path)
    if len(found) < 2 and not (found and _stored(path)):
        return [discovery.load([path], progress=progress, companions=companions)]
    captures: list[Capture] = []
    unread: list[str] = []
    for each in found:
        try:
            captures.append(discovery.load([each], progress=progress, companions=companions))
        except RocscopeError as error:
            unread.append(f"{each.name} is left out: {error.message}")
    captures = _distinct(captures)
    if unread and (not _stored(path) or not captures):
        return [discovery.load([path], progress=progress, companions=companions)]
    if not _stored(path) and _one_run(captures):
        return [discovery.load([path], progress=progress, companions=companions)]
    for text in unread:
        captures[0].notice("unreadable-repeat", text)
    return captures


def _entries(path: Path) -> list[Path]:
    try:
        return sorted(each for each in path.iterdir() if not each.name.startswith("."))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}", "check the path") from error


def _stored(path: Path) -> list[Path]:
    """Return the captures, folders of reports and archives in a folder that is none itself."""
    if not path.is_dir() or saved.folder(path):
        return []
    return [
        each
        for each in _entries(path)
        if (each.is_dir() and not each.is_symlink() and saved.folder(each))
        or (each.is_file() and each.name.endswith(archive.SUFFIXES))
    ]


def _folders(path: Path) -> list[Path]:
    """Return the folders of a folder that holds no recording of its own beside them."""
    if not path.is_dir() or saved.folder(path):
        return []
    entries = _entries(path)
    for each in entries:
        try:
            if each.is_file() and discovery.recognise(each):
                return []
        except RocscopeError:
            continue
    return [each for each in entries if each.is_dir() and not each.is_symlink()]


def _distinct(captures: list[Capture]) -> list[Capture]:
    """Leave out copies of a recording: they repeat nothing."""
    found: dict[tuple[object, ...], Capture] = {}
    for each in captures:
        key = (each.manifest.window_ns, each.dispatches.num_rows, each.manifest.host) + (
            () if each.manifest.window_ns else (each.manifest.id,)
        )
        if key in found:
            found[key].notice("repeat-copied", "a copy of the same recording beside it is left out")
        else:
            found[key] = each
    return list(found.values())


def _one_run(captures: list[Capture]) -> bool:
    """Tell whether recordings are parts of one run: other ranks, or the same stretch of time."""
    if len(captures) < 2:
        return True
    ranks = [{p.rank for p in each.manifest.processes if p.rank is not None} for each in captures]
    for index, first in enumerate(captures):
        for other, second in zip(ranks[index + 1 :], captures[index + 1 :], strict=True):
            if ranks[index] and other:
                if not ranks[index] & other:
                    return True
            elif _together(first.manifest.window_ns, second.manifest.window_ns):
                return True
    return False


def _together(first: tuple[int, int] | None, second: tuple[int, int] | None) -> bool:
    if first is None or second is None:
        return True  # without times nothing says that they are not
    shared = min(first[1], second[1]) - max(first[0], second[0])
    shorter = min(first[1] - first[0], second[1] - second[0])
    return shared > _SAME_TIME_FRAC * shorter
