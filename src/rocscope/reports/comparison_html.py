"""``compare.html``: what changed, the verdict first, in one file that works offline, like ``report.html``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from rocscope.comparison.result import Comparison, Difference, Tier
from rocscope.reports import comparison_words as words
from rocscope.reports.charts import changes
from rocscope.reports.charts.changes import Change
from rocscope.reports.html import STYLES
from rocscope.reports.page import Page, Section
from rocscope.untrusted import visible

MAX_KERNELS: Final = 400
MAX_KERNELS_OF_OTHERS: Final = 40  # of each recording after the first
_SCRIPTS: Final = ("script/tables.js", "script/print.js")


@dataclass(frozen=True)
class Row:
    """A row of a table of changes: the difference, and where its interval is drawn."""

    it: Any
    drawn: changes.Drawn
    id: str = ""
    keys: dict[str, str] | None = None
    find: str = ""


class _ComparisonHtml:
    name = "html"
    help = "one self-contained page: verdicts with intervals, what changed, forecasts scored"
    filename = "compare.html"

    def render(self, comparison: Comparison) -> str:
        """Return the page; nothing in it is fetched, text from the recordings stays text."""
        whole = [comparison, *comparison.more]
        sections = [_answer(comparison)]
        for number, each in enumerate(whole):
            sections += _sections(each, number, several=len(whole) > 1)
        sections += [
            Section("method", "Method", "How it was compared", "method.html", {"whole": whole}),
            Section("glossary", "Glossary", "Glossary", "glossary.html"),
        ]
        return Page(
            title=words.headline(comparison),
            banner=words.banner(comparison),
            sections=sections,
            facts={"words": words, "glossary": words.GLOSSARY},
            charts={},
            scripts=_SCRIPTS,
            styles=(*STYLES, "style/comparison.css"),
            folder="comparison",
        ).text()


def _answer(comparison: Comparison) -> Section:
    facts = {"c": comparison, "whole": [comparison, *comparison.more]}
    return Section("answer", "Answer", words.headline(comparison), "answer.html", facts)


def _sections(comparison: Comparison, number: int, *, several: bool) -> list[Section]:
    """Return the sections of one pair; of several each names which."""
    tail = f"-{number}" if number else ""
    which = f", new {number + 1}" if several else ""
    found = [
        _tiers(comparison, tail, which),
        _reasons(comparison, tail, which),
        _parts(comparison, tail, which),
        _kernels(comparison, tail, which),
        _phases(comparison, tail, which),
        _forecasts(comparison, tail, which),
    ]
    return [section for section in found if section is not None]


def _tiers(comparison: Comparison, tail: str, which: str) -> Section | None:
    tiers = comparison.tiers
    if not tiers:
        return None
    groups: dict[str, list[Tier]] = {}
    for tier in tiers:
        groups.setdefault(words.metric(tier), []).append(tier)
    scale, drawn = changes.draw(
        [Change(t.change_frac, t.low_frac, t.high_frac, t.verdict, t.noise_floor_frac) for t in tiers]
    )
    by_tier = {id(tier): Row(tier, each) for tier, each in zip(tiers, drawn, strict=True)}
    facts = {
        "c": comparison,
        "groups": [(name, [by_tier[id(tier)] for tier in mine]) for name, mine in groups.items()],
        "scale": scale,
    }
    return Section(f"verdicts{tail}", f"Verdicts{which}", f"Verdicts{which}", "verdicts.html", facts)


def _reasons(comparison: Comparison, tail: str, which: str) -> Section | None:
    if not comparison.reasons:
        return None
    return Section(f"why{tail}", f"Why{which}", f"Why{which}", "why.html", {"c": comparison})


def _of_step(comparison: Comparison) -> bool:
    return comparison.times_of == "step"


def _rows(comparison: Comparison, rows: list[Difference]) -> tuple[changes.Scale, list[changes.Drawn]]:
    """Return where rows are drawn: of a step by their part in it, else by their own change."""
    if _of_step(comparison):
        return changes.draw([Change(r.step_frac, r.step_low_frac, r.step_high_frac, r.verdict) for r in rows])
    return changes.draw([Change(r.change_frac, r.low_frac, r.high_frac, r.verdict) for r in rows])


def _parts(comparison: Comparison, tail: str, which: str) -> Section | None:
    rows = words.parts(comparison)
    if not rows:
        return None
    scale, drawn = _rows(comparison, rows)
    facts = {
        "c": comparison,
        "rows": [Row(row, each) for row, each in zip(rows, drawn, strict=True)],
        "scale": scale,
        "of_step": _of_step(comparison),
    }
    title = f"What changed in a step{which}" if _of_step(comparison) else f"What changed{which}"
    return Section(f"families{tail}", f"Families{which}", title, "families.html", facts)


def _kernels(comparison: Comparison, tail: str, which: str) -> Section | None:
    most = MAX_KERNELS_OF_OTHERS if tail else MAX_KERNELS
    rows = sorted(comparison.kernels, key=lambda row: -words.weight(row))[:most]
    if not rows:
        return None
    scale, drawn = _rows(comparison, rows)
    facts = {
        "c": comparison,
        "tail": tail,
        "rows": [
            Row(row, each, f"kernel{tail}-{index}", _keys(row), _find(row))
            for index, (row, each) in enumerate(zip(rows, drawn, strict=True))
        ],
        "scale": scale,
        "of_step": _of_step(comparison),
        "choices": {
            "family": sorted({row.family for row in rows if row.family}),
            "verdict": sorted({str(row.verdict) for row in rows if row.verdict}),
            "match": sorted({str(row.match) for row in rows if row.match}),
        },
        "left_out": len(comparison.kernels) - len(rows),
    }
    return Section(f"kernels{tail}", f"Kernels{which}", f"Kernels{which}", "kernels.html", facts)


def _keys(row: Difference) -> dict[str, str]:
    known = {
        "effect": row.step_frac,
        "change": row.change_frac,
        "base": row.base_s,
        "new": row.new_s,
    }
    return {key: "" if value is None else repr(float(value)) for key, value in known.items()}


def _find(row: Difference) -> str:
    names = [row.name, *row.base_kernels, *row.new_kernels, row.role or "", words.own_shape(row)]
    return visible(" ".join(name[:300] for name in names)).lower()


def _phases(comparison: Comparison, tail: str, which: str) -> Section | None:
    rows = comparison.phases
    if not rows:
        return None
    scale, drawn = changes.draw([Change(r.change_frac, r.low_frac, r.high_frac, r.verdict) for r in rows])
    facts = {"rows": [Row(row, each) for row, each in zip(rows, drawn, strict=True)], "scale": scale}
    return Section(f"phases{tail}", f"Phases{which}", f"Phases, a step each{which}", "phases.html", facts)


def _forecasts(comparison: Comparison, tail: str, which: str) -> Section | None:
    rows = sorted(comparison.forecasts, key=lambda row: (row.tried is not True, row.hit is None))
    if not rows:
        return None
    promised = [Change(r.mid_frac, r.low_frac, r.high_frac) for r in rows]
    came = [Change(r.actual_frac, r.actual_low_frac, r.actual_high_frac) for r in rows]
    scale = changes.scale([*promised, *came])
    drawn = [(scale.draw(first), scale.draw(second)) for first, second in zip(promised, came, strict=True)]
    whole = [(row, *each) for row, each in zip(rows, drawn, strict=True)]
    facts = {
        "scored": [each for each in whole if each[0].tried],
        "others": [each for each in whole if not each[0].tried],
        "scale": scale,
    }
    title = f"Forecasts scored{which}"
    return Section(f"forecasts{tail}", f"Forecasts{which}", title, "forecasts.html", facts)


REPORT = _ComparisonHtml()
