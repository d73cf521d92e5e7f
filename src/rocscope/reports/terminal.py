"""The report for a terminal: fits 80 columns and fewer, coloured only where a terminal takes colours."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from rocscope.findings import Analysis, KernelFinding
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
from rocscope.reports import terminal_parts as draw
from rocscope.reports.charts import shares
from rocscope.reports.terminal_table import Column
from rocscope.reports.text import short_words, shorten
from rocscope.untrusted import visible

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

MAX_FAMILIES: Final = 12
MAX_KERNELS: Final = 12
MAX_TARGETS: Final = 5
MAX_WARNINGS: Final = 8


class _Terminal:
    name = "terminal"
    help = "tables of 80 columns, plain where written to a file"
    filename = "report.txt"

    def render(self, analysis: Analysis) -> str:
        """Return the report as plain text of at most 80 columns."""
        return draw.rendered(partial(_parts, analysis))


def show(analysis: Analysis, console: Console | None = None) -> None:
    """Print the report to ``console``, by default standard output."""
    draw.show(partial(_parts, analysis), console)


def _parts(analysis: Analysis, width: int) -> draw.Parts:
    """Return the answer, then what it rests on, each section with a blank line after it."""
    parts: draw.Parts = []
    if first := summary.provenance(analysis.capture):
        parts.append(draw.text(first, "bold yellow"))
    parts.append(draw.text(summary.headline(analysis), "bold"))
    if first := summary.first_target(analysis):
        parts.append(draw.text(first))
    parts += [draw.text(summary.how_sure(analysis)), ""]
    if summary.has_kernels(analysis):
        parts += [
            *_families(analysis, width),
            "",
            *_targets(analysis, width),
            "",
            *_budget(analysis, width),
            *_step(analysis, width),
            *_side_by_side(analysis, width),
            *_over_time(analysis, width),
            *_kernels(analysis, width),
            "",
        ]
    parts += [*_phases(analysis, width), *_serving(analysis, width), *_power(analysis, width)]
    return [*parts, *_integrity(analysis), *_measured(analysis)]


def _families(analysis: Analysis, width: int) -> draw.Parts:
    header = [
        Column("family", figure=False, whole=True),
        *(Column(name) for name in ("time", "share")),
        Column("of bw", keep=1),
        *(Column(name, figure=False) for name in ("bound", "limiter")),
    ]
    rows = [
        [
            family.family,
            figures.seconds(family.time_s),
            figures.percent(family.time_frac),
            figures.percent(family.bandwidth_frac),
            summary.verdict(family, "bound"),
            summary.verdict(family, "limiter"),
        ]
        for family in analysis.families[:MAX_FAMILIES]
    ]
    rest = len(analysis.families) - MAX_FAMILIES
    more = f"{rest} smaller families left out" if rest > 0 else ""
    return draw.table("Where the time went", header, rows, width, more)


def _budget(analysis: Analysis, width: int) -> draw.Parts:
    if not token_budget.present(analysis):
        return []
    header = token_budget.header(analysis)
    keep = [0, *(1 if name == token_budget.SHARE else 0 for name in header[1:])]
    columns = draw.columns(header, keep=keep)
    table = draw.table(token_budget.TITLE, columns, token_budget.rows(analysis), width)
    return [
        *table,
        *draw.said([*token_budget.sentences(analysis), *token_budget.bytes_a_token(analysis)]),
        "",
    ]


def _step(analysis: Analysis, width: int) -> draw.Parts:
    found = analysis.step_table
    if found is None:
        line = step_table.missing(analysis)
        return [draw.text(line), ""] if line else []
    layout = step_table.layout(found)
    columns = draw.columns([f"{name}\n{unit}" for name, unit in layout.header])
    table = draw.table(step_table.title(found), columns, layout.rows, width)
    lead, kernels = step_table.kernels(found)
    named = [draw.indented(f"{shorten(visible(name), width - 28)}  {spent}") for name, spent in kernels]
    return [*table, *draw.said(step_table.sentences(found)), draw.text(f"{lead}:"), *named, ""]


def _side_by_side(analysis: Analysis, width: int) -> draw.Parts:
    if not side_by_side.present(analysis):
        return []
    columns = draw.columns(side_by_side.HEADER, keep=[0, 0, 0, 2, 0, 3, 1])
    table = draw.table(side_by_side.TITLE, columns, side_by_side.rows(analysis), width)
    return [*table, draw.text(side_by_side.NOTE), *draw.said(side_by_side.sentences(analysis)), ""]


def _over_time(analysis: Analysis, width: int) -> draw.Parts:
    if not timeline_words.present(analysis):
        return []
    from rich.text import Text

    drawn = [
        Text(visible(line), no_wrap=True, overflow="ellipsis")
        for line in timeline_words.lines(analysis, min(width, draw.WIDTH))
    ]
    return [
        draw.text(timeline_words.TITLE, "bold"),
        *drawn,
        *draw.said(timeline_words.sentences(analysis)),
        "",
    ]


def _phases(analysis: Analysis, width: int) -> draw.Parts:
    if not analysis.phases:
        return []
    return [
        *draw.table("Phases", draw.columns(token_budget.STEPS_HEADER), token_budget.steps(analysis), width),
        "",
    ]


def _serving(analysis: Analysis, width: int) -> draw.Parts:
    if not serving.present(analysis):
        return []
    parts: draw.Parts = [draw.text(serving.TITLE, "bold")]
    parts += [draw.indented(f"{name}: {text}") for name, text in serving.facts(analysis)]
    if rows := serving.latencies(analysis):
        columns = draw.columns(serving.HEADER, keep=[0, 0, 0, 1, 0])
        parts += draw.table("", columns, rows, width)
    return [*parts, *draw.said(serving.sentences(analysis)), ""]


def _kernels(analysis: Analysis, width: int) -> draw.Parts:
    """Return each kernel as its name and shape and, below, a row of figures: names may fill the line."""
    shown, places = analysis.kernels[:MAX_KERNELS], shares.places(analysis)
    rows = [
        (
            _named(kernel, width, places.get(kernel.gpu, "")),
            [
                figures.nanoseconds(kernel.mean_ns),
                figures.percent(kernel.time_frac),
                figures.percent(kernel.bandwidth_frac),
                kernel.bound,
                kernel.limiter,
                kernel.confidence,
                summary.occupancy(kernel, why=False),
            ],
        )
        for kernel in shown
    ]
    header = [
        *(Column(name) for name in ("mean", "share")),
        Column("of bw", keep=2),
        *(Column(name, figure=False, whole=True) for name in ("bound", "limiter", "sure")),
        Column("occupancy", figure=False, whole=True, keep=1),
    ]
    more = len(analysis.kernels) - MAX_KERNELS
    left = f"{more} more kernels left out" if more > 0 else ""
    return draw.named("Kernels", header, rows, width, left)


def _named(kernel: KernelFinding, width: int, place: str = "") -> Text:
    """Return name, shape and GPU in one line: the shape whole where it is no more than half of it."""
    tail = f"  {place}" if place else ""
    width -= len(tail)
    launch = kernel.launch_shape
    extents = [figures.extent(each) for each in (launch.grid, launch.workgroup)]
    extent = "" if set(extents) == {figures.UNKNOWN} else " / ".join(extents)
    shape = figures.ordinary_spaces(
        visible(summary.problem_shape(kernel) if kernel.problem_shape else extent)
    )
    name = visible(kernel.kernel)
    room = max(width - min(len(name), width // 2) - 2, 0)
    shape = shape if len(shape) <= room else f"{shape[: room - 1]}…"  # its end tells least
    found = draw.text(shorten(name, width - len(shape) - 2))
    found.append(f"  {shape}{tail}", style="dim")
    return found


def _targets(analysis: Analysis, width: int) -> draw.Parts:
    parts: draw.Parts = [draw.text("What to change", "bold")]
    if not analysis.targets:
        return [*parts, draw.text("  Nothing stands out: no target was found.")]
    for target in analysis.targets[:MAX_TARGETS]:
        gain = f"gain {figures.gain(target.expected_gain)}, {target.confidence} confidence"
        problem = short_words(visible(summary.problem(target)), width // 2)
        parts.append(draw.text(f"{target.rank}. {problem}", "bold"))
        if target.kernel and target.kernel not in target.problem:
            parts.append(draw.indented(shorten(visible(target.kernel), width - draw.INDENT - 1), "cyan"))
        parts.append(draw.indented(gain, "green"))
        if target.advice:
            parts.append(draw.indented(f"try: {short_words(visible(target.advice), width // 2)}"))
    if len(analysis.targets) > MAX_TARGETS:
        parts.append(draw.indented(f"{len(analysis.targets) - MAX_TARGETS} more targets left out"))
    return parts


def _power(analysis: Analysis, width: int) -> draw.Parts:
    parts: draw.Parts = []
    for header, rows, title, keep in (
        (power.HEADER, power.gpus(analysis), "GPUs by their sensors", [0, 0, 0, 5, 3, 0, 0, 4, 1]),
        (power.PROCESS_HEADER, power.processes(analysis), "Processes of the host", [0, 0, 1, 0, 2, 3, 4]),
    ):
        if rows:
            columns = draw.columns(header, keep=keep)
            parts += [*draw.table(title, columns, rows, width), ""]
    told = draw.said(power.sentences(analysis))
    head: draw.Parts = [draw.text(power.TITLE, "bold")] if parts or told else []
    return [*head, *parts, *told, *([""] if told else [])]


def _measured(analysis: Analysis) -> draw.Parts:
    return ["", draw.text("How it was measured", "bold"), *map(draw.indented, summary.measured(analysis))]


def _integrity(analysis: Analysis) -> draw.Parts:
    integrity = analysis.integrity
    counted = f"{figures.count(integrity.dispatches)} dispatches"
    parts: draw.Parts = [draw.text("Integrity", "bold"), draw.indented(counted)]
    parts += [draw.indented(f"left out: {figures.count(d.count)} ({d.reason})") for d in integrity.dropped]
    parts += [draw.indented(f"{w.code}: {w.message}", "yellow") for w in integrity.warnings[:MAX_WARNINGS]]
    if len(integrity.warnings) > MAX_WARNINGS:
        parts.append(draw.indented(f"{len(integrity.warnings) - MAX_WARNINGS} more warnings left out"))
    return parts


REPORT = _Terminal()
