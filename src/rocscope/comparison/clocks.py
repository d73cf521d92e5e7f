"""What of a change is the clock's doing: the same cycles at another frequency; and who throttled."""

from __future__ import annotations

from typing import Final

from rocscope.comparison.result import Difference, Tier
from rocscope.comparison.side import Side
from rocscope.wording import amount, change, percent

_LEAST_CLOCK_FRAC: Final = 0.02  # by which clocks have to differ before times are held against them
_SAME_CYCLES_FRAC: Final = 0.25  # of the clocks' difference, by which a change of time may miss it
_LEAST_THROTTLED_FRAC: Final = 0.1  # of the readings at work


def _clock_hz(side: Side) -> float | None:
    """Return the mean clock while kernels ran, over GPUs and repeats; ``None`` where one was not sampled."""
    each = [_of_recording(run) for run in side.runs]
    known = [clock for clock in each if clock is not None]
    return sum(known) / len(known) if known and len(known) == len(each) else None


def _of_recording(side: Side) -> float | None:
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

    def explained(row: Difference) -> str | None:
        calls = (row.base_calls or row.base_dispatches, row.new_calls or row.new_dispatches)
        if row.match == "renamed" or not all(calls) or not row.base_s or row.new_s is None:
            return None
        own = (row.new_s / calls[1]) / (row.base_s / calls[0]) - 1  # type: ignore[operator]  # all() above
        if not _alike(own, longer):
            return None
        return f"the clock: a dispatch takes {change(own)}, the same cycles {change(longer)}"

    return [row.model_copy(update={"explained_by": explained(row)}) for row in rows]


def at_one_clock(base: Side, new: Side, tiers: list[Tier]) -> list[Tier]:
    """Give step tiers the change that is left if all of the step follows the clock, and say who throttled."""
    longer = _longer_by_clock(base, new)
    held = [text for side, name in ((base, "base"), (new, "new")) if (text := _throttled(side, name))]
    found = []
    for tier in tiers:
        told: dict[str, object] = {}
        if longer is not None:
            told["same_cycles_frac"] = (1 + tier.change_frac) / (1 + longer) - 1
        if held:
            told["basis"] = "; ".join([tier.basis, *held])
        found.append(tier.model_copy(update=told))
    return found


def _throttled(side: Side, name: str) -> str | None:
    shares: dict[str, float] = {}
    for run in side.runs:
        for entry in run.analysis.telemetry.get("gpus") or ():
            for reason, share in (entry.get("throttled_frac") or {}).items():
                if share is not None:
                    shares[reason] = max(shares.get(reason, 0.0), float(share))
    named = {key: share for key, share in shares.items() if key != "any"}
    reason = max(named or shares, key=lambda key: (named or shares)[key], default=None)
    if reason is None or (named or shares)[reason] < _LEAST_THROTTLED_FRAC:
        return None
    why = "" if reason == "any" else f" ({reason})"
    return f"{name} was throttled{why} in {percent((named or shares)[reason])} of the readings at work"


def clock_notes(base: Side, new: Side, rows: list[Difference], tiers: list[Tier]) -> list[str]:
    """Say how far the clocks differ, what of the change follows them, and who throttled."""
    notes = [text for side, name in ((base, "base"), (new, "new")) if (text := _throttled(side, name))]
    longer = _longer_by_clock(base, new)
    if longer is None:
        return notes
    before, after = (amount(_clock_hz(side) or 0.0, "Hz") for side in (base, new))
    way = "slower" if longer > 0 else "faster"
    share = sum(row.base_frac or 0.0 for row in rows if row.explained_by)
    said = (
        f"the clock while kernels ran was {before} in base and {after} in new, at which the same cycles take "
        f"{change(longer)}"
    )
    if share > 0:
        notes.append(
            f"{said}: kernels with {percent(share)} of base's kernel time became {way} by just that, which "
            "is the clock's doing and not the code's"
        )
    else:
        notes.append(f"{said}; no kernel's time follows it")
    steps = [tier for tier in tiers if tier.metric == "period_s"]
    if any(tier.tier == "step" and _alike(tier.change_frac, longer) for tier in steps):
        notes.append(
            f"the clock explains the change of the step: compare again at one clock (it is {way} by it)"
        )
    elif steps and steps[0].same_cycles_frac is not None:
        all_of_it, nothing = change(steps[0].same_cycles_frac), change(steps[0].change_frac)
        notes.append(
            f"at one clock the step would change by between {all_of_it}, if all of it follows the clock, and "
            f"{nothing}, if nothing of it does"
        )
    return notes
