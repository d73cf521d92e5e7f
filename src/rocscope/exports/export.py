"""What an export is, and the list of all of them."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from pathlib import Path
from typing import Protocol, runtime_checkable

from rocscope.capture import Capture
from rocscope.findings import Analysis


@runtime_checkable
class Export(Protocol):
    """One way out of a capture. A module of this package exports each as its ``EXPORT``."""

    name: str  # as --format takes it: "perfetto"
    help: str
    folder: bool  # whether it writes a folder rather than a file

    def write(self, capture: Capture, target: Path, analysis: Analysis | None = None) -> list[Path]:
        """Write ``capture`` to ``target``, with what ``analysis`` says where this format can tell it.

        Returns the files written.

        Each file is whole or absent; a file of that name is replaced, another is left alone. Raises
        :class:`rocscope.errors.InputError` where the capture has nothing that this format can hold.
        """
        ...


@cache
def exports() -> dict[str, Export]:
    """Return every export that the modules of this package hold, by name."""
    import rocscope.exports as package

    found = {}
    for module in pkgutil.iter_modules(package.__path__):
        export = getattr(importlib.import_module(f"{package.__name__}.{module.name}"), "EXPORT", None)
        if export is not None:
            found[export.name] = export
    return dict(sorted(found.items()))
