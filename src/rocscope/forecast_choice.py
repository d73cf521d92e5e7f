"""Which scored forecasts an analysis learns from: this user's ledger, none, or those of a file."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from rocscope import forecast_ledger
from rocscope.capture import Manifest
from rocscope.config import AnalyzeOptions
from rocscope.errors import NotFound, RocscopeError
from rocscope.findings import Warned
from rocscope.forecast_ledger import Entry
from rocscope.gain_history import GainHistory, Realised

AUTO: Final = "auto"
NONE: Final = "none"
_PART: Final = "/"  # between the data of recordings and what was selected of them
_AND: Final = "+"  # between recordings of one thing


def apply(
    manifest: Manifest, choice: str, environment: Mapping[str, str] | None = None
) -> tuple[GainHistory, list[Warned]]:
    """Return what scored changes gave, and why this user's ledger could not be used.

    A forecast is not to know what came of it: changes of this very recording are left out. Raises
    :class:`InputError` for a named file that cannot be used.
    """
    if choice == NONE:
        return GainHistory(), []
    if choice != AUTO:
        return history(forecast_ledger.read(Path(choice)), recording_id(manifest)), []
    try:
        path = forecast_ledger.place(os.environ if environment is None else environment)
        return history(forecast_ledger.read(path), recording_id(manifest)), []
    except NotFound:
        return GainHistory(), []
    except RocscopeError as error:
        return GainHistory(), [
            Warned(code="forecasts-unusable", message=f"scored forecasts are not used: {error.message}")
        ]


def check(choice: str) -> None:
    """Raise :class:`InputError` where a file is named that cannot be used."""
    if choice not in (AUTO, NONE):
        forecast_ledger.read(Path(choice))


def history(entries: Sequence[Entry], leave_out: str = "") -> GainHistory:
    """Return the realised shares of recorded changes; ``leave_out`` is the recording they are used for."""
    return GainHistory(
        Realised(each.shares_of, each.realised_share_frac, f"{each.target}\x00{each.gpu or ''}")
        for each in entries
        if each.shares_of is not None
        and each.realised_share_frac is not None
        and each.counts
        and each.provenance == "recorded"
        and leave_out not in each.base.partition(_PART)[0].split(_AND)
    )


def recording_id(manifest: Manifest) -> str:
    """Return what identifies a recording.

    Read twice from the same files it is the same; where these are not known, it is the capture's own id.
    """
    sums = sorted(each.sha256 for each in manifest.sources)
    if sums and all(sums):
        return hashlib.sha256("\n".join(sums).encode()).hexdigest()[:16]
    return manifest.id


def recordings_id(manifests: Sequence[Manifest], options: AnalyzeOptions) -> str:
    """Return what identifies recordings of one thing, and the part of them that ``options`` select."""
    chosen = {"ranks": options.ranks, "steps": options.steps, "between": options.between_s}
    parts = [f"{_PART}{name}={value}" for name, value in chosen.items() if value is not None]
    return _AND.join(sorted({recording_id(each) for each in manifests})) + "".join(parts)
