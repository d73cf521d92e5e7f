"""rocpd, rocprofv3's SQLite output (the default from ROCm 7.0), plain or gzipped, merged or single."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rocscope.collectors import counter_rows, dispatch_rows, environment, gpu_device
from rocscope.collectors.builder import CaptureBuilder
from rocscope.collectors.reader import Reader
from rocscope.collectors.rocpd_store import RunTables, Store
from rocscope.collectors.rocpd_view import read_view
from rocscope.collectors.source import Source

_AXES: Final = ("x", "y", "z")


class _Rocpd:
    name = "rocpd"
    help = "rocprofv3 -f rocpd: results.db (SQLite, schema 3)"
    order = 20  # before CSV and JSON: it alone holds everything
    content = "dispatches"

    def recognises(self, source: Source) -> bool:
        """Tell by the tables; ROCm's older rocpd of another schema has no ``rocpd_info_*``."""
        if not source.is_sqlite:
            return False
        if b"rocpd_info_" in source.head:
            return True
        if source.compressed:
            return False
        try:
            with closing(sqlite3.connect(f"{source.path.resolve().as_uri()}?mode=ro", uri=True)) as db:
                text = "SELECT 1 FROM sqlite_master WHERE name LIKE 'rocpd\\_info\\_%' ESCAPE '\\'"
                return db.execute(text).fetchone() is not None
        except (sqlite3.Error, UnicodeError):
            return False

    def read(self, source: Source, builder: CaptureBuilder) -> None:
        """Add dispatches, counters, copies and host calls of each run in the file."""
        builder.manifest.setdefault("profiler", "rocprofv3")
        with source.local() as path, Store.open(path, source) as store:
            runs = [_Run(source, store, tables, builder) for tables in store.runs()]
            understood = [run.read() for run in runs]
            if not any(understood):
                read_view(source, store, runs[0].host if runs else "", builder)


class _Run:
    """One process's recording on its way into the builder."""

    def __init__(self, source: Source, store: Store, tables: RunTables, builder: CaptureBuilder) -> None:
        self.source, self.store, self.tables, self.builder = source, store, tables, builder
        hosts = {row["id"]: _text(row["hostname"]) for row in self._rows("info_node", "id", "hostname")}
        self.host: str = next(iter(hosts.values()), "")
        self.processes = self._processes(hosts)
        names = ("id", "type", "absolute_index", "logical_index", "name", "product_name", "extdata")
        self.agents = {row["id"]: row for row in self._rows("info_agent", *names)}

    def read(self) -> bool:
        """Add everything and tell whether the tables are laid out as known."""
        launch = {
            **{f"workgroup_{axis}": f"K.workgroup_size_{axis}" for axis in _AXES},
            **{f"grid_{axis}": f"K.grid_size_{axis}" for axis in _AXES},
            "scratch": "K.private_segment_size",
            "lds": "K.group_segment_size",
            "kernel_id": "K.kernel_id",
            "dispatchid": "K.dispatch_id",
            "event_id": "K.event_id",
            "correlation": "E.stack_id",  # correlation_id of an event is the external one
        }
        kernels = self.store.timed(self.tables, "kernel_dispatch", launch)
        if kernels is None:
            return False
        ends = {name: f"K.{name}" for name in ("dst_agent_id", "src_agent_id", "size", "name_id")}
        copies = self.store.timed(self.tables, "memory_copy", {**ends, "correlation": "E.stack_id"})
        calls = {
            "name_id": "K.name_id",
            "category_id": "E.category_id",
            "correlation": "E.stack_id",
            "message": "CASE WHEN json_valid(E.extdata) THEN"
            " IFNULL(json_extract(E.extdata, '$.message'), '') ELSE '' END",
        }
        regions = self.store.timed(self.tables, "region", calls)
        counters = self.store.counters(self.tables)
        if not kernels.num_rows and not any(t is not None and t.num_rows for t in (copies, regions)):
            dispatch_rows.matched_nothing(self.source, self.builder)
        index = self._dispatches(kernels, counters)
        if copies is not None and copies.num_rows:
            self._copies(copies, index)
        if regions is not None and regions.num_rows:
            self._regions(regions)
        return True

    def _rows(self, table: str, *columns: str) -> list[dict[str, Any]]:
        return self.store.rows(self.tables, table, columns)

    def _processes(self, hosts: dict[int, str]) -> dict[int, int]:
        """Register the processes; return index by row id and, where no row has it as id, by pid."""
        found: dict[int, int] = {}
        by_pid: dict[int, int] = {}
        for row in self._rows("info_process", "id", "nid", "pid", "command", "environment"):
            if not isinstance(row["pid"], int):
                continue
            kept = environment.allowed(_json(row["environment"]))
            rank = kept.get("RANK", "")
            index = self.builder.process(
                row["pid"],
                host=hosts.get(row["nid"], self.host),
                rank=int(rank) if rank.isdecimal() else None,
                command=environment.command(_text(row["command"]).split()),
            )
            found[row["id"]] = by_pid[row["pid"]] = index
            known = self.builder.manifest.setdefault("environment", dict(kept))
            for name in [n for n, value in known.items() if kept.get(n) != value]:
                del known[name]  # what differs by process is not the run's
        return {**by_pid, **found}

    def _process(self, column: pa.ChunkedArray) -> pa.Array:
        return _mapped(column, self.processes, lambda pid: self.builder.process(pid, host=self.host))

    def _gpu(self, column: pa.ChunkedArray) -> pa.Array:
        return _mapped(column, {}, self._register)

    def _register(self, agent: int) -> int:
        row = self.agents.get(agent)
        if row is None:
            return self.builder.gpu(f"Agent {agent}", host=self.host, key=f"agent:{agent}")
        extra = _json(row["extdata"])
        logical = row["logical_index"] if row["logical_index"] is not None else row["absolute_index"]
        return self.builder.gpu(
            f"Agent {logical}",
            host=self.host,
            key=f"node:{row['absolute_index']}",
            arch=_text(row["name"]),
            name=_text(row["product_name"]),
            compute_units=_count(extra.get("cu_count")),
            wave_size=_count(extra.get("wave_front_size")),
            pci=gpu_device.address(extra.get("domain"), extra.get("location_id")),
        )

    def _dispatches(self, table: pa.Table, counters: pa.Table | None) -> int:
        """Add the dispatches and their counters; return the pass."""
        table = dispatch_rows.timed(self.source, table, self.builder) if table.num_rows else table
        values = self._counter_values(counters, table) if counters is not None and counters.num_rows else None
        if values is None:
            index = self.builder.add_pass()
        else:
            keys = values["dispatch"].to_numpy()
            union, note = counter_rows.pass_of(keys, values["counter"].combine_chunks())
            index = self.builder.add_pass(union, perturbed=True, note=note)
        if not table.num_rows:
            return index
        process, gpu = self._process(table["pid"]), self._gpu(table["agent_id"])
        dispatch_rows.note_duplicates(self.source, table["dispatchid"], process, self.builder)
        orphans = max(table[name].null_count for name in ("event_id", "tid") if name in table.column_names)
        if orphans:
            self.builder.notice(
                "rows-without-event",
                f"{self.source.name}: {orphans} dispatches have no event or thread; the database's own view "
                "`kernels` leaves them out, here they count",
                self.source.name,
            )
        direct = {
            "dispatch_id": "dispatchid",
            "correlation_id": "correlation",
            "queue": "queue_id",
            "stream": "stream_id",
            "start_ns": "starttimestamp",
            "end_ns": "endtimestamp",
            "lds_bytes": "lds",
            "scratch_bytes": "scratch",
            **{f"{name}_{axis}": f"{name}_{axis}" for name in ("grid", "workgroup") for axis in _AXES},
        }
        self.builder.append(
            "dispatches",
            table.num_rows,
            **{"pass": pa.scalar(index, pa.int16())},
            **{name: table[column] for name, column in direct.items() if column in table.column_names},
            **self._symbols(table["kernel_id"]),
            process=process,
            gpu=gpu,
            kind=pa.scalar("kernel"),
            count=pa.scalar(1, pa.int64()),
            duration_ns=pc.subtract(table["endtimestamp"], table["starttimestamp"]),
        )
        if values is not None:
            self._append_counters(values, table, process, gpu, index)
        return index

    def _symbols(self, kernel_ids: pa.ChunkedArray) -> dict[str, pa.Array]:
        """Return name and registers of each dispatch's kernel."""
        registers = {"vgprs": "arch_vgpr_count", "agprs": "accum_vgpr_count", "sgprs": "sgpr_count"}
        rows = self._rows("info_kernel_symbol", "id", "display_name", "kernel_name", *registers.values())
        ids = kernel_ids.combine_chunks()
        known = {row["id"] for row in rows}
        blank = dict.fromkeys(rows[0]) if rows else {}
        for unknown in [each for each in pc.unique(ids).to_pylist() if each not in known]:
            rows.append({**blank, "id": unknown, "display_name": f"<kernel {unknown} without a name>"})
        where = pc.index_in(ids, value_set=pa.array([row["id"] for row in rows], pa.int64()))
        names = [row.get("display_name") or row.get("kernel_name") or "" for row in rows]
        found = {
            name: pa.array([row.get(column) for row in rows], pa.int64()).take(where)
            for name, column in registers.items()
        }
        unique, codes = np.unique(np.array(names, dtype=object), return_inverse=True)
        where = pa.array(codes.astype(np.int32)).take(where)
        return {**found, "kernel": pa.DictionaryArray.from_arrays(where, pa.array(unique, pa.string()))}

    def _counter_values(self, counters: pa.Table, dispatches: pa.Table) -> pa.Table | None:
        """Return ``row`` (of ``dispatches``), ``dispatch``, ``counter`` and ``value``, instances summed."""
        rows = self._rows("info_pmc", "id", "name")
        ids = pa.array([row["id"] for row in rows], pa.int64())
        names = pa.array([row["name"] for row in rows], pa.string()).dictionary_encode()
        row = pc.index_in(counters["event_id"], value_set=dispatches["event_id"].combine_chunks())
        code = names.indices.take(pc.index_in(counters["pmc_id"], value_set=ids).combine_chunks())
        row = row.combine_chunks()
        value = pc.if_else(pc.is_finite(counters["value"]), counters["value"], None).combine_chunks()
        known = pc.and_(
            pc.and_(pc.is_valid(row), pc.is_valid(code)), pc.is_valid(counters["event_id"].combine_chunks())
        )
        self.builder.drop(
            "counter values without a dispatch", pc.sum(pc.invert(known)).as_py(), self.source.name
        )
        table = pa.table({"row": row, "code": code, "value": value}).filter(known)
        if not table.num_rows:
            return None
        whole = table.group_by(["row", "code"], use_threads=False).aggregate([("value", "sum")])
        counter = pa.DictionaryArray.from_arrays(whole["code"].combine_chunks(), names.dictionary)
        value = counter_rows.accept(
            whole["value_sum"].combine_chunks(), counter, self.source.name, self.builder
        )
        return pa.table({"row": whole["row"], "dispatch": whole["row"], "counter": counter, "value": value})

    def _append_counters(
        self, values: pa.Table, table: pa.Table, process: pa.Array, gpu: pa.Array, index: int
    ) -> None:
        rows = values["row"].combine_chunks()
        ids = table["dispatchid"].combine_chunks().take(rows)
        self.builder.append(
            "counters",
            values.num_rows,
            **{"pass": pa.scalar(index, pa.int16())},
            process=process.take(rows),
            gpu=gpu.take(rows),
            dispatch_id=ids,
            counter=values["counter"],
            value=values["value"],
        )
        waves = values.filter(pc.equal(values["counter"].cast(pa.string()), "SQ_WAVES"))
        own = table.take(waves["row"])
        grid, group = (
            np.array([own[f"{name}_{axis}"].to_numpy().astype(float) for axis in _AXES])
            for name in ("grid", "workgroup")
        )
        with np.errstate(invalid="ignore", divide="ignore"):
            full = (np.mod(grid, group) == 0).all(axis=0)
        sizes = {_count(_json(a["extdata"]).get("wave_front_size")) for a in self.agents.values()} - {None}
        message = counter_rows.check_waves(
            waves["value"].to_numpy().astype(float),
            np.where(full, grid.prod(axis=0), np.nan),
            group.prod(axis=0),
            sizes.pop() if len(sizes) == 1 else None,
            self.source.name,
        )
        if message:
            self.builder.notice("waves-mismatch", message, self.source.name)

    def _copies(self, table: pa.Table, index: int) -> None:
        table = dispatch_rows.timed(self.source, table, self.builder)
        gpus = pa.array([key for key, row in self.agents.items() if row["type"] == "GPU"], pa.int64())
        agent = pc.if_else(
            pc.is_in(table["src_agent_id"], value_set=gpus), table["src_agent_id"], table["dst_agent_id"]
        )
        device = pc.is_in(agent, value_set=gpus)
        self.builder.drop("copies within the host", pc.sum(pc.invert(device)).as_py() or 0, self.source.name)
        table, agent = table.filter(device), agent.filter(device)
        if not table.num_rows:
            return
        direct = {"queue": "queue_id", "stream": "stream_id", "correlation_id": "correlation"}
        self.builder.append(
            "dispatches",
            table.num_rows,
            **{"pass": pa.scalar(index, pa.int16())},
            **{name: table[column] for name, column in direct.items() if column in table.column_names},
            kernel=self._strings(table["name_id"]),
            kind=pa.scalar("memcpy"),
            count=pa.scalar(1, pa.int64()),
            process=self._process(table["pid"]),
            gpu=self._gpu(agent),
            start_ns=table["starttimestamp"],
            end_ns=table["endtimestamp"],
            duration_ns=pc.subtract(table["endtimestamp"], table["starttimestamp"]),
            copied_bytes=table["size"],
        )

    def _regions(self, table: pa.Table) -> None:
        table = dispatch_rows.timed(self.source, table, self.builder)
        if not table.num_rows:
            return
        marker = pc.starts_with(self._strings(table["category_id"]).cast(pa.string()), "MARKER")
        message = table["message"].combine_chunks()
        said = pc.and_(marker, pc.not_equal(message, ""))
        thread = {}
        if "tid" in table.column_names:
            known = {row["id"]: row["tid"] for row in self._rows("info_thread", "id", "tid")}
            thread["thread"] = _mapped(table["tid"], known, int, pa.int64())
        self.builder.append(
            "spans",
            table.num_rows,
            **thread,
            process=self._process(table["pid"]),
            kind=pc.if_else(marker, "annotation", "api"),
            name=pc.if_else(said, message, self._strings(table["name_id"]).cast(pa.string())),
            start_ns=table["starttimestamp"],
            end_ns=table["endtimestamp"],
            correlation_id=table["correlation"],
        )

    def _strings(self, ids: pa.ChunkedArray) -> pa.DictionaryArray:
        rows = {row["id"]: row["string"] for row in self._rows("string", "id", "string")}
        where = pc.index_in(ids.combine_chunks(), value_set=pa.array(list(rows), pa.int64()))
        names = pa.array(["", *rows.values()], pa.string())
        return pa.DictionaryArray.from_arrays(pc.add(where, 1).fill_null(0), names)


def _mapped(
    column: pa.ChunkedArray, known: dict[int, int], make: Any, kind: pa.DataType | None = None
) -> pa.Array:
    """Return ``known`` (or ``make``) of each number of ``column``; null stays null only with ``kind``."""
    encoded = column.combine_chunks().dictionary_encode(null_encoding="mask")
    found = [known[each] if each in known else make(each) for each in encoded.dictionary.to_pylist()]
    taken = pa.array(found, kind or pa.int32()).take(encoded.indices)
    return taken if kind or not taken.null_count else taken.fill_null(make(0))


def _json(text: object) -> dict[str, Any]:
    try:
        found = json.loads(text) if isinstance(text, str) else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and value > 0 else None


READERS: list[Reader] = [_Rocpd()]
