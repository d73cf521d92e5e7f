"""``compare.md``: a comparison for an issue or a chat, the verdict first."""

from __future__ import annotations

from typing import Final

from rocscope.comparison.result import Comparison, Difference
from rocscope.reports import comparison_words as words
from rocscope.reports import figures
from rocscope.reports.text import clip, code, markdown

MAX_ROWS: Final = 12
MAX_REASONS: Final = 6
MAX_EVIDENCE: Final = 2


class _ComparisonMarkdown:
    name = "markdown"
    help = "for an issue or a chat: verdicts, why, what changed, forecasts"
    filename = "compare.md"

    def render(self, comparison: Comparison) -> str:
        """Return the comparison as Markdown; text of the recordings can be no markup."""
        whole = [comparison, *comparison.more]
        lines = [f"## {markdown(words.headline(comparison))}", ""]
        for number, each in enumerate(whole):
            if len(whole) > 1:
                lines += [f"## New {number + 1}: {markdown(words.headline(each))}", ""] if number else []
            lines += _pair(each)
        return figures.ordinary_spaces("\n".join(lines).rstrip() + "\n")


def _pair(comparison: Comparison) -> list[str]:
    lines = [f"- {name}: {markdown(text)}" for name, text in words.sides(comparison)]
    lines += [f"- changed on purpose: {markdown(text)}" for text in comparison.across]
    lines += [f"- also differs: {markdown(text)}" for text in comparison.differs]
    lines += [f"- **not comparable**: {markdown(text)}" for text in comparison.why_not]
    lines.append("")
    if sure := words.how_sure(comparison):
        lines += [markdown(sure), ""]
    for part in (_tiers, _reasons, _families, _kernels, _phases, _forecasts, _notes):
        lines += part(comparison)
    return lines


def _table(header: list[str], rows: list[list[str]], words_first: int = 1) -> list[str]:
    rule = ["---"] * words_first + ["--:"] * (len(header) - words_first)
    return [f"| {' | '.join(cells)} |" for cells in (header, rule, *rows)] + [""]


def _tiers(comparison: Comparison) -> list[str]:
    if not comparison.tiers:
        return []
    rows = [
        [
            markdown(f"{tier.tier}: {words.metric(tier)}"),
            f"**{tier.verdict}**" if tier.verdict != "no difference shown" else tier.verdict,
            markdown(words.amount(tier.base, tier.unit)),
            markdown(words.amount(tier.new, tier.unit)),
            figures.change(tier.change_frac),
            words.interval(tier.low_frac, tier.high_frac),
        ]
        for tier in comparison.tiers
    ]
    return _table(["figure", "verdict", "base", "new", "change", "interval"], rows, 2)


def _reasons(comparison: Comparison) -> list[str]:
    if not comparison.reasons:
        return []
    lines = ["### Why", ""]
    for reason in comparison.reasons[:MAX_REASONS]:
        lines.append(f"- **{markdown(reason.about)}** ({reason.basis}): {markdown(reason.text)}")
        lines += [f"  - {markdown(clip(each, 200))}" for each in reason.evidence[:MAX_EVIDENCE]]
    return [*lines, ""]


def _families(comparison: Comparison) -> list[str]:
    rows = words.parts(comparison)
    if not rows:
        return []
    title = "What changed in a step" if comparison.times_of == "step" else "What changed"
    return [f"### {title}", "", *_changes("family", rows, comparison)]


def _kernels(comparison: Comparison) -> list[str]:
    rows = sorted(comparison.kernels, key=lambda row: -words.weight(row))
    if not rows:
        return []
    return ["### Kernels", "", *_changes("kernel", rows, comparison)]


def _changes(what: str, rows: list[Difference], comparison: Comparison) -> list[str]:
    of_step = comparison.times_of == "step"
    header = [what, "verdict", "base", "new", "change", *(["of a base step"] if of_step else [])]
    told = [
        [
            code(words.part(row), 60, in_table=True) if what == "kernel" else markdown(words.part(row)),
            row.verdict or words.went(row) or "not judged",
            figures.seconds(row.base_s),
            figures.seconds(row.new_s),
            figures.change(row.change_frac),
            *([figures.change(row.step_frac)] if of_step else []),
        ]
        for row in rows[:MAX_ROWS]
    ]
    more = len(rows) - len(told)
    rest = [f"{figures.count(more)} more changed less.", ""] if more > 0 else []
    return [*_table(header, told, 2), *rest]


def _phases(comparison: Comparison) -> list[str]:
    if not comparison.phases:
        return []
    rows = [
        [
            markdown(row.name),
            row.verdict or words.went(row) or "not judged",
            figures.seconds(row.base_s),
            figures.seconds(row.new_s),
            figures.change(row.change_frac),
            words.interval(row.low_frac, row.high_frac),
        ]
        for row in comparison.phases
    ]
    header = ["phase", "verdict", "base", "new", "change", "interval"]
    return ["### Phases, a step each", "", *_table(header, rows, 2)]


def _forecasts(comparison: Comparison) -> list[str]:
    scored = [each for each in comparison.forecasts if each.tried]
    if not scored:
        return []
    rows = [
        [
            markdown(clip(each.problem or each.kernel or each.target_id, 120)),
            words.forecast_verdict(each),
            figures.percent_range(each.low_frac, each.high_frac),
            figures.percent(each.actual_frac),
        ]
        for each in scored
    ]
    return ["### Forecasts scored", "", *_table(["target", "outcome", "forecast", "came"], rows, 2)]


def _notes(comparison: Comparison) -> list[str]:
    if not comparison.notes:
        return []
    return ["### Notes", "", *(f"- {markdown(note)}" for note in comparison.notes), ""]


COMPARISON_MARKDOWN = _ComparisonMarkdown()


def render(comparison: Comparison) -> str:
    """Return ``compare.md``."""
    return COMPARISON_MARKDOWN.render(comparison)
