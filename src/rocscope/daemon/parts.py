"""The parts of the daemon, in the order in which they start; they stop in the reverse order."""

from __future__ import annotations

from importlib import import_module
from typing import Final

from rocscope.daemon.part import Part

MODULES: Final[tuple[str, ...]] = (
    "housekeeping",
    "telemetry_source",
    "host_source",
    "engine_source",
    "downsample",
    "analysis",
    "spool",
    "windows",
    "daily",
    "control",
    "http_server",
)
"""Modules of this package, each with its part's class as ``PART``; one that others build on comes first."""


def classes() -> list[type[Part]]:
    """Import the modules and return their parts' classes."""
    return [import_module(f"rocscope.daemon.{name}").PART for name in MODULES]
