"""Two recordings set against each other. Intervals hold what :mod:`step_tier` says they hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rocscope.comparison import forecasts
from rocscope.comparison.clocks import by_clock, clock_notes
from rocscope.comparison.comparable import why_not
from rocscope.comparison.differences import differences, family_table, kernel_table, phase_table
from rocscope.comparison.result import Comparison, Tier
from rocscope.comparison.serving_tiers import served
from rocscope.comparison.side import Side
from rocscope.comparison.step_tier import step_tier


def compare(base: Side, new: Side, tried: Sequence[str] = ()) -> Comparison:
    """Say what changed from ``base`` to ``new``, and what came of base's forecasts.

    What cannot be compared is not judged. ``tried`` names targets that were worked on, see :mod:`forecasts`.
    """
    unlike = why_not(base, new)
    notes = [
        "intervals hold the spread between steps of these two recordings, not from run to run: repeat both "
        "before you trust a small difference"
    ]
    for side in (base, new):
        notes += [each.message for each in side.capture.manifest.notices if each.code == "companions"]
    found = step_tier(base, new, comparable=not unlike)
    tiers: list[Tier] = []
    floor = None
    counts: tuple[float, float] | None = None
    if found is None:
        notes.append("no steps in common: neither the same step annotations nor a repeating sequence in both")
    else:
        tier, floor, counts = found
        tiers.append(tier)
    loads = served(base, new, comparable=not unlike)
    tiers += loads.tiers
    notes += loads.notes
    kernels = by_clock(base, new, differences(kernel_table(base), kernel_table(new), counts))
    notes += clock_notes(base, new, kernels, tiers)
    found_so_far = Comparison(
        comparable=not unlike,
        why_not=unlike,
        base=_about(base),
        new=_about(new),
        tiers=tiers,
        phases=differences(phase_table(base), phase_table(new), None),
        families=differences(family_table(base), family_table(new), counts),
        kernels=kernels,
        times_of="step" if counts else "recording",
        noise_floor_frac=floor,
        notes=notes,
    )
    scored = forecasts.score(base.targets, base.analysis, new.analysis, found_so_far, tried)
    told = [*notes, *forecasts.notes(scored)]
    return found_so_far.model_copy(update={"forecasts": scored, "notes": told})


def _about(side: Side) -> dict[str, Any]:
    info = side.analysis.capture
    return {
        "id": info.id,
        "profiler": info.profiler,
        "provenance": info.provenance,
        "sources": [source.get("path") for source in info.sources],
        "gpus": [gpu.model or gpu.arch for gpu in side.analysis.gpus],
        "dispatches": side.analysis.integrity.dispatches,
    }
