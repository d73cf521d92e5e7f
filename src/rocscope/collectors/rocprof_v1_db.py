"""``results.db`` of rocprof v1: the SQLite tables that its CSV and JSON are made from.

Which tables there are depends on version and options. ``KERN`` holds dispatches with their launch shape; it
may be missing, empty, cut down to two columns, or called ``A``. With tracing ``OPS`` holds kernels, ``COPY``
copies, ``HIP`` and ``HSA`` calls, ``rocTX`` annotations. SQLite keeps any type in any column, so that numbers
are asked for by type.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

import pyarrow as pa
import pyarrow.compute as pc

from rocscope.collectors.builder import CaptureBuilder
from rocscope.collectors.rocminfo import agents_beside, describe_unnumbered
from rocscope.collectors.rocprof_columns import COUNTER, Layout, normalise
from rocscope.collectors.rocprof_ops import ApiRows, OpRows
from rocscope.collectors.rocprof_rows import DispatchRows
from rocscope.collectors.rocprof_text import TEXT_COLUMNS, column_type
from rocscope.collectors.rocprof_v1_csv import TOOL
from rocscope.collectors.source import Source
from rocscope.errors import DamagedInput, InputError

_SPAN_TABLES: Final = {"HIP": "api", "HSA": "api", "rocTX": "annotation"}
_OP_TABLES: Final = ("OPS", "COPY")
_TRACE_TABLES: Final = (*_OP_TABLES, *_SPAN_TABLES)
_KERN_TABLE: Final = re.compile(rb'CREATE TABLE "?KERN"?[ (]')
_KERNEL_TABLES: Final = ("KERN", "A")
_OP_ROLES: Final = {
    "name": "kernel",
    "beginns": "begin",
    "endns": "end",
    "devid": "device",
    "pid": "pid",
    "procid": "pid",
    "queueid": "queue",
    "streamid": "stream",
}
_SPAN_ROLES: Final = {
    "name": "name",
    "beginns": "begin",
    "endns": "end",
    "pid": "pid",
    "procid": "pid",
    "tid": "thread",
}
_DISPATCH: Final = frozenset({"kernel", "gpu"})


class RocprofV1DbReader:
    """Dispatches, copies and calls of rocprof v1."""

    name = "rocprof-v1-db"
    help = "results.db (SQLite) of rocprof v1, with or without tracing"
    order = 51
    content = "dispatches"

    def recognises(self, source: Source) -> bool:
        """Tell by the tables; a gzip is unpacked to look."""
        if not source.is_sqlite or b"rocpd" in source.head:
            return False
        if _KERN_TABLE.search(source.head):  # the usual case, without unpacking a gzip
            return True
        try:
            with _connection(source) as connection:
                tables = _tables(connection)
        except InputError:
            return False
        kernels = any("KernelName" in tables.get(table, ()) for table in _KERNEL_TABLES)
        traced = any(set(tables.get(table, ())) >= {"BeginNs", "EndNs", "Name"} for table in _TRACE_TABLES)
        return kernels or traced

    def read(self, source: Source, builder: CaptureBuilder) -> None:
        """Add dispatches, copies and host calls.

        Raises :class:`InputError` for a database that SQLite cannot read.
        """
        builder.manifest.setdefault("profiler", "rocprof")
        with _connection(source) as connection:
            database = _Database(source, builder, connection, _tables(connection))
            before = builder.rows("dispatches")
            dispatched = any(database.kernels(table) for table in _KERNEL_TABLES)
            for table in _OP_TABLES:
                if not (table == "OPS" and dispatched):  # KERN and OPS are two views of the same kernels
                    database.operations(table)
            for table, kind in _SPAN_TABLES.items():
                database.spans(table, kind)
        if builder.rows("dispatches") == before:
            builder.notice("no-dispatches", f"{source.name} holds no dispatches", source.name)


@dataclass(frozen=True)
class _Database:
    source: Source
    builder: CaptureBuilder
    connection: Any
    tables: dict[str, tuple[str, ...]]

    def kernels(self, table: str) -> bool:
        """Read a table of dispatches; return whether there were any."""
        columns = self.tables.get(table, ())
        layout = Layout.of(columns)
        if not set(layout.names) >= _DISPATCH or not self._count(table):
            return False
        rows = DispatchRows(
            f"{self.source.name}:{table}",
            self.builder,
            counters=layout.counters,
            tool=TOOL,
            agents=agents_beside(self.source),
            quoted=True,
        )
        wanted = {n: c for n, c in zip(layout.names, columns, strict=True) if n in layout.used}
        for batch in self._batches(_select(table, wanted)):
            rows.add(batch)
        rows.commit()
        return rows.rows > 0

    def operations(self, table: str) -> None:
        """Read kernels or copies of a tracing run."""
        wanted = self._wanted(table, _OP_ROLES)
        if not {"kernel", "begin", "end"} <= set(wanted):
            return
        agents = agents_beside(self.source)
        rows = OpRows(
            f"{self.source.name}:{table}",
            self.builder,
            lane="copy" if table == "COPY" else "kernel",
            device=lambda number: describe_unnumbered(f"device {number}", agents, self.builder),
        )
        for batch in self._batches(_select(table, wanted)):
            rows.add(batch)
        rows.commit()

    def spans(self, table: str, kind: str) -> None:
        """Read host calls or annotations of a tracing run."""
        wanted = self._wanted(table, _SPAN_ROLES)
        if not {"name", "begin", "end"} <= set(wanted):
            return
        rows = ApiRows(f"{self.source.name}:{table}", self.builder, kind=kind)
        for batch in self._batches(_select(table, wanted)):
            rows.add(batch)
        rows.commit()

    def _wanted(self, table: str, roles: dict[str, str]) -> dict[str, str]:
        """Return the columns of ``table`` that have a role, by role; ``{}`` where there is no such table."""
        known = {normalise(column): column for column in self.tables.get(table, ())}
        return {role: known[plain] for plain, role in roles.items() if plain in known}

    def _count(self, table: str) -> int:
        query = f'SELECT count(*) AS "count" FROM {_quoted(table)}'  # noqa: S608  # a name of ours, quoted
        return int(next(self._batches(query)).column(0)[0].as_py())

    def _batches(self, query: str) -> Iterator[pa.Table]:
        with self.connection.cursor() as cursor:
            cursor.execute(query)
            try:
                for batch in cursor.fetch_record_batch():
                    yield _typed(batch)
            except (pa.ArrowException, OSError) as error:
                raise _unusable(self.source, error) from error


def _select(table: str, columns: dict[str, str]) -> str:
    """Return a query for ``columns`` (internal name to recorded name), each cast so that its type is one."""
    picked = []
    for name, column in columns.items():
        recorded = _quoted(column)
        if name in TEXT_COLUMNS:
            value = f"CAST({recorded} AS BLOB)"
        elif name.startswith(COUNTER):
            value = f"CASE WHEN typeof({recorded}) IN ('integer', 'real') THEN CAST({recorded} AS REAL) END"
        else:
            value = (
                f"CASE WHEN typeof({recorded}) = 'integer' THEN {recorded} WHEN {recorded} GLOB '[0-9]*' "
                f"AND {recorded} NOT GLOB '*[^0-9]*' THEN CAST({recorded} AS INTEGER) END"
            )
        picked.append(f"{value} AS {_quoted(name)}")
    return f"SELECT {', '.join(picked)} FROM {_quoted(table)}"  # noqa: S608  # names of columns, quoted


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _typed(batch: pa.RecordBatch) -> pa.Table:
    """A column without a value has no type of its own in SQLite: give each the one it should have."""
    columns = []
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        wanted = pa.binary() if name in TEXT_COLUMNS else column_type(name)
        if column.null_count == len(column):
            columns.append(pa.nulls(len(column), wanted))
        else:
            columns.append(column if column.type == wanted else pc.cast(column, wanted))
    return pa.Table.from_arrays(columns, names=batch.schema.names)


@contextmanager
def _connection(source: Source) -> Iterator[Any]:
    """Open the database without touching it. Raises :class:`InputError` that names the file."""
    import adbc_driver_manager.dbapi
    import adbc_driver_sqlite.dbapi

    with source.local() as path:
        try:
            with adbc_driver_sqlite.dbapi.connect(
                f"file:{quote(str(path.resolve()))}?mode=ro&immutable=1", autocommit=True
            ) as connection:
                yield connection
        except adbc_driver_manager.dbapi.Error as error:
            raise _unusable(source, error) from error


def _unusable(source: Source, error: Exception) -> InputError:
    return DamagedInput(
        f"{source.name}: SQLite cannot read it ({str(error).splitlines()[0]})",
        "the database is damaged; use the run's results.csv or results.json, or copy it again",
    )


def _tables(connection: Any) -> dict[str, tuple[str, ...]]:
    """Return the column names of each table, but for names that are not text and so are none of ours."""
    query = (
        "SELECT CAST(m.name AS BLOB), CAST(p.name AS BLOB) FROM sqlite_master m "
        "JOIN pragma_table_info(m.name) p WHERE m.type = 'table'"
    )
    found: dict[str, list[str]] = {}
    with connection.cursor() as cursor:
        cursor.execute(query)
        for row in cursor.fetchall():
            with suppress(UnicodeDecodeError):
                table, column = (each.decode() for each in row)
                found.setdefault(table, []).append(column)
    return {table: tuple(columns) for table, columns in found.items()}


READERS = (RocprofV1DbReader(),)
