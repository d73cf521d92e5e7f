"""The telemetry process: reads GPUs through one source and writes what it read into a pipe, line by line.

A vendor's library may hang, crash and print. So it is loaded here and nowhere else: the parent reads the pipe
with deadlines, and kills and restarts this process. Nothing but the standard library and that library's
binding is imported. Run as ``python -P -m rocscope.collectors.telemetry_child SOURCE WHERE HZ PIPE PARENT``;
it ends when its standard input does.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from importlib import import_module
from typing import Any, Final

from rocscope.collectors.gpu_device import GpuReader, GpuReset, NothingRead, Reading, Unavailable

SLOW_PERIOD_S: Final = 10.0  # for what seldom changes: cap, size of memory, error counts
_DIES_WITH_PARENT: Final = 1  # PR_SET_PDEATHSIG


def reader_of(source: str, where: str, tell: Callable[[str], None]) -> GpuReader:
    """Return the reader of a source: the ``READER`` of the module that has its name.

    ``where`` is the binding's folder (amdsmi), or where sysfs is mounted.
    """
    reader: GpuReader = import_module(f"rocscope.collectors.{source}").READER(where, tell)
    return reader


class Pipe:
    """The way to the parent: one JSON object a line."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def send(self, **message: Any) -> None:
        """Write one message; raises ``OSError`` once the parent is gone."""
        line = json.dumps(message, separators=(",", ":")).encode() + b"\n"
        while line:
            line = line[os.write(self._descriptor, line) :]


def serve(reader: GpuReader, pipe: Pipe, stop: int, hz: float) -> None:
    """Read all GPUs ``hz`` times a second until the descriptor ``stop`` ends."""
    try:
        reader.open()
    except Unavailable as error:
        pipe.send(failed=error.kind, text=error.text)
        return
    pipe.send(ready=[list(each) for each in reader.devices], version=reader.version)
    for index in range(len(reader.devices)):
        pipe.send(energy=index, bits=reader.energy_bits(index), tick_j=reader.energy_tick_j)
    try:
        _loop(reader, pipe, stop, 1 / hz)
    except GpuReset as error:
        pipe.send(reset=str(error))
    reader.close()


def _loop(reader: GpuReader, pipe: Pipe, stop: int, period_s: float) -> None:
    before: dict[int, Reading] = {}
    due = time.monotonic()
    slow_due = [due] * len(reader.devices)
    while True:
        began = time.monotonic()
        rows: list[Any] = []
        failures: Counter[str] = Counter()
        for index in range(len(reader.devices)):
            slow = began >= slow_due[index]
            if slow:  # afterwards one GPU a tick: such a reading may take tens of milliseconds
                slow_due[index] = began + SLOW_PERIOD_S + index * period_s
            try:
                found = reader.read(index, before.get(index), slow=slow)
            except NothingRead as error:
                failures[str(error)] += 1
                before.pop(index, None)
                continue
            now = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
            before[index] = found
            rows.append([index, now, found.values, found.energy_ticks])
        took = time.monotonic() - began
        pipe.send(rows=rows, failures=failures, took_s=round(took, 6), cpu_s=round(time.process_time(), 6))
        due = max(due + period_s, time.monotonic())  # late ticks are skipped, not made up for
        if select.select([stop], [], [], max(0.0, due - time.monotonic()))[0]:
            return


def _die_with(parent: int) -> None:
    """Have the kernel end us with the parent, who may be killed while the library hangs."""
    with contextlib.suppress(OSError, AttributeError):
        import ctypes

        ctypes.CDLL(None).prctl(_DIES_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)


def main(arguments: list[str]) -> None:
    """Serve one source."""
    source, where, hz, descriptor, parent = arguments
    _die_with(int(parent))
    pipe = Pipe(int(descriptor))
    with contextlib.suppress(OSError):  # a parent that is gone
        reader = reader_of(source, where, lambda stage: pipe.send(stage=stage))
        serve(reader, pipe, 0, float(hz))
    os._exit(0)  # a library's threads and exit handlers are no business of ours


if __name__ == "__main__":
    main(sys.argv[1:])
