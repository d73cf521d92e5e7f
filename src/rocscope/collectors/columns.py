"""Columns gathered chunk by chunk from decoded records, and how they become columns of a capture."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Columns = dict[str, npt.NDArray[Any]]

MISSING: Final = -(1 << 63)  # an absent number, until it becomes a null


class Codes(dict[Any, int]):
    """Numbers for values, in the order of their first appearance."""

    def __missing__(self, key: Hashable) -> int:
        code = self[key] = len(self)
        return code

    def of(self, values: Sequence[Any]) -> Ints:
        """Return the numbers of ``values``."""
        return np.array([self[value] for value in values], dtype=np.int64)


class Rows:
    """Columns that grow by chunks."""

    def __init__(self) -> None:
        self._parts: dict[str, list[npt.NDArray[Any]]] = {}

    def append(self, **columns: npt.NDArray[Any]) -> None:
        """Add a chunk: the same columns each time."""
        for name, values in columns.items():
            self._parts.setdefault(name, []).append(values)

    def finish(self, *names: str) -> Columns:
        """Return the whole columns; those of ``names`` are there even if no row is."""
        empty = np.zeros(0, dtype=np.int64)
        found = {name: np.concatenate(parts) for name, parts in self._parts.items()}
        return {**dict.fromkeys(names, empty), **found}


def ints(values: Sequence[Any]) -> Ints:
    """Return numbers of 64 bits; what is none, or does not fit, is ``MISSING``."""
    try:
        return np.array(values, dtype=np.int64)
    except (TypeError, ValueError, OverflowError):
        return np.array([_int(value) for value in values], dtype=np.int64)


def triples(values: Sequence[tuple[int, int, int]]) -> Ints:
    """Return numbers in rows of three, as :func:`ints`."""
    return ints([number for value in values for number in value]).reshape(len(values), 3)


def _int(value: Any) -> int:
    try:
        number = int(value)
    except (TypeError, ValueError):
        return MISSING
    return number if -(1 << 63) <= number < 1 << 63 else MISSING


def picked(column: Ints, rows: Ints, absent: int = -1) -> Ints:
    """Return ``column`` at ``rows``, ``absent`` where the row is negative."""
    found = np.full(len(rows), absent, dtype=np.int64)
    held = rows >= 0
    found[held] = column[rows[held]]
    return found


def mapped(column: Ints, to: dict[int, int]) -> Ints:
    """Replace the values of ``column``; ``MISSING`` where ``to`` has none."""
    values, inverse = np.unique(column, return_inverse=True)
    return np.array([to.get(v, MISSING) for v in values.tolist()], dtype=np.int64)[inverse]


def nullable(column: Ints) -> pa.Array:
    """Return ``column`` with nulls for ``MISSING``."""
    return pa.array(column, mask=column == MISSING)


def texts(codes: Ints, known: pa.Array) -> pa.Array:
    """Return a dictionary column of the ``known`` texts in use, null where the code is negative."""
    used = np.zeros(len(known), dtype=np.bool_)
    used[codes[codes >= 0]] = True
    place = np.append(np.cumsum(used) - 1, -1)  # the last is for negative codes
    indices = pa.array(place[np.maximum(codes, -1)].astype(np.int32), mask=codes < 0)
    return pa.DictionaryArray.from_arrays(indices, known.filter(pa.array(used)))
