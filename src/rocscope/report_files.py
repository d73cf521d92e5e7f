"""The reports and the capture of an analysis as files: each complete under its name, or not there at all."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rocscope.capture import Capture, is_capture
from rocscope.errors import InputError
from rocscope.findings import Analysis

if TYPE_CHECKING:
    from rocscope.reports.report import Report


def write_reports(
    analysis: Analysis, capture: Capture, out: Path, *, chosen: Sequence[Report[Analysis]] | None = None
) -> dict[str, Path]:
    """Write every report, or those ``chosen``, and the capture into ``out``; return what was written.

    Each file is complete or absent, also after a crash; earlier reports and an earlier capture of the same
    folder are replaced. Raises :class:`InputError` where ``out`` cannot be written.
    """
    if chosen is None:
        from rocscope.reports.report import reports

        chosen = tuple(reports().values())
    written = {}
    try:
        out.mkdir(parents=True, exist_ok=True)
        for report in chosen:
            written[report.name] = write(out / report.filename, report.render(analysis))
        written["capture"] = _replace_capture(capture, out / "capture")
    except OSError as error:
        raise InputError(
            f"{out}: cannot write the reports ({error.strerror or error})", "name another --out"
        ) from error
    return written


def write(path: Path, text: str) -> Path:
    """Write a text file so that it is whole under its name, or not there at all, also after a crash."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="\n") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def _replace_capture(capture: Capture, folder: Path) -> Path:
    if not folder.exists():
        return capture.save(folder)
    if not is_capture(folder):
        raise InputError(f"{folder} exists and is no capture", "name another --out, or move it away")
    fresh = capture.save(folder.with_name(f".capture.{uuid.uuid4().hex[:8]}.new"))
    old = folder.with_name(f".capture.{uuid.uuid4().hex[:8]}.old")
    folder.rename(old)
    fresh.rename(folder)
    shutil.rmtree(old)
    return folder
