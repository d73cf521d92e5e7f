"""A rocpd database: which tables it has, small ones as rows, large ones as Arrow tables.

Physical tables carry the run's uuid as a suffix; a merged file has several sets, or one set with several
guids. Ids are unique within a table and guid only, so that all joins are on both.
"""

from __future__ import annotations

import sqlite3
import urllib.parse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from rocscope.collectors.source import Source
from rocscope.errors import DamagedInput

_BATCH_ROWS: Final = 1 << 16  # also how many rows the driver looks at to tell a column's type
_OWNED: Final = ("tid", "agent_id", "queue_id", "stream_id")


def quoted(name: str) -> str:
    """Return an SQL identifier; the name comes from an untrusted file."""
    return '"' + name.replace('"', '""') + '"'


@dataclass(frozen=True)
class RunTables:
    """The tables of one run: the suffix of their names, and its guid where they hold several runs."""

    suffix: str
    guid: str | None


class Store:
    """An open database. Use :meth:`open`."""

    def __init__(self, path: Path, small: sqlite3.Connection, large: Any) -> None:
        self.path = path
        self._small = small
        self._large = large
        self._columns: dict[str, frozenset[str]] = {}
        rows = small.execute(
            "SELECT name, type FROM sqlite_master WHERE type IN ('table', 'view')"
        ).fetchall()
        self.names: dict[str, str] = dict(rows)

    @classmethod
    @contextmanager
    def open(cls, path: Path, source: Source) -> Iterator[Store]:
        """Open ``path`` read-only. Raises :class:`DamagedInput` that names ``source`` if it is damaged."""
        import adbc_driver_manager.dbapi as adbc
        import adbc_driver_sqlite.dbapi as adbc_sqlite

        # With no write-ahead log beside it the file cannot change under us, and no lock file is needed,
        # which lets a recording on read-only storage be read.
        still = "" if path.with_name(path.name + "-wal").exists() else "&immutable=1"
        uri = f"file:{urllib.parse.quote(str(path.resolve()))}?mode=ro{still}"
        try:
            small = sqlite3.connect(uri, uri=True)
            try:
                small.execute("PRAGMA trusted_schema = OFF")
                small.text_factory = lambda text: text.decode("utf-8", "replace")
                with adbc_sqlite.connect(uri) as large:
                    yield cls(path, small, large)
            finally:
                small.close()
        except (sqlite3.Error, adbc.Error, pa.ArrowException, UnicodeError) as error:  # as SQLite words it
            why = next(iter(str(error).splitlines()), type(error).__name__)
            raise DamagedInput(
                f"{source.name}: damaged or unreadable database ({why})",
                "copy the file again, or convert it with `rocpd convert -f csv`",
            ) from error

    def runs(self) -> list[RunTables]:
        """Return the sets of tables, one a run."""
        anchors = ("rocpd_metadata", "rocpd_kernel_dispatch")
        tables = [name for name, kind in self.names.items() if kind == "table"]
        suffixes = sorted({n.removeprefix(a) for a in anchors for n in tables if n.startswith(a)})
        found: list[RunTables] = []
        for suffix in suffixes:
            guids = self._guids(suffix)
            found += (
                [RunTables(suffix, guid) for guid in guids] if len(guids) > 1 else [RunTables(suffix, None)]
            )
        return found

    def _guids(self, suffix: str) -> list[str]:
        if "guid" not in self.columns(f"rocpd_info_process{suffix}"):
            return []
        table = quoted(f"rocpd_info_process{suffix}")
        return sorted(str(row[0]) for row in self._small.execute(f"SELECT DISTINCT guid FROM {table}"))

    def columns(self, table: str) -> frozenset[str]:
        """Return the columns of a table or view, none where it does not exist."""
        if table not in self._columns:
            rows = self._small.execute(f"PRAGMA table_info({quoted(table)})").fetchall()
            self._columns[table] = frozenset(str(row[1]) for row in rows)
        return self._columns[table]

    def rows(self, run: RunTables, base: str, wanted: Sequence[str]) -> list[dict[str, Any]]:
        """Return the rows of a small table of ``run``; a column that it lacks is ``None``."""
        table = f"rocpd_{base}{run.suffix}"
        have = [name for name in wanted if name in self.columns(table)]
        if not have:
            return []
        where, values = self._of(run, table, "")
        text = f"SELECT {', '.join(map(quoted, have))} FROM {quoted(table)}{where}"
        blank = dict.fromkeys(wanted)
        return [{**blank, **dict(zip(have, row, strict=True))} for row in self._small.execute(text, values)]

    def count(self, table: str) -> int:
        """Return how many rows a table or view has."""
        return int(self._small.execute(f"SELECT count(*) FROM {quoted(table)}").fetchone()[0])

    def timed(self, run: RunTables, base: str, wanted: dict[str, str]) -> pa.Table | None:
        """Return a large table with times of ``run``, ``None`` where there is none that is understood.

        ``wanted`` is name to SQL over ``K`` (the table) and ``E`` (its event). ``starttimestamp``,
        ``endtimestamp``, ``pid`` and, where known, ``tid``, ``agent_id``, ``queue_id`` and ``stream_id``
        are added: newer databases keep these in the row, older ones in ``rocpd_track``.
        """
        table = f"rocpd_{base}{run.suffix}"
        have = self.columns(table)
        joins = ""
        if {"start", "end", "pid"} <= have:
            select = {"starttimestamp": 'K."start"', "endtimestamp": 'K."end"', "pid": "K.pid"}
            select |= {name: f"K.{name}" for name in _OWNED if name in have}
        elif {"start_id", "end_id", "track_id"} <= have:
            select = {"starttimestamp": "DS.value", "endtimestamp": "DE.value", "pid": "T.pid"}
            track = self.columns(f"rocpd_track{run.suffix}")
            select |= {name: f"T.{name}" for name in _OWNED if name in track}
            for alias, of, key in (("T", "track", "track_id"), ("DS", "timestamp", "start_id")):
                joins += self._join(run, of, alias, key)
            joins += self._join(run, "timestamp", "DE", "end_id")
        else:
            return None
        joins += self._join(run, "event", "E", "event_id")
        select |= wanted
        where, values = self._of(run, table, "K.")
        rest = f" FROM {quoted(table)} K{joins}{where}"
        return self._integers(select, rest, values)

    def _integers(self, select: dict[str, str], rest: str, values: Sequence[str]) -> pa.Table:
        """Run a query whose columns, other than ``message``, are integers; what is none becomes null.

        SQLite lets any column hold anything. Looking at the type of each value takes a quarter more time,
        so that is done only where the first try shows the need.
        """
        import adbc_driver_manager.dbapi as adbc

        def query(form: str) -> pa.Table:
            shown = (
                f"{sql if name == 'message' else form.format(sql)} AS {quoted(name)}"
                for name, sql in select.items()
            )
            return self.arrow(f"SELECT {', '.join(shown)}{rest}", values)

        try:
            found = query("{0}")
        except adbc.Error:
            found = None
        if found is None or any(f.type != pa.int64() for f in found.schema if f.name != "message"):
            found = query("CASE WHEN typeof({0}) = 'integer' THEN {0} END")
        return found

    def counters(self, run: RunTables) -> pa.Table | None:
        """Return ``event_id``, ``pmc_id`` and ``value`` (infinite where NULL), ``None`` without any."""
        table = f"rocpd_pmc_event{run.suffix}"
        if "value" not in self.columns(table):
            return None
        where, values = self._of(run, table, "")
        value = "IFNULL(CAST(value AS REAL), 9e999) AS value"  # never NULL, so the type is always real
        return self.arrow(f"SELECT event_id, pmc_id, {value} FROM {quoted(table)}{where}", values)

    def arrow(self, text: str, values: Sequence[str] = ()) -> pa.Table:
        """Run a query and return its rows. Raises :class:`adbc_driver_manager.Error`."""
        with self._large.cursor() as cursor:
            cursor.adbc_statement.set_options(**{"adbc.sqlite.query.batch_rows": str(_BATCH_ROWS)})
            cursor.execute(text, tuple(values) or None)
            found = cursor.fetch_arrow_table()
        found.validate(full=True)  # text is as the file has it, UTF-8 or not
        return found

    def _join(self, run: RunTables, base: str, alias: str, key: str) -> str:
        same = f" AND {alias}.guid = K.guid" if run.guid is not None else ""
        return f" LEFT JOIN {quoted(f'rocpd_{base}{run.suffix}')} {alias} ON {alias}.id = K.{key}{same}"

    def _of(self, run: RunTables, table: str, alias: str) -> tuple[str, tuple[str, ...]]:
        if run.guid is None or "guid" not in self.columns(table):
            return "", ()
        return f" WHERE {alias}guid = ?", (run.guid,)
