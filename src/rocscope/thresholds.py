"""Where verdicts turn and how much a change gives, from ``data/thresholds.toml``, each with its source."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib import resources

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from rocscope.errors import InputError
from rocscope.hardware import Figure


class _Data(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Verdict(_Data):
    """Lines between limiters; shares are of a datasheet roof unless said otherwise."""

    roof_frac: Figure  # at or above it, that roof is the limiter
    balanced_frac: Figure  # two such roofs this near each other are balanced
    above_ceiling_frac: Figure  # beyond it a value is flagged and its label withheld
    near_line_frac: Figure  # this near to roof_frac, confidence is low
    near_ridge_frac: Figure  # this near to the ridge, relative, confidence is low
    launch_floor_factor: Figure  # times the launch floor
    cu_bytes_per_clock: Figure  # the most one CU can move
    matrix_busy_frac: Figure  # matrix pipes busy for so much of the time do a kernel's arithmetic
    uneven_dispatches: Figure  # up to so many dispatches are few
    uneven_factor: Figure  # times the shortest of them: then the longest is of another kind
    scattered_sectors: Figure  # 32-byte sectors a request of a wave, beyond which lanes share none
    lookup_sectors: Figure  # that the L2 can return in the time of one look-up
    load_passes: Figure  # of the load-store unit for the widest access of a wave
    operand_passes: Figure  # of shared memory for the operands of a matrix instruction, to its own time
    half_rate_cycles: Figure  # that an instruction keeps a pipe of half the lanes busy
    ramp_factor: Figure  # times the shortest kernel: the most that launch, ramp and drain are taken to last
    low_occupancy_frac: Figure  # below it too few waves are resident to hide memory latency
    shortest_kernel_s: Figure  # where a GPU's launch floor is not known


class Integrity(_Data):
    """When so much is missing that idle time may not be claimed."""

    missing_dispatch_frac: Figure
    unmatched_launch_frac: Figure
    overlap_frac: Figure  # of kernel time, within one queue


class Ranks(_Data):
    """When ranks differ by more than noise, as shares of the window and of kernel time."""

    wait_frac: Figure
    skew_frac: Figure


class Timeline(_Data):
    """Which pauses are launch gaps, and when they matter."""

    launch_gap_s: Figure
    step_gap_s: Figure  # the same within an annotated step, where launches alone fill pauses
    gap_frac: Figure
    one_gap_frac: Figure  # a single pause beyond this share of the window


class Families(_Data):
    """When the verdict of its kernels is that of the family."""

    majority_frac: Figure


class Targets(_Data):
    """Which forecasts are worth a line."""

    least_gain_frac: Figure


class Noise(_Data):
    """By how much one and the same thing differs from run to run: two parts, added as variances."""

    frac: float = Field(gt=0, lt=1)  # relative standard deviation
    absolute_s: float = Field(ge=0)  # standard deviation in s, of a time: of a token, to the first token
    freedom: int = Field(ge=1)  # degrees of freedom that it was found with
    source: str = Field(min_length=8)


class Compare(_Data):
    """When what differs between two recordings is more than noise."""

    serving_noise: dict[str, Noise]  # by figure of a load
    run_to_run_frac: Figure  # by which a kernel's or step's time may differ between two runs of one thing
    run_to_run_launch_s: Figure  # and each launch of a kernel,
    run_to_run_family_launch_s: Figure  # each launch of a family,
    run_to_run_idle_s: Figure  # the time of a step in which no kernel runs


class Forecasts(_Data):
    """How realised shares of scored changes are weighed against those of ``gain``; see gain_history."""

    prior_changes: Figure  # scored changes that a prior weighs as much as
    spread_frac: Figure  # of a realised share, to either side


class Shares(_Data):
    """Low, middle and high share of what could be gained, and why."""

    low: float = Field(ge=0, le=1)
    mid: float = Field(ge=0, le=1)
    high: float = Field(ge=0, le=1)
    source: str = Field(min_length=8)

    @model_validator(mode="after")
    def _ordered(self) -> Shares:
        if not self.low <= self.mid <= self.high:
            raise ValueError("low, mid and high must not fall")
        return self


class Thresholds(_Data):
    """All of them."""

    verdict: Verdict
    integrity: Integrity
    ranks: Ranks
    timeline: Timeline
    families: Families
    targets: Targets
    forecasts: Forecasts
    gain: dict[str, Shares]
    compare: Compare


@cache
def thresholds() -> Thresholds:
    """Return the thresholds. Raises :class:`InputError` that names the field at fault."""
    return read(
        "thresholds.toml", resources.files("rocscope.data").joinpath("thresholds.toml").read_text("utf-8")
    )


def read(name: str, text: str) -> Thresholds:
    """Check the text of a thresholds file."""
    try:
        return Thresholds.model_validate(tomllib.loads(text))
    except (tomllib.TOMLDecodeError, ValidationError) as error:
        raise InputError(f"data/{name}: {error}", "correct the field it names") from error
