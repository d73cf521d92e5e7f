"""What is kept of a window for good: a row for each GPU, kernel and launch shape, in zstd Parquet.

A year of windows is some gigabytes of them on a fleet, so they can be asked about where raw traces cannot be
kept. Times are of the pass without counters. Runs in a child that ends.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from rocscope import columns, metrics
from rocscope.study import Study

BUCKETS: Final = 64
_TEXT: Final = pa.dictionary(pa.int32(), pa.string())
_KEYS: Final = ("gpu", "kind", "raw_name", *metrics.SHAPE)

SCHEMA: Final = pa.schema(
    [
        pa.field("window_id", _TEXT, nullable=False),
        pa.field("node", _TEXT, nullable=False),
        pa.field("at_s", pa.float64(), nullable=False),  # Unix time at which the window was asked for
        pa.field("gpu", _TEXT, nullable=False),  # PCI address where recorded, else its index
        pa.field("kind", _TEXT, nullable=False),  # kernel | memcpy | memset
        pa.field("family", _TEXT, nullable=False),
        pa.field("kernel", _TEXT, nullable=False),  # short name
        pa.field("raw_name", _TEXT, nullable=False),  # as recorded, untrusted text
        *(pa.field(name, pa.int64()) for name in metrics.SHAPE),  # work-items
        pa.field("n", pa.int64(), nullable=False),  # dispatches
        pa.field("timed", pa.int64(), nullable=False),  # of them, those with a time; what follows is of these
        pa.field("sum_ns", pa.int64()),
        pa.field("min_ns", pa.float64()),
        pa.field("max_ns", pa.float64()),
        pa.field("sum_squares_ns2", pa.float64()),  # null where only totals were recorded
        pa.field("log2_first", pa.int8()),  # bucket of the first of the next; likewise null
        pa.field("log2_counts", pa.list_(pa.int64())),  # bucket i: dispatches of 2**i <= ns < 2**(i + 1)
        pa.field("bytes", pa.float64()),  # of all n; null unless known of all
        pa.field("bytes_basis", _TEXT),
        pa.field("flops", pa.float64()),
        pa.field("flops_basis", _TEXT),
    ]
)


def write(study: Study, path: Path, *, window_id: str, node: str, at_s: float) -> int:
    """Write the aggregates of an analysed recording; return the number of rows."""
    table = of(study, window_id=window_id, node=node, at_s=at_s)
    pq.write_table(table, path, compression="zstd", use_dictionary=True)
    return int(table.num_rows)


def of(study: Study, *, window_id: str, node: str, at_s: float) -> pa.Table:
    """Return a row for each (GPU, kernel, launch shape) in the order of the analysis; see :data:`SCHEMA`."""
    frame = study.kernels
    ids, groups = _grouped(frame)
    size = len(groups)
    times = _times(study, ids, size)
    sums = frame.assign(group=ids)
    first = sums.drop_duplicates("group").set_index("group").sort_index()
    found: dict[str, Any] = {
        "window_id": [window_id] * size,
        "node": [node] * size,
        "at_s": [at_s] * size,
        "gpu": [label(study, gpu) for gpu in first["gpu"]],
        **{name: first[name].tolist() for name in ("kind", "family", "kernel", "raw_name")},
        **{name: _whole(first[name]) for name in metrics.SHAPE},
        "n": sums.groupby("group")["dispatches"].sum().astype(int).tolist(),
        **times,
    }
    for what in ("bytes", "flops"):
        found[what], found[f"{what}_basis"] = _moved(sums, what)
    return pa.table({name: _column(found[name], SCHEMA.field(name).type) for name in SCHEMA.names}, SCHEMA)


def _column(values: list[Any], kind: pa.DataType) -> pa.Array:
    return pa.array(values, pa.string()).dictionary_encode() if kind == _TEXT else pa.array(values, kind)


def label(study: Study, gpu: int) -> str:
    """Return what names a GPU in the ledger: its PCI address, else its index."""
    found = next((each.pci for each in study.capture.manifest.gpus if each.gpu == gpu), "")
    return found or str(gpu)


def _grouped(frame: Any) -> tuple[NDArray[np.int64], Any]:
    """Number rows of kernels by what is kept apart; those of several problems or layers are one."""
    grouped = frame.groupby(list(_KEYS), dropna=False, sort=False)
    return grouped.ngroup().to_numpy(np.int64), grouped.size()


def _times(study: Study, ids: NDArray[np.int64], size: int) -> dict[str, Any]:
    rows = metrics.timing(study.capture).rows
    member = metrics.members(study.capture, study.kernels, study.placed)
    group = np.where(member >= 0, ids[member], -1) if size else member
    timed = np.asarray(rows["duration_ns"].is_valid()) & (group >= 0)
    duration, count = columns.ints(rows["duration_ns"])[timed], columns.ints(rows["count"])[timed]
    group = group[timed]
    number = np.bincount(group, count, size).astype(np.int64)
    total = np.zeros(size, np.int64)
    np.add.at(total, group, duration)
    mean = duration / np.maximum(count, 1)
    least, most = np.full(size, np.inf), np.full(size, -np.inf)
    np.minimum.at(least, group, mean)
    np.maximum.at(most, group, mean)
    single = np.bincount(group, count > 1, size) == 0
    told = (number > 0) & single
    squares = np.bincount(group, duration.astype(np.float64) ** 2, size)
    bucket = np.log2(np.maximum(duration, 1)).astype(np.int64)
    histogram = np.bincount(group * BUCKETS + bucket, minlength=size * BUCKETS).reshape(size, BUCKETS)
    spans = [np.flatnonzero(row) if known else None for row, known in zip(histogram, told, strict=True)]
    return {
        "timed": number.tolist(),
        "sum_ns": _where(number > 0, total),
        "min_ns": _where(told, least),
        "max_ns": _where(told, most),
        "sum_squares_ns2": _where(told, squares),
        "log2_first": [None if span is None else int(span[0]) for span in spans],
        "log2_counts": [
            None if span is None else row[span[0] : span[-1] + 1].tolist()
            for row, span in zip(histogram, spans, strict=True)
        ],
    }


def _where(known: NDArray[np.bool_], values: NDArray[Any]) -> list[Any]:
    return [value if told else None for value, told in zip(values.tolist(), known.tolist(), strict=True)]


def _whole(column: Any) -> list[int | None]:
    return [None if math.isnan(value) else int(value) for value in column.tolist()]


def _moved(frame: Any, what: str) -> tuple[list[float | None], list[str | None]]:
    """Return bytes or FLOPs of each group with their basis; ``None`` unless all of it is known."""
    usable = frame[what].where(frame["flagged"].isna()) if what == "bytes" else frame[what]
    rows = frame.assign(
        moved=usable * frame["dispatches"], basis=frame[f"{what}_basis"].where(usable.notna())
    )
    values: list[float | None] = []
    bases: list[str | None] = []
    for _, group in rows.groupby("group", sort=True):
        basis = {each for each in group["basis"].tolist() if isinstance(each, str) and each}
        known = bool(group["moved"].notna().all()) and bool(basis)
        values.append(float(group["moved"].sum()) if known else None)
        bases.append(mixed(basis) if known else None)
    return values, bases


def mixed(basis: set[str]) -> str:
    """Say how a sum was come by."""
    return next(iter(basis)) if len(basis) == 1 else "measured and modelled"
