"""``report.md``: the answer first, fit for an issue or a chat, never too long for either."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Final

from rocscope.findings import Analysis, KernelFinding, Target
from rocscope.reports import (
    figures,
    power,
    serving,
    side_by_side,
    step_table,
    summary,
    timeline_words,
    token_budget,
)
from rocscope.reports.charts import shares
from rocscope.reports.text import clip, code, markdown, short_words, shorten, ticked

MAX_FAMILIES: Final = 12
MAX_TARGETS: Final = 5
MAX_KERNELS: Final = 10
MAX_MORE_KERNELS: Final = 15  # that are folded away
MAX_EVIDENCE: Final = 5
MAX_WARNINGS: Final = 10
MAX_UNJUDGED: Final = 12
MAX_SENTENCE: Final = 400  # characters; whole in analysis.json
MAX_BYTES: Final = 60_000  # an issue takes 65,536 characters, and something is written around a report
_WIDTH: Final = 72  # of the drawn timeline


class _Markdown:
    name = "markdown"
    help = "the answer first, for an issue or a chat"
    filename = "report.md"

    def render(self, analysis: Analysis) -> str:
        """Return the report as GitHub Markdown; text from the recording is escaped."""
        sections = {section: section(analysis) for section in _SECTIONS}
        return figures.ordinary_spaces(_fitted(_opening(analysis), sections)) + "\n"


def _fitted(opening: str, sections: dict[_Section, str]) -> str:
    """Join sections; of what would be too long the least needed are left out, which is said."""
    left_out = ""
    for first_to_go in (None, *_FIRST_TO_GO):
        if first_to_go is not None:
            sections[first_to_go] = ""
            left_out = "*Sections are left out that an issue could not hold: see `report.html`.*"
        text = "\n\n".join(part for part in (opening, *sections.values(), left_out) if part)
        if len(text.encode()) <= MAX_BYTES:
            break
    return text


def _opening(analysis: Analysis) -> str:
    lines = []
    if first := summary.provenance(analysis.capture):
        lines.append(f"> **{_said(first)}**")
    lines.append(f"## {_said(summary.headline(analysis))}")
    closing = [_said(summary.first_target(analysis)), _said(summary.how_sure(analysis))]
    lines.append(" ".join(sentence for sentence in closing if sentence))
    return "\n\n".join(lines)


def table(header: Sequence[str], rows: Iterable[Sequence[str]], right: int = 0) -> str:
    """Return a Markdown table; the last ``right`` columns are right-aligned."""
    rule = ["---"] * (len(header) - right) + ["--:"] * right
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [header, rule, *rows])


def _figures(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of one column of words and then figures."""
    return table(header, [[markdown(shorten(name, 60)), *cells] for name, *cells in rows], len(header) - 1)


def _said(text: str) -> str:
    return markdown(clip(text, MAX_SENTENCE))


def _listed(sentences: Iterable[str]) -> str:
    return "\n".join(f"- {_said(sentence)}" for sentence in sentences)


def _folded(title: str, body: str) -> str:
    """Put a long part behind a title that opens it; GitHub wants blank lines around Markdown in it."""
    return f"<details><summary>{title}</summary>\n\n{body}\n\n</details>"


def _section(title: str, *parts: str) -> str:
    return "\n\n".join([f"### {title}", *(part for part in parts if part)])


def _families(analysis: Analysis) -> str:
    if not summary.has_kernels(analysis):
        return ""
    rows = [
        [
            markdown(shorten(family.family, 60)),
            summary.verdict(family, "bound"),
            summary.verdict(family, "limiter"),
            figures.seconds(family.time_s),
            figures.percent(family.time_frac),
            figures.count(family.dispatches),
            figures.percent(family.bandwidth_frac),
        ]
        for family in analysis.families
    ]
    header = ["family", "bound", "limiter", "time", "share", "dispatches", "of bandwidth"]
    rest = len(rows) - MAX_FAMILIES
    more = f"{rest} smaller families left out." if rest > 0 else ""
    return _section("Where the time went", table(header, rows[:MAX_FAMILIES], right=4), more)


def _targets(analysis: Analysis) -> str:
    if not summary.has_kernels(analysis):
        return ""
    if not analysis.targets:
        return _section("What to change", "Nothing stands out: no target was found.")
    shown = analysis.targets[:MAX_TARGETS]
    more = len(analysis.targets) - MAX_TARGETS
    return _section(
        "What to change",
        "\n".join(_target(target) for target in shown),
        f"{more} more targets are in `analysis.json`." if more > 0 else "",
        _folded("What the gains rest on, and what would confirm them", "\n".join(map(_grounds, shown))),
    )


def _target(target: Target) -> str:
    named = target.kernel is None or target.kernel in target.problem
    where = "" if named else f" in {code(target.kernel or '')}"
    lines = [
        f"{target.rank}. **{_said(short_words(summary.problem(target), _WIDTH))}**{where}",
        f"   Expected gain {figures.gain(target.expected_gain)}, {target.confidence} confidence.",
    ]
    return "\n".join(
        [*lines, *([f"   Try: {_said(short_words(target.advice, _WIDTH))}"] if target.advice else [])]
    )


def _grounds(target: Target) -> str:
    lines = [
        f"{target.rank}. {figures.percent(target.time_frac)} of the time, headroom "
        f"{figures.seconds(target.headroom_s)}."
    ]
    if target.expected_gain is not None:
        lines.append(f"   - Basis: {_said(target.expected_gain.basis)}")
    lines += [f"   - {_said(each)}" for each in target.evidence[:MAX_EVIDENCE]]
    more = len(target.evidence) - MAX_EVIDENCE
    if more > 0:
        lines.append(f"   - {more} more in `analysis.json`")
    if target.confirm_by:
        lines.append(f"   - Confirm by: {_said(target.confirm_by)}")
    return "\n".join(lines)


def _budget(analysis: Analysis) -> str:
    if not token_budget.present(analysis):
        return ""
    shown = _figures([markdown(each) for each in token_budget.header(analysis)], token_budget.rows(analysis))
    told = [*token_budget.sentences(analysis), *token_budget.bytes_a_token(analysis)]
    return _section(token_budget.TITLE, shown, _listed(told))


def _phases(analysis: Analysis) -> str:
    """Return steps and tokens of each phase, where the budget does not have them."""
    if not analysis.phases or token_budget.present(analysis):
        return ""
    return _section("Phases", _figures(token_budget.STEPS_HEADER, token_budget.steps(analysis)))


def _step(analysis: Analysis) -> str:
    found = analysis.step_table
    if found is None:
        return _said(step_table.missing(analysis)) if summary.has_kernels(analysis) else ""
    layout = step_table.layout(found)
    header = [" ".join(part for part in heading if part) for heading in layout.header]
    shown = _figures([markdown(each) for each in header], layout.rows)
    said = " ".join(_said(sentence) for sentence in step_table.sentences(found))
    lead, kernels = step_table.kernels(found)
    named = "; ".join(f"{code(name, 72)} {spent}" for name, spent in kernels)
    body = f"{shown}\n\n{said}\n\n{markdown(lead)}: {named}."
    alone = len(found.ranks) == 1 and token_budget.present(analysis)  # it says the same of one kind of step
    title = step_table.title(found)
    return _folded(title, body) if alone else _section(title, body)


def _ranks(analysis: Analysis) -> str:
    if not side_by_side.present(analysis):
        return ""
    shown = _figures(side_by_side.HEADER, side_by_side.rows(analysis))
    return _section(
        side_by_side.TITLE, shown, markdown(side_by_side.NOTE), _listed(side_by_side.sentences(analysis))
    )


def _over_time(analysis: Analysis) -> str:
    if not timeline_words.present(analysis):
        return ""
    drawn = "\n".join(line.replace("`", "'") for line in timeline_words.lines(analysis, _WIDTH))
    return _section(
        timeline_words.TITLE, f"```text\n{drawn}\n```", _listed(timeline_words.sentences(analysis))
    )


def _kernels(analysis: Analysis) -> str:
    if not summary.has_kernels(analysis):
        return ""
    header = ["kernel", "shape", "family", "bound, limiter", "confidence", "occupancy"]
    header += ["dispatches", "mean", "share", "of bandwidth"]
    every = MAX_KERNELS + MAX_MORE_KERNELS
    shown, folded = analysis.kernels[:MAX_KERNELS], analysis.kernels[MAX_KERNELS:every]
    left = len(analysis.kernels) - every
    cells = partial(_kernel, shares.places(analysis))
    return _section(
        "Kernels",
        table(header, map(cells, shown), right=4),
        _folded(f"{len(folded)} more", table(header, map(cells, folded), right=4)) if folded else "",
        f"{left} more kernels are in `kernels.csv` and `analysis.json`." if left > 0 else "",
    )


def _kernel(places: Mapping[int, str], kernel: KernelFinding) -> list[str]:
    place = f", {places[kernel.gpu]}" if kernel.gpu in places else ""
    return [
        code(kernel.kernel, 48, in_table=True),
        markdown(clip(summary.shape(kernel), 100) + place),
        markdown(shorten(kernel.family, 60)),
        f"{kernel.bound}, {kernel.limiter}",
        kernel.confidence,
        markdown(clip(summary.occupancy(kernel), 60)),
        figures.count(kernel.dispatches),
        figures.nanoseconds(kernel.mean_ns),
        figures.percent(kernel.time_frac),
        figures.percent(kernel.bandwidth_frac),
    ]


def _serving(analysis: Analysis) -> str:
    if not serving.present(analysis):
        return ""
    listed = "\n".join(f"- {name}: {_said(text)}" for name, text in serving.facts(analysis))
    rows = serving.latencies(analysis)
    shown = _figures(serving.HEADER, rows) if rows else ""
    return _section(serving.TITLE, listed, shown, _listed(serving.sentences(analysis)))


def _power(analysis: Analysis) -> str:
    if not power.present(analysis):
        return ""
    parts = []
    for header, rows in (
        (power.HEADER, power.gpus(analysis)),
        (power.PROCESS_HEADER, power.processes(analysis)),
    ):
        if rows:
            parts.append(_figures(header, rows))
    parts.append(_listed(power.sentences(analysis)))
    return _folded(power.TITLE, "\n\n".join(part for part in parts if part))


def _integrity(analysis: Analysis) -> str:
    integrity = analysis.integrity
    lines = [
        f"- {figures.count(integrity.dispatches)} dispatches; labelled "
        f"{figures.percent(integrity.labelled_time_frac)}, classified "
        f"{figures.percent(integrity.classified_time_frac)} of kernel time"
    ]
    lines += [f"- left out: {figures.count(d.count)} ({_said(d.reason)})" for d in integrity.dropped]
    lines += [f"- {code(w.code)}: {_said(w.message)}" for w in integrity.warnings[:MAX_WARNINGS]]
    more = len(integrity.warnings) - MAX_WARNINGS
    if more > 0:
        lines.append(f"- {more} more warnings in `analysis.json`")
    return _section("Integrity", "\n".join(lines))


def _unjudged(analysis: Analysis) -> str:
    found = analysis.not_evaluated
    if not found:
        return ""
    lines = [
        f"- {code(each.rule)}: lacks {_said(each.missing)}; collect it with {ticked(each.collect_with, 100)}"
        for each in found[:MAX_UNJUDGED]
    ]
    more = len(found) - MAX_UNJUDGED
    if more > 0:
        lines.append(f"- {more} more in `analysis.json`")
    title = "1 rule" if len(found) == 1 else f"{len(found)} rules"
    return _folded(f"{title} could not be judged", "\n".join(lines))


def _measured(analysis: Analysis) -> str:
    by, *gpus = summary.measured(analysis)
    command = f"- command: {code(summary.command(analysis.capture), 200)}" if analysis.capture.command else ""
    lines = [_listed([by]), command, _listed(gpus)]
    return _section("How it was measured", "\n".join(line for line in lines if line))


_Section = Callable[[Analysis], str]
_SECTIONS: Final[tuple[_Section, ...]] = (
    _families,
    _targets,
    _budget,
    _phases,
    _step,
    _ranks,
    _over_time,
    _kernels,
    _serving,
    _power,
    _integrity,
    _measured,
    _unjudged,
)
_FIRST_TO_GO: Final[tuple[_Section, ...]] = (
    _unjudged,
    _power,
    _kernels,
    _step,
    _over_time,
    _serving,
    _ranks,
    _measured,
    _budget,
    _integrity,
    _targets,
)

REPORT = _Markdown()
