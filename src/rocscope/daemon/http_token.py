"""The token of the HTTP side: read from a file that others cannot read, compared in constant time."""

from __future__ import annotations

import hmac
import os
import re
import stat
from pathlib import Path
from typing import Final

from rocscope.errors import InputError, PermissionMissing

LEAST_CHARACTERS: Final = 22  # of base64: 128 bits
MOST_BYTES: Final = 4096
_HEX: Final = re.compile(r"[0-9a-fA-F]+")
_LEAST_HEX: Final = 32
_FORM: Final = re.compile(r"[A-Za-z0-9._~+/=-]+")
_HINT: Final = "make one: (umask 077; head -c 32 /dev/urandom | base64 > FILE)"


class Token:
    """Holds a token; its text is in no message, log or repr."""

    def __init__(self, text: str) -> None:
        self._bytes = text.encode("ascii")

    def __repr__(self) -> str:
        return "Token(...)"

    def matches(self, header: str) -> bool:
        """Tell whether an Authorization header carries it."""
        scheme, _, given = header.partition(" ")
        if scheme.lower() != "bearer":
            return False
        return hmac.compare_digest(given.strip().encode("utf-8", "surrogatepass"), self._bytes)


def read(path: Path) -> Token:
    """Read a token. Raises :class:`InputError` for one that is weak, and where others may read the file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise PermissionMissing(f"{path}: {error.strerror}", _HINT) from error
    with open(descriptor, "rb") as stream:  # noqa: PTH123  # of a descriptor
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise InputError(f"{path}: not a regular file", _HINT)
        if found.st_uid not in (0, os.geteuid()):
            raise InputError(f"{path}: belongs to user {found.st_uid}, who knows the token", _HINT)
        if found.st_mode & 0o137:  # 0600 and 0640 are allowed, and what is stricter
            raise InputError(
                f"{path}: mode {stat.S_IMODE(found.st_mode):04o} lets others at the token",
                f"chmod 0600 {path}",
            )
        raw = stream.read(MOST_BYTES + 1)
    text = raw.decode("utf-8", "replace").strip()
    least = _LEAST_HEX if _HEX.fullmatch(text) else LEAST_CHARACTERS
    if len(raw) > MOST_BYTES or not _FORM.fullmatch(text) or len(text) < least:
        raise InputError(f"{path}: no token of at least 128 bits", _HINT)
    return Token(text)
