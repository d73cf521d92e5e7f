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
import signal
import sys
import threading
from pathlib import Path
from typing import IO, Any, Final

from pydantic import BaseModel, ConfigDict

from rocscope.collectors import live_attach
from rocscope.config import ProfileOptions
from rocscope.errors import RocscopeError, TargetError
from rocscope.launch import running

PR_SET_PDEATHSIG: Final = 1
LEAVINGS: Final = ("*.pt.trace.json", "*.pt.trace.json.gz", "profiler_out_*.txt", "*.profiler_out.txt")
CAPTURE: Final = "capture"


class Orders(BaseModel):
    """What the daemon wants."""

    model_config = ConfigDict(extra="forbid", strict=True)

    engine: str  # URL
    window_s: float
    way: str  # of live_attach.WAYS, or auto
    out: str  # folder, not there yet
    lock: str  # file that is held while the profiler may be on
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
    folder = options.traces or running.find(orders.engine).trace_folder
    before = _files(folder)
    try:
        recorded = live_attach.record(options, at=lambda moment: told(moment=moment))
    finally:
        _clear(folder, before)
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


def _files(folder: Path | None) -> dict[Path, int]:
    """Return what the engine's profiler has left in its folder, by time of change."""
    found: dict[Path, int] = {}
    if folder is None or not folder.is_dir():
        return found
    for pattern in LEAVINGS:
        for path in folder.rglob(pattern):
            with contextlib.suppress(OSError):
                if path.is_file() and not path.is_symlink():
                    found[path] = path.stat().st_mtime_ns
    return found


def _clear(folder: Path | None, before: dict[Path, int]) -> None:
    """Remove what this window made there, which was copied: every quarter of an hour it would add up."""
    for path, changed in _files(folder).items():
        if before.get(path) != changed:
            with contextlib.suppress(OSError):
                path.unlink()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
