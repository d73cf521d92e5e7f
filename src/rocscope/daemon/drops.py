"""What lies in the spool folder: looked at without opening, following or trusting anything of it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from rocscope.untrusted import visible

LONGEST_NAME: Final = 200  # characters
MOST_FILES: Final = 20_000  # of one folder
DEEPEST: Final = 16
UNFINISHED: Final = (".tmp", ".part", ".partial", ".crdownload", ".filepart", ".swp", "~")
_SPECIAL: Final = {
    stat.S_IFLNK: "link",
    stat.S_IFIFO: "FIFO",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
}


class Refusal(NamedTuple):
    """Why something is not analysed; ``code`` is one of a closed set of words."""

    code: str
    reason: str


@dataclass(frozen=True)
class Drop:
    """One entry of the spool folder, as it was when looked at."""

    path: Path
    is_folder: bool
    size: int  # of all its files, bytes
    files: int
    state: str  # changes with any name, size, time or node in it
    own: bool  # all of it belongs to the daemon's user
    refusal: Refusal | None

    @property
    def name(self) -> str:
        """Its name, which may hold anything."""
        return self.path.name

    @property
    def special(self) -> bool:
        """Whether it has no content: a link, a FIFO, a socket, a device."""
        return self.refusal is not None and self.refusal.code == "special"


def listed(folder: Path, max_bytes: int) -> list[Drop]:
    """Return what was dropped, oldest name first; names of what is still written are left out."""
    found = []
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            if not unfinished(entry.name):
                with contextlib.suppress(FileNotFoundError):  # gone meanwhile
                    found.append(look(Path(entry.path), max_bytes))
    return sorted(found, key=lambda drop: drop.name)


def unfinished(name: str) -> bool:
    """Tell whether a name says that its writer is not done, or that it is not meant for us."""
    return name.startswith(".") or name.lower().endswith(UNFINISHED)


def hostile(name: str) -> bool:
    """Tell whether a name is more than a name: control or bidirectional characters, or no UTF-8."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return True
    return visible(name) != name or any(c in name for c in "\n\r\t") or len(name) > LONGEST_NAME


def look(path: Path, max_bytes: int) -> Drop:
    """Look at one entry. Raises :class:`FileNotFoundError` where it is gone."""
    top = path.lstat()
    is_folder = stat.S_ISDIR(top.st_mode)
    digest = hashlib.sha256(_told("", top))
    size, files, own = (0, 0, top.st_uid == os.geteuid()) if is_folder else (top.st_size, 1, True)
    own = own and top.st_uid == os.geteuid()
    refusal = _refusal(path.name, top, "")
    if is_folder:
        try:
            for where, found in _inside(path):
                digest.update(_told(where, found))
                own = own and found.st_uid == os.geteuid()
                files += stat.S_ISREG(found.st_mode)
                size += found.st_size if stat.S_ISREG(found.st_mode) else 0
                refusal = refusal or _refusal(where, found, " in it")
                if files > MOST_FILES:
                    refusal = refusal or Refusal("too-many", f"more than {MOST_FILES} files are in it")
                    break
        except RecursionError:
            refusal = Refusal("too-deep", f"its folders are nested more than {DEEPEST} deep")
        except PermissionError as error:
            refusal = refusal or Refusal("unreadable", f"{visible(str(error.filename))}: {error.strerror}")
    if refusal is None and size > max_bytes:
        refusal = Refusal("too-large", f"{size} bytes, of {max_bytes} that may be (spool.max_file_bytes)")
    if refusal is None and not size:
        refusal = Refusal("empty", "there is nothing in it")
    return Drop(path, is_folder, size, files, digest.hexdigest(), own, refusal)


def _told(where: str, found: os.stat_result) -> bytes:
    what = (where, found.st_ino, found.st_mode, found.st_size, found.st_mtime_ns)
    return repr(what).encode("utf-8", "surrogateescape")


def _refusal(name: str, found: os.stat_result, where: str) -> Refusal | None:
    kind = stat.S_IFMT(found.st_mode)
    if kind in _SPECIAL:
        # of an entry of the spool itself there is no content to keep
        code = "special" if not where else "special-inside"
        return Refusal(code, f"a {_SPECIAL[kind]}{where}, which is not followed or opened")
    if any(hostile(part) for part in name.split("/")):
        return Refusal("name", f"a name{where} with control or foreign characters, or too long")
    if kind == stat.S_IFREG and found.st_nlink != 1:
        return Refusal("linked", f"a file{where} has other names too (hard links): copy it instead")
    return None


def _inside(top: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Give all that is below a folder, with its path from there; links are given, never followed."""
    left = [(top, "", 0)]
    while left:
        folder, where, depth = left.pop()
        if depth > DEEPEST:
            raise RecursionError
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
        for entry in found:
            here = f"{where}/{entry.name}" if where else entry.name
            status = entry.stat(follow_symlinks=False)
            yield here, status
            if stat.S_ISDIR(status.st_mode):
                left.append((Path(entry.path), here, depth + 1))
