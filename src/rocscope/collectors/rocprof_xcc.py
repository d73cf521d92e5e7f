"""One dispatch on several accelerator dies: rocprofv2 writes a row for each, all with the same times."""

from __future__ import annotations

from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from rocscope.collectors.rocprof_columns import COUNTER

_KEYS: Final = ("pid", "gpu", "dispatch_id", "begin")


def merge_dies(table: pa.Table) -> tuple[pa.Table, int]:
    """Return one row a dispatch, and how many rows were merged into others.

    A counter that all dies agree on keeps its value. One that differs becomes null: whether to add the dies
    up or to average them depends on the counter, and the file does not say.
    """
    keys = [key for key in _KEYS if key in table.column_names]
    if "xcc" not in table.column_names or "dispatch_id" not in keys:
        return table, 0
    counters = [name for name in table.column_names if name.startswith(COUNTER)]
    numbered = table.append_column("row", pa.array(range(table.num_rows), pa.int64()))
    wanted = [("row", "min")] + [(name, how) for name in counters for how in ("min", "max")]
    groups = numbered.group_by(keys).aggregate(wanted).sort_by("row_min")
    if groups.num_rows == table.num_rows:
        return table, 0
    merged = table.take(groups["row_min"])
    for name in counters:
        low, high = groups[f"{name}_min"], groups[f"{name}_max"]
        value = pc.if_else(pc.equal(low, high), low, pa.scalar(None, pa.float64()))
        merged = merged.set_column(merged.column_names.index(name), name, value)
    return merged, table.num_rows - merged.num_rows
