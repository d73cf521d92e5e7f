"""Typed columns from a CSV file, by normalised column name, streamed; what cannot be read is counted.

Profilers change the order, case and quoting of columns between releases, and add some. So a column is
found by its name with all but letters and digits removed, in lower case, never by its position.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from rocscope.collectors.builder import CaptureBuilder
from rocscope.collectors.salvage import SalvagedStream
from rocscope.collectors.source import Source
from rocscope.tables import TEXT

if TYPE_CHECKING:
    from pyarrow import csv as pacsv

BLOCK_BYTES: Final = 1 << 20
_INTEGER: Final = r"^\s*-?([0-9]{1,18}|[1-8][0-9]{18})\s*$"  # 64 bits: Unix time in ns has 19
_NUMBER: Final = r"^\s*[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?\s*$"
_NULLS: Final = ["", "NA", "N/A", "NULL", "null"]


def normalise(name: str) -> str:
    """Return a column's name as it is looked up: ``Start_Timestamp`` is ``starttimestamp``."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def header(source: Source) -> tuple[str, ...]:
    """Return the normalised names of the columns, or ``()`` where the file does not begin with a header."""
    return _header(source.text_head.partition("\n")[0])


@lru_cache(maxsize=256)
def _header(line: str) -> tuple[str, ...]:
    if len(line) > 16384 or "\x00" in line or "," not in line:
        return ()
    try:
        names = next(csv.reader([line.rstrip("\r")]), [])
    except csv.Error:
        return ()
    found = tuple(normalise(name) for name in names)
    return found if all(found) else ()


def first_row(source: Source) -> dict[str, str]:
    """Return the first data row by normalised name, ``{}`` where there is none."""
    names = header(source)
    try:
        rows = csv.reader(source.text_head.splitlines(keepends=True))
        next(rows)
        row = next(rows)
    except (csv.Error, StopIteration):
        return {}
    return dict(zip(names, row, strict=True)) if len(row) == len(names) else {}


def read(
    source: Source,
    wanted: Mapping[str, pa.DataType],
    builder: CaptureBuilder,
    *,
    columns: Sequence[str] | None = None,
) -> pa.Table:
    """Read the columns ``wanted`` (normalised name to type); those the file lacks are absent.

    Rows with a wrong number of fields are dropped and counted. A value that is not of its column's type
    comes back as null. A file cut off in the middle gives what precedes the cut, and a notice. ``columns``
    are the names of all columns in their order, from a caller who has read the header in its own way.
    """
    names = list(header(source) if columns is None else columns)
    for index, name in enumerate(names):  # a name given twice: the first one counts
        if name in names[:index]:
            names[index] = f"{name}#{index}"
    types = {name: wanted[name] for name in names if name in wanted}
    try:
        return _read(source, names, types, builder, _as_is)
    except pa.ArrowInvalid:  # a value of the wrong type, a malformed row, or no UTF-8: the slow way
        return _read(source, names, types, builder, _forgiving)


_Convert = Callable[[pa.RecordBatch, Mapping[str, pa.DataType]], pa.RecordBatch]


def _read(
    source: Source,
    names: list[str],
    types: Mapping[str, pa.DataType],
    builder: CaptureBuilder,
    convert: _Convert,
) -> pa.Table:
    from pyarrow import csv as pacsv

    malformed: list[tuple[int | None, int]] = []

    def skip(row: pacsv.InvalidRow) -> str:
        malformed.append((row.number, row.text.count("\n") + 1))
        return "skip"

    binary = pa.dictionary(pa.int32(), pa.binary())
    forgiving = convert is _forgiving
    options = {
        "read_options": pacsv.ReadOptions(
            use_threads=False, block_size=BLOCK_BYTES, column_names=names, skip_rows=1
        ),
        # The handler is given a row as text, and Arrow fails at what is not UTF-8: only mended text has one.
        "parse_options": pacsv.ParseOptions(
            newlines_in_values=True, invalid_row_handler=skip if forgiving else None
        ),
        "convert_options": pacsv.ConvertOptions(
            column_types=dict.fromkeys(types, binary) if forgiving else dict(types),
            include_columns=list(types),
            strings_can_be_null=False,
            null_values=_NULLS,
        ),
    }
    batches: list[pa.RecordBatch] = []
    # Arrow's own file, where it will do: through a Python file each block would be copied once more.
    with source.stream() if source.compressed else pa.OSFile(str(source.path)) as raw:
        # Arrow reads ahead: an error of a cut gzip would cost the rows that precede it.
        salvage = source.compressed or forgiving
        stream = SalvagedStream(raw, mend_text=forgiving) if salvage else raw
        try:
            with pacsv.open_csv(stream, **options) as reader:
                batches.extend(convert(batch, types) for batch in reader)
        except pa.ArrowInvalid as error:
            if not forgiving and "skip initial" not in str(error):
                raise
            if "skip initial" not in str(error):  # else nothing but the header
                _cut(source, builder, batches, str(error))
        except OSError as error:
            _cut(source, builder, batches, str(error))
        if isinstance(stream, SalvagedStream) and stream.damage:
            _cut(source, builder, batches, stream.damage)
    if malformed:
        lost = sum(lines for _, lines in malformed)
        builder.drop("malformed rows", lost, source.name)
        builder.notice(
            "malformed-rows",
            f"{source.name}: {lost} rows have a wrong number of fields, the first at line {malformed[0][0]}",
            source.name,
        )
    if not batches:
        return pa.table({name: pa.array([], kind) for name, kind in types.items()})
    return pa.Table.from_batches(batches)


def _cut(source: Source, builder: CaptureBuilder, batches: list[pa.RecordBatch], why: str) -> None:
    rows = sum(batch.num_rows for batch in batches)
    builder.notice("truncated-file", f"{source.name}: damaged after row {rows} ({why})", source.name)


def _as_is(batch: pa.RecordBatch, types: Mapping[str, pa.DataType]) -> pa.RecordBatch:
    return batch


def _forgiving(batch: pa.RecordBatch, types: Mapping[str, pa.DataType]) -> pa.RecordBatch:
    """Convert columns of bytes; what is no number becomes null, what is no UTF-8 a replacement character."""
    from pyarrow import compute

    columns: dict[str, pa.Array] = {}
    for name, kind in types.items():
        column = batch.column(name)
        texts = [bytes(each).decode("utf-8", "replace") for each in column.dictionary.to_pylist()]
        values = pa.array(texts, pa.string())
        if kind != TEXT:
            good = compute.match_substring_regex(values, _INTEGER if pa.types.is_integer(kind) else _NUMBER)
            trimmed = compute.utf8_trim_whitespace(values)
            wide = pa.int64() if pa.types.is_integer(kind) else pa.float64()
            numbers = compute.if_else(good, trimmed, None).cast(wide)
            if pa.types.is_integer(kind) and kind != wide:
                limit = 1 << (kind.bit_width - 1)
                fits = compute.and_(compute.less(numbers, limit), compute.greater_equal(numbers, -limit))
                numbers = compute.if_else(fits, numbers, None)
            columns[name] = numbers.cast(kind).take(column.indices)
        else:
            columns[name] = pa.DictionaryArray.from_arrays(column.indices, values)
    return pa.RecordBatch.from_pydict(columns)
