"""What a report is, of an analysis or of a comparison, and the lists of all of them."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar, runtime_checkable

if TYPE_CHECKING:
    from rocscope.comparison.result import Comparison
    from rocscope.findings import Analysis

_OF_COMPARISON: Final = "comparison_"  # how the modules are called whose report is of a comparison
Told_contra = TypeVar("Told_contra", contravariant=True)  # what is reported


@runtime_checkable
class Report(Protocol[Told_contra]):
    """One rendering of an analysis or a comparison, which a module of this package exports as ``REPORT``."""

    name: str  # as --format takes it: "html"
    help: str
    filename: str  # what it is called in --out: "report.html", "compare.html"

    def render(self, told: Told_contra, /) -> str:
        """Return the whole report; every figure in it is one of ``told``."""
        ...


@cache
def reports() -> dict[str, Report[Analysis]]:
    """Return every report of an analysis that the modules of this package export, by name."""
    return dict(_exported(of_comparison=False))


@cache
def comparison_reports() -> dict[str, Report[Comparison]]:
    """Return every report of a comparison that the modules of this package export, by name."""
    return dict(_exported(of_comparison=True))


def _exported(*, of_comparison: bool) -> Iterator[tuple[str, Report[Any]]]:
    import rocscope.reports as package

    names = [each.name for each in pkgutil.iter_modules(package.__path__)]
    modules = [
        importlib.import_module(f"{package.__name__}.{name}")
        for name in names
        if name.startswith(_OF_COMPARISON) is of_comparison
    ]
    found: list[Report[Any]] = [module.REPORT for module in modules if hasattr(module, "REPORT")]
    yield from sorted((each.name, each) for each in found)
