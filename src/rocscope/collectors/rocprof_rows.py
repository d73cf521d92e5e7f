"""Dispatches of rocprof v1 and v2 on their way into a capture: one meaning for all their file formats."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from rocscope.collectors.builder import CaptureBuilder
from rocscope.collectors.rocminfo import Agent
from rocscope.collectors.rocprof_columns import COUNTER
from rocscope.collectors.rocprof_text import text
from rocscope.tables import DISPATCHES

BARRIER: Final = "<barrier packet>"
CLOCK_SLACK_NS: Final = 1_000_000
UNRECORDED: Final = "not recorded"
"""The agent of a dispatch whose tool did not write which device it ran on."""

_SHAPE: Final = (
    "queue",
    "dispatch_id",
    "grid_x",
    "workgroup_x",
    "wave_size",
    "lds_bytes",
    "scratch_bytes",
    "vgprs",
    "agprs",
    "sgprs",
)


class DispatchRows:
    """Takes batches with the columns of :class:`rocscope.collectors.rocprof_columns.Layout`.

    No row reaches the builder before :meth:`commit`.
    """

    def __init__(
        self,
        name: str,
        builder: CaptureBuilder,
        *,
        counters: tuple[str, ...],
        tool: str,
        agents: Iterable[Agent] = (),
        quoted: bool = False,
        note: str = "",
    ) -> None:
        self._name = name
        self._builder = builder
        self._agents = {agent.node: agent for agent in agents}
        self._quoted = quoted
        self._tool = tool
        self._counters = counters
        self._pass = (
            builder.add_pass(counters, perturbed=True, note=note or tool) if counters else builder.add_pass()
        )
        self._ready: list[tuple[str, int, dict[str, Any]]] = []
        self._found: Counter[str] = Counter()
        self._apart_ns = 0
        self._seen = 0
        self.rows = 0
        self.nodes: set[int] = set()

    def add(self, batch: pa.Table) -> None:
        """Take a batch; columns that are absent are null in the capture."""
        if "dispatch_id" not in batch.schema.names:  # the JSON lacks Index, which counts the rows
            numbered = pa.array(range(self._seen, self._seen + batch.num_rows), pa.int64())
            batch = batch.append_column("dispatch_id", numbered)
        self._seen += batch.num_rows
        columns = dict(zip(batch.schema.names, batch.columns, strict=True))
        begin, end = self._times(columns, batch.num_rows)
        backwards = pc.fill_null(pc.less(end, begin), False)
        if negative := pc.sum(backwards).as_py() or 0:
            self._found["negative"] += negative
            batch = batch.filter(pc.invert(backwards))
            columns = dict(zip(batch.schema.names, batch.columns, strict=True))
            begin, end = self._times(columns, batch.num_rows)
        if not batch.num_rows:
            return
        rows = batch.num_rows
        self.rows += rows
        self._found["untimed"] += begin.null_count if "begin" in columns else 0
        duration = self._duration(columns, begin, end)
        self._compare_clocks(columns, begin, end)

        names = text(columns["kernel"], unquote=self._quoted)
        process = indices(columns.get("pid"), self._process)
        gpu = indices(columns.get("gpu"), self._gpu)
        one_pass = pa.scalar(self._pass, pa.int16())
        ready: dict[str, Any] = {
            "pass": one_pass,
            "process": process,
            "gpu": gpu,
            "kind": kinds(names),
            "kernel": names,
            "start_ns": begin,
            "end_ns": end,
            "duration_ns": duration,
            "count": pa.scalar(1, pa.int64()),
        }
        ready |= {name: self._fitting(name, columns[name]) for name in _SHAPE if name in columns}
        if "correlation_id" in columns:  # 0 says that there is none
            known = columns["correlation_id"]
            ready["correlation_id"] = pc.if_else(pc.equal(known, 0), None, known)
        self._ready.append(("dispatches", rows, ready))
        if self._counters:
            self._add_counters(columns, process, gpu)

    def commit(self) -> None:
        """Hand all over to the builder, and say what was amiss."""
        name, found = self._name, self._found
        self._builder.manifest.setdefault("profiler", self._tool.removesuffix(" v1"))
        self._builder.drop("negative-duration", found["negative"], name)
        for table, rows, columns in self._ready:
            self._builder.append(table, rows, **columns)
        self._ready.clear()
        self._tell()

    def _tell(self) -> None:
        name, found = self._name, self._found
        if not self.rows and not found["negative"]:
            self._notice(
                "no-dispatches",
                f"{name} has a header and no dispatches: nothing was launched, or a filter matched nothing",
            )
        if found["untimed"]:
            self._notice("untimed-dispatches", f"{name}: {found['untimed']} dispatches have no times")
        if found["odd"]:
            self._notice(
                "impossible-values", f"{name}: {found['odd']} sizes or ids cannot be, and are left out"
            )
        if found["disagree"]:
            self._notice(
                "duration-disagrees",
                f"{name}: in {found['disagree']} rows DurationNs is not EndNs - BeginNs, which is used",
            )
        if found["apart"]:
            self._notice(
                "clock-domains-differ",
                f"{name}: BeginNs and EndNs lie outside DispatchNs to CompleteNs in {found['apart']} of "
                f"{self.rows} dispatches, by up to {self._apart_ns / 1e9:.3f} s: these are two clocks, "
                "and no queue delay is computed from them",
            )

    def _fitting(self, name: str, column: Any) -> Any:
        """Return ``column`` without values that no such column can have."""
        most = (1 << (DISPATCHES.field(name).type.bit_width - 1)) - 1
        odd = pc.fill_null(pc.or_(pc.less(column, 0), pc.greater(column, most)), False)
        if not (count := pc.sum(odd).as_py() or 0):
            return column
        self._found["odd"] += count
        return pc.if_else(odd, None, column)

    def _notice(self, code: str, message: str) -> None:
        self._builder.notice(code, message, self._name)

    def _times(self, columns: dict[str, Any], rows: int) -> tuple[pa.Array, pa.Array]:
        """Return begin and end, both null where either is missing or zero."""
        if "begin" not in columns or "end" not in columns:
            return pa.nulls(rows, pa.int64()), pa.nulls(rows, pa.int64())
        begin, end = columns["begin"], columns["end"]
        timed = pc.fill_null(pc.and_(pc.greater(begin, 0), pc.greater(end, 0)), False)
        return pc.if_else(timed, begin, None), pc.if_else(timed, end, None)

    def _duration(self, columns: dict[str, Any], begin: pa.Array, end: pa.Array) -> pa.Array:
        duration = pc.subtract(end, begin)
        recorded = columns.get("recorded_duration")
        if recorded is None:
            return duration
        self._found["disagree"] += pc.sum(pc.not_equal(duration, recorded)).as_py() or 0
        if "begin" in columns:
            return duration
        return pc.if_else(pc.greater_equal(recorded, 0), recorded, None)

    def _compare_clocks(self, columns: dict[str, Any], begin: pa.Array, end: pa.Array) -> None:
        if not {"dispatched", "completed"} <= set(columns):
            return
        early = pc.subtract(columns["dispatched"], begin)
        late = pc.subtract(end, columns["completed"])
        # a completion of 0 was not recorded
        apart = pc.if_else(pc.greater(columns["completed"], 0), pc.max_element_wise(early, late), None)
        outside = pc.fill_null(pc.greater(apart, CLOCK_SLACK_NS), False)
        if count := pc.sum(outside).as_py() or 0:
            self._found["apart"] += count
            self._apart_ns = max(self._apart_ns, pc.max(apart).as_py())

    def _add_counters(self, columns: dict[str, Any], process: Any, gpu: Any) -> None:
        shared = {"process": process, "gpu": gpu, "dispatch_id": columns["dispatch_id"]}
        numbered = shared["dispatch_id"].is_valid()
        for counter in self._counters:
            value = columns.get(COUNTER + counter)
            if value is None:
                continue
            row = shared | {"value": value}
            if shared["dispatch_id"].null_count:  # a counter belongs to a dispatch or to nothing
                row = {k: v if isinstance(v, pa.Scalar) else v.filter(numbered) for k, v in row.items()}
            row |= {"pass": pa.scalar(self._pass, pa.int16()), "counter": pa.scalar(counter)}
            self._ready.append(("counters", len(row["dispatch_id"]), row))

    def _process(self, pid: int | None) -> int:
        return self._builder.process(pid or 0)

    def _gpu(self, agent: int | None) -> int:
        if agent is None:
            return self._builder.gpu(UNRECORDED)
        self.nodes.add(agent)
        known = self._agents.get(agent)
        return self._builder.gpu(str(agent), **(known.properties() if known else {}))


def indices(column: Any, register: Callable[[int | None], int]) -> pa.Array | pa.Scalar:
    """Return the index that ``register`` gives for each id in ``column``; null and no column are ``None``."""
    if column is None:
        return pa.scalar(register(None), pa.int32())
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    encoded = column.dictionary_encode("encode")
    known = pa.array([register(each) for each in encoded.dictionary.to_pylist()], pa.int32())
    return known.take(encoded.indices)


def kinds(names: pa.DictionaryArray) -> pa.DictionaryArray:
    """Return ``kernel`` or, for the pseudo-kernel that stands for waiting, ``barrier``."""
    places = [int(name == BARRIER) for name in names.dictionary.to_pylist()]
    return pa.DictionaryArray.from_arrays(
        pa.array(places, pa.int32()).take(names.indices), pa.array(["kernel", "barrier"])
    )
