"""``rocscope forecasts``: the ledger of forecasts and what came of them."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rocscope.forecast_ledger import Entry

_EMPTY = (
    "no forecast was scored yet: `rocscope compare BASE NEW` holds what was forecast from BASE against "
    "what NEW shows"
)


@click.group("forecasts", invoke_without_command=True, short_help="Show forecasts and what came of them.")
@click.option(
    "--ledger",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Another ledger than your own ($ROCSCOPE_FORECASTS, else rocscope/forecasts.sqlite in your data "
    "folder).",
)
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON, nothing else.")
@click.pass_context
def COMMAND(context: click.Context, ledger: Path | None, as_json: bool) -> None:
    """Show the forecasts of gains that were scored, newest first, and how often those of each kind hit.

    `rocscope compare BASE NEW` enters what came of BASE's targets. Later forecasts learn from it, unless told
    otherwise with --forecasts.

    \b
    Examples:
      rocscope forecasts
      rocscope forecasts --json | jq '.coverage[] | [.kind, .hits, .scored]'
      rocscope forecasts coverage
      rocscope forecasts export -o ours.json          # for colleagues, who import it
      rocscope forecasts import examples/h200_changes/ledger.json
    """
    context.obj = ledger
    if context.invoked_subcommand is not None:
        return
    from rocscope import forecast_ledger
    from rocscope.forecast_coverage import coverage
    from rocscope.reports import ledger_text

    entries = _read(_place(context))
    covered = coverage(entries)
    if as_json:
        told = json.loads(forecast_ledger.to_json(entries))
        told["coverage"] = [each.model_dump(mode="json") for each in covered]
        click.echo(json.dumps(told, indent=1))
    elif entries:
        ledger_text.show(entries, covered)
    else:
        click.echo(_EMPTY)


@COMMAND.command("coverage")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON, nothing else.")
@click.pass_context
def coverage_(context: click.Context, as_json: bool) -> None:
    """Say how many forecasts of each kind hit, with a 95 % interval, and on which side the others missed.

    \b
    Example:
      rocscope forecasts coverage --json | jq .
    """
    from rocscope.forecast_coverage import coverage
    from rocscope.reports import ledger_text

    entries = _read(_place(context))
    covered = coverage(entries)
    if as_json:
        click.echo(json.dumps([each.model_dump(mode="json") for each in covered], indent=1))
    elif covered:
        ledger_text.show_coverage(covered)
    elif entries:
        click.echo(f"{_counted(len(entries))} scored, none that counts; `rocscope forecasts` says why")
    else:
        click.echo(_EMPTY)


def _ids(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[Any]:
    from click.shell_completion import CompletionItem

    from rocscope.errors import RocscopeError

    try:
        entries = _read(_place(context))
    except RocscopeError:
        return []
    return [CompletionItem(each.id, help=each.target) for each in entries if each.id.startswith(incomplete)]


@COMMAND.command("remove")
@click.argument("ids", nargs=-1, required=True, metavar="ID...", shell_complete=_ids)
@click.pass_context
def remove(context: click.Context, ids: tuple[str, ...]) -> None:
    """Take forecasts out of the ledger, by the id that the list shows.

    \b
    Example:
      rocscope forecasts remove 3f2a9c01de
    """
    from rocscope import forecast_ledger
    from rocscope.errors import UsageError

    path = _place(context)
    entries = _read(path)
    chosen: dict[str, Entry] = {}
    for start in ids:
        found = [each for each in entries if start and each.id.startswith(start)]
        if len(found) != 1:
            what = "no forecast has this id" if not found else f"{len(found)} forecasts have ids like that"
            raise UsageError(f"{start}: {what}", "`rocscope forecasts` lists them")
        chosen[found[0].id] = found[0]
    gone = forecast_ledger.remove(path, list(chosen.values()))
    click.echo(f"removed {_counted(gone)}")


@COMMAND.command("clear")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_context
def clear(context: click.Context, yes: bool) -> None:
    """Take all forecasts out of the ledger.

    \b
    Example:
      rocscope forecasts clear --yes
    """
    from rocscope import forecast_ledger
    from rocscope.errors import UsageError

    path = _place(context)
    entries = _read(path)
    if entries and not yes:
        if not sys.stdin.isatty():
            raise UsageError(f"this removes {_counted(len(entries))}", "say --yes")
        click.confirm(f"Remove {_counted(len(entries))} from {path}?", abort=True)
    click.echo(f"removed {_counted(forecast_ledger.remove(path, entries) if entries else 0)}")


@COMMAND.command("export")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="PATH", help="Default: standard output."
)
@click.option("--force", is_flag=True, help="Replace PATH.")
@click.pass_context
def export(context: click.Context, output: Path | None, force: bool) -> None:
    """Write the ledger as JSON, for `import` elsewhere or for --forecasts.

    Names of kernels and of GPUs are in it; paths, hosts and commands are not.

    \b
    Examples:
      rocscope forecasts export -o ours.json
      rocscope analyze trace.json.gz --forecasts ours.json
    """
    from rocscope import forecast_ledger
    from rocscope.exports.target import refuse_existing, replacing

    if output is not None:
        refuse_existing(output, force=force)
    text = forecast_ledger.to_json(_read(_place(context)))
    if output is None:
        click.echo(text, nl=False)
        return
    with replacing(output) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
    click.echo(str(output))


@COMMAND.command("import")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE...")
@click.pass_context
def import_(context: click.Context, files: tuple[Path, ...]) -> None:
    """Enter forecasts of other ledgers, or of their JSON form; of the same forecast the later one stays.

    \b
    Example:
      rocscope forecasts import ours.json theirs.json
    """
    from rocscope import forecast_ledger

    entries = [entry for path in files for entry in forecast_ledger.read(path)]
    entered = forecast_ledger.write(_place(context), entries, keep_newer=True) if entries else 0
    known = len(entries) - entered
    click.echo(f"entered {_counted(entered)}" + (f"; {known} known already" if known else ""))


def _place(context: click.Context) -> Path:
    from rocscope import forecast_ledger

    given = (
        context.obj
        if context.obj is not None
        else (context.parent.params if context.parent else {}).get("ledger")
    )
    return given if isinstance(given, Path) else forecast_ledger.place(os.environ)


def _read(path: Path) -> list[Entry]:
    from rocscope import forecast_ledger
    from rocscope.errors import NotFound

    try:
        return forecast_ledger.read(path)
    except NotFound:
        return []


def _counted(number: int) -> str:
    return "1 forecast" if number == 1 else f"{number} forecasts"
