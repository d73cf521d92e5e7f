"""Text from a recording is untrusted: what would act, instead of being read, is made harmless here."""

from __future__ import annotations

import unicodedata


def visible(text: str) -> str:
    """Show control, bidirectional and zero-width characters instead of obeying them.

    They come back as ``\\x1b`` or ``\\u202e``; a tab or line break becomes a space.
    """
    if text.isprintable():
        return text
    return "".join(
        c
        if not unicodedata.category(c).startswith(("C", "Zl", "Zp"))
        else (" " if c in "\n\r\t" else _escaped(c))
        for c in text
    )


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def spreadsheet(text: str) -> str:
    """Neutralise text that a spreadsheet would run as a formula: a quote in front.

    Applies to a first character of ``= + - @``, also after blanks, and to a leading tab or line break.
    """
    return f"'{text}" if text.lstrip()[:1] in set("=+-@") or text[:1] in set("\t\r\n") else text
