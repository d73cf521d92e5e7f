"""The ledger of forecasts on a terminal: what was forecast, what came, how often it hit."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from rocscope.forecast_coverage import ALL, STATED_FRAC, Coverage
from rocscope.forecast_ledger import Entry
from rocscope.reports import comparison_words, figures
from rocscope.reports import terminal_parts as draw
from rocscope.reports.text import shorten
from rocscope.untrusted import visible

if TYPE_CHECKING:
    from rich.console import Console

_NAME: Final = 28
_HEADER: Final = ("target", "forecast", "came", "", "scored", "id")
_COVERAGE: Final = ("limited by", "hits", "share", "95 % interval", "below", "above", "bias")


def show(entries: Sequence[Entry], covered: Sequence[Coverage], console: Console | None = None) -> None:
    """Print forecasts, newest first, those that count nowhere apart, and how often the others hit."""
    draw.show(partial(_parts, entries, covered), console)


def show_coverage(covered: Sequence[Coverage], console: Console | None = None) -> None:
    """Print how often forecasts of each kind hit."""
    draw.show(partial(_coverage, covered), console)


def _parts(entries: Sequence[Entry], covered: Sequence[Coverage], width: int) -> draw.Parts:
    made_up = [each for each in entries if each.provenance == "synthetic"]
    other = [each for each in entries if not each.counts and each.provenance != "synthetic"]
    parts: draw.Parts = []
    for title, those in (
        ("Forecasts", [each for each in entries if each.counts]),
        ("Where other work is done now, as with weights of another size: they count nowhere", other),
        ("Of synthetic recordings: they count nowhere", made_up),
    ):
        parts += [*_listed(title, those, width), ""] if those else []
    return [*parts, *_coverage(covered, width)] if covered else parts[:-1]


def _coverage(covered: Sequence[Coverage], width: int) -> draw.Parts:
    rows = [
        [
            shorten(visible(each.kind), _NAME),
            f"{each.hits}/{each.scored}",
            figures.percent(each.hit_frac),
            figures.percent_range(each.low_frac, each.high_frac),
            figures.count(each.below),
            figures.count(each.above),
            figures.change(each.bias_frac),
        ]
        for each in covered
    ]
    told = (
        f"Intervals are meant to hold {STATED_FRAC * 100:.0f} % of what changes give. Bias is the mean of "
        "the actual gain less the forecast's middle"
    )
    more = f"; {ALL} is all kinds together." if len(covered) > 1 else "."
    header = draw.columns(_COVERAGE, keep=[0, 0, 0, 1, 0, 0, 0])
    return [*draw.table("Hits", header, rows, width), draw.text(f"{told}{more}")]


def _listed(title: str, entries: Sequence[Entry], width: int) -> draw.Parts:
    rows = [
        [
            shorten(visible(each.kernel or each.target), _NAME),
            figures.percent_range(each.low_frac, each.high_frac),
            figures.percent(each.actual_frac),
            comparison_words.hit_or_miss(each.hit),
            each.recorded_at[:10],
            each.id,
        ]
        for each in entries
    ]
    return draw.table(title, draw.columns(_HEADER, keep=[0, 0, 0, 0, 1, 0]), rows, width)
