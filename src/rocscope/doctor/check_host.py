"""The machine beside its GPUs: its clock, its memory, and the disk that captures go to."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Final

from rocscope.doctor.check import Base, Finding
from rocscope.doctor.machine import Machine
from rocscope.errors import PermissionMissing

_GIB: Final = 1 << 30
_MIB: Final = 1 << 20
_LEAST_FREE: Final = 10 * _GIB
_LEAST_SPEED: Final = 50 * _MIB  # bytes a second
_LEAST_MEMORY: Final = 8 * _GIB
_CHUNK: Final = os.urandom(1 << 16) * 64  # 4 MiB that a disk cannot shrink to nothing
_MOST_WRITTEN: Final = 16  # of these
_WRITE_S: Final = 1.0
_GOOD_CLOCKS: Final = (
    "tsc",
    "arch_sys_counter",
    "kvm-clock",
    "hyperv",
    "xen",
    "timebase",
    "riscv_clocksource",
)


class Clock(Base):
    """Reading a slow clock costs each launch some microseconds, and a profiler reads it twice."""

    name = "clock"
    title = "Host clock"
    help = "the clock source of the kernel: every launch and annotation is timed by it"
    order = 90

    def run(self, machine: Machine) -> Finding:
        """Read the source in use."""
        folder = "sys/devices/system/clocksource/clocksource0"
        source = machine.text(f"{folder}/current_clocksource")
        others = machine.text(f"{folder}/available_clocksource").split()
        details = {"source": source or None, "available": others}
        if not source:
            return self.unknown("the kernel does not tell", details=details)
        if source.startswith(_GOOD_CLOCKS):
            return self.ok(source, details=details)
        better = next((each for each in others if each.startswith(_GOOD_CLOCKS)), None)
        return self.warn(
            f"{source} is slow to read: the host side of launches looks longer than it is",
            fix=f"echo {better} | sudo tee /{folder}/current_clocksource" if better else None,
            details=details,
        )


class Memory(Base):
    """Memory of the host: traces are held in it until they are written."""

    name = "memory"
    title = "Host memory"
    help = "memory of the machine that is free for traces and their analysis"
    order = 91

    def run(self, machine: Machine) -> Finding:
        """Read what the kernel takes to be available."""
        known = {}
        for line in machine.text("proc/meminfo").splitlines():
            name, _, value = line.partition(":")
            words = value.split()
            if words and words[0].isdecimal():
                known[name] = int(words[0]) * 1024
        total, free = known.get("MemTotal"), known.get("MemAvailable")
        details = {"total_bytes": total, "available_bytes": free}
        if free is None or total is None:
            return self.unknown("the kernel does not tell", details=details)
        seen = f"{free / _GIB:.3g} of {total / _GIB:.3g} GiB available"
        if free < _LEAST_MEMORY:
            return self.warn(
                f"{seen}: traces of a server may not fit", advice="shorten --duration", details=details
            )
        return self.ok(seen, details=details)


class Disk(Base):
    """The place of ``--out``."""

    name = "disk"
    title = "Disk"
    help = "free space and writing speed where captures go (--out)"
    order = 95

    def run(self, machine: Machine) -> Finding:
        """Write up to 64 MiB for a second at most, and remove them."""
        place = _existing(machine.out)
        try:
            free = shutil.disk_usage(place).free
            speed = _speed(place)
        except OSError as error:
            return self.fail(
                f"{place} cannot be written: {error.strerror}",
                advice="name a folder of yours with --out",
                blocks=PermissionMissing.exit_code,
                details={"place": str(place)},
            )
        details = {"place": str(place), "free_bytes": free, "write_bytes_per_s": speed}
        seen = f"{free / _GIB:.4g} GiB free at {place}, {speed / 1e6:.3g} MB/s"
        if free < _LEAST_FREE:
            return self.warn(
                f"{seen}: a trace of a server takes gigabytes", advice="choose --out", details=details
            )
        if speed < _LEAST_SPEED:
            return self.warn(f"{seen}: workers may not write in time", advice="choose --out", details=details)
        return self.ok(seen, details=details)


def _existing(place: Path) -> Path:
    """Return the folder that is there of a path that may not be."""
    place = place.absolute()
    return next((each for each in (place, *place.parents) if each.is_dir()), Path("/"))


def _speed(place: Path) -> float:
    """Return bytes a second that reach the disk."""
    descriptor, name = tempfile.mkstemp(prefix=".rocscope-doctor-", dir=place)
    try:
        began = time.monotonic()
        written = 0
        for _ in range(_MOST_WRITTEN):
            written += os.write(descriptor, _CHUNK)
            os.fsync(descriptor)
            if time.monotonic() - began > _WRITE_S:
                break
        return written / max(time.monotonic() - began, 1e-9)
    finally:
        os.close(descriptor)
        with contextlib.suppress(OSError):
            Path(name).unlink()


CHECKS = (Clock(), Memory(), Disk())
