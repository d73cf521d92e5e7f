"""The daemon's side of a child that works and ends: started, held to its limits, never left running."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from rocscope.daemon.confinement import Limits

ANSWER_BYTES: Final = 64 << 10
TAIL_BYTES: Final = 4096  # of what it writes on standard error
LOOK_S: Final = 0.5
GONE_S: Final = 5.0  # after SIGKILL
KEPT: Final = ("PATH", "HOME", "LANG", "LC_ALL", "PYTHONPATH", "XDG_CONFIG_HOME", "XDG_CACHE_HOME",
               "XDG_DATA_HOME", "XDG_STATE_HOME", "ROCSCOPE_CEILINGS", "TZ", "TZDIR")  # fmt: skip
_FEW_THREADS: Final = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}


def module(name: str) -> list[str]:
    """Return the command that runs a module of ours as a child."""
    return [sys.executable, "-P", "-m", name]


def kept_environment(more: Sequence[str] = ()) -> dict[str, str]:
    """Return what a child is told of our environment: not where systemd's credentials and sockets are."""
    return {name: os.environ[name] for name in (*KEPT, *more) if name in os.environ}


class Child:
    """One child: it is given orders on standard input and answers with one JSON object."""

    def __init__(
        self,
        command: Sequence[str],
        orders: Mapping[str, Any],
        limits: Limits,
        *,
        wall_s: float,
        folder: Path,
        folder_bytes: int,
    ) -> None:
        """``folder`` is where it writes, temporary files too, and must not grow by more than its bytes."""
        self._command, self._limits = command, limits
        self._orders = {**orders, "limits": limits.model_dump()}
        self._wall_s, self._folder, self._folder_bytes = wall_s, folder, folder_bytes
        self._process: asyncio.subprocess.Process | None = None
        self._why = ""

    @property
    def pid(self) -> int | None:
        """Its process, and group."""
        return self._process.pid if self._process is not None else None

    async def run(self) -> dict[str, Any]:
        """Run it; return its answer, or ``{"failed": reason}``. Cancelled, it is killed first."""
        temporary = self._folder / "tmp"
        await asyncio.to_thread(temporary.mkdir, 0o700, True, True)
        environment = kept_environment()
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._command, str(os.getpid()),
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
                start_new_session=True, cwd=self._folder, limit=ANSWER_BYTES,
                env={**environment, **_FEW_THREADS, "TMPDIR": str(temporary)},
            )  # fmt: skip
        except OSError as error:
            return {"failed": f"no process could be started: {error}"}
        talking = asyncio.create_task(self._talk())
        watching = asyncio.create_task(self._watch(await asyncio.to_thread(size, self._folder)))
        try:
            done, _ = await asyncio.wait({talking}, timeout=self._wall_s)
        finally:
            watching.cancel()
            self._kill()
            # it is listened to until it is gone: a full pipe would keep it from being seen as gone
            await asyncio.shield(asyncio.wait({talking}, timeout=GONE_S))
            talking.cancel()
        if not done:
            return {"failed": f"it did not end within {self._wall_s:g} s"}
        return self._judged(*talking.result())

    async def _talk(self) -> tuple[bytes, bytes]:
        process = self._process
        assert process is not None  # noqa: S101  # it was started
        told, answering, saying = process.stdin, process.stdout, process.stderr
        assert told and answering and saying  # noqa: S101  # they were asked for
        told.write(json.dumps(self._orders).encode() + b"\n")
        with contextlib.suppress(ConnectionError):
            await told.drain()
        told.close()
        answer, said = await asyncio.gather(_ends(answering), _ends(saying))
        await process.wait()
        return answer, said

    async def _watch(self, before: int) -> None:
        """End it as soon as what it wrote is too much."""
        while True:
            await asyncio.sleep(LOOK_S)
            grown = await asyncio.to_thread(size, self._folder) - before
            if grown > self._folder_bytes:
                self._why = f"it wrote {grown >> 20} MiB, of {self._folder_bytes >> 20} that it may"
                self._kill()
                return

    def _kill(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def _judged(self, answer: bytes, said: bytes) -> dict[str, Any]:
        assert self._process is not None  # noqa: S101  # it has ended
        code = self._process.returncode or 0
        if self._why:
            return {"failed": self._why}
        with contextlib.suppress(ValueError, RecursionError):
            found = json.loads(answer)
            if isinstance(found, dict) and code >= 0 and ("failed" in found or code == 0):
                return found
        if code == -signal.SIGXCPU:
            return {"failed": f"it needed more than {self._limits.cpu_s} s of CPU time"}
        lines = said.decode("utf-8", "replace").strip().splitlines()
        return {"failed": f"its process ended with {ending(code)}{f': {lines[-1][:300]}' if lines else ''}"}


async def _ends(stream: asyncio.StreamReader) -> bytes:
    """Read to the end; keep the last of it."""
    kept = b""
    while part := await stream.read(16 << 10):
        kept = (kept + part)[-ANSWER_BYTES:]
    return kept


def ending(code: int) -> str:
    """Say how a process ended."""
    if code >= 0:
        return f"code {code}"
    with contextlib.suppress(ValueError):
        return signal.Signals(-code).name
    return f"signal {-code}"


def size(folder: Path) -> int:
    """Return the bytes of all files below a folder, links not followed."""
    total, left = 0, [folder]
    while left:
        with contextlib.suppress(OSError), os.scandir(left.pop()) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    if entry.is_dir(follow_symlinks=False):
                        left.append(Path(entry.path))
                    else:
                        total += entry.stat(follow_symlinks=False).st_size
    return total
