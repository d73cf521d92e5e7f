"""Which profilers are installed and run, and which counters they know of this GPU."""

from __future__ import annotations

import re
import threading
from typing import Any, Final

from rocscope import counter_data, counter_plan
from rocscope.collectors.backend import PATIENCE_S, Absent, Backend, Found, backends
from rocscope.doctor.check import Base, Finding
from rocscope.doctor.machine import Machine
from rocscope.errors import PermissionMissing, ProfilerMissing, RocscopeError
from rocscope.launch.ask import ask

VERSION_S: Final = 8.0
LIST_S: Final = 6.0
_LIST: Final = {"rocprofv3": ("-L",), "rocprof": ("--list-basic",), "rocprofv2": ("--list-counters",)}
_WORD: Final = re.compile(r"\b[A-Za-z]\w*\b")
_SHOWN: Final = 6


def find(machine: Machine, backend: Backend) -> Found | Absent:
    """Look for one profiler, once for all checks."""

    def look() -> Found | Absent:
        PATIENCE_S.set(VERSION_S)
        return backend.find(machine.environment, "")

    return machine.once(f"profiler {backend.name}", look)


def installed(machine: Machine) -> dict[str, Found | Absent]:
    """Look for every profiler that is a program, all at once."""
    wanted = [each for each in backends().values() if each.order is not None or each.injects]
    found: dict[str, Found | Absent] = {}

    def look(backend: Backend) -> None:
        found[backend.name] = find(machine, backend)

    threads = [threading.Thread(target=look, args=(each,), daemon=True) for each in wanted]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    failed = Absent("looking for it failed", "run it with --version by hand")
    return {each.name: found.get(each.name, failed) for each in wanted}


class Profilers(Base):
    """Programs of ROCm, and PyTorch's own profiler."""

    name = "profilers"
    title = "Profilers"
    help = "rocprofv3, rocprofv2, rocprof and others: found, running, their versions"
    order = 30
    deadline_s = 2 * VERSION_S + 1  # rocprof-compute has two names

    def run(self, machine: Machine) -> Finding:
        """Ask each for its version."""
        found = installed(machine)
        usable = {name: each for name, each in found.items() if isinstance(each, Found)}
        broken = {
            name: each
            for name, each in found.items()
            if isinstance(each, Absent) and not each.reason.endswith("not installed")
        }
        python = machine.target
        torch = python.torch if python else None
        details = {
            **{
                name: {"path": each.path, "version": each.version or None}
                if isinstance(each, Found)
                else {"path": None, "version": None, "reason": each.reason, "hint": each.hint}
                for name, each in found.items()
            },
            "torch": {"version": torch, "python": python.executable if python and torch else None},
        }
        names = [f"{name} {each.version}".strip() for name, each in usable.items()]
        names += [f"torch {torch}"] if torch else []
        faults = "; ".join(each.reason for each in broken.values())
        seen = ", ".join(names) + (f"; {faults}" if faults and names else "")
        hint = next((each.hint for each in broken.values()), None)
        if not names:
            forbidden = [each for each in broken.values() if each.forbidden]
            return self.fail(
                faults or "none is installed",
                fix=forbidden[0].hint if forbidden else None,
                advice=hint
                or "install ROCm's rocprofiler-sdk (rocprofv3), or name a Python that has torch: --python PY",
                blocks=(PermissionMissing if forbidden else ProfilerMissing).exit_code,
                details=details,
            )
        if usable or machine.vendors == {"nvidia"}:
            return (self.warn if broken and usable else self.ok)(
                seen, advice=hint if broken else None, details=details
            )
        return self.warn(
            f"only PyTorch's own: {seen}",
            advice=hint or "install ROCm's rocprofiler-sdk (rocprofv3): it counts, and sees all processes",
            details=details,
        )


class Counters(Base):
    """What the best profiler lists for this GPU, against what labels need."""

    name = "counters"
    title = "Counters"
    help = "hardware counters that the profiler knows of this GPU, against the levels of --counters"
    order = 35
    deadline_s = VERSION_S + LIST_S + 1

    def run(self, machine: Machine) -> Finding:
        """List them, and hold the list against our table."""
        archs = sorted({gpu.arch for gpu in machine.gpus if gpu.vendor == "amd" and gpu.arch})
        if not archs:
            return self.unknown("no AMD GPU whose architecture is known")
        try:
            data = counter_data.of(archs[0])
        except RocscopeError as error:
            return self.warn(error.message, advice=error.hint)
        counting = ((name, find(machine, each)) for name, each in backends().items() if name in _LIST)
        name, tool = next(((name, each) for name, each in counting if isinstance(each, Found)), ("", None))
        if tool is None:
            return self.unknown("no profiler that counts")
        listed = _listed(machine, tool.path, _LIST[name])
        known = set(data.block_of) & listed
        details: dict[str, Any] = {
            "arch": archs[0],
            "profiler": name,
            "listed": len(known) if listed else None,
            "known_to_us": len(data.block_of),
            "passes": {},
            "missing": {},
        }
        plans: dict[str, counter_plan.CounterPlan] = {}
        for level in counter_plan.LEVELS[1:]:
            plans[level] = counter_plan.plan(level, archs[0], tool=name, version=tool.version)
            details["passes"][level] = len(plans[level].passes)
            details["missing"][level] = sorted(set(data.levels[level]) - known) if known else None
        said = ", ".join(f"{level} in {count} passes" for level, count in details["passes"].items())
        notes = list(plans["standard"].notes)
        if not known:
            why = (
                f"{name} {' '.join(_LIST[name])} listed none"
                if not listed
                else f"{name} listed none that we know"
            )
            return self.warn(
                f"{why}; by version {said}",
                fix=f"{tool.path} {' '.join(_LIST[name])}",
                advice="permissions (render, perf_event_paranoid) or an unknown GPU may be why",
                details=details,
            )
        absent = details["missing"]["standard"]
        seen = f"{name} lists {len(known)} of {len(data.block_of)} for {archs[0]}; {said}"
        if absent:
            shown = ", ".join(absent[:_SHOWN]) + (
                f" and {len(absent) - _SHOWN} more" if absent[_SHOWN:] else ""
            )
            advice = "; ".join(notes) or "a newer ROCm knows more of them"
            return self.warn(f"{seen}; not listed: {shown}", advice=advice, details=details)
        return self.ok(seen, details=details)


def _listed(machine: Machine, path: str, arguments: tuple[str, ...]) -> set[str]:
    """Return every word of the list: its layout differs by version, the names of counters do not."""
    try:
        answer = ask([path, *arguments], environment=machine.environment, timeout_s=LIST_S)
    except OSError:
        return set()
    words = set(_WORD.findall(f"{answer.stdout}\n{answer.stderr}")) if answer else set()
    # the sum over a block's units has a name of its own; being summed is no property of a counter
    return words | {re.sub(r"_(?:sum|avr|max|min)$", "", word) for word in words}


CHECKS = (Profilers(), Counters())
