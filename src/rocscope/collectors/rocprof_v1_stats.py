"""Totals of rocprof v1: ``.stats.csv``, ``.copy_stats.csv``, ``.hip_stats.csv``, ``.hsa_stats.csv``.

All four have the same header, so that what they total is told by the names in their rows. ``AverageNs`` is
cut to an integer and ``Percentage`` is of the rows of that file, barriers included: only ``Calls`` and
``TotalDurationNs`` are used.
"""

from __future__ import annotations

import csv
import re
from typing import Final, Literal

import pyarrow as pa
import pyarrow.compute as pc

from rocscope.collectors import csv_rows
from rocscope.collectors.builder import CaptureBuilder
from rocscope.collectors.rocminfo import agents_beside, describe_unnumbered
from rocscope.collectors.rocprof_columns import header_cells, normalise
from rocscope.collectors.rocprof_ops import operation_kind
from rocscope.collectors.rocprof_text import text
from rocscope.collectors.source import Source
from rocscope.errors import InputError
from rocscope.tables import TEXT

Totals = Literal["kernels", "copies", "calls"]

ALL_GPUS: Final = "all"
"""The agent of totals over all devices of the node."""

_HEADER: Final = {"name", "calls", "totaldurationns", "averagens", "percentage"}
_CALL: Final = re.compile(r"(?:__)?hip[A-Z]\w*$|hsa_\w+$")
_COPY: Final = re.compile(
    r"Copy(?:Host|Device)To(?:Host|Device)(?:2D|3D)?$|(?:Copy|Fill|Write|Read)Buffer\w*$"
)


class RocprofV1StatsReader:
    """Totals per kernel, copy or call."""

    name = "rocprof-v1-stats"
    help = "totals of rocprof v1: .stats.csv, .copy_stats.csv, .hip_stats.csv, .hsa_stats.csv"
    order = 60
    content = "aggregate"
    bundle = "rocprof-v1-csv"

    def recognises(self, source: Source) -> bool:
        """Tell by exactly these five columns; rocprofv3 has more."""
        return {normalise(cell) for cell in header_cells(source.text_head)} == _HEADER

    def content_of(self, source: Source) -> str:
        """Return ``api`` for totals of HIP or HSA calls."""
        return "api" if totals_of(source) == "calls" else "aggregate"

    def read(self, source: Source, builder: CaptureBuilder) -> None:
        """Add a row a kernel or copy, which stands for all its calls.

        Raises :class:`InputError` where there are rows and none can be read.
        """
        what = totals_of(source)
        columns = {"name": TEXT, "calls": pa.int64(), "totaldurationns": pa.int64()}
        names = [normalise(cell) for cell in header_cells(source.text_head)]
        table = csv_rows.read(source, columns, builder, columns=names)
        calls, total = table["calls"], table["totaldurationns"]
        usable = pc.fill_null(pc.and_(pc.greater(calls, 0), pc.greater_equal(total, 0)), False)
        kept = table.filter(usable)
        builder.drop("totals without calls or time", table.num_rows - kept.num_rows, source.name)
        builder.manifest.setdefault("profiler", "rocprof")
        if not kept.num_rows:
            if source.text_head.partition("\n")[2].strip():
                raise InputError(f"{source.name}: no row has Calls and TotalDurationNs", "copy it again")
            builder.notice("no-dispatches", f"{source.name} has a header and no rows", source.name)
        elif what == "calls":
            many, seconds = pc.sum(kept["calls"]).as_py(), pc.sum(kept["totaldurationns"]).as_py() / 1e9
            builder.notice(
                "calls-without-times",
                f"{source.name} totals {many} host calls ({seconds:.3f} s); when each was made is not in it, "
                "so they are no part of the timeline",
                source.name,
            )
        else:
            self._add(source, builder, kept, "copy" if what == "copies" else "kernel")

    @staticmethod
    def _add(source: Source, builder: CaptureBuilder, table: pa.Table, lane: str) -> None:
        names = text(table["name"])
        kinds = [operation_kind(name, lane) for name in names.dictionary.to_pylist()]
        builder.append(
            "dispatches",
            table.num_rows,
            **{"pass": pa.scalar(builder.add_pass(), pa.int16())},
            process=pa.scalar(builder.process(0), pa.int32()),  # totals of all processes
            gpu=pa.scalar(describe_unnumbered(ALL_GPUS, agents_beside(source), builder), pa.int32()),
            kind=pa.array(kinds, pa.string()).take(names.indices),
            kernel=names,
            duration_ns=table["totaldurationns"],
            count=table["calls"],
        )


def totals_of(source: Source) -> Totals:
    """Tell what a file totals by the names in its head: only if all are calls (or copies) is it of these."""
    lines = source.text_head.splitlines()[1:]
    names = [row[0] for row in csv.reader(line for line in lines if "\x00" not in line) if row]
    if names and all(_CALL.match(name) for name in names):
        return "calls"
    if names and all(_COPY.match(name) for name in names):
        return "copies"
    return "kernels"


READERS = (RocprofV1StatsReader(),)
