"""``rocscope compare``: what changed between two recordings."""

from __future__ import annotations

from pathlib import Path

import click

from rocscope.commands import _shared


@click.command("compare", short_help="Say what changed between two recordings.")
@click.argument("base", type=click.Path(path_type=Path))
@click.argument("new", type=click.Path(path_type=Path))
@_shared.selection_options
@click.option(
    "--tried",
    multiple=True,
    metavar="TARGET",
    help="A target of BASE, or how its id starts, that was worked on: its forecast is scored also where no "
    "change is seen. May be given several times.",
)
@_shared.forecasts_option
@click.option("--no-ledger", is_flag=True, help="Do not enter scored forecasts in the ledger.")
@click.option("--json", "as_json", is_flag=True, help="Print the comparison as JSON on standard output.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def COMMAND(
    base: Path,
    new: Path,
    *,
    tried: tuple[str, ...],
    no_ledger: bool,
    as_json: bool,
    quiet: bool,
    **selection: object,
) -> int:
    """Say what changed from BASE to NEW: the step period with an interval, then families and kernels.

    Both are recordings or captures. Where they cannot be compared (another GPU, model or parallelism), that
    is said, with what differs. The gains that BASE's targets forecast are held against what came of them,
    and kept in the ledger that `rocscope forecasts` shows.

    \b
    Examples:
      rocscope compare before/ after/
      rocscope compare fp16.json.gz gptq.json.gz --json | jq .tiers
      rocscope compare before/ after/ --tried kernel-gptq --json | jq .forecasts
    """
    from rocscope import pipeline

    options = _shared.analyze_options(**selection)  # type: ignore[arg-type]  # click gives them by these names
    with _shared.progress(enabled=not (quiet or as_json)) as step:
        step(f"reading {base} and {new}")
        comparison = pipeline.compare(base, new, options=options, tried=tried, keep=not no_ledger)
    if as_json:
        click.echo(comparison.model_dump_json(indent=1))
    else:
        from rocscope.reports import comparison_text

        comparison_text.show(comparison)
    return 0
