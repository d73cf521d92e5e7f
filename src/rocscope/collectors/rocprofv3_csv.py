"""rocprofv3's CSV of what ran: kernel_trace, memory_copy_trace, API traces and stats, of ROCm 6.2 to 7.x.

Recognised by their columns. Counters are read in ``rocprofv3_counters``.
"""

from __future__ import annotations

import re
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from rocscope.collectors import csv_rows, dispatch_rows, rocprofv3_agents, stems
from rocscope.collectors.builder import CaptureBuilder
from rocscope.collectors.reader import Reader
from rocscope.collectors.rocprofv3_counters import counter_pass
from rocscope.collectors.source import Source
from rocscope.tables import TEXT

BUNDLE: Final = "rocprofv3-csv"
_TIMES: Final = {"starttimestamp": pa.int64(), "endtimestamp": pa.int64()}
_OWNER: Final = {"guid": TEXT, "processid": pa.int64(), "threadid": pa.int64()}
_FUNCTION: Final = re.compile(r"(__)?hip[A-Z]\w*|hsa_\w+|nccl\w+|roctx\w*|(?!MEMORY_COPY_)[A-Z]+(_[A-Z]+)*")


class _KernelTrace:
    """One row a dispatch, with times and launch geometry."""

    name = "rocprofv3-csv-kernels"
    help = "rocprofv3 --kernel-trace -f csv: kernel_trace.csv"
    order = 21
    content = "dispatches"
    bundle = BUNDLE

    def recognises(self, source: Source) -> bool:
        """Tell by the columns; rocprofv2 writes GPU_ID where rocprofv3 writes Agent_Id."""
        names = set(csv_rows.header(source))
        return {"agentid", "kernelname", "starttimestamp", "endtimestamp", "gridsizex"} <= names

    def read(self, source: Source, builder: CaptureBuilder) -> None:
        """Add the dispatches."""
        wanted = {
            **_TIMES,
            **_OWNER,
            **dict.fromkeys(("agentid", "kernelname"), TEXT),
            **dict.fromkeys(("queueid", "streamid", "dispatchid", "correlationid"), pa.int64()),
            **dict.fromkeys(("ldsblocksize", "groupsegmentsize"), pa.int64()),
            **dict.fromkeys(("scratchsize", "privatesegmentsize"), pa.int64()),
            **dict.fromkeys(("vgprcount", "accumvgprcount", "sgprcount"), pa.int32()),
            **{f"workgroupsize{axis}": pa.int32() for axis in "xyz"},
            **{f"gridsize{axis}": pa.int64() for axis in "xyz"},
        }
        table = csv_rows.read(source, wanted, builder)
        table = dispatch_rows.timed(source, table, builder)
        if not table.num_rows:
            return
        columns = {
            "dispatch_id": "dispatchid",
            "correlation_id": "correlationid",
            "kernel": "kernelname",
            "queue": "queueid",
            "stream": "streamid",
            "start_ns": "starttimestamp",
            "end_ns": "endtimestamp",
            "lds_bytes": "ldsblocksize" if "ldsblocksize" in table.column_names else "groupsegmentsize",
            "scratch_bytes": "scratchsize" if "scratchsize" in table.column_names else "privatesegmentsize",
            "vgprs": "vgprcount",
            "agprs": "accumvgprcount",
            "sgprs": "sgprcount",
            **{f"workgroup_{axis}": f"workgroupsize{axis}" for axis in "xyz"},
            **{f"grid_{axis}": f"gridsize{axis}" for axis in "xyz"},
        }
        process = rocprofv3_agents.processes(source, table, builder)
        if "dispatchid" in table.column_names:
            dispatch_rows.note_duplicates(source, table["dispatchid"], process, builder)
        builder.append(
            "dispatches",
            table.num_rows,
            **{name: table[column] for name, column in columns.items() if column in table.column_names},
            **_common(source, builder, "kernel"),
            process=process,
            gpu=rocprofv3_agents.gpus(source, table["agentid"], builder),
            duration_ns=pc.subtract(table["endtimestamp"], table["starttimestamp"]),
        )


class _MemoryCopies:
    """Copies between host and devices; this format does not say how many bytes."""

    name = "rocprofv3-csv-copies"
    help = "rocprofv3 --memory-copy-trace -f csv: memory_copy_trace.csv"
    order = 22
    content = "dispatches"
    bundle = BUNDLE

    def recognises(self, source: Source) -> bool:
        """Tell by the columns."""
        names = set(csv_rows.header(source))
        return {"direction", "sourceagentid", "destinationagentid", "starttimestamp"} <= names

    def read(self, source: Source, builder: CaptureBuilder) -> None:
        """Add the copies, each on the GPU it concerns; copies within the host are dropped and counted."""
        ends = ("direction", "sourceagentid", "destinationagentid")
        wanted = {
            **_TIMES,
            **_OWNER,
            **dict.fromkeys(ends, TEXT),
            "streamid": pa.int64(),
            "correlationid": pa.int64(),
        }
        table = dispatch_rows.timed(source, csv_rows.read(source, wanted, builder), builder)
        direction = table["direction"].cast(pa.string())
        inside = pc.match_substring(direction, "HOST_TO_HOST")
        builder.drop("copies within the host", pc.sum(inside).as_py() or 0, source.name)
        table = table.filter(pc.invert(inside))
        if not table.num_rows:
            return
        inward = pc.match_substring(table["direction"].cast(pa.string()), "TO_DEVICE")
        inward = pc.and_not(inward, pc.match_substring(table["direction"].cast(pa.string()), "DEVICE_TO"))
        agents = pc.if_else(
            inward, table["destinationagentid"].cast(pa.string()), table["sourceagentid"].cast(pa.string())
        ).dictionary_encode()
        optional = {"stream": "streamid", "correlation_id": "correlationid"}
        builder.append(
            "dispatches",
            table.num_rows,
            **{name: table[column] for name, column in optional.items() if column in table.column_names},
            **_common(source, builder, "memcpy"),
            kernel=table["direction"],
            process=rocprofv3_agents.processes(source, table, builder),
            gpu=rocprofv3_agents.gpus(source, agents, builder),
            start_ns=table["starttimestamp"],
            end_ns=table["endtimestamp"],
            duration_ns=pc.subtract(table["endtimestamp"], table["starttimestamp"]),
        )


class _ApiTrace:
    """Host calls (HIP, HSA, RCCL…) and the annotations a program makes with ROCTx."""

    name = "rocprofv3-csv-api"
    help = "rocprofv3 --hip-trace, --hsa-trace, --marker-trace, --rccl-trace -f csv"
    order = 28
    content = "api"
    bundle = BUNDLE

    def recognises(self, source: Source) -> bool:
        """Tell by the columns; rocprofv2's API tables lack the process."""
        names = set(csv_rows.header(source))
        return {"domain", "function", "processid", "starttimestamp", "endtimestamp"} <= names

    def read(self, source: Source, builder: CaptureBuilder) -> None:
        """Add the calls as spans."""
        wanted = {**_TIMES, **_OWNER, "domain": TEXT, "function": TEXT, "correlationid": pa.int64()}
        table = dispatch_rows.timed(source, csv_rows.read(source, wanted, builder), builder)
        if not table.num_rows:
            return
        domain = table["domain"].unify_dictionaries().combine_chunks()
        kinds = [
            "annotation" if text.upper().startswith("MARKER") else "api"
            for text in domain.dictionary.to_pylist()
        ]
        optional = {"thread": "threadid", "correlation_id": "correlationid"}
        builder.append(
            "spans",
            table.num_rows,
            **{name: table[column] for name, column in optional.items() if column in table.column_names},
            process=rocprofv3_agents.processes(source, table, builder),
            kind=pa.array(kinds, pa.string()).take(domain.indices),
            name=table["function"],
            start_ns=table["starttimestamp"],
            end_ns=table["endtimestamp"],
        )
        builder.manifest.setdefault("profiler", "rocprofv3")


class _Stats:
    """Totals a name, without single dispatches."""

    name = "rocprofv3-csv-stats"
    help = "rocprofv3 --stats -f csv: kernel_stats.csv, memory_copy_stats.csv"
    order = 29
    content = "aggregate"
    bundle = BUNDLE

    def recognises(self, source: Source) -> bool:
        """Tell by the columns; rocprof v1's stats lack MinNs and StdDev."""
        names = set(csv_rows.header(source))
        return {"name", "calls", "totaldurationns", "minns", "maxns", "stddev"} <= names

    def content_of(self, source: Source) -> str:
        """Tell totals of kernels and copies from totals of host calls, which have the same columns."""
        said = stems.split(source.path.name)[1]
        name = csv_rows.first_row(source).get("name", "")
        kernels = said.startswith(("kernel", "memory_copy")) if said else not _FUNCTION.fullmatch(name)
        return "aggregate" if kernels else "api"

    def read(self, source: Source, builder: CaptureBuilder) -> None:
        """Add one row a name with its ``count``; totals of host calls are of no use and noticed."""
        builder.manifest.setdefault("profiler", "rocprofv3")
        table = csv_rows.read(
            source, {"name": TEXT, "calls": pa.int64(), "totaldurationns": pa.int64()}, builder
        )
        if not table.num_rows:
            return dispatch_rows.matched_nothing(source, builder)
        if self.content_of(source) == "api":
            return builder.notice(
                "not-used", f"{source.name}: totals of host calls, which say nothing of kernels", source.name
            )
        good = pc.and_(pc.is_valid(table["calls"]), pc.is_valid(table["totaldurationns"]))
        builder.drop("unreadable totals", pc.sum(pc.invert(good)).as_py() or 0, source.name)
        table = table.filter(good)
        agents = rocprofv3_agents.read_agents(source)
        where = rocprofv3_agents.host(source)
        sole = f"{agents[0].node}" if len(agents) == 1 else ""
        copies = pc.starts_with(table["name"].cast(pa.string()), "MEMORY_COPY_")
        common = _common(source, builder, "kernel")
        common["kind"] = pc.if_else(copies, "memcpy", "kernel")
        common["count"] = table["calls"]
        return builder.append(
            "dispatches",
            table.num_rows,
            **common,
            kernel=table["name"],
            process=pa.scalar(builder.process(rocprofv3_agents.pid(source), host=where), pa.int32()),
            gpu=pa.scalar(rocprofv3_agents.register(sole, agents, where, builder), pa.int32()),
            duration_ns=table["totaldurationns"],
        )


def _common(source: Source, builder: CaptureBuilder, kind: str) -> dict[str, pa.Scalar]:
    builder.manifest.setdefault("profiler", "rocprofv3")
    counters, note = counter_pass(source)
    index = builder.add_pass(counters, perturbed=bool(counters), note=note)
    return {"pass": pa.scalar(index, pa.int16()), "kind": pa.scalar(kind), "count": pa.scalar(1, pa.int64())}


READERS: list[Reader] = [_KernelTrace(), _MemoryCopies(), _ApiTrace(), _Stats()]
