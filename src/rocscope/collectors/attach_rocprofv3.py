"""Attaching rocprofv3 to the GPU processes of a program that runs already (ROCm 7.1 and newer).

A program has to be started with ``ROCP_TOOL_ATTACH=1``: without it rocprofv3 says that it attached, exits
with 0 and writes nothing (seen with ROCm 7.2), so every precondition is looked at before.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rocscope.collectors.backend import Absent, Found, Request, describe, gpu_processes
from rocscope.collectors.run_rocprofv3 import Rocprofv3
from rocscope.errors import TargetError
from rocscope.launch.running import Running
from rocscope.launch.tree import Seen
from rocscope.launch.vllm import release

VARIABLE: Final = "ROCP_TOOL_ATTACH"
SINCE: Final = (1, 1)  # of the profiler's own numbering; ROCm 7.1
DETACH_S: Final = 120.0
BEGIN_S: Final = 2.0  # one that cannot attach says so at once


class AttachedRocprofv3(Rocprofv3):
    """One rocprofv3 for each process that uses a GPU; detached by the Enter key, as its manual says."""

    order: int | None = None

    def __init__(self, running: Running) -> None:
        self._running = running
        self._tools: dict[int, subprocess.Popen[bytes]] = {}
        self._log: Path | None = None

    def cannot(self, found: Found | Absent) -> list[str]:
        """Say why this way is closed, each with its remedy; empty where it is open."""
        if isinstance(found, Absent):
            return [f"{found.reason}: {found.hint}" if found.hint else found.reason]
        reasons = []
        version = release(found.version)
        if version is None or version < SINCE:
            reasons.append(
                f"rocprofv3 {found.version or 'of unknown version'} cannot attach: ROCm 7.1 and newer can"
            )
        running = self._running
        if running.process is None:
            return [*reasons, *running.may_trace()]
        if not running.readable:
            reasons.append("its environment may not be read: run as its user or as root")
        elif running.environment.get(VARIABLE) != "1":
            reasons.append(f"it was started without {VARIABLE}=1: rocprofv3 would attach and write nothing")
        if not self._processes():
            reasons.append("none of its processes uses a GPU")
        return reasons + running.may_trace()

    def _processes(self) -> list[Seen]:
        tree = self._running.tree()
        if tree is None:
            return []
        tree.refresh()
        return gpu_processes(tree.alive())

    def start(self, request: Request) -> None:
        """Attach to each GPU process. Raises :class:`TargetError` with what the tool said."""
        logs = request.raw.parent / "logs"
        for each in self._processes():
            words = (request.found.path, "--attach", str(each.pid), "--kernel-trace", "--memory-copy-trace")
            output = ("--output-format", "csv", "--output-directory", str(request.raw))
            name = ("--output-file", f"%hostname%/{each.pid}")
            with (logs / f"attach-{each.pid}.log").open("wb") as log:
                self._tools[each.pid] = subprocess.Popen(
                    (*words, *output, *name), stdin=subprocess.PIPE, stdout=log, stderr=log
                )
        time.sleep(BEGIN_S)
        for pid, tool in self._tools.items():
            if tool.poll() is not None:
                self._end()
                told = (logs / f"attach-{pid}.log").read_text(encoding="utf-8", errors="replace")
                raise TargetError(
                    f"rocprofv3 could not attach to process {pid}: {told.strip()[-300:] or 'no output'}",
                    "the server runs on; see rocscope doctor",
                )

    def stop(self, request: Request) -> None:
        """Detach from each, and wait until the files are written."""
        self._end()

    def _end(self) -> None:
        for tool in self._tools.values():
            if tool.stdin is not None:
                with contextlib.suppress(OSError):
                    tool.stdin.write(b"\n")
                    tool.stdin.close()
        end = time.monotonic() + DETACH_S
        for tool in self._tools.values():
            for number in (None, signal.SIGINT, signal.SIGKILL):
                if number is not None:
                    tool.send_signal(number)
                try:
                    tool.wait(max(1.0, end - time.monotonic()) if number is None else 10.0)
                    break
                except subprocess.TimeoutExpired:
                    continue

    def missing(self, request: Request, seen: Sequence[Seen]) -> list[str]:
        """Name the processes that were attached to and left no kernels."""
        traced = {
            int(path.name.split("_")[0])
            for path in request.raw.rglob("*_kernel_trace.csv")
            if path.name.split("_")[0].isdigit() and path.stat().st_size
        }
        names = {each.pid: describe(each) for each in seen}
        return [
            f"rocprofv3 attached to {names.get(pid, f'process {pid}')} and left no kernels"
            for pid in self._tools
            if pid not in traced
        ]
