"""Runs no profiler: host samples only."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rocscope.collectors.backend import Absent, Base, Found, Plan, Request


class Nothing(Base):
    """Launches and samples, collects no device data."""

    name = "none"
    help = "no profiler: host samples only"
    injects = False

    def find(self, environment: Mapping[str, str], argument: str) -> Found | Absent:
        """It is always there."""
        return Found("")

    def plan(self, request: Request) -> Plan:
        """Run the command as it is."""
        return Plan(request.command)

    def outputs(self, request: Request) -> list[Path]:
        """Return nothing."""
        return []


BACKEND = Nothing()
