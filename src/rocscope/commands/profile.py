"""``rocscope profile``: launch, collect, label, rank, report."""

from __future__ import annotations

import itertools
import json
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from rocscope.commands import _shared

_PASS: Final = re.compile(r"pass \d+ of \d+: ")


def _counter_levels(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    from rocscope.counter_plan import LEVELS

    return [level for level in LEVELS if level.startswith(incomplete)]


@click.command(
    "profile",
    short_help="Run a command under a profiler, then label and rank its kernels.",
    context_settings={"ignore_unknown_options": False, "allow_interspersed_args": False},
)
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="-- COMMAND...")
@click.option(
    "--profiler",
    default="auto",
    show_default=True,
    metavar="NAME",
    help="auto, rocprofv3, rocprofv2, rocprof, rocprof-compute, torch, replay:CAPTURE or none. auto takes "
    "the newest rocprof that is installed, for a vLLM server without one PyTorch's profiler.",
)
@click.option("--duration", type=float, metavar="S", help="Profile for S seconds, counted from readiness.")
@click.option(
    "--load",
    metavar="LOAD",
    help="Put LOAD on the server once it is ready; when it ends, so does the profiling. builtin (or "
    "builtin:concurrency=1+8,prompt=512,output=128,requests=32: see rocscope load), bench-serve (vLLM's own, "
    "with its options behind it), none, or a command, run without a shell.",
)
@click.option(
    "--overhead/--no-overhead",
    default=True,
    show_default=True,
    help="Where the profiler starts on demand, run the load without it first, and say what profiling costs.",
)
@click.option("--ready-timeout", type=float, default=900.0, show_default=True, metavar="S")
@click.option(
    "--shutdown-timeout",
    type=float,
    default=120.0,
    show_default=True,
    metavar="S",
    help="Time for all processes to write their data and end; then SIGKILL.",
)
@click.option(
    "--counters",
    default="none",
    show_default=True,
    metavar="LEVEL|NAMES",
    shell_complete=_counter_levels,
    help="Hardware counters: none, bandwidth (bytes to and from memory), standard (what labels need), full, "
    "or names separated by commas. Each pass of counters is a launch of its own (--dry-run shows them).",
)
@click.option("--kernels", default="", metavar="REGEX", help="Count only kernels whose name this matches.")
@click.option(
    "--dispatches",
    metavar="A:B",
    help="Count only these: of each kernel (rocprofv3), of each process (rocprof; rocprof-compute on it).",
)
@click.option(
    "--sample-hz",
    type=float,
    default=2.0,
    show_default=True,
    help="Host samples a second, up to 10; 0: none, and no scrapes of a server's /metrics (one a second).",
)
@click.option(
    "--telemetry",
    type=click.Choice(["auto", "amdsmi", "sysfs", "nvml", "none"]),
    default="auto",
    show_default=True,
    help="Where power, clocks, temperatures and throttling of the GPUs are read. auto: AMD SMI, else the "
    "driver's files, on NVIDIA NVML.",
)
@click.option(
    "--telemetry-hz",
    type=float,
    default=1.0,
    show_default=True,
    help="Readings of each GPU a second, 0.1 to 10.",
)
@click.option(
    "--gpu", metavar="NAME", help="The GPU, where it is not recorded; in a dry run stands in for one."
)
@click.option(
    "--model",
    type=click.Path(path_type=Path),
    metavar="CONFIG",
    help="The served model's config.json or folder.",
)
@click.option(
    "--tp", type=click.IntRange(min=1), help="Tensor-parallel size, where it is not in the command."
)
@_shared.context_option
@_shared.forecasts_option
@click.option(
    "--attach",
    metavar="PID|URL",
    help="Instead of COMMAND: profile a server that runs already, by its own profiler or rocprofv3, and "
    "leave it running.",
)
@click.option(
    "--traces",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="With --attach: where the server writes its own traces, as seen from here.",
)
@click.option("--dry-run", is_flag=True, help="Print the command line, environment and files; run nothing.")
@_shared.output_options
def COMMAND(
    command: tuple[str, ...], out: Path | None, as_json: bool, quiet: bool, dry_run: bool, **chosen: Any
) -> int:
    """Run COMMAND under a profiler, collect what all its processes did on the GPU, label and rank the
    kernels, write the reports into --out (by default rocscope-out/TIME). The command's output passes
    through; its exit code is ours. Ctrl-C ends the profiling in order; a second one tells every process
    to end, a third kills them.

    A vLLM server is waited for until it answers /health, and is ended so that its workers can write
    what they recorded, which they cannot by default.

    \b
    Examples:
      rocscope profile -- python decode.py
      rocscope profile --duration 30 -- vllm serve MODEL -tp 4
      rocscope profile --load builtin -- vllm serve MODEL
      rocscope profile --load builtin:concurrency=1+16,prompt=1024 -- vllm serve MODEL
      rocscope profile --profiler torch --duration 10 -- vllm serve MODEL
      rocscope profile --profiler torch -- python decode.py
      rocscope profile --attach http://127.0.0.1:8000 --duration 10
      rocscope profile --dry-run --gpu MI100 -- vllm serve MODEL
      rocscope profile --counters standard --load "./client --seed 0" -- vllm serve MODEL
      rocscope profile --counters FETCH_SIZE,SQ_WAVES --kernels gptq -- python decode.py
      rocscope profile --telemetry-hz 10 --profiler none -- python decode.py
      rocscope profile --profiler rocprof-compute --kernels gptq -- python decode.py
    """
    _one_of(command, chosen)
    options = _options(out, chosen, as_json=as_json)
    if dry_run:
        from rocscope.collectors import live_attach, live_passes

        attached = options.attach is not None
        run = live_attach.plan(options)[0] if attached else live_passes.plan(command, options, dry=True)
        planned = run.dry(options)
        click.echo(json.dumps(planned, indent=1) if as_json else _readable(planned))
        return 0
    from rocscope import pipeline

    done = pipeline.profile(command, options, progress=_stages(quiet=quiet or as_json), say=_warn)
    _shared.show(done.analysis, done.paths, as_json=as_json, quiet=quiet)
    return done.exit_code


def _one_of(command: tuple[str, ...], chosen: dict[str, Any]) -> None:
    from rocscope.errors import UsageError

    if chosen["attach"] is not None and command:
        raise UsageError("--attach and a command: which is to be profiled?", "leave one of them out")
    if chosen["attach"] is None and not command:
        raise UsageError(
            "no command to profile", "write it after --, e.g. rocscope profile -- vllm serve MODEL"
        )
    if chosen["traces"] is not None and chosen["attach"] is None:
        raise UsageError("--traces belongs to --attach", "leave it out")


def _options(out: Path | None, chosen: dict[str, Any], *, as_json: bool) -> Any:
    """Check what was given. Raises ``UsageError`` that names the option."""
    from pydantic import ValidationError

    from rocscope.config import ProfileOptions, parse_dispatches
    from rocscope.errors import UsageError

    names = {
        "duration": "duration_s",
        "ready_timeout": "ready_timeout_s",
        "shutdown_timeout": "shutdown_timeout_s",
    }
    given = {names.get(name, name): value for name, value in chosen.items()}
    try:
        if given["dispatches"] is not None:
            given["dispatches"] = parse_dispatches(given["dispatches"])
        return ProfileOptions(
            **given,
            out=out or _unused(Path("rocscope-out")),
            every_report=out is not None,
            output_to_stderr=as_json,
        )
    except ValidationError as error:
        first = error.errors()[0]
        option = {field: name for name, field in names.items()}.get(
            str(first["loc"][0]), str(first["loc"][0])
        )
        raise UsageError(
            f"--{option.replace('_', '-')}: {first['msg'].lower()}", "see rocscope profile --help"
        ) from error
    except ValueError as error:
        raise UsageError(f"--load: {error}", "mind the quotes") from error


def _unused(parent: Path) -> Path:
    """Return a folder named for the user's own time, which no other run has taken."""
    import datetime

    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    names = itertools.chain([stamp], (f"{stamp}-{number}" for number in itertools.count(2)))
    return next(parent / name for name in names if not (parent / name).exists())


def _stages(*, quiet: bool) -> Callable[[str], None]:
    """Show each new stage as a line, on a terminal: a moving display would mix with the command's output."""
    shown = ""

    def show(text: str) -> None:
        nonlocal shown
        number = _PASS.match(text)  # each pass is a stage anew
        stage = (number[0] if number else "") + re.sub(r"\d+", "", text)
        if stage != shown:
            shown = stage
            click.echo(click.style(f"rocscope: {_plain(text)}", dim=True), err=True)

    return show if sys.stderr.isatty() and not quiet else lambda _: None


def _plain(message: str) -> str:
    return "".join(c if c == "\n" or c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in message)


def _warn(message: str) -> None:
    click.echo(click.style("rocscope: ", fg="yellow", bold=True) + _plain(message), err=True)


def _readable(planned: dict[str, Any]) -> str:
    lines = [f"profiler     {planned['profiler']} {planned['profiler_version'] or ''}".rstrip()]
    lines += [f"note         {note}" for note in planned["notes"]]
    lines += [f"environment  {name}={shlex.quote(value)}" for name, value in planned["environment"].items()]
    lines += [f"file         {path}" for path in planned["files"]]
    passes = planned["passes"]
    if len(passes) < 2 and not any(one["counters"] for one in passes):
        lines.append(f"command      {shlex.join(planned['command'])}")
        return "\n".join(lines)
    for number, one in enumerate(passes, 1):
        counters = " ".join(one["counters"]) or "no counters"
        lines.append(f"pass {number:<7} {counters}" + (f" ({one['why']})" if one["why"] else ""))
        if one["launches"]:
            lines.append(f"  launch {one['launch']:<3} {shlex.join(one['command'])}")
        else:
            lines.append(f"  launch {one['launch']:<3} the same, by turns")
    lines.append(f"time         {_estimate(planned)}")
    return "\n".join(lines)


def _estimate(planned: dict[str, Any]) -> str:
    """Say how long all launches will take, as far as that is known before."""
    count = f"{planned['launches']} launches"
    if planned["estimated_s"] is not None:
        return f"{count}, {planned['estimated_s']:g} s of recording"
    if planned["estimated_times_the_command"] is None:
        return f"{count}, each as long as the load or you make it"
    return f"{count}, about {planned['estimated_times_the_command']} times as long as the command alone"
