"""What Omniperf writes beside its tables: the machine and the log."""

from __future__ import annotations

import csv
import datetime
import re
import shlex
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from rocscope.collectors import csv_rows, omniperf_columns
from rocscope.collectors.builder import CaptureBuilder
from rocscope.collectors.reader import Reader
from rocscope.collectors.source import Source
from rocscope.errors import InputError, RocscopeError

_SYSTEM: Final = frozenset({"workloadname", "gpuarch", "cupergpu", "wavesize"})
_TOTALS: Final = frozenset({"kernelname", "count", "sumns", "meanns", "medianns", "pct"})
_LOG: Final = re.compile(r"\s*(omniperf|rocprof(?:iler)?-compute) version:\s*(\S{1,60})", re.IGNORECASE)
_WHEN: Final = re.compile(r"\w{3} (\d{1,2} \w{3} \d{4} \d{2}:\d{2}:\d{2} [AP]M)\s+\((\w{1,6})\)")
_ABSENT: Final = frozenset({"", "NA", "N/A"})
_BLANK: Final[dict[str, Any]] = {"host": "", "command": [], "started_at": None, "profiler_version": ""}


@dataclass(frozen=True)
class System:
    """The machine that a workload folder was recorded on. Omniperf takes all its GPUs to be alike."""

    host: str = ""
    command: tuple[str, ...] = ()
    started_at: str = ""  # ISO 8601; local time where the recording names another zone than UTC
    arch: str = ""
    model: str = ""
    compute_units: int | None = None
    wave_size: int | None = None
    l2_channels: int | None = None
    dies: int | None = None

    def has_channels(self, count: int) -> bool:
        """Tell whether so many values are one for each L2 channel, of each die or of all together."""
        known = self.l2_channels
        return known is not None and count in (known, known // (self.dies or 1))

    def properties(self) -> dict[str, Any]:
        """Return the fields of :class:`rocscope.capture.Gpu` that are known."""
        return {
            "arch": self.arch,
            "name": self.model,
            "compute_units": self.compute_units,
            "wave_size": self.wave_size,
        }


def parse(source: Source) -> System | None:
    """Return what a ``sysinfo.csv`` says, ``None`` where ``source`` is none or has no row."""
    if not set(csv_rows.header(source)) >= _SYSTEM:
        return None
    row = csv_rows.first_row(source)
    if not row:
        return None
    said = {name: value.strip() for name, value in row.items() if value.strip() not in _ABSENT}
    return System(
        host=said.get("hostname", "")[:200],
        command=_words(said.get("command", "")),
        started_at=_when(said.get("timestamp", "")),
        arch=said.get("gpuarch", "")[:60],
        model=said.get("gpumodel", "")[:200],
        compute_units=_number(said.get("cupergpu", "")),
        wave_size=_number(said.get("wavesize", "")),
        l2_channels=_number(said.get("totall2chan", "")),
        dies=_number(said.get("numxcd", "")),
    )


def beside(source: Source) -> System | None:
    """Return what the ``sysinfo.csv`` beside ``source`` says, ``None`` where there is none."""
    path = source.sibling("sysinfo.csv")
    if path is None:
        return None
    status = path.stat()
    return _parsed(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=64)
def _parsed(path: Path, _mtime: int, _size: int) -> System | None:
    try:
        return parse(Source.open(path))
    except RocscopeError:  # reading that file itself reports it
        return None


def _number(text: str) -> int | None:
    return int(text) if re.fullmatch(r"[1-9]\d{0,8}", text) else None


def _words(text: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(text))
    except ValueError:  # quotes that do not match
        return tuple(text.split())


def _when(text: str) -> str:
    """Return ``Thu 21 Mar 2024 03:52:12 PM  (CDT)`` in ISO 8601, ``""`` where it is written otherwise.

    Abbreviations of zones are not unique, so only UTC is kept.
    """
    found = _WHEN.fullmatch(text)
    if not found:
        return ""
    try:
        local = datetime.datetime.strptime(found[1], "%d %b %Y %I:%M:%S %p")
    except ValueError:
        return ""
    return (local.replace(tzinfo=datetime.UTC) if found[2] in ("UTC", "GMT") else local).isoformat()


def agree(builder: CaptureBuilder, **known: Any) -> None:
    """Set fields of the manifest; where two folders say different things, neither holds for the capture."""
    for name, value in known.items():
        if value and builder.manifest.setdefault(name, value) != value:
            builder.manifest[name] = _BLANK[name]
            builder.notice("folders-differ", f"folders of several runs: {name} differs and is left out")


class _SystemReader:
    name = "omniperf-sysinfo"
    help = "sysinfo.csv of Omniperf or rocprof-compute: the machine and its GPUs"
    order = 10
    content = "description"

    def recognises(self, source: Source) -> bool:
        """Tell by the columns."""
        return set(csv_rows.header(source)) >= _SYSTEM

    def read(self, source: Source, builder: CaptureBuilder) -> None:
        """Tell the manifest; the GPUs are told by the tables, which alone know their ids."""
        found = parse(source)
        if found is None:
            raise InputError(
                f"{source.name}: line 2 does not describe a machine: it is missing or has another number of "
                "fields than the header",
                "the GPU can be named with --gpu",
            )
        agree(builder, host=found.host, command=list(found.command), started_at=found.started_at)


class _LogReader:
    name = "omniperf-log"
    help = "log.txt of Omniperf or rocprof-compute; only its version is used"
    order = 11
    content = "description"

    def recognises(self, source: Source) -> bool:
        """Tell by the first line."""
        return bool(_LOG.match(source.text_head))

    def read(self, source: Source, builder: CaptureBuilder) -> None:
        """Tell the manifest which version wrote the folder."""
        if found := _LOG.match(source.text_head):
            name = "omniperf" if found[1].lower() == "omniperf" else "rocprof-compute"
            builder.manifest.setdefault("profiler", name)
            agree(builder, profiler_version=found[2])


class _DerivedReader:
    name = "omniperf-derived"
    help = "pmc_dispatch_info.csv and pmc_kernel_top.csv of Omniperf: repeat its other tables; passed over"
    order = 13
    content = "description"

    def recognises(self, source: Source) -> bool:
        """Tell by the columns."""
        return omniperf_columns.kind(source) == "list" or set(csv_rows.header(source)) == _TOTALS

    def read(self, source: Source, builder: CaptureBuilder) -> None:
        """Add nothing; say so where the tables that it repeats are not in the folder."""
        if source.sibling("timestamps.csv") is None and source.sibling("pmc_perf.csv") is None:
            builder.notice(
                "repeats-other-tables",
                f"{source.name} repeats what Omniperf's timestamps.csv and pmc_perf.csv hold, and is not "
                "read: name the folder that holds those",
                source.name,
            )


class _EmptyReader:
    name = "omniperf-empty"
    help = "tables of Omniperf or rocprof-compute that hold a header and nothing else"
    order = 14
    content = "description"

    def recognises(self, source: Source) -> bool:
        """Tell by the two columns that are left where no dispatch was profiled."""
        return omniperf_columns.kind(source) == "empty"

    def read(self, source: Source, builder: CaptureBuilder) -> None:
        """Say, once a folder, that there is nothing: this is no kernel that took no time."""
        rows = [row for row in csv.reader(source.text_head.splitlines()[1:]) if row]
        builder.drop("malformed rows", len(rows), source.name)
        folder = str(Path(source.name).parent)
        where = "" if folder == "." else f" in {folder}"
        builder.notice(
            "matched-nothing",
            f"tables of Omniperf{where} have a header and no rows: its filter (--dispatch, --kernel) matched "
            "nothing, or nothing ran",
        )


READERS: list[Reader] = [_SystemReader(), _LogReader(), _DerivedReader(), _EmptyReader()]
