"""What of a change is the clock's doing: the same cycles at another frequency."""

from __future__ import annotations

from typing import Final

from rocscope.comparison.differences import kernel_table
from rocscope.comparison.result import Difference, Tier
from rocscope.comparison.side import Side
from rocscope.wording import amount, percent

_LEAST_CLOCK_FRAC: Final = 0.02  # by which clocks have to differ before times are held against them
_SAME_CYCLES_FRAC: Final = 0.25  # of the clocks' difference, by which a change of time may miss it


def _clock_hz(side: Side) -> float | None:
    """Return the mean clock while kernels ran, over the GPUs; ``None`` where one was not sampled."""
    entries = {each.get("gpu"): each.get("clock_hz") for each in side.analysis.telemetry.get("gpus") or ()}
    found = [entries.get(gpu.gpu) for gpu in side.analysis.gpus]
    known = [float(each["mean"]) for each in found if each]
    return sum(known) / len(known) if known and len(known) == len(found) else None


def _longer_by_clock(base: Side, new: Side) -> float | None:
    """Return by which the same cycles take longer in ``new``; ``None`` where the clocks hardly differ."""
    before, after = _clock_hz(base), _clock_hz(new)
    if not before or not after or abs(before / after - 1) < _LEAST_CLOCK_FRAC:
        return None
    return before / after - 1


def _alike(change: float, longer: float) -> bool:
    return abs(change - longer) <= _SAME_CYCLES_FRAC * abs(longer)


def by_clock(base: Side, new: Side, rows: list[Difference]) -> list[Difference]:
    """Say of which kernels a dispatch became slower or faster just as the clock did, at the same cycles."""
    longer = _longer_by_clock(base, new)
    if longer is None:
        return rows
    first, second = kernel_table(base), kernel_table(new)

    def explained(name: str) -> str | None:
        sides = (first.get(name), second.get(name))
        each = [side[1] / side[3] for side in sides if side and side[1] and side[3]]
        change = each[1] / each[0] - 1 if len(each) == 2 else None
        if change is None or not _alike(change, longer):
            return None
        return f"the clock: a dispatch takes {change:+.1%}, the same cycles {longer:+.1%}"

    return [row.model_copy(update={"explained_by": explained(row.name)}) for row in rows]


def clock_notes(base: Side, new: Side, rows: list[Difference], tiers: list[Tier]) -> list[str]:
    """Say how far the clocks differ, and what of the change follows them."""
    longer = _longer_by_clock(base, new)
    if longer is None:
        return []
    before, after = (amount(_clock_hz(side) or 0.0, "Hz") for side in (base, new))
    way = "slower" if longer > 0 else "faster"
    share = sum(row.base_frac or 0.0 for row in rows if row.explained_by)
    said = (
        f"the clock while kernels ran was {before} in base and {after} in new, at which the same cycles take "
        f"{longer:+.1%}"
    )
    notes = [f"{said}; no kernel's time follows it"]
    if share > 0:
        notes = [
            f"{said}: kernels with {percent(share)} of base's kernel time became {way} by just that, which "
            "is the clock's doing and not the code's"
        ]
    if any(tier.tier == "step" and _alike(tier.change_frac, longer) for tier in tiers):
        notes.append(
            f"the clock explains the change of the step: compare again at one clock (it is {way} by it)"
        )
    return notes
