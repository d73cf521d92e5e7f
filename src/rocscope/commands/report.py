"""``rocscope report``: one report of an analysis or a capture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from rocscope.commands import _shared

if TYPE_CHECKING:
    from rocscope.findings import Analysis

_TRACE: Final = "perfetto"  # the one export that is a report too: kernels with their labels on a time axis
FORMATS: Final = {  # as the reports say it themselves, which --help and the tab key do not wait for
    "terminal": "tables of 80 columns, plain where written to a file",
    "markdown": "the answer first, for an issue or a chat",
    "html": "one self-contained page: charts, tables with search and filters, works offline",
    "json": "the contract other programs read, every figure unrounded",
    "csv": "one row for each kernel and launch shape, for a spreadsheet",
    _TRACE: "a trace for ui.perfetto.dev; gzipped where the name ends in .gz",
}


def _known(_: click.Context, param: click.Parameter, value: str) -> str:
    if value not in FORMATS:
        raise click.BadParameter(f"{value!r} is none of {', '.join(FORMATS)}", param=param)
    return value


def _complete(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[Any]:
    from click.shell_completion import CompletionItem

    return [CompletionItem(name, help=told) for name, told in FORMATS.items() if name.startswith(incomplete)]


class _Report(click.Command):
    """A command whose help ends with what each format is for."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the formats."""
        with formatter.section("Formats"):
            formatter.write_dl(list(FORMATS.items()))
        super().format_epilog(ctx, formatter)


@click.command("report", cls=_Report, short_help="Write one report of an analysis or a recording.")
@click.argument(
    "paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="ANALYSIS_OR_CAPTURE..."
)
@click.option(
    "--format",
    "name",
    default="terminal",
    callback=_known,
    shell_complete=_complete,
    metavar="|".join(FORMATS),
    help="Default: terminal. What each is for stands below.",
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="PATH", help="Default: standard output."
)
@click.option("--force", is_flag=True, help="Replace PATH.")
@_shared.selection_options
@_shared.token_option
@_shared.forecasts_option
def COMMAND(
    paths: tuple[Path, ...], name: str, output: Path | None, force: bool, **selection: object
) -> None:
    """Write one report of an analysis.json or of the folder of reports that holds it; or of a capture or the
    files of a recording, which are analysed first.

    A trace for ui.perfetto.dev (perfetto) needs the capture or recording itself, and -o.

    \b
    Examples:
      rocscope report out/ --format html -o report.html
      rocscope report capture/ --format markdown | gh issue create -F -
      rocscope report trace.json.gz --gpu MI100
      rocscope report capture/ --format perfetto -o trace.json.gz
    """
    from rocscope.errors import UsageError
    from rocscope.exports.target import refuse_existing, replacing
    from rocscope.reports import terminal
    from rocscope.reports.report import reports

    if output is not None:
        refuse_existing(output, force=force)
        if output.is_dir():
            example = "trace.json.gz" if name == _TRACE else reports()[name].filename
            raise UsageError(f"{output} is a folder", f"name a file, for example -o {output / example}")
    if name == _TRACE:
        click.echo(str(_write_trace(paths, output, selection)))
        return
    analysis = _analysis(paths, selection)
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


def _analysis(paths: tuple[Path, ...], selection: dict[str, Any]) -> Analysis:
    from rocscope import pipeline
    from rocscope.errors import UsageError
    from rocscope.reports import contract

    stored = contract.read(paths[0]) if len(paths) == 1 else None
    if stored is None:
        if found := _kept(paths, selection):
            return found
        with _shared.progress() as step:
            return pipeline.analyze(*paths, options=_shared.analyze_options(**selection), progress=step)
    if given := _given(selection):
        raise UsageError(
            f"{', '.join(given)} cannot change {paths[0].name}: it is analysed already",
            "name the capture or recording instead",
        )
    return stored


def _given(selection: dict[str, Any]) -> list[str]:
    return [
        f"--{option.replace('_', '-')}" for option, value in selection.items() if value not in (None, "auto")
    ]


def _kept(paths: tuple[Path, ...], selection: dict[str, Any], *, whole: bool = False) -> Analysis | None:
    """Return the analysis in a folder of reports, or beside the capture in it, if no option asks for another.

    What the model's config told is in it. One of a part of the capture is that of the folder, not of the
    capture, and no use where the ``whole`` is wanted.
    """
    from rocscope import track_record
    from rocscope.capture import is_capture

    if len(paths) != 1 or _given(selection):
        return None
    found = track_record.analysis_of(paths[0])
    part = found is not None and bool(found.capture.selection)
    return None if part and (whole or is_capture(paths[0])) else found


def _write_trace(paths: tuple[Path, ...], output: Path | None, chosen: dict[str, Any]) -> Path:
    """Write the trace of the part that was selected, kernels with their labels."""
    from rocscope import pipeline, selection
    from rocscope.errors import UsageError
    from rocscope.exports.export import exports
    from rocscope.reports import contract

    if output is None:
        raise UsageError("a trace is written to a file", "name it, for example -o trace.json.gz")
    if contract.read(paths[0]) is not None:
        raise UsageError(
            f"{paths[0].name} holds no dispatches, of which a trace is made",
            f"name the capture or recording, for example {paths[0].parent / 'capture'}",
        )
    options = _shared.analyze_options(**chosen)
    with _shared.progress() as step:
        capture = pipeline.load(*paths, progress=step)
        kept = _kept(paths, chosen, whole=True)
        analysis = kept or pipeline.analyze_capture(capture, options, progress=step)
        step("writing the trace")
        return exports()[_TRACE].write(selection.select(capture, options), output, analysis)[0]
