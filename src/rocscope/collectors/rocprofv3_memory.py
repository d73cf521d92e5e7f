"""rocprofv3's CSV of memory: allocations and scratch, which hold no GPU work."""

from __future__ import annotations

from typing import Final

from rocscope.collectors import csv_rows
from rocscope.collectors.builder import CaptureBuilder
from rocscope.collectors.source import Source

_OF_ALLOCATIONS: Final = {"kind", "operation", "allocationsize", "address", "starttimestamp"}
_OF_SCRATCH: Final = {"kind", "operation", "allocflags", "queueid", "starttimestamp"}


class MemoryReader:
    """Tells the two tables from unknown files and says that they are passed over."""

    name = "rocprofv3-memory-csv"
    help = "rocprofv3 --memory-allocation-trace, --scratch-memory-trace -f csv; no GPU work, passed over"
    order = 91
    content = "description"

    def recognises(self, source: Source) -> bool:
        """Tell by the columns of the header."""
        if source.is_sqlite:
            return False
        names = set(csv_rows.header(source))
        return names >= _OF_ALLOCATIONS or names >= _OF_SCRATCH

    def read(self, source: Source, builder: CaptureBuilder) -> None:
        """Add a notice."""
        builder.notice("not-used", f"{source.name}: allocations, which are no work of the GPU", source.name)


READERS = (MemoryReader(),)
