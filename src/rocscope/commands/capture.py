"""``rocscope capture``: what is inside a recording, and ways out of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rocscope.commands import _shared

if TYPE_CHECKING:
    from rocscope.capture import Capture


def _known(_: click.Context, param: click.Parameter, value: str) -> str:
    """Check a format by the list of all of them, which ``--help`` does not wait for."""
    from rocscope.exports.export import exports

    if value not in exports():
        raise click.BadParameter(f"{value!r} is none of {', '.join(exports())}", param=param)
    return value


@click.group("capture", short_help="Look into a capture, export it, or share it redacted.")
def COMMAND() -> None:
    """Look into a capture or any recording, export it for another tool, or make it fit to share."""


@COMMAND.command("info")
@click.argument("capture", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON, nothing else.")
def info(capture: Path, as_json: bool) -> None:
    """Say what is inside: where it came from, GPUs, processes, passes, rows, time range, files, notices.

    \b
    Examples:
      rocscope capture info capture/
      rocscope capture info trace.json.gz --json | jq .rows
    """
    from rocscope.reports import inventory

    found = inventory.inventory(_load(capture))
    click.echo(json.dumps(found, indent=1) if as_json else inventory.text(found), nl=as_json)


@COMMAND.command("export")
@click.argument("capture", type=click.Path(path_type=Path))
@click.option("--format", "name", required=True, callback=_known, metavar="parquet|csv|perfetto")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), metavar="PATH")
@click.option("--force", is_flag=True, help="Replace files of these names.")
def export(capture: Path, name: str, output: Path, force: bool) -> None:
    """Write a capture for another tool: tables as Parquet or CSV, or a trace for ui.perfetto.dev.

    \b
    Examples:
      rocscope capture export capture/ --format perfetto -o trace.json.gz
      rocscope capture export results.db --format parquet -o tables/
    """
    from rocscope.errors import UsageError
    from rocscope.exports.export import exports
    from rocscope.exports.target import refuse_existing

    chosen = exports()[name]
    refuse_existing(output, force=force)
    if output.exists() and output.is_dir() != chosen.folder:
        kind = "a folder" if chosen.folder else "a file"
        raise UsageError(f"{output}: {name} writes {kind}", "name another place with -o")
    for path in chosen.write(_load(capture), output):
        click.echo(path)


@COMMAND.command("share")
@click.argument("capture", type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), metavar="FILE")
@click.option("--force", is_flag=True, help="Replace FILE.")
def share(capture: Path, output: Path, force: bool) -> None:
    """Make an archive fit to send to others, and say what was removed.

    Prompts, paths, environment, host and user names and arguments are gone; raw files and logs are left
    out. Kernel names, times, counters and launch shapes stay, so that an analysis of it is the same.

    \b
    Examples:
      rocscope capture share capture/ -o capture.tar.gz
      rocscope capture share rocprof-out/ -o capture.zip
      rocscope analyze capture.tar.gz
    """
    from rocscope import archive
    from rocscope.exports.target import refuse_existing, replacing
    from rocscope.redaction import redact

    archive.check_name(output)
    refuse_existing(output, force=force)
    redacted, done = redact(_load(capture))
    with replacing(output) as temporary:
        archive.pack(redacted, temporary, like=output)
    click.echo(f"{output}")
    click.echo("removed or replaced:", err=True)
    for line in done.lines():
        click.echo(f"  {line}", err=True)
    click.echo("kernel names are kept: read them before you send it", err=True)


def _load(path: Path) -> Capture:
    from rocscope import pipeline

    with _shared.progress() as step:
        return pipeline.load(path, progress=step, companions=False)
