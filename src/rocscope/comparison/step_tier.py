"""The period of a step in both sides: the tier that speaks for a recording, and one for each other batch."""

from __future__ import annotations

from rocscope.comparison.judging import LEAST_STEPS, Judged, Measured
from rocscope.comparison.panel import Panel
from rocscope.comparison.result import Tier


def tier(panel: Panel, measured: Measured, judged: Judged, *, comparable: bool, first: bool) -> Tier:
    """Return the tier of a panel's period."""
    name = "step" if first else f"step, {panel.kind.label}"
    verdict = judged.verdict if comparable else None
    return Tier(
        tier=name,
        metric="period_s",
        unit="s",
        base=judged.base * 1e-9,
        new=judged.new * 1e-9,
        change_frac=judged.new / judged.base - 1,
        low_frac=judged.low,
        high_frac=judged.high,
        verdict=verdict or "no difference shown",
        basis=basis(panel, measured),
        steps=(len(panel.base.period_ns), len(panel.new.period_ns)),
        sequences=panel.kind.sequences,
        noise_floor_frac=floor(judged),
    )


def floor(judged: Judged) -> float | None:
    """Return the smallest change that would have been shown, as a share of base."""
    return None if judged.margin is None or judged.base <= 0 else judged.margin / judged.base


def basis(panel: Panel, measured: Measured) -> str:
    """Say what the period is a mean of, and how the steps were found."""
    counts = (len(panel.base.period_ns), len(panel.new.period_ns))
    parts = [f"mean of {counts[0]} and {counts[1]} periods"]
    if measured.by_run:
        parts[0] += f" in {measured.counts[0]} and {measured.counts[1]} repeats"
    parts.append(f"base: {panel.base.found_by}; new: {panel.new.found_by}")
    paused = panel.base.paused + panel.new.paused
    if paused:
        parts.append(f"{paused} steps that a pause followed are left out")
    if not measured.judged:
        parts.append(f"no verdict from fewer than {LEAST_STEPS} periods")
    return "; ".join(parts)
