"""The process of one window: starts a profiler, and stops it whatever becomes of the daemon.

Run as ``python -P -m rocscope.daemon.window_child PARENT`` with its orders as one JSON line on standard
input. It writes JSON lines on standard output: moments of the profiler, then what came of it. Anything more
on its input, or the end of it, means: end now. It ends with the daemon, but not before the profiler is off.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import resource
import signal
import stat
import sys
import threading
import time
from pathlib import Path
from typing import IO, Any, Final

import psutil
from pydantic import BaseModel, ConfigDict

from rocscope.collectors import live_attach
from rocscope.config import ProfileOptions
from rocscope.daemon.engines import started_ticks
from rocscope.errors import RocscopeError, TargetError
from rocscope.launch import running

PR_SET_PDEATHSIG: Final = 1
LEAVINGS: Final = ("*.pt.trace.json", "*.pt.trace.json.gz", "profiler_out_*.txt", "*.profiler_out.txt")
CAPTURE: Final = "capture"
MEMORY_BYTES: Final = 8 << 30  # of address space, to read what the profiler wrote
CPU_S: Final = 300


class Orders(BaseModel):
    """What the daemon wants."""

    model_config = ConfigDict(extra="forbid", strict=True)

    engine: str  # URL
    window_s: float
    way: str  # of live_attach.WAYS, or auto
    out: str  # folder, not there yet
    lock: str  # file that is held while the profiler may be on
    pid: int | None = None  # of the server as it was found, with when it began and whose it is
    started_ticks: int | None = None
    uid: int | None = None
    most_bytes: int = 1 << 30  # that one file may have
    traces: str | None = None  # where the engine writes, as seen from here
    model: str | None = None
    gpu: str | None = None


def main(arguments: list[str]) -> int:
    """Do one window; return 0 where there is a capture."""
    os.umask(0o077)
    parent = int(arguments[0])
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGINT)  # not SIGKILL: the profiler has to be stopped
    told = _Teller(sys.stdout)
    line = sys.stdin.buffer.readline()
    if os.getppid() != parent or not line:
        return 1
    orders = Orders.model_validate_json(line)
    threading.Thread(target=_end_with_input, daemon=True).start()
    try:
        with _held(Path(orders.lock)):
            _window(orders, told)
    except RocscopeError as error:
        told(failed=error.message, hint=error.hint)
        return 1
    return 0


class _Teller:
    """Writes messages to the daemon, which may be gone."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def __call__(self, **message: Any) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(json.dumps(message) + "\n")
            self._stream.flush()


def _end_with_input() -> None:
    """Ask ourselves to end in order as soon as anything, or the end, comes from the daemon."""
    sys.stdin.buffer.read(1)
    os.kill(os.getpid(), signal.SIGINT)


@contextlib.contextmanager
def _held(path: Path) -> Any:
    """Hold the lock of windows. Raises :class:`TargetError` where another window's process still has it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise TargetError("the process of an earlier window still runs", "it ends by itself") from error
    else:
        yield
    finally:
        os.close(descriptor)


def _window(orders: Orders, told: _Teller) -> None:
    out = Path(orders.out)
    options = ProfileOptions(
        attach=orders.engine,
        profiler=orders.way,
        out=out,
        duration_s=orders.window_s,
        traces=Path(orders.traces) if orders.traces else None,
        model=Path(orders.model) if orders.model else None,
        gpu=orders.gpu,
        telemetry="none",  # the daemon reads it all along
        overhead=False,
    )
    found = running.find(orders.engine)
    _same(orders, found)
    folder = options.traces or found.trace_folder
    before = _files(folder, orders.uid)

    def at(moment: str) -> None:
        told(moment=moment)
        if moment == "stopped":
            _limit(orders.most_bytes)

    try:
        recorded = live_attach.record(options, at=at)
    finally:
        _clear(folder, before, orders.uid)
    capture = recorded.capture.save(out / CAPTURE)
    told(
        done=str(capture),
        capture_id=recorded.capture.manifest.id,
        bytes=sum(path.stat().st_size for path in out.rglob("*") if path.is_file()),
        way=recorded.capture.manifest.profiler,
        lost=recorded.lost,
        interrupted=recorded.interrupted,
        notices=[each.message for each in recorded.capture.manifest.notices][:20],
    )


def _same(orders: Orders, found: running.Running) -> None:
    """Look whether who listens there is the server that was found, or of its processes.

    Raises :class:`TargetError` where that has ended (its number may be another's by now), or another process
    has taken its address. Of a server whose process cannot be seen nothing is known, and nothing refused.
    """
    if orders.pid is None or orders.started_ticks is None:
        return
    gone = TargetError(
        f"the server that was found at {orders.engine} has ended, or another has its address",
        "the daemon looks for servers again within 15 s",
    )
    try:
        if started_ticks(orders.pid) != orders.started_ticks:
            raise gone
        known = psutil.Process(orders.pid)
        if found.process is None:
            return
        family = {known.pid, *(each.pid for each in (*known.parents(), *known.children(recursive=True)))}
    except psutil.Error as error:
        raise gone from error
    if found.process.pid not in family:
        raise gone


def _limit(most_bytes: int) -> None:
    """Hold what follows to limits: the profiler is off, what it wrote is foreign, and is read now."""
    for what, most in (
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_CPU, int(time.process_time()) + CPU_S),
        (resource.RLIMIT_FSIZE, most_bytes),
        (resource.RLIMIT_CORE, 0),
    ):
        soft, hard = resource.getrlimit(what)
        known = [each for each in (soft, hard, most) if each != resource.RLIM_INFINITY]
        resource.setrlimit(what, (min(known), hard))


def _files(folder: Path | None, uid: int | None) -> dict[Path, int]:
    """Return what the engine's profiler has left in its folder, by time of change; of its user alone."""
    found: dict[Path, int] = {}
    if folder is None or not folder.is_dir():
        return found
    for pattern in LEAVINGS:
        for path in folder.rglob(pattern):
            with contextlib.suppress(OSError):
                status = path.lstat()
                if stat.S_ISREG(status.st_mode) and uid in (None, status.st_uid):
                    found[path] = status.st_mtime_ns
    return found


def _clear(folder: Path | None, before: dict[Path, int], uid: int | None) -> None:
    """Remove what this window made there, which was copied: every quarter of an hour it would add up."""
    for path, changed in _files(folder, uid).items():
        if before.get(path) != changed:
            with contextlib.suppress(OSError):
                path.unlink()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
