"""Forecasts made from one recording, held against what another shows after the change.

What came of a target is taken a step, as the change of what it would win back: its kernel's exposed time (or
that of what took its place), pauses, waiting, or what low clocks cost. It is then put at the share of the
window that the forecast is of, so that both are of the same whole:

    actual = share of the window now * (1 - after / before)

A forecast hits where that lies in its interval. A target whose kernel or lost time shows no change was not
tried, as far as seen, and is not scored: it says nothing of the forecast. ``tried`` names those that were.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rocscope.comparison.replaced import LEAST_STEP_FRAC, Outcome, Steps
from rocscope.comparison.result import Comparison, Forecast, Tier, Verdict
from rocscope.errors import UsageError
from rocscope.findings import Analysis, Gain, StepRank, Target
from rocscope.wording import change, percent

_LEAST_OF_LOST: Final = 0.1  # of lost time, by which it changes at least where something was done
_WON_BACK: Final = {"gaps": "pauses for launches", "stalls": "long pauses", "waits": "waiting of ranks"}
_MOSTLY: Final = (
    1.25  # times its share of a step, beyond which a target's share of the window is of other times
)
_OF_FAMILY: Final = (
    0.05  # by which a target's share and its kernel's may differ and be of the same dispatches
)


@dataclass(frozen=True)
class _Sides:
    base: Analysis
    new: Analysis
    steps: Steps | None
    idle: Verdict | None  # of the time a step in which nothing runs
    tier: Tier
    floor_frac: float


def score(
    targets: Sequence[Target],
    base: Analysis,
    new: Analysis,
    found: Comparison,
    tried: Sequence[str] = (),
) -> list[Forecast]:
    """Return what came of the forecasts of ``targets``; empty where the recordings do not compare.

    ``tried`` holds ids, or how they start, of targets that were worked on whatever is seen of it. Raises
    :class:`UsageError` where one names no target with a forecast.
    """
    told = [each for each in targets if each.expected_gain]
    said = _said([each.id for each in told], tried)
    if not found.comparable:
        return []
    tier = next((each for each in found.tiers if each.tier == "step"), None)
    if tier is None:
        return [_forecast(each, basis="no steps in common to hold the forecast against") for each in told]
    sides = _Sides(
        base=base,
        new=new,
        steps=Steps(found.kernels, base, new, tier.base) if found.times_of == "step" else None,
        idle=next((each.verdict for each in found.gaps if each.name == "idle"), None),
        tier=tier,
        floor_frac=found.noise_floor_frac or 0.0,
    )
    return [_scored(each, sides, said=each.id in said) for each in told]


def notes(forecasts: Sequence[Forecast]) -> list[str]:
    """Say how many forecasts were scored, and how to score what was tried without showing."""
    if not forecasts:
        return []
    scored = [each for each in forecasts if each.hit is not None]
    hits = sum(bool(each.hit) for each in scored)
    left = len(forecasts) - len(scored)
    if not scored:
        text = f"none of base's {left} forecasts was tried, as far as seen"
    else:
        text = f"of base's forecasts {len(scored)} tried, {hits} hit"
        text += f"; {left} not tried, as far as seen, and not scored" if left else ""
    return [f"{text}; what was tried without showing is named with --tried ID"]


def _said(ids: Sequence[str], tried: Sequence[str]) -> set[str]:
    said = set()
    for start in tried:
        mine = {each for each in ids if each.startswith(start)} if start else set()
        if not mine:
            known = ", ".join(ids[:5]) or "none"
            raise UsageError(
                f"--tried {start}: no forecast of base starts with it", f"base forecasts {known}"
            )
        said |= mine
    return said


def _forecast(target: Target, *, basis: str) -> Forecast:
    gain = target.expected_gain
    assert gain is not None  # noqa: S101  # only such targets are scored
    return Forecast(
        target_id=target.id,
        problem=target.problem,
        scope=target.scope,
        family=target.family,
        kernel=target.kernel,
        bound=target.bound,
        limiter=target.limiter,
        regains=gain.regains,
        shares_of=gain.shares_of,
        before_frac=gain.before_frac,
        least_frac=gain.least_frac,
        low_frac=gain.low_frac,
        mid_frac=gain.mid_frac,
        high_frac=gain.high_frac,
        actual_frac=None,
        hit=None,
        basis=basis,
    )


def _scored(target: Target, sides: _Sides, *, said: bool) -> Forecast:
    gain = target.expected_gain
    assert gain is not None  # noqa: S101  # only such targets are scored
    forecast = _forecast(target, basis="")
    outcome = _outcome(target, gain, sides)
    if isinstance(outcome, str):
        return forecast.model_copy(update={"basis": outcome, "tried": True if said else None})
    before = target.time_frac if gain.regains == "kernel" and target.time_frac else gain.before_frac
    if before is None:
        return forecast.model_copy(update={"basis": "the forecast does not say what it is of"})
    if before > _MOSTLY * outcome.before_s / sides.tier.base:
        why = "most of it lies outside of the steps that were compared"
        return forecast.model_copy(update={"basis": why, "tried": True if said else None})
    ratio = outcome.after_s / outcome.before_s
    actual = before * (1 - ratio)
    tried = said or outcome.changed
    low, high = (
        before * -each if each is not None else None
        for each in (outcome.change_high_frac, outcome.change_low_frac)
    )
    basis = (
        f"{outcome.how}: {percent(before)} of the window times the change of it a step, {change(ratio - 1)}"
    )
    if outcome.other_work:
        basis += f"; {outcome.other_work}, which the forecast was not of"
    return forecast.model_copy(
        update={
            "actual_frac": actual,
            "actual_low_frac": low,
            "actual_high_frac": high,
            "hit": gain.low_frac <= actual <= gain.high_frac if tried else None,
            "tried": tried,
            "tried_by": "said" if said else "seen" if tried else None,
            "total_frac": -sides.tier.change_frac,
            "realised_share_frac": _share(gain, ratio) if tried and not outcome.other_work else None,
            "replaced_by": outcome.by,
            "other_work": outcome.other_work,
            "basis": basis if tried else f"not tried, as far as seen; {basis}",
        }
    )


def _outcome(target: Target, gain: Gain, sides: _Sides) -> Outcome | str:
    if gain.regains == "kernel":
        return _of_kernel(target, sides)
    if gain.regains in ("gaps", "stalls"):
        return _of_pauses(gain.regains, sides)
    if gain.regains in ("waits", "clock"):
        return _of_lost_time(gain.regains, sides)
    return "the forecast does not say which time it is of"


def _of_kernel(target: Target, sides: _Sides) -> Outcome | str:
    if sides.steps is None:
        return "times of kernels are not of the steps that were compared"
    if target.kernel is None or target.scope not in ("kernel", "family"):
        return "the target names no kernel"
    if target.scope == "family" and not _all_of_it(target, sides):
        return f"the target is of more or less than {target.kernel}, which alone was compared"
    return sides.steps.of(target.kernel, target.family)


def _all_of_it(target: Target, sides: _Sides) -> bool:
    """Tell whether the target of a family is of one kernel, all of it."""
    walls = {each.gpu: each.wall_s for each in sides.base.gpus}
    shares: dict[int, float] = {}
    for each in sides.base.kernels:
        if each.kernel == target.kernel and (wall := walls.get(each.gpu)) and each.exposed_s is not None:
            shares[each.gpu] = shares.get(each.gpu, 0.0) + each.exposed_s / wall
    whole = max(shares.values(), default=0.0)
    return target.time_frac is not None and abs(target.time_frac - whole) <= _OF_FAMILY * whole


def _of_pauses(kind: str, sides: _Sides) -> Outcome | str:
    """Hold the pauses of a step against each other, on the GPU that has most of them in base."""
    first, second = ({each.gpu: each for each in _ranks(side)} for side in (sides.base, sides.new))
    before = {gpu: _pause(each, kind) for gpu, each in first.items() if _pause(each, kind) is not None}
    gpu = max(before, key=lambda at: (before[at] or 0.0, -at), default=None)
    if gpu is None or gpu not in second or _pause(second[gpu], kind) is None:
        return "pauses a step are not known of both recordings"
    return _lost(kind, before[gpu] or 0.0, _pause(second[gpu], kind) or 0.0, sides)


def _ranks(side: Analysis) -> list[StepRank]:
    return side.step_table.ranks if side.step_table else []


def _pause(rank: StepRank, kind: str) -> float | None:
    return rank.gaps_s if kind == "gaps" else rank.stalls_s


def _of_lost_time(kind: str, sides: _Sides) -> Outcome | str:
    """Put what was lost in each window at the length of a step."""
    shares = [
        next((each.lost_s / each.window_s for each in side.lost_time if each.regains == kind), None)
        for side in (sides.base, sides.new)
    ]
    if shares[0] is None or shares[1] is None:
        return "what is lost is not known of both recordings"
    return _lost(kind, shares[0] * sides.tier.base, shares[1] * sides.tier.new, sides)


def _lost(kind: str, before_s: float, after_s: float, sides: _Sides) -> Outcome | str:
    if before_s <= 0:
        return "none of it lies in the steps that were compared"
    moved = abs(before_s - after_s)
    beyond = moved / sides.tier.base >= sides.floor_frac
    if kind in ("gaps", "stalls") and sides.idle is not None:
        beyond = sides.idle == ("better" if after_s < before_s else "worse")
    changed = beyond and moved / sides.tier.base >= LEAST_STEP_FRAC and moved / before_s >= _LEAST_OF_LOST
    what = _WON_BACK.get(kind, "what low clocks cost")
    return Outcome(before_s, after_s, changed, f"{what} {'changed' if changed else 'show no difference'}")


def _share(gain: Gain, ratio: float) -> float | None:
    """Return the share of the way to the least time that was gone; see data/thresholds.toml, [gain].

    Below 0 it is a regression, above 1 the least time was beaten. ``None`` where the least time is not known.
    """
    if not gain.before_frac or gain.least_frac is None or gain.shares_of is None:
        return None
    if gain.least_frac == 0:
        return 1 - ratio
    way = math.log(gain.least_frac / gain.before_frac)
    if way >= 0:
        return None
    return math.log(max(ratio, 1e-6)) / way
