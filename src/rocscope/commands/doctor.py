"""``rocscope doctor``: what this machine can do, and what to install or permit."""

from __future__ import annotations

import datetime
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rocscope.commands import _shared, _validate

if TYPE_CHECKING:
    from rocscope.ceilings import CardCeilings
    from rocscope.doctor.machine import Machine
    from rocscope.errors import RocscopeError

SCHEMA_VERSION = "1"


@click.command("doctor", short_help="Say what this machine can do, and what to install or permit.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON, nothing else.")
@click.option(
    "--python", metavar="PY", help="The Python that has vLLM or torch, where it is not the one on PATH."
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path(),
    metavar="DIR",
    help="Where captures will go: its disk is looked at. By default the current folder.",
)
@click.option(
    "--root",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    default=Path("/"),
    metavar="DIR",
    help="Look at the sys, proc, dev, etc and opt of this folder: a container's root, or a copy.",
)
@click.option(
    "--measure",
    is_flag=True,
    help="Measure what each GPU achieves (bandwidth, arithmetic by type, launch floor) with torch, and use "
    "it from then on. Takes ten seconds to a minute a GPU, which should be idle.",
)
@click.option(
    "--device",
    "devices",
    type=click.IntRange(min=0),
    multiple=True,
    metavar="N",
    help="Measure only this GPU, as torch counts them; may be repeated. With --validate: the one to use.",
)
@click.option(
    "--store",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Where measured ceilings are kept, by default $ROCSCOPE_CEILINGS or the user's data folder.",
)
@click.option(
    "--measure-timeout",
    type=click.FloatRange(min=1),
    default=600.0,
    show_default=True,
    metavar="S",
    help="Time that measuring one GPU may take.",
)
@_validate.options
def COMMAND(
    *,
    as_json: bool,
    python: str | None,
    out: Path,
    root: Path,
    measure: bool,
    devices: tuple[int, ...],
    store: Path | None,
    measure_timeout: float,
    validate: Path | None,
    **kit: Any,
) -> int:
    """Look at GPUs, ROCm, profilers, permissions, limits, vLLM, counters, telemetry and disk of this machine,
    change nothing, and say how to mend what is missing. Ends with 0 where profiling is possible, else with
    the code that `rocscope profile` would end with: 6 no profiler, 7 no permission, 5 no GPU, 2 another
    profiler is loaded here.

    --validate ends with 18 where a check failed, with 130 after Ctrl-C, which leaves an archive of what was
    done until then. It takes minutes, on an idle GPU; the folder `runs` in OUT is yours and not for sending.

    \b
    Examples:
      rocscope doctor
      rocscope doctor --python /opt/vllm/bin/python --out /scratch/profiles
      rocscope doctor --json | jq '.checks[] | select(.status != "ok")'
      rocscope doctor --measure
      rocscope doctor --validate for-rocscope/ --python /opt/vllm/bin/python
      rocscope doctor --validate for-rocscope/ --dry-run
    """
    from rocscope.doctor import runner
    from rocscope.doctor.machine import Machine
    from rocscope.errors import UsageError

    if validate is None and any(kit.values()):
        raise UsageError("--profiler, --counters and --dry-run are for --validate", "add --validate OUT")
    if validate and (measure or len(devices) > 1):
        raise UsageError("--validate takes one GPU, and no --measure beside it", "run one after the other")
    if not measure and (store or (devices and not validate)):
        raise UsageError("--device and --store are for --measure", "add --measure")
    machine = Machine(root=root.resolve(), python=python, out=out)
    with _shared.progress(enabled=not as_json) as step:
        step("looking")
        found = runner.examine(machine)
    if validate:
        return _validate.validate(
            machine, found, validate, device=next(iter(devices), 0), as_json=as_json, **kit
        )
    code = runner.exit_code(found)
    verdict = (
        "profiling is possible here" if code == 0 else f"profiling is not possible here (exit code {code})"
    )
    if not as_json:
        from rocscope.doctor import table

        table.show(table.findings(found, verdict))
    measured, failure = _measure(machine, devices, store, measure_timeout, as_json) if measure else ([], None)
    if as_json:
        click.echo(
            json.dumps(
                {
                    "schema_version": SCHEMA_VERSION,
                    "possible": code == 0,
                    "exit_code": code,
                    "checks": [each.model_dump() for each in found],
                    "measured": measured,
                    "measure_error": failure.message if failure else None,
                },
                indent=1,
            )
        )
    if failure:
        raise failure
    return 0 if measure else code


def _measure(
    machine: Machine, devices: tuple[int, ...], store: Path | None, timeout_s: float, as_json: bool
) -> tuple[list[dict[str, Any]], RocscopeError | None]:
    """Measure and keep each card; one that fails does not keep the others from it."""
    from rocscope import ceilings, ceilings_store
    from rocscope.doctor import figures
    from rocscope.doctor import measure as measuring
    from rocscope.errors import RocscopeError, TargetError

    python = machine.python or (
        machine.target.executable if machine.target and machine.target.torch else None
    )
    if python is None:
        return [], TargetError(
            "measuring needs a Python that has torch, and none was found",
            "name one, for example that of vLLM: --python /path/to/venv/bin/python",
        )
    where = store or ceilings_store.folder(os.environ)
    wanted = list(dict.fromkeys(devices)) or [0]
    results: list[dict[str, Any]] = []
    failure: RocscopeError | None = None
    for device in wanted:  # grows once the first has said how many there are
        try:
            with _shared.progress(enabled=not as_json) as step:
                step(f"GPU {device}")
                raw = measuring.measure(
                    python,
                    device,
                    machine.environment,
                    deadline_s=timeout_s,
                    progress=lambda text, which=device, tell=step: tell(f"GPU {which}: {text}"),  # type: ignore[misc]  # defaults bind
                )
            if not devices:
                wanted += [each for each in range(raw.device.count) if each not in wanted]
            now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
            card = ceilings.judge(raw, measured_at=now)
            rows = figures.rows(card)
            path = ceilings_store.save(card, where) if any(row.used for row in rows) else None
        except RocscopeError as error:
            failure = failure or error
            continue
        results.append(
            {
                "device": device,
                "stored_at": str(path) if path else None,
                "ceilings": card.model_dump(),
                "figures": [row.model_dump() for row in rows],
            }
        )
        if not as_json:
            _print(card, rows, path)
    return results, failure


def _print(card: CardCeilings, rows: list[Any], path: Path | None) -> None:
    from rocscope.doctor import table

    torch = card.software.get("torch") or "unknown"
    name = f"{card.name} ({card.arch or 'unknown architecture'}), measured with torch {torch}"
    kept = (
        f"kept in {path}; used from now on for this card" if path else "not kept: nothing of it can be used"
    )
    table.show(table.measured(name, rows, kept))
