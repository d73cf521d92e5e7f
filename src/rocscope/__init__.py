"""rocscope: where a token's time goes on an AMD GPU, what holds each kernel back, what to change.

>>> import rocscope
>>> analysis = rocscope.analyze("rocprof-out/")            # doctest: +SKIP
>>> analysis.targets[0].advice                             # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = [
    "Analysis",
    "Capture",
    "Comparison",
    "Profiled",
    "RocscopeError",
    "analyze",
    "compare",
    "load",
    "profile",
]

if TYPE_CHECKING:
    from rocscope.capture import Capture
    from rocscope.errors import RocscopeError
    from rocscope.findings import Analysis
    from rocscope.pipeline import Comparison, Profiled, analyze, compare, load, profile

_HOMES = {
    "Analysis": "rocscope.findings",
    "Capture": "rocscope.capture",
    "RocscopeError": "rocscope.errors",
    "Comparison": "rocscope.pipeline",
    "Profiled": "rocscope.pipeline",
    "analyze": "rocscope.pipeline",
    "compare": "rocscope.pipeline",
    "load": "rocscope.pipeline",
    "profile": "rocscope.pipeline",
}


def __getattr__(name: str) -> Any:
    """Import on first use, so that ``rocscope --help`` does not pay for Arrow and pandas."""
    if name not in _HOMES:
        raise AttributeError(f"module 'rocscope' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
