"""What a reader of recordings is, and the list of all of them."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from typing import Final, Protocol, runtime_checkable

from rocscope.collectors.builder import CaptureBuilder
from rocscope.collectors.source import Source

CONTENT: Final = ("dispatches", "aggregate", "counters", "api", "description")
"""What a file can hold. Of one run's files that share a stem (``results.csv``, ``.db``, ``.json`` and
``.stats.csv``; ``123_kernel_trace.csv``, ``123_results.db`` and ``123_kernel_stats.csv``) discovery reads

* of several formats that hold ``dispatches`` (or, failing them, ``counters``, then ``aggregate``) the one
  whose reader has the lowest ``order``; the files of the others are left out, and a notice says so;
* ``aggregate`` (totals per kernel) only where nothing of that stem has single dispatches;
* ``counters`` and ``api`` (host calls) beside the dispatches of their own format;
* ``description`` (devices, versions) always.

A reader whose files hold several of these says ``dispatches``, or, where it differs by file, has a method
``content_of(source) -> str``. Readers whose files make up one format together (kernel trace, counters and
copies of rocprofv3 in CSV) share an attribute ``bundle``; without it a reader is a format of its own. One
whose files are read beside a recording that is named alone has ``companion = True``.
"""


@runtime_checkable
class Reader(Protocol):
    """Reads one file format. A module of this package exports each as an element of ``READERS``."""

    name: str  # kebab-case, e.g. "rocprofv3-csv"
    help: str  # one line: what writes it
    order: int  # files with a lower order are read first (descriptions of devices before dispatches)
    content: str  # one of CONTENT: what its files hold, so that no run is counted twice

    def recognises(self, source: Source) -> bool:
        """Tell from the content, never from the name, whether this reader is for ``source``."""
        ...

    def read(self, source: Source, builder: CaptureBuilder) -> None:
        """Add what ``source`` holds to ``builder``.

        Raises :class:`rocscope.errors.InputError` that names file and line or field where nothing of it
        can be used; what can be used is used, and the rest is counted with ``builder.drop``.
        """
        ...


@cache
def readers() -> tuple[Reader, ...]:
    """Return every reader that the modules of this package export, in the order of reading."""
    import rocscope.collectors as package

    found: list[Reader] = []
    for module in pkgutil.iter_modules(package.__path__):
        found += getattr(importlib.import_module(f"{package.__name__}.{module.name}"), "READERS", ())
    return tuple(sorted(found, key=lambda reader: (reader.order, reader.name)))
