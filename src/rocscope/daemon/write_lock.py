"""A process that may write below some folders alone, for good (Landlock, of Linux 5.13 and newer).

The kernel then also keeps it from the memory of any process outside, whatever user that is of.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Final

PR_SET_NO_NEW_PRIVS: Final = 38
# calls have one number on all machines; the rest is of linux/landlock.h
_CREATE, _ADD, _RESTRICT = 444, 445, 446
_TELL_VERSION: Final = 1
_PATH_BENEATH: Final = 1
_WRITE_FILE: Final = 1 << 1
_CHANGES: Final = sum(1 << bit for bit in range(4, 13))  # to remove and make whatever there is
_REFER, _TRUNCATE = 1 << 13, 1 << 14  # since versions 2 and 3
_DEVICES: Final = (Path("/dev/null"),)  # that libraries write to


def version() -> int:
    """Return which version of Landlock the kernel has; below 1 where it has none, or may not be asked."""
    return _call(_CREATE, None, 0, _TELL_VERSION)


def allow_writes(folders: Sequence[Path]) -> bool:
    """Let this process write below ``folders`` and nowhere else; ``False`` where the kernel cannot do that.

    What is open already stays so. To be called before a thread is started. Raises ``OSError`` for a folder
    that cannot be opened.
    """
    known = version()
    if known < 1:
        return False
    in_file = _WRITE_FILE | (_TRUNCATE if known >= 3 else 0)
    all_of_it = in_file | _CHANGES | (_REFER if known >= 2 else 0)
    asked = struct.pack("=Q", all_of_it)
    rules = _call(_CREATE, asked, len(asked), 0)
    if rules < 0:
        return False
    try:
        for path, allowed in (
            *((each, all_of_it) for each in folders),
            *((each, in_file) for each in _DEVICES),
        ):
            descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
            try:
                rule = struct.pack("=Qi", allowed, descriptor)
                if _call(_ADD, rules, _PATH_BENEATH, rule, 0) < 0:
                    return False
            finally:
                os.close(descriptor)
        ctypes.CDLL(None).prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        return _call(_RESTRICT, rules, 0) == 0
    finally:
        os.close(rules)


def _call(number: int, *arguments: bytes | int | None) -> int:
    given = [ctypes.c_ulong(each) if isinstance(each, int) else ctypes.c_char_p(each) for each in arguments]
    return int(ctypes.CDLL(None, use_errno=True).syscall(ctypes.c_long(number), *given))
