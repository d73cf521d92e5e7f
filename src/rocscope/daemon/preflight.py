"""Whether the daemon would run with these settings on this machine: looked at before it is started."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import grp
import os
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from rocscope.daemon import http_token
from rocscope.errors import RocscopeError

if TYPE_CHECKING:
    from rocscope.daemon.settings import Http, Settings

WRONG, LACKING = 2, 3  # exit codes: the settings, the machine
LONGEST_SOCKET: Final = 107  # bytes of a Unix socket's path
_REMOTE: Final = ("nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "lustre", "ceph", "afs")


class Check(NamedTuple):
    """One thing that was looked at."""

    what: str
    ok: bool
    text: str
    remedy: str = ""
    side: Literal["settings", "machine"] = "machine"


def exit_code(found: list[Check]) -> int:
    """Return 0 where all is well, 2 where the settings are wrong, 3 where the machine lacks something."""
    bad = [each for each in found if not each.ok]
    if any(each.side == "settings" for each in bad):
        return WRONG
    return LACKING if bad else 0


def examine(read: Callable[[], Settings]) -> list[Check]:
    """Look at everything; nothing is changed, and one fault does not hide the others."""
    try:
        settings = read()
    except RocscopeError as error:
        return [Check("settings", False, error.message, error.hint, "settings")]
    return [
        Check("settings", True, "they can be read"),
        *_state(settings),
        *_folder("spool", settings.spool_folder, settings.spool.enabled),
        *_folder("reports", settings.reports_folder, settings.reports.daily_at is not None),
        *_control(settings),
        *_port(settings.http),
        *_tls(settings.http),
        *_token(settings.http.token_file),
        *_engines(settings),
        _telemetry(settings),
    ]


def _state(settings: Settings) -> Iterator[Check]:
    folder, what = settings.state.folder, "state folder"
    trouble = _unusable(folder)
    if trouble:
        yield Check(
            what, False, f"{folder}: {trouble}", "give another with --state, or mend its owner and mode"
        )
        return
    there = _existing(folder)
    info = there.stat()
    if there == folder and info.st_uid not in (os.geteuid(), 0):
        text = f"{folder} belongs to user {info.st_uid}, the daemon is user {os.geteuid()}"
        yield Check(what, False, text, f"chown it, or run the daemon as user {info.st_uid}")
    elif there == folder and info.st_mode & stat.S_IWOTH and not info.st_mode & stat.S_ISVTX:
        yield Check(what, False, f"{folder} can be written by anybody", f"chmod o-w {folder}")
    else:
        yield Check(what, True, f"{folder} ({'there' if there == folder else 'will be made'})")
    kind = _file_system(there)
    if kind in _REMOTE:
        yield Check("file system", False, f"{there} lies on {kind}, where locks are not safe",
                    "give a folder on a local disk with --state")  # fmt: skip
    free = os.statvfs(there)
    free_bytes, least = free.f_bavail * free.f_frsize, settings.state.min_free_bytes
    text = f"{free_bytes / 2**30:.1f} GiB free, at least {least / 2**30:.1f} GiB wanted"
    remedy = "" if free_bytes >= least else "free some space, or lower state.min_free_bytes"
    yield Check("free space", free_bytes >= least, text, remedy)
    yield _lock(folder / "lock")


def _lock(path: Path) -> Check:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return Check("other daemon", True, "none has this folder")
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return Check(
            "other daemon", False, f"one runs on {path.parent}", "stop it first, or use another --state"
        )
    finally:
        os.close(descriptor)
    return Check("other daemon", True, "none has this folder")


def _folder(what: str, folder: Path, wanted: bool) -> Iterator[Check]:
    if not wanted:
        return
    trouble = _unusable(folder)
    remedy = "give another folder in the settings, or mend its owner and mode" if trouble else ""
    yield Check(f"{what} folder", not trouble, f"{folder}: {trouble}" if trouble else str(folder), remedy)


def _control(settings: Settings) -> Iterator[Check]:
    path = settings.control_socket
    if len(os.fsencode(path)) > LONGEST_SOCKET:
        text = f"{path} is too long for a socket's path, {LONGEST_SOCKET} bytes at most"
        yield Check("control socket", False, text, "set a shorter control.socket", "settings")
        return
    trouble = "" if path.parent == settings.state.folder else _unusable(path.parent)
    remedy = "set another control.socket, or make its folder" if trouble else ""
    yield Check("control socket", not trouble, f"{path}: {trouble}" if trouble else str(path), remedy)
    group = settings.control.group
    try:
        grp.getgrnam(group)
        yield Check("control group", True, f"{group} may use the socket")
    except KeyError:
        text = f"there is no group {group}: root and the daemon's own user alone may use the socket"
        yield Check("control group", True, text, f"for others: groupadd --system {group}")


def _port(http: Http) -> Iterator[Check]:
    host, port = http.address
    if port == 0:
        yield Check("port", True, f"any that is free on {host}")
        return
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
        yield Check("port", True, f"{http.listen} is free")
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        text = "is taken" if taken else f"cannot be bound ({error.strerror or error})"
        yield Check(
            "port", False, f"{http.listen} {text}", "stop what listens there, or choose another with --listen"
        )


def _tls(http: Http) -> Iterator[Check]:
    if http.tls_certificate is None or http.tls_key is None:
        return
    from rocscope.daemon import http_server

    try:
        http_server.tls(http)
        yield Check("TLS", True, f"{http.tls_certificate} can be used")
    except OSError as error:
        names = ", ".join(str(path) for path in (http.tls_certificate, http.tls_key, http.client_ca) if path)
        text = f"{names}: {getattr(error, 'reason', None) or error.strerror or error}"
        yield Check("TLS", False, text, "give PEM files: a certificate, its key without a password, a CA")
    with contextlib.suppress(OSError):
        if http.tls_key.stat().st_mode & 0o027:
            text = f"{http.tls_key} can be read by others"
            yield Check("TLS key", False, text, f"chmod 0640 {http.tls_key}")


def _token(path: Path | None) -> Iterator[Check]:
    """Look at the token's file; what is in it is never shown."""
    if path is None:
        return
    try:
        http_token.read(path)
        yield Check("token", True, f"{path} is long enough and private")
    except RocscopeError as error:
        yield Check("token", False, error.message, error.hint.replace("FILE", str(path)))


def _engines(settings: Settings) -> Iterator[Check]:
    for each in settings.engines.known:
        for name, path in (("model", each.model), ("traces", each.traces)):
            if path is not None and not os.access(path, os.R_OK):
                text = f"{path} of {each.url} cannot be read"
                yield Check(f"engine's {name}", False, text, f"mend engines.known.{name}, or its permissions")


def _telemetry(settings: Settings) -> Check:
    from rocscope.collectors.telemetry_sources import sources

    found = sources(settings.sampling.telemetry, os.environ)
    if found:
        return Check("GPU telemetry", True, f"through {', else '.join(each.label for each in found)}")
    return Check("GPU telemetry", True, "no GPU found: host and servers are watched all the same")


def _existing(folder: Path) -> Path:
    """Return the folder, or the nearest above it that exists."""
    there = folder.absolute()
    while not there.exists() and there != there.parent:
        there = there.parent
    return there


def _unusable(folder: Path) -> str:
    """Say why a folder can be neither used nor made."""
    there = _existing(folder)
    if not there.is_dir():
        return f"{there} is no folder"
    if not os.access(there, os.W_OK | os.X_OK):
        return (
            "it may not be written" if there == folder else f"it cannot be made: {there} may not be written"
        )
    return ""


def _file_system(path: Path) -> str:
    """Return the kind of file system that a path lies on, ``""`` where it is not told."""
    best, kind = "", ""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines():
            _, at, found, *_ = line.split(" ", 3)
            at = at.encode("latin-1", "replace").decode("unicode_escape")
            inside = str(path) == at or str(path).startswith(at.rstrip("/") + "/")
            if inside and len(at) >= len(best):
                best, kind = at, found
    return kind
