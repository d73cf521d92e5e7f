"""The period of a step in both sides: the tier that speaks for a recording, and one for each other batch."""

from __future__ import annotations

from rocscope.comparison.judging import LEAST_STEPS, Judged, Measured
from rocscope.comparison.panel import Panel
from rocscope.comparison.result import Tier
from rocscope.wording import change, duration


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
    if waits := waits_note(panel):
        parts.append(waits)
    if not measured.judged:
        parts.append(f"no verdict from fewer than {LEAST_STEPS} periods")
    return "; ".join(parts)


def waits_note(panel: Panel) -> str | None:
    """Say how many steps are left out as the GPU waited, and what the step takes with them."""
    sides = (panel.base, panel.new)
    if not any(each.waited for each in sides):
        return None
    counts = [each.waited for each in sides]
    totals = [each.waited + len(each.period_ns) for each in sides]
    means = [
        (float(each.period_ns.sum()) + each.waited_ns) / total
        for each, total in zip(sides, totals, strict=True)
    ]
    return (
        f"{counts[0]} of {totals[0]} and {counts[1]} of {totals[1]} steps, in which the GPU waited unusually "
        f"long, are left out: with them {duration(means[0])} against {duration(means[1])}, "
        f"{change(means[1] / means[0] - 1)}"
    )
