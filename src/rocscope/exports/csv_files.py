"""CSV: a folder with a file for each table; unknown is an empty cell."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pacsv

from rocscope import tables
from rocscope.capture import Capture
from rocscope.exports import enriched
from rocscope.exports.target import replacing
from rocscope.findings import Analysis
from rocscope.untrusted import spreadsheet


class _CsvFiles:
    name = "csv"
    help = "a folder of CSV tables; names that a spreadsheet would run get a quote in front"
    folder = True

    def write(self, capture: Capture, target: Path, analysis: Analysis | None = None) -> list[Path]:
        """Write each table of ``capture`` into the folder ``target``, a batch at a time."""
        written = []
        for name in tables.SCHEMAS:
            path = target / f"{name}.csv"
            with (
                replacing(path) as temporary,
                pacsv.CSVWriter(temporary, _plain(enriched.schema(name))) as writer,
            ):
                for batch in enriched.batches(capture, name):
                    writer.write_batch(_decoded(batch))
            written.append(path)
        for name, table in enriched.described(capture).items():
            path = target / f"{name}.csv"
            with replacing(path) as temporary, pacsv.CSVWriter(temporary, _plain(table.schema)) as writer:
                for batch in table.to_batches():
                    writer.write_batch(_decoded(batch))
            written.append(path)
        return written


def _plain(schema: pa.Schema) -> pa.Schema:
    def decoded(kind: pa.DataType) -> pa.DataType:
        return pa.string() if pa.types.is_dictionary(kind) or pa.types.is_null(kind) else kind

    return pa.schema([pa.field(field.name, decoded(field.type)) for field in schema])


def _decoded(batch: pa.RecordBatch) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays(
        [_cells(column) for column in batch.columns], schema=_plain(batch.schema)
    )


def _cells(column: pa.Array) -> pa.Array:
    """Return the cells; text neutralised, once a dictionary entry where there is a dictionary."""
    if pa.types.is_dictionary(column.type):
        return _cells(column.dictionary).take(column.indices)
    if not pa.types.is_string(column.type):
        return column.cast(pa.string()) if pa.types.is_null(column.type) else column
    return pa.array([None if text is None else spreadsheet(text) for text in column.to_pylist()], pa.string())


EXPORT = _CsvFiles()
