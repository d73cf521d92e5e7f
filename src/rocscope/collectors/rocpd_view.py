"""The view ``kernels`` of a rocpd database, for files whose tables are laid out in a way not known here."""

from __future__ import annotations

from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from rocscope.collectors import dispatch_rows
from rocscope.collectors.builder import CaptureBuilder
from rocscope.collectors.rocpd_store import Store
from rocscope.collectors.source import Source

_COLUMNS: Final = {
    "dispatch_id": ("dispatch_id",),
    "queue": ("queue_id",),
    "stream": ("stream_id",),
    **{f"{name}_{axis}": (f"{name}_{axis}",) for name in ("grid", "workgroup") for axis in "xyz"},
    "lds_bytes": ("lds_size",),
    "scratch_bytes": ("scratch_size",),
    "vgprs": ("vgpr_count", "arch_vgpr_count"),
    "agprs": ("accum_vgpr_count",),
    "sgprs": ("sgpr_count",),
    "correlation_id": ("stack_id",),
}


def read_view(source: Source, store: Store, host: str, builder: CaptureBuilder) -> None:
    """Add the dispatches that the view gives; say how many of the table's it leaves out.

    The view joins event, region, symbol, process and thread, and loses rows where one of them is absent.
    """
    have = store.columns("kernels")
    if not {"name", "start", "end"} <= have:
        builder.notice(
            "unknown-layout",
            f"{source.name}: its tables are not laid out as in any known version",
            source.name,
        )
        return
    agents = [name for name in ("agent_abs_index", "agent_absolute_index") if name in have]
    found = {name: next((c for c in columns if c in have), None) for name, columns in _COLUMNS.items()}
    select = {
        "starttimestamp": '"start"',
        "endtimestamp": '"end"',
        "name": "IFNULL(CAST(name AS TEXT), '')",
        "pid": "IFNULL(pid, 0)" if "pid" in have else "0",
        "agent": f"IFNULL({agents[0]}, -1)" if agents else "-1",
        **{name: column for name, column in found.items() if column},
    }
    shown = ", ".join(f"{sql} AS {name}" for name, sql in select.items())
    table = store.arrow(f"SELECT {shown} FROM kernels")
    if "rocpd_kernel_dispatch" in store.names:
        lost = store.count("rocpd_kernel_dispatch") - table.num_rows
        if lost > 0:
            builder.drop("left out by the database's view", lost, source.name)
            builder.notice(
                "view-loses-rows",
                f"{source.name}: the view `kernels` leaves out {lost} dispatches",
                source.name,
            )
    table = dispatch_rows.timed(source, table, builder)
    if not table.num_rows:
        return
    process = table["pid"].combine_chunks().dictionary_encode()
    owners = [builder.process(pid, host=host) for pid in process.dictionary.to_pylist()]
    agent = table["agent"].combine_chunks().dictionary_encode()
    gpus = [
        builder.gpu(f"Agent {node}" if node >= 0 else "", host=host, key=f"node:{node}")
        for node in agent.dictionary.to_pylist()
    ]
    builder.append(
        "dispatches",
        table.num_rows,
        **{"pass": pa.scalar(builder.add_pass(), pa.int16())},
        **{name: table[name] for name, column in found.items() if column},
        process=pa.array(owners, pa.int32()).take(process.indices),
        gpu=pa.array(gpus, pa.int32()).take(agent.indices),
        kernel=table["name"],
        kind=pa.scalar("kernel"),
        count=pa.scalar(1, pa.int64()),
        start_ns=table["starttimestamp"],
        end_ns=table["endtimestamp"],
        duration_ns=pc.subtract(table["endtimestamp"], table["starttimestamp"]),
    )
