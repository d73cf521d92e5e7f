"""``rocscope compare``: what changed between recordings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rocscope.commands import _shared

if TYPE_CHECKING:
    from rocscope.comparison import Comparison


def _known(_: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """Check a format by the list of all of them, which ``--help`` does not wait for."""
    from rocscope.reports.report import comparison_reports

    if value is not None and value not in comparison_reports():
        raise click.BadParameter(f"{value!r} is none of {', '.join(comparison_reports())}", param=param)
    return value


def _formats(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[Any]:
    from click.shell_completion import CompletionItem

    from rocscope.reports.report import comparison_reports

    found = comparison_reports().values()
    return [CompletionItem(each.name, help=each.help) for each in found if each.name.startswith(incomplete)]


def _across(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[Any]:
    from click.shell_completion import CompletionItem

    from rocscope.comparison.comparable import ACROSS

    done, comma, last = incomplete.rpartition(",")
    return [CompletionItem(f"{done}{comma}{each}") for each in ACROSS if each.startswith(last)]


@click.command("compare", short_help="Say what changed between recordings.")
@click.argument("base", type=click.Path(path_type=Path))
@click.argument("new", type=click.Path(path_type=Path))
@click.argument("more", type=click.Path(path_type=Path), nargs=-1)
@_shared.selection_options
@click.option(
    "--across",
    multiple=True,
    metavar="WHAT",
    shell_complete=_across,
    help="What was changed on purpose, so that verdicts are given all the same: mode (eager or graphs), gpu, "
    "dtype, tp, model; several with commas.",
)
@click.option(
    "--level",
    default="95%",
    show_default=True,
    metavar="SHARE",
    help="Chance with which all intervals hold at once.",
)
@click.option(
    "--fail-on-regression",
    "limit",
    metavar="SHARE",
    help="Exit with code 12 where a figure is shown to be worse and is so by this much or more (3%, 0.03), "
    "with 19 where that could not be told.",
)
@click.option(
    "--tried",
    multiple=True,
    metavar="TARGET",
    help="A target of BASE, or how its id starts, that was worked on: its forecast is scored also where no "
    "change is seen. May be given several times.",
)
@click.option(
    "--table",
    "tables",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="CSV",
    help="Kernels measured alone, with counters, as `analyze --table` takes them: evidence for reasons, and "
    "named as the table's. May be given several times.",
)
@_shared.forecasts_option
@click.option("--no-ledger", is_flag=True, help="Do not enter scored forecasts in the ledger.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Write the comparison in every format into DIR: compare.json, compare.html, compare.md and others.",
)
@click.option(
    "--format",
    "name",
    callback=_known,
    shell_complete=_formats,
    metavar="html|markdown|json|terminal",
    help="Print the comparison in this format.",
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="PATH", help="Write that format to PATH."
)
@click.option("--force", is_flag=True, help="Replace PATH.")
@click.option("--json", "as_json", is_flag=True, help="Print the comparison as JSON, nothing else.")
@click.option("-q", "--quiet", is_flag=True, help="No progress, no table; only errors.")
def COMMAND(  # click gives each by its name
    base: Path,
    new: Path,
    more: tuple[Path, ...],
    *,
    across: tuple[str, ...],
    level: str,
    limit: str | None,
    tried: tuple[str, ...],
    tables: tuple[Path, ...],
    no_ledger: bool,
    out: Path | None,
    name: str | None,
    output: Path | None,
    force: bool,
    as_json: bool,
    quiet: bool,
    **selection: object,
) -> int:
    """Say what changed from BASE to NEW: the step with an interval, then families, kernels and why.

    Each is a recording, a capture, a folder of reports, an archive, or a folder of repeats of one thing: with
    two repeats or more of either side the intervals hold what runs differ by. Each of MORE is compared with
    BASE too. Where recordings cannot be compared (another GPU, model, parallelism, eager against graphs), it
    is said, with what differs, unless --across names it. The gains that BASE's targets forecast are held
    against what came of them, and kept in the ledger that `rocscope forecasts` shows.

    \b
    Examples:
      rocscope compare before/ after/
      rocscope compare base/ new/ --fail-on-regression 3%     # folders of repeats: run1/, run2/, run3/
      rocscope compare eager.json.gz graphs.json.gz --across mode
      rocscope compare fp16/ gptq8/ gptq4/ --out compared/
      rocscope compare fp16.json.gz gptq.json.gz --json | jq .tiers
      rocscope compare before/ after/ --format markdown | gh issue comment 12 -F -
    """
    from rocscope import pipeline
    from rocscope.comparison import gate

    options = _shared.analyze_options(**selection)  # type: ignore[arg-type]  # click gives them by these names
    checked = gate.Gate(gate.share("--fail-on-regression", limit)) if limit is not None else None
    chance = gate.share("--level", level)
    shown = _chosen(name, output, as_json=as_json, force=force)
    with _shared.progress(enabled=not (quiet or as_json)) as step:
        step(f"reading {base}")
        comparison = pipeline.compare(
            base,
            new,
            *more,
            options=options,
            across=across,
            level=chance,
            tried=tried,
            tables=tables,
            keep=not no_ledger,
            progress=step,
        )
    _show(comparison, shown, output, out, quiet=quiet and name is None)
    for told in checked.check(comparison) if checked else ():
        click.echo(f"warning: {told}", err=True)
    return 0


def _chosen(name: str | None, output: Path | None, *, as_json: bool, force: bool) -> str:
    """Return the format to show. Raises :class:`UsageError` where options contradict."""
    from rocscope.errors import UsageError
    from rocscope.exports.target import refuse_existing

    if as_json and name not in (None, "json"):
        raise UsageError(f"--json and --format {name} are two things", "leave one out")
    if output is not None:
        if name is None and not as_json:
            raise UsageError(f"-o {output}: in which format?", "name it, for example --format html")
        if output.is_dir():
            place = output / "compare.html"
            raise UsageError(f"{output} is a folder", f"name a file, for example -o {place}")
        refuse_existing(output, force=force)
    return "json" if as_json else name or "terminal"


def _show(comparison: Comparison, name: str, output: Path | None, out: Path | None, *, quiet: bool) -> None:
    """Print the comparison, or write it to ``output``; write it in every format into ``out``."""
    from rocscope.reports import comparison_text
    from rocscope.reports.report import comparison_reports

    reports = comparison_reports()
    if output is not None:
        _write(output, reports[name].render(comparison))
        click.echo(str(output), err=name == "json")
    elif name == "terminal":
        if not quiet:
            comparison_text.show(comparison)
    else:
        click.echo(reports[name].render(comparison), nl=False)
    for each in reports.values() if out is not None else ():
        place = (out or Path()) / each.filename
        _write(place, each.render(comparison))
        click.echo(f"{each.name:>10}  {place}", err=name == "json")


def _write(path: Path, text: str) -> None:
    from rocscope.exports.target import replacing

    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")
