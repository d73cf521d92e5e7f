"""CSV of rocprofv2's file plugin: kernels with counters, device operations, host calls.

``results_PID.csv`` has a row a dispatch; ``hcc_ops_trace_PID.csv`` and ``async_copy_trace_PID.csv`` have
operations that end at ``Stop_Timestamp``; ``hip_api_trace_PID.csv`` and ``hsa_api_trace_PID.csv`` have calls
and an empty second line.
"""

from __future__ import annotations

import re
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from rocscope.collectors import csv_rows
from rocscope.collectors.builder import CaptureBuilder
from rocscope.collectors.rocminfo import agents_beside
from rocscope.collectors.rocprof_columns import Layout, header_cells, normalise
from rocscope.collectors.rocprof_ops import ApiRows, OpRows
from rocscope.collectors.rocprof_rows import DispatchRows
from rocscope.collectors.rocprof_text import read_table
from rocscope.collectors.rocprof_xcc import merge_dies
from rocscope.collectors.source import Source
from rocscope.tables import TEXT

TOOL: Final = "rocprofv2"
BUNDLE: Final = "rocprofv2-csv"

_KERNELS: Final = {
    "dispatchid",
    "gpuid",
    "queueid",
    "kernelname",
    "gridsize",
    "workgroupsize",
    "correlationid",
}
_OPERATIONS: Final = {"domain", "operation", "starttimestamp", "stoptimestamp", "correlationid"}
_CALLS: Final = {"domain", "function", "starttimestamp", "endtimestamp", "correlationid"}
_PID: Final = re.compile(r"_(\d{1,9})(?:\.|$)")


def _names(source: Source) -> list[str]:
    return [normalise(cell) for cell in header_cells(source.text_head)]


def _pid(source: Source) -> int:
    """Return the process that the tool names the file after; 0 where it was renamed."""
    found = _PID.search(source.path.name)
    return int(found[1]) if found else 0


class RocprofV2KernelsReader:
    """Dispatches and counters."""

    name = "rocprofv2-kernels"
    help = "results_PID.csv of rocprofv2"
    order = 53
    content = "dispatches"
    bundle = BUNDLE

    def recognises(self, source: Source) -> bool:
        """Tell by the column names; rocprofv3 has ``Agent_Id`` for ``GPU_ID``."""
        return set(_names(source)) >= _KERNELS

    def content_of(self, source: Source) -> str:
        """Return ``counters`` for a file without times."""
        layout = Layout.of(header_cells(source.text_head))
        return "counters" if layout.counters and not layout.timed else "dispatches"

    def read(self, source: Source, builder: CaptureBuilder) -> None:
        """Add each row as a dispatch, and its counters in a pass of their own.

        Raises :class:`rocscope.errors.InputError` where there are rows and none can be read.
        """
        layout = Layout.of(header_cells(source.text_head))
        table, merged = merge_dies(read_table(source, layout, builder))
        if merged:
            builder.notice(
                "dies-merged",
                f"{source.name}: {merged} rows repeat a dispatch for another die (XCC) and are merged; "
                "counters on which the dies differ are left out",
                source.name,
            )
        rows = DispatchRows(
            source.name, builder, counters=layout.counters, tool=TOOL, agents=agents_beside(source)
        )
        rows.add(table)
        rows.commit()


class RocprofV2OperationsReader:
    """Device operations of a trace."""

    name = "rocprofv2-operations"
    help = "hcc_ops_trace_PID.csv and async_copy_trace_PID.csv of rocprofv2"
    order = 54
    content = "dispatches"
    bundle = BUNDLE

    def recognises(self, source: Source) -> bool:
        """Tell by the column names, ``Stop_Timestamp`` among them."""
        return set(_names(source)) >= _OPERATIONS

    def read(self, source: Source, builder: CaptureBuilder) -> None:
        """Add kernels, copies and barriers; kernels only where no file beside this one has them in full."""
        builder.manifest.setdefault("profiler", TOOL)
        columns = {"operation": TEXT, "kernelname": TEXT, "correlationid": pa.int64()}
        table = csv_rows.read(
            source,
            columns | {"starttimestamp": pa.int64(), "stoptimestamp": pa.int64()},
            builder,
            columns=_names(source),
        )
        pid = _pid(source)
        full = pid and (source.sibling(f"results_{pid}.csv") or source.sibling(f"results_{pid}.csv.gz"))
        for lane, rows in _lanes(table).items():
            if not rows.num_rows:
                continue
            if lane == "kernel" and full:
                builder.notice(
                    "operations-repeat-dispatches",
                    f"{source.name}: its {rows.num_rows} kernels are those of {full.name} and are not "
                    "counted twice",
                    source.name,
                )
                continue
            operations = OpRows(source.name, builder, lane=lane, pid=pid)
            operations.add(rows)
            operations.commit()


def _lanes(table: pa.Table) -> dict[str, pa.Table]:
    """Split operations into kernels, copies and barriers; a kernel is what has a kernel's name."""
    operation = table["operation"].cast(pa.string())
    named = pa.nulls(table.num_rows, pa.string())
    if "kernelname" in table.column_names:
        named = table["kernelname"].cast(pa.string())
    kernel = pc.fill_null(pc.greater(pc.utf8_length(named), 0), False)
    copy = pc.match_substring_regex(operation, "(?i)copy|fill|memset")
    barrier = pc.match_substring_regex(operation, "(?i)barrier")
    lane = pc.if_else(copy, "copy", pc.if_else(barrier, "barrier", "kernel"))
    lane = pc.if_else(pc.and_(kernel, pc.equal(lane, "copy")), "kernel", lane)
    whole = pa.table(
        {
            "kernel": pc.if_else(kernel, named, operation),
            "begin": table["starttimestamp"],
            "end": table["stoptimestamp"],
            "correlation_id": table["correlationid"],
        }
    )
    return {each: whole.filter(pc.equal(lane, each)) for each in ("kernel", "copy", "barrier")}


class RocprofV2CallsReader:
    """Host calls of a trace."""

    name = "rocprofv2-calls"
    help = "hip_api_trace_PID.csv and hsa_api_trace_PID.csv of rocprofv2"
    order = 55
    content = "api"
    bundle = BUNDLE

    def recognises(self, source: Source) -> bool:
        """Tell by the column names; rocprofv3 writes the process and thread too."""
        return set(_names(source)) == _CALLS

    def read(self, source: Source, builder: CaptureBuilder) -> None:
        """Add each call as a span."""
        builder.manifest.setdefault("profiler", TOOL)
        names = {"function": "name", "starttimestamp": "begin", "endtimestamp": "end"}
        names["correlationid"] = "correlation_id"
        wanted = {plain: TEXT if plain == "function" else pa.int64() for plain in names}
        table = csv_rows.read(source, wanted, builder, columns=_names(source))
        calls = ApiRows(source.name, builder, pid=_pid(source))
        calls.add(table.rename_columns([names[plain] for plain in table.column_names]))
        calls.commit()


READERS = (RocprofV2KernelsReader(), RocprofV2OperationsReader(), RocprofV2CallsReader())
