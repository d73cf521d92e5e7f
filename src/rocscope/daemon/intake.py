"""Taking what was dropped: out of others' reach, read once, told by its content.

What belongs to the daemon's user is renamed, which takes no time and no space. What belongs to others is
copied, as they may go on writing to what they hold open, or put a link where a file was.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import signal
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from rocscope.daemon.drops import DEEPEST, MOST_FILES, Drop
from rocscope.errors import InputError

CHUNK: Final = 1 << 20
_OPEN: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_WRITING: Final = (os.O_WRONLY, os.O_RDWR)
_F_SETSIG: Final = 10  # of linux/fcntl.h


def written_to(drop: Drop) -> bool:
    """Tell whether a process has a file of it open for writing, as far as that can be seen.

    The system refuses a read lease on a file that somebody writes to; where the file is another user's and a
    lease is not ours to ask for, the open files of processes that we may look at are searched.
    """
    paths = [drop.path] if not drop.is_folder else [path for path in drop.path.rglob("*") if path.is_file()]
    asked = False
    for path in paths:
        found = _leased(path)
        if found:
            return True
        asked |= found is None
    return asked and _seen_open(drop.path)


def _leased(path: Path) -> bool | None:
    """Return whether a file is open for writing; ``None`` where we may not ask."""
    try:
        descriptor = os.open(path, _OPEN)
    except OSError:
        return None
    try:
        fcntl.fcntl(
            descriptor, _F_SETSIG, signal.SIGURG
        )  # its default is to be ignored; SIGIO's is to end us
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        return True if error.errno == errno.EAGAIN else None
    finally:
        os.close(descriptor)
    return False


def _seen_open(path: Path, proc: Path = Path("/proc")) -> bool:
    head = os.fspath(path)
    for process in proc.iterdir():
        if not process.name.isdigit():
            continue
        with contextlib.suppress(OSError):  # not ours to see, or gone
            for link in (process / "fd").iterdir():
                with contextlib.suppress(OSError, ValueError, IndexError):
                    target = str(link.readlink())
                    if target == head or target.startswith(f"{head}/"):
                        told = (process / "fdinfo" / link.name).read_text(encoding="ascii")
                        flags = int(told.split("flags:")[1].split()[0], 8)
                        if flags & os.O_ACCMODE in _WRITING:
                            return True
    return False


def take(drop: Drop, folder: Path, max_bytes: int) -> Path:
    """Bring what was dropped into ``folder``, under its own name, and return it there.

    Raises :class:`InputError` where it turns out to be other than it was looked at, and :class:`OSError`.
    """
    place = folder / drop.name
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if drop.own:
        try:
            drop.path.rename(place)
            return place
        except OSError as error:
            if error.errno != errno.EXDEV:  # another file system
                raise
    parent = os.open(drop.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _Copy(max_bytes).entry(parent, drop.name, place)
    except BaseException:
        remove(place)
        raise
    finally:
        os.close(parent)
    return place


class _Copy:
    """Copies files and folders by descriptors, so that nothing can be put in their place meanwhile."""

    def __init__(self, max_bytes: int) -> None:
        self._left, self._entries = max_bytes, MOST_FILES

    def entry(self, parent: int, name: str, place: Path, depth: int = 0) -> None:
        self._entries -= 1
        if depth > DEEPEST or self._entries < 0:
            raise InputError("its folders are nested too deeply, or have too many entries", "")
        try:
            descriptor = os.open(name, _OPEN, dir_fd=parent)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENXIO):
                raise InputError("it became a link or a socket", "") from error
            raise
        try:
            found = os.fstat(descriptor)
            if stat.S_ISDIR(found.st_mode):
                place.mkdir(mode=0o700)
                for inside in sorted(os.listdir(descriptor)):  # noqa: PTH208  # a descriptor has no Path
                    self.entry(descriptor, inside, place / inside, depth + 1)
            elif stat.S_ISREG(found.st_mode):
                self._file(descriptor, place)
            else:
                raise InputError("it became something that is no file", "")
        finally:
            os.close(descriptor)

    def _file(self, descriptor: int, place: Path) -> None:
        with place.open("xb") as out:
            while part := os.read(descriptor, CHUNK):
                self._left -= len(part)
                if self._left < 0:
                    raise InputError("it grew while it was copied", "")
                out.write(part)
            out.flush()
            os.fsync(out.fileno())  # the original is removed on the strength of it


def identity(path: Path) -> tuple[str, int]:
    """Return what tells a content from any other, and its size; for a folder with names and all files."""
    digest, size = hashlib.sha256(), 0
    if path.is_dir():
        digest.update(b"folder\0")
    for name, file in _files(path):
        digest.update(f"{name}\0{file.stat().st_size}\0".encode("utf-8", "surrogateescape"))
        with file.open("rb") as stream:
            while part := stream.read(CHUNK):
                digest.update(part)
                size += len(part)
    digest.update(f"\0{size}".encode())
    return digest.hexdigest(), size


def _files(path: Path) -> Iterator[tuple[str, Path]]:
    """Give the files; a single one without its name, which says nothing of its content."""
    if not path.is_dir():
        yield "", path
        return
    for file in sorted(each for each in path.rglob("*") if each.is_file()):
        yield file.relative_to(path).as_posix(), file


def remove(path: Path) -> OSError | None:
    """Remove a file, a folder or a link; return what the system says where that cannot be."""
    try:
        if stat.S_ISDIR(path.lstat().st_mode):
            shutil.rmtree(path)
        else:
            path.unlink()
    except FileNotFoundError:
        return None
    except OSError as error:
        return error
    return None
