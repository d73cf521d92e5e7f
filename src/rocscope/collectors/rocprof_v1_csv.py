"""``results.csv`` of rocprof v1: a row a dispatch, with times, counters, or both.

Written by ``rocprof --stats`` (quoted header, times), ``--timestamp on`` and ``-i`` (bare header, counters at
the end). The layout of 2020 (``vgpr``, ``fbar``, no ``wave_size``) is read too.
"""

from __future__ import annotations

from rocscope.collectors.builder import CaptureBuilder
from rocscope.collectors.rocminfo import agents_beside
from rocscope.collectors.rocprof_columns import Layout, header_cells, normalise
from rocscope.collectors.rocprof_rows import DispatchRows
from rocscope.collectors.rocprof_text import read_table
from rocscope.collectors.source import Source

TOOL = "rocprof v1"
_REQUIRED = frozenset({"index", "kernelname", "gpuid", "queueid", "grd", "wgr"})


class RocprofV1CsvReader:
    """Dispatches and counters of rocprof v1."""

    name = "rocprof-v1-csv"
    help = "results.csv of rocprof v1, with or without --stats and counters"
    order = 50
    content = "dispatches"
    bundle = "rocprof-v1-csv"

    def recognises(self, source: Source) -> bool:
        """Tell by the column names, in any order."""
        return {normalise(cell) for cell in header_cells(source.text_head)} >= _REQUIRED

    def content_of(self, source: Source) -> str:
        """Return ``counters`` for a file without times, ``description`` for one without rows.

        A run with tracing leaves an empty table here, and its kernels in the database.
        """
        if not source.text_head.partition("\n")[2].strip():
            return "description"
        layout = Layout.of(header_cells(source.text_head))
        return "counters" if layout.counters and not layout.timed else "dispatches"

    def read(self, source: Source, builder: CaptureBuilder) -> None:
        """Add each row as a dispatch, and its counters in a pass of their own.

        Raises :class:`rocscope.errors.InputError` where there are rows and none can be read.
        """
        layout = Layout.of(header_cells(source.text_head))
        rows = DispatchRows(
            source.name, builder, counters=layout.counters, tool=TOOL, agents=agents_beside(source)
        )
        rows.add(read_table(source, layout, builder))
        rows.commit()


READERS = (RocprofV1CsvReader(),)
