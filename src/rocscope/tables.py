"""The four typed tables of a capture, as Arrow schemas.

Names carry their unit. A missing value is null, never 0. Text columns are dictionary encoded, since a
million dispatches share a few hundred names.
"""

from __future__ import annotations

from typing import Final

import pyarrow as pa

TEXT: Final = pa.dictionary(pa.int32(), pa.string())

KINDS: Final = ("kernel", "memcpy", "memset", "barrier")
"""What a row of ``dispatches`` is. ``barrier`` rows are waiting, not work."""

DISPATCHES: Final = pa.schema(
    [
        pa.field("pass", pa.int16(), nullable=False),  # index into manifest.passes
        pa.field("process", pa.int32(), nullable=False),  # index into manifest.processes
        pa.field("gpu", pa.int32(), nullable=False),  # index into manifest.gpus
        pa.field("queue", pa.int64()),
        pa.field("stream", pa.int64()),
        pa.field("dispatch_id", pa.int64()),  # as the profiler numbers it; unique only per process
        pa.field("correlation_id", pa.int64()),  # joins spans of the launching call
        pa.field("kind", TEXT, nullable=False),
        pa.field("kernel", TEXT, nullable=False),  # as recorded, untrusted text
        pa.field("start_ns", pa.int64()),  # capture clock; null in aggregated recordings
        pa.field("end_ns", pa.int64()),
        pa.field("duration_ns", pa.int64()),  # of all `count` dispatches together; null where not timed
        pa.field("count", pa.int64(), nullable=False),  # dispatches this row stands for; 1 unless aggregated
        pa.field("grid_x", pa.int64()),  # work-items; only x where a tool gives the product
        pa.field("grid_y", pa.int64()),
        pa.field("grid_z", pa.int64()),
        pa.field("workgroup_x", pa.int32()),  # work-items
        pa.field("workgroup_y", pa.int32()),
        pa.field("workgroup_z", pa.int32()),
        pa.field("wave_size", pa.int16()),
        pa.field("lds_bytes", pa.int64()),  # per workgroup
        pa.field("scratch_bytes", pa.int64()),  # per work-item
        pa.field("vgprs", pa.int32()),  # architectural
        pa.field("agprs", pa.int32()),  # accumulation
        pa.field("sgprs", pa.int32()),
        pa.field("copied_bytes", pa.int64()),  # of a memcpy or memset, as recorded
        pa.field("operator", TEXT),  # framework operator that launched it, e.g. aten::mm
        # its inputs as JSON: [{"dims": [..], "dtype": "..", "stored": n}, ..]; stored, elements in memory,
        # only where strides were recorded
        pa.field("operator_shapes", TEXT),
        pa.field("case", TEXT),  # of a table of measurements, as are the next two: the user's own word for it
        pa.field("given_family", TEXT),  # what the user says it is, over what its name says
        pa.field("given_flops_unit", TEXT),  # the pipe that the user says does its FLOPs
    ]
)
"""One row a dispatch (or, in aggregated recordings, a kernel)."""

COUNTERS: Final = pa.schema(
    [
        pa.field("pass", pa.int16(), nullable=False),
        pa.field("process", pa.int32(), nullable=False),
        pa.field("gpu", pa.int32(), nullable=False),
        pa.field("dispatch_id", pa.int64(), nullable=False),  # a row of dispatches of the same pass
        pa.field("counter", TEXT, nullable=False),
        pa.field("value", pa.float64()),  # summed over instances; null where rejected
    ]
)
"""Hardware counters, long: a row for each dispatch and counter."""

SPANS: Final = pa.schema(
    [
        pa.field("process", pa.int32(), nullable=False),
        pa.field("thread", pa.int64()),
        pa.field("kind", TEXT, nullable=False),  # api | operator | annotation | gpu_annotation | overhead
        pa.field("name", TEXT, nullable=False),
        pa.field("start_ns", pa.int64(), nullable=False),
        pa.field("end_ns", pa.int64(), nullable=False),
        pa.field("correlation_id", pa.int64()),
        pa.field("gpu", pa.int32()),  # of a gpu_annotation
    ]
)
"""Host side: API calls, operators, step annotations."""

SAMPLES: Final = pa.schema(
    [
        pa.field("time_ns", pa.int64(), nullable=False),  # capture clock
        pa.field("source", TEXT, nullable=False),  # host | amdsmi | sysfs | nvml | serving
        pa.field("subject", TEXT, nullable=False),  # "process:1234:VLLM::Worker", "gpu:0", "server"
        pa.field("metric", TEXT, nullable=False),  # with its unit: power_w, rss_bytes, cpu_frac
        pa.field("value", pa.float64(), nullable=False),
    ]
)
"""Telemetry, long: a row for each reading."""

SCHEMAS: Final = {"dispatches": DISPATCHES, "counters": COUNTERS, "spans": SPANS, "samples": SAMPLES}


def empty(name: str) -> pa.Table:
    """Return the table ``name`` of :data:`SCHEMAS` without rows."""
    return pa.Table.from_batches([], SCHEMAS[name])  # Schema.empty_table would import pandas


def conform(name: str, columns: dict[str, pa.Array | pa.ChunkedArray | pa.Scalar], rows: int) -> pa.Table:
    """Build table ``name`` from the columns given; the others are null.

    ``rows`` is the row count; a scalar column is repeated. Plain strings are dictionary encoded, numbers
    cast safely. Raises ``KeyError`` for a column the schema lacks and ``ValueError`` for a required one
    that is absent.
    """
    schema = SCHEMAS[name]
    unknown = set(columns) - set(schema.names)
    if unknown:
        raise KeyError(f"not columns of {name}: {sorted(unknown)}")
    arrays = []
    for field in schema:
        column = columns.get(field.name)
        if column is None:
            if not field.nullable:
                raise ValueError(f"{name} needs the column {field.name}")
            arrays.append(pa.nulls(rows, field.type))
            continue
        if isinstance(column, pa.Scalar):
            column = _repeat(column, rows)
        arrays.append(_encode(column) if field.type == TEXT else column.cast(field.type))
    return pa.Table.from_arrays(arrays, schema=schema)


def _repeat(scalar: pa.Scalar, rows: int) -> pa.Array:
    if pa.types.is_string(scalar.type):  # one dictionary entry, not a copy a row
        return pa.DictionaryArray.from_arrays(
            pa.repeat(pa.scalar(0, pa.int32()), rows), pa.array([scalar.as_py()])
        )
    return pa.repeat(scalar, rows)


def _encode(column: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    if pa.types.is_dictionary(column.type):
        return column if column.type == TEXT else column.cast(pa.string()).dictionary_encode()
    return column.cast(pa.string()).dictionary_encode()
