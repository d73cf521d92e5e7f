"""Writes synthetic rocpd databases (schema 3), for tests and benchmarks; nothing in them was measured.

Tables and columns are named as rocprofiler-sdk names them: each physical table carries the run's uuid, a
view without it gives the same rows, and ``kernels`` joins them. The SQL is our own. ``layout="track"``
keeps times and owners in ``rocpd_timestamp`` and ``rocpd_track``, as early and development versions do.
"""

from __future__ import annotations

import json
import sqlite3
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

INFO = {
    "metadata": "tag TEXT, value TEXT",
    "string": "string TEXT",
    "info_node": "hash BIGINT, machine_id TEXT, system_name TEXT, hostname TEXT, release TEXT, version TEXT",
    "info_process": "nid INTEGER, ppid INTEGER, pid INTEGER, init BIGINT, fini BIGINT, start BIGINT,"
    " \"end\" BIGINT, command TEXT, environment TEXT DEFAULT '{}', extdata TEXT DEFAULT '{}'",
    "info_thread": "nid INTEGER, ppid INTEGER, pid INTEGER, tid INTEGER, name TEXT",
    "info_agent": "nid INTEGER, pid INTEGER, type TEXT, absolute_index INTEGER, logical_index INTEGER,"
    " type_index INTEGER, uuid INTEGER, name TEXT, model_name TEXT, vendor_name TEXT, product_name TEXT,"
    " user_name TEXT, extdata TEXT DEFAULT '{}'",
    "info_queue": "nid INTEGER, pid INTEGER, name TEXT",
    "info_stream": "nid INTEGER, pid INTEGER, name TEXT",
    "info_pmc": "nid INTEGER, pid INTEGER, agent_id INTEGER, target_arch TEXT, name TEXT, symbol TEXT,"
    " is_constant INTEGER, is_derived INTEGER",
    "info_code_object": "nid INTEGER, pid INTEGER, agent_id INTEGER, uri TEXT",
    "info_kernel_symbol": "nid INTEGER, pid INTEGER, code_object_id INTEGER, kernel_name TEXT,"
    " display_name TEXT, group_segment_size INTEGER, private_segment_size INTEGER, sgpr_count INTEGER,"
    " arch_vgpr_count INTEGER, accum_vgpr_count INTEGER",
    "event": "category_id INTEGER, stack_id INTEGER, parent_stack_id INTEGER, correlation_id INTEGER,"
    " call_stack TEXT DEFAULT '{}', line_info TEXT DEFAULT '{}', extdata TEXT DEFAULT '{}'",
    "pmc_event": "event_id INTEGER, pmc_id INTEGER NOT NULL, value REAL DEFAULT 0.0",
    "track": "nid INTEGER, pid INTEGER, tid INTEGER, agent_id INTEGER, queue_id INTEGER, stream_id INTEGER",
    "timestamp": "value BIGINT",
}
LAUNCH = (
    "private_segment_size INTEGER, group_segment_size INTEGER, workgroup_size_x INTEGER,"
    " workgroup_size_y INTEGER, workgroup_size_z INTEGER, grid_size_x INTEGER, grid_size_y INTEGER,"
    " grid_size_z INTEGER, region_name_id INTEGER, event_id INTEGER"
)
COPY = (
    "name_id INTEGER, dst_agent_id INTEGER, dst_address INTEGER, src_agent_id INTEGER, src_address INTEGER,"
    " size INTEGER, region_name_id INTEGER, event_id INTEGER"
)
OWNER = {"inline": 'nid INTEGER, pid INTEGER, tid INTEGER, start BIGINT, "end" BIGINT'}
OWNER["track"] = "track_id INTEGER, start_id INTEGER, end_id INTEGER"
PLACE = {"inline": "agent_id INTEGER, queue_id INTEGER, stream_id INTEGER, ", "track": ""}
STREAM = {"inline": "queue_id INTEGER, stream_id INTEGER, ", "track": ""}


@dataclass
class Run:
    """One process's recording. Rows of ``dispatches`` are (kernel index, start, end, grid x, event?)."""

    pid: int = 4711
    host: str = "synthetic-host"
    command: str = "python -m vllm serve synthetic"
    environment: dict[str, str] = field(default_factory=dict)
    kernels: Sequence[str] = ("synthetic_kernel(float*)",)
    dispatches: Iterable[tuple[int, int, int, int]] = ()  # kernel, start, end, grid x
    without_event: frozenset[int] = frozenset()  # dispatch ids with NULL event, thread and region
    counters: Sequence[tuple[int, str, float | None]] = ()  # dispatch id, counter, value: one an instance
    copies: Sequence[tuple[str, int, int, int]] = ()  # name, start, end, bytes
    regions: Sequence[tuple[str, str, int, int, int]] = ()  # category, name, start, end, correlation id
    agent: int = 4  # node id of the GPU
    arch: str = "gfx908"
    layout: str = "inline"
    guid: str = ""

    def __post_init__(self) -> None:
        self.guid = self.guid or str(uuid.uuid5(uuid.NAMESPACE_OID, f"synthetic {self.host} {self.pid}"))


def write(path: Path, runs: Sequence[Run], *, shared: bool = False, views: bool = True) -> Path:
    """Write ``runs`` to one database and return its path.

    Each run has tables of its own, or with ``shared`` all are in the tables of the first, told apart by
    guid alone (their ids are then unique).
    """
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA synchronous = OFF")
        for index, run in enumerate(runs):
            suffix = "_" + (runs[0] if shared else run).guid.replace("-", "_")
            if index == 0 or not shared:
                _create(db, suffix, run.layout)
            _Writer(db, run, suffix, 100_000 * index if shared else 0).write()
            if views and index == 0:
                _views(db, suffix, run.layout)
    db.close()
    return path


def _create(db: sqlite3.Connection, suffix: str, layout: str) -> None:
    kernel = f"{PLACE[layout]}kernel_id INTEGER, dispatch_id INTEGER, {LAUNCH}"
    data = {
        "kernel_dispatch": f"{OWNER[layout]}, {kernel}",
        "memory_copy": f"{OWNER[layout]}, {STREAM[layout]}{COPY}",
        "region": f"{OWNER[layout]}, name_id INTEGER, event_id INTEGER",
    }
    for name, columns in {**INFO, **data}.items():
        guid = "" if name == "metadata" else "guid TEXT NOT NULL, "
        db.execute(f'CREATE TABLE "rocpd_{name}{suffix}" (id INTEGER PRIMARY KEY, {guid}{columns})')


def _views(db: sqlite3.Connection, suffix: str, layout: str) -> None:
    for name in (*INFO, "kernel_dispatch", "memory_copy", "region"):
        db.execute(f'CREATE VIEW rocpd_{name} AS SELECT * FROM "rocpd_{name}{suffix}"')
    if layout == "track":
        return
    db.execute(
        "CREATE VIEW kernels AS SELECT K.id, K.guid, T.tid, R.string AS region, S.display_name AS name,"
        " P.pid, A.absolute_index AS agent_abs_index, K.dispatch_id, K.stream_id, K.queue_id, K.start, K.end,"
        " K.end - K.start AS duration, K.grid_size_x AS grid_x, K.grid_size_y AS grid_y,"
        " K.grid_size_z AS grid_z, K.workgroup_size_x AS workgroup_x, K.workgroup_size_y AS workgroup_y,"
        " K.workgroup_size_z AS workgroup_z,"
        " K.group_segment_size AS lds_size, K.private_segment_size AS scratch_size,"
        " S.arch_vgpr_count AS vgpr_count, S.accum_vgpr_count, S.sgpr_count, E.stack_id"
        " FROM rocpd_kernel_dispatch K"
        " JOIN rocpd_info_agent A ON A.id = K.agent_id AND A.guid = K.guid"
        " JOIN rocpd_event E ON E.id = K.event_id AND E.guid = K.guid"
        " JOIN rocpd_string R ON R.id = K.region_name_id AND R.guid = K.guid"
        " JOIN rocpd_info_kernel_symbol S ON S.id = K.kernel_id AND S.guid = K.guid"
        " JOIN rocpd_info_process P ON P.id = K.pid AND P.guid = K.guid"
        " JOIN rocpd_info_thread T ON T.id = K.tid AND T.guid = K.guid"
    )


class _Writer:
    def __init__(self, db: sqlite3.Connection, run: Run, suffix: str, base: int) -> None:
        self.db, self.run, self.suffix, self.base = db, run, suffix, base
        self.strings: dict[str, int] = {}
        self.next_event = base
        self.next_time = base

    def rows(self, name: str, columns: str, rows: Iterable[Sequence[object]]) -> None:
        marks = ",".join("?" * (columns.count(",") + 1))
        self.db.executemany(f'INSERT INTO "rocpd_{name}{self.suffix}" ({columns}) VALUES ({marks})', rows)

    def string(self, text: str) -> int:
        if text not in self.strings:
            self.strings[text] = self.base + len(self.strings) + 1
            self.rows("string", "id, guid, string", [(self.strings[text], self.run.guid, text)])
        return self.strings[text]

    def write(self) -> None:
        run, guid, base = self.run, self.run.guid, self.base
        self.rows("metadata", "tag, value", [("schema_version", "3"), ("guid", guid), ("uuid", self.suffix)])
        self.rows("info_node", "id, guid, hash, machine_id, hostname", [(base + 1, guid, 7, "m", run.host)])
        process = (run.pid, guid, base + 1, 1, run.pid, 10, 20, run.command, json.dumps(run.environment))
        self.rows("info_process", "id, guid, nid, ppid, pid, init, fini, command, environment", [process])
        self.rows(
            "info_thread", "id, guid, nid, pid, tid", [(run.pid + 1, guid, base + 1, run.pid, run.pid + 1)]
        )
        extra = json.dumps({"cu_count": 120, "wave_front_size": 64})
        agent = "id, guid, nid, pid, type, absolute_index, logical_index, name, product_name, extdata"
        self.rows(
            "info_agent",
            agent,
            [
                (base, guid, base + 1, run.pid, "CPU", 0, 0, "synthetic cpu", "", "{}"),
                (base + run.agent, guid, 1, run.pid, "GPU", run.agent, 1, run.arch, "Synthetic GPU", extra),
            ],
        )
        symbol = (
            "id, guid, nid, pid, kernel_name, display_name, sgpr_count, arch_vgpr_count, accum_vgpr_count"
        )
        self.rows(
            "info_kernel_symbol",
            symbol,
            [
                (base + i + 1, guid, 1, run.pid, f"_Zsynthetic{i}.kd", name, 112, 72, 72)
                for i, name in enumerate(run.kernels)
            ],
        )
        self.track = base + 1
        self.rows(
            "track",
            "id, guid, nid, pid, tid, agent_id, queue_id, stream_id",
            [(self.track, guid, base + 1, run.pid, run.pid + 1, base + run.agent, 1, 2)],
        )
        self._dispatches()
        self._copies()
        self._regions()

    def event(self, category: str, correlation: int, message: str = "") -> int:
        self.next_event += 1
        extra = json.dumps({"message": message}) if message else "{}"
        row = (self.next_event, self.run.guid, self.string(category), correlation, correlation, 0, extra)
        self.rows("event", "id, guid, category_id, stack_id, parent_stack_id, correlation_id, extdata", [row])
        return self.next_event

    def owner(self, start: int, end: int, thread: bool = True) -> tuple[object, ...]:
        if self.run.layout == "inline":
            return (self.base + 1, self.run.pid, self.run.pid + 1 if thread else None, start, end)
        self.next_time += 2
        times = [(self.next_time - 1, self.run.guid, start), (self.next_time, self.run.guid, end)]
        self.rows("timestamp", "id, guid, value", times)
        return (self.track, self.next_time - 1, self.next_time)

    def owner_columns(self) -> str:
        return 'nid, pid, tid, start, "end"' if self.run.layout == "inline" else "track_id, start_id, end_id"

    def _dispatches(self) -> None:
        run, guid, region = self.run, self.run.guid, self.string("")
        kind, inline = self.string("KERNEL_DISPATCH"), self.run.layout == "inline"
        first = self.next_event
        rows = list(run.dispatches)
        ids = range(1, len(rows) + 1)
        self.rows(
            "event",
            "id, guid, category_id, stack_id, parent_stack_id, correlation_id",
            ((first + i, guid, kind, i + 1000, i + 1000, 0) for i in ids),
        )
        self.next_event += len(rows)
        place = ", agent_id, queue_id, stream_id" if inline else ""

        def dispatch(i: int, kernel: int, start: int, end: int, grid: int) -> tuple[object, ...]:
            bare = i in run.without_event
            return (
                self.base + i,
                guid,
                *self.owner(start, end, not bare),
                self.base + kernel + 1,
                i,
                *((self.base + run.agent, 1, 2) if inline else ()),
                *(0, 1024, 256, 1, 1, grid, 1, 1),
                *((None, None) if bare else (region, first + i)),
            )

        self.rows(
            "kernel_dispatch",
            f"id, guid, {self.owner_columns()}, kernel_id, dispatch_id{place}, "
            + ", ".join(column.split()[0] for column in LAUNCH.split(", ")),
            (dispatch(i, *row) for i, row in zip(ids, rows, strict=True)),
        )
        names = list(dict.fromkeys(name for _, name, _ in run.counters))
        pmc = [(self.base + 50 + i, guid, run.pid, self.base + run.agent, n, n) for i, n in enumerate(names)]
        self.rows("info_pmc", "id, guid, pid, agent_id, name, symbol", pmc)
        values = [
            (guid, first + i, self.base + 50 + names.index(name), value) for i, name, value in run.counters
        ]
        self.rows("pmc_event", "guid, event_id, pmc_id, value", values)

    def _copies(self) -> None:
        gpu, cpu = self.base + self.run.agent, self.base
        for name, start, end, size in self.run.copies:
            ends = (gpu, cpu) if name.endswith("TO_DEVICE") else (cpu, gpu)
            if name.endswith("HOST_TO_HOST"):
                ends = (cpu, cpu)
            event = self.event("MEMORY_COPY", 5)
            row = (self.run.guid, *self.owner(start, end), self.string(name), *ends, size, event)
            columns = f"guid, {self.owner_columns()}, name_id, dst_agent_id, src_agent_id, size, event_id"
            self.rows("memory_copy", columns, [row])

    def _regions(self) -> None:
        for category, name, start, end, correlation in self.run.regions:
            marker = category.startswith("MARKER")
            event = self.event(category, correlation, name if marker else "")
            title = self.string("roctxRangePushA" if marker else name)
            row = (self.run.guid, *self.owner(start, end), title, event)
            self.rows("region", f"guid, {self.owner_columns()}, name_id, event_id", [row])
