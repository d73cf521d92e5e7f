"""What every reader of dispatches with times does with rows that cannot be right: drop, count, say so."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rocscope.collectors.builder import CaptureBuilder
from rocscope.collectors.source import Source


def timed(source: Source, table: pa.Table, builder: CaptureBuilder) -> pa.Table:
    """Return the rows whose ``starttimestamp`` and ``endtimestamp`` (ns) make sense.

    The others are dropped, counted and named; a table without rows is noticed.
    """
    if not table.num_rows:
        matched_nothing(source, builder)
        return table
    start, end = table["starttimestamp"], table["endtimestamp"]
    faults = {
        "unreadable times": pc.or_(pc.is_null(start), pc.is_null(end)),
        "no times recorded": pc.and_(pc.equal(start, 0), pc.equal(end, 0)),
        "ends before it starts": pc.less(end, start),
    }
    bad = None
    for reason, found in faults.items():
        rows = found.fill_null(False)
        if count := pc.sum(rows).as_py():
            builder.drop(reason, count, source.name)
            builder.notice("dropped-rows", f"{source.name}: {count} rows left out: {reason}", source.name)
            bad = rows if bad is None else pc.or_(bad, rows)
    return table if bad is None else table.filter(pc.invert(bad))


def matched_nothing(source: Source, builder: CaptureBuilder) -> None:
    """Say that a file holds no rows, which is not the same as kernels that took no time."""
    builder.notice(
        "matched-nothing",
        f"{source.name}: a header and no rows: the profiler's filter matched nothing, or nothing ran",
        source.name,
    )


def note_duplicates(
    source: Source, dispatch: pa.ChunkedArray, process: pa.Array | pa.Scalar, builder: CaptureBuilder
) -> None:
    """Say so where a dispatch id comes more than once in one process; all rows are kept."""
    ids = dispatch.drop_null().to_numpy()
    if isinstance(process, pa.Array) and len(ids) == len(process):
        ids = ids + (process.to_numpy().astype(np.int64) << 40)
    if not np.all(np.diff(ids) > 0) and (again := len(ids) - len(np.unique(ids))):
        builder.notice(
            "duplicate-dispatches",
            f"{source.name}: {again} dispatches repeat the id of another; all are kept",
            source.name,
        )
