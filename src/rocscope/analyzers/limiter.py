"""What holds each kernel back now: a roof it is near, or a reason why it is near none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from rocscope.analyzers import evidence
from rocscope.hardware import GpuSpec
from rocscope.study import Study
from rocscope.thresholds import thresholds

if TYPE_CHECKING:
    import pandas as pd

_GRID: Final = ("grid_x", "grid_y", "grid_z")
_GROUP: Final = ("workgroup_x", "workgroup_y", "workgroup_z")


class Limiter:
    """Adds limiter, confidence and evidence."""

    name = "limiter"
    help = "what holds each kernel back: a roof, latency, too few workgroups, the launch floor, the link"
    needs = (
        *("gpu", "family", "mean_ns", "bytes", "bytes_basis", "flops", "bound", "bandwidth_frac"),
        *(
            "compute_frac",
            "intensity_flop_per_byte",
            "ridge_flop_per_byte",
            "over_the_link",
            "flagged",
            "perturbed",
        ),
        *_GRID,
        *_GROUP,
    )
    adds = ("workgroups", "limiter", "limiter_rule", "confidence", "evidence")

    def run(self, study: Study) -> None:
        """Decide by the first rule that holds; ``unknown`` where none does."""
        frame = study.kernels
        launched = workgroups(frame)  # where a table gives them without a grid they are there already
        frame["workgroups"] = frame["workgroups"].fillna(launched) if "workgroups" in frame else launched
        names, rules = _decide(frame, study.specs)
        frame["limiter"], frame["limiter_rule"] = names, rules
        frame["confidence"] = _confidence(frame, study)
        frame["evidence"] = evidence.sentences(frame, study.specs)


def workgroups(frame: pd.DataFrame) -> pd.Series:
    """Return workgroups a dispatch from work-items; NaN unless grid and workgroup are known.

    Where a tool gives only products, x holds them and the product of the others is 1.
    """
    total = frame["grid_x"] * 0 + 1
    for grid, group in zip(_GRID, _GROUP, strict=True):
        total = total * np.ceil(frame[grid].fillna(1) / frame[group].fillna(1).clip(lower=1))
    return total.where(frame["grid_x"].notna() & frame["workgroup_x"].notna())


def _per_gpu(frame: pd.DataFrame, specs: dict[int, GpuSpec | None], figure: Any) -> NDArray[np.float64]:
    values = {gpu: figure(spec) for gpu, spec in specs.items() if spec is not None}
    return frame["gpu"].map(values).to_numpy(dtype=float, na_value=np.nan)


def _decide(frame: pd.DataFrame, specs: dict[int, GpuSpec | None]) -> tuple[Any, Any]:
    lines = thresholds().verdict
    roof = lines.roof_frac.value
    memory, compute = frame["bandwidth_frac"].to_numpy(float), frame["compute_frac"].to_numpy(float)
    units = _per_gpu(frame, specs, lambda spec: spec.compute_units)
    clock = _per_gpu(frame, specs, lambda spec: spec.clock_hz.value)
    floor = _per_gpu(frame, specs, lambda s: s.launch_floor_s.value * 1e9 if s.launch_floor_s else np.nan)
    groups = frame["workgroups"].to_numpy(float)
    peak = frame["peak_bandwidth"].to_numpy(float)
    link, flagged = frame["over_the_link"].to_numpy(bool), frame["flagged"].notna().to_numpy()
    high_memory, high_compute = memory >= roof, compute >= roof
    near = high_memory & high_compute & (np.abs(memory - compute) <= lines.balanced_frac.value)
    below = (memory < roof) & (compute < roof)
    unsettled = ~(high_memory | high_compute)
    mean = frame["mean_ns"].to_numpy(float)
    short = unsettled & (mean > 0) & (mean <= floor * lines.launch_floor_factor.value)
    # idle CUs are the reason only where the busy ones alone come near the roof, or are too few for it
    few = (groups < units) & ((groups < roof * units) | (np.fmax(memory, compute) >= roof * groups / units))
    # too few workgroups to reach either roof whatever they do: holds without a byte or FLOP count
    starved = (groups < roof * units) & (groups * clock * lines.cu_bytes_per_clock.value < roof * peak)
    choices = [
        (link, "communication", "limiter-link"),
        (flagged, "unknown", "limiter-withheld"),
        (near, "balanced", "limiter-balanced"),
        (high_memory & ~(high_compute & (compute > memory)), "memory-bandwidth", "limiter-memory-roof"),
        (high_compute, "compute", "limiter-compute-roof"),
        (short, "launch", "limiter-launch-floor"),
        (below & few, "parallelism", "limiter-few-workgroups"),
        (unsettled & starved, "parallelism", "limiter-starved"),
        (below, "latency", "limiter-below-all-roofs"),
    ]
    conditions = [condition for condition, _, _ in choices]
    names = np.select(conditions, [name for _, name, _ in choices], default="unknown").astype(object)
    rules = np.select(conditions, [rule for _, _, rule in choices], default="limiter-not-enough-known")
    return names, rules.astype(object)


def _confidence(frame: pd.DataFrame, study: Study) -> NDArray[Any]:
    """How much the label may be leant on.

    ``high`` needs measured bytes, or modelled ones, which are minima, that prove the memory roof is reached
    and do not fit into the caches before memory. ``low`` is for a label near a line or near the ridge, from
    perturbed times, or half known.
    """
    lines = thresholds().verdict
    memory, compute = frame["bandwidth_frac"], frame["compute_frac"]
    nearest = np.minimum((memory - lines.roof_frac.value).abs(), (compute - lines.roof_frac.value).abs())
    ridge_gap = (frame["intensity_flop_per_byte"] / frame["ridge_flop_per_byte"] - 1).abs()
    known = (frame["bound"] != "unknown") & (frame["limiter"] != "unknown")
    decided = frame["limiter"].isin(["communication", "launch", "parallelism"])
    shaky = (
        (nearest < lines.near_line_frac.value)
        | (ridge_gap < lines.near_ridge_frac.value)
        | frame["perturbed"]
    )
    cached = _per_gpu(frame, study.specs, lambda spec: spec.l2_bytes + spec.memory_side_cache_bytes)
    proven = (frame["limiter"] == "memory-bandwidth") & (frame["bytes"] > 2 * cached)
    sure = known & ((frame["bytes_basis"] == "measured") | proven)
    return np.select([shaky | ~(known | decided), sure], ["low", "high"], default="medium").astype(object)


ANALYZER = Limiter()
