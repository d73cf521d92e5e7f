"""What a container or a slice of the system leaves: processors, memory, shared memory, processes."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any, Final

from rocscope.doctor.check import Base, Finding
from rocscope.doctor.machine import Machine

_GIB: Final = 1 << 30
_SHM: Final = "/dev/shm"  # noqa: S108  # looked at, not written to
_LEAST_MEMORY: Final = 16 * _GIB
_LEAST_SHARED: Final = 1 * _GIB
_LEAST_PROCESSES: Final = 2048
_V1: Final = {"cpu": "cpu", "memory": "memory", "pids": "pids"}
_SIZE: Final = re.compile(r"(?:^|,)size=(\d+)([kmgt%]?)")
_UNITS: Final = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


class Limits(Base):
    """The limits of our control groups, the narrowest of each."""

    name = "limits"
    title = "Container limits"
    help = "processors, memory and processes that control groups allow, and the size of /dev/shm"
    order = 50

    def run(self, machine: Machine) -> Finding:
        """Read the limits from our group up to the root."""
        folders = list(_groups(machine))
        cpus = _least(_cpus(machine, folder) for folder in folders)
        memory = _least(
            _limit(machine, folder, name)
            for folder in folders
            for name in ("memory.max", "memory.limit_in_bytes")
        )
        processes = _least(_limit(machine, folder, "pids.max") for folder in folders)
        usable = len(os.sched_getaffinity(0)) if machine.own else None
        shared = _shared(machine)
        gpus = len(machine.gpus)
        inside = _container(machine)
        details: dict[str, Any] = {
            "container": inside,
            "cpus": cpus,
            "usable_cpus": usable,
            "memory_bytes": memory,
            "processes": processes,
            "shared_memory_bytes": shared,
        }
        count = min([each for each in (cpus, usable) if each is not None], default=None)
        troubles: list[tuple[str, str]] = []
        if count is not None and gpus and count < gpus + 2:
            troubles.append((f"{count:g} processors for {gpus} GPUs", "--cpus"))
        if memory is not None and memory < _LEAST_MEMORY:
            troubles.append((f"{memory / _GIB:.3g} GiB of memory", "--memory"))
        if processes is not None and processes < _LEAST_PROCESSES:
            troubles.append((f"{processes:g} processes and threads", "--pids-limit"))
        if shared is not None and shared < _LEAST_SHARED and gpus:
            troubles.append((f"{_SHM} of {shared / (1 << 20):.4g} MiB", "--ipc=host or --shm-size=16g"))
        if troubles:
            return self.warn(
                "; ".join(text for text, _ in troubles),
                advice=f"start the container with more: {', '.join(option for _, option in troubles)}"
                if inside
                else "limits of this service or session: see systemctl status and the mount of /dev/shm",
                details=details,
            )
        parts = [f"{count:g} processors" if count is not None else "all processors"]
        parts.append(f"{memory / _GIB:.4g} GiB" if memory is not None else "all memory")
        parts.append(f"{_SHM} {shared / _GIB:.3g} GiB" if shared is not None else f"size of {_SHM} unknown")
        return self.ok(f"{'in a container: ' if inside else ''}{', '.join(parts)}", details=details)


def _groups(machine: Machine) -> Iterator[str]:
    """Give the folders of our control groups, innermost first; inside a container the root is our own."""
    found: dict[str, None] = {}
    for line in machine.text("proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0":
            bases = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"]
        else:
            bases = [f"/sys/fs/cgroup/{_V1[each]}" for each in controllers.split(",") if each in _V1]
        inside = PurePosixPath("/" + path.strip().lstrip("/"))
        for base in bases:
            for part in (inside, *inside.parents):
                found[base + ("" if str(part) == "/" else str(part))] = None
    yield from found or {"/sys/fs/cgroup": None}


def _limit(machine: Machine, folder: str, name: str) -> float | None:
    value = machine.number(f"{folder}/{name}")  # "max" is no number
    return (
        None if value is None or value >= 1 << 60 else float(value)
    )  # how version 1 says that there is none


def _cpus(machine: Machine, folder: str) -> float | None:
    quota, _, period = machine.text(f"{folder}/cpu.max").partition(" ")
    if quota.isdecimal() and period.isdecimal() and int(period):
        return int(quota) / int(period)
    old = machine.number(f"{folder}/cpu.cfs_quota_us"), machine.number(f"{folder}/cpu.cfs_period_us")
    return old[0] / old[1] if old[0] and old[0] > 0 and old[1] else None


def _least(values: Iterator[float | None]) -> float | None:
    return min((each for each in values if each is not None), default=None)


def _shared(machine: Machine) -> float | None:
    """Return the size of /dev/shm: that of its mount, else what the system tells."""
    for line in machine.text("proc/self/mountinfo").splitlines():
        words = line.split(" ")
        match = _SIZE.search(words[-1])
        if len(words) > 5 and words[4] == _SHM and match and match[2] in _UNITS:
            return float(int(match[1]) * _UNITS[match[2]])
    if not machine.own:
        return None
    try:
        found = os.statvfs(_SHM)
    except OSError:
        return None
    return float(found.f_blocks * found.f_frsize)


def _container(machine: Machine) -> bool:
    marks = (".dockerenv", "run/.containerenv")
    named = re.search(r"docker|kubepods|containerd|libpod|lxc", machine.text("proc/self/cgroup"))
    return bool(named) or any(machine.at(mark).exists() for mark in marks)


CHECKS = (Limits(),)
