"""A comparison on a terminal: verdicts first, then what changed most, then why and what to know of it."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Final

from rocscope.comparison.result import Comparison, Difference, Tier
from rocscope.reports import figures, forecast_text
from rocscope.reports.text import shorten, visible

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

WIDTH: Final = 80
NAME_WIDTH: Final = 21
TIER_WIDTH: Final = 22
MAX_ROWS: Final = 12
_STYLES: Final = {"better": "green", "worse": "red"}
_SHORT: Final = {"better": "better", "worse": "worse", "no difference shown": "–"}


class _ComparisonText:
    name = "terminal"
    help = "for 80 columns: verdicts, what changed most, notes"
    filename = "compare.txt"

    def render(self, comparison: Comparison) -> str:
        """Return what :func:`show` prints, without colours."""
        from rich.console import Console

        console = Console(file=io.StringIO(), width=WIDTH, highlight=False, color_system=None)
        show(comparison, console)
        return str(console.file.getvalue())  # type: ignore[attr-defined]  # it is the StringIO above


COMPARISON_TERMINAL = _ComparisonText()


def show(comparison: Comparison, console: Console | None = None) -> None:
    """Print ``comparison`` to ``console``, by default standard output, in at most 80 columns."""
    if console is None:
        from rich.console import Console

        console = Console(highlight=False)
    whole = [comparison, *comparison.more]
    for index, each in enumerate(whole):
        if len(whole) > 1:
            console.rule(f"new {index + 1} of {len(whole)}: {_sources(each)}", style="default")
        _one(each, console)


def _sources(comparison: Comparison) -> str:
    names = [str(each) for each in comparison.new.get("sources") or () if each]
    return visible(shorten(names[0], 40)) if names else str(comparison.new.get("id"))


def _one(comparison: Comparison, console: Console) -> None:
    if not comparison.comparable:
        _print(console, "Not comparable: " + "; ".join(comparison.why_not), style="bold")
        _print(console, "If that was changed on purpose, name it with --across for verdicts.")
    if comparison.tiers:
        console.print(_tiers(comparison.tiers))
    elif comparison.comparable:
        _print(console, "No verdict: the recordings have no steps in common.", style="bold")
    for line in _how_sure(comparison):
        _print(console, line)
    of = "a step" if comparison.times_of == "step" else "a recording"
    for title, rows in (
        ("Phases, of a step of each", comparison.phases),
        (f"Families, of {of}", [*comparison.families, *comparison.gaps]),
        (f"Kernels, of {of}", comparison.kernels),
    ):
        if rows:
            console.print()
            console.print(_table(title, sorted(rows, key=_weight)))
            if len(rows) > MAX_ROWS:
                console.print(
                    f"  and {len(rows) - MAX_ROWS} more that changed less; see --json", markup=False
                )
    if scored := [each for each in comparison.forecasts if each.tried]:
        console.print()
        console.print(forecast_text.table(scored))
    if comparison.reasons or comparison.notes or comparison.differs:
        console.print()
    for reason in comparison.reasons:
        _print(console, f"Why ({reason.about}, {reason.basis}): {reason.text}")
    for text in comparison.differs:
        _print(console, f"differs: {text}")
    for note in comparison.notes:
        _print(console, f"note: {note}")


def _print(console: Console, text: str, **how: Any) -> None:
    console.print(figures.ordinary_spaces(visible(text)), markup=False, **how)


def _how_sure(comparison: Comparison) -> list[str]:
    found = []
    if comparison.noise_floor_frac is not None:
        least = figures.percent(comparison.noise_floor_frac)
        found.append(f"Noise floor: {least} of a step; what changes less is not shown.")
    if told := comparison.statistics:
        found.append(
            f"All intervals hold at once with {figures.percent(told.level)} chance, from {told.units[0]} and "
            f"{told.units[1]} {told.unit}s."
        )
    return found


def _plain(headings: list[tuple[str, bool, int | None]], title: str | None = None) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), title=title, title_justify="left")
    for heading, right, width in headings:
        justify: Any = "right" if right else "left"
        table.add_column(heading, justify=justify, no_wrap=width is not None or right, max_width=width)
    return table


def _tiers(tiers: list[Tier]) -> Table:
    from rich.text import Text

    table = _plain(
        [
            ("", False, None),
            ("", False, TIER_WIDTH),
            ("base", True, None),
            ("new", True, None),
            ("change", True, None),
            ("interval", True, None),
        ]
    )
    for tier in tiers:
        write = figures.seconds if tier.unit == "s" else figures.significant
        metric = tier.metric.removesuffix("_s") if tier.unit == "s" else tier.metric
        verdict = "no difference\nshown" if tier.verdict == "no difference shown" else tier.verdict
        words = [
            f"{visible(tier.tier)}\n{visible(metric)}",
            write(tier.base),
            write(tier.new),
            _change(tier.change_frac),
        ]
        cells = [*words, _interval(tier.low_frac, tier.high_frac)]
        table.add_row(
            Text(verdict, style=f"bold {_STYLES.get(tier.verdict, 'default')}"),
            *(Text(figures.ordinary_spaces(cell)) for cell in cells),
        )
    return table


def _table(title: str, rows: list[Difference]) -> Table:
    from rich.text import Text

    table = _plain(
        [
            ("", False, NAME_WIDTH),
            ("base", True, None),
            ("new", True, None),
            ("change", True, None),
            ("interval", True, None),
            ("of step", True, None),
            ("", False, None),
        ],
        title,
    )
    for row in rows[:MAX_ROWS]:
        cells = [
            shorten(visible(_name(row)), NAME_WIDTH),
            figures.seconds(row.base_s),
            figures.seconds(row.new_s),
            _change(row.change_frac),
            _interval(row.low_frac, row.high_frac),
            _change(row.step_frac),
            _SHORT.get(row.verdict or "", ""),
        ]
        style = _STYLES.get(row.verdict or "", "default")
        *words, verdict = (figures.ordinary_spaces(cell) for cell in cells)
        table.add_row(*(Text(cell) for cell in words), Text(verdict, style=style))
    return table


def _name(row: Difference) -> str:
    """Name a row: what renamed kernels do says more than how either is called."""
    role = (row.role or "").partition(",")[0]  # the sizes are in --json
    return role if role and row.match == "renamed" else row.name


def _weight(row: Difference) -> tuple[float, str]:
    change = row.step_frac if row.step_frac is not None else (row.new_s or 0.0) - (row.base_s or 0.0)
    return (-abs(change), row.name)


def _interval(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return figures.UNKNOWN
    return f"{_number(low)} to {_number(high)} %"


def _change(value: float | None) -> str:
    return figures.UNKNOWN if value is None else f"{_number(value)} %"


def _number(value: float) -> str:
    """Write a share in per cent, short enough for a column."""
    percent = value * 100
    return f"{percent:+.1f}" if abs(percent) < 1000 else f"{percent:+,.0f}"
