"""A comparison on a terminal: the verdict first, then why, what changed most, and what to know of it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from rocscope.comparison.result import Comparison, Difference
from rocscope.reports import comparison_rows as rows
from rocscope.reports import comparison_words as words
from rocscope.reports import figures
from rocscope.reports import terminal_parts as draw
from rocscope.reports.comparison_rows import Table
from rocscope.reports.terminal_table import Column
from rocscope.reports.text import clip, shorten
from rocscope.untrusted import visible

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

_KEEP: Final = {rows.INTERVAL: 1, rows.OF_STEP: 2}  # what goes first where there is no room
_HEADS: Final = {rows.OF_STEP: "of step"}
_SHORT: Final = {"no difference shown": "none shown"}  # in a table of changes


class _ComparisonText:
    name = "terminal"
    help = "for 80 columns: verdicts, why, what changed most, notes"
    filename = "compare.txt"

    def render(self, comparison: Comparison) -> str:
        """Return what :func:`show` prints, in 80 columns and without colours."""
        return draw.rendered(partial(_parts, comparison))


REPORT = _ComparisonText()


def show(comparison: Comparison, console: Console | None = None) -> None:
    """Print ``comparison`` to ``console``, by default standard output."""
    draw.show(partial(_parts, comparison), console)


def _parts(comparison: Comparison, width: int) -> draw.Parts:
    whole = [comparison, *comparison.more]
    first = words.banner(comparison)
    parts: draw.Parts = [draw.text(first, "bold yellow")] if first else []
    for number, each in enumerate(whole, 1):
        which = f"New {number} of {len(whole)}: " if len(whole) > 1 else ""
        parts += [draw.text(f"{which}{words.headline(each)}", "bold"), *_one(each, width), ""]
    return parts[:-1]


def _one(comparison: Comparison, width: int) -> draw.Parts:
    parts: draw.Parts = [draw.text(line) for line in rows.sides(comparison)]
    parts += [draw.text(f"not comparable: {each}", "bold") for each in comparison.why_not]
    if not comparison.comparable:
        parts.append(draw.text("If that was changed on purpose, name it with --across for verdicts."))
    if sure := words.how_sure(comparison):
        parts.append(draw.text(sure))
    if comparison.tiers:
        parts += ["", *_named(rows.tiers(comparison), width)]
    if told := rows.reasons(comparison):
        parts += ["", draw.text("Why", "bold"), *draw.said(told)]
    for found in (rows.families(comparison), rows.phases(comparison)):
        parts += ["", *_table(found, width)] if found.rows else []
    for found in (rows.kernels(comparison), rows.forecasts(comparison)):
        parts += ["", *_named(found, width)] if found.rows else []
    if comparison.notes:
        parts += ["", draw.text("Notes", "bold"), *draw.said(comparison.notes)]
    return parts


def _columns(found: Table) -> list[Column]:
    """Return the columns after the first."""
    _, verdict, *others = found.header
    head = Column(verdict, figure=False, whole=True)
    return [head, *(Column(_HEADS.get(name, name), keep=_KEEP.get(name, 0)) for name in others)]


def _cells(found: Table) -> list[list[str]]:
    """Return the cells after the first, as short as columns want them."""
    short = _SHORT if found.of else {}
    return [
        [short.get(verdict, verdict), *(cell.replace(f"{figures.NBSP}% to ", " to ") for cell in cells)]
        for _, verdict, *cells in found.rows
    ]


def _table(found: Table, width: int) -> draw.Parts:
    cells = [[row[0], *others] for row, others in zip(found.rows, _cells(found), strict=True)]
    header = [Column(found.header[0], figure=False), *_columns(found)]
    return draw.table(found.title, header, cells, width, found.more)


def _named(found: Table, width: int) -> draw.Parts:
    """Return a table whose names have a line each: a kernel with its shape, a figure, a target."""
    names = (
        [_kernel(row, width) for row in found.of]
        if found.of
        else [draw.text(clip(visible(row[0]), width)) for row in found.rows]
    )
    told = list(zip(names, _cells(found), strict=True))
    return draw.named(found.title, _columns(found), told, width, found.more)


def _kernel(row: Difference, width: int) -> Text:
    """Return a kernel's name; of one that was renamed first what it does, of others their shape."""
    role = (row.role or "").partition(",")[0] if row.match == "renamed" else ""
    name = visible(f"{role}: {row.name}" if role else row.name)
    shape = figures.ordinary_spaces(visible(words.own_shape(row)))
    room = max(width - min(len(name), width // 2) - 2, 0)
    shape = shape if len(shape) <= room else f"{shape[: room - 1]}…"
    found = draw.text(shorten(name, width - len(shape) - 2))
    found.append(f"  {shape}" if shape else "", style="dim")
    return found
