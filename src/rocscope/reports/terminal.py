"""The report for a terminal: fits 80 columns, coloured only where a terminal takes colours."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Final

from rocscope.findings import Analysis, KernelFinding
from rocscope.reports import figures, phases, power, serving, step_table, summary
from rocscope.reports.text import shorten
from rocscope.untrusted import visible

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table
    from rich.text import Text

WIDTH: Final = 80
KERNEL_WIDTH: Final = 24  # what the other columns leave of 80
NARROW_WIDTH: Final = 12  # of a name, where the terminal is narrower than that
MAX_FAMILIES: Final = 12
MAX_KERNELS: Final = 12
MAX_TARGETS: Final = 5
MAX_WARNINGS: Final = 8
_STYLES: Final = {"memory": "cyan", "compute": "magenta", "high": "green", "medium": "yellow"}


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
        return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def show(analysis: Analysis, console: Console | None = None) -> None:
    """Print the report to ``console``, by default standard output; rich honours ``NO_COLOR``."""
    if console is None:
        from rich.console import Console

        console = Console(highlight=False)
    for part in _parts(analysis, min(console.width, 2 * WIDTH)):
        console.print(part, markup=False, highlight=False)


def _parts(analysis: Analysis, width: int) -> list[RenderableType]:
    parts: list[RenderableType] = []
    if first := summary.provenance(analysis.capture):
        parts.append(_text(first, "bold yellow"))
    parts.append(_text(summary.headline(analysis), "bold"))
    if first := summary.first_target(analysis):
        parts.append(_text(first))
    parts += [_text(summary.how_sure(analysis)), ""]
    if summary.has_kernels(analysis):
        parts += [
            _families(analysis),
            "",
            *_step(analysis),
            _kernels(analysis, max(width - WIDTH + KERNEL_WIDTH, NARROW_WIDTH)),
            "",
            *_targets(analysis),
            "",
        ]
    return parts + _phases(analysis) + _serving(analysis) + _power(analysis) + _integrity(analysis)


def _text(text: str, style: str = "") -> Text:
    from rich.text import Text

    return Text(figures.ordinary_spaces(visible(text)), style=style)


def _cell(text: str, style: str = "") -> Text:
    return _text(text, style or _STYLES.get(text, ""))


def _table(title: str) -> Table:
    from rich.table import Table

    return Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False,
                 padding=(0, 1, 0, 0), header_style="underline", caption_justify="left")  # fmt: skip


def _families(analysis: Analysis) -> Table:
    table = _table("Where the time went")
    table.add_column("family", max_width=16, no_wrap=True)
    for name in ("time", "share"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("of bw", justify="right", no_wrap=True)
    table.add_column("bound", no_wrap=True)
    table.add_column("limiter", no_wrap=True)
    for family in analysis.families[:MAX_FAMILIES]:
        table.add_row(
            _cell(shorten(family.family, 16)),
            _cell(figures.seconds(family.time_s)),
            _cell(figures.percent(family.time_frac)),
            _cell(figures.percent(family.bandwidth_frac)),
            _cell(summary.verdict(family, "bound"), _STYLES.get(family.bound, "")),
            _cell(summary.verdict(family, "limiter")),
        )
    if len(analysis.families) > MAX_FAMILIES:
        table.caption = f"{len(analysis.families) - MAX_FAMILIES} smaller families left out"
    return _whole_figures(table)


def _step(analysis: Analysis) -> list[RenderableType]:
    found = analysis.step_table
    if found is None:
        line = step_table.missing(analysis)
        return [_text(line), ""] if line else []
    layout = step_table.layout(found)
    table = _table(step_table.title(found))
    for name, unit in layout.header:
        heading = figures.ordinary_spaces(f"{name}\n{unit}")
        table.add_column(heading, justify="right" if unit else "left", no_wrap=True)
    for name, *cells in layout.rows:
        table.add_row(_cell(shorten(visible(name), 16)), *(_cell(cell) for cell in cells))
    lead, kernels = step_table.kernels(found)
    named = [_indented(f"{shorten(visible(name), 52)}  {spent}") for name, spent in kernels]
    said = [_text(sentence) for sentence in step_table.sentences(found)]
    return [_whole_figures(table), *said, _text(f"{lead}:"), *named, ""]


def _phases(analysis: Analysis) -> list[RenderableType]:
    if not analysis.phases:
        return []
    table = _table("Phases")
    for at, name in enumerate(("phase", "steps", "tokens", "time", "a token")):
        table.add_column(name, justify="right" if at else "left", no_wrap=True)
    for name, *cells in phases.rows(analysis):
        table.add_row(_cell(shorten(visible(name), 16)), *(_cell(cell) for cell in cells))
    return [_whole_figures(table), *(_text(sentence) for sentence in phases.sentences(analysis)), ""]


def _serving(analysis: Analysis) -> list[RenderableType]:
    if not serving.present(analysis):
        return []
    parts: list[RenderableType] = [_text(serving.TITLE, "bold")]
    parts += [_indented(f"{name}: {text}") for name, text in serving.facts(analysis)]
    if rows := serving.latencies(analysis):
        table = _table("")
        for at, name in enumerate(serving.HEADER):
            table.add_column(name, justify="right" if at else "left", no_wrap=True)
        for row in rows:
            table.add_row(*(_cell(cell) for cell in row))
        parts.append(_whole_figures(table))
    return [*parts, *(_text(sentence) for sentence in serving.sentences(analysis)), ""]


def _kernels(analysis: Analysis, width: int) -> Table:
    table = _table("Kernels")
    table.add_column("kernel", no_wrap=True)
    for name in ("mean", "share", "of bw"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("bound", "limiter"):
        table.add_column(name, no_wrap=True)
    table.add_column("sure", no_wrap=True)
    for kernel in analysis.kernels[:MAX_KERNELS]:
        title = _cell(shorten(visible(kernel.kernel), width))
        title.append(f"\n  {_shape(kernel, width - 2)}", style="dim")
        table.add_row(
            title,
            _cell(figures.nanoseconds(kernel.mean_ns)),
            _cell(figures.percent(kernel.time_frac)),
            _cell(figures.percent(kernel.bandwidth_frac)),
            _cell(kernel.bound),
            _cell(kernel.limiter),
            _cell(kernel.confidence),
        )
    if len(analysis.kernels) > MAX_KERNELS:
        table.caption = f"{len(analysis.kernels) - MAX_KERNELS} more kernels left out"
    return _whole_figures(table)


def _whole_figures(table: Table) -> Table:
    """On a narrow terminal let names and words be cut, and no figure: "42.…" could be anything."""
    for column in table.columns:
        if column.justify == "right":
            column.min_width = max((len(str(cell)) for cell in column.cells), default=0)
    return table


def _shape(kernel: KernelFinding, width: int) -> str:
    """Return the problem shape, else grid and workgroup, cut at its end: the sizes come first."""
    launch = kernel.launch_shape
    shape = f"{figures.extent(launch.grid)} / {figures.extent(launch.workgroup)}"
    text = visible(summary.problem_shape(kernel) if kernel.problem_shape else shape)
    return text if len(text) <= width else f"{text[: width - 1]}…"


def _targets(analysis: Analysis) -> list[RenderableType]:
    from rich.padding import Padding

    parts: list[RenderableType] = [_text("What to change", "bold")]
    if not analysis.targets:
        return [*parts, _text("  Nothing stands out: no target was found.")]
    for target in analysis.targets[:MAX_TARGETS]:
        gain = f"gain {figures.gain(target.expected_gain)}, {target.confidence} confidence"
        parts.append(_text(f"{target.rank}. {target.problem}", "bold"))
        if target.kernel and target.kernel not in target.problem:
            parts.append(_indented(shorten(visible(target.kernel), WIDTH - 4), "cyan"))
        parts.append(_indented(gain, "green"))
        if target.advice:
            parts.append(Padding(_text(f"try: {target.advice}"), (0, 0, 0, 3)))
    if len(analysis.targets) > MAX_TARGETS:
        parts.append(_indented(f"{len(analysis.targets) - MAX_TARGETS} more targets left out"))
    return parts


def _indented(text: str, style: str = "") -> RenderableType:
    from rich.padding import Padding

    return Padding(_text(text, style), (0, 0, 0, 3))


def _power(analysis: Analysis) -> list[RenderableType]:
    parts: list[RenderableType] = []
    for header, rows, title in (
        (power.HEADER, power.gpus(analysis), "GPUs by their sensors"),
        (power.PROCESS_HEADER, power.processes(analysis), "Processes of the host"),
    ):
        if rows:
            table = _table(title)
            for place, name in enumerate(header):
                table.add_column(name, justify="right" if place else "left", no_wrap=True)
            for name, *cells in rows:
                table.add_row(_cell(shorten(visible(name), 20)), *(_cell(cell) for cell in cells))
            parts += [_whole_figures(table), ""]
    told: list[RenderableType] = [_text(sentence) for sentence in power.sentences(analysis)]
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
