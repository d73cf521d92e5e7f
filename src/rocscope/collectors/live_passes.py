"""A run under counters: several launches of one command, first without counters, then one a counter pass.

A profiler's own way to take more counters than fit, an input of several lines, runs the command again for
each; a server that ends only when told to would hang at the second. So each launch is ours, is ended like
any other, and leaves what it recorded even if a later one fails.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from rocscope import counter_plan
from rocscope.capture import Capture
from rocscope.collectors import gpu_arch, live
from rocscope.collectors.counter_input import ROTATE_EVERY, Counting
from rocscope.collectors.live_outcome import Progress, Recorded
from rocscope.collectors.live_plan import Run, plan_run
from rocscope.collectors.pass_merge import Taken, merge
from rocscope.config import AnalyzeOptions, ProfileOptions
from rocscope.counter_plan import NONE, SLOWER, CounterPass, CounterPlan
from rocscope.errors import DataLost, RocscopeError, UsageError
from rocscope.launch.interrupts import Interrupts

LIMIT_FACTOR: Final = 30  # a command under counters gets this many times its own time, then it is ended
READY_FACTOR: Final = 3  # a server's start-up is slower under counters too
LIMIT_LEAST_S: Final = 300.0  # a profiler that aborts may hang in its own signal handler for ever
_NOT_PLAIN: Final = re.compile(r"[\\^$.|?*+()\[\]{}\s]")


@dataclass(frozen=True)
class Launch:
    """One launch of the command."""

    run: Run
    out: Path
    counting: Counting | None = None

    @property
    def passes(self) -> tuple[CounterPass, ...]:
        """What is counted in it, by turns where there are several; one without counters is a pass too."""
        return self.counting.passes if self.counting else (CounterPass((), "times, without counters"),)


@dataclass(frozen=True)
class Launches:
    """Every launch of a run under counters, in order."""

    plan: CounterPlan
    launches: tuple[Launch, ...]
    notes: tuple[str, ...]

    def dry(self, options: ProfileOptions) -> dict[str, Any]:
        """Return what ``profile --dry-run --json`` prints (DESIGN, section 6).

        ``launches`` of a pass is how many it adds: 0 where it shares that of the pass before it by turns.
        """
        told = self.launches[0].run.dry(_into(options, self.launches[0].out))
        if not self.plan.passes:
            return told
        told["passes"] = []
        counted = sum(each.counting is not None for each in self.launches)
        for number, each in enumerate(self.launches, 1):
            if number > 1:
                more = each.run.dry(_into(options, each.out))
                told["files"] += [name for name in more["files"] if not name.endswith("/capture")]
                told["contents"] |= more["contents"]
            for turn, one in enumerate(each.passes):
                told["passes"].append(
                    {
                        "counters": list(one.counters),
                        "launches": int(turn == 0),
                        "launch": number,
                        "why": one.why,
                        "command": list(each.run.plan.command),
                    }
                )
        told["launches"] = len(self.launches)
        told["estimated_s"] = None if options.duration_s is None else options.duration_s * len(self.launches)
        server = self.launches[0].run.request.server is not None
        told["estimated_times_the_command"] = None if server else len(self.launches) + (SLOWER - 1) * counted
        told["notes"] = [*told["notes"], *self.notes]
        return told


def _into(options: ProfileOptions, out: Path) -> ProfileOptions:
    """Return ``options`` with another folder."""
    return options.model_copy(update={"out": out})


def plan(
    command: Sequence[str],
    options: ProfileOptions,
    *,
    environment: Mapping[str, str] | None = None,
    dry: bool = False,
) -> Launches:
    """Decide what is counted in which launch. Raises as :func:`live_plan.plan_run` and ``counter_plan``."""
    base = plan_run(command, options, environment=environment, dry=dry)
    tool = base.backend.name
    if options.counters == NONE:
        return Launches(CounterPlan(NONE, "", ()), (Launch(base, options.out),), ())
    if not base.backend.counts:
        raise UsageError(
            f"--counters: the profiler {tool} takes no counters that could be planned",
            "choose --profiler rocprofv3 (or rocprof), or leave --counters out",
        )
    if options.kernels and tool != counter_plan.V3 and _NOT_PLAIN.search(options.kernels):
        raise UsageError(
            f"--kernels {options.kernels}: {tool} chooses kernels by a part of their name alone",
            "give a part of the name without special characters, or choose --profiler rocprofv3",
        )
    arch = gpu_arch.choose(options.gpu)
    found = counter_plan.plan(options.counters, arch, tool=tool, version=base.request.found.version)
    countings, clean, notes = _countings(found, base, options, dry=dry)
    runs: list[Counting | None] = [*([None] if clean else []), *countings]
    launches = []
    for number, counting in enumerate(runs, 1):
        out = options.out if number == 1 else options.out / f"pass-{number}"
        run = base if counting is None else _under(base, counting, out, first=number == 1)
        launches.append(Launch(run, out, counting))
    return Launches(
        found, tuple(launches), (*found.notes, *notes, *_cautions(base), *_cost(base, options, len(launches)))
    )


def _under(base: Run, counting: Counting, out: Path, *, first: bool) -> Run:
    request = replace(base.request, raw=out.absolute() / "raw", counting=counting)
    planned = base.backend.plan(request)
    notes = base.notes if first else ()
    return replace(
        base, request=request, plan=planned, added={**base.added, **planned.environment}, notes=notes
    )


def _countings(
    found: CounterPlan, base: Run, options: ProfileOptions, *, dry: bool
) -> tuple[list[Counting], bool, list[str]]:
    """Divide the passes over launches; return them, whether a clean launch comes first, and notes."""

    def of(passes: Sequence[CounterPass]) -> Counting:
        return Counting(found.arch, tuple(passes), options.kernels, options.dispatches)

    server = base.request.server is not None
    turns = server and counter_plan.rotates(base.backend.name, base.request.found.version)
    if turns:
        parts = [[one for one in found.passes if one.defined is defined] for defined in (False, True)]
        countings = [of(part) for part in parts if part]
    else:
        countings = [of([one]) for one in found.passes]
    notes = []
    if any(len(each.passes) > 1 for each in countings):
        notes.append(
            f"counters take turns every {ROTATE_EVERY} dispatches within one run: each kernel's are pooled "
            "over its dispatches"
        )
    if not server or options.duration_s is not None or options.load:
        return countings, True, notes
    if len(countings) == 1:
        notes.append(
            "the server runs until Ctrl-C, so there is one launch, under counters that slow its times; with "
            "--duration or --load a launch without counters comes first"
        )
        return countings, False, notes
    text = f"the server would be launched {len(countings) + 1} times and runs until it is told to end"
    hint = "say how long each launch is to last: --duration S, or --load CMD, which is replayed each time"
    if not dry:
        raise UsageError(f"--counters: {text}", hint)
    return countings, True, [*notes, f"{text}: {hint}"]


def _cautions(base: Run) -> list[str]:
    """Say what is known to go wrong with a server under counters."""
    server = base.request.server
    notes = []
    if server is not None and "--enforce-eager" not in server.options:
        notes.append(
            "counters of kernels inside HIP graphs may be missing: the flag --enforce-eager avoids graphs, "
            "and then its times are those of a server without them"
        )
    if server is not None and server.tensor_parallel != 1:
        notes.append(
            "under counters kernels run one by one, before ROCm 6.3 over all GPUs together: kernels that "
            "wait for one another, as collectives do, then hang"
        )
    return notes


def _cost(base: Run, options: ProfileOptions, launches: int) -> list[str]:
    if launches < 2:
        return []
    if base.request.server is None:
        return [
            f"the command runs {launches} times, from start to end; under counters kernels run one by one, "
            f"and {SLOWER} times as long has been seen"
        ]
    notes = [f"the server is started and ended {launches} times: its start-up comes on top, each time"]
    if options.load and options.load.kind == "command":
        notes.append(
            "the load is replayed as it is in each launch: give it a seed, so that the work is the same"
        )
    return notes


def record(
    command: Sequence[str],
    options: ProfileOptions,
    *,
    progress: Progress | None = None,
    say: Progress | None = None,
) -> Recorded:
    """Profile ``command`` as :func:`live.record` does, in as many launches as the counters need.

    A counter pass that fails is a notice ``pass-failed``, the others are used, and the exit code is that of
    lost data; Ctrl-C ends the run after
    the launch it came in, and what was recorded is a partial capture. Raises where the first launch does.
    """
    if options.counters == NONE:
        return live.record(command, options, progress=progress, say=say)
    tell = progress or (lambda _: None)
    loud = say or (lambda _: None)
    planned = plan(command, options)
    for note in planned.notes:
        loud(note)
    total = len(planned.launches)
    done: list[tuple[Taken, Recorded]] = []
    problems: list[tuple[str, str]] = [("counter-plan", note) for note in planned.plan.notes]
    failed: list[str] = []
    cut = ""
    with Interrupts(loud) as interrupts:
        for number, launch in enumerate(planned.launches, 1):
            label = f"pass {number} of {total}"
            if interrupts.requested:
                cut = f"ended before {label}, as you asked"
                break
            tell(f"{label}: {launch.passes[0].why or 'counters'}")
            try:
                recorded = live.record(
                    command,
                    _options(options, launch, done),
                    progress=_labelled(tell, label),
                    say=loud,
                    run=launch.run,
                )
            except RocscopeError as error:
                if not done:
                    raise
                failed.append(f"{label} failed, the others are used: {error.message}")
                loud(failed[-1])
                continue
            done.append((Taken(number, _served(recorded.capture, launch, number), launch.counting), recorded))
            if launch.counting is not None and not recorded.capture.counters.num_rows:
                why = ": perhaps nothing is called or numbered so" if launch.counting.narrowed else ""
                where = f"; see {launch.out / 'logs'}"
                failed.append(f"{label} gave no counters, the others are used{why or where}")
                loud(failed[-1])
            elif text := _not_taken(recorded.capture, launch):
                problems.append(("counters-missing", f"{label}: {text}"))
                loud(problems[-1][1])
            if number < total and (cut := _stops(recorded, number, label)):
                break
    if cut:
        loud(cut)
        problems.append(("passes-cut", cut))
    problems += [("pass-failed", text) for text in failed]
    return _joined(done, problems, failed, planned.plan.arch, cut=bool(cut))


def _labelled(tell: Progress, label: str) -> Progress:
    return lambda text: tell(f"{label}: {text}")


def _options(
    options: ProfileOptions, launch: Launch, done: Sequence[tuple[Taken, Recorded]]
) -> ProfileOptions:
    """Return the options of one launch.

    Power, clocks and the host are sampled in the first, whose times count. Under counters a command that ends
    by itself gets a limit.
    """
    changed: dict[str, Any] = {"out": launch.out}
    if done:
        changed |= {"sample_hz": 0.0, "telemetry": "none", "overhead": False}
        changed["ready_timeout_s"] = READY_FACTOR * options.ready_timeout_s
    if done and options.duration_s is None and launch.run.request.server is None:
        own = done[0][1].capture.manifest.duration_s or 0.0
        changed["duration_s"] = max(LIMIT_LEAST_S, LIMIT_FACTOR * own)
    return options.model_copy(update=changed)


def _not_taken(capture: Capture, launch: Launch) -> str:
    """Return which counters the profiler left out without a word, ``""`` where it took all."""
    asked = {name for one in launch.passes for name in one.counters}
    taken = {name.removesuffix("_sum") for each in capture.manifest.passes for name in each.counters}
    missing = sorted(asked - taken)
    return f"{', '.join(missing)} asked for and not recorded" if missing else ""


def _served(capture: Capture, launch: Launch, number: int) -> Capture:
    """Leave out what a server did under counters before it was ready and while it ended: other work.

    The first launch stays whole: the analysis knows its window.
    """
    if number == 1 or launch.run.request.server is None:
        return capture
    from rocscope import selection

    return selection.select(capture, AnalyzeOptions())


def _stops(recorded: Recorded, number: int, label: str) -> str:
    """Return why no further launch is to come, ``""`` where the next one may."""
    if recorded.interrupted:
        return f"ended in {label}, as you asked: what was recorded so far is kept"
    if number == 1 and recorded.exit_code not in (0, DataLost.exit_code):
        return f"the command ended with code {recorded.exit_code}, so the counter passes are left out"
    return ""


def _joined(
    done: Sequence[tuple[Taken, Recorded]],
    problems: Sequence[tuple[str, str]],
    failed: Sequence[str],
    arch: str,
    *,
    cut: bool,
) -> Recorded:
    first = done[0][1]
    lost = [*failed]
    lost += [f"pass {taken.number}: {text}" for taken, recorded in done for text in recorded.lost]
    capture = merge([taken for taken, _ in done])
    for code, message in problems:
        capture.notice(code, message)
    # older tools do not record which GPU it was; the counters were chosen for one architecture
    gpus = capture.manifest.gpus
    capture.manifest.gpus = [each if each.arch else each.model_copy(update={"arch": arch}) for each in gpus]
    capture.manifest.partial = capture.manifest.partial or cut
    return replace(
        first,
        capture=capture,
        exit_code=first.exit_code or (DataLost.exit_code if lost else 0),
        lost=lost,
        interrupted=any(recorded.interrupted for _, recorded in done),
    )
