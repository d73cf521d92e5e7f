"""The track record of forecasts: those that were stored when a recording was analysed first."""

from __future__ import annotations

import os
from pathlib import Path

from rocscope.capture import Capture, is_capture
from rocscope.config import AnalyzeOptions
from rocscope.errors import InputError
from rocscope.findings import Target


def stored(
    recording: str | os.PathLike[str] | Capture, capture: Capture, options: AnalyzeOptions
) -> list[Target] | None:
    """Return the targets as they were forecast when ``recording`` was analysed, where that is kept beside it.

    ``recording`` is the folder of reports, or the capture in it. What is analysed in another way now, or
    cannot be read, is forecast anew: ``None``.
    """
    from rocscope.reports import contract

    if isinstance(recording, Capture) or options != AnalyzeOptions():
        return None
    path = Path(recording)
    folder = path.parent if is_capture(path) else path
    if not is_capture(folder / "capture"):
        return None
    try:
        found = contract.read(folder / "analysis.json")
    except InputError:
        return None
    if found is None or found.capture.id != capture.manifest.id or found.capture.selection:
        return None
    return found.targets
