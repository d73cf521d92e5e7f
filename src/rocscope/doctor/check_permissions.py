"""What this user may open, trace, count and pin."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
from pathlib import Path
from typing import Final

from rocscope.collectors.gpu_device import numbered
from rocscope.doctor.check import Base, Finding
from rocscope.doctor.machine import Identity, Machine
from rocscope.errors import PermissionMissing

_MIB: Final = 1 << 20
_LEAST_LOCKED: Final = 64 * _MIB
_SYS_PTRACE, _SYS_ADMIN, _PERFMON = 19, 21, 38  # capabilities, by bit
_GROUPS: Final = ("render", "video")


class Devices(Base):
    """The device files that ROCm and CUDA open."""

    name = "devices"
    title = "Device files"
    help = "/dev/kfd, /dev/dri/renderD* or /dev/nvidia*: there, and open to this user (groups render, video)"
    order = 40

    def run(self, machine: Machine) -> Finding:
        """Open each for reading and writing; nothing is read or written."""
        wanted = _wanted(machine)
        if not wanted:
            return self.unknown("no GPU, so no device files are looked for")
        states = {f"/{path.relative_to(machine.root)}": _state(path, machine) for path in wanted}
        details = {"files": states, "groups": sorted(_group_names(machine))}
        absent = [path for path, state in states.items() if state == "absent"]
        refused = [path for path, state in states.items() if state == "refused"]
        code = PermissionMissing.exit_code
        if absent:
            return self.fail(
                f"not there: {', '.join(absent)}",
                advice="in a container: --device=/dev/kfd --device=/dev/dri (or --gpus all for NVIDIA); "
                "else the driver is not loaded",
                blocks=code,
                details=details,
            )
        if refused:
            return self.fail(
                f"not open to this user: {', '.join(refused)}",
                fix=_fix(machine, refused),
                advice="then log in anew; in a container: --group-add with the numbers of these groups, and "
                "--device for each",
                blocks=code,
                details=details,
            )
        odd = [f"{path}: {state}" for path, state in states.items() if state != "open"]
        if odd:
            return self.warn("; ".join(odd), details=details)
        groups = [name for name in _GROUPS if name in details["groups"]]
        said = f" (groups {', '.join(groups)})" if groups else ""
        return self.ok(f"{len(states)} open to this user{said}", details=details)


def _wanted(machine: Machine) -> list[Path]:
    paths: list[Path] = []
    if "amd" in machine.vendors:
        render = numbered(machine.at("dev/dri"), "renderD")
        paths += [machine.at("dev/kfd"), *(render or [machine.at("dev/dri/renderD128")])]
    if "nvidia" in machine.vendors:
        paths += [machine.at("dev/nvidiactl"), *numbered(machine.at("dev"), "nvidia")]
    return paths


def _state(path: Path, machine: Machine) -> str:
    """Return open, refused, absent, or what else the system says."""
    if machine.identity is not None:
        return _by_mode(path, machine.identity)
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK))
    except FileNotFoundError:
        return "absent"
    except OSError as error:
        return "refused" if error.errno in (errno.EACCES, errno.EPERM) else (error.strerror or "unusable")
    return "open"


def _by_mode(path: Path, who: Identity) -> str:
    try:
        found = path.stat()
    except OSError:
        return "absent"
    shift = 6 if found.st_uid == who.user else 3 if found.st_gid in who.groups else 0
    return "open" if who.user == 0 or (found.st_mode >> shift) & 6 == 6 else "refused"


def _names(machine: Machine) -> dict[int, str]:
    """Return the groups of the machine by number."""
    rows = [line.split(":") for line in machine.text("etc/group").splitlines()]
    return {int(row[2]): row[0] for row in rows if len(row) >= 3 and row[2].isdecimal()}


def _group_names(machine: Machine) -> list[str]:
    names = _names(machine)
    own = machine.identity.groups if machine.identity else {*os.getgroups(), os.getegid()}
    return [names.get(each, str(each)) for each in own]


def _fix(machine: Machine, refused: list[str]) -> str | None:
    """Name the groups that the refused files belong to."""
    names = _names(machine)
    found: dict[str, None] = {}
    for path in refused:
        with contextlib.suppress(OSError):
            group = machine.at(path).stat().st_gid
            if group:
                found[names.get(group, str(group))] = None
    return f'sudo usermod -aG {",".join(found or _GROUPS)} "$USER"'


class Ptrace(Base):
    """Needed to attach a profiler to a process that runs already, and for nothing else."""

    name = "ptrace"
    title = "Attach (ptrace)"
    help = "whether a profiler may attach to a process that was started elsewhere"
    order = 45

    def run(self, machine: Machine) -> Finding:
        """Read Yama's setting and our capabilities."""
        scope = machine.number("proc/sys/kernel/yama/ptrace_scope")
        details = {"ptrace_scope": scope}
        if _capable(machine, _SYS_PTRACE):
            return self.ok("allowed (CAP_SYS_PTRACE)", details=details)
        if not scope:
            return self.ok("allowed for one's own processes", details=details)
        texts = {1: "only by a process's parent", 2: "only with CAP_SYS_PTRACE", 3: "never, until a reboot"}
        return self.warn(
            f"ptrace_scope is {scope}: {texts.get(scope, 'restricted')}; launching needs no more",
            fix="sudo sysctl kernel.yama.ptrace_scope=0" if scope < 3 else None,
            advice="in a container: --cap-add=SYS_PTRACE",
            details=details,
        )


class Perf(Base):
    """Some counters go through the kernel's perf."""

    name = "perf"
    title = "Counters (perf)"
    help = "kernel.perf_event_paranoid, above 2 of which some counters read 0"
    order = 46

    def run(self, machine: Machine) -> Finding:
        """Read the setting and our capabilities."""
        level = machine.number("proc/sys/kernel/perf_event_paranoid")
        details = {"perf_event_paranoid": level}
        if level is None:
            return self.unknown("perf_event_paranoid cannot be read", details=details)
        if level <= 2 or _capable(machine, _PERFMON) or _capable(machine, _SYS_ADMIN):
            return self.ok(f"perf_event_paranoid is {level}", details=details)
        return self.warn(
            f"perf_event_paranoid is {level}: some counters may read 0",
            fix="sudo sysctl kernel.perf_event_paranoid=2",
            advice="in a container: --cap-add=PERFMON",
            details=details,
        )


def _capable(machine: Machine, capability: int) -> bool:
    for line in machine.text("proc/self/status").splitlines():
        name, _, value = line.partition(":")
        if name == "CapEff":
            with contextlib.suppress(ValueError):
                return bool(int(value.strip(), 16) >> capability & 1)
    return False


class Memlock(Base):
    """Pinned host memory, which transfers between GPUs and network cards want."""

    name = "memlock"
    title = "Locked memory"
    help = "the limit of memory that a process may lock (ulimit -l)"
    order = 47

    def run(self, machine: Machine) -> Finding:
        """Ask for the limit."""
        soft, hard = _locked(machine)
        details = {"soft_bytes": soft, "hard_bytes": hard}
        if soft is None:
            return self.ok("unlimited", details=details)
        seen = f"{soft / _MIB:g} MiB"
        if soft >= _LEAST_LOCKED:
            return self.ok(seen, details=details)
        return self.warn(
            f"{seen}: RCCL over a network and pinned host buffers may fail",
            fix="ulimit -l unlimited" if hard is None else None,
            advice="raise memlock in /etc/security/limits.conf; in a container: --ulimit memlock=-1",
            details=details,
        )


def _locked(machine: Machine) -> tuple[int | None, int | None]:
    """Return the soft and the hard limit, ``None`` for none."""
    for line in machine.text("proc/self/limits").splitlines():
        if line.startswith("Max locked memory"):
            words = line.split()[3:5]
            soft, hard = (None if word == "unlimited" else int(word) for word in words)
            return soft, hard
    limits = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    soft, hard = (None if each == resource.RLIM_INFINITY else each for each in limits)
    return soft, hard


CHECKS = (Devices(), Ptrace(), Perf(), Memlock())
