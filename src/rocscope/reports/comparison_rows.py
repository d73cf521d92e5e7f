"""Tables of a comparison as cells, the same for Markdown and for a terminal; the first cell names the row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rocscope.comparison.result import Comparison, Difference
from rocscope.reports import comparison_words as words
from rocscope.reports import figures

MAX_ROWS: Final = 12
MAX_REASONS: Final = 10
VERDICT: Final = "verdict"
INTERVAL: Final = "interval"
OF_STEP: Final = "of a base step"
_CHANGE: Final = (VERDICT, "base", "new", "change", INTERVAL)


@dataclass(frozen=True)
class Table:
    """A table without the rows that changed least."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    of: Sequence[Difference] = ()  # what each row tells of
    more: str = ""  # what is left out, in words


def tiers(comparison: Comparison) -> Table:
    """Return each tier's verdict, its figure on either side, and the change with its interval."""
    rows = [
        [
            f"{tier.tier}: {words.metric(tier)}",
            tier.verdict,
            words.amount(tier.base, tier.unit),
            words.amount(tier.new, tier.unit),
            figures.change(tier.change_frac),
            words.interval(tier.low_frac, tier.high_frac),
        ]
        for tier in comparison.tiers
    ]
    return Table("Verdicts", ("figure", *_CHANGE), rows)


def families(comparison: Comparison) -> Table:
    """Return the families, with what is left of a step between kernels."""
    title = "What changed in a step" if comparison.times_of == "step" else "What changed"
    return _table(title, "family", words.parts(comparison), of_step=comparison.times_of == "step")


def kernels(comparison: Comparison) -> Table:
    """Return the kernels, what changed most first."""
    rows = sorted(comparison.kernels, key=lambda row: (-words.weight(row), row.name))
    return _table("Kernels", "kernel", rows, of_step=comparison.times_of == "step")


def phases(comparison: Comparison) -> Table:
    """Return the phases, a step of each."""
    return _table("Phases, a step each", "phase", comparison.phases, of_step=False)


def forecasts(comparison: Comparison) -> Table:
    """Return what was forecast of the targets that were tried, and what came."""
    rows = [
        [
            words.promised(each),
            words.forecast_verdict(each),
            figures.percent_range(each.low_frac, each.high_frac),
            figures.percent(each.actual_frac),
        ]
        for each in comparison.forecasts
        if each.tried
    ]
    return Table("Forecasts scored", ("target", "outcome", "forecast", "came"), rows)


def reasons(comparison: Comparison) -> list[str]:
    """Return why, a sentence each with what it is about and its basis, and how many more there are."""
    told = comparison.reasons
    lines = [f"{each.about} ({each.basis}): {each.text}" for each in told[:MAX_REASONS]]
    more = len(told) - MAX_REASONS
    return [*lines, *([f"{more} more in compare.json"] if more > 0 else [])]


def sides(comparison: Comparison) -> list[str]:
    """Return the two recordings, what differs between them, and why they do not compare, a line each."""
    lines = [f"{name}: {text}" for name, text in words.sides(comparison)]
    lines += [f"changed on purpose: {text}" for text in comparison.across]
    return lines + [f"also differs: {text}" for text in comparison.differs]


def _table(title: str, what: str, found: Sequence[Difference], *, of_step: bool) -> Table:
    shown = found[:MAX_ROWS]
    rows = [
        [
            words.part(row),
            row.verdict or words.went(row) or "not judged",
            figures.seconds(row.base_s),
            figures.seconds(row.new_s),
            figures.change(row.change_frac),
            words.interval(row.low_frac, row.high_frac),
            *([figures.change(row.step_frac)] if of_step else []),
        ]
        for row in shown
    ]
    more = len(found) - len(shown)
    left = f"{figures.count(more)} more changed less; they are in compare.json" if more > 0 else ""
    return Table(title, (what, *_CHANGE, *([OF_STEP] if of_step else [])), rows, shown, left)
