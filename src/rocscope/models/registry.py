"""The list of all shape models."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from rocscope.models.model import ShapeModel


@cache
def shape_models() -> tuple[ShapeModel, ...]:
    """Return every ``MODEL`` that the modules of this package export, by name."""
    import rocscope.models as package

    found: list[ShapeModel] = []
    for module in pkgutil.iter_modules(package.__path__):
        model = getattr(importlib.import_module(f"{package.__name__}.{module.name}"), "MODEL", None)
        if model is not None:
            found.append(model)
    return tuple(sorted(found, key=lambda model: model.name))
