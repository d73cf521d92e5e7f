"""``report.md``: the answer first, fit for an issue or a chat."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from rocscope.findings import Analysis, Target
from rocscope.reports import figures, phases, power, serving, step_table, summary
from rocscope.reports.text import clip, code, markdown, shorten

MAX_FAMILIES: Final = 12
MAX_TARGETS: Final = 5
MAX_KERNELS: Final = 15
MAX_EVIDENCE: Final = 3
MAX_WARNINGS: Final = 10
MAX_SENTENCE: Final = 220  # characters; whole in analysis.json


class _Markdown:
    name = "markdown"
    help = "the answer first, for an issue or a chat"
    filename = "report.md"

    def render(self, analysis: Analysis) -> str:
        """Return the report as GitHub Markdown; text from the recording is escaped."""
        parts = [_opening(analysis)]
        if summary.has_kernels(analysis):
            parts += [_families(analysis), _step(analysis), _targets(analysis), _kernels(analysis)]
        parts += [
            _phases(analysis),
            _serving(analysis),
            _power(analysis),
            _integrity(analysis),
            _measured(analysis),
        ]
        text = "\n\n".join(part for part in parts if part)
        return figures.ordinary_spaces(text) + "\n"


def _opening(analysis: Analysis) -> str:
    lines = []
    if first := summary.provenance(analysis.capture):
        lines.append(f"> **{markdown(first)}**")
    lines.append(f"## {markdown(summary.headline(analysis))}")
    closing = [markdown(summary.first_target(analysis)), markdown(summary.how_sure(analysis))]
    lines.append(" ".join(sentence for sentence in closing if sentence))
    return "\n\n".join(lines)


def table(header: Sequence[str], rows: Iterable[Sequence[str]], right: int = 0) -> str:
    """Return a Markdown table; the last ``right`` columns are right-aligned."""
    rule = ["---"] * (len(header) - right) + ["--:"] * right
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [header, rule, *rows])


def _more(shown: int, total: int, what: str) -> str:
    return (
        f"\n\n{total - shown} more {what} are in `kernels.csv` and `analysis.json`." if total > shown else ""
    )


def _families(analysis: Analysis) -> str:
    rows = [
        [
            markdown(family.family),
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
    shown = table(header, rows[:MAX_FAMILIES], right=4)
    rest = len(rows) - MAX_FAMILIES
    return f"### Where the time went\n\n{shown}" + (
        f"\n\n{rest} smaller families left out." if rest > 0 else ""
    )


def _step(analysis: Analysis) -> str:
    found = analysis.step_table
    if found is None:
        return markdown(step_table.missing(analysis))
    layout = step_table.layout(found)
    rows = [[markdown(name), *cells] for name, *cells in layout.rows]
    header = [" ".join(part for part in heading if part) for heading in layout.header]
    shown = table(header, rows, right=len(header) - 1)
    said = " ".join(markdown(sentence) for sentence in step_table.sentences(found))
    lead, kernels = step_table.kernels(found)
    named = "; ".join(f"{code(name, 72)} {spent}" for name, spent in kernels)
    return f"### {step_table.title(found)}\n\n{shown}\n\n{said}\n\n{lead}: {named}."


def _targets(analysis: Analysis) -> str:
    if not analysis.targets:
        return "### What to change\n\nNothing stands out: no target was found."
    blocks = [_target(target) for target in analysis.targets[:MAX_TARGETS]]
    more = len(analysis.targets) - MAX_TARGETS
    tail = f"\n\n{more} more targets are in `analysis.json`." if more > 0 else ""
    return "### What to change\n\n" + "\n".join(blocks) + tail


def _target(target: Target) -> str:
    named = target.kernel is None or target.kernel in target.problem
    where = "" if named else f" in {code(target.kernel or '')}"
    lines = [
        f"{target.rank}. **{markdown(target.problem)}**{where}",
        f"   Expected gain {figures.gain(target.expected_gain)}, confidence {target.confidence}; "
        f"{figures.percent(target.time_frac)} of the time, headroom {figures.seconds(target.headroom_s)}.",
    ]
    if target.expected_gain is not None:
        lines.append(f"   Basis: {markdown(clip(target.expected_gain.basis, MAX_SENTENCE))}")
    lines += [f"   - {markdown(clip(each, MAX_SENTENCE))}" for each in target.evidence[:MAX_EVIDENCE]]
    if target.advice:
        lines.append(f"   - Try: {markdown(target.advice)}")
    if target.confirm_by:
        lines.append(f"   - Confirm by: {markdown(target.confirm_by)}")
    return "\n".join(lines)


def _kernels(analysis: Analysis) -> str:
    rows = [
        [
            code(kernel.kernel, 48, in_table=True),
            markdown(summary.shape(kernel)),
            markdown(kernel.family),
            kernel.bound,
            kernel.limiter,
            kernel.confidence,
            figures.count(kernel.dispatches),
            figures.nanoseconds(kernel.mean_ns),
            figures.percent(kernel.time_frac),
            figures.percent(kernel.bandwidth_frac),
        ]
        for kernel in analysis.kernels[:MAX_KERNELS]
    ]
    header = ["kernel", "shape", "family", "bound", "limiter", "confidence"]
    header += ["dispatches", "mean", "share", "of bandwidth"]
    more = _more(len(rows), len(analysis.kernels), "kernels")
    return f"### Kernels\n\n{table(header, rows, right=4)}{more}"


def _phases(analysis: Analysis) -> str:
    rows = [[markdown(name), *cells] for name, *cells in phases.rows(analysis)]
    if not rows:
        return ""
    shown = table(["phase", "steps", "tokens", "time", "a token"], rows, right=4)
    said = " ".join(markdown(sentence) for sentence in phases.sentences(analysis))
    return f"### Phases\n\n{shown}" + (f"\n\n{said}" if said else "")


def _serving(analysis: Analysis) -> str:
    if not serving.present(analysis):
        return ""
    listed = "\n".join(f"- {name}: {markdown(text)}" for name, text in serving.facts(analysis))
    rows = serving.latencies(analysis)
    shown = table(serving.HEADER, rows, right=len(serving.HEADER) - 1) if rows else ""
    said = "\n".join(f"- {markdown(sentence)}" for sentence in serving.sentences(analysis))
    return "\n\n".join(part for part in (f"### {serving.TITLE}", listed, shown, said) if part)


def _power(analysis: Analysis) -> str:
    if not power.present(analysis):
        return ""
    parts = [f"### {power.TITLE}"]
    for header, rows in (
        (power.HEADER, power.gpus(analysis)),
        (power.PROCESS_HEADER, power.processes(analysis)),
    ):
        if rows:
            cells = [[markdown(shorten(row[0], 60)), *row[1:]] for row in rows]
            parts.append(table(header, cells, right=len(header) - 1))
    parts.append("\n".join(f"- {markdown(sentence)}" for sentence in power.sentences(analysis)))
    return "\n\n".join(part for part in parts if part)


def _integrity(analysis: Analysis) -> str:
    integrity = analysis.integrity
    lines = [
        f"- {figures.count(integrity.dispatches)} dispatches; labelled "
        f"{figures.percent(integrity.labelled_time_frac)}, classified "
        f"{figures.percent(integrity.classified_time_frac)} of kernel time"
    ]
    lines += [f"- left out: {figures.count(d.count)} ({markdown(d.reason)})" for d in integrity.dropped]
    lines += [f"- {code(w.code)}: {markdown(w.message)}" for w in integrity.warnings[:MAX_WARNINGS]]
    more = len(integrity.warnings) - MAX_WARNINGS
    if more > 0:
        lines.append(f"- {more} more warnings in `analysis.json`")
    return "### Integrity\n\n" + "\n".join(lines)


def _known(*parts: str | None) -> str:
    return markdown(" ".join(part for part in parts if part))


def _measured(analysis: Analysis) -> str:
    capture = analysis.capture
    lines = [f"- {_known(capture.profiler, capture.profiler_version)}, {capture.provenance}"]
    if capture.command:
        lines.append(f"- command: {code(summary.command(capture), 200)}")
    lines += [
        f"- GPU {gpu.gpu}: {_known(gpu.model or 'unknown model', gpu.arch)}, busy "
        f"{figures.seconds(gpu.busy_s)} of {figures.seconds(gpu.wall_s)} ({figures.percent(gpu.busy_frac)})"
        for gpu in analysis.gpus
    ]
    return "### How it was measured\n\n" + "\n".join(lines)


REPORT = _Markdown()
