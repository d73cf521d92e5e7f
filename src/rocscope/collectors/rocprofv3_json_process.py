"""One process of rocprofv3's JSON: its records, and the rows they become."""

from __future__ import annotations

from typing import Any, Final

import msgspec
import numpy as np
import pyarrow as pa

from rocscope.collectors import counter_rows, gpu_device
from rocscope.collectors.builder import CaptureBuilder
from rocscope.collectors.columns import (
    MISSING,
    Codes,
    Columns,
    Ints,
    Mask,
    mapped,
    nullable,
    texts,
)
from rocscope.collectors.rocprofv3_json_records import (
    Agent,
    CallColumns,
    CopyColumns,
    CounterColumns,
    CounterInfo,
    DispatchColumns,
    KernelSymbol,
    names_of,
)

_GPU: Final = 2
_CDNA_WAVE: Final = 64  # GPUs of this width run no other; those of 32 may run waves of 64 too


class _Node(msgspec.Struct, frozen=True):
    hostname: str = ""


class Metadata(msgspec.Struct):
    """Who was recorded. The configuration and environment are not kept."""

    pid: int = 0
    init_time: int | None = None
    fini_time: int | None = None
    command: list[str] = []
    node: _Node = _Node()


class _Operations(msgspec.Struct):
    kind: str = ""
    operations: list[str] = []


class _Marker(msgspec.Struct):
    key: int
    value: str


class Strings(msgspec.Struct):
    """Names of operations by kind, and texts of markers by correlation."""

    buffer_records: list[_Operations] = []
    marker_api: list[_Marker] = []


class ProcessRecords:
    """The records of one process."""

    def __init__(self, handles: Codes, operations: Codes) -> None:
        self.metadata, self.strings = Metadata(), Strings()
        self.agents: dict[int, Agent] = {}
        self.symbols: dict[int, KernelSymbol] = {}
        self.counters: dict[int, str] = {}
        self.dispatches = DispatchColumns(handles)
        self.copies = CopyColumns(handles, operations)
        self.calls = CallColumns(operations)
        self.counted = CounterColumns(handles)
        self._handles, self._operations = handles, operations

    def add_agents(self, agents: list[Agent]) -> None:
        """Take a chunk of ``agents``."""
        self.agents |= {agent.id.handle: agent for agent in agents}

    def add_symbols(self, symbols: list[KernelSymbol]) -> None:
        """Take a chunk of ``kernel_symbols``."""
        self.symbols |= {symbol.kernel_id: symbol for symbol in symbols}

    def add_counters(self, counters: list[CounterInfo]) -> None:
        """Take a chunk of ``counters``."""
        self.counters |= {counter.id.handle: counter.name for counter in counters}

    def add_to(self, builder: CaptureBuilder, source: str) -> None:
        """Put process, devices and rows into ``builder``; ``source`` names the file in messages."""
        _Output(self, builder, source).add()

    def register(self, code: int, host: str, builder: CaptureBuilder) -> int:
        """Register the device of an agent's number and return its index."""
        handle = list(self._handles)[code]
        agent = self.agents.get(handle)
        if agent is None or agent.node_id is None:
            return builder.gpu(f"agent {handle}", host=host)
        logical = agent.node_id if agent.logical_node_id is None else agent.logical_node_id
        return builder.gpu(
            f"Agent {logical}",
            host=host,
            key=f"node:{agent.node_id}",
            arch=agent.name,
            name=agent.product_name,
            compute_units=agent.cu_count or None,
            wave_size=agent.wave_front_size or None,
            pci=gpu_device.address(agent.domain, agent.location_id),
        )

    def gpu_codes(self) -> Ints:
        """Return the numbers of the agents that are GPUs, or not described."""
        others = {h for h, agent in self.agents.items() if agent.type != _GPU} | {0, MISSING}
        return np.array([code for h, code in self._handles.items() if h not in others], dtype=np.int64)

    def wide_codes(self) -> Ints:
        """Return the numbers of the agents whose waves are all 64 wide."""
        wide = {h for h, agent in self.agents.items() if agent.wave_front_size == _CDNA_WAVE}
        return np.array([code for h, code in self._handles.items() if h in wide], dtype=np.int64)

    def operation_names(self) -> pa.Array:
        """Return the names of the operations by their numbers."""
        known = self.strings.buffer_records
        found = []
        for kind, operation in self._operations:
            names = known[kind].operations if 0 <= kind < len(known) else []
            named = 0 <= operation < len(names) and names[operation]
            found.append(named or f"<operation {kind}.{operation}>")
        return pa.array(found, pa.string())


class _Output:
    """Writes the rows of one process."""

    def __init__(self, records: ProcessRecords, builder: CaptureBuilder, source: str) -> None:
        self._records, self._builder, self._source = records, builder, source
        metadata = records.metadata
        self._host = metadata.node.hostname
        self._process = builder.process(metadata.pid, host=self._host, command=tuple(metadata.command))

    def add(self) -> None:
        self._describe()
        index = self._add_counters()
        trace = self._timed(self._records.dispatches.finish())
        if index is None:
            index = self._builder.add_pass()
        if len(trace["start"]):
            self._add_dispatches(trace, index)
        counted = self._records.counted.dispatches.finish()
        if len(counted["start"]):
            self._add_dispatches(self._untraced(counted, trace["dispatch"]), index)
        self._add_copies(self._timed(self._records.copies.finish()), index)
        self._add_calls(self._timed(self._records.calls.finish()))

    def _describe(self) -> None:
        manifest, metadata = self._builder.manifest, self._records.metadata
        manifest.setdefault("profiler", "rocprofv3")
        if self._host:
            manifest.setdefault("host", self._host)
        if metadata.command:
            manifest.setdefault("command", list(metadata.command))
        if metadata.init_time and metadata.fini_time and metadata.fini_time > metadata.init_time:
            lived_s = (metadata.fini_time - metadata.init_time) / 1e9
            manifest["duration_s"] = max(lived_s, manifest.get("duration_s") or 0.0)

    def _add_counters(self) -> int | None:
        """Add the values of counters and return their pass; ``None`` without any.

        Dispatches that a kernel trace recorded at the same time ran under the counters as well, so they
        are of that pass.
        """
        records, builder = self._records, self._builder
        sums, unknown = records.counted.sums(records.counters)
        builder.drop("values of unknown counters", unknown, self._source)
        if not len(sums["dispatch"]):
            return None
        names = texts(sums["counter"], pa.array(sorted(set(records.counters.values())), pa.string()))
        counters, note = counter_rows.pass_of(sums["dispatch"], names)
        index = builder.add_pass(counters, perturbed=True, note=note)
        launches = records.counted.dispatches.finish()
        values = pa.array(sums["value"], mask=~np.isfinite(sums["value"]))
        values = counter_rows.accept(values, names, self._source, builder)
        builder.append(
            "counters",
            len(names),
            **{"pass": pa.scalar(index, pa.int16())},
            process=pa.scalar(self._process, pa.int32()),
            gpu=self._gpus(launches["agent"][sums["dispatch"]]),
            dispatch_id=pa.array(launches["dispatch"][sums["dispatch"]]),
            counter=names,
            value=values,
        )
        self._check_waves(launches, sums["dispatch"], names, values)
        return index

    def _check_waves(
        self, launches: Columns, rows: Ints, names: pa.DictionaryArray, values: pa.Array
    ) -> None:
        import pyarrow.compute as pc

        waves = pc.equal(names.cast(pa.string()), "SQ_WAVES").to_numpy(zero_copy_only=False)
        sizes = {agent.wave_front_size for agent in self._records.agents.values() if agent.type == _GPU}
        grid, workgroup = (launches[n].astype(float).prod(axis=1)[rows[waves]] for n in ("grid", "workgroup"))
        message = counter_rows.check_waves(
            values.to_numpy(zero_copy_only=False)[waves],
            grid,
            workgroup,
            next(iter(sizes)) if len(sizes) == 1 else None,
            self._source,
        )
        if message:
            self._builder.notice("waves-mismatch", message, self._source)

    def _timed(self, rows: Columns) -> Columns:
        """Return the rows whose times make sense; the others are dropped and counted."""
        start, end = rows["start"], rows["end"]
        unreadable = (start == MISSING) | (end == MISSING)
        absent = ~unreadable & (start == 0) & (end == 0)
        backwards = ~unreadable & (end < start)
        reasons = {
            "unreadable times": unreadable,
            "no times recorded": absent,
            "ends before it starts": backwards,
        }
        for reason, found in reasons.items():
            self._builder.drop(reason, int(found.sum()), self._source)
        return _kept(rows, ~(unreadable | absent | backwards))

    def _untraced(self, counted: Columns, traced: Ints) -> Columns:
        """Return the dispatches with counters that no kernel trace gave; without times that make no sense."""
        rows = _kept(counted, ~np.isin(counted["dispatch"], traced))
        good = (rows["start"] > 0) & (rows["end"] >= rows["start"])
        for name in ("start", "end"):
            rows[name] = np.where(good, rows[name], MISSING)
        return rows

    def _add_dispatches(self, rows: Columns, index: int) -> None:
        symbols = self._records.symbols
        kernels, inverse = np.unique(rows["kernel"], return_inverse=True)
        ids = kernels.tolist()
        unnamed = sum(int((inverse == n).sum()) for n, k in enumerate(ids) if k not in symbols)
        if unnamed:
            message = f"{unnamed} dispatches in {self._source} are of kernels whose name was not recorded"
            self._builder.notice("kernel-name-missing", message, self._source)
        known = [symbols.get(k) for k in ids]

        def of_symbol(field: str, *, zero_is_missing: bool) -> pa.Array:
            values = [getattr(symbol, field) if symbol else None for symbol in known]
            numbers = [MISSING if v is None or (zero_is_missing and v == 0) else v for v in values]
            return nullable(np.array(numbers, dtype=np.int64)[inverse])

        timed = rows["start"] != MISSING
        wide = np.isin(rows["agent"], self._records.wide_codes())
        columns: dict[str, Any] = {
            "gpu": self._gpus(rows["agent"]),
            "queue": nullable(rows["queue"]),
            "dispatch_id": nullable(rows["dispatch"]),
            "kind": pa.scalar("kernel"),
            "kernel": texts(inverse.astype(np.int64), names_of(symbols, ids)),
            "duration_ns": nullable(np.where(timed, rows["end"] - rows["start"], MISSING)),
            "wave_size": nullable(np.where(wide, _CDNA_WAVE, MISSING)),
            "lds_bytes": nullable(rows["group"]),
            "scratch_bytes": nullable(rows["private"]),
            "vgprs": of_symbol("arch_vgpr_count", zero_is_missing=True),
            "agprs": of_symbol("accum_vgpr_count", zero_is_missing=False),
            "sgprs": of_symbol("sgpr_count", zero_is_missing=True),
        }
        for axis, letter in enumerate("xyz"):
            columns[f"grid_{letter}"] = nullable(rows["grid"][:, axis])
            columns[f"workgroup_{letter}"] = nullable(rows["workgroup"][:, axis])
        self._append(rows, index, columns)

    def _add_copies(self, rows: Columns, index: int) -> None:
        """Add the copies, each on the GPU it concerns: where it ends, else where it begins."""
        gpus = self._records.gpu_codes()
        to, of = np.isin(rows["target"], gpus), np.isin(rows["source"], gpus)
        self._builder.drop("copies within the host", int((~(to | of)).sum()), self._source)
        rows["agent"] = np.where(of, rows["source"], rows["target"])
        rows = _kept(rows, to | of)
        if not len(rows["start"]):
            return
        columns: dict[str, Any] = {
            "gpu": self._gpus(rows["agent"]),
            "kind": pa.scalar("memcpy"),
            "kernel": texts(rows["operation"], self._records.operation_names()),
            "duration_ns": pa.array(rows["end"] - rows["start"]),
            "copied_bytes": nullable(rows["bytes"]),
        }
        self._append(rows, index, columns)

    def _append(self, rows: Columns, index: int, columns: dict[str, Any]) -> None:
        self._builder.append(
            "dispatches",
            len(rows["start"]),
            **{"pass": pa.scalar(index, pa.int16())},
            process=pa.scalar(self._process, pa.int32()),
            stream=nullable(rows["stream"]),
            correlation_id=nullable(rows["correlation"]),
            start_ns=nullable(rows["start"]),
            end_ns=nullable(rows["end"]),
            count=pa.scalar(1, pa.int64()),
            **columns,
        )

    def _add_calls(self, rows: Columns) -> None:
        if not len(rows["start"]):
            return
        names = [*self._records.operation_names().to_pylist()]
        said = {marker.key: marker.value for marker in self._records.strings.marker_api}
        messages = Codes()
        keys = {correlation: messages[text] + len(names) for correlation, text in said.items()}
        own = np.where(rows["marker"], mapped(rows["correlation"], keys), MISSING)
        self._builder.append(
            "spans",
            len(rows["start"]),
            process=pa.scalar(self._process, pa.int32()),
            thread=nullable(rows["thread"]),
            kind=texts(rows["marker"].astype(np.int64), pa.array(["api", "annotation"])),
            name=texts(np.where(own >= 0, own, rows["operation"]), pa.array([*names, *messages])),
            start_ns=pa.array(rows["start"]),
            end_ns=pa.array(rows["end"]),
            correlation_id=nullable(rows["correlation"]),
        )

    def _gpus(self, agents: Ints) -> pa.Array:
        """Return the GPU index of each row from its agent's number."""
        codes = np.unique(agents).tolist()
        known = {code: self._records.register(code, self._host, self._builder) for code in codes}
        return pa.array(mapped(agents, known))


def _kept(rows: Columns, wanted: Mask) -> Columns:
    return dict(rows) if wanted.all() else {name: values[wanted] for name, values in rows.items()}
