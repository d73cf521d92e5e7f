"""Profiling what runs already: by its own profiler first, by rocprofv3 where that can attach."""

from __future__ import annotations

import datetime
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal

from rocscope.collectors import live_gather, live_load, serving_sampler
from rocscope.collectors.attach_rocprofv3 import AttachedRocprofv3
from rocscope.collectors.attach_torch import AttachedTorch
from rocscope.collectors.backend import Found, Plan, Request, backends
from rocscope.collectors.live_outcome import Outcome, Progress, Recorded
from rocscope.collectors.live_plan import Run, prepare
from rocscope.config import ProfileOptions
from rocscope.errors import PermissionMissing, RocscopeError, TargetError, UsageError
from rocscope.launch import clocks, running, vllm
from rocscope.launch.interrupts import Interrupts
from rocscope.launch.process import Ending, Target

DEFAULT_S: Final = 10.0  # of recording, where neither a load nor --duration says how long
WAYS: Final = ("torch", "rocprofv3")

Moment = Literal["starting", "started", "stopping", "stopped"]


def plan(options: ProfileOptions) -> tuple[Run, running.Running]:
    """Find what ``options.attach`` names and decide how it is profiled.

    Raises :class:`UsageError`, and :class:`PermissionMissing` that lists for each way why it is closed.
    """
    assert options.attach is not None  # noqa: S101  # the caller looked
    if options.profiler not in ("auto", *WAYS):
        raise UsageError(
            f"--attach with --profiler {options.profiler}: it cannot join what runs already",
            f"choose auto, {' or '.join(WAYS)}",
        )
    if options.counters != "none":
        raise UsageError("--attach takes times alone, no counters", "start the server under rocscope profile")
    found = running.find(options.attach)
    if options.load is not None and found.address is None:
        raise UsageError("--load needs a server to send its requests to", "leave --load out")
    server = found.server or _unseen(found)
    version = server.version(found.environment) if found.server is not None else None
    tool = backends()["rocprofv3"].find(dict(os.environ), "")
    torch, rocprof = AttachedTorch(found, options.traces), AttachedRocprofv3(found)
    closed = {"torch": torch.cannot(version), "rocprofv3": rocprof.cannot(tool)}
    open_ways = [way for way in WAYS if not closed[way] and options.profiler in ("auto", way)]
    if not open_ways:
        asked = WAYS if options.profiler == "auto" else (options.profiler,)
        reasons = "; ".join(f"{way}: {', '.join(closed[way])}" for way in asked)
        raise PermissionMissing(
            f"--attach {options.attach}: no way to profile it ({reasons})", "mend one of these"
        )
    way = open_ways[0]
    notes = (f"attached by {'the server' if way == 'torch' else 'rocprofv3'}: the server runs on afterwards",)
    request = Request(
        command=found.command or ("(attached)",),
        environment=dict(os.environ),
        raw=options.out.absolute() / "raw",
        found=tool if way == "rocprofv3" and isinstance(tool, Found) else Found("torch"),
        server=server if found.address is not None else None,
        server_version=version,
    )
    return Run(torch if way == "torch" else rocprof, request, Plan(request.command), {}, notes), found


def record(
    options: ProfileOptions,
    *,
    progress: Progress | None = None,
    say: Progress | None = None,
    at: Callable[[Moment], None] | None = None,
) -> Recorded:
    """Profile what runs already for ``options.duration_s``, or as long as the load; leave it running.

    ``at`` is told when the profiler is about to be started, when it runs, is asked to end, and is off again.
    Raises as :func:`plan`, and :class:`TargetError` where its profiler cannot be started.
    """
    tell, loud = progress or (lambda _: None), say or (lambda _: None)
    run, found = plan(options)
    for note in run.notes:
        loud(note)
    prepare(run, options.out)
    outcome = Outcome(
        run=run,
        offsets=clocks.Offsets.measure(),
        started_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"),
        began_ns=clocks.now_ns(),
    )
    with Interrupts(lambda _: loud("ending the recording; what is attached to runs on")) as interrupts:
        try:
            _sample(outcome, found, options)
            _profile(outcome, found, options, interrupts, tell, at=at or (lambda _: None))
        except RocscopeError as error:
            outcome.failure = error
        finally:
            for sampler in outcome.samplers:
                if not sampler.stop():
                    outcome.notices.append(("sampler-stuck", f"the {sampler.name} did not end"))
                outcome.notices += sampler.notices
    outcome.ended_ns = clocks.now_ns()
    outcome.ending = Ending(exit_code=0)
    tree = found.tree()
    if tree is not None:
        tree.refresh()
        outcome.seen = tree.all()
    if outcome.failure is not None:
        raise outcome.failure
    return live_gather.gather(outcome, options, tell, loud)


def _sample(outcome: Outcome, found: running.Running, options: ProfileOptions) -> None:
    tree = found.tree()
    if options.sample_hz and tree is not None:
        from rocscope.collectors.host import HostSampler

        outcome.samplers.append(HostSampler(tree, options.sample_hz))
    if found.process is not None:  # else its GPUs are not this machine's
        from rocscope.collectors import telemetry

        gpus = telemetry.start(options.telemetry, options.telemetry_hz, found.environment or dict(os.environ))
        if gpus is not None:
            gpus.by_order = found.readable and found.root == Path("/")  # else we cannot tell what it sees
            outcome.samplers.append(gpus)


def _profile(
    outcome: Outcome,
    found: running.Running,
    options: ProfileOptions,
    interrupts: Interrupts,
    progress: Progress,
    *,
    at: Callable[[Moment], None],
) -> None:
    run = outcome.run
    if options.load is not None and options.load.measures and options.overhead and run.backend.on_demand:
        live_load.unprofiled(found, outcome, options, interrupts, progress)
    serving = serving_sampler.Watch()
    if found.address is not None:
        serving.start(found.address, outcome, options)
    at("starting")
    run.backend.start(run.request)
    at("started")
    began, load = clocks.now_ns(), None
    serving.mark("before")
    limit_s = options.duration_s or (None if options.load else DEFAULT_S)
    try:
        if options.load is not None:
            load = live_load.start(run, options, interrupts)
        _until_over(found, load, limit_s, interrupts, progress)
        outcome.window_ns = (began, clocks.now_ns())
        serving.mark("after")
    finally:
        serving.stop()
        if load is not None:
            live_load.stop(load, outcome)
        progress("ending the recording")
        at("stopping")
        run.backend.stop(run.request)
        at("stopped")
    if not found.running:
        raise TargetError("what was attached to ended meanwhile", "see its own log")


def _until_over(
    found: running.Running,
    load: Target | None,
    limit_s: float | None,
    interrupts: Interrupts,
    progress: Progress,
) -> None:
    began = time.monotonic()
    while found.running and not interrupts.requested and (load is None or load.running):
        passed = time.monotonic() - began
        if limit_s is not None and passed >= limit_s:
            return
        progress(f"profiling, {passed:.0f} s" + (f" of {limit_s:g}" if limit_s is not None else ""))
        found.wait(running.POLL_S)


def _unseen(found: running.Running) -> vllm.Server:
    """Stand for a server of which only the address is known."""
    address = found.address
    words = ("vllm", "serve") if address is None else ("vllm", "serve", "--port", str(address.port))
    if address is not None:
        words += ("--host", address.host, *(("--ssl-certfile", "") if address.tls else ()))
    return vllm.Server(words, 2, ("python3",))
