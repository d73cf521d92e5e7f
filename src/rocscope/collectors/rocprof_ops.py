"""Device operations and host calls of tracing runs, which carry no launch shape: rocprof v1 and v2."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from rocscope.collectors.builder import CaptureBuilder
from rocscope.collectors.rocprof_rows import BARRIER, UNRECORDED, indices
from rocscope.collectors.rocprof_text import text


class OpRows:
    """Kernels, copies or barriers by name, begin and end; see :func:`operation_kind` for ``lane``.

    Batches have ``kernel``, ``begin``, ``end`` and may have ``device``, ``pid``, ``queue``, ``stream``,
    ``correlation_id``. ``device`` here is the number that the tracer gives, not a KFD node.
    """

    def __init__(
        self,
        name: str,
        builder: CaptureBuilder,
        *,
        lane: str = "kernel",
        device: Callable[[int], int] | None = None,
        pid: int = 0,
    ) -> None:
        self._name = name
        self._builder = builder
        self._lane = lane
        self._device = device or (lambda number: builder.gpu(f"device {number}"))
        self._pid = pid
        self._negative = 0
        self._ready: list[tuple[int, dict[str, Any]]] = []
        self.rows = 0

    def add(self, batch: pa.Table) -> None:
        """Take a batch; rows that end before they begin are left out and counted."""
        batch, lost = _forward(batch)
        self._negative += lost
        if not batch.num_rows:
            return
        columns = dict(zip(batch.schema.names, batch.columns, strict=True))
        names = text(columns["kernel"], unquote=True)
        ready: dict[str, Any] = {
            "pass": pa.scalar(self._builder.add_pass(), pa.int16()),
            "process": indices(columns.get("pid"), self._process),
            "gpu": indices(columns.get("device"), self._gpu),
            "kind": _kinds(names, self._lane),
            "kernel": names,
            "start_ns": columns["begin"],
            "end_ns": columns["end"],
            "duration_ns": pc.subtract(columns["end"], columns["begin"]),
            "count": pa.scalar(1, pa.int64()),
        }
        ready |= {name: columns[name] for name in ("queue", "stream", "correlation_id") if name in columns}
        self._ready.append((batch.num_rows, ready))
        self.rows += batch.num_rows

    def commit(self) -> None:
        """Hand all over to the builder."""
        self._builder.drop("negative-duration", self._negative, self._name)
        for rows, columns in self._ready:
            self._builder.append("dispatches", rows, **columns)
        self._ready.clear()

    def _process(self, pid: int | None) -> int:
        return self._builder.process(self._pid if pid is None else pid)

    def _gpu(self, number: int | None) -> int:
        return self._builder.gpu(UNRECORDED) if number is None else self._device(number)


class ApiRows:
    """Host calls and annotations: ``name``, ``begin``, ``end``, and where known ``pid``, ``thread``."""

    def __init__(self, name: str, builder: CaptureBuilder, *, kind: str = "api", pid: int = 0) -> None:
        self._name = name
        self._builder = builder
        self._kind = kind
        self._pid = pid
        self._negative = 0
        self._ready: list[tuple[int, dict[str, Any]]] = []

    def add(self, batch: pa.Table) -> None:
        """Take a batch; calls that end before they begin are left out and counted."""
        batch, lost = _forward(batch)
        self._negative += lost
        if not batch.num_rows:
            return
        columns = dict(zip(batch.schema.names, batch.columns, strict=True))
        ready: dict[str, Any] = {
            "process": indices(columns.get("pid"), self._process),
            "kind": pa.scalar(self._kind),
            "name": text(columns["name"], unquote=True),
            "start_ns": columns["begin"],
            "end_ns": columns["end"],
        }
        ready |= {name: columns[name] for name in ("thread", "correlation_id") if name in columns}
        self._ready.append((batch.num_rows, ready))

    def commit(self) -> None:
        """Hand all over to the builder."""
        self._builder.drop("negative-span", self._negative, self._name)
        for rows, columns in self._ready:
            self._builder.append("spans", rows, **columns)
        self._ready.clear()

    def _process(self, pid: int | None) -> int:
        return self._builder.process(self._pid if pid is None else pid)


def _forward(batch: pa.Table) -> tuple[pa.Table, int]:
    """Return the rows that have times and end no earlier than they begin, and how many were left out."""
    begin, end = batch.column("begin"), batch.column("end")
    fine = pc.fill_null(pc.and_(pc.greater(begin, 0), pc.greater_equal(end, begin)), False)
    kept = batch.filter(fine)
    return kept, batch.num_rows - kept.num_rows


def _kinds(names: pa.DictionaryArray, lane: str) -> pa.DictionaryArray:
    found = [operation_kind(name, lane) for name in names.dictionary.to_pylist()]
    return pa.array(found, pa.string()).dictionary_encode().take(names.indices)


def operation_kind(name: str, lane: str) -> str:
    """Return ``kernel``, ``memcpy``, ``memset`` or ``barrier`` for an operation.

    ``lane`` is what the tool keeps together there: ``kernel``, ``copy`` (copies and fills) or ``barrier``.
    """
    if lane == "barrier" or name == BARRIER:
        return "barrier"
    if lane == "kernel":
        return "kernel"
    return "memset" if "fill" in name.lower() or "memset" in name.lower() else "memcpy"
