"""Asking a program something, with a deadline that also holds for what the program itself starts."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Answer:
    """What the program said and how it ended."""

    exit_code: int
    stdout: str
    stderr: str


def ask(command: Sequence[str], *, environment: Mapping[str, str], timeout_s: float) -> Answer | None:
    """Run ``command`` in its own session and return its answer, ``None`` if there was none in time.

    Its output goes to files: a pipe that a stray child keeps open would be waited for. Nothing of it is
    left running. Raises ``OSError`` if it cannot be started.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = subprocess.Popen(
            command,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )
        try:
            code = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):  # it is a group of our own making
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        texts = []
        for stream in (out, err):
            stream.seek(0)
            texts.append(stream.read(1 << 20).decode("utf-8", "replace"))
        return Answer(code, texts[0], texts[1])
