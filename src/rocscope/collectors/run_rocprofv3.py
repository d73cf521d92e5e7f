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
from rocscope.collectors.counter_input import Counting, definitions_yaml, groups_json
from rocscope.launch.tree import Seen

LEFTOVERS: Final = "unwritten"
GROUPS: Final = "counter_groups.json"
DEFINITIONS: Final = "counter_definitions.yaml"
_FILE: Final = re.compile(r"(\d+)_([a-z_]+)\.csv")
_LEFTOVER: Final = re.compile(r"\d+-(\d+)-.*\.dat")


class Rocprofv3(Base):
    """Kernel and copy traces of all processes, as CSV: JSON of a server grows to gigabytes."""

    name = "rocprofv3"
    help = "AMD's rocprofv3 (rocprofiler-sdk): every process of a server"
    order: int | None = 1
    counts = True

    def find(self, environment: Mapping[str, str], argument: str) -> Found | Absent:
        """Look for ``rocprofv3``."""
        return find_program("rocprofv3", environment)

    def plan(self, request: Request) -> Plan:
        """Trace kernels and copies; ``%pid%`` keeps processes from overwriting one another's files.

        Temporary files go beside the output, not into the command's working folder: what is left of them
        tells which process was killed before it wrote.
        """
        leftovers = request.raw / LEFTOVERS
        what: tuple[str, ...] = ("--kernel-trace", "--memory-copy-trace")
        files: dict[Path, str] = {}
        if request.counting is not None:
            what, files = _counting(request.counting, request)
        return Plan(
            command=(
                request.found.path,
                *what,
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
            files=files,
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
        """Find GPU processes without a kernel trace, and processes whose temporary files were left.

        Under counters their table has to be there; where a filter was set it may rightly be empty.
        """
        wrote = {int(match[1]) for path in self._files(request.raw) if (match := _FILE.fullmatch(path.name))}
        table = "kernel_trace" if request.counting is None else "counter_collection"
        traced = {
            int(match[1])
            for path in self._files(request.raw)
            if (match := _FILE.fullmatch(path.name)) and match[2] == table and _has_rows(path)
        }
        if request.counting is not None and request.counting.narrowed:
            traced |= wrote
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


def _counting(counting: Counting, request: Request) -> tuple[tuple[str, ...], dict[Path, str]]:
    """Return the flags and files for counters: by name, or by turns from an input file."""
    flags: list[str] = []
    files: dict[Path, str] = {}
    if len(counting.passes) > 1:
        files[request.raw / GROUPS] = groups_json(counting)
        flags += ["--input", str(request.raw / GROUPS)]
    else:
        flags += ["--pmc", *counting.passes[0].counters]
    if counting.defined:
        text = definitions_yaml(counting, "rocprofv3", request.found.version)
        files[request.raw / DEFINITIONS] = text
        flags += ["--extra-counters", str(request.raw / DEFINITIONS)]
    if counting.kernels:
        flags += ["--kernel-include-regex", counting.kernels]
    if counting.dispatches:
        flags += ["--kernel-iteration-range", "[{}-{}]".format(*counting.dispatches)]
    return tuple(flags), files


def _has_rows(path: Path) -> bool:
    """Whether a table that records activity (not the list of devices) has a row under its header."""
    if path.name.endswith("_agent_info.csv"):
        return False
    with path.open("rb") as stream:
        stream.readline(1 << 16)
        return bool(stream.readline(1 << 16).strip())


BACKEND = Rocprofv3()
