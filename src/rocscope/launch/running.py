"""A server or program that runs already: found by its pid or URL, watched, never signalled."""

from __future__ import annotations

import contextlib
import json
import os
import re
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import psutil

from rocscope.errors import NotFound, PermissionMissing, TargetError, UsageError
from rocscope.launch import vllm
from rocscope.launch.readiness import Address
from rocscope.launch.tree import Tree

POLL_S: Final = 0.2
TORCH_VARIABLE: Final = "VLLM_TORCH_PROFILER_DIR"
CAP_SYS_PTRACE: Final = 19
LOCAL: Final = ("127.0.0.1", "localhost", "::1")


@dataclass
class Running:
    """What is attached to. ``process`` is ``None`` where it is on another machine, or not ours to see."""

    address: Address | None
    process: psutil.Process | None = None
    server: vllm.Server | None = None
    environment: dict[str, str] = field(default_factory=dict)  # empty where it may not be read
    readable: bool = False  # whether the environment could be read
    changed: threading.Event = field(default_factory=threading.Event)

    @property
    def running(self) -> bool:
        """Whether it still runs, as far as can be seen; of a server elsewhere, whether it listens."""
        if self.process is not None:
            with contextlib.suppress(psutil.Error):
                return self.process.is_running() and self.process.status() != psutil.STATUS_ZOMBIE
            return False
        return self.address is not None and self.address.listening()

    def wait(self, timeout_s: float) -> None:
        """Sleep until ``changed`` is set or the time is up."""
        self.changed.wait(min(timeout_s, POLL_S))

    @property
    def command(self) -> tuple[str, ...]:
        """The words it was started with; empty where they are not known."""
        if self.process is None:
            return ()
        with contextlib.suppress(psutil.Error):
            return tuple(self.process.cmdline())
        return ()

    @property
    def root(self) -> Path:
        """Where its file system begins as seen from here: another place where it runs in a container."""
        if self.process is None:
            return Path("/")
        theirs = Path(f"/proc/{self.process.pid}/root")
        with contextlib.suppress(OSError):
            if not theirs.samefile("/"):
                return theirs
        return Path("/")

    @property
    def trace_folder(self) -> Path | None:
        """Where its own PyTorch profiler writes, as seen from here; ``None`` where it has none."""
        text = self.environment.get(TORCH_VARIABLE, "")
        if self.server is not None:
            options = self.server.options
            with contextlib.suppress(ValueError, AttributeError):
                text = json.loads(options.get("--profiler-config", "")).get("torch_profiler_dir") or text
            text = options.get("--profiler-config.torch-profiler-dir", text)
            text = options.get("--profiler-config.torch_profiler_dir", text)
        if not text or "://" in text:
            return None
        place = Path(text)
        if not place.is_absolute():
            if self.process is None:
                return None
            with contextlib.suppress(psutil.Error):
                place = Path(self.process.cwd()) / place
        return self.root / place.relative_to("/") if place.is_absolute() else None

    def tree(self) -> Tree | None:
        """All its processes, to be sampled."""
        return None if self.process is None else Tree(self.process.pid, "attached")

    def may_trace(self) -> list[str]:
        """Say what forbids ptrace on it, each with its remedy; empty where nothing does."""
        if self.process is None:
            return ["the process is not on this machine, or not to be seen from here"]
        reasons = []
        privileged = bool(_effective_capabilities() & 1 << CAP_SYS_PTRACE)
        with contextlib.suppress(psutil.Error):
            owner = self.process.uids().real
            if owner != os.getuid() and not privileged:
                reasons.append(f"it belongs to user {owner}: run rocscope as that user or as root")
        scope = _ptrace_scope()
        if scope == 3:
            reasons.append("kernel.yama.ptrace_scope is 3: no process may be traced until the next boot")
        elif scope and not privileged:
            reasons.append(
                f"kernel.yama.ptrace_scope is {scope}: sysctl kernel.yama.ptrace_scope=0, or run as root "
                "(in a container with --cap-add=SYS_PTRACE)"
            )
        return reasons


def find(text: str) -> Running:
    """Find what ``text``, a pid or a URL, names.

    Of a worker's pid its server is taken; of a URL the local process that listens there, if it can be seen.
    Raises :class:`UsageError`, :class:`NotFound`, :class:`PermissionMissing` and :class:`TargetError`.
    """
    if re.fullmatch(r"\d{1,10}", text):
        return _by_pid(int(text))
    parts = urlsplit(text if "://" in text else f"http://{text}")
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError as error:
        raise UsageError(f"--attach {text}: {error}", "write --attach http://127.0.0.1:8000") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"--attach {text}: neither a pid nor a URL", "write --attach http://127.0.0.1:8000")
    address = Address(host=parts.hostname, port=port, tls=parts.scheme == "https")
    if not address.listening():
        raise TargetError(f"nothing listens at {address}", "is the server up, and the port right?")
    pid = _listener(port) if parts.hostname in LOCAL else None
    if pid is None:
        return Running(address)
    found = _by_pid(pid)
    found.address = address
    return found


def _by_pid(pid: int) -> Running:
    try:
        process = psutil.Process(pid)
        chain = [process, *process.parents()]
        commands = [(each, each.cmdline()) for each in chain if each.pid > 1]
    except psutil.NoSuchProcess as error:
        raise NotFound(f"no process {pid} on this machine", "see ps, or name the server's URL") from error
    except psutil.AccessDenied as error:
        raise PermissionMissing(
            f"process {pid} may not be looked at", "run as its user or as root"
        ) from error
    for each, words in commands:
        server = vllm.detect(words, None)
        if server is not None:
            environment, readable = _environment(each)
            return Running(server.address, each, server, environment, readable)
    environment, readable = _environment(process)
    return Running(None, process, None, environment, readable)


def _environment(process: psutil.Process) -> tuple[dict[str, str], bool]:
    try:
        return process.environ(), True
    except (psutil.Error, OSError):
        return {}, False


def _listener(port: int) -> int | None:
    with contextlib.suppress(psutil.Error, OSError):
        for each in psutil.net_connections("tcp"):
            if each.status == psutil.CONN_LISTEN and each.laddr and each.laddr.port == port and each.pid:
                return int(each.pid)
    return None


def _ptrace_scope() -> int:
    try:
        return int(Path("/proc/sys/kernel/yama/ptrace_scope").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0


def _effective_capabilities() -> int:
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("CapEff:"):
                return int(line.split()[1], 16)
    return 0
