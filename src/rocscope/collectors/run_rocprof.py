"""Runs rocprof (v1): one table for the whole command, made after it has ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rocscope.collectors.backend import Absent, Base, Found, Plan, Request, find_program, gpu_processes
from rocscope.collectors.counter_input import metrics_xml, pmc_text
from rocscope.launch.tree import Seen


class Rocprof(Base):
    """Kernel times of one launch; counters would make rocprof run the command again for each group."""

    name = "rocprof"
    help = "AMD's first rocprof (v1): kernel times of one process"
    order = 3
    counts = True
    in_place = False  # a shell script: a signal to it would lose the table, which it makes at the end

    def find(self, environment: Mapping[str, str], argument: str) -> Found | Absent:
        """Look for ``rocprof``."""
        return find_program("rocprof", environment)

    def plan(self, request: Request) -> Plan:
        """Ask for timestamps and statistics, or for one line of counters: the command runs once.

        Each further line of an input file would run the command again.
        """
        data = request.raw / "data"
        notes = ["rocprof v1 does not support several processes: kernels of child processes may be missing"]
        what: tuple[str, ...] = ("--stats",)
        files: dict[Path, str] = {}
        if request.counting is not None:
            files[request.raw / "counters.txt"] = pmc_text(request.counting)
            what = ("-i", str(request.raw / "counters.txt"))
            if definitions := metrics_xml(request.counting):
                files[request.raw / "metrics.xml"] = definitions
                what += ("-m", str(request.raw / "metrics.xml"))
        return Plan(
            command=(
                request.found.path,
                "--timestamp",
                "on",
                *what,
                "-d",
                str(data),
                "-o",
                str(request.raw / "results.csv"),
                *request.command,
            ),
            files=files,
            folders=(data,),
            notes=tuple(notes) if request.server else (),
        )

    def outputs(self, request: Request) -> list[Path]:
        """Return the table of kernels, and what describes the machine."""
        names = ("results.csv", "results.sysinfo.txt")
        return [path for name in names if (path := request.raw / name).is_file() and path.stat().st_size]

    def missing(self, request: Request, seen: Sequence[Seen]) -> list[str]:
        """Tell when the table was not made, or lacks a GPU process."""
        table = request.raw / "results.csv"
        if not table.is_file():
            left = [path for path in (request.raw / "data").rglob("*.txt") if path.stat().st_size]
            return [
                f"rocprof wrote no results.csv; {len(left)} raw files are in {request.raw / 'data'}: "
                "the command or rocprof was killed"
            ]
        wrote = _pids(table)
        return [
            f"{each.name} (pid {each.pid}) is not in results.csv"
            for each in gpu_processes(seen)
            if each.pid not in wrote
        ]


def _pids(table: Path) -> set[int]:
    import pyarrow as pa
    from pyarrow import csv

    try:
        column = csv.read_csv(table, convert_options=csv.ConvertOptions(include_columns=["pid"]))["pid"]
        return set(column.unique().to_pylist())
    except (pa.ArrowException, KeyError):
        return set()


BACKEND = Rocprof()
