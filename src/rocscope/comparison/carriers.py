"""Which families, pauses and clocks carry the change of a step, as far as the comparison shows them."""

from __future__ import annotations

from typing import Final

from rocscope.comparison.result import Difference, Reason, Tier
from rocscope.wording import change, duration, percent, signed

_LEAST_FRAC: Final = 0.1  # of the change of the step, below which a part of it is not named
_LEAST_SHARE: Final = 0.1  # of a step, from which a family that stays the same is named
_SAME_FRAC: Final = 0.02  # of its own time, within which it stays the same
_MOST: Final = 5


def reasons(
    tiers: list[Tier], families: list[Difference], kernels: list[Difference], gaps: list[Difference]
) -> list[Reason]:
    """Return what the step's change is made of; nothing where no change of the step is shown."""
    step = next((tier for tier in tiers if tier.tier == "step"), None)
    if step is None or step.verdict == "no difference shown":
        return []
    told = [_of_families(step, families, kernels), _of_gaps(step, gaps), _of_clocks(step, kernels)]
    return [each for each in told if each is not None]


def _named(rows: list[Difference], change: float) -> list[Difference]:
    """Return the rows that make up a tenth of the change or more, in either direction, and are shown to."""
    found = [
        row
        for row in rows
        if row.step_frac is not None
        and abs(row.step_frac) >= _LEAST_FRAC * abs(change)
        and row.verdict != "no difference shown"
    ]
    return sorted(found, key=lambda row: -abs(row.step_frac or 0.0))[:_MOST]


def _of_families(step: Tier, families: list[Difference], kernels: list[Difference]) -> Reason | None:
    found = _named(families, step.change_frac)
    if not found:
        return None
    parts = [f"{row.name} {_signed((row.step_frac or 0.0) * step.base)}" for row in found]
    text = f"the step changes by {_signed(step.new - step.base)}: {', '.join(parts)}"
    same = [row for row in families if _same(row, step)]
    if same:
        text += "; " + ", ".join(f"{row.name} takes the same ({_sides(row)})" for row in same)
    evidence = [_line(row) for row in (*found, *same, *_named(kernels, step.change_frac))]
    return Reason(about="step", text=f"{text}.", evidence=evidence, basis="measured")


def _same(row: Difference, step: Tier) -> bool:
    share = (row.base_s or 0.0) / step.base if step.base else 0.0
    return row.change_frac is not None and abs(row.change_frac) <= _SAME_FRAC and share >= _LEAST_SHARE


def _of_gaps(step: Tier, gaps: list[Difference]) -> Reason | None:
    found = _named(gaps, step.change_frac)
    if not found:
        return None
    parts = [f"{row.name} {_signed((row.step_frac or 0.0) * step.base)}" for row in found]
    text = f"of the step's change {', '.join(parts)} are not kernels' own time"
    return Reason(about="step", text=f"{text}.", evidence=[_line(row) for row in found], basis="measured")


def _of_clocks(step: Tier, kernels: list[Difference]) -> Reason | None:
    explained = [row for row in kernels if row.explained_by and row.step_frac is not None]
    share = sum(row.step_frac or 0.0 for row in explained) / step.change_frac if step.change_frac else 0.0
    if share < _LEAST_FRAC:
        return None
    text = f"{percent(min(share, 1.0))} of the step's change is of kernels that changed just as the clock did"
    evidence = [f"{row.name}: {row.explained_by}" for row in explained[:_MOST]]
    return Reason(about="step", text=f"{text}.", evidence=evidence, basis="measured")


def _line(row: Difference) -> str:
    part = "" if row.step_frac is None else f", {change(row.step_frac)} of a base step"
    return f"{row.name}: {_sides(row)} a step, mean over the steps compared{part}"


def _sides(row: Difference) -> str:
    return f"{_time(row.base_s)} in base, {_time(row.new_s)} in new"


def _time(value_s: float | None) -> str:
    return "none" if value_s is None else duration(value_s * 1e9)


def _signed(value_s: float) -> str:
    return signed(value_s, duration(abs(value_s) * 1e9))
