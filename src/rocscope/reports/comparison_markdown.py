"""``compare.md``: a comparison for an issue or a chat, the verdict first."""

from __future__ import annotations

from typing import Final

from rocscope.comparison.result import Comparison, Difference
from rocscope.reports import comparison_rows as rows
from rocscope.reports import comparison_words as words
from rocscope.reports import figures
from rocscope.reports.comparison_rows import Table
from rocscope.reports.markdown import table
from rocscope.reports.text import clip, code, markdown

MAX_EVIDENCE: Final = 2
_WORDS: Final = 2  # columns that are words, from the left


class _ComparisonMarkdown:
    name = "markdown"
    help = "for an issue or a chat: verdicts, why, what changed, forecasts"
    filename = "compare.md"

    def render(self, comparison: Comparison) -> str:
        """Return the comparison as Markdown; text of the recordings can be no markup."""
        whole = [comparison, *comparison.more]
        lines = [f"> **{markdown(first)}**\n"] if (first := words.banner(comparison)) else []
        for number, each in enumerate(whole, 1):
            which = f"New {number} of {len(whole)}: " if len(whole) > 1 else ""
            lines += [f"## {which}{markdown(words.headline(each))}", "", *_pair(each)]
        return figures.ordinary_spaces("\n".join(lines).rstrip() + "\n")


def _pair(comparison: Comparison) -> list[str]:
    lines = [f"- {markdown(text)}" for text in rows.sides(comparison)]
    lines += [f"- **not comparable**: {markdown(text)}" for text in comparison.why_not]
    lines.append("")
    if sure := words.how_sure(comparison):
        lines += [markdown(sure), ""]
    if comparison.tiers:
        lines += _cells(rows.tiers(comparison))
    lines += _reasons(comparison)
    for found in (rows.families(comparison), rows.kernels(comparison), rows.phases(comparison)):
        lines += _titled(found)
    return [*lines, *_titled(rows.forecasts(comparison)), *_notes(comparison)]


def _titled(found: Table) -> list[str]:
    if not found.rows:
        return []
    return [f"### {found.title}", "", *_cells(found), *([f"{found.more}.", ""] if found.more else [])]


def _cells(found: Table) -> list[str]:
    names = map(_kernel, found.of) if found.header[0] == "kernel" else [_name(row[0]) for row in found.rows]
    told = [
        [
            shown,
            f"**{verdict}**" if verdict in ("better", "worse") and not found.of else verdict,
            *(cells if found.of else map(markdown, cells)),  # a unit is text of a recording
        ]
        for shown, (_, verdict, *cells) in zip(names, found.rows, strict=True)
    ]
    return [table(found.header, told, right=len(found.header) - _WORDS), ""]


def _name(text: str) -> str:
    return markdown(clip(text, 120))


def _kernel(row: Difference) -> str:
    """Return a kernel with what tells it from others of its name: its shape, or what it does in a step."""
    apart = words.own_shape(row) or row.role or ""
    return " ".join((code(row.name, 60, in_table=True), markdown(clip(apart, 80)))).strip()


def _reasons(comparison: Comparison) -> list[str]:
    if not comparison.reasons:
        return []
    lines = ["### Why", ""]
    for reason in comparison.reasons[: rows.MAX_REASONS]:
        lines.append(f"- **{markdown(reason.about)}** ({reason.basis}): {markdown(reason.text)}")
        lines += [f"  - {markdown(clip(each, 200))}" for each in reason.evidence[:MAX_EVIDENCE]]
        if (more := len(reason.evidence) - MAX_EVIDENCE) > 0:
            lines.append(f"  - {more} more in `compare.json`")
    more = len(comparison.reasons) - rows.MAX_REASONS
    return [*lines, *([f"- {more} more in `compare.json`"] if more > 0 else []), ""]


def _notes(comparison: Comparison) -> list[str]:
    if not comparison.notes:
        return []
    return ["### Notes", "", *(f"- {markdown(note)}" for note in comparison.notes), ""]


REPORT = _ComparisonMarkdown()
