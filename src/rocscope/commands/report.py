"""``rocscope report``: one report of an analysis or a capture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rocscope.commands import _shared

if TYPE_CHECKING:
    from rocscope.findings import Analysis


def _known(_: click.Context, param: click.Parameter, value: str) -> str:
    """Check a format by the list of all of them, which ``--help`` does not wait for."""
    from rocscope.reports.report import reports

    if value not in reports():
        raise click.BadParameter(f"{value!r} is none of {', '.join(reports())}", param=param)
    return value


@click.command("report", short_help="Write one report of an analysis or a recording.")
@click.argument("path", type=click.Path(path_type=Path), metavar="ANALYSIS_OR_CAPTURE")
@click.option(
    "--format", "name", default="terminal", callback=_known, metavar="html|markdown|json|csv|terminal"
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="PATH", help="Default: standard output."
)
@click.option("--force", is_flag=True, help="Replace PATH.")
@_shared.selection_options
@_shared.token_option
def COMMAND(path: Path, name: str, output: Path | None, force: bool, **selection: object) -> None:
    """Write one report of an analysis.json, or of a capture or recording, which is analysed first.

    \b
    Examples:
      rocscope report out/analysis.json --format html -o report.html
      rocscope report capture/ --format markdown | gh issue create -F -
      rocscope report trace.json.gz --gpu MI100
    """
    from rocscope.errors import UsageError
    from rocscope.exports.target import refuse_existing, replacing
    from rocscope.reports import terminal
    from rocscope.reports.report import reports

    if output is not None:
        refuse_existing(output, force=force)
        if output.is_dir():
            raise UsageError(f"{output} is a folder", f"name a file, for example -o {output / 'report.html'}")
    analysis = _analysis(path, selection)
    if output is None and name == "terminal":
        terminal.show(analysis)
        return
    text = reports()[name].render(analysis)
    if output is None:
        click.echo(text, nl=False)
        return
    with replacing(output) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")
    click.echo(str(output))


def _analysis(path: Path, selection: dict[str, Any]) -> Analysis:
    from rocscope import pipeline
    from rocscope.errors import UsageError
    from rocscope.reports import contract

    stored = contract.read(path)
    if stored is None:
        with _shared.progress() as step:
            return pipeline.analyze(path, options=_shared.analyze_options(**selection), progress=step)
    given = [f"--{option.replace('_', '-')}" for option, value in selection.items() if value is not None]
    if given:
        raise UsageError(
            f"{', '.join(given)} cannot change {path.name}: it is analysed already",
            "name the capture or recording instead",
        )
    return stored
