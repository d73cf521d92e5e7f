"""Runs rocprofv2 (ROCm 5.5 to 6.4; deprecated since): its file plugin writes one CSV a process."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from rocscope.collectors.backend import (
    Absent,
    Base,
    Found,
    Plan,
    Request,
    describe,
    find_program,
    gpu_processes,
)
from rocscope.collectors.counter_input import metrics_xml, pmc_text
from rocscope.launch.tree import Seen

_FILE: Final = re.compile(r"results_(\d+)\.csv")


class Rocprofv2(Base):
    """Kernel trace of all processes."""

    name = "rocprofv2"
    help = "AMD's rocprofv2 (ROCm 5.5 to 6.4)"
    order = 2
    counts = True
    in_place = False

    def find(self, environment: Mapping[str, str], argument: str) -> Found | Absent:
        """Look for ``rocprofv2``."""
        return find_program("rocprofv2", environment)

    def plan(self, request: Request) -> Plan:
        """Trace kernels, or take counters.

        There is no ``-o``: named output would be one file that all processes overwrite.
        """
        what: tuple[str, ...] = ("--kernel-trace",)
        files: dict[Path, str] = {}
        if request.counting is not None:
            files[request.raw / "counters.txt"] = pmc_text(request.counting)
            what = ("-i", str(request.raw / "counters.txt"))
            if definitions := metrics_xml(request.counting):
                files[request.raw / "metrics.xml"] = definitions
                what += ("-m", str(request.raw / "metrics.xml"))
        return Plan(
            files=files,
            command=(
                request.found.path,
                *what,
                "--plugin",
                "file",
                "-d",
                str(request.raw),
                *request.command,
            ),
        )

    def outputs(self, request: Request) -> list[Path]:
        """Return the kernel tables."""
        return sorted(path for path in request.raw.rglob("results_*.csv") if path.stat().st_size)

    def missing(self, request: Request, seen: Sequence[Seen]) -> list[str]:
        """Find GPU processes without a table."""
        wrote = {int(match[1]) for path in self.outputs(request) if (match := _FILE.fullmatch(path.name))}
        return [f"{describe(each)} left nothing" for each in gpu_processes(seen) if each.pid not in wrote]


BACKEND = Rocprofv2()
