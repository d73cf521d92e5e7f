"""The host's CPU, memory and disk, and what the daemon itself costs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import psutil

from rocscope.daemon.part import Part

if TYPE_CHECKING:
    from rocscope.daemon.context import Context

SOURCE: Final = "host"
SUBJECT: Final = "host"
OWN: Final = "daemon"  # source and subject of what we cost ourselves
SLOW_S: Final = 10.0  # between looks at the disk and at ourselves
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


class Cost(NamedTuple):
    """What processes used: CPU time so far, and resident memory."""

    cpu_s: float
    rss_bytes: float


class HostSource(Part):
    """Reads the host at the pace, and every ten seconds its disk, the daemon and the daemon's children."""

    name = "host"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._stopping = asyncio.Event()
        self._before: tuple[float, float] | None = None
        self._slow_due_s = 0.0
        self._own: tuple[float, float] | None = None
        self._lag_s = 0.0
        self._children_cpu_s = 0.0

    async def run(self) -> None:
        """Read until told to stop."""
        clock, pace = self.context.clock, self.context.pace
        due = clock.monotonic_s()
        while not self._stopping.is_set():
            now = clock.monotonic_s()
            self._lag_s = max(self._lag_s, now - due)  # how late the event loop woke us
            if self.context.settings.sampling.host:
                self._read_host(now)
            if now >= self._slow_due_s:
                self._slow_due_s = now + SLOW_S
                await self._read_slow(now)
            due = max(due + pace.period_s, clock.monotonic_s())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, due - clock.monotonic_s())):
                    await self._stopping.wait()

    async def stop(self) -> None:
        """End it."""
        self._stopping.set()

    def _read_host(self, now: float) -> None:
        values: dict[str, float] = {}
        times = psutil.cpu_times()
        idle = times.idle + getattr(times, "iowait", 0.0)
        total = sum(times[:8])  # guest time is counted in user time already
        if self._before is not None and total > self._before[0]:
            busy = 1 - (idle - self._before[1]) / (total - self._before[0])
            values["cpu_frac"] = min(1.0, max(0.0, busy))
        self._before = (total, idle)
        memory = psutil.virtual_memory()
        values["memory_used_bytes"] = float(memory.total - memory.available)
        values["memory_available_bytes"] = float(memory.available)
        self.context.history.add_all(now, SOURCE, SUBJECT, values)

    async def _read_slow(self, now: float) -> None:
        with contextlib.suppress(OSError):
            disk = await asyncio.to_thread(os.statvfs, self.context.settings.state.folder)
            free = float(disk.f_bavail * disk.f_frsize)
            self.context.history.add(now, SOURCE, SUBJECT, "disk_free_bytes", free)
        own, children = own_cost(), children_cost()
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        # one that ends between the two is in both, and the kernel counts those that run in whole ticks
        cpu_s = children.cpu_s + ended.ru_utime + ended.ru_stime
        self._children_cpu_s = max(self._children_cpu_s, cpu_s)
        values = {
            "cpu_s": own.cpu_s,
            "rss_bytes": own.rss_bytes,
            "children_cpu_s": self._children_cpu_s,
            "children_rss_bytes": children.rss_bytes,
            "loop_lag_s": self._lag_s,
        }
        self._lag_s = 0.0
        if self._own is not None and now > self._own[0]:
            values["cpu_frac"] = (own.cpu_s - self._own[1]) / (now - self._own[0])
        self._own = (now, own.cpu_s)
        self.context.history.add_all(now, OWN, OWN, values)
        self._watch_cost(now, own)
        self.context.history.prune()

    def _watch_cost(self, now: float, own: Cost) -> None:
        """Hold what is resident, ourselves and the telemetry process, against its limit."""
        telemetry = self.context.part("telemetry")
        resident_s = own.cpu_s + ((telemetry.cpu_s or 0.0) if telemetry else 0.0)
        changed = self.context.pace.seen(now, resident_s)
        if changed:
            self.context.events.note("pace", changed)


def own_cost() -> Cost:
    """Return the cost of this process."""
    return Cost(time.process_time(), _rss_bytes("self"))


def children_cost() -> Cost:
    """Return the cost of the children that run now; zero where the kernel does not list them."""
    found = [_cost(pid) for pid in children()]
    return Cost(sum(each.cpu_s for each in found), sum(each.rss_bytes for each in found))


def children() -> list[str]:
    """Return the pids of the direct children that run now."""
    found: list[str] = []
    with contextlib.suppress(OSError):
        for task in os.scandir("/proc/self/task"):
            with contextlib.suppress(OSError):  # a thread that ended
                found += Path(task.path, "children").read_text(encoding="ascii").split()
    return found


def _cost(pid: str) -> Cost:
    try:
        stat = Path("/proc", pid, "stat").read_bytes()
    except OSError:
        return Cost(0.0, 0.0)
    fields = stat[stat.rindex(b")") + 2 :].split()
    return Cost((int(fields[11]) + int(fields[12])) / _TICKS_PER_S, _rss_bytes(pid))


def _rss_bytes(pid: str) -> float:
    try:
        return float(Path("/proc", pid, "statm").read_bytes().split()[1]) * _PAGE_BYTES
    except OSError:
        return 0.0


PART: Final = HostSource
