"""The ledger of forecasts on a terminal of 80 columns: what was forecast, what came, how often it hit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from rocscope.forecast_coverage import ALL, STATED_FRAC, Coverage
from rocscope.forecast_ledger import Entry
from rocscope.reports import figures
from rocscope.reports.text import shorten, visible

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_NAME: Final = 25
_KIND: Final = 27


def show(entries: Sequence[Entry], covered: Sequence[Coverage], console: Console | None = None) -> None:
    """Print forecasts, newest first, those that count nowhere apart, and how often the others hit."""
    console = console or _console()
    made_up = [each for each in entries if each.provenance == "synthetic"]
    other = [each for each in entries if not each.counts and each.provenance != "synthetic"]
    for title, those in (
        ("Forecasts", [each for each in entries if each.counts]),
        ("Where other work is done now, as with weights of another size: they count nowhere", other),
        ("Of synthetic recordings: they count nowhere", made_up),
    ):
        if those:
            console.print(_listed(title, those))
    if covered:
        show_coverage(covered, console)


def show_coverage(covered: Sequence[Coverage], console: Console | None = None) -> None:
    """Print how often forecasts of each kind hit."""
    console = console or _console()
    table = _table("Hits", "limited by", _KIND, ("hits", "share", "95 % interval", "below", "above", "bias"))
    for each in covered:
        interval = f"{figures.percent(each.low_frac)} to {figures.percent(each.high_frac)}"
        _row(
            table,
            shorten(visible(each.kind), _KIND),
            f"{each.hits}/{each.scored}",
            figures.percent(each.hit_frac),
            interval,
            str(each.below),
            str(each.above),
            f"{each.bias_frac * 100:+.1f} %",
        )
    console.print(table)
    console.print(
        f"Intervals are meant to hold {STATED_FRAC * 100:.0f} % of what changes give. Bias is the mean of "
        "the actual gain less the forecast's middle"
        + (f"; {ALL} is all kinds together." if len(covered) > 1 else "."),
        markup=False,
    )


def _listed(title: str, entries: Sequence[Entry]) -> Table:
    table = _table(title, "target", _NAME, ("forecast", "actual", "", "scored", "id"))
    for each in entries:
        _row(
            table,
            shorten(visible(each.kernel or each.target), _NAME),
            f"{figures.percent(each.low_frac)} to {figures.percent(each.high_frac)}",
            figures.percent(each.actual_frac),
            "hit" if each.hit else "MISS",
            each.recorded_at[:10],
            each.id,
        )
    return table


def _table(title: str, first: str, width: int, others: Sequence[str]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", padding=0)
    table.add_column(first, max_width=width, no_wrap=True)
    for heading in others:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _row(table: Table, *cells: str) -> None:
    from rich.text import Text

    found: list[Any] = [Text(figures.ordinary_spaces(cell)) for cell in cells]
    table.add_row(*found)


def _console() -> Console:
    from rich.console import Console

    return Console(highlight=False)
