"""All processes that come from one launched command, also those that left their parent or session."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil

MARK: Final = "ROCSCOPE_LAUNCH"
"""Environment variable that tells the processes of one launch from all others."""

GPU_DEVICES: Final = ("/dev/kfd", "/dev/dri/render", "/dev/nvidia")
"""A process that holds one of these open uses a GPU."""


@dataclass
class Seen:
    """One process as it was last seen. Names and command lines are the target's own, untrusted text."""

    pid: int
    created: float  # with the pid, the identity of a process
    parent: int
    name: str = ""  # cut at 15 characters by the kernel
    command: tuple[str, ...] = ()
    uses_gpu: bool = False
    process: psutil.Process = field(repr=False, default_factory=psutil.Process)

    @property
    def alive(self) -> bool:
        """Whether it still runs; a zombie does not."""
        try:
            return self.process.is_running() and self.process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False


class Tree:
    """Remembers every descendant of ``root`` that ``refresh`` saw, by pid and time of creation."""

    def __init__(self, root: int, mark: str) -> None:
        self._root = root
        self._mark = mark
        self._seen: dict[tuple[int, float], Seen] = {}
        self._lock = threading.RLock()  # the sampler looks too, and a signal handler may come in between

    def refresh(self) -> None:
        """Look for new processes, by parent and by session, and for changed names of known ones."""
        with self._lock:
            self._refresh()

    def _refresh(self) -> None:
        children: dict[int, list[int]] = {}
        wanted = [self._root, *(each.pid for each in self._seen.values())]
        for pid, parent, session in _processes():
            children.setdefault(parent, []).append(pid)
            if session == self._root:
                wanted.append(pid)
        found: set[int] = set()
        while wanted:
            pid = wanted.pop()
            if pid not in found:
                found.add(pid)
                wanted += children.get(pid, [])
        for pid in sorted(found):
            self._look(pid)

    def sweep(self) -> None:
        """Find also processes that left both parent and session, by the mark in their environment."""
        with self._lock:
            self._refresh()
            known = {each.pid for each in self._seen.values()}
            for pid, _, _ in _processes():
                if pid not in known and pid != os.getpid() and self._marked(pid):
                    self._look(pid)

    def _look(self, pid: int) -> None:
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(pid)
            key = (pid, process.create_time())
            if key not in self._seen and not self._ours(process):
                return
            known = self._seen.setdefault(
                key, Seen(pid=pid, created=key[1], parent=process.ppid(), process=process)
            )
            with process.oneshot():
                known.name = process.name() or known.name
                known.command = tuple(process.cmdline()) or known.command
            known.uses_gpu = known.uses_gpu or _uses_gpu(pid)

    def _ours(self, process: psutil.Process) -> bool:
        """Guard against a pid that was used again: only children of ours, session or mark count."""
        if process.pid == self._root:
            return True
        if process.ppid() in {each.pid for each in self._seen.values()}:
            return True
        with contextlib.suppress(OSError):
            if os.getsid(process.pid) == self._root:
                return True
        return self._marked(process.pid)

    def _marked(self, pid: int) -> bool:
        with contextlib.suppress(OSError):
            return f"{MARK}={self._mark}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        return False

    def all(self) -> list[Seen]:
        """Return every process ever seen, oldest first."""
        with self._lock:
            return sorted(self._seen.values(), key=lambda each: (each.created, each.pid))

    def alive(self) -> list[Seen]:
        """Return those that still run, oldest first."""
        return [each for each in self.all() if each.alive]

    def signal(self, number: signal.Signals) -> int:
        """Send a signal to every process that still runs, youngest first; return to how many."""
        sent = 0
        for each in reversed(self.alive()):
            with contextlib.suppress(psutil.Error):
                each.process.send_signal(number)
                sent += 1
        return sent


def _processes() -> Iterator[tuple[int, int, int]]:
    """Give (pid, parent, session) of all processes; the name in ``stat`` may hold spaces and parentheses."""
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                stat = Path(entry.path, "stat").read_bytes()
                fields = stat[stat.rindex(b")") + 2 :].split()
                yield int(entry.name), int(fields[1]), int(fields[3])


def _uses_gpu(pid: int) -> bool:
    with contextlib.suppress(OSError), os.scandir(f"/proc/{pid}/fd") as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                if str(Path(entry.path).readlink()).startswith(GPU_DEVICES):
                    return True
    return False
