"""A live run: launch, wait, profile, end in order, gather. Nothing of it is left running afterwards."""

from __future__ import annotations

import datetime
import signal
import time
from collections.abc import Sequence
from pathlib import PurePath
from typing import Final

from rocscope.collectors import live_load, serving_sampler
from rocscope.collectors.backend import describe
from rocscope.collectors.live_outcome import Outcome, Progress, Recorded
from rocscope.collectors.live_plan import Run, plan_run, prepare
from rocscope.config import ProfileOptions
from rocscope.errors import RocscopeError, TargetError
from rocscope.launch import clocks, readiness
from rocscope.launch.interrupts import Interrupts
from rocscope.launch.process import Target, check_program

ORPHAN_GRACE_S: Final = 2.0  # for what a plain command leaves behind
SERVER_GRACE_S: Final = 15.0  # for engine and workers of a server that ended first
FORWARD_AFTER_S: Final = 5.0  # a shell that ignores Ctrl-C waits for its child, which must hear of it
ABORT_S: Final = 20.0


def record(
    command: Sequence[str],
    options: ProfileOptions,
    *,
    progress: Progress | None = None,
    say: Progress | None = None,
    run: Run | None = None,
) -> Recorded:
    """Profile ``command`` into ``options.out`` and return what was recorded.

    ``progress`` is told what is going on, ``say`` what the user has to see; ``run`` is a launch that was
    planned already, such as one of several under counters. Raises a
    :class:`RocscopeError` where nothing was profiled; lost data is no exception but a partial capture,
    a notice ``data-lost`` and exit code 11, unless the command's own code says something already.
    """
    tell = progress or (lambda _: None)
    loud = say or (lambda _: None)
    run = run or plan_run(command, options)
    check_program(run.request.command[0], run.environment)
    for note in run.notes:
        loud(note)
    prepare(run, options.out)
    outcome = _execute(run, options, tell, loud)
    from rocscope.collectors import live_gather

    return live_gather.gather(outcome, options, tell, loud)


def _execute(run: Run, options: ProfileOptions, progress: Progress, say: Progress) -> Outcome:
    server = run.request.server
    if server is not None:
        readiness.check_free(server.address)
    outcome = Outcome(
        run=run,
        offsets=clocks.Offsets.measure(),
        started_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"),
        began_ns=clocks.now_ns(),
    )
    with Interrupts(say) as interrupts:
        target = Target(
            run.plan.command,
            environment=run.environment,
            logs=options.out / "logs",
            stdout_to=2 if options.output_to_stderr else 1,
        )
        try:
            interrupts.watch(target)
            if options.sample_hz:
                from rocscope.collectors.host import HostSampler

                outcome.samplers.append(HostSampler(target.tree, options.sample_hz))
            if outcome.run.backend.name != "replay":  # its kernels ran on other GPUs than this machine's
                from rocscope.collectors import telemetry

                gpus = telemetry.start(options.telemetry, options.telemetry_hz, outcome.run.environment)
                outcome.samplers += [gpus] if gpus is not None else []
            _profile(target, outcome, options, interrupts, progress)
        except RocscopeError as error:
            outcome.failure = error
        finally:
            _finish(target, outcome, options, interrupts, progress)
    if outcome.failure is not None:
        for _, message in outcome.notices:
            say(message)
        raise outcome.failure
    return outcome


def _profile(
    target: Target, outcome: Outcome, options: ProfileOptions, interrupts: Interrupts, progress: Progress
) -> None:
    """Wait until ready, then profile until the time is up, the load or command ends, or the user says so."""
    run = outcome.run
    server = run.request.server
    load: Target | None = None
    serving = serving_sampler.Watch()
    try:
        if server is not None:
            ready = readiness.wait_until_ready(
                target,
                server.address,
                timeout_s=options.ready_timeout_s,
                stopped=lambda: interrupts.requested,
                progress=progress,
            )
            if not ready:
                return
            serving.start(server.address, outcome, options)
            if options.load and options.load.measures and options.overhead and run.backend.on_demand:
                live_load.unprofiled(target, outcome, options, interrupts, progress)
            if interrupts.requested:
                return
            run.backend.start(run.request)
        began = clocks.now_ns()
        serving.mark("before")
        if options.load and server is not None:
            load = live_load.start(run, options, interrupts)
        _until_over(target, load, options, interrupts, lambda text: progress(_at(run) + text))
        serving.mark("after")
        if server is not None:
            outcome.window_ns = (began, clocks.now_ns())
    finally:
        serving.stop()
        if load is not None:
            live_load.stop(load, outcome)
    if server is not None and target.running:
        progress("ending the recording")
        try:
            run.backend.stop(run.request)
        except TargetError as error:
            outcome.notices.append(("stop-failed", error.message))


def _until_over(
    target: Target,
    load: Target | None,
    options: ProfileOptions,
    interrupts: Interrupts,
    progress: Progress,
) -> None:
    began = time.monotonic()
    while target.running and not interrupts.requested and (load is None or load.running):
        passed = time.monotonic() - began
        left = None if options.duration_s is None else options.duration_s - passed
        if left is not None and left <= 0:
            return
        progress(f"profiling, {passed:.0f} s" + (f" of {options.duration_s:g}" if left is not None else ""))
        target.changed.clear()
        if target.running and not interrupts.requested:
            pause = 0.2 if load is not None else 1.0
            target.wait(pause if left is None else min(pause, left))


def _at(run: Run) -> str:
    """Say at which of its runs a profiler is that runs the command many times."""
    return run.backend.progress(run.request)


def _finish(
    target: Target, outcome: Outcome, options: ProfileOptions, interrupts: Interrupts, progress: Progress
) -> None:
    """Tell the command to end if it still runs, wait for all its processes, stop sampling."""
    server = outcome.run.request.server
    deadline_s = min(options.shutdown_timeout_s, ABORT_S) if outcome.failure else options.shutdown_timeout_s
    outcome.interrupted = interrupts.requested
    if target.running:
        outcome.stopped_by_us = True
        progress("ending the command and waiting for its processes to write their data")
        # what a user's Ctrl-C would have sent, had we not taken it; a server is always told to terminate
        number = interrupts.first if interrupts.first and server is None else signal.SIGTERM
        _signal_command(target, outcome, number)
        if server is None:
            _wait(target, interrupts, min(FORWARD_AFTER_S, deadline_s / 2))
            if target.running:
                target.tree.refresh()
                target.tree.signal(number)
            if number is not signal.SIGTERM:  # a command may ignore Ctrl-C, and still end in order when told
                _wait(target, interrupts, deadline_s / 2)
                _signal_command(target, outcome, signal.SIGTERM)
    outcome.ending = target.finish(
        grace_s=ORPHAN_GRACE_S if server is None else min(SERVER_GRACE_S, deadline_s / 2),
        deadline_s=deadline_s,
        kill=interrupts.kill,
    )
    outcome.ended_ns = clocks.now_ns()
    for sampler in outcome.samplers:
        if not sampler.stop():
            text = f"the {sampler.name} did not end; its samples are used so far"
            outcome.notices.append(("sampler-stuck", text))
        outcome.notices += sampler.notices
    outcome.seen = target.tree.all()
    _note_ending(outcome, None if interrupts.kill.is_set() else deadline_s)


def _wait(target: Target, interrupts: Interrupts, seconds: float) -> None:
    """Wait for the command to end, but no longer than until the user asks a second time."""
    end = time.monotonic() + seconds
    while target.running and time.monotonic() < end and interrupts.count < 2:
        target.changed.clear()
        target.wait(0.1)


def _signal_command(target: Target, outcome: Outcome, number: signal.Signals) -> None:
    """Signal the command itself: the launched process, or its child where the profiler is a wrapper."""
    if not target.running:
        return
    if outcome.run.backend.in_place:
        target.signal(number)
        return
    target.tree.refresh()
    program, *arguments = outcome.run.request.command
    matches = [
        each
        for each in target.tree.alive()
        if each.pid != target.pid and _runs(each.command, PurePath(program).name, tuple(arguments))
    ]
    if not matches:
        target.signal(number)
        return
    # a wrapper's subshell still carries the wrapper's own words before the command's
    min(matches, key=lambda each: (len(each.command), each.created)).process.send_signal(number)


def _runs(words: tuple[str, ...], program: str, arguments: tuple[str, ...]) -> bool:
    """Whether a command line is ``program`` with these arguments, perhaps behind an interpreter."""
    before = words[: len(words) - len(arguments)]
    return words[len(before) :] == arguments and program in (PurePath(word).name for word in before)


def _note_ending(outcome: Outcome, deadline_s: float | None) -> None:
    """Say what had to be ended; ``deadline_s`` is ``None`` where the user did not wait for it."""
    ending = outcome.ending
    assert ending is not None  # noqa: S101  # set by the caller
    for note in ending.notes:
        outcome.notices.append(("output-cut", note))
    if ending.killed:
        names = ", ".join(describe(each) for each in ending.killed[:5])
        why = (
            "killed as you asked"
            if deadline_s is None
            else f"still running after {deadline_s:g} s, so killed"
        )
        outcome.notices.append(("killed", f"{why}: {names}; their data may be cut"))
    elif ending.terminated:
        names = ", ".join(describe(each) for each in ending.terminated[:5])
        outcome.notices.append(
            ("left-behind", f"the command left processes running; they were ended: {names}")
        )
    if ending.survived:
        names = ", ".join(describe(each) for each in ending.survived[:5])
        outcome.notices.append(("left-running", f"could not be ended even with SIGKILL: {names}"))
