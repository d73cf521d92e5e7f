"""Text from a recording is untrusted: made harmless and short here, for every format alike."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

_MARKDOWN: Final = re.compile(r"[\\`*\[\]|~]|(?<!\w)_|_(?!\w)")
_MENTION: Final = re.compile(r"([@#])(?=\w)")
_BLOCK_START: Final = re.compile(r"^(\s*)([#>+=-]|\d+[.)])")


def visible(text: str) -> str:
    """Show what would act instead of being read: control, bidirectional and zero-width characters.

    They come back as ``\\x1b`` or ``\\u202e``; a line break becomes a space.
    """
    return "".join(
        c
        if not unicodedata.category(c).startswith(("C", "Zl", "Zp"))
        else (" " if c in "\n\r\t" else _escaped(c))
        for c in text
    )


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def shorten(text: str, width: int) -> str:
    """Cut ``text`` to ``width`` characters, in the middle, where kernel names tell least."""
    if len(text) <= width:
        return text
    tail = (width - 1) // 3
    return f"{text[: width - 1 - tail]}…{text[len(text) - tail :]}"


def markdown(text: str) -> str:
    """Escape ``text`` for running Markdown: no markup, no HTML, no mention, no reference."""
    text = visible(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = _MARKDOWN.sub(lambda m: "\\" + m.group(), text)
    text = _MENTION.sub("\\1\u2060", text)  # a word joiner: looks the same, notifies nobody
    return _BLOCK_START.sub(r"\1\\\2", text)


def code(text: str, width: int = 60, *, in_table: bool = False) -> str:
    """Put ``text`` in a Markdown code span; in a table a pipe would end the cell, even in code."""
    text = shorten(visible(text), width).strip() or UNNAMED
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if longest else ""
    span = f"{fence}{pad}{text}{pad}{fence}"
    return span.replace("|", "\\|") if in_table else span


UNNAMED: Final = "(unnamed)"


def spreadsheet(text: str) -> str:
    """Neutralise text that a spreadsheet would run as a formula: a quote in front.

    Applies to a first character of ``= + - @``, tab or carriage return, also after blanks.
    """
    return f"'{text}" if text.lstrip()[:1] in set("=+-@") or text[:1] in set("\t\r\n") else text
