"""Finds the analyzers of this package and runs them, each after those whose columns it reads."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable, Sequence
from functools import cache

from rocscope.study import Analyzer, Study


@cache
def analyzers() -> tuple[Analyzer, ...]:
    """Return every analyzer that the modules of this package export, by name."""
    import rocscope.analyzers as package

    found = []
    for module in pkgutil.iter_modules(package.__path__):
        analyzer = getattr(importlib.import_module(f"{package.__name__}.{module.name}"), "ANALYZER", None)
        if analyzer is not None:
            found.append(analyzer)
    return tuple(sorted(found, key=lambda analyzer: analyzer.name))


def ordered(wanted: Iterable[Analyzer], columns: Iterable[str]) -> list[Analyzer]:
    """Sort analyzers so that each comes after those that make what it needs; names break ties.

    Raises ``LookupError`` that names a column which neither the frame has nor an analyzer adds.
    """
    left, known, result = sorted(wanted, key=lambda each: each.name), set(columns), []
    while left:
        ready = next((each for each in left if known.issuperset(each.needs)), None)
        if ready is None:
            missing = {each.name: sorted(set(each.needs) - known) for each in left}
            raise LookupError(f"no analyzer adds what these need: {missing}")
        left.remove(ready)
        known.update(ready.adds)
        result.append(ready)
    return result


def run(study: Study, wanted: Sequence[Analyzer] | None = None) -> None:
    """Run all analyzers on ``study``. Raises ``LookupError`` where one did not add what it promised."""
    for analyzer in ordered(analyzers() if wanted is None else wanted, study.kernels.columns):
        analyzer.run(study)
        missing = sorted(set(analyzer.adds) - set(study.kernels.columns))
        if missing:
            raise LookupError(f"the analyzer {analyzer.name} did not add {missing}")
        if analyzer.adds:
            study.kernels = study.kernels.copy()  # one block a dtype: pandas slows down with one a column
