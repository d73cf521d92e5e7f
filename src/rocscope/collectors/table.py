"""Kernels measured elsewhere: a CSV of one row a kernel and launch shape, with whatever counters there are.

The columns are those of :data:`COLUMNS`. Times, bytes and counts are of one dispatch; shares are 0 to 1.
"""

from __future__ import annotations

import codecs
import csv
import hashlib
import io
import math
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from rocscope import hardware, metrics, taxonomy
from rocscope.capture import Capture, Source
from rocscope.collectors.builder import CaptureBuilder
from rocscope.errors import EmptyInput, InputError, NotFound

_SHAPE: Final = metrics.SHAPE
_RESOURCES: Final = ("lds_bytes", "scratch_bytes", "vgprs", "agprs", "sgprs")
MEASURES: Final = {  # column of a table: counter of the capture, one of study.MEASURE_COLUMNS
    **{
        name: name
        for name in (
            *("workgroups", "waves_per_cu", "read_bytes", "write_bytes", "l2_bytes", "l1_bytes"),
            *("l2_hit_frac", "l1_hit_frac", "theoretical_occupancy_frac", "achieved_occupancy_frac"),
            *("valu_busy_frac", "salu_busy_frac", "mfma_busy_frac", "issue_active_frac"),
            *("mem_unit_busy_frac", "mem_unit_stalled_frac", "lds_conflict_frac"),
            *("global_load_requests", "global_load_sectors", "valu_insts", "vmem_insts"),
        )
    },
    "wavefronts": "waves",
    "flops": "flops_measured",
}
TEXTS: Final = ("kernel", "case", "family", "flops_unit")
REQUIRED: Final = ("kernel", "duration_ns")
COLUMNS: Final = (
    *("kernel", "duration_ns", "case", "family", "dispatches"),
    *_SHAPE,
    *("workgroups", "wavefronts", "waves_per_cu", "read_bytes", "write_bytes", "l2_bytes", "l1_bytes"),
    *("l2_hit_frac", "l1_hit_frac", "flops", "flops_unit", "theoretical_occupancy_frac"),
    *("achieved_occupancy_frac", "vgprs", "agprs", "sgprs", "lds_bytes", "scratch_bytes"),
    *("valu_busy_frac", "salu_busy_frac", "mfma_busy_frac", "issue_active_frac", "mem_unit_busy_frac"),
    *("mem_unit_stalled_frac", "lds_conflict_frac", "global_load_requests", "global_load_sectors"),
    *("valu_insts", "vmem_insts"),
)
_WHOLE: Final = frozenset({"dispatches", *_SHAPE, *_RESOURCES})
_AT_LEAST_ONE: Final = frozenset({"duration_ns", "dispatches", *_SHAPE, "workgroups", "wavefronts"})
_MISSING: Final = frozenset({"", "na", "n/a", "nan", "null", "none"})
_ABOVE_ONE: Final = 1.05  # of a share: counters of several passes disagree by so much
_A_PERCENTAGE: Final = 1.5  # nothing else is this much above one
_MOST_ROWS: Final = 100_000  # of labels with their evidence, about 3 GB
_MOST_BYTES: Final = 1 << 28
_MOST_SHOWN: Final = 20
_LARGEST: Final = 1 << 31  # of a grid side or a register count
_HUGE: Final = 1e18  # so that a time in ns times its dispatches still fits into 64 bits
_HINT: Final = "a row needs a kernel and its duration_ns; shares are 0 to 1"


def load(path: Path) -> Capture:
    """Read the table at ``path`` into a capture of aggregated dispatches and counters.

    A cell that cannot be read is left out with a notice that names its line and column; a row without
    kernel or time is dropped and counted. Raises :class:`InputError` for a column that is not one of
    :data:`COLUMNS`, for a required one that is absent, and where no row can be used.
    """
    text, content = _text(path)
    builder = CaptureBuilder()
    builder.sources.append(
        Source(
            path=path.name,
            format="table",
            size_bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
        )
    )
    builder.manifest["profiler"] = metrics.TABLE
    reader = _Table(path, builder)
    reader.read(text)
    reader.append()
    return builder.build()


def _text(path: Path) -> tuple[str, bytes]:
    if not path.exists():
        raise NotFound(f"{path}: no such file", "check the path")
    if not path.is_file():
        raise InputError(f"{path}: not a regular file", "name a CSV file")
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise InputError(
                f"{path}: larger than {_MOST_BYTES >> 20} MiB",
                "a table has a row a kernel, not a row a dispatch",
            )
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}", "check its permissions") from error
    if not content.strip():
        raise EmptyInput(f"{path}: the file is empty", f"its columns may be {', '.join(COLUMNS)}")
    if content[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        raise InputError(f"{path}: UTF-16 text", "save it as UTF-8")
    return content.decode("utf-8-sig", "replace"), content


class _Table:
    """Rows gathered column by column."""

    def __init__(self, path: Path, builder: CaptureBuilder) -> None:
        self._path, self._builder = path, builder
        self._columns: dict[str, list[Any]] = {name: [] for name in COLUMNS}
        self._told: int = 0
        self._families = sorted(taxonomy.taxonomy().families)
        self._units = sorted({unit for spec in hardware.specs() for unit in spec.datasheet.flops_per_s})

    def read(self, text: str) -> None:
        """Gather all rows. Raises :class:`InputError` as :func:`load`."""
        rows = csv.reader(io.StringIO(text, newline=""), strict=True)
        try:
            names = self._header(next(rows, []))
            for row in rows:
                if any(cell.strip() for cell in row):
                    if len(self._columns["kernel"]) >= _MOST_ROWS:
                        raise InputError(
                            f"{self._path}, line {rows.line_num}: more than {_MOST_ROWS} rows",
                            "a table has a row a kernel and launch shape: put those that are alike into one "
                            "with their number as dispatches, or split the table",
                        )
                    self._row(names, row, rows.line_num)
        except csv.Error as error:
            raise InputError(
                f"{self._path}, line {rows.line_num}: {error}", "quote names that hold commas or quotes"
            ) from error
        if not self._columns["kernel"]:
            told = "; ".join(notice.message for notice in self._builder.notices[:3])
            raise InputError(f"{self._path}: no row can be used{f' ({told})' if told else ''}", _HINT)

    def _header(self, cells: list[str]) -> list[str]:
        names = [cell.strip() for cell in cells]
        allowed = f"the columns of a table are {', '.join(COLUMNS)}"
        unknown = [name for name in names if name not in COLUMNS]
        if unknown:
            allowed = _also(cells) + allowed
            raise InputError(
                f"{self._path}, line 1: no column of a table is called {', '.join(map(repr, unknown))}",
                allowed,
            )
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise InputError(f"{self._path}, line 1: {', '.join(twice)} is there more than once", allowed)
        if absent := [name for name in REQUIRED if name not in names]:
            raise InputError(f"{self._path}, line 1: needs the column {' and '.join(absent)}", allowed)
        return names

    def _row(self, names: list[str], cells: list[str], line: int) -> None:
        if len(cells) != len(names):
            self._note(line, f"has {len(cells)} fields, and the header {len(names)}: the row is left out")
            self._builder.drop("malformed rows", 1, self._path.name)
            return
        given = dict(zip(names, cells, strict=True))
        row = {name: self._cell(name, given[name].strip(), line) for name in names}
        if (row["duration_ns"] or 0) * (row.get("dispatches") or 1) > _HUGE:
            self._note(line, "duration_ns times dispatches is more than a recording can last")
            row["duration_ns"] = None
        if row["kernel"] is None or row["duration_ns"] is None:
            self._builder.drop("rows of a table without kernel or time", 1, self._path.name)
            return
        for name, column in self._columns.items():
            column.append(row.get(name))

    def _cell(self, name: str, cell: str, line: int) -> Any:
        """Return what a cell says, ``None`` where it says nothing or nothing that can be."""
        if cell.lower() in _MISSING and name != "kernel":
            if name == "duration_ns":
                self._note(line, "has no duration_ns: the row is left out")
            return None
        if name in TEXTS:
            return self._word(name, cell, line)
        try:
            value = float(cell)
        except ValueError:
            value = math.nan
        if name.endswith("_frac") and (cell.endswith("%") or _A_PERCENTAGE <= value < math.inf):
            raise InputError(
                f"{self._path}, line {line}: column {name}: {cell[:40]!r} is a percentage",
                "shares are fractions, 0 to 1: divide the whole column by 100, as small percentages in it "
                "cannot be told from shares",
            )
        fault = _fault(name, value)
        if fault:
            self._note(line, f"column {name}: {cell[:40]!r} {fault}")
            return None
        if name.endswith("_frac"):
            return min(value, 1.0)
        return round(value) if name in _WHOLE else value

    def _word(self, name: str, cell: str, line: int) -> str | None:
        if not cell:
            self._note(line, f"has no {name}: the row is left out")
            return None
        if name == "family" and cell not in self._families:
            self._note(
                line, f"column family: {cell[:40]!r} is none of {', '.join(self._families)}; by name then"
            )
            return None
        if name == "flops_unit" and cell not in self._units:
            self._note(line, f"column flops_unit: {cell[:40]!r} is none of {', '.join(self._units)}")
            return None
        return cell

    def _note(self, line: int, what: str) -> None:
        self._told += 1
        if self._told <= _MOST_SHOWN:
            self._builder.notice("bad-cell", f"{self._path}, line {line}: {what}", self._path.name)
        elif self._told == _MOST_SHOWN + 1:
            self._builder.notice("bad-cells", f"{self._path}: and more such cells", self._path.name)

    def append(self) -> None:
        """Add the rows to the capture, as one pass: the times and counters of a row belong together."""
        builder, columns = self._builder, self._columns
        count = len(columns["kernel"])
        index, process, gpu = builder.add_pass(note="table"), builder.process(0), builder.gpu("table")
        whole = {"pass": pa.scalar(index, pa.int16()), "process": pa.scalar(process, pa.int32())}
        many = [each or 1 for each in columns["dispatches"]]
        total = [round(each * times) for each, times in zip(columns["duration_ns"], many, strict=True)]
        builder.append(
            "dispatches",
            count,
            **whole,
            gpu=pa.scalar(gpu, pa.int32()),
            dispatch_id=pa.array(range(count), pa.int64()),
            kind=pa.scalar("kernel"),
            kernel=pa.array(columns["kernel"], pa.string()),
            duration_ns=pa.array(total, pa.int64()),
            count=pa.array(many, pa.int64()),
            case=pa.array(columns["case"], pa.string()),
            given_family=pa.array(columns["family"], pa.string()),
            given_flops_unit=pa.array(columns["flops_unit"], pa.string()),
            **{name: pa.array(columns[name], pa.int64()) for name in (*_SHAPE, *_RESOURCES)},
        )
        counters = {counter: columns[name] for name, counter in MEASURES.items()}
        for counter, values in counters.items():
            rows = [row for row, value in enumerate(values) if value is not None]
            builder.append(
                "counters",
                len(rows),
                **whole,
                gpu=pa.scalar(gpu, pa.int32()),
                dispatch_id=pa.array(rows, pa.int64()),
                counter=pa.scalar(counter),
                value=pa.array([float(values[row]) for row in rows], pa.float64()),
            )


def _also(cells: list[str]) -> str:
    """Say what a header looks like that is none."""
    if len(cells) == 1 and any(each in cells[0] for each in ";\t|"):
        return "separate columns with commas; "
    if "" in (cell.strip() for cell in cells):
        return "leave out the column without a name (an index, or a comma at the end); "
    return ""


def _fault(name: str, value: float) -> str:
    """Say what is wrong with a number, ``""`` where nothing is."""
    share = name.endswith("_frac")
    faults = (
        (not math.isfinite(value), "is not a number"),
        (value < 0, "is below 0"),
        (name in _AT_LEAST_ONE and value < 1, "is too small: it has to be at least 1"),
        (name in _WHOLE and value > _LARGEST, "is more than a launch can have"),
        (name in _WHOLE and value % 1 != 0, "is not a whole number"),
        (share and value > _ABOVE_ONE, "is more than the whole, so it cannot be right"),
        (value > _HUGE, "is larger than anything a kernel does"),
    )
    return next((said for wrong, said in faults if wrong), "")
