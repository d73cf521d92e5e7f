"""Arrow columns as numpy arrays, rows numbered by their values, sums and means of the numbered groups."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

_CHUNK: Final = 4096  # rows that are turned into objects together
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def records(frame: pd.DataFrame) -> Iterator[dict[Any, Any]]:
    """Give the rows of a frame as dicts of plain values, without holding all of them at once."""
    names = list(frame.columns)
    for first in range(0, len(frame), _CHUNK):
        part = frame.iloc[first : first + _CHUNK]
        lists = [part.iloc[:, at].tolist() for at in range(len(names))]
        yield from (dict(zip(names, values, strict=True)) for values in zip(*lists, strict=True))


def holds(column: pa.ChunkedArray, test: Callable[[str], bool]) -> pa.ChunkedArray:
    """Return for each row of a dictionary column whether ``test`` is true of its text; a null is not.

    The test runs once a distinct text, not once a row.
    """
    chunks = [
        pc.fill_null(
            pa.array(
                [value is not None and test(value) for value in chunk.dictionary.to_pylist()], pa.bool_()
            ).take(chunk.indices),
            False,
        )
        for chunk in column.chunks
    ]
    return pa.chunked_array(chunks, pa.bool_())


def number(columns: list[pa.ChunkedArray]) -> tuple[Ints, int]:
    """Number the distinct rows of integer columns in order of appearance; null is a value of its own."""
    return identify([ints(column) for column in columns])


def identify(columns: list[Ints]) -> tuple[Ints, int]:
    """Number the distinct rows of ``columns`` in order of appearance."""
    import pandas as pd

    code = np.zeros(len(columns[0]), np.int64)
    distinct = 1
    for column in columns:
        low = int(column.min()) if len(column) else 0
        spread = (int(column.max()) if len(column) else 0) - low + 1
        if spread == 1:
            continue
        shifted = column - low
        if spread > 1 << 31:
            shifted, values = pd.factorize(shifted)
            spread = len(values)
        if distinct * spread >= 1 << 62:
            code, seen = pd.factorize(code)
            distinct = len(seen)
        code = code * spread + shifted
        distinct *= spread
    ids, seen = pd.factorize(code)
    return ids.astype(np.int64), len(seen)


def ints(column: pa.ChunkedArray) -> Ints:
    """Return a number column as int64 with -1 for null."""
    found: Ints = pc.fill_null(column.cast(pa.int64()), -1).to_numpy()
    return found


def text(column: pa.ChunkedArray) -> tuple[Ints, NDArray[Any]]:
    """Return codes of a dictionary column, -1 for null, and the distinct values they stand for."""
    import pandas as pd

    merged = column.combine_chunks()
    if isinstance(merged, pa.ChunkedArray):  # empty, or from a version of Arrow that keeps one chunk wrapped
        merged = merged.chunk(0) if merged.num_chunks else pa.array([], column.type)
    remap, values = pd.factorize(np.array(merged.dictionary.to_pylist(), dtype=object))
    codes = pc.fill_null(merged.indices.cast(pa.int64()), -1).to_numpy(zero_copy_only=False)
    if not len(remap):
        return np.full(len(codes), -1, np.int64), np.empty(0, object)
    return np.where(codes < 0, -1, remap[codes]).astype(np.int64), values


def lookup(column: tuple[Ints, NDArray[Any]], rows: Ints) -> list[str | None]:
    """Return the texts of ``rows`` of a column from :func:`text`, ``None`` for null."""
    codes, values = column
    return [None if code < 0 else values[code] for code in codes[rows]]


def sole(column: tuple[Ints, NDArray[Any]], ids: Ints, size: int, first: Ints) -> list[str | None]:
    """Return the value that all rows of a group share, ``None`` where they differ."""
    codes, _ = column
    differs = np.bincount(ids, weights=codes != codes[first][ids], minlength=size) > 0
    return [None if bad else value for bad, value in zip(differs, lookup(column, first), strict=True)]


def first_rows(ids: Ints, size: int) -> Ints:
    """Return the first row of each group: of repeated targets of an assignment the last one stays."""
    first = np.zeros(size, np.int64)
    first[ids[::-1]] = np.arange(len(ids) - 1, -1, -1)
    return first


def known(column: pa.ChunkedArray, ids: Ints, size: int) -> Floats:
    """Return the first value of each group that is recorded, NaN where none is."""
    result = np.full(size, np.nan)
    if column.null_count == len(column):
        return result
    values = ints(column)
    rows = np.flatnonzero(values >= 0)[::-1]
    result[ids[rows]] = values[rows]
    return result


def mean(column: pa.ChunkedArray, ids: Ints, size: int) -> Floats:
    """Return the mean of each group over its rows that are not null, NaN where all are."""
    if column.null_count == len(column):
        return np.full(size, np.nan)
    values = ints(column)
    valid = values >= 0
    with np.errstate(invalid="ignore"):
        return total(ids[valid], values[valid], size) / np.bincount(ids[valid], minlength=size)


def total(ids: Ints, values: NDArray[Any], size: int) -> Ints:
    """Sum integers by group; exact while a group's sum is below 2**53."""
    return np.bincount(ids, weights=values, minlength=size).astype(np.int64)
