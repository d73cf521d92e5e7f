"""Locales of this machine: which there are, and how a program is given one that it insists on."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

FOLDER: Final = Path("/usr/lib/locale")
_ALL: Final = 0x1FBF  # LC_ALL_MASK of glibc
_UTF8: Final = re.compile(r"utf-?8", re.IGNORECASE)
_SETTINGS: Final = ("LC_ALL", "LC_CTYPE", "LANG")  # the first that is set counts


def exists(name: str) -> bool:
    """Tell whether the C library finds a locale; nothing is set. Where it cannot be asked, say so of all."""
    try:
        library = ctypes.CDLL(None)
        library.newlocale.restype = ctypes.c_void_p
        library.freelocale.argtypes = [ctypes.c_void_p]
        found = library.newlocale(_ALL, name.encode(), None)
    except (OSError, AttributeError):  # no glibc
        return True
    if found:
        library.freelocale(found)
    return bool(found)


def is_utf8(environment: Mapping[str, str]) -> bool:
    """Tell whether programs are to write UTF-8."""
    chosen = next((environment[name] for name in _SETTINGS if environment.get(name)), "")
    return bool(_UTF8.search(chosen))


def stand_in(name: str, into: Path, folder: Path | None = None) -> dict[Path, Path]:
    """Return links by which ``LOCPATH=into`` makes C.UTF-8 be found as ``name`` too, ``{}`` without one."""
    folder = FOLDER if folder is None else folder
    for plain in ("C.utf8", "C.UTF-8"):
        if (folder / plain).is_dir():
            return {into / name: folder / plain, into / "C.UTF-8": folder / plain}
    return {}
