"""Which profilers and counter plans are tried, what that takes, and what cannot be tried here and why."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rocscope import counter_plan
from rocscope.collectors.backend import Absent, Backend, Found, backends
from rocscope.counter_plan import LEVELS, NONE
from rocscope.errors import RocscopeError, UsageError
from rocscope.validation.truth import PROGRAM
from rocscope.validation.verdict import Verdict, not_run

PLAIN: Final = "no profiler"
ENERGY_S: Final = 8.0  # of load; the first 1.5 s are not looked at
FIRST_S: Final = 40.0  # the first run compiles
LAUNCH_S: Final = 20.0  # a later one: torch starts, 600 kernels of about a millisecond
COMPUTE_LAUNCHES: Final = 25  # of rocprof-compute, by its count of sets on MI100
DEFAULT_LEVELS: Final = ("bandwidth", "standard")
_NOT_TRIED: Final = ("none", "replay")


@dataclass(frozen=True)
class Options:
    """What a user chose."""

    python: str
    device: int = 0
    profilers: tuple[str, ...] = ()  # none named: all that there are
    levels: tuple[str, ...] = DEFAULT_LEVELS
    energy_s: float = ENERGY_S


@dataclass(frozen=True)
class Trial:
    """One profiler with one counter plan."""

    name: str  # "rocprofv3 standard"
    profiler: str
    level: str  # a level of counters, "none" for times alone
    launches: int  # of the program
    counters: tuple[str, ...] = ()  # planned

    @property
    def folder(self) -> str:
        """Its name as that of a folder."""
        return self.name.replace(" ", "-")

    @property
    def estimated_s(self) -> float:
        """About how long it takes."""
        return LAUNCH_S * self.launches


@dataclass(frozen=True)
class Trials:
    """All of them, with what cannot be tried."""

    options: Options
    arch: str
    versions: dict[str, str]  # of the profilers found; "": not told
    trials: tuple[Trial, ...]
    verdicts: tuple[Verdict, ...]  # not run, each with why

    @property
    def estimated_s(self) -> float:
        """About how long everything takes, the run without a profiler included."""
        return FIRST_S + self.options.energy_s + sum(each.estimated_s for each in self.trials)

    def dry(self) -> dict[str, Any]:
        """Return what ``--dry-run --json`` prints."""
        return {
            "schema_version": "1",
            "program": str(PROGRAM),
            "arch": self.arch or None,
            "estimated_s": self.estimated_s,
            "runs": [
                {"trial": PLAIN, "profiler": None, "counters": [], "launches": 1},
                *(
                    {
                        "trial": each.name,
                        "profiler": each.profiler,
                        "counters": list(each.counters),
                        "launches": each.launches,
                    }
                    for each in self.trials
                ),
            ],
            "command": shlex.join(command(self.options, Path("TRUTH"))),
            "not_run": [each.model_dump() for each in self.verdicts],
        }


def command(options: Options, truth: Path, *, plain: bool = False) -> tuple[str, ...]:
    """Return how the program is run; what it knows goes into the folder ``truth``."""
    words = (options.python, str(PROGRAM), "--device", str(options.device), "--output", str(truth))
    return (*words, "--verify", "--energy-seconds", f"{options.energy_s:g}") if plain else words


def plan(options: Options, arch: str, environment: Mapping[str, str]) -> Trials:
    """Say what will be tried on a GPU of ``arch`` (``""``: not known). Raises :class:`UsageError`."""
    known = {name: each for name, each in backends().items() if name not in _NOT_TRIED}
    for name in options.profilers:
        if name not in known:
            raise UsageError(f"--profiler {name}: no such profiler", f"choose {', '.join(known)}")
    for level in options.levels:
        if level not in LEVELS:
            raise UsageError(f"--counters {level}: no such plan", f"choose {', '.join(LEVELS)}")
    trials: list[Trial] = []
    verdicts: list[Verdict] = []
    versions: dict[str, str] = {}
    for name, backend in known.items():
        if options.profilers and name not in options.profilers:
            verdicts.append(not_run("profiler", name, "another was asked for with --profiler"))
            continue
        found = backend.find(environment, "")
        if isinstance(found, Absent):
            why = (
                "it is there and may not be run" if found.forbidden else "it is not installed or does not run"
            )
            verdicts.append(not_run("profiler", name, why, detail=found.reason))
            continue
        versions[name] = found.version
        tried, missed = _of(name, backend, found, options.levels, arch)
        trials += tried
        verdicts += missed
    return Trials(options, arch, versions, tuple(trials), tuple(verdicts))


def _of(
    name: str, backend: Backend, found: Found, levels: Sequence[str], arch: str
) -> tuple[list[Trial], list[Verdict]]:
    """Return the trials of one profiler. Each counter plan brings a run without counters of its own."""
    plain = Trial(name, name, NONE, COMPUTE_LAUNCHES if name == "rocprof-compute" else 1)
    wanted = [level for level in levels if level != NONE]
    if not backend.counts:
        why = "this profiler takes no counters that could be planned"
        return [plain], [not_run("profiler", f"{name} {level}", why) for level in wanted]
    trials: list[Trial] = [plain] if NONE in levels else []
    verdicts: list[Verdict] = []
    for level in wanted:
        try:
            counted = counter_plan.plan(level, arch, tool=name, version=found.version)
        except RocscopeError as error:
            why = "no counters can be planned for this GPU and profiler"
            verdicts.append(not_run("profiler", f"{name} {level}", why, detail=error.message))
            continue
        passes = len(counted.passes)
        trials.append(Trial(f"{name} {level}", name, level, 1 + passes, counted.counters))
    return trials or [plain], verdicts
