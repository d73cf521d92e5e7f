"""Samples of the host side of a run: CPU, memory, threads and I/O of every process, and of the machine."""

from __future__ import annotations

import contextlib
import threading
import time

import psutil

from rocscope.collectors.sampling import MAX_ROWS, STOP_DEADLINE_S, Readings
from rocscope.launch.clocks import now_ns
from rocscope.launch.tree import Seen, Tree


class HostSampler:
    """A thread that samples the processes of a tree ``hz`` times a second, and counts what it costs.

    ``cpu_frac`` of a process is of one core, of the host of all cores.
    """

    name = "host sampler"

    def __init__(self, tree: Tree, hz: float) -> None:
        self._tree = tree
        self._period_s = 1 / hz
        self.readings = Readings()
        self.notices: list[tuple[str, str]] = []
        self._cpu_s: dict[tuple[int, float], tuple[float, int]] = {}
        self._host: tuple[float, float] | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="host-sampler", daemon=True)
        self._thread.start()

    def stop(self) -> bool:
        """End sampling; tell whether the thread ended before the deadline."""
        self._stop.set()
        self._thread.join(STOP_DEADLINE_S)
        return not self._thread.is_alive()

    def _run(self) -> None:
        due = time.monotonic()
        while len(self.readings) < MAX_ROWS:
            self._sample()
            due = max(due + self._period_s, time.monotonic())  # late ticks are skipped, not made up for
            if self._stop.wait(max(0.0, due - time.monotonic())):
                return

    def _sample(self) -> None:
        self._tree.refresh()
        now = now_ns()
        self._sample_host(now)
        for each in self._tree.alive():
            with contextlib.suppress(psutil.Error):
                self._sample_process(now, each)
        self._add(now, "rocscope", "sampler_cpu_s", time.thread_time())

    def _sample_host(self, now: int) -> None:
        times = psutil.cpu_times()
        idle = times.idle + getattr(times, "iowait", 0.0)
        total = sum(times[:8])  # guest time is counted in user time already
        if self._host is not None and total > self._host[0]:
            frac = 1 - (idle - self._host[1]) / (total - self._host[0])
            self._add(now, "host", "cpu_frac", min(1.0, max(0.0, frac)))
        self._host = (total, idle)
        memory = psutil.virtual_memory()
        self._add(now, "host", "memory_used_bytes", memory.total - memory.available)
        self._add(now, "host", "memory_available_bytes", memory.available)

    def _sample_process(self, now: int, each: Seen) -> None:
        subject = f"process:{each.pid}:{each.name}"
        process = each.process
        with process.oneshot():
            cpu = process.cpu_times()
            used = cpu.user + cpu.system
            before = self._cpu_s.get((each.pid, each.created))
            if before is not None and now > before[1]:
                self._add(now, subject, "cpu_frac", max(0.0, (used - before[0]) / (now - before[1]) * 1e9))
            self._cpu_s[(each.pid, each.created)] = (used, now)
            self._add(now, subject, "rss_bytes", process.memory_info().rss)
            self._add(now, subject, "threads", process.num_threads())
        with contextlib.suppress(psutil.AccessDenied, OSError):
            io = process.io_counters()
            self._add(now, subject, "io_read_bytes", io.read_chars)
            self._add(now, subject, "io_write_bytes", io.write_chars)

    def _add(self, now: int, subject: str, metric: str, value: float) -> None:
        self.readings.add(now, "host", subject, metric, value)
