"""What a report is, and the list of all of them."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from typing import Protocol, runtime_checkable

from rocscope.findings import Analysis


@runtime_checkable
class Report(Protocol):
    """One rendering of an analysis. A module of this package exports each as its ``REPORT``."""

    name: str  # as --format takes it: "html"
    help: str
    filename: str  # what it is called in --out: "report.html"

    def render(self, analysis: Analysis) -> str:
        """Return the whole report; every figure in it is one of ``analysis``."""
        ...


@cache
def reports() -> dict[str, Report]:
    """Return every report that the modules of this package export, by name."""
    import rocscope.reports as package

    found = {}
    for module in pkgutil.iter_modules(package.__path__):
        report = getattr(importlib.import_module(f"{package.__name__}.{module.name}"), "REPORT", None)
        if report is not None:
            found[report.name] = report
    return dict(sorted(found.items()))
