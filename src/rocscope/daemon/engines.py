"""Which vLLM servers there are on this node: those that the settings name, and those that run.

A process's command is what its owner wrote: it is read for an address and nothing else, and an address counts
only where it is this machine's own. Whoever asks more of a server than to read it looks at ``pid``,
``started_ticks`` and ``uid`` first.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from rocscope.daemon.settings import Engines as EngineSettings
from rocscope.launch import vllm

MOST: Final = 16
LONGEST: Final = 65_536  # bytes of a command line
FULL_EVERY: Final = 20  # scans; in between only processes that are new are read
_YOUNG: Final = 4  # scans for which a process is new: a shell becomes the server that it starts
_NAMES: Final = (b"vllm",)


@dataclass(frozen=True)
class Engine:
    """One server to watch."""

    url: str  # its base, without a slash at the end; what names it everywhere
    name: str = ""  # as the settings call it
    socket_path: str = ""
    model: str = ""  # as its command or the settings name it: a folder, a file or a name
    traces: Path | None = None  # where its profiler writes, as seen from here, where that is known
    pid: int | None = None  # of the API server; ``None`` where no process was found for it
    created_s: float | None = None
    started_ticks: int | None = None  # with the pid, the identity of a process; see :func:`started_ticks`
    uid: int | None = None
    tensor_parallel: int | None = None
    configured: bool = False

    @property
    def subject(self) -> str:
        """Name of its series."""
        return f"engine:{self.url}"


class Discovery:
    """Finds servers in the process table; a scan costs a listing of it, and a read of what is new."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self.foreign: list[str] = []  # addresses of other machines that commands named
        self._proc = proc
        self._seen: dict[str, int] = {}  # scans for which a pid is known
        self._servers: dict[str, Engine] = {}  # by pid
        self._scans = 0

    def scan(self) -> list[Engine]:
        """Return the servers that run now, one for each address."""
        whole = self._scans % FULL_EVERY == 0
        self._scans += 1
        pids = [entry.name for entry in os.scandir(self._proc) if entry.name.isdigit()]
        seen = {pid: self._seen.get(pid, 0) + 1 for pid in pids}
        self._seen = seen
        self.foreign = []
        self._servers = {
            pid: engine
            for pid in pids
            if (whole or seen[pid] <= _YOUNG or pid in self._servers) and (engine := self._read(pid))
        }
        return self._one_each()

    def _read(self, pid: str) -> Engine | None:
        """Return the server that a process is, if it is one."""
        with contextlib.suppress(OSError, ValueError, psutil.Error):
            with (self._proc / pid / "cmdline").open("rb") as stream:
                raw = stream.read(LONGEST)
            if not any(name in raw for name in _NAMES):
                return None
            words = [word.decode("utf-8", "replace") for word in raw.rstrip(b"\0").split(b"\0")]
            server = vllm.detect(self._absolute(pid, words), path=None)
            if server is None:
                return None
            address = server.address
            if not address.socket_path and not is_ours(address.host):
                self.foreign.append(f"{address.host}:{address.port}")
                return None
            process = psutil.Process(int(pid))
            return Engine(
                url=f"unix:{address.socket_path}" if address.socket_path else address.url,
                socket_path=address.socket_path,
                model=server.model or "",
                pid=int(pid),
                created_s=process.create_time(),
                started_ticks=started_ticks(int(pid)),
                uid=process.uids().real,
                tensor_parallel=server.tensor_parallel,
            )
        return None

    def _absolute(self, pid: str, words: list[str]) -> list[str]:
        """Put the process's folder in front of a ``--config`` that is relative to it, where we may see it."""
        for index, word in enumerate(words[:-1]):
            if word == "--config" and not words[index + 1].startswith("/"):
                with contextlib.suppress(OSError):
                    folder = (self._proc / pid / "cwd").readlink()
                    return [*words[: index + 1], str(folder / words[index + 1]), *words[index + 2 :]]
        return words

    def _one_each(self) -> list[Engine]:
        """Drop wrappers: of the processes with one address, the last child is the server."""
        chosen: dict[str, Engine] = {}
        for engine in sorted(self._servers.values(), key=lambda each: (each.created_s or 0, each.pid or 0)):
            chosen[engine.url] = engine  # a child is younger than what started it
        return sorted(chosen.values(), key=lambda each: each.url)[:MOST]


def started_ticks(pid: int) -> int | None:
    """Return when a process began, in the kernel's ticks since boot; ``None`` where there is none.

    As a Unix time it would change with the wall clock: psutil adds the boot's time as it is told at the time.
    """
    with contextlib.suppress(OSError, ValueError, IndexError):
        told = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        return int(
            told.rpartition(")")[2].split()[19]
        )  # field 22 of proc_pid_stat(5); a name may hold anything
    return None


def is_ours(host: str) -> bool:
    """Whether an address is one of this machine."""
    if host == "localhost":
        return True
    try:
        wanted = ipaddress.ip_address(host)
    except ValueError:
        return False  # a name could be anyone's tomorrow
    if wanted.is_loopback:
        return True
    own = (
        each.address.partition("%")[0]
        for addresses in psutil.net_if_addrs().values()
        for each in addresses
        if each.family in (socket.AF_INET, socket.AF_INET6)
    )
    return any(wanted == ipaddress.ip_address(each) for each in own)


def wanted(settings: EngineSettings, running: Iterable[Engine]) -> list[Engine]:
    """Return what is to be watched: the settings' servers, with what their processes tell, and others."""
    found = {engine.url: engine for engine in running}
    chosen: dict[str, Engine] = {}
    for each in settings.known:
        url = each.url.rstrip("/")
        process = found.get(url) or found.get(url.replace("://localhost", "://127.0.0.1")) or Engine(url)
        chosen[url] = Engine(
            url=url,
            name=each.name or "",
            model=str(each.model) if each.model else process.model,
            traces=each.traces,
            pid=process.pid,
            created_s=process.created_s,
            started_ticks=process.started_ticks,
            uid=process.uid,
            tensor_parallel=process.tensor_parallel,
            configured=True,
        )
        found.pop(process.url, None)
    if settings.discover:
        chosen |= {url: engine for url, engine in found.items() if url not in chosen}
    return list(chosen.values())[: max(MOST, len(settings.known))]
