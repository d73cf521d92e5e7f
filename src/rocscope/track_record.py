"""The track record of forecasts: as they were stored when a recording was analysed, and what came of them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rocscope import forecast_ledger
from rocscope.capture import Capture, Provenance, is_capture, load_manifest
from rocscope.config import AnalyzeOptions
from rocscope.errors import RocscopeError
from rocscope.findings import Analysis, Target
from rocscope.forecast_choice import recording_id, recordings_id
from rocscope.forecast_ledger import Entry

if TYPE_CHECKING:
    from rocscope.comparison import Comparison, Side

_WEAKEST: Final[tuple[Provenance, ...]] = ("recorded", "replayed", "synthetic")
_LONGEST: Final = 4000  # of a text in the ledger


def stored(
    recording: str | os.PathLike[str] | Capture, capture: Capture, options: AnalyzeOptions
) -> list[Target] | None:
    """Return the targets as they were forecast when ``recording`` was analysed, where that is kept beside it.

    ``recording`` is the folder of reports, or the capture in it. What is analysed in another way now, or
    cannot be read, is forecast anew: ``None``.
    """
    if isinstance(recording, Capture) or options != AnalyzeOptions():
        return None
    found = analysis_of(Path(recording), capture.manifest.id)
    return None if found is None or found.capture.selection else found.targets


def analysis_of(path: Path, capture_id: str | None = None) -> Analysis | None:
    """Return the analysis that was written with the capture ``path`` is, or into the folder of reports it is.

    ``None`` where there is none, it cannot be read, or it is of another capture than that (``capture_id``,
    by default that of the capture in the folder).
    """
    from rocscope.reports import contract

    folder = path.parent if is_capture(path) else path
    if not is_capture(folder / "capture"):
        return None
    try:
        wanted = capture_id or load_manifest(folder / "capture").id
        found = contract.read(folder / "analysis.json")
    except RocscopeError:
        return None
    return found if found is not None and found.capture.id == wanted else None


def keep(
    found: Comparison,
    base: Side,
    new: Side,
    *,
    options: AnalyzeOptions,
    version: str,
    environment: Mapping[str, str] | None = None,
) -> list[str]:
    """Enter what came of base's forecasts in this user's ledger; return what a user should know of it.

    A ledger that cannot be written costs a note, never the comparison.
    """
    made = entries(found, base, new, options=options, version=version)
    if not made:
        return []
    try:
        path = forecast_ledger.place(os.environ if environment is None else environment)
        forecast_ledger.write(path, made)
    except RocscopeError as error:
        hint = f" ({error.hint})" if error.hint else ""
        return [f"scored forecasts are not kept: {error.message}{hint}"]
    counted = "1 scored forecast is" if len(made) == 1 else f"{len(made)} scored forecasts are"
    note = f"{counted} kept in the ledger (`rocscope forecasts`)"
    if all(each.other_work for each in made):
        note += "; as other work is done now, later forecasts do not learn from it"
    elif made[0].provenance != "recorded":
        note += f"; as the recordings are {made[0].provenance}, later forecasts do not learn from it"
    return [note]


def entries(
    found: Comparison, base: Side, new: Side, *, options: AnalyzeOptions, version: str
) -> list[Entry]:
    """Return the forecasts of a comparison that were scored, as the ledger keeps them."""
    runs = [[run.capture.manifest for run in side.runs] for side in (base, new)]
    known = [{recording_id(each) for each in side} for side in runs]
    if not found.comparable or known[0] & known[1]:
        return []
    first, second = (recordings_id(side, options)[:_LONGEST] for side in runs)
    now = datetime.now(UTC).replace(microsecond=0).isoformat()
    weakest = max((each.provenance for side in runs for each in side), key=_WEAKEST.index)
    made = []
    for each in found.forecasts:
        if each.hit is None or each.actual_frac is None or each.tried_by is None:
            continue
        told = each.model_dump(exclude={"target_id", "tried", "actual_low_frac", "actual_high_frac"})
        told = {name: _text(value) if isinstance(value, str) else value for name, value in told.items()}
        made.append(
            Entry.model_validate(
                told
                | {
                    "base": first,
                    "new": second,
                    "target": each.target_id,
                    "gpu": "; ".join(base.gpu_names or []) or None,
                    "replaced_by": tuple(_text(name) for name in each.replaced_by),
                    "provenance": weakest,
                    "recorded_at": now,
                    "rocscope_version": version,
                }
            )
        )
    return made


def _text(value: str) -> str:
    """Return text that SQLite and JSON take: no halves of characters, not endless."""
    return value.encode("utf-8", "replace").decode()[:_LONGEST]
