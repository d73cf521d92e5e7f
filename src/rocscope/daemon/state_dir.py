"""The daemon's folder: its layout, who may touch it, and that one daemon at a time has it.

    store.sqlite (-wal, -shm)            ledger and samples
    windows/date=YYYY-MM-DD/<id>/        results of windows: aggregates.parquet, result.json
    captures/<id>                        kept captures
    spool/                               where profiler outputs are dropped; sticky, group-writable
    quarantine/ reports/                 refused files; daily reports
    work/                                where children make what is then renamed to its place
    trash/ aside/                        what is being deleted; damaged stores, moved aside
    lock control.sock

Links are not followed, neither the folder's own entries nor below them. Modes are only ever tightened.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Self

from rocscope.errors import DaemonRunning, StoreError

FOLDERS: Final = ("windows", "captures", "quarantine", "reports", "work", "trash", "aside")
FOLDER_MODE: Final = 0o750
SPOOL_MODE: Final = 0o1770
FILE_MODE: Final = 0o600
UMASK: Final = 0o077
_PROBE_BYTES: Final = 64 << 10
_READ_ONLY: Final = (errno.EROFS, errno.EACCES, errno.EPERM)
_HINT: Final = "give another folder with --state, or `state.folder` in the settings"


@dataclass
class StateDir:
    """A folder that this process has claimed, until :meth:`release`."""

    path: Path
    _lock: int | None = field(default=None, repr=False)
    _umask: int | None = field(default=None, repr=False)

    @classmethod
    def claim(cls, path: Path) -> Self:
        """Make and check the folder, set the process's umask to 0077 and take the lock.

        On a file system that is read-only, what is missing stays missing. Raises :class:`DaemonRunning` where
        another daemon has it, and :class:`StoreError` where it is not safe to use.
        """
        umask = os.umask(UMASK)
        try:
            real = _make(path)
            for name in FOLDERS:
                own_folder(real / name)
            own_folder(real / "spool", SPOOL_MODE)
            return cls(real, _locked(real / "lock"), umask)
        except BaseException:
            os.umask(umask)
            raise

    def release(self) -> None:
        """Give the lock and the former umask back; may come twice."""
        if self._lock is not None:
            os.close(self._lock)
        if self._umask is not None:
            os.umask(self._umask)
        self._lock = self._umask = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    @property
    def database(self) -> Path:
        """The store's file."""
        return self.path / "store.sqlite"

    @property
    def windows(self) -> Path:
        """Results of windows."""
        return self.path / "windows"

    @property
    def captures(self) -> Path:
        """Kept captures, one entry each, named by the capture's or the window's id."""
        return self.path / "captures"

    @property
    def spool(self) -> Path:
        """Where files are dropped, unless the settings name another place."""
        return self.path / "spool"

    @property
    def quarantine(self) -> Path:
        """Files that were refused."""
        return self.path / "quarantine"

    @property
    def reports(self) -> Path:
        """Daily reports, unless the settings name another place."""
        return self.path / "reports"

    @property
    def work(self) -> Path:
        """Where children write before the result is renamed to its place; on the same file system."""
        return self.path / "work"

    @property
    def trash(self) -> Path:
        """What is being deleted."""
        return self.path / "trash"

    @property
    def aside(self) -> Path:
        """Damaged stores, which are never deleted."""
        return self.path / "aside"

    def window_folder(self, window_id: str, at_wall_s: float) -> Path:
        """Return where the result of a window asked for at that time belongs."""
        day = datetime.fromtimestamp(at_wall_s, UTC).date().isoformat()
        return self.windows / f"date={day}" / window_id

    def free_bytes(self) -> int:
        """Return what the file system still offers to users who are not root."""
        found = os.statvfs(self.path)
        return found.f_bavail * found.f_frsize

    def write_trouble(self) -> OSError | None:
        """Try to write and sync 64 KiB here, at the place in a file where the store would write.

        Returns what the system says, ``None`` where it works.
        """
        sizes = [each.stat().st_size for each in self.path.glob("store.sqlite*")]
        probe = self.path / f".probe-{os.getpid()}"
        try:
            descriptor = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, FILE_MODE)
            try:
                os.lseek(descriptor, max(sizes, default=0), os.SEEK_SET)  # leaves a hole: no space is taken
                left = memoryview(bytes(_PROBE_BYTES))
                while left:
                    left = left[os.write(descriptor, left) :]
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
                probe.unlink()
        except OSError as error:
            return error
        return None


def own_folder(path: Path, mode: int = FOLDER_MODE) -> None:
    """Make a folder of ours, or tighten the one that is there.

    Where the file system is read-only nothing is done. Raises :class:`StoreError` for a link, for what is no
    folder, and for a folder that belongs to another user or that all may write to.
    """
    try:
        path.mkdir(mode=0o700)
        path.chmod(mode)  # mkdir's own mode is cut by the umask
        return
    except FileExistsError:
        pass
    except OSError as error:
        if error.errno in _READ_ONLY:
            return
        raise StoreError(f"{path}: cannot be made: {error.strerror}", _HINT) from error
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        said = "is a link or no folder" if error.errno in (errno.ELOOP, errno.ENOTDIR) else error.strerror
        raise StoreError(f"{path}: {said}", "remove it, the daemon makes its own") from error
    try:
        _tighten(path, descriptor, mode)
    finally:
        os.close(descriptor)


def own_file(path: Path) -> bool:
    """Say whether a file of ours is there; raises :class:`StoreError` for a link, a device or another's."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}", _HINT) from error
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
        raise StoreError(f"{path}: not a file of its own (a link?)", "look at it, then remove it")
    if found.st_uid != os.geteuid():
        raise StoreError(f"{path}: belongs to user {found.st_uid}", f"run as that user, or {_HINT}")
    return True


def _tighten(path: Path, descriptor: int, mode: int) -> None:
    found = os.fstat(descriptor)
    if found.st_uid != os.geteuid():
        raise StoreError(f"{path}: belongs to user {found.st_uid}", f"run as that user, or {_HINT}")
    if found.st_mode & stat.S_IWOTH:
        raise StoreError(
            f"{path}: all users may write to it", f"`chmod o-w {path}` once you trust what is in it"
        )
    wanted = (found.st_mode & mode & 0o770) | (mode & stat.S_ISVTX)
    if stat.S_IMODE(found.st_mode) & ~stat.S_ISGID != wanted:
        try:
            os.fchmod(descriptor, wanted | (found.st_mode & stat.S_ISGID))
        except OSError as error:
            if error.errno not in _READ_ONLY:
                raise StoreError(f"{path}: {error.strerror}", _HINT) from error


def _make(path: Path) -> Path:
    """Return the real path of the folder, made and checked."""
    path = path.absolute()
    try:
        if path.is_symlink() and path.lstat().st_uid not in (0, os.geteuid()):
            raise StoreError(f"{path}: a link that another user made", _HINT)
        real = path.resolve()
        real.parent.mkdir(parents=True, exist_ok=True)
        for parent in real.parents:
            mode = parent.stat().st_mode
            if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
                raise StoreError(f"{parent}: all users may replace what is in it", _HINT)
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}", _HINT) from error
    own_folder(real)
    if not real.is_dir():
        raise StoreError(f"{path}: no permission to make it, or a read-only file system", _HINT)
    return real


def _locked(path: Path) -> int | None:
    """Return the descriptor that holds the lock; ``None`` where a read-only file system has no lock file."""
    while True:
        flags = os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | flags, FILE_MODE)
        except OSError as error:
            try:
                descriptor = os.open(path, os.O_RDONLY | flags)
            except OSError:
                if error.errno in _READ_ONLY:
                    return None  # nothing can be written here, by nobody
                raise StoreError(f"{path}: {error.strerror}", "remove it if no daemon runs") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = _holder(descriptor)
            os.close(descriptor)
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise StoreError(f"{path}: cannot be locked: {error.strerror}", _HINT) from error
            raise DaemonRunning(
                f"another daemon ({holder}) has {path.parent}",
                "`rocscope status` asks it; stop it first, or give another folder with --state",
            ) from error
        if _same(path, descriptor):
            _write_pid(descriptor)
            return descriptor
        os.close(descriptor)  # removed between opening and locking


def _same(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.lstat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _holder(descriptor: int) -> str:
    text = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip()
    return f"process {text}" if text.isdigit() else "its process unknown"


def _write_pid(descriptor: int) -> None:
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode("ascii"), 0)
    except OSError:  # read-only or full: the lock holds all the same
        return
