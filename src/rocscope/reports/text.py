"""Names and sentences from a recording, cut and escaped for Markdown and for tables."""

from __future__ import annotations

import re
from typing import Final

from rocscope.untrusted import visible

__all__ = ["clip", "code", "markdown", "short_words", "shorten", "ticked", "visible"]

_MARKDOWN: Final = re.compile(r"[\\`*\[\]|~]|(?<!\w)_|_(?!\w)")
_MENTION: Final = re.compile(r"([@#])(?=\w)")
UNNAMED: Final = "(unnamed)"
_BLOCK_START: Final = re.compile(r"^(\s*)([#>=]|[-+](?=\s|$))|^(\s*\d+)([.)])(?=\s|$)")


def shorten(text: str, width: int) -> str:
    """Cut ``text`` to ``width`` characters, in the middle, where kernel names tell least."""
    if len(text) <= width:
        return text
    tail = (width - 1) // 3
    return f"{text[: width - 1 - tail]}…{text[len(text) - tail :]}"


def clip(text: str, width: int) -> str:
    """Cut a sentence to ``width`` characters at the end of a word."""
    return text if len(text) <= width else f"{text[:width].rpartition(' ')[0] or text[: width - 1]} …"


def short_words(text: str, width: int) -> str:
    """Cut each word of a sentence to ``width`` characters: a kernel's name may be longer than the rest."""
    return " ".join(shorten(word, width) for word in text.split(" "))


def ticked(text: str, width: int) -> str:
    """Escape ``text`` for Markdown; between backticks it is code of at most ``width`` characters."""
    parts = text.split("`")
    if len(parts) % 2 == 0:  # one without a partner
        return markdown(text)
    return "".join(code(part, width) if at % 2 else markdown(part) for at, part in enumerate(parts))


def markdown(text: str) -> str:
    """Escape ``text`` for running Markdown: no markup, no HTML, no mention, no reference."""
    text = visible(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = _MARKDOWN.sub(lambda m: "\\" + m.group(), text)
    text = _MENTION.sub("\\1\u2060", text)  # a word joiner: looks the same, notifies nobody
    return _BLOCK_START.sub(lambda m: f"{m[1] or m[3] or ''}\\{m[2] or m[4]}", text)


def code(text: str, width: int = 60, *, in_table: bool = False) -> str:
    """Put ``text`` in a Markdown code span; in a table a pipe would end the cell, even in code."""
    text = shorten(visible(text), width).strip() or UNNAMED
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if longest else ""
    span = f"{fence}{pad}{text}{pad}{fence}"
    return span.replace("|", "\\|") if in_table else span
