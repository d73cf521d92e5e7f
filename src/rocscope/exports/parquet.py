"""Parquet: a folder with a file for each table, for pandas, DuckDB, Polars or Spark."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from rocscope import tables
from rocscope.capture import Capture
from rocscope.exports import enriched
from rocscope.exports.target import replacing
from rocscope.findings import Analysis


class _Parquet:
    name = "parquet"
    help = "a folder of Parquet tables, dispatches with family and short name"
    folder = True

    def write(self, capture: Capture, target: Path, analysis: Analysis | None = None) -> list[Path]:
        """Write each table of ``capture`` into the folder ``target``, a row group a batch."""
        written = []
        for name in tables.SCHEMAS:
            path = target / f"{name}.parquet"
            with (
                replacing(path) as temporary,
                pq.ParquetWriter(temporary, enriched.schema(name), compression="zstd") as writer,
            ):
                for batch in enriched.batches(capture, name):
                    writer.write_batch(batch)
            written.append(path)
        for name, table in enriched.described(capture).items():
            path = target / f"{name}.parquet"
            with replacing(path) as temporary:
                pq.write_table(_typed(table), temporary, compression="zstd")
            written.append(path)
        return written


def _typed(table: pa.Table) -> pa.Table:
    """Give columns without any value a type: one of nulls alone is refused by some readers."""
    fields = [
        field.with_type(pa.string()) if pa.types.is_null(field.type) else field for field in table.schema
    ]
    return table.cast(pa.schema(fields))


EXPORT = _Parquet()
