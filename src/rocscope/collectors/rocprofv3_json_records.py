"""The records of rocprofv3's JSON that are used, and their columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
import numpy as np
import pyarrow as pa

from rocscope.collectors.columns import MISSING, Codes, Columns, Rows, ints, triples


class Handle(msgspec.Struct, gc=False, frozen=True):
    """An opaque id; may exceed 2**63."""

    handle: int = MISSING


class Extent(msgspec.Struct, gc=False, frozen=True):
    """A size in work-items."""

    x: int = MISSING
    y: int = MISSING
    z: int = MISSING


class Correlation(msgspec.Struct, gc=False, frozen=True):
    """Joins the records of one call."""

    internal: int | None = MISSING


_NO_HANDLE: Final = Handle()
_NO_EXTENT: Final = Extent()
_NO_CORRELATION: Final = Correlation()


class Record(msgspec.Struct, gc=False):
    """What every buffer record has."""

    start_timestamp: int | None = None
    end_timestamp: int | None = None
    correlation_id: Correlation = _NO_CORRELATION
    thread_id: int | None = MISSING


class DispatchInfo(msgspec.Struct, gc=False):
    """A launch."""

    agent_id: Handle
    kernel_id: int
    dispatch_id: int | None = MISSING
    queue_id: Handle = _NO_HANDLE
    private_segment_size: int | None = MISSING
    group_segment_size: int | None = MISSING
    workgroup_size: Extent = _NO_EXTENT
    grid_size: Extent = _NO_EXTENT


class Dispatch(Record, gc=False, kw_only=True):
    """An element of ``kernel_dispatch``, or the ``dispatch_data`` of one with counters."""

    dispatch_info: DispatchInfo
    stream_id: Handle = _NO_HANDLE


class Copy(Record, gc=False, kw_only=True):
    """An element of ``memory_copy``."""

    kind: int
    operation: int
    src_agent_id: Handle = _NO_HANDLE
    dst_agent_id: Handle = _NO_HANDLE
    bytes: int | None = MISSING
    stream_id: Handle = _NO_HANDLE


class Call(Record, gc=False, kw_only=True):
    """An element of ``hip_api``, ``rccl_api``, ``marker_api``…"""

    kind: int
    operation: int


class CounterRecord(msgspec.Struct, gc=False):
    """The value of one instance of a counter."""

    counter_id: Handle
    value: float | None = None


class Counted(msgspec.Struct, gc=False):
    """An element of ``counter_collection``."""

    dispatch_data: Dispatch
    records: list[CounterRecord]


class Agent(msgspec.Struct):
    """An element of ``agents``; type 2 is a GPU."""

    id: Handle
    type: int
    name: str = ""
    product_name: str = ""
    cu_count: int | None = None
    wave_front_size: int | None = None
    node_id: int | None = None
    logical_node_id: int | None = None
    domain: int | None = None
    location_id: int | None = None


class KernelSymbol(msgspec.Struct):
    """An element of ``kernel_symbols``."""

    kernel_id: int
    kernel_name: str = ""
    formatted_kernel_name: str = ""
    demangled_kernel_name: str = ""
    group_segment_size: int | None = None
    sgpr_count: int | None = None
    arch_vgpr_count: int | None = None
    accum_vgpr_count: int | None = None

    @property
    def shown(self) -> str:
        """The name as rocprofv3 prints it."""
        return self.formatted_kernel_name or self.demangled_kernel_name or self.kernel_name


class CounterInfo(msgspec.Struct):
    """An element of ``counters``."""

    id: Handle
    name: str


class DispatchColumns:
    """Launches, of a kernel trace or of counter collection."""

    def __init__(self, agents: Codes) -> None:
        self._agents = agents
        self._rows = Rows()

    def add(self, dispatches: Sequence[Dispatch]) -> None:
        """Take a chunk."""
        info = [each.dispatch_info for each in dispatches]
        self._rows.append(
            **_shared(dispatches),
            agent=self._agents.of([each.agent_id.handle for each in info]),
            kernel=ints([each.kernel_id for each in info]),
            dispatch=ints([each.dispatch_id for each in info]),
            queue=ints([each.queue_id.handle for each in info]),
            stream=ints([each.stream_id.handle for each in dispatches]),
            private=ints([each.private_segment_size for each in info]),
            group=ints([each.group_segment_size for each in info]),
            workgroup=triples([(w.x, w.y, w.z) for w in (each.workgroup_size for each in info)]),
            grid=triples([(g.x, g.y, g.z) for g in (each.grid_size for each in info)]),
        )

    def finish(self) -> Columns:
        """Return the whole columns."""
        return self._rows.finish("start", "end", "dispatch")


class CopyColumns:
    """Memory copies."""

    def __init__(self, agents: Codes, operations: Codes) -> None:
        self._agents, self._operations = agents, operations
        self._rows = Rows()

    def add(self, copies: Sequence[Copy]) -> None:
        """Take a chunk."""
        self._rows.append(
            **_shared(copies),
            operation=self._operations.of([(each.kind, each.operation) for each in copies]),
            source=self._agents.of([each.src_agent_id.handle for each in copies]),
            target=self._agents.of([each.dst_agent_id.handle for each in copies]),
            bytes=ints([each.bytes for each in copies]),
            stream=ints([each.stream_id.handle for each in copies]),
        )

    def finish(self) -> Columns:
        """Return the whole columns."""
        return self._rows.finish("start", "end", "source", "target")


class CallColumns:
    """Host calls and markers."""

    def __init__(self, operations: Codes) -> None:
        self._operations = operations
        self._rows = Rows()

    def add(self, calls: Sequence[Call], *, marker: bool) -> None:
        """Take a chunk."""
        self._rows.append(
            **_shared(calls),
            operation=self._operations.of([(each.kind, each.operation) for each in calls]),
            marker=np.full(len(calls), marker, dtype=np.bool_),
        )

    def finish(self) -> Columns:
        """Return the whole columns."""
        return self._rows.finish("start", "end")


class CounterColumns:
    """Values of counters: one row an instance, pointing at the row of its dispatch."""

    def __init__(self, agents: Codes) -> None:
        self.dispatches = DispatchColumns(agents)
        self.handles = Codes()
        self._rows = Rows()
        self._count = 0

    def add(self, counted: Sequence[Counted]) -> None:
        """Take a chunk."""
        self.dispatches.add([each.dispatch_data for each in counted])
        lengths = np.array([len(each.records) for each in counted], dtype=np.int64)
        records = [record for each in counted for record in each.records]
        self._rows.append(
            dispatch=np.repeat(np.arange(self._count, self._count + len(counted)), lengths),
            counter=self.handles.of([record.counter_id.handle for record in records]),
            value=np.array([record.value for record in records], dtype=np.float64),
        )
        self._count += len(counted)

    def sums(self, known: dict[int, str]) -> tuple[Columns, int]:
        """Return values summed over instances, and how many records name no known counter.

        The columns: ``dispatch`` (row), ``counter`` (index into the sorted names of ``known``), ``value``.
        """
        rows = self._rows.finish("dispatch", "counter", "value")
        place = {name: index for index, name in enumerate(sorted(set(known.values())))}
        to = np.array([place.get(known.get(h, ""), -1) for h in self.handles], dtype=np.int64)
        counter = to[rows["counter"]] if len(to) else rows["counter"]
        good = counter >= 0
        key = rows["dispatch"][good] * max(len(place), 1) + counter[good]
        unique, inverse = np.unique(key, return_inverse=True)
        value = np.bincount(inverse, weights=rows["value"][good], minlength=len(unique))
        dispatch, code = np.divmod(unique, max(len(place), 1))
        found: Columns = {"dispatch": dispatch, "counter": code, "value": value}
        return found, int((~good).sum())


def _shared(records: Sequence[Record]) -> dict[str, Any]:
    return {
        "start": ints([MISSING if r.start_timestamp is None else r.start_timestamp for r in records]),
        "end": ints([MISSING if r.end_timestamp is None else r.end_timestamp for r in records]),
        "correlation": ints([r.correlation_id.internal for r in records]),
        "thread": ints([r.thread_id for r in records]),
    }


def names_of(symbols: dict[int, KernelSymbol], kernels: Sequence[int]) -> pa.Array:
    """Return the name of each kernel id, ``<kernel 17>`` where the recording has none."""
    found = [symbols[k].shown if k in symbols else "" for k in kernels]
    return pa.array([name or f"<kernel {k}>" for name, k in zip(found, kernels, strict=True)], pa.string())
