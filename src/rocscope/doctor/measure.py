"""Runs the program that measures a card's ceilings, in a Python that has torch, and reads what it prints."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, Final

import rocscope.data
from rocscope import ceilings
from rocscope.ceilings import Measurement
from rocscope.errors import TargetError

PROGRAM: Final = Path(rocscope.data.__file__).parent / "programs" / "ceilings.py"
DEADLINE_S: Final = 600.0  # for one card: half a minute on a fast one, compiling counted in
MOST_PRINTED: Final = 16 << 20
_TICK_S: Final = 0.1
_STEP: Final = "measuring "
_LAST: Final = 300  # characters of what a failed program said

Progress = Callable[[str], None]


def measure(
    python: str, device: int, environment: Mapping[str, str], *, deadline_s: float, progress: Progress
) -> Measurement:
    """Measure one card. Raises :class:`TargetError` where the program fails, hangs or prints no result.

    Nothing of the program is left running.
    """
    with tempfile.TemporaryFile() as out:
        command = [python, str(PROGRAM), "--device", str(device)]
        try:
            process = subprocess.Popen(
                command,
                env={**environment, "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise TargetError(
                f"{python}: {error.strerror}", "name a Python that has torch: --python"
            ) from error
        try:
            said = _listen(process, out, deadline_s, progress)
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):  # a group of our own making
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if process.stderr:
                process.stderr.close()
        out.seek(0)
        printed = out.read(MOST_PRINTED).decode("utf-8", "replace")
    if process.returncode:
        words = _last(said) or _last(printed) or "it said nothing"
        raise TargetError(f"measuring device {device} failed: {words}", _hint(words))
    return ceilings.measurement(_result(printed, said))


def _listen(process: subprocess.Popen[bytes], out: IO[bytes], deadline_s: float, progress: Progress) -> str:
    """Wait for the end of the program; return the end of what it said."""
    assert process.stderr is not None  # noqa: S101  # it was asked for
    stream = process.stderr.fileno()
    until = time.monotonic() + deadline_s
    said = b""
    pending = b""
    while True:
        ended = process.poll() is not None
        ready = select.select([stream], [], [], 0 if ended else _TICK_S)[0]
        data = os.read(stream, 1 << 16) if ready else b""
        said = (said + data)[-(1 << 16) :]
        *lines, pending = (pending + data)[-(1 << 16) :].split(b"\n")
        for line in lines:
            text = line.decode("utf-8", "replace")
            if text.startswith(_STEP):
                progress(text)
        if ended and not data:  # a stray child may keep the pipe open: it is not waited for
            return said.decode("utf-8", "replace")
        if ready and not data:
            time.sleep(_TICK_S)  # it closed the pipe and runs on
        if os.fstat(out.fileno()).st_size > MOST_PRINTED:
            raise TargetError("the measurement prints without end", "run it by hand: " + str(PROGRAM))
        if not ended and time.monotonic() > until:
            step = next((text for text in reversed(_lines(said)) if text.startswith(_STEP)), "its start")
            raise TargetError(
                f"the measurement did not end within {deadline_s:g} s; last was {step}",
                "see whether the GPU answers at all, or allow more with --measure-timeout",
            )


def _lines(said: bytes) -> list[str]:
    return said.decode("utf-8", "replace").splitlines()


def _result(printed: str, said: str) -> Any:
    """Return the last JSON object that a line begins with; libraries print before and after it."""
    decoder = json.JSONDecoder()
    found: Any = None
    at = 0
    while at < len(printed):
        if printed[at] == "{":
            try:
                value, end = decoder.raw_decode(printed, at)
            except (ValueError, RecursionError):
                pass
            else:
                if isinstance(value, dict) and "schema_version" in value:
                    found = value
                at = end
        line_end = printed.find("\n", at)
        at = len(printed) if line_end < 0 else line_end + 1
    if found is None:
        words = _last(printed) or _last(said) or "nothing"
        raise TargetError(f"the measurement printed no result, but: {words}", "name another --python")
    return found


def _last(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith(_STEP)]
    return lines[-1][:_LAST] if lines else ""


def _hint(words: str) -> str:
    if "no torch" in words:
        return "name a Python that has torch, for example that of vLLM: --python /path/to/venv/bin/python"
    if "out of memory" in words.lower():
        return "end what uses the GPU's memory: 5 GiB have to be free"
    return "see whether torch works there: python -c 'import torch; print(torch.cuda.is_available())'"
