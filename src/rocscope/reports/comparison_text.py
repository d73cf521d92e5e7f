"""A comparison on a terminal: the verdict first, then where the time went."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rocscope.comparison.result import Comparison, Difference, Tier
from rocscope.reports import figures, forecast_text
from rocscope.reports.text import shorten, visible

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

NAME_WIDTH: Final = 36
MAX_ROWS: Final = 12


def show(comparison: Comparison, console: Console | None = None) -> None:
    """Print ``comparison`` to ``console``, by default standard output, in at most 80 columns."""
    if console is None:
        from rich.console import Console

        console = Console(highlight=False)
    if comparison.comparable:
        verdicts = [_verdict(tier) for tier in comparison.tiers]
    else:
        verdicts = ["Not comparable: " + "; ".join(comparison.why_not)]
    for line in verdicts or ["No verdict: the recordings have no steps in common."]:
        console.print(figures.ordinary_spaces(visible(line)), style="bold", markup=False)
    if comparison.noise_floor_frac is not None:
        console.print(f"Noise floor: {figures.percent(comparison.noise_floor_frac)} of a step.", markup=False)
    for title, rows in (("Families", comparison.families), ("Kernels", comparison.kernels)):
        if rows:
            console.print()
            console.print(_table(title, rows))
            if len(rows) > MAX_ROWS:
                console.print(f"  and {len(rows) - MAX_ROWS} more; see --json", markup=False)
    if scored := [each for each in comparison.forecasts if each.tried]:
        console.print()
        console.print(forecast_text.table(scored))
    if comparison.reasons:
        console.print()
    for reason in comparison.reasons:
        line = f"Why ({reason.about}, {reason.basis}): {reason.text}"
        console.print(figures.ordinary_spaces(visible(line)), markup=False)
    for note in comparison.notes:
        console.print("note: " + visible(note), markup=False)


def _verdict(tier: Tier) -> str:
    interval = ""
    if tier.low_frac is not None and tier.high_frac is not None:
        interval = f" (95 % interval {_change(tier.low_frac)} to {_change(tier.high_frac)})"
    write = figures.seconds if tier.unit == "s" else figures.significant
    metric = tier.metric.removesuffix("_s") if tier.unit == "s" else tier.metric
    return (
        f"{tier.verdict}: {tier.tier} {metric} {write(tier.base)} -> "
        f"{write(tier.new)}, {_change(tier.change_frac)}{interval}"
    )


def _table(title: str, rows: list[Difference]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False)
    table.add_column("name", max_width=NAME_WIDTH, no_wrap=True)
    for heading in ("base", "new", "change"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows[:MAX_ROWS]:
        cells = [
            shorten(visible(row.name), NAME_WIDTH),
            figures.seconds(row.base_s),
            figures.seconds(row.new_s),
            _change(row.change_frac),
        ]
        table.add_row(*(Text(figures.ordinary_spaces(cell)) for cell in cells))
    return table


def _change(value: float | None) -> str:
    return figures.UNKNOWN if value is None else f"{value * 100:+.1f} %"
