"""Runs rocprofv3 (ROCm 6.2 and newer): files for each process, written when that process ends in order."""

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
from rocscope.launch.tree import Seen

LEFTOVERS: Final = "unwritten"
_FILE: Final = re.compile(r"(\d+)_([a-z_]+)\.csv")
_LEFTOVER: Final = re.compile(r"\d+-(\d+)-.*\.dat")


class Rocprofv3(Base):
    """Kernel and copy traces of all processes, as CSV: JSON of a server grows to gigabytes."""

    name = "rocprofv3"
    help = "AMD's rocprofv3 (rocprofiler-sdk): every process of a server"
    order = 1

    def find(self, environment: Mapping[str, str], argument: str) -> Found | Absent:
        """Look for ``rocprofv3``."""
        return find_program("rocprofv3", environment)

    def plan(self, request: Request) -> Plan:
        """Trace kernels and copies; ``%pid%`` keeps processes from overwriting one another's files.

        Temporary files go beside the output, not into the command's working folder: what is left of them
        tells which process was killed before it wrote.
        """
        leftovers = request.raw / LEFTOVERS
        return Plan(
            command=(
                request.found.path,
                "--kernel-trace",
                "--memory-copy-trace",
                "--output-format",
                "csv",
                "--output-directory",
                str(request.raw),
                "--output-file",
                "%hostname%/%pid%",
                "--",
                *request.command,
            ),
            environment={"ROCPROF_TMPDIR": str(leftovers)},
            folders=(leftovers,),
        )

    def outputs(self, request: Request) -> list[Path]:
        """Return the files of every process that recorded something.

        Each short helper of a server (``uname``, ``sh``) leaves a description of the devices too; those
        are left out.
        """
        by_process: dict[tuple[Path, str], list[Path]] = {}
        for path in self._files(request.raw):
            match = _FILE.fullmatch(path.name)
            if match:
                by_process.setdefault((path.parent, match[1]), []).append(path)
        kept = [paths for paths in by_process.values() if any(_has_rows(path) for path in paths)]
        return sorted(path for paths in kept for path in paths)

    def missing(self, request: Request, seen: Sequence[Seen]) -> list[str]:
        """Find GPU processes without a kernel trace, and processes whose temporary files were left."""
        wrote = {int(match[1]) for path in self._files(request.raw) if (match := _FILE.fullmatch(path.name))}
        traced = {
            int(match[1])
            for path in self._files(request.raw)
            if (match := _FILE.fullmatch(path.name)) and match[2] == "kernel_trace" and _has_rows(path)
        }
        cut = {
            int(match[1])
            for path in (request.raw / LEFTOVERS).rglob("*.dat")
            if (match := _LEFTOVER.fullmatch(path.name))
        }
        named = {each.pid: each for each in seen}
        lost = [each for each in gpu_processes(seen) if each.pid not in traced]
        lost += [named[pid] for pid in sorted(cut - wrote) if pid in named and named[pid] not in lost]
        texts = [
            f"{describe(each)} left "
            + ("a description of the devices but no kernels" if each.pid in wrote else "nothing")
            for each in lost
        ]
        return texts + [
            f"process {pid} left unfinished temporary files" for pid in sorted(cut - wrote - set(named))
        ]

    def _files(self, raw: Path) -> list[Path]:
        return [path for path in raw.rglob("*.csv") if LEFTOVERS not in path.relative_to(raw).parts]


def _has_rows(path: Path) -> bool:
    """Whether a table that records activity (not the list of devices) has a row under its header."""
    if path.name.endswith("_agent_info.csv"):
        return False
    with path.open("rb") as stream:
        stream.readline(1 << 16)
        return bool(stream.readline(1 << 16).strip())


BACKEND = Rocprofv3()
