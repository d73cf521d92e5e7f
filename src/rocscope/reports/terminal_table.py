"""Tables that fit a terminal: words are cut with an ellipsis, then columns left out; no figure is cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rocscope.reports import figures
from rocscope.untrusted import visible

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

STYLES: Final = {
    "memory": "cyan",
    "compute": "magenta",
    "high": "green",
    "medium": "yellow",
    "better": "bold green",
    "worse": "bold red",
    "hit": "green",
    "miss": "red",
}
_LEAST: Final = 8  # characters that are left of a word


@dataclass(frozen=True)
class Column:
    """A column: figures are set to the right and never cut."""

    header: str  # may have two lines
    figure: bool = True
    whole: bool = False  # words that are cut only where nothing else helps
    keep: int = 0  # the lowest goes first where not all columns fit; 0 stays


@dataclass(frozen=True)
class Fitted:
    """Cells that fit; one blank lies between columns."""

    columns: Sequence[Column]  # those that are shown
    widths: Sequence[int]
    rows: Sequence[Sequence[str]]
    left_out: Sequence[str]  # headers of the others

    @classmethod
    def to(cls, width: int, columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> Fitted:
        """Fit ``rows`` under ``columns`` into ``width`` characters."""
        cells = [[figures.ordinary_spaces(visible(cell)) for cell in row] for row in rows]
        for whole in (True, False):
            least = [
                _least(column, [row[at] for row in cells], whole=whole and column.whole)
                for at, column in enumerate(columns)
            ]
            shown = _chosen(columns, least, width)
            if _total(least, shown) <= width:
                break
        kept, cells = [columns[at] for at in shown], [[row[at] for at in shown] for row in cells]
        left_out = [each.header.replace("\n", " ") for at, each in enumerate(columns) if at not in shown]
        return cls(kept, _widths(kept, cells, [least[at] for at in shown], width), cells, left_out)

    def table(self) -> Table:
        """Return it as a table of rich."""
        from rich.table import Table

        table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="underline")
        for column, room in zip(self.columns, self.widths, strict=True):
            header = "\n".join(_cut(line, room) for line in column.header.split("\n"))
            table.add_column(header, justify="right" if column.figure else "left", no_wrap=True, width=room)
        for row in self.rows:
            table.add_row(*(_styled(cell, room) for cell, room in zip(row, self.widths, strict=True)))
        return table

    @property
    def note(self) -> str:
        """What is not shown for want of room."""
        return f"too narrow for: {', '.join(self.left_out)}" if self.left_out else ""

    def head(self) -> Text:
        """Return the line of headers."""
        from rich.text import Text

        return Text(" ").join(
            Text(self._set(column.header, at), style="underline" if column.header.strip() else "")
            for at, column in enumerate(self.columns)
        )

    def line(self, row: int) -> Text:
        """Return the line of one row."""
        from rich.text import Text

        cells = self.rows[row]
        return Text(" ").join(
            Text(self._set(cell, at), style=STYLES.get(cell, "")) for at, cell in enumerate(cells)
        )

    def _set(self, text: str, at: int) -> str:
        shown = _cut(text, self.widths[at])
        return f"{shown:>{self.widths[at]}}" if self.columns[at].figure else f"{shown:<{self.widths[at]}}"


def _styled(cell: str, room: int) -> Text:
    from rich.text import Text

    return Text(_cut(cell, room), style=STYLES.get(cell, ""))


def _cut(text: str, room: int) -> str:
    return text if len(text) <= room else f"{text[: room - 1]}…"


def _total(widths: Sequence[int], shown: Sequence[int]) -> int:
    return sum(widths[at] + 1 for at in shown) - 1


def _chosen(columns: Sequence[Column], least: Sequence[int], width: int) -> list[int]:
    """Return the columns that fit, each at its least."""
    shown = list(range(len(columns)))
    while _total(least, shown) > width:
        optional = [at for at in shown if columns[at].keep]
        if not optional:
            break
        shown.remove(min(optional, key=lambda at: (columns[at].keep, -at)))
    return shown


def _widths(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], least: Sequence[int], width: int
) -> list[int]:
    """Return the width of each column: words give way, the longest first."""
    found = [_natural(column, [row[at] for row in rows]) for at, column in enumerate(columns)]
    for _ in range(max(0, _total(found, range(len(found))) - width)):
        loose = [at for at in range(len(found)) if found[at] > least[at]]
        if not loose:
            break
        found[max(loose, key=lambda at: found[at])] -= 1
    return found


def _natural(column: Column, cells: Sequence[str]) -> int:
    return max(len(text) for text in (*cells, *column.header.split("\n")))


def _least(column: Column, cells: Sequence[str], *, whole: bool) -> int:
    natural = _natural(column, cells)
    return natural if column.figure or whole else min(natural, _LEAST)
