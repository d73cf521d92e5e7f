"""What the columns of rocprof v1 and rocprofv2 tables mean, whatever a version calls them.

The same quantity has many names (``BeginNs``, ``Start_Timestamp``, ``Begin_Timestamp``), and columns move
between versions, so they are told by normalised name and never by position. What is neither known nor a
time is a hardware counter and keeps its recorded name, instance and all (``TCC_HIT[0]``).
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

COUNTER: Final = "counter:"
"""Prefix of the internal name of a counter column."""

ROLES: Final[dict[str, str]] = {
    "index": "dispatch_id",
    "dispatchid": "dispatch_id",
    "kernelname": "kernel",
    "gpuid": "gpu",
    "queueid": "queue",
    "pid": "pid",
    "processid": "pid",
    "grd": "grid_x",
    "gridsize": "grid_x",
    "wgr": "workgroup_x",
    "workgroupsize": "workgroup_x",
    "lds": "lds_bytes",
    "ldsperworkgroup": "lds_bytes",
    "scr": "scratch_bytes",
    "scratchperworkitem": "scratch_bytes",
    "scratchsize": "scratch_bytes",
    "vgpr": "vgprs",
    "archvgpr": "vgprs",
    "accumvgpr": "agprs",
    "accumulativevgpr": "agprs",
    "sgpr": "sgprs",
    "wavesize": "wave_size",
    "correlationid": "correlation_id",
    "xccindex": "xcc",
    "dispatchns": "dispatched",
    "beginns": "begin",
    "begintimestamp": "begin",
    "starttimestamp": "begin",
    "endns": "end",
    "endtimestamp": "end",
    "stoptimestamp": "end",
    "completens": "completed",
    "durationns": "recorded_duration",
}

_UNUSED: Final = frozenset({"", "queueindex", "tid", "threadid", "sig", "obj", "fbar"})
_TIME: Final = re.compile(r"\wNs$")


def normalise(name: str) -> str:
    """Return ``name`` in lower case without punctuation: ``gpu-id`` and ``GPU_ID`` are one."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def header_cells(text: str) -> list[str]:
    """Return the cells of the first line of ``text``, quoted or bare; ``[]`` where there is none."""
    line = text.split("\n", 1)[0].rstrip("\r")
    if not line.strip() or "\x00" in line:
        return []
    try:
        return [cell.strip() for cell in next(csv.reader([line]))]
    except csv.Error:  # not text
        return []


@dataclass(frozen=True)
class Layout:
    """The columns of one table, in their order.

    ``names`` are the internal names: a role of :data:`ROLES`, ``counter:NAME``, or ``unused:N``.
    """

    names: tuple[str, ...]
    counters: tuple[str, ...]  # as recorded

    @classmethod
    def of(cls, cells: Iterable[str]) -> Layout:
        """Assign each column its meaning; of two columns with one meaning the first counts."""
        names: list[str] = []
        counters: list[str] = []
        for place, cell in enumerate(cells):
            plain = normalise(cell)
            name = ROLES.get(plain, f"unused:{place}")
            if plain not in ROLES and plain not in _UNUSED and not _TIME.search(cell):
                name = COUNTER + cell
            if name in names:
                name = f"unused:{place}"
            elif name.startswith(COUNTER):
                counters.append(cell)
            names.append(name)
        return cls(tuple(names), tuple(counters))

    @property
    def used(self) -> tuple[str, ...]:
        """Internal names of the columns that are read."""
        return tuple(name for name in self.names if not name.startswith("unused:"))

    @property
    def timed(self) -> bool:
        """Whether dispatches have times."""
        return {"begin", "end"} <= set(self.names) or "recorded_duration" in self.names
