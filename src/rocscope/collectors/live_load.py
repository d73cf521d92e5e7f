"""The load of a live run: started once the server is ready, ended before the server, read afterwards."""

from __future__ import annotations

import contextlib
import json
import signal
import threading
import time
from typing import TYPE_CHECKING, Any, Final, Protocol

import pyarrow as pa

from rocscope.errors import InputError
from rocscope.launch import vllm
from rocscope.launch.process import Target
from rocscope.traffic.spec import RESULT, Place

if TYPE_CHECKING:
    from pathlib import Path

    from rocscope.collectors.live_outcome import Outcome, Progress
    from rocscope.collectors.live_plan import Run
    from rocscope.config import ProfileOptions
    from rocscope.launch.interrupts import Interrupts

STOP_S: Final = 15.0
PROFILED: Final = "profiled"
UNPROFILED: Final = "unprofiled"
CLI: Final = "vllm.entrypoints.cli.main"


class Watched(Protocol):
    """What a load is put on: it may end meanwhile."""

    changed: threading.Event

    @property
    def running(self) -> bool:
        """Whether it still runs."""
        ...

    def wait(self, timeout_s: float) -> object:
        """Wait until ``changed`` is set or the time is up."""
        ...


def place(server: vllm.Server) -> Place:
    """Say where a server is to be found, and how vLLM's own benchmark is called beside it."""
    words = server.command[: server.first]
    called = words[:-1] if words[-1] == "serve" else (*server.interpreter, "-m", CLI)
    served = server.options.get("--served-model-name", "")
    return Place(
        url=server.address.url,
        socket_path=server.address.socket_path,
        vllm=called,
        model=server.model,
        served_name=served if served != server.model else "",
    )


def start(run: Run, options: ProfileOptions, interrupts: Interrupts, name: str = PROFILED) -> Target:
    """Start the load; ``name`` says whether the profiler is on meanwhile."""
    assert options.load is not None and run.request.server is not None  # noqa: S101  # looked before
    folder = _folder(options, name)
    folder.mkdir(parents=True, exist_ok=True)
    load = Target(
        options.load.command(place(run.request.server), folder),
        environment=run.request.environment,
        logs=options.out / "logs",
        name="load" if name == PROFILED else f"load-{name}",
        stdout_to=2,  # the command's stdout is the command's alone
    )
    interrupts.watch(load)
    return load


def unprofiled(
    target: Watched, outcome: Outcome, options: ProfileOptions, interrupts: Interrupts, progress: Progress
) -> None:
    """Run the load once while no profiler is on, where it starts on demand: what profiling costs is shown."""
    began = time.monotonic()
    load = start(outcome.run, options, interrupts, UNPROFILED)
    try:
        while target.running and load.running and not interrupts.requested:
            passed = time.monotonic() - began
            if options.duration_s is not None and passed >= options.duration_s:
                break
            progress(f"the load without the profiler, {passed:.0f} s")
            target.changed.clear()
            target.wait(0.2)
    finally:
        stop(load, outcome)


def stop(load: Target, outcome: Outcome) -> None:
    """End the load before the server: vLLM waits for its clients for ever."""
    ended_itself = not load.running
    load.signal(signal.SIGINT)
    ending = load.finish(grace_s=1.0, deadline_s=STOP_S)
    if ended_itself and ending.exit_code:
        text = f"the load ended with code {ending.exit_code}: {load.tail(3)}"
        outcome.notices.append(("load-failed", text))
    if ending.survived:
        outcome.notices.append(("left-running", "processes of the load could not be ended"))


def results(outcome: Outcome, options: ProfileOptions) -> dict[str, Any] | None:
    """Read what the load measured, with and without the profiler; ``None`` where there was no load.

    A command's own result is not known. Where a result cannot be read, a notice says so.
    """
    from rocscope.traffic import result

    if options.load is None:
        return None
    measured: dict[str, Any] = {"kind": options.load.kind, PROFILED: None, UNPROFILED: None}
    for name in (PROFILED, UNPROFILED):
        path = _folder(options, name) / RESULT
        if options.load.kind == "command" or not path.exists():
            continue
        try:
            measured[name] = result.read(path)
        except InputError as error:
            outcome.notices.append(("load-unreadable", error.message))
    if outcome.run.backend.name == "none":  # then nothing was profiled, whatever the folder is called
        measured[UNPROFILED], measured[PROFILED] = measured[PROFILED], None
    return measured


def requests(outcome: Outcome, options: ProfileOptions) -> pa.Table:
    """Return what single requests of the load took, as rows of ``samples``; none where nothing tells."""
    from rocscope import load_samples, tables
    from rocscope.traffic import per_request, result

    found = [tables.empty("samples")]
    for name in (PROFILED, UNPROFILED):
        path = _folder(options, name) / RESULT
        if options.load is None or options.load.kind == "command" or not path.exists():
            continue
        run = UNPROFILED if outcome.run.backend.name == "none" else name
        with contextlib.suppress(InputError, OSError, ValueError):  # what is wrong with it `results` said
            _, levels = result.raw_levels(json.loads(path.read_text(encoding="utf-8")), str(path))
            found.append(load_samples.table(run, [per_request.of_level(each) for each in levels]))
    return pa.concat_tables(found).unify_dictionaries()


def _folder(options: ProfileOptions, name: str) -> Path:
    return (options.out / "load" / name).absolute()
