"""What the columns of an Omniperf table mean, and which counters of a merged table are of one run.

Omniperf runs the program once for each set of counters and joins the tables of these runs side by side.
Where a run repeats a column of the first, pandas numbers it: ``wave_size_3`` and ``obj_3`` are left over
from the fourth run, and the counters from there to the next leftover are that run's. (In a recording that
kept its inputs, these stretches are the sets of counters of ``perfmon/pmc_perf_N.txt``, all 17 of them.)
A counter that two runs share is numbered too (``SQ_WAVES_13``); ``SQC_DCACHE_REQ_READ_2`` is a counter.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final, Literal

from rocscope.collectors.rocprof_columns import COUNTER, ROLES, Layout, header_cells, normalise
from rocscope.collectors.source import Source
from rocscope.errors import InputError

ACCUMULATED: Final = "SQ_ACCUM_PREV_HIRES"
"""Each cycle adds up the counter that precedes it: its level, so that the sum over time divides."""

MAX_HEADER_BYTES: Final = 4 << 20

Kind = Literal["", "empty", "list", "times", "run", "merged"]

_META: Final = frozenset(ROLES) | {
    *("queueindex", "tid", "threadid", "sig", "obj", "fbar", "kernelid", "nodeid", "guid", "uuid"),
}
_OF_ONE_RUN: Final = frozenset({"queueid", "queueindex", "pid", "processid", "tid", "sig"})
_BASE: Final = frozenset({"dispatchid", "kernelname", "gpuid", "gridsize", "workgroupsize"})
_NUMBERED: Final = re.compile(r"(.+)_(\d{1,4})")
_TIME: Final = re.compile(r"\wNs$")
_CHANNEL: Final = re.compile(r"(\w+)\[(\d{1,4})\]")


@dataclass(frozen=True)
class Run:
    """One execution of the program and its counters."""

    number: int
    counters: tuple[str, ...]  # as recorded, without the number that the join may have added
    columns: tuple[str, ...]  # internal names, in the same order

    @property
    def level(self) -> str:
        """The counter that this run accumulated over time, ``""`` where it did none."""
        if ACCUMULATED not in self.counters:
            return ""
        before = self.counters[max(0, self.counters.index(ACCUMULATED) - 1)]
        return before if "LEVEL" in before else ""


@dataclass(frozen=True)
class Table:
    """The columns of one table."""

    layout: Layout
    runs: tuple[Run, ...]
    merged: bool  # the tool joined it from the tables of its runs
    told_apart: bool  # each of ``runs`` is one run

    def without(self, roles: frozenset[str]) -> Table:
        """Leave the columns with these internal names unread."""
        names = tuple(
            f"unused:{place}" if name in roles else name for place, name in enumerate(self.layout.names)
        )
        return replace(self, layout=Layout(names, self.layout.counters))


def channels(table: Table, run: Run) -> dict[str, tuple[str, ...]]:
    """Return the counters of a run that have a value a channel and in no run a sum, with their columns.

    Only such whose channels are all there, from 0 on. A run that adds up a level stays as it is: it is more
    disturbed than the others.
    """
    if run.level:
        return {}
    found: dict[str, dict[int, str]] = {}
    for counter, column in zip(run.counters, run.columns, strict=True):
        if match := _CHANNEL.fullmatch(counter):
            found.setdefault(match[1], {})[int(match[2])] = column
    known = {counter for each in table.runs for counter in each.counters}
    return {
        f"{name}_sum": tuple(each[number] for number in sorted(each))
        for name, each in found.items()
        if len(each) > 1 and set(each) == set(range(len(each))) and not known & {name, f"{name}_sum"}
    }


def kind(source: Source) -> Kind:
    """Tell by the header what table of Omniperf ``source`` may be, ``""`` for another file.

    A ``times`` or ``run`` table may be rocprofv2's own; see :func:`is_rocprofv2`.
    """
    return _kind(source.text_head.partition("\n")[0], "\n" in source.text_head)


@lru_cache(maxsize=256)
def _kind(line: str, whole: bool) -> Kind:
    if "dispatch" not in line[:4096].lower():
        return ""
    cells = header_cells(line)
    names = [normalise(cell) for cell in (cells if whole else cells[:-1])]
    if names == ["dispatchid", "kernelname"]:
        return "empty"
    if names == ["dispatchid", "kernelname", "gpuid"]:
        return "list"
    if not set(names) >= _BASE:
        return ""
    if not _OF_ONE_RUN & set(names):
        return "merged"
    return "run" if any(table_run.counters for table_run in parse(cells).runs) else "times"


def is_rocprofv2(source: Source) -> bool:
    """Tell whether a ``times`` or ``run`` table has the columns of rocprofv2, which Omniperf leaves as is."""
    names = {normalise(cell) for cell in header_cells(source.text_head)}
    return "correlationid" in names and not names & {"obj", "sig"}


def read_header(source: Source) -> list[str]:
    """Return the cells of the header, which may be longer than the head of a source.

    Raises :class:`InputError` for one beyond all reason.
    """
    with source.stream() as stream:
        line = stream.readline(MAX_HEADER_BYTES)
    if len(line) == MAX_HEADER_BYTES:
        raise InputError(
            f"{source.name}: line 1 is longer than {MAX_HEADER_BYTES >> 20} MiB", "check the file"
        )
    try:
        return [cell.strip() for cell in next(csv.reader([line.decode("utf-8-sig", "replace").rstrip()]), [])]
    except csv.Error as error:
        raise InputError(f"{source.name}: line 1 is no header ({error})", "copy the file again") from error


def parse(cells: Iterable[str], inputs: Sequence[frozenset[str]] = ()) -> Table:
    """Assign each column its meaning and each counter its run.

    ``inputs`` are the sets of counters that the tool asked for, a set a run; they tell the runs of a merged
    table apart that has no leftovers.
    """
    cells = list(cells)
    known = set(cells)
    names: list[str] = []
    found: dict[int, dict[str, str]] = {0: {}}
    run = 0
    for place, cell in enumerate(cells):
        plain = normalise(cell)
        numbered = _NUMBERED.fullmatch(cell)
        name = f"unused:{place}"
        if numbered and numbered[1] in known and normalise(numbered[1]) in _META:
            run = int(numbered[2])
        elif plain in ROLES:
            name = ROLES[plain] if ROLES[plain] not in names else name
        elif plain and plain not in _META and not _TIME.search(cell):
            counter = cell
            if numbered and int(numbered[2]) == run and _seen(numbered[1], run, found):
                counter = numbered[1]
            if counter not in found.setdefault(run, {}):
                name = f"{COUNTER}{run}:{counter}"
                found[run][counter] = name
        names.append(name)
    runs = tuple(Run(number, tuple(each), tuple(each.values())) for number, each in found.items() if each)
    merged = not _OF_ONE_RUN & {normalise(cell) for cell in cells}
    told_apart = not merged or len(found) > 1
    if not told_apart and runs and inputs:
        runs, told_apart = _split(runs[0], inputs)
    counters = tuple(counter for each in runs for counter in each.counters)
    return Table(Layout(tuple(names), counters), runs, merged, told_apart)


def _seen(counter: str, run: int, found: dict[int, dict[str, str]]) -> bool:
    return any(counter in counters for number, counters in found.items() if number < run)


def _split(whole: Run, inputs: Sequence[frozenset[str]]) -> tuple[tuple[Run, ...], bool]:
    """Split counters by the inputs of the runs; those of no input, or of several, make up a last run."""
    owners = {
        counter: [number for number, each in enumerate(inputs) if counter in each]
        for counter in whole.counters
    }
    parts: dict[int, list[tuple[str, str]]] = {}
    for counter, column in zip(whole.counters, whole.columns, strict=True):
        number = owners[counter][0] if len(owners[counter]) == 1 else len(inputs)
        parts.setdefault(number, []).append((counter, column))
    runs = tuple(
        Run(number, tuple(c for c, _ in parts[number]), tuple(n for _, n in parts[number]))
        for number in sorted(parts)
    )
    return runs, len(inputs) not in parts
