"""Takes the device side from a saved recording while the command is really launched and its host sampled."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rocscope.collectors.backend import Absent, Base, Found, Plan, Request


class Replay(Base):
    """For machines without a GPU, and for demonstrations; every report says so on its first line."""

    name = "replay"
    help = "replay:CAPTURE takes kernels from a recording or capture; the command really runs"
    injects = False
    takes = "the recording"

    def find(self, environment: Mapping[str, str], argument: str) -> Found | Absent:
        """Check that there is a recording to replay."""
        if not argument:
            return Absent("--profiler replay needs a recording", "write --profiler replay:CAPTURE")
        if not Path(argument).exists():
            return Absent(f"{argument}: no such recording", "check the path after replay:")
        return Found(argument)

    def plan(self, request: Request) -> Plan:
        """Run the command as it is."""
        return Plan(request.command)

    def outputs(self, request: Request) -> list[Path]:
        """Return the recording."""
        return [Path(request.argument)]


BACKEND = Replay()
