"""What was seen, for a terminal: a line or a few for each check, coloured only where colours are taken."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from rocscope.doctor.check import Finding
from rocscope.doctor.figures import Row, readable
from rocscope.untrusted import visible

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

STYLES: Final = {"ok": "green", "warn": "yellow", "fail": "bold red", "unknown": "dim"}


def findings(found: Sequence[Finding], verdict: str) -> list[RenderableType]:
    """Return the table of checks and the verdict below it."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for _ in range(2):
        table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for each in found:
        cell = Text(visible(each.seen))
        for label, text in (("fix", each.fix), ("", each.advice)):
            if text and each.status != "ok":
                cell.append(f"\n{label}: " if label else "\n", style="bold")
                cell.append(visible(text), style="" if label else "dim")
        table.add_row(Text(each.status, style=STYLES[each.status]), Text(each.title), cell)
    return [table, Text(""), Text(visible(verdict), style="bold")]


def measured(name: str, rows: Sequence[Row], stored: str) -> list[RenderableType]:
    """Return the table of one card's ceilings."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("figure", no_wrap=True)
    for title in ("measured", "datasheet", "share", "published"):
        table.add_column(title, justify="right", no_wrap=True)
    notes = []
    for row in rows:
        share = "-" if row.datasheet_frac is None else f"{100 * row.datasheet_frac:.0f} %"
        mark = "" if row.note is None else " *"
        table.add_row(
            Text(visible(row.figure.removesuffix("_bytes_per_s").removesuffix("_s")) + mark),
            readable(row.measured, row.unit),
            readable(row.datasheet, row.unit),
            share,
            readable(row.published, row.unit),
            style="" if row.used else "dim",
        )
        if row.note:
            notes.append(Text(f"* {visible(row.figure)}: {visible(row.note)}", style="yellow"))
    return [Text(""), Text(visible(name), style="bold"), table, *notes, Text(visible(stored))]


def show(parts: Sequence[RenderableType], console: Console | None = None) -> None:
    """Print to ``console``, by default standard output; rich honours ``NO_COLOR``."""
    from rich.console import Console as Terminal

    where = console or Terminal(highlight=False, soft_wrap=False)
    with where.capture() as captured:
        for part in parts:
            where.print(part, markup=False, highlight=False)
    lines = captured.get().splitlines()
    where.file.write("\n".join(line.rstrip() for line in lines) + "\n")  # a table pads its last column
    where.file.flush()
