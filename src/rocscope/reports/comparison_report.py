"""What a report of a comparison is, and the list of all of them."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from typing import Final, Protocol, runtime_checkable

from rocscope.comparison.result import Comparison

_EXPORTED: Final = "COMPARISON_"


@runtime_checkable
class ComparisonReport(Protocol):
    """One rendering of a comparison. A module of this package exports each as ``COMPARISON_NAME``."""

    name: str  # as --format takes it: "html"
    help: str
    filename: str  # what it is called in --out: "compare.html"

    def render(self, comparison: Comparison) -> str:
        """Return the whole report; every figure in it is one of ``comparison``."""
        ...


@cache
def comparison_reports() -> dict[str, ComparisonReport]:
    """Return every report that the modules of this package export, by name."""
    import rocscope.reports as package

    found: dict[str, ComparisonReport] = {}
    for module in pkgutil.iter_modules(package.__path__):
        if not module.name.startswith("comparison_"):
            continue
        held = vars(importlib.import_module(f"{package.__name__}.{module.name}"))
        reports = [each for name, each in held.items() if name.startswith(_EXPORTED)]
        found |= {each.name: each for each in reports if isinstance(each, ComparisonReport)}
    return dict(sorted(found.items()))
