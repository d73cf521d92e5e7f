"""One step by family in words and cells, the same for every report; up to four ranks have a column each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from rocscope.findings import Analysis, StepRank, StepTable
from rocscope.reports import figures

MAX_COLUMNS: Final = 4  # ranks with a column of their own; of more, the least, the mean and the most
MAX_KERNELS: Final = 6


@dataclass(frozen=True)
class Layout:
    """Cells of the table; the first column is text, the others are figures."""

    header: list[tuple[str, str]]  # what, and its unit
    rows: list[list[str]]  # a family each, then all kernels, then calls


def title(table: StepTable) -> str:
    """Return the heading, which claims decode only where that is known."""
    return f"One {'decode step' if table.phase == 'decode' else 'step'}, by family"


def layout(table: StepTable) -> Layout:
    """Return the table's cells. A rank that runs none of a family has 0, which was measured."""
    several = len(table.ranks) > 1
    rows = [
        [
            family.family,
            *_times(family.time_s, family.mean_s),
            figures.percent(family.time_frac),
            *([figures.percent(family.spread_frac)] if several else []),
        ]
        for family in table.families
    ]
    end = [figures.percent(table.spread_frac)] if several else []
    whole = [each.kernel_s for each in table.ranks]
    calls = [each.calls for each in table.ranks]
    mean_calls = sum(calls) / len(calls)
    rows.append(["all kernels", *_times(whole, table.mean_s), figures.percent(1.0), *end])
    rows.append(
        ["calls (count)", *_side_by_side([_calls(each) for each in calls], calls, _calls(mean_calls)), ""]
        + ([figures.percent(_spread(calls))] if several else [])
    )
    if len(table.ranks) > MAX_COLUMNS:
        sides = [("least", "ms"), ("mean", "ms"), ("most", "ms")]
    else:
        sides = [(each.label, "ms") for each in table.ranks] + ([("mean", "ms")] if several else [])
    return Layout(
        [("bucket", ""), *sides, ("%", "of step"), *([("spread", "of ranks")] if several else [])], rows
    )


def _times(values: list[float], mean: float) -> list[str]:
    return _side_by_side([figures.milliseconds(each) for each in values], values, figures.milliseconds(mean))


def _side_by_side(shown: list[str], values: list[float], mean: str) -> list[str]:
    if len(values) == 1:
        return shown
    if len(values) <= MAX_COLUMNS:
        return [*shown, mean]
    return [shown[values.index(min(values))], mean, shown[values.index(max(values))]]


def _spread(values: list[float]) -> float | None:
    return (max(values) - min(values)) / max(values) if max(values) > 0 else None


def _calls(value: float) -> str:
    whole = value >= 100 or abs(value - round(value)) < 0.005
    return figures.count(value) if whole else figures.significant(value)


def sentences(table: StepTable) -> list[str]:
    """Return what is said of the table: kernel time a step, how steps are told, what it reconciles with."""
    spent = f"{figures.milliseconds(table.mean_s)}{figures.NBSP}ms of kernel time a step"
    ranks = table.ranks
    if len(ranks) > 1:
        word = "GPUs" if ranks[0].rank is None else "ranks"
        spent = f"mean of {len(ranks)} {word}, {spent}; {word} within {figures.percent(table.spread_frac)}"
    if len(ranks) > MAX_COLUMNS:
        least, most = (pick(ranks, key=lambda each: each.kernel_s) for pick in (min, max))
        spent += f", from {_own(least)} to {_own(most)}"
    counts = sorted({each.steps for each in ranks})
    steps = f"{figures.count(counts[0])}" + (f" to {figures.count(counts[-1])}" if len(counts) > 1 else "")
    told = f"how steps are told: {table.found_by}; {steps} whole step{'' if counts == [1] else 's'}"
    if len(ranks) > 1:
        told += " each"
    return [_sentence(each) for each in (spent, told, table.reconciliation, *table.notes)]


def _own(rank: StepRank) -> str:
    return f"{figures.milliseconds(rank.kernel_s)}{figures.NBSP}ms on {rank.label}"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def kernels(table: StepTable) -> tuple[str, list[tuple[str, str]]]:
    """Return a lead-in, and the top kernels of one rank: name, and calls a step x mean."""
    return (
        f"Top kernels of {table.kernels_of}, calls a step × mean time",
        [
            (
                each.kernel,
                f"{_calls(each.calls)} call{'' if each.calls == 1 else 's'} × {figures.seconds(each.mean_s)}",
            )
            for each in table.kernels[:MAX_KERNELS]
        ],
    )


def missing(analysis: Analysis) -> str:
    """Return why there is no table, or ``""`` where there is one or nothing is known of it."""
    if analysis.step_table is not None or not analysis.step_table_missing:
        return ""
    return f"One step by family is not shown: {analysis.step_table_missing}."
