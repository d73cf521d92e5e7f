"""Text of rocprof v1 and v2 as typed columns with the internal names of a :class:`Layout`."""

from __future__ import annotations

import re
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from rocscope.collectors import csv_rows
from rocscope.collectors.builder import CaptureBuilder
from rocscope.collectors.rocprof_columns import COUNTER, Layout
from rocscope.collectors.source import Source
from rocscope.errors import InputError
from rocscope.tables import TEXT

TEXT_COLUMNS: Final = frozenset({"kernel", "name", "domain", "operation", "function"})

_SWALLOWED: Final = re.compile(r'",[^\n]*\n')
_INTEGER: Final = r"^\s*[-+]?[0-9]{1,18}\s*$"
_REAL: Final = r"^\s*[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]{1,3})?\s*$"


def column_type(name: str) -> pa.DataType:
    """Return the type of the column with the internal name ``name``."""
    if name in TEXT_COLUMNS:
        return TEXT
    return pa.float64() if name.startswith(COUNTER) else pa.int64()


def read_table(source: Source, layout: Layout, builder: CaptureBuilder) -> pa.Table:
    """Read a CSV with the columns of ``layout``; a cell that does not fit its column is null.

    Raises :class:`InputError` where there are rows and none has the right number of cells.
    """
    wanted = {name: column_type(name) for name in layout.used}
    table = csv_rows.read(source, wanted, builder, columns=layout.names)
    if not table.num_rows and source.text_head.partition("\n")[2].strip():
        raise InputError(
            f"{source.name}: line 2 and those after it do not have the header's {len(layout.names)} fields",
            "the file is damaged or was cut short; copy it again or profile again",
        )
    return _without_swallowed(table, source.name, builder)


def _without_swallowed(table: pa.Table, name: str, builder: CaptureBuilder) -> pa.Table:
    """Leave out rows in whose kernel name a lone quote has swallowed the rest of its line and the next.

    rocprof v1 writes names as they are, and does not double quotes in them.
    """
    names = table["kernel"]
    spoilt = [each for each in pc.unique(names).to_pylist() if each and _SWALLOWED.search(each)]
    if not spoilt:
        return table
    rows = pc.is_in(names.cast(pa.string()), pa.array(spoilt, pa.string()))
    lines = sum(each.count("\n") + 1 for each in names.filter(rows).to_pylist())
    builder.drop("malformed rows", lines, name)
    return table.filter(pc.invert(rows))


def numbers(texts: pa.Array, *, real: bool) -> tuple[pa.Array, int]:
    """Return strings as ``float64`` or ``int64``, null where they are none, and how many were none.

    Empty and null cells are not counted.
    """
    trimmed = pc.utf8_trim_whitespace(texts)
    fits = pc.match_substring_regex(trimmed, _REAL if real else _INTEGER)
    written = pc.greater(pc.utf8_length(trimmed), 0)
    lost = pc.sum(pc.and_(pc.invert(fits), written)).as_py() or 0
    kept = pc.if_else(fits, trimmed, pa.scalar(None, pa.string()))
    return pc.utf8_ltrim(kept, "+").cast(pa.float64() if real else pa.int64()), lost


def text(column: pa.Array | pa.ChunkedArray, *, unquote: bool = False) -> pa.DictionaryArray:
    """Return names as a dictionary of strings; what is not UTF-8 is replaced, null becomes empty.

    ``unquote`` takes off one pair of enclosing double quotes.
    """
    if isinstance(column, pa.ChunkedArray):
        column = column.unify_dictionaries().combine_chunks()
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    values = [_plain(value, unquote) for value in column.dictionary.to_pylist()]
    indices = column.indices.cast(pa.int32())
    if indices.null_count:
        indices = pc.fill_null(indices, pa.scalar(len(values), pa.int32()))
        values.append("")
    found = pa.DictionaryArray.from_arrays(indices, pa.array(values, pa.string()))
    if len(set(values)) < len(values):  # a dictionary must not hold a name twice
        found = found.cast(pa.string()).dictionary_encode()
    return found


def _plain(value: bytes | str | None, unquote: bool) -> str:
    name = value.decode("utf-8", "replace") if isinstance(value, bytes) else value or ""
    if unquote and len(name) > 1 and name[0] == name[-1] == '"':
        return name[1:-1]
    return name
