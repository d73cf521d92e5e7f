"""Widths and colours of one page as classes: a strict content policy allows no ``style`` attribute."""

from __future__ import annotations

import re
from typing import Final

from rocscope.reports import palette

_COLOUR: Final = re.compile(r"#[0-9a-f]{6}")
_LETTER_EM: Final = 0.54  # width of a letter; a label appears where it is sure to fit
_PADDING_EM: Final = 1.1


class Stylesheet:
    """Hands out class names while a page is written, and then the rules for those that were used."""

    def __init__(self) -> None:
        self._rules: dict[str, str] = {}

    def width(self, frac: float | None) -> str:
        """Return a class as wide as ``frac`` of its box, to a thousandth; something is never nothing."""
        per_mille = _per_mille(frac)
        if frac and frac > 0:
            per_mille = max(per_mille, 1)
        return self._rule(f"w{per_mille}", f"width:{per_mille / 10:g}%")

    def left(self, frac: float | None) -> str:
        """Return a class that begins ``frac`` of its box from the left."""
        per_mille = _per_mille(frac)
        return self._rule(f"x{per_mille}", f"left:{per_mille / 10:g}%")

    def height(self, px: int) -> str:
        """Return a class that is ``px`` tall."""
        return self._rule(f"h{px}", f"height:{px}px")

    def paint(self, colour: str) -> str:
        """Return a class with ``colour`` as background and the ink that can be read on it."""
        if not _COLOUR.fullmatch(colour):
            raise ValueError(f"not a colour: {colour!r}")
        return self._rule(f"c{colour[1:]}", f"background-color:{colour};color:{palette.ink(colour)}")

    def family(self, family: str) -> str:
        """Return the class of a kernel family's colour."""
        return self.paint(palette.colour(family))

    def fits(self, label: str) -> str:
        """Return a class for a label that is shown only where its box is wide enough for it."""
        wide_em = round(len(label) * _LETTER_EM + _PADDING_EM)
        name = f"fit{wide_em}"
        self._rules[f"@{name}"] = f"@container (min-width:{wide_em}em){{.part .{name}{{display:block}}}}"
        return name

    def text(self) -> str:
        """Return the rules, sorted, so that one analysis always gives one page."""
        return "\n".join(self._rules[name] for name in sorted(self._rules))

    def _rule(self, name: str, declarations: str) -> str:
        self._rules[name] = f".{name}{{{declarations}}}"
        return name


def _per_mille(frac: float | None) -> int:
    return round(1000 * min(max(frac or 0.0, 0.0), 1.0))
