"""``report.html``: one file that works offline, the answer first, under a strict content policy."""

from __future__ import annotations

from typing import Any, Final

from rocscope.findings import Analysis
from rocscope.reports import (
    kernel_rows,
    phases,
    power,
    serving,
    step_table,
    summary,
    timeline_table,
    token_budget,
)
from rocscope.reports.charts import gains, occupancy, ranks, roofline, shares, timeline
from rocscope.reports.page import Page, Section

STYLES: Final = (
    "style/base.css",
    "style/parts.css",
    "style/sections.css",
    "style/narrow.css",
    "style/print.css",
)
_SCRIPTS: Final = ("script/tables.js", "script/charts.js", "script/print.js")


class _Html:
    name = "html"
    help = "one self-contained page: charts, tables with search and filters, works offline"
    filename = "report.html"

    def render(self, analysis: Analysis) -> str:
        """Return the page; nothing in it is fetched, text from the recording stays text."""
        charts = {}
        if (roofs := roofline.figure(analysis)) is not None:
            charts["roofline-chart"] = roofs.json()
        if analysis.timeline is not None and (window := timeline.figure(analysis.timeline)) is not None:
            charts["timeline-chart"] = window.json()
        page = Page(
            title=summary.headline(analysis),
            banner=summary.provenance(analysis.capture),
            sections=_sections(analysis, charts),
            facts={
                "analysis": analysis,
                "summary": summary,
                "idle": shares.IDLE,
                "glossary": summary.GLOSSARY,
            },
            charts=charts,
            scripts=_SCRIPTS,
            styles=STYLES,
        )
        return page.text()


def _sections(analysis: Analysis, charts: dict[str, str]) -> list[Section]:
    """Return the page from top to bottom; a section without data is absent."""
    found = [_answer(analysis), _time(analysis), _budget(analysis)]
    if "roofline-chart" in charts:
        found.append(_roofline(analysis))
    found += [_targets(analysis), _kernels(analysis)]
    if "timeline-chart" in charts:
        found.append(_timeline(analysis))
    found += [_ranks(analysis), _occupancy(analysis), _serving(analysis), _power(analysis)]
    found += [
        Section("integrity", "Integrity", "How sure this is", "integrity.html"),
        Section("measured", "Method", "How it was measured", "measured.html"),
        Section("glossary", "Glossary", "Glossary", "glossary.html"),
    ]
    return [section for section in found if section is not None]


def _answer(analysis: Analysis) -> Section:
    first = next((t for t in sorted(analysis.targets, key=lambda t: t.rank) if t.expected_gain), None)
    timed = [family for family in analysis.families if family.time_frac is not None]
    longest = sorted(timed, key=lambda family: -(family.time_frac or 0.0))
    facts = {
        "first_target": first,
        "top_family": longest[0] if longest else None,
        "next_families": longest[1:4],
    }
    return Section("answer", "Answer", summary.headline(analysis), "answer.html", facts)


def _time(analysis: Analysis) -> Section | None:
    if not analysis.families:
        return None
    longest = max((f.time_frac or 0.0 for f in analysis.families), default=0.0) or 1.0
    return Section("time", "Time", "Where the time went", "time.html", {"longest": longest})


def _budget(analysis: Analysis) -> Section | None:
    """Return what a token costs by phase; of a recording without phases one step."""
    bars = shares.budget(analysis)
    table = analysis.step_table if analysis.kernels else None
    alone = table is not None and len(table.ranks) == 1
    missing = step_table.missing(analysis) if analysis.kernels else ""
    if not bars and not alone and not analysis.phases and not missing:
        return None
    steps = shares.step(table) if table is not None and alone else []
    facts = {
        "bars": bars,
        "matrix": phases.matrix(analysis),
        "token_budget": token_budget,
        "step": table if alone else None,
        "step_bars": steps,
        "step_table": step_table,
        "missing": missing,
    }
    title = "What a token costs" if bars else "What a step costs"
    return Section("budget", "Token", title, "budget.html", facts)


def _roofline(analysis: Analysis) -> Section:
    facts = {
        "slopes": roofline.roofline_slopes(analysis),
        "unplaced": roofline.unplaced(analysis),
        "reached": next((gpu for gpu in analysis.gpus if gpu.achievable_bandwidth_bytes_per_s), None),
    }
    return Section("roofline", "Roofline", "Roofline", "roofline.html", facts)


def _targets(analysis: Analysis) -> Section | None:
    if not analysis.kernels:
        return None
    scale = gains.scale(analysis)
    rows = [(target, gains.interval(target.expected_gain, scale)) for target in analysis.targets]
    return Section("targets", "Targets", "What to change", "targets.html", {"targets": rows, "scale": scale})


def _kernels(analysis: Analysis) -> Section | None:
    shown = kernel_rows.rows(analysis)
    if not shown:
        return None
    facts: dict[str, Any] = {
        "rows": shown,
        "choices": kernel_rows.choices(shown),
        "left_out": kernel_rows.left_out(analysis),
        "limits": kernel_rows,
    }
    return Section("kernels", "Kernels", "Kernels", "kernels.html", facts)


def _timeline(analysis: Analysis) -> Section:
    found = analysis.timeline
    assert found is not None  # noqa: S101  # the chart was made of it; for the type checker
    facts = {"timeline": found, "height_px": timeline.height_px(found), "rows": timeline_table}
    return Section("timeline", "Timeline", "Timeline", "timeline.html", facts)


def _ranks(analysis: Analysis) -> Section | None:
    found = ranks.compare(analysis)
    if found is None:
        return None
    return Section("ranks", "Ranks", found.title, "ranks.html", {"ranks": found, "step_table": step_table})


def _occupancy(analysis: Analysis) -> Section | None:
    rows = occupancy.rows(analysis)
    if not rows:
        return None
    facts = {"rows": rows, "achieved": occupancy.achieved(analysis), "places": shares.places(analysis)}
    return Section("occupancy", "Occupancy", "Occupancy", "occupancy.html", facts)


def _serving(analysis: Analysis) -> Section | None:
    if not serving.present(analysis):
        return None
    return Section("serving", "Serving", serving.TITLE, "serving.html", {"serving": serving})


def _power(analysis: Analysis) -> Section | None:
    if not power.present(analysis):
        return None
    return Section("power", "Power", power.TITLE, "power.html", {"power": power})


REPORT = _Html()
