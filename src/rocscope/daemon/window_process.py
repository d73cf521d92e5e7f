"""The daemon's side of a window's process: starts it, follows what it says, ends it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final

from rocscope.daemon.child_process import ending, kept_environment

CHILD: Final = "rocscope.daemon.window_child"
MAX_LINE_BYTES: Final = 1 << 20  # a longer one is left out
ROCM: Final = ("ROCM_PATH", "HIP_PATH", "LD_LIBRARY_PATH", "TMPDIR")  # by which rocprofv3 is found and runs
KILL_S: Final = 5.0
SLACK_S: Final = 60.0  # to start and import, and for the engine to start its profiler
_PIECE: Final = 64 << 10
_LOG_BYTES: Final = 64 << 10


class WindowProcess:
    """One window's process, from its start until nothing of it is left."""

    def __init__(self, orders: dict[str, Any], log: Path, moment: Callable[[str], None]) -> None:
        self._orders, self._log, self._moment = orders, log, moment
        self._process: asyncio.subprocess.Process | None = None
        self.outcome: dict[str, Any] = {}  # its last message that is no moment
        self.stopped = False  # it said that the profiler is off again, or never started it
        self.moments: list[str] = []

    @property
    def pid(self) -> int | None:
        """Its process, and group."""
        return self._process.pid if self._process is not None else None

    async def start(self) -> None:
        """Start it. Raises ``OSError`` where that cannot be done."""
        descriptor = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        try:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-P", "-m", CHILD, str(os.getpid()),
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=descriptor,
                start_new_session=True, env=kept_environment(ROCM),
            )  # fmt: skip
        finally:
            os.close(descriptor)
        assert self._process.stdin is not None  # noqa: S101  # it was asked for
        self._process.stdin.write(json.dumps(self._orders).encode() + b"\n")
        with contextlib.suppress(ConnectionError):
            await self._process.stdin.drain()

    async def follow(self) -> dict[str, Any]:
        """Take what it says until it ends; return what came of it, ``{"failed": ...}`` where it says none."""
        assert self._process is not None  # noqa: S101  # it was started
        assert self._process.stdout is not None  # noqa: S101  # it was asked for
        async for line in _lines(self._process.stdout):
            self._take(line)
        code = await self._process.wait()
        self.stopped = self.stopped or "starting" not in self.moments
        if "done" in self.outcome or "failed" in self.outcome:
            return self.outcome
        return {"failed": f"the window's process ended with {ending(code)}{self._said()}"}

    def _take(self, line: bytes) -> None:
        with contextlib.suppress(ValueError, RecursionError):
            message = json.loads(line)
            if not isinstance(message, dict):
                return
            moment = message.get("moment")
            if moment is None:
                self.outcome = message
                return
            self.moments.append(str(moment))
            self.stopped = moment == "stopped"
            self._moment(str(moment))

    def end(self) -> None:
        """Have it stop the profiler now, and end."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()

    async def kill(self) -> None:
        """End it by force, with all that it started. The engine's profiler may then still be on."""
        if self._process is None:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), KILL_S)
                break
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)  # what it left of its group
        # our ends of its pipes, which nobody may read any more and others may hold open
        self._process._transport.close()  # type: ignore[attr-defined]  # no public way

    def _said(self) -> str:
        with contextlib.suppress(OSError):
            with self._log.open("rb") as stream:
                lines = stream.read(_LOG_BYTES).decode("utf-8", "replace").strip().splitlines()
            return f": {lines[-1][:300]}" if lines else ""
        return ""


async def _lines(stream: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """Give the lines of a child to its end: one that is not read on is never seen as gone."""
    rest, skips = b"", False
    while piece := await stream.read(_PIECE):
        *whole, rest = (rest + piece).split(b"\n")
        for line in whole:
            if not skips:
                yield line
            skips = False
        if skips or len(rest) > MAX_LINE_BYTES:
            rest, skips = b"", True
