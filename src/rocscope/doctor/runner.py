"""Runs all checks at the same time; none can hang the others, and none can raise."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Sequence
from typing import Final

from rocscope.doctor.check import Check, Finding, checks
from rocscope.doctor.machine import Machine
from rocscope.errors import PermissionMissing, ProfilerMissing, UnknownGpu, UsageError

_ORDER: Final = (  # where several things are missing, the one to mend first
    PermissionMissing.exit_code,
    UsageError.exit_code,
    ProfilerMissing.exit_code,
    UnknownGpu.exit_code,
)


def examine(machine: Machine, chosen: Sequence[Check] | None = None) -> list[Finding]:
    """Run the checks, by default all, and return what each saw, in their order.

    A check that does not end by its deadline is reported ``unknown`` and left behind, in a thread that does
    not keep the program from ending.
    """
    wanted = list(checks() if chosen is None else chosen)
    done: queue.SimpleQueue[tuple[int, Finding]] = queue.SimpleQueue()

    def look(place: int, check: Check) -> None:
        try:
            found = check.run(machine)
        except Exception as error:  # noqa: BLE001  # whatever a strange machine makes a check do
            found = _unknown(check, f"the check itself failed: {type(error).__name__}: {error}")
        done.put((place, found))

    began = time.monotonic()
    for place, check in enumerate(wanted):
        threading.Thread(target=look, args=(place, check), name=f"doctor-{check.name}", daemon=True).start()
    found: dict[int, Finding] = {}
    while waiting := [place for place in range(len(wanted)) if place not in found]:
        ends = {place: began + wanted[place].deadline_s for place in waiting}
        try:
            place, finding = done.get(timeout=max(0.0, min(ends.values()) - time.monotonic()))
            found.setdefault(place, finding)
        except queue.Empty:
            now = time.monotonic()
            for place in waiting:
                if ends[place] <= now:
                    late = f"it did not answer within {wanted[place].deadline_s:g} s"
                    found[place] = _unknown(wanted[place], late)
    return [found[place] for place in range(len(wanted))]


def exit_code(findings: Sequence[Finding]) -> int:
    """Return 0 where profiling is possible, else the exit code with which ``rocscope profile`` would end."""
    blocks = {each.blocks for each in findings if each.blocks is not None}
    return next((code for code in _ORDER if code in blocks), min(blocks, default=0))


def _unknown(check: Check, seen: str) -> Finding:
    return Finding(check=check.name, title=check.title, status="unknown", seen=seen)
