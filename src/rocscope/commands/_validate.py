"""``rocscope doctor --validate``: known kernels under every profiler, judged, in an archive to send back."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

_DETAIL = re.compile(r": (profiling|reading|ending|waiting)\b")

if TYPE_CHECKING:
    from rocscope.doctor.check import Finding
    from rocscope.doctor.machine import Machine
    from rocscope.validation.trials import Options, Trials


def validate(
    machine: Machine,
    findings: Sequence[Finding],
    out: Path,
    *,
    device: int,
    profilers: tuple[str, ...],
    levels: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
) -> int:
    """Run it and print the verdicts; return the exit code: 0, 18 where a check failed, 130 where cut short.

    ``out`` is a folder for everything, or the name of an archive, beside which nothing is left.
    """
    from rocscope import archive
    from rocscope.errors import CheckFailed
    from rocscope.validation import kit, run, table
    from rocscope.validation.trials import plan

    options = _options(machine, device, profilers, levels)
    if dry_run:
        planned = plan(options, _arch(machine), machine.environment)
        click.echo(json.dumps(planned.dry(), indent=1) if as_json else table.dry(planned))
        return 0
    named = out.name.endswith(archive.SUFFIXES)
    _check_free(out, named=named)
    truth = run.probe(options.python, device, machine.environment)
    planned = plan(options, truth.device.arch.partition(":")[0], machine.environment)
    _tell(
        f"{truth.device.name} ({truth.device.arch}): {_count(planned)}, {table.estimate(planned.estimated_s)}"
    )
    target = out if named else out / kit.ARCHIVE
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="rocscope-validate-") as scratch:
        work = Path(scratch) if named else out / "runs"
        outcome = run.run(planned, work, truth, progress=_stages(), say=_tell)
        from rocscope.exports.target import replacing

        with replacing(target) as temporary:
            kit.write(temporary, planned, outcome, findings, like=target)
    if as_json:
        told = kit.report(planned, outcome, outcome.verdicts)
        click.echo(json.dumps({**told, "archive": str(target)}, indent=1))
    else:
        table.show(outcome.verdicts)
        click.echo(f"{target}\nto send back; its README.txt says what is in it, and what is not")
    if outcome.interrupted:
        return 130
    failed = outcome.truth is None or any(each.status == "fail" for each in outcome.verdicts)
    return CheckFailed.exit_code if failed else 0


def _options(machine: Machine, device: int, profilers: tuple[str, ...], levels: tuple[str, ...]) -> Options:
    import sys

    from rocscope.validation.trials import DEFAULT_LEVELS, Options

    target = machine.target
    python = machine.python or (target.executable if target and target.torch else sys.executable)
    return Options(
        python, device, tuple(dict.fromkeys(profilers)), tuple(dict.fromkeys(levels)) or DEFAULT_LEVELS
    )


def _arch(machine: Machine) -> str:
    """Return the architecture of this machine's GPUs, ``""`` where it has none or several."""
    archs = {each.arch for each in machine.gpus if each.arch}
    return archs.pop() if len(archs) == 1 else ""


def _check_free(out: Path, *, named: bool) -> None:
    """Refuse to write over what is there, before minutes are spent."""
    from rocscope.errors import UsageError

    taken = out.exists() if named else (out.is_file() or (out.is_dir() and any(out.iterdir())))
    if taken:
        raise UsageError(f"--validate {out}: there is something of that name", "name a new folder or archive")


def _count(planned: Trials) -> str:
    launches = 1 + sum(each.launches for each in planned.trials)
    return f"{launches} runs of the known kernels under {len(planned.versions)} profilers"


def _tell(text: str) -> None:
    from rocscope.untrusted import visible

    click.echo(click.style(f"rocscope: {visible(text)}", dim=True), err=True)


def _stages() -> Callable[[str], None]:
    """Show each new stage as a line: the programs write to the same terminal."""
    shown: list[str] = [""]

    def show(text: str) -> None:
        if text != shown[0] and not _DETAIL.search(text):
            shown[0] = text
            _tell(text)

    return show


def options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of ``--validate``."""
    for option in (
        click.option(
            "--dry-run", is_flag=True, help="With --validate: say what would be run, and run nothing."
        ),
        click.option(
            "--counters",
            "levels",
            multiple=True,
            metavar="LEVEL",
            shell_complete=_levels,
            help="With --validate: only this counter plan (none, bandwidth, standard, full); repeatable. "
            "By default bandwidth and standard.",
        ),
        click.option(
            "--profiler",
            "profilers",
            multiple=True,
            metavar="NAME",
            shell_complete=_profilers,
            help="With --validate: only this profiler; may be repeated. By default all that are found.",
        ),
        click.option(
            "--validate",
            type=click.Path(path_type=Path),
            metavar="OUT",
            help="Run known kernels under each profiler and counter plan, hold what is read against what "
            "must be true, and write a redacted archive with the verdicts into OUT (a folder, or a .tar.gz).",
        ),
    ):
        command = option(command)
    return command


def _levels(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    from rocscope.counter_plan import LEVELS

    return [level for level in LEVELS if level.startswith(incomplete)]


def _profilers(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    from rocscope.collectors.backend import backends

    return [name for name in backends() if name.startswith(incomplete) and name not in ("none", "replay")]
