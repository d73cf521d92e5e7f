"""Attaching through vLLM's own PyTorch profiler: its endpoints, and the traces that it writes."""

from __future__ import annotations

import os
import shutil
import stat
import time
from pathlib import Path
from typing import Final

from rocscope.collectors.backend import Request
from rocscope.collectors.run_torch import Torch
from rocscope.errors import PermissionMissing, TargetError
from rocscope.launch.running import Running
from rocscope.launch.vllm import PROFILER_CONFIG_SINCE, release

SETTLE_S: Final = 60.0
STEADY_S: Final = 1.0
CHUNK_BYTES: Final = 1 << 20
CONFIG: Final = '--profiler-config \'{"profiler":"torch","torch_profiler_dir":"/tmp/traces"}\''


class AttachedTorch(Torch):
    """Starts and stops the profiler of a server that runs already, and copies what it wrote."""

    def __init__(self, running: Running, traces: Path | None) -> None:
        self._running = running
        self._traces = traces or running.trace_folder
        self._before: dict[Path, tuple[int, int]] = {}

    def cannot(self, version: str | None) -> list[str]:
        """Say why this way is closed, each with its remedy; empty where it is open."""
        running = self._running
        if running.address is None:
            return ["the process is no vLLM server that we know, so it has no profiler of its own to ask"]
        if self._traces is None:
            if running.server is None:
                return ["where the server writes its traces is not to be seen from here: say --traces FOLDER"]
            known = release(version)
            how = "VLLM_TORCH_PROFILER_DIR=/tmp/traces" if known and known < PROFILER_CONFIG_SINCE else CONFIG
            return [f"the server was started without a profiler: start it with {how}"]
        try:
            next(iter(self._traces.iterdir()), None) if self._traces.exists() else None
        except PermissionError:
            return [f"{self._traces}, where the server writes its traces, may not be read: run as its user"]
        return []

    def start(self, request: Request) -> None:
        """Note what is there already, then ask the server to begin."""
        self._before = self._files()
        super().start(request)

    def stop(self, request: Request) -> None:
        """Ask the server to end, wait until its files stop growing, copy the new ones."""
        super().stop(request)
        target = request.raw / "torch"
        target.mkdir(parents=True, exist_ok=True)
        for path in self._settled():
            try:
                _copy(path, target / path.name)
            except OSError as error:
                raise PermissionMissing(
                    f"{path}: {error.strerror}", "read it as the server's user: rocscope analyze FOLDER"
                ) from error

    def _files(self) -> dict[Path, tuple[int, int]]:
        if self._traces is None or not self._traces.is_dir():
            return {}
        found = {}
        for path in self._traces.rglob("*.pt.trace.json*"):
            try:
                state = path.lstat()
            except OSError:
                continue
            if not stat.S_ISREG(state.st_mode):  # a link may lead to what the server itself may not read
                continue
            found[path] = (state.st_size, state.st_mtime_ns)
        return found

    def _settled(self) -> list[Path]:
        end = time.monotonic() + SETTLE_S
        last: dict[Path, tuple[int, int]] = {}
        since = time.monotonic()
        while time.monotonic() < end:
            now = {path: state for path, state in self._files().items() if self._before.get(path) != state}
            if now != last:
                last, since = now, time.monotonic()
            elif now and time.monotonic() - since >= STEADY_S:
                return sorted(now)
            time.sleep(0.1)
        if not last:
            raise TargetError(
                f"the server said that it stopped its profiler, and wrote nothing new into {self._traces}",
                "see the server's log; another folder? say --traces FOLDER",
            )
        return sorted(last)


def _copy(path: Path, place: Path) -> None:
    """Copy a file that is one: no link is followed, no pipe is waited for."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as source, place.open("wb") as out:  # noqa: PTH123  # of a descriptor
        shutil.copyfileobj(source, out, CHUNK_BYTES)
