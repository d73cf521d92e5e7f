"""Two recordings set against each other: what changed, with intervals, and whether they compare at all.

Intervals come from a seeded bootstrap over the steps of each recording. They hold the spread within the two
recordings; what differs from run to run (clocks, placement, load) is not in them.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from rocscope import steps
from rocscope.capture import Capture
from rocscope.findings import SCHEMA_VERSION, Analysis
from rocscope.wording import amount, percent

Verdict = Literal["better", "worse", "no difference shown"]

_SEED: Final = 20261120
_DRAWS: Final = 4000
_LEVEL: Final = (2.5, 97.5)  # percentiles of the interval
_LEAST_STEPS: Final = 3
_LEAST_TO_JUDGE: Final = 4  # of three, equal recordings would be told apart one time in fourteen
_LEAST_CLOCK_FRAC: Final = 0.02  # by which clocks have to differ before times are held against them
_SAME_CYCLES_FRAC: Final = 0.25  # of the clocks' difference, by which a change of time may miss it
_MODEL_FIELDS: Final = (  # what makes a model another one; quantisation and dtype may be what is compared
    "model_type",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "vocab_size",
    "num_experts",
)


class _Finding(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Tier(_Finding):
    """One figure in both recordings."""

    tier: str  # "step", "busy"
    metric: str  # "period_s"
    unit: str
    base: float
    new: float
    change_frac: float  # (new - base) / base
    low_frac: float | None
    high_frac: float | None
    verdict: Verdict
    basis: str = ""


class Difference(_Finding):
    """A family, kernel or phase in both recordings. Times of a phase are of one of its steps."""

    name: str
    family: str | None = None
    base_s: float | None
    new_s: float | None
    change_frac: float | None  # of its own time; null where it is in one recording only
    base_frac: float | None  # share of kernel time
    new_frac: float | None
    base_dispatches: int | None = None
    new_dispatches: int | None = None
    explained_by: str | None = None  # what else differs by as much: the clock


class Forecast(_Finding):
    """An earlier forecast and what came of it."""

    target_id: str
    low_frac: float
    mid_frac: float
    high_frac: float
    actual_frac: float | None
    hit: bool | None


class Comparison(_Finding):
    """What ``compare --json`` prints."""

    schema_version: str = SCHEMA_VERSION
    comparable: bool
    why_not: list[str]
    base: dict[str, Any]
    new: dict[str, Any]
    tiers: list[Tier]
    phases: list[Difference] = Field(default_factory=list)
    families: list[Difference]
    kernels: list[Difference]
    times_of: Literal["step", "recording"] = "recording"  # what the times of families and kernels are of
    forecasts: list[Forecast] = Field(default_factory=list)
    noise_floor_frac: float | None
    notes: list[str] = Field(default_factory=list)


class Side(_Finding):
    """A recording and what was found in it."""

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)

    capture: Capture
    analysis: Analysis
    model: dict[str, Any] | None = None  # config.json of the served model, where known
    tp: int | None = None


def compare(base: Side, new: Side) -> Comparison:
    """Say what changed from ``base`` to ``new``. What cannot be compared is not judged."""
    why_not = _why_not(base, new)
    notes = [
        "intervals hold the spread between steps of these two recordings, not from run to run: repeat both "
        "before you trust a small difference"
    ]
    found = _step_tier(base, new, comparable=not why_not)
    tiers: list[Tier] = []
    floor = None
    counts: tuple[float, float] | None = None
    if found is None:
        notes.append("no steps in common: neither the same step annotations nor a repeating sequence in both")
    else:
        tier, floor, counts = found
        tiers.append(tier)
    kernels = _by_clock(base, new, _differences(_kernel_table(base), _kernel_table(new), counts))
    notes += _clock_notes(base, new, kernels, tiers)
    return Comparison(
        comparable=not why_not,
        why_not=why_not,
        base=_about(base),
        new=_about(new),
        tiers=tiers,
        phases=_differences(_phase_table(base), _phase_table(new), None),
        families=_differences(_family_table(base), _family_table(new), counts),
        kernels=kernels,
        times_of="step" if counts else "recording",
        noise_floor_frac=floor,
        notes=notes,
    )


def _why_not(base: Side, new: Side) -> list[str]:
    why = []
    for what, of in (
        ("GPU", _gpu_names),
        ("number of GPUs", lambda side: len(side.analysis.gpus)),
        ("tensor-parallel size", lambda side: side.tp),
        ("times taken under counters", lambda side: _has(side, "perturbed-times")),
    ):
        first, second = of(base), of(new)
        if first != second and None not in (first, second):
            why.append(f"{what}: {first} against {second}")
    for side, name in ((base, "base"), (new, "new")):
        if not side.analysis.kernels:
            why.append(f"{name} holds no GPU kernels")
    if base.model and new.model:
        why += [
            f"model: {field} is {base.model[field]} against {new.model[field]}"
            for field in _MODEL_FIELDS
            if field in base.model and field in new.model and base.model[field] != new.model[field]
        ]
    return why


def _gpu_names(side: Side) -> list[str] | None:
    """Return the kinds of GPU, or ``None`` where one is unknown: it may be the same as the other side's."""
    names = [gpu.model or gpu.arch for gpu in side.analysis.gpus]
    known = {name for name in names if name is not None}
    return sorted(known) if None not in names else None


def _has(side: Side, code: str) -> bool:
    return any(warned.code == code for warned in side.analysis.integrity.warnings)


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


def _step_tier(
    base: Side, new: Side, *, comparable: bool
) -> tuple[Tier, float, tuple[float, float] | None] | None:
    """Return the tier of the step period, the noise floor, and how many steps fill each recording.

    Only where one step repeats through the whole recording can times of kernels be given a step.
    """
    annotated = _annotated_pair(base, new)
    pair = annotated or _repeating_pair(base, new)
    if pair is None:
        return None
    first, second = pair
    before, after = float(np.median(first.lengths_s)), float(np.median(second.lengths_s))
    change = after / before - 1
    low, high = bootstrap(first.lengths_s, second.lengths_s)
    floor = float(np.hypot(_error(first.lengths_s), _error(second.lengths_s)))
    fewest = min(len(first.lengths_s), len(second.lengths_s))
    enough = fewest >= _LEAST_TO_JUDGE
    shown = comparable and enough and (low > 0 or high < 0) and abs(change) > floor
    tier = Tier(
        tier="step",
        metric="period_s",
        unit="s",
        base=before,
        new=after,
        change_frac=change,
        low_frac=low,
        high_frac=high,
        verdict=("better" if change < 0 else "worse") if shown else "no difference shown",
        basis=f"median of {len(first.lengths_s)} and {len(second.lengths_s)} periods; "
        f"base: {first.found_by}; new: {second.found_by}"
        + ("" if enough else f"; no verdict from fewer than {_LEAST_TO_JUDGE} periods"),
    )
    whole = not annotated and first.whole and second.whole
    return tier, floor, (first.steps, second.steps) if whole else None


def _annotated_pair(base: Side, new: Side) -> tuple[steps.Periods, steps.Periods] | None:
    """Return periods of the annotation that both recordings have most steps of."""
    first, second = (steps.decode_periods(side.capture, _gpu(side)) for side in (base, new))
    shared = {
        name: min(len(first[name].lengths_s), len(second[name].lengths_s))
        for name in set(first) & set(second)
    }
    best = max(shared, key=lambda name: (shared[name], name), default=None)
    if best is None or shared[best] < _LEAST_STEPS:
        return None
    return first[best], second[best]


def _repeating_pair(base: Side, new: Side) -> tuple[steps.Periods, steps.Periods] | None:
    first = steps.repeating(base.capture, _gpu(base))
    second = steps.repeating(new.capture, _gpu(new)) if first else None
    return (first, second) if first and second else None


def _gpu(side: Side) -> int:
    """Return the GPU whose steps are compared: the first."""
    return min((gpu.gpu for gpu in side.analysis.gpus), default=0)


def bootstrap(base: NDArray[np.float64], new: NDArray[np.float64]) -> tuple[float, float]:
    """Return the 95 % interval of ``median(new) / median(base) - 1`` over resampled steps, seeded."""
    random = np.random.default_rng(_SEED)
    before = np.median(base[random.integers(0, len(base), (_DRAWS, len(base)))], axis=1)
    after = np.median(new[random.integers(0, len(new), (_DRAWS, len(new)))], axis=1)
    low, high = np.percentile(after / before - 1, _LEVEL)
    return float(low), float(high)


def _error(lengths: NDArray[np.float64]) -> float:
    """Return twice the standard error of the median, relative; 1.4826 MAD stands for the deviation."""
    middle = np.median(lengths)
    spread = 1.4826 * np.median(np.abs(lengths - middle))
    return float(2 * 1.2533 * spread / np.sqrt(len(lengths)) / middle)


Table = dict[str, tuple[str | None, float | None, float | None, int | None]]  # family, s, share, dispatches


def _kernel_table(side: Side) -> Table:
    found: dict[str, list[Any]] = {}
    for each in side.analysis.kernels:
        row = found.setdefault(each.kernel, [each.family, 0.0, 0.0, 0])
        row[1] += each.time_s or 0.0
        row[2] += each.time_frac or 0.0
        row[3] += each.dispatches
    return {name: (row[0], row[1], row[2], row[3]) for name, row in found.items()}


def _family_table(side: Side) -> Table:
    return {
        each.family: (each.family, each.time_s, each.time_frac, each.dispatches)
        for each in side.analysis.families
    }


def _phase_table(side: Side) -> Table:
    return {
        each.phase: (None, each.time_s / each.steps if each.time_s and each.steps else None, None, None)
        for each in side.analysis.phases
    }


def _differences(base: Table, new: Table, steps_in: tuple[float, float] | None) -> list[Difference]:
    """Pair what has one name; largest change of time first. Times are divided by ``steps_in``."""
    found = []
    scale = [1 / count for count in steps_in] if steps_in else [1.0, 1.0]
    for name in sorted(set(base) | set(new)):
        first, second = base.get(name), new.get(name)
        before = first[1] * scale[0] if first and first[1] is not None else None
        after = second[1] * scale[1] if second and second[1] is not None else None
        known = next(row for row in (first, second) if row)
        found.append(
            Difference(
                name=name,
                family=known[0],
                base_s=before,
                new_s=after,
                change_frac=after / before - 1 if before and after is not None else None,
                base_frac=first[2] if first else None,
                new_frac=second[2] if second else None,
                base_dispatches=first[3] if first else None,
                new_dispatches=second[3] if second else None,
            )
        )
    return sorted(found, key=lambda each: (-abs((each.new_s or 0.0) - (each.base_s or 0.0)), each.name))


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


def _by_clock(base: Side, new: Side, rows: list[Difference]) -> list[Difference]:
    """Say of which kernels a dispatch became slower or faster just as the clock did, at the same cycles."""
    longer = _longer_by_clock(base, new)
    if longer is None:
        return rows
    first, second = _kernel_table(base), _kernel_table(new)

    def explained(name: str) -> str | None:
        sides = (first.get(name), second.get(name))
        each = [side[1] / side[3] for side in sides if side and side[1] and side[3]]
        change = each[1] / each[0] - 1 if len(each) == 2 else None
        if change is None or not _alike(change, longer):
            return None
        return f"the clock: a dispatch takes {change:+.1%}, the same cycles {longer:+.1%}"

    return [row.model_copy(update={"explained_by": explained(row.name)}) for row in rows]


def _clock_notes(base: Side, new: Side, rows: list[Difference], tiers: list[Tier]) -> list[str]:
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
