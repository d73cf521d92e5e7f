"""Files that the package carries for those who install the daemon."""

from __future__ import annotations

import sys
from importlib.resources import files
from pathlib import Path
from typing import Final

FILES: Final = {
    "service": "systemd/rocscope.service",
    "attach": "systemd/attach.conf",
    "listen": "systemd/listen.conf",
    "sysusers": "systemd/sysusers.conf",
    "container": "container/Containerfile",
}
PROGRAM: Final = "/usr/local/bin/rocscope"
"""Where the unit expects the program, unless it is told where it runs from."""


def text(name: str) -> str:
    """Return a file by its short name; the unit starts the program that runs now."""
    found = (files("rocscope") / "data" / FILES[name]).read_text(encoding="utf-8")
    return found.replace(PROGRAM, program()) if name == "service" else found


def program() -> str:
    """Return the path of the program that runs now, else where it is expected."""
    own = Path(sys.argv[0]).absolute()
    return str(own) if own.name == "rocscope" and own.is_file() and " " not in str(own) else PROGRAM
