"""The report for a terminal: fits 80 columns and fewer, coloured only where a terminal takes colours."""

from __future__ import annotations

import io
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
from rocscope.reports.terminal_table import Column, Fitted
from rocscope.reports.text import short_words, shorten
from rocscope.untrusted import visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console, RenderableType
    from rich.text import Text

WIDTH: Final = 80
MAX_FAMILIES: Final = 12
MAX_KERNELS: Final = 12
MAX_TARGETS: Final = 5
MAX_WARNINGS: Final = 8
_INDENT: Final = 3


class _Terminal:
    name = "terminal"
    help = "tables of 80 columns, plain where written to a file"
    filename = "report.txt"

    def render(self, analysis: Analysis) -> str:
        """Return the report as plain text of at most 80 columns."""
        from rich.console import Console

        out = io.StringIO()
        console = Console(
            file=out, width=WIDTH, color_system=None, force_terminal=False, legacy_windows=False
        )
        show(analysis, console)
        return out.getvalue()


def show(analysis: Analysis, console: Console | None = None) -> None:
    """Print the report to ``console``, by default standard output; rich honours ``NO_COLOR``."""
    if console is None:
        from rich.console import Console

        console = Console(highlight=False)
    parts = _parts(analysis, min(console.width, 2 * WIDTH))
    if console.is_terminal:
        for part in parts:
            console.print(part, markup=False, highlight=False)
        return
    with (
        console.capture() as told
    ):  # in a file or a pipe blanks at the ends of lines would only be in the way
        for part in parts:
            console.print(part, markup=False, highlight=False)
    console.file.write("".join(f"{line.rstrip()}\n" for line in told.get().splitlines()))


def _parts(analysis: Analysis, width: int) -> list[RenderableType]:
    """Return the answer, then what it rests on, each section with a blank line after it."""
    parts: list[RenderableType] = []
    if first := summary.provenance(analysis.capture):
        parts.append(_text(first, "bold yellow"))
    parts.append(_text(summary.headline(analysis), "bold"))
    if first := summary.first_target(analysis):
        parts.append(_text(first))
    parts += [_text(summary.how_sure(analysis)), ""]
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
    return parts + _integrity(analysis)


def _text(text: str, style: str = "") -> Text:
    from rich.text import Text

    return Text(figures.ordinary_spaces(visible(text)), style=style)


def _indented(text: str, style: str = "") -> RenderableType:
    from rich.padding import Padding

    return Padding(_text(text, style), (0, 0, 0, _INDENT))


def _said(sentences: Iterable[str]) -> list[RenderableType]:
    """Return sentences, the second and further lines of each set in, so that each can be told apart."""
    from rich.padding import Padding
    from rich.table import Table

    found: list[RenderableType] = []
    for sentence in sentences:
        grid = Table.grid(padding=(0, 1, 0, 0))
        grid.add_column(width=1)
        grid.add_column(ratio=1)
        grid.add_row(_text("-"), _text(sentence))
        found.append(Padding(grid, 0))
    return found


def _columns(header: Sequence[str], *, keep: Sequence[int] = ()) -> list[Column]:
    """Return a column of words and then columns of figures; ``keep`` of each, all stay by default."""
    kept = [*keep, *[0] * len(header)]
    return [Column(name, figure=at > 0, keep=kept[at]) for at, name in enumerate(header)]


def _fitted(
    title: str, columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int, more: str = ""
) -> list[RenderableType]:
    """Return a table under its title, with what is not in it below."""
    fitted = Fitted.to(width, columns, rows)
    notes = [_text(note) for note in (more, fitted.note) if note]
    return [*([_text(title, "bold")] if title else []), fitted.table(), *notes]


def _families(analysis: Analysis, width: int) -> list[RenderableType]:
    columns = [
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
    return _fitted("Where the time went", columns, rows, width, more)


def _budget(analysis: Analysis, width: int) -> list[RenderableType]:
    if not token_budget.present(analysis):
        return []
    header = token_budget.header(analysis)
    keep = [0, *(1 if name == token_budget.SHARE else 0 for name in header[1:])]
    columns = _columns(header, keep=keep)
    table = _fitted(token_budget.TITLE, columns, token_budget.rows(analysis), width)
    return [*table, *_said([*token_budget.sentences(analysis), *token_budget.bytes_a_token(analysis)]), ""]


def _step(analysis: Analysis, width: int) -> list[RenderableType]:
    found = analysis.step_table
    if found is None:
        line = step_table.missing(analysis)
        return [_text(line), ""] if line else []
    layout = step_table.layout(found)
    columns = _columns([f"{name}\n{unit}" for name, unit in layout.header])
    table = _fitted(step_table.title(found), columns, layout.rows, width)
    lead, kernels = step_table.kernels(found)
    named = [_indented(f"{shorten(visible(name), width - 28)}  {spent}") for name, spent in kernels]
    return [*table, *_said(step_table.sentences(found)), _text(f"{lead}:"), *named, ""]


def _side_by_side(analysis: Analysis, width: int) -> list[RenderableType]:
    if not side_by_side.present(analysis):
        return []
    columns = _columns(side_by_side.HEADER, keep=[0, 0, 0, 2, 0, 3, 1])
    table = _fitted(side_by_side.TITLE, columns, side_by_side.rows(analysis), width)
    return [*table, _text(side_by_side.NOTE), *_said(side_by_side.sentences(analysis)), ""]


def _over_time(analysis: Analysis, width: int) -> list[RenderableType]:
    if not timeline_words.present(analysis):
        return []
    from rich.text import Text

    drawn = [
        Text(visible(line), no_wrap=True, overflow="ellipsis")
        for line in timeline_words.lines(analysis, min(width, WIDTH))
    ]
    return [
        _text(timeline_words.TITLE, "bold"),
        *drawn,
        *_said(timeline_words.sentences(analysis)),
        "",
    ]


def _phases(analysis: Analysis, width: int) -> list[RenderableType]:
    if not analysis.phases:
        return []
    return [*_fitted("Phases", _columns(token_budget.STEPS_HEADER), token_budget.steps(analysis), width), ""]


def _serving(analysis: Analysis, width: int) -> list[RenderableType]:
    if not serving.present(analysis):
        return []
    parts: list[RenderableType] = [_text(serving.TITLE, "bold")]
    parts += [_indented(f"{name}: {text}") for name, text in serving.facts(analysis)]
    if rows := serving.latencies(analysis):
        columns = _columns(serving.HEADER, keep=[0, 0, 0, 1, 0])
        parts += _fitted("", columns, rows, width)
    return [*parts, *_said(serving.sentences(analysis)), ""]


def _kernels(analysis: Analysis, width: int) -> list[RenderableType]:
    """Return each kernel as its name and shape and, below, a row of figures: names may fill the line."""
    shown = analysis.kernels[:MAX_KERNELS]
    rows = [
        [
            "",
            figures.nanoseconds(kernel.mean_ns),
            figures.percent(kernel.time_frac),
            figures.percent(kernel.bandwidth_frac),
            kernel.bound,
            kernel.limiter,
            kernel.confidence,
            summary.occupancy(kernel, why=False),
        ]
        for kernel in shown
    ]
    columns = [
        Column(" "),
        *(Column(name) for name in ("mean", "share")),
        Column("of bw", keep=2),
        *(Column(name, figure=False, whole=True) for name in ("bound", "limiter", "sure")),
        Column("occupancy", figure=False, whole=True, keep=1),
    ]
    fitted = Fitted.to(width, columns, rows)
    found: list[RenderableType] = [_text("Kernels", "bold"), fitted.head()]
    for at, kernel in enumerate(shown):
        found += [_named(kernel, width), fitted.line(at)]
    more = len(analysis.kernels) - MAX_KERNELS
    return [
        *found,
        *([_text(fitted.note)] if fitted.note else []),
        *([_text(f"{more} more kernels left out")] if more > 0 else []),
    ]


def _named(kernel: KernelFinding, width: int) -> Text:
    """Return name and shape in one line: the shape whole where it is no more than half of it."""
    launch = kernel.launch_shape
    extents = [figures.extent(each) for each in (launch.grid, launch.workgroup)]
    extent = "" if set(extents) == {figures.UNKNOWN} else " / ".join(extents)
    shape = figures.ordinary_spaces(
        visible(summary.problem_shape(kernel) if kernel.problem_shape else extent)
    )
    name = visible(kernel.kernel)
    room = max(width - min(len(name), width // 2) - 2, 0)
    shape = shape if len(shape) <= room else f"{shape[: room - 1]}…"  # its end tells least
    found = _text(shorten(name, width - len(shape) - 2))
    found.append(f"  {shape}", style="dim")
    return found


def _targets(analysis: Analysis, width: int) -> list[RenderableType]:
    parts: list[RenderableType] = [_text("What to change", "bold")]
    if not analysis.targets:
        return [*parts, _text("  Nothing stands out: no target was found.")]
    for target in analysis.targets[:MAX_TARGETS]:
        gain = f"gain {figures.gain(target.expected_gain)}, {target.confidence} confidence"
        problem = short_words(visible(summary.problem(target)), width // 2)
        parts.append(_text(f"{target.rank}. {problem}", "bold"))
        if target.kernel and target.kernel not in target.problem:
            parts.append(_indented(shorten(visible(target.kernel), width - _INDENT - 1), "cyan"))
        parts.append(_indented(gain, "green"))
        if target.advice:
            parts.append(_indented(f"try: {short_words(visible(target.advice), width // 2)}"))
    if len(analysis.targets) > MAX_TARGETS:
        parts.append(_indented(f"{len(analysis.targets) - MAX_TARGETS} more targets left out"))
    return parts


def _power(analysis: Analysis, width: int) -> list[RenderableType]:
    parts: list[RenderableType] = []
    for header, rows, title, keep in (
        (power.HEADER, power.gpus(analysis), "GPUs by their sensors", [0, 0, 0, 5, 3, 0, 0, 4, 1]),
        (power.PROCESS_HEADER, power.processes(analysis), "Processes of the host", [0, 0, 1, 0, 2, 3, 4]),
    ):
        if rows:
            columns = _columns(header, keep=keep)
            parts += [*_fitted(title, columns, rows, width), ""]
    told = _said(power.sentences(analysis))
    head: list[RenderableType] = [_text(power.TITLE, "bold")] if parts or told else []
    return [*head, *parts, *told, *([""] if told else [])]


def _integrity(analysis: Analysis) -> list[RenderableType]:
    integrity = analysis.integrity
    counted = f"{figures.count(integrity.dispatches)} dispatches"
    parts: list[RenderableType] = [_text("Integrity", "bold"), _indented(counted)]
    parts += [_indented(f"left out: {figures.count(d.count)} ({d.reason})") for d in integrity.dropped]
    parts += [_indented(f"{w.code}: {w.message}", "yellow") for w in integrity.warnings[:MAX_WARNINGS]]
    if len(integrity.warnings) > MAX_WARNINGS:
        parts.append(_indented(f"{len(integrity.warnings) - MAX_WARNINGS} more warnings left out"))
    return parts


REPORT = _Terminal()
