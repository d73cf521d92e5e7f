"""The daemon's log: a line an event on standard error, for journald or a terminal, and never a flood."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Mapping
from typing import Final, TextIO

from rocscope.untrusted import visible

MOST_A_MINUTE: Final = 120  # lines; what is beyond is counted, and the count is said
LONGEST: Final = 2000
_PRIORITY: Final = {"DEBUG": 7, "INFO": 6, "WARNING": 4, "ERROR": 3, "CRITICAL": 2}


class LineFormatter(logging.Formatter):
    """``level=info kind=engine msg="…"``; with its time, or for journald with its priority in front."""

    def __init__(self, *, journal: bool) -> None:
        super().__init__()
        self._journal = journal

    def format(self, record: logging.LogRecord) -> str:
        """Return one line, whatever is in the message."""
        text = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            text += f" ({where(record.exc_info[1])})"
        kind = getattr(record, "kind", record.name)
        said = visible(text)[:LONGEST].replace("\\", "\\\\").replace('"', '\\"')
        line = f'level={record.levelname.lower()} kind={visible(str(kind))} msg="{said}"'
        if self._journal:
            return f"<{_PRIORITY.get(record.levelname, 6)}>{line}"
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(record.created))
        return f"time={at} {line}"


class Limit(logging.Filter):
    """Lets so many lines a minute pass; errors pass in any case."""

    def __init__(self, most: int = MOST_A_MINUTE) -> None:
        super().__init__()
        self._most, self._minute, self._count = most, 0, 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether a line passes."""
        minute = int(record.created // 60)
        if minute != self._minute:
            if self._count > self._most:
                left_out = self._count - self._most
                record.msg, record.args = f"{record.getMessage()} ({left_out} lines were left out before)", ()
            self._minute, self._count = minute, 0
        self._count += 1
        return self._count <= self._most or record.levelno >= logging.ERROR


def where(error: BaseException) -> str:
    """Say in a few words what an error is and where it was raised; no traceback, which has many lines."""
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    place = f" at {os.path.basename(last.tb_frame.f_code.co_filename)}:{last.tb_lineno}" if last else ""  # noqa: PTH119  # of a string
    return f"{type(error).__name__}: {error}{place}"


def to_journal(environment: Mapping[str, str], stream: TextIO) -> bool:
    """Whether a stream is journald's (systemd.exec(5), ``$JOURNAL_STREAM``)."""
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return environment.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def begin(level: int = logging.INFO, stream: TextIO | None = None) -> logging.Handler:
    """Log to ``stream``: our own lines from ``level`` on, those of libraries from warnings on."""
    stream = stream or sys.stderr
    handler = logging.StreamHandler(stream)
    handler.setFormatter(LineFormatter(journal=to_journal(os.environ, stream)))
    handler.addFilter(Limit())
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.getLogger("rocscope").setLevel(level)
    logging.raiseExceptions = False  # a closed terminal must not end the daemon
    return handler
