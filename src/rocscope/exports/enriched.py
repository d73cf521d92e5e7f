"""The tables of a capture as another tool wants them: in batches, dispatches with their family."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import pyarrow as pa

from rocscope import tables
from rocscope.capture import Capture

BATCH_ROWS: Final = 1 << 16
ADDED: Final = (pa.field("kernel_short", tables.TEXT), pa.field("family", tables.TEXT))


def schema(name: str) -> pa.Schema:
    """Return the schema of the exported table ``name``: of ``dispatches`` with family and short name."""
    found = tables.SCHEMAS[name]
    return pa.schema([*found, *ADDED]) if name == "dispatches" else found


def batches(capture: Capture, name: str) -> Iterator[pa.RecordBatch]:
    """Give table ``name`` in batches of at most :data:`BATCH_ROWS` rows."""
    table = capture.tables()[name].unify_dictionaries()
    known = _classified(table) if name == "dispatches" else {}
    for first in range(0, table.num_rows, BATCH_ROWS):  # pieces of the table may be far smaller
        batch = table.slice(first, BATCH_ROWS).combine_chunks().to_batches()[0]
        if name != "dispatches":
            yield batch
            continue
        kernel = batch.column("kernel")
        words = kernel.dictionary.to_pylist()
        more = [
            pa.DictionaryArray.from_arrays(
                kernel.indices, pa.array([known[w][i] for w in words], pa.string())
            )
            for i in range(len(ADDED))
        ]
        yield pa.RecordBatch.from_arrays([*batch.columns, *more], schema=schema(name))


def _classified(table: pa.Table) -> dict[str | None, tuple[str | None, str | None]]:
    """Return short name and family of each distinct kernel name: a few hundred, however many rows."""
    from rocscope import taxonomy

    names: list[str] = sorted(
        {
            name
            for chunk in table["kernel"].chunks
            for name in chunk.dictionary.to_pylist()
            if name is not None
        }
    )
    frame = taxonomy.classify(names)
    found: dict[str | None, tuple[str | None, str | None]] = {None: (None, None)}
    found.update(zip(names, zip(frame["kernel"], frame["family"], strict=True), strict=True))
    return found


def described(capture: Capture) -> dict[str, pa.Table]:
    """Return the GPUs, processes and passes of the manifest as tables, so that indices can be joined."""
    manifest = capture.manifest
    lists: dict[str, list[dict[str, Any]]] = {
        "gpus": [gpu.model_dump() for gpu in manifest.gpus],
        "processes": [
            {**each.model_dump(exclude={"command"}), "command": " ".join(each.command)}
            for each in manifest.processes
        ],
        "passes": [
            {**each.model_dump(exclude={"counters"}), "counters": " ".join(each.counters)}
            for each in manifest.passes
        ],
    }
    return {name: pa.Table.from_pylist(rows) for name, rows in lists.items() if rows}
