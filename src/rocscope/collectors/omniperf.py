"""Tables of Omniperf and rocprof-compute: dispatches with times, and counters of many runs.

``timestamps.csv`` is the run without counters, and the only one whose times are its own: into the other
tables the tool writes the times of that run, row by row. ``SQ_*_LEVEL*.csv`` and ``pmc_perf_N.csv`` are one
run each, and ``pmc_perf.csv`` joins many; see :mod:`rocscope.collectors.omniperf_columns`.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any, Final

import numpy as np
import pyarrow as pa

from rocscope.collectors import counter_rows, csv_rows, omniperf_columns, omniperf_roofline, omniperf_system
from rocscope.collectors.builder import CaptureBuilder
from rocscope.collectors.omniperf_columns import Run, Table
from rocscope.collectors.omniperf_system import System
from rocscope.collectors.reader import Reader
from rocscope.collectors.rocprof_columns import COUNTER
from rocscope.collectors.rocprof_rows import UNRECORDED, DispatchRows
from rocscope.collectors.rocprof_text import read_table
from rocscope.collectors.rocprof_xcc import merge_dies
from rocscope.collectors.source import Source

TOOL: Final = "omniperf"
_TIMES: Final = frozenset({"begin", "end", "recorded_duration"})
_OF_ANOTHER_RUN: Final = frozenset({"dispatched", "completed"})  # than the times written over this run's
_MAX_INPUT_BYTES: Final = 1 << 20
_MAX_INPUTS: Final = 256
_NOT_TOLD_APART: Final = "merged from several runs: ratios across blocks may mix runs"


class _Rows(DispatchRows):
    """Dispatches on the machine that ``sysinfo.csv`` describes, their counters in one piece a run."""

    def __init__(self, source: Source, builder: CaptureBuilder, run: Run | None, note: str) -> None:
        self._source = source
        self._system = omniperf_system.beside(source) or System()
        self._rounded = csv_rows.first_row(source).get("starttimestamp", "")
        super().__init__(
            source.name, builder, counters=run.counters if run else (), tool=TOOL, note=note or TOOL
        )

    def _process(self, pid: int | None) -> int:
        return self._builder.process(pid or 0, host=self._system.host)

    def _gpu(self, agent: int | None) -> int:
        name = UNRECORDED if agent is None else str(agent)
        gpu = self._builder.gpu(name, host=self._system.host, **self._system.properties())
        omniperf_roofline.record(self._source, self._system, gpu, self._builder)
        return gpu

    def _notice(self, code: str, message: str) -> None:
        if code == "untimed-dispatches" and "E+" in self._rounded.upper():
            message += f": they are rounded to {self._rounded[:20]}, as a spreadsheet saves them"
        super()._notice(code, message)

    def _add_counters(self, columns: dict[str, Any], process: Any, gpu: Any) -> None:
        ids = columns["dispatch_id"]
        kept = ids.is_valid().to_numpy()
        rows, times = int(kept.sum()), len(self._counters)

        def repeated(column: Any) -> Any:
            if isinstance(column, pa.Scalar):
                return column
            return pa.array(np.tile(column.filter(pa.array(kept)).to_numpy(), times))

        pieces = [columns[COUNTER + counter].filter(pa.array(kept)) for counter in self._counters]
        values = pa.concat_arrays([chunk for piece in pieces for chunk in piece.chunks])
        codes = pa.array(np.repeat(np.arange(times, dtype=np.int32), rows))
        names = pa.DictionaryArray.from_arrays(codes, pa.array(self._counters))
        found = {
            "pass": pa.scalar(self._pass, pa.int16()),
            "process": repeated(process),
            "gpu": repeated(gpu),
            "dispatch_id": repeated(ids),
            "counter": names,
            "value": counter_rows.accept(values, names, self._name, self._builder),
        }
        self._ready.append(("counters", rows * times, found))
        if "SQ_WAVES" in self._counters and {"grid_x", "workgroup_x"} <= set(columns):
            self._check_waves(columns)

    def _check_waves(self, columns: dict[str, Any]) -> None:
        waves, grid, workgroup = (
            columns[name].cast(pa.float64()).to_numpy()
            for name in (f"{COUNTER}SQ_WAVES", "grid_x", "workgroup_x")
        )
        message = counter_rows.check_waves(waves, grid, workgroup, self._system.wave_size, self._name)
        if message:
            self._notice("waves-mismatch", message)


class _Tables:
    bundle = TOOL
    kind = ""

    def recognises(self, source: Source) -> bool:
        """Tell by the columns, and for those of rocprofv2 by the ``sysinfo.csv`` beside them."""
        if omniperf_columns.kind(source) != self.kind:
            return False
        if self.kind == "merged" or not omniperf_columns.is_rocprofv2(source):
            return True
        return omniperf_system.beside(source) is not None


class _TimesReader(_Tables):
    name = "omniperf-times"
    help = "timestamps.csv of Omniperf or rocprof-compute: dispatches of the run without counters"
    order = 40
    content = "dispatches"
    kind = "times"

    def read(self, source: Source, builder: CaptureBuilder) -> None:
        """Add each row as a dispatch.

        Raises :class:`InputError` where there are rows and none can be read.
        """
        table = omniperf_columns.parse(omniperf_columns.read_header(source))
        rows = _Rows(source, builder, None, "")
        rows.add(_rows_of(source, table, builder))
        rows.commit()


class _RunReader(_Tables):
    name = "omniperf-run"
    help = "SQ_*_LEVEL*.csv and pmc_perf_N.csv of Omniperf or rocprof-compute: counters of one run"
    order = 41
    content = "counters"
    kind = "run"

    def read(self, source: Source, builder: CaptureBuilder) -> None:
        """Add the counters of one run in a pass of their own.

        Raises :class:`InputError` where there are rows and none can be read.
        """
        table = omniperf_columns.parse(omniperf_columns.read_header(source))
        _add(source, table, table.runs, builder)


class _MergedReader(_Tables):
    name = "omniperf-merged"
    help = "pmc_perf.csv of Omniperf or rocprof-compute: counters of many runs side by side"
    order = 42
    content = "counters"
    kind = "merged"

    def read(self, source: Source, builder: CaptureBuilder) -> None:
        """Add the counters of each run in a pass of its own, and of runs that cannot be told apart in one.

        Runs whose own tables lie beside this one and were read are left to these. Raises
        :class:`InputError` where there are rows and none can be read.
        """
        cells = omniperf_columns.read_header(source)
        table = omniperf_columns.parse(cells)
        if not table.told_apart:
            table = omniperf_columns.parse(cells, _inputs(source))
        own = {}
        for path in _read_beside(source, builder, _RunReader.name):
            for run in omniperf_columns.parse(omniperf_columns.read_header(Source.open(path))).runs:
                own[frozenset(run.counters)] = path.name
        new = []
        for run in table.runs:
            if path_name := own.get(frozenset(run.counters)):
                builder.notice(
                    "duplicate-run",
                    f"{source.name} repeats the run of {path_name}, which is not counted twice",
                    source.name,
                )
            else:
                new.append(run)
        _add(source, table, tuple(new), builder)


def _read_beside(source: Source, builder: CaptureBuilder, reader: str) -> list[Path]:
    """Return the files of the folder of ``source`` that the reader of that name has read."""
    folder = PurePath(source.name).parent
    read = [
        source.path.with_name(PurePath(each.path).name)
        for each in builder.sources
        if each.format == reader and PurePath(each.path).parent == folder
    ]
    return [path for path in read if path.is_file()]


def _inputs(source: Source) -> list[frozenset[str]]:
    """Return the counters that each run was asked for, from the inputs the tool keeps in ``perfmon/``."""
    found = []
    for path in sorted((source.path.parent / "perfmon").glob("pmc_perf*.txt"))[:_MAX_INPUTS]:
        if not path.is_file():
            continue
        try:
            with path.open("rb") as stream:
                text = stream.read(_MAX_INPUT_BYTES).decode("utf-8", "replace")
        except OSError:
            continue
        words = [word for line in text.splitlines() if line.startswith("pmc:") for word in line[4:].split()]
        if words:
            found.append(frozenset(words))
    return found


def _rows_of(source: Source, table: Table, builder: CaptureBuilder) -> pa.Table:
    """Read a table, one row a dispatch: tables of rocprofv2 may have one for each accelerator die."""
    rows, merged = merge_dies(read_table(source, table.layout, builder))
    if merged:
        builder.notice(
            "dies-merged",
            f"{source.name}: {merged} rows repeat a dispatch for another die (XCC) and are merged; counters "
            "on which the dies differ are left out",
            source.name,
        )
    return rows


def _add(source: Source, table: Table, runs: tuple[Run, ...], builder: CaptureBuilder) -> None:
    """Add the dispatches and counters of ``runs``."""
    timed = bool(_read_beside(source, builder, _TimesReader.name))
    table = table.without(_OF_ANOTHER_RUN | (_TIMES if timed else frozenset()))
    rows = _rows_of(source, table, builder)
    if not timed and "begin" in rows.column_names and rows["begin"].null_count < rows.num_rows:
        builder.notice(
            "times-of-counter-run",
            f"{source.name}: no timestamps.csv was read with it, so its own times stand in; they are marked "
            "as perturbed by counters",
            source.name,
        )
    shared = [name for name in rows.column_names if not name.startswith(COUNTER)]
    for place, run in enumerate(runs):
        columns = [name for name in shared if place == 0 or name not in _TIMES]  # one run's times, once
        part = rows.select([*columns, *run.columns])
        sums = _sums(source, table, run, rows)
        whole = replace(run, counters=(*run.counters, *sums))
        for column in sums.values():
            part = part.append_column(str(part.num_columns), column)
        adder = _Rows(source, builder, whole, _note(source, table, run, sums))
        adder.add(part.rename_columns([*columns, *(COUNTER + counter for counter in whole.counters)]))
        adder.commit()


def _sums(source: Source, table: Table, run: Run, rows: pa.Table) -> dict[str, pa.Array]:
    """Add up counters that have a value a channel and no sum; null where a channel has none that can be."""
    system = omniperf_system.beside(source) or System()
    found = {}
    for name, columns in omniperf_columns.channels(table, run).items():
        if system.has_channels(len(columns)):
            values = np.stack([rows[column].to_numpy() for column in columns]).astype(float)
            values[counter_rows.impossible(values)] = np.nan
            found[name] = pa.array(values.sum(axis=0), from_pandas=True)
    return found


def _note(source: Source, table: Table, run: Run, sums: Collection[str]) -> str:
    """Return the note of a run's pass; that of a merged table names the file, as ids restart in each."""
    parts = [f"level {run.level}"] if run.level else []
    if table.merged:
        where = f"run {run.number} of {source.name}"
        parts.append(where if table.told_apart else f"{source.name}: {_NOT_TOLD_APART}")
    if sums:
        parts.append("sums of its channels are rocscope's")
    return ", ".join(parts)


READERS: list[Reader] = [_TimesReader(), _RunReader(), _MergedReader()]
