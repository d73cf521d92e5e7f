"""What a comparison says, as ``compare --json`` prints it. Fields are added freely, see :mod:`findings`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from rocscope.findings import SCHEMA_VERSION, Basis, Bound, Limiter, Regained

Verdict = Literal["better", "worse", "no difference shown"]
Match = Literal["same", "renamed", "base only", "new only"]


class _Finding(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Tier(_Finding):
    """One figure in both recordings: the step period, or what a server gave under one load."""

    tier: str  # "step", "concurrency 16"
    metric: str  # "period_s", "output_tokens_per_s"
    unit: str
    base: float
    new: float
    change_frac: float  # (new - base) / base
    low_frac: float | None
    high_frac: float | None
    verdict: Verdict
    basis: str = ""
    steps: tuple[int, int] | None = None  # of base and new that a step period is the mean of
    sequences: int | None = None  # that each step generates for
    noise_floor_frac: float | None = None  # the smallest change of this figure that would have been shown
    same_cycles_frac: float | None = None  # the change that is left if all of it follows the clock; modelled


class Difference(_Finding):
    """A family, kernel or phase in both recordings. Times of a phase are of one of its steps."""

    name: str
    family: str | None = None
    base_s: float | None
    new_s: float | None
    change_frac: float | None  # of its own time; null where it is in one recording only
    low_frac: float | None = None  # interval of change_frac, simultaneous over all that is compared
    high_frac: float | None = None
    verdict: Verdict | None = None  # null where nothing can be judged
    step_frac: float | None = None  # (new_s - base_s) / time of a base step: its part in the whole change
    step_low_frac: float | None = None  # interval of step_frac, simultaneous like that of change_frac
    step_high_frac: float | None = None
    base_frac: float | None  # share of kernel time
    new_frac: float | None
    base_dispatches: int | None = None  # in all steps that are compared, or in the recording: see times_of
    new_dispatches: int | None = None
    base_calls: float | None = None  # dispatches a step
    new_calls: float | None = None
    match: Match | None = None
    # of a kernel that was renamed, and of several that do one thing together the one that takes most time
    base_name: str | None = None
    new_name: str | None = None
    base_kernels: list[str] = Field(default_factory=list)  # all of them, most time first
    new_kernels: list[str] = Field(default_factory=list)
    role: str | None = None  # by which a renamed kernel was paired: what it does in a step
    # grid and workgroup of a kernel with one launch shape; {"base": .., "new": ..} where they differ
    launch_shape: dict[str, Any] | None = None
    problem_shape: dict[str, Any] | None = None
    explained_by: str | None = None  # what else differs by as much: the clock


class Reason(_Finding):
    """Why figures differ: a sentence, the figures it rests on, and how those were come by."""

    about: str  # the tier or phase that it explains: "step", "concurrency 16"
    text: str
    evidence: list[str]
    basis: Basis | Literal["extrapolated"]


class Forecast(_Finding):
    """An earlier forecast and what came of it; shares are of base's window, as those of its targets."""

    target_id: str
    problem: str = ""
    scope: str = ""
    family: str | None = None
    kernel: str | None = None
    bound: Bound | None = None
    limiter: Limiter | None = None
    regains: Regained | None = None
    shares_of: str | None = None  # as of findings.Gain, with the next two
    before_frac: float | None = None
    least_frac: float | None = None
    low_frac: float
    mid_frac: float
    high_frac: float
    actual_frac: float | None  # what the target's own time gave; null where it is not known
    actual_low_frac: float | None = None  # interval of it, where its kernel stayed the same
    actual_high_frac: float | None = None
    total_frac: float | None = None  # what the whole step gave, of a base step
    hit: bool | None  # actual_frac in [low_frac, high_frac]; null where it was not tried or is not known
    tried: bool | None = None  # null where what became of it is not known
    tried_by: Literal["seen", "said"] | None = None  # changed beyond noise, gone or renamed; or --tried
    # of the way to the least time, logarithmic, or of what was lost; null where other work is done now
    realised_share_frac: float | None = None
    replaced_by: list[str] = Field(default_factory=list)  # kernels that took the place
    other_work: str | None = None  # why what is done now is not what was done before
    basis: str = ""  # how the actual gain was come by, or why it is not known


class Statistics(_Finding):
    """How intervals and verdicts were come by: all of them hold at once with the chance ``level``."""

    method: str  # in words
    unit: Literal["step", "repeat"]
    units: tuple[int, int]  # of base and new, behind the first tier
    level: float  # that all intervals hold at once, over all comparisons
    comparisons: int  # figures that a verdict could have been given on, over all comparisons
    draws: int | None
    seed: int | None
    run_to_run_frac: float | None  # allowed for what runs differ by, where no repeats show it; a share,
    run_to_run_launch_s: float | None = None  # and of each launch of a kernel,
    run_to_run_family_launch_s: float | None = None  # of each launch of a family,
    run_to_run_idle_s: float | None = None  # of the time of a step in which no kernel runs


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
    reasons: list[Reason] = Field(default_factory=list)
    forecasts: list[Forecast] = Field(default_factory=list)
    # of a step in which no kernel ran, and what kernels that ran at once share (less than 0); with
    # `kernels` their step_frac add up to the change of the step
    gaps: list[Difference] = Field(default_factory=list)
    noise_floor_frac: float | None  # the smallest change of the first tier that would have been shown
    statistics: Statistics | None = None
    differs: list[str] = Field(
        default_factory=list
    )  # what else is not the same, and no reason not to compare
    across: list[str] = Field(default_factory=list)  # what was changed on purpose, by the user's word
    notes: list[str] = Field(default_factory=list)
    more: list[Comparison] = Field(default_factory=list)  # the other recordings, each against the same base
