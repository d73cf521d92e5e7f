"""What reports for a terminal are made of: text, lists and tables that fit, plain where written to a file."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Final

from rocscope.reports import figures
from rocscope.reports.terminal_table import Column, Fitted
from rocscope.untrusted import visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from rich.console import Console, RenderableType
    from rich.text import Text

    Parts = list[RenderableType]

WIDTH: Final = 80
INDENT: Final = 3


def show(parts: Callable[[int], Parts], console: Console | None = None) -> None:
    """Print what ``parts`` makes for a width to ``console``, by default standard output, at most 160 wide.

    rich honours ``NO_COLOR``. In a file or a pipe no line ends with blanks, which would only be in the way.
    """
    if console is None:
        from rich.console import Console

        console = Console(highlight=False)
    made = parts(min(console.width, 2 * WIDTH))
    if console.is_terminal:
        for part in made:
            console.print(part, markup=False, highlight=False)
        return
    with console.capture() as told:
        for part in made:
            console.print(part, markup=False, highlight=False)
    console.file.write("".join(f"{line.rstrip()}\n" for line in told.get().splitlines()))


def rendered(parts: Callable[[int], Parts]) -> str:
    """Return what :func:`show` prints, in 80 columns and without colours."""
    from rich.console import Console

    out = io.StringIO()
    show(
        parts,
        Console(file=out, width=WIDTH, color_system=None, force_terminal=False, legacy_windows=False),
    )
    return out.getvalue()


def text(words: str, style: str = "") -> Text:
    """Return a paragraph; control characters of a recording are shown, not sent."""
    from rich.text import Text

    return Text(figures.ordinary_spaces(visible(words)), style=style)


def indented(words: str, style: str = "") -> RenderableType:
    """Return a paragraph that is set in."""
    from rich.padding import Padding

    return Padding(text(words, style), (0, 0, 0, INDENT))


def said(sentences: Iterable[str]) -> Parts:
    """Return sentences, the second and further lines of each set in, so that each can be told apart."""
    from rich.padding import Padding
    from rich.table import Table

    found: Parts = []
    for sentence in sentences:
        grid = Table.grid(padding=(0, 1, 0, 0))
        grid.add_column(width=1)
        grid.add_column(ratio=1)
        grid.add_row(text("-"), text(sentence))
        found.append(Padding(grid, 0))
    return found


def columns(header: Sequence[str], *, keep: Sequence[int] = ()) -> list[Column]:
    """Return a column of words and then columns of figures; ``keep`` of each, all stay by default."""
    kept = [*keep, *[0] * len(header)]
    return [Column(name, figure=at > 0, keep=kept[at]) for at, name in enumerate(header)]


def table(
    title: str, header: Sequence[Column], rows: Sequence[Sequence[str]], width: int, more: str = ""
) -> Parts:
    """Return a table under its title, with what is not in it below."""
    fitted = Fitted.to(width, header, rows)
    notes = [text(note) for note in (more, fitted.note) if note]
    return [*([text(title, "bold")] if title else []), fitted.table(), *notes]


def named(
    title: str,
    header: Sequence[Column],
    rows: Sequence[tuple[Text, Sequence[str]]],
    width: int,
    more: str = "",
) -> Parts:
    """Return a table whose names fill a line each, with the row of figures below, set in."""
    fitted = Fitted.to(width, [Column(" "), *header], [["", *cells] for _, cells in rows])
    found: Parts = [text(title, "bold"), fitted.head()]
    for at, (name, _) in enumerate(rows):
        found += [name, fitted.line(at)]
    return [*found, *(text(note) for note in (fitted.note, more) if note)]
