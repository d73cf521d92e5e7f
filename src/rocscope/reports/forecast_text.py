"""Forecasts and what came of them, on a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from rocscope.comparison.result import Forecast
from rocscope.reports import figures
from rocscope.reports.text import shorten, visible

if TYPE_CHECKING:
    from rich.table import Table

_WIDTH: Final = 38


def table(forecasts: Sequence[Forecast]) -> Table:
    """Return the forecasts that were tried as a table: gain as forecast, gain as it came, hit or miss."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    found = Table(box=box.SIMPLE_HEAD, title="Forecasts", title_justify="left", pad_edge=False)
    found.add_column("target", max_width=_WIDTH, no_wrap=True)
    for heading in ("forecast", "actual", ""):
        found.add_column(heading, justify="right", no_wrap=True)
    for each in forecasts:
        cells = (
            shorten(visible(each.kernel or each.target_id), _WIDTH),
            f"{figures.percent(each.low_frac)} to {figures.percent(each.high_frac)}",
            figures.percent(each.actual_frac),
            verdict(each),
        )
        found.add_row(*(Text(figures.ordinary_spaces(cell)) for cell in cells))
    return found


def verdict(forecast: Forecast) -> str:
    """Say in a word what came of a forecast."""
    if forecast.hit is None:
        return "not tried" if forecast.tried is False else "not known"
    return "hit" if forecast.hit else "MISS"
