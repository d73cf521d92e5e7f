"""Whether another profiler is at work: two in one process spoil each other, and counters are one's alone."""

from __future__ import annotations

import os
from pathlib import PurePath
from typing import Final

from rocscope.collectors.gpu_device import numbered
from rocscope.collectors.live_plan import PROFILER_LIBRARY, PROFILER_PROGRAMS, PROFILER_VARIABLES
from rocscope.doctor.check import Base, Finding
from rocscope.doctor.machine import Machine
from rocscope.errors import UsageError

_WRAPPERS: Final = 3  # words of a command in which a program's name may stand: python3 /usr/bin/rocprofv3
_EXPORTERS: Final = {  # of metrics, which may hold counters
    "amd-metrics-exporter",
    "dcgm-exporter",
    "gpuagent",
    "nv-hostengine",
    "omnistat-monitor",
    "rdcd",
}
_OURS: Final = "rocscope"
_MORE: Final = ("ROCPROFILER_METRICS_PATH", "ROCP_METRICS", "HSA_TOOLS_REPORT_LOAD_FAILURE")


class Environment(Base):
    """Variables that load a profiler into every process started here."""

    name = "environment"
    title = "Profiler loaded here"
    help = "LD_PRELOAD, HSA_TOOLS_LIB and ROCP_TOOL_LIBRARIES of this shell"
    order = 60

    def run(self, machine: Machine) -> Finding:
        """Look at the variables that ``rocscope profile`` refuses to add to."""
        values = {name: machine.environment.get(name, "") for name in (*PROFILER_VARIABLES, *_MORE)}
        set_ = {name: value for name, value in values.items() if value}
        loading = [name for name in PROFILER_VARIABLES if PROFILER_LIBRARY.search(values[name])]
        if loading:
            return self.fail(
                "; ".join(f"{name}={values[name]}" for name in loading),
                fix=f"unset {' '.join(loading)}",
                blocks=UsageError.exit_code,
                details={"variables": set_},
            )
        said = ", ".join(f"{name} is set" for name in set_)
        return self.ok(f"none; {said}" if said else "none", details={"variables": set_})


class Processes(Base):
    """Profilers and exporters that run on this machine."""

    name = "processes"
    title = "Other profilers"
    help = "profilers and metrics exporters among the running processes"
    order = 61

    def run(self, machine: Machine) -> Finding:
        """Read the command lines of all processes that can be seen."""
        profilers: list[str] = []
        exporters: list[str] = []
        folders = numbered(machine.at("proc"), "")
        skipped = _own(machine) if machine.own else set()
        for folder in folders:
            if int(folder.name) in skipped:
                continue
            words = machine.text(f"proc/{folder.name}/cmdline").split("\0")[:_WRAPPERS]
            names = [PurePath(word).name for word in words if word]
            if any(name in PROFILER_PROGRAMS and name != _OURS for name in names):
                profilers.append(f"{next(n for n in names if n in PROFILER_PROGRAMS)} (pid {folder.name})")
            elif names and names[0] in _EXPORTERS:
                exporters.append(f"{names[0]} (pid {folder.name})")
        details = {"profilers": profilers, "exporters": exporters, "processes_seen": len(folders)}
        if profilers:
            return self.warn(
                f"running: {', '.join(profilers)}",
                advice="wait until it has ended: counters are given to one profiler at a time",
                details=details,
            )
        if exporters:
            return self.warn(
                f"{', '.join(exporters)} may hold hardware counters",
                advice="stop it, or its profiling metrics, before --counters; times alone are not affected",
                details=details,
            )
        if not folders:
            return self.unknown("the processes cannot be seen", details=details)
        return self.ok(f"none among {len(folders)} processes", details=details)


def _own(machine: Machine) -> set[int]:
    """Return our own process and those it comes from: we may run under a profiler's shell."""
    found: set[int] = set()
    pid = os.getpid()
    while pid > 1 and pid not in found:
        found.add(pid)
        words = machine.text(f"proc/{pid}/stat").rpartition(")")[2].split()
        pid = int(words[1]) if len(words) > 1 and words[1].isdecimal() else 0
    return found


CHECKS = (Environment(), Processes())
