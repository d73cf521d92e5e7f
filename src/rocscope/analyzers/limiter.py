"""What holds each kernel back now: a roof it is near, or a reason why it is near none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from rocscope.analyzers import evidence
from rocscope.analyzers.activity import per_gpu
from rocscope.hardware import GpuSpec
from rocscope.study import Study
from rocscope.thresholds import thresholds

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
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
            "bound_rule",
            "unit_told",
        ),
        *("l2_frac", "l1_frac", "matrix_frac", "matrix_low_frac", "matrix_high_frac", "vector_frac"),
        *("vector_high_frac", "pipe_high_frac", "valu_busy_frac", "mem_unit_busy_frac", "salu_busy_frac"),
        *("issue_active_frac", "mfma_busy_frac", "workgroups", "waves_per_cu"),
        *("achieved_occupancy_frac", "theoretical_occupancy_frac"),
        *("global_load_requests", "global_load_sectors"),
    )
    adds = (
        *("limiter", "limiter_rule", "confidence", "evidence"),
        "cache_frac",  # of the nearer cache roof, if counted
        "work_frac",  # of the nearest arithmetic roof: FLOPs, matrix pipes or issue slots
        "nearest_frac",  # of the nearest roof of all
    )

    def run(self, study: Study) -> None:
        """Decide by the first rule that holds; ``unknown`` where none does."""
        frame = study.kernels
        memory, cache, compute = _shares(frame)
        frame["cache_frac"], frame["work_frac"] = cache, compute
        frame["nearest_frac"] = np.fmax(np.fmax(memory, cache), compute)
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


def _shares(frame: pd.DataFrame) -> tuple[Floats, Floats, Floats]:
    """Return how near device memory, the nearer cache, and the busiest arithmetic pipe are to their roofs."""
    work = frame["compute_frac"]
    # where nobody said which pipe it is a share of, it is of a low peak: small enough, it is small for all
    told = work.where(frame["unit_told"] | (work < thresholds().verdict.roof_frac.value))
    names = ("bandwidth_frac", "l2_frac", "l1_frac", "matrix_frac", "vector_frac")
    memory, l2, l1, matrix, vector = (frame[name].to_numpy(float) for name in names)
    return memory, np.fmax(l2, l1), np.fmax(told.to_numpy(float), np.fmax(matrix, vector))


def _decide(frame: pd.DataFrame, specs: dict[int, GpuSpec | None]) -> tuple[Any, Any]:
    lines = thresholds().verdict
    roof = lines.roof_frac.value
    memory, cache, compute = _shares(frame)
    data = np.fmax(memory, cache)
    units = per_gpu(frame, specs, lambda spec: spec.compute_units)
    clock = per_gpu(frame, specs, lambda spec: spec.clock_hz.value)
    floor = per_gpu(frame, specs, lambda s: s.launch_floor_s.value * 1e9 if s.launch_floor_s else np.nan)
    groups = frame["workgroups"].to_numpy(float)
    peak = frame["peak_bandwidth"].to_numpy(float)
    link, flagged = frame["over_the_link"].to_numpy(bool), frame["flagged"].notna().to_numpy()
    high_data, high_compute = data >= roof, compute >= roof
    near = high_data & high_compute & (np.abs(data - compute) <= lines.balanced_frac.value)
    below = (memory < roof) & (compute < roof) & ~high_data
    unsettled = ~(high_data | high_compute)
    mean = frame["mean_ns"].to_numpy(float)
    short = unsettled & (mean > 0) & (mean <= floor * lines.launch_floor_factor.value)
    # idle CUs are the reason only where the busy ones alone come near the roof, or are too few for it
    few = (groups < units) & ((groups < roof * units) | (np.fmax(data, compute) >= roof * groups / units))
    # too few workgroups to reach either roof whatever they do: holds without a byte or FLOP count
    starved = (groups < roof * units) & (groups * clock * lines.cu_bytes_per_clock.value < roof * peak)
    unfilled = below & (frame["waves_per_cu"].to_numpy(float) < roof)
    resident = frame["achieved_occupancy_frac"].fillna(frame["theoretical_occupancy_frac"]).to_numpy(float)
    # matrix kernels keep their pipes busy from registers, with few waves: for them it is no cause
    by_pipes = frame["matrix_frac"].to_numpy(float) >= lines.matrix_busy_frac.value
    thin = below & (resident < lines.low_occupancy_frac.value) & ~by_pipes
    led = high_data & ~(high_compute & (compute > data))
    choices = [
        (link, "communication", "limiter-link"),
        (flagged, "unknown", "limiter-withheld"),
        (near, "balanced", "limiter-balanced"),
        (led & (memory >= roof), "memory-bandwidth", "limiter-memory-roof"),
        (led, "cache-bandwidth", "limiter-cache-roof"),
        (high_compute, "compute", "limiter-compute-roof"),
        (short, "launch", "limiter-launch-floor"),
        (below & few, "parallelism", "limiter-few-workgroups"),
        (unsettled & starved, "parallelism", "limiter-starved"),
        (thin & ~unfilled, "occupancy", "limiter-low-occupancy"),
        (unfilled, "parallelism", "limiter-part-of-a-wave"),
        (below, "latency", "limiter-below-all-roofs"),
    ]
    conditions = [condition for condition, _, _ in choices]
    names = np.select(conditions, [name for _, name, _ in choices], default="unknown").astype(object)
    rules = np.select(conditions, [rule for _, _, rule in choices], default="limiter-not-enough-known")
    return names, rules.astype(object)


def _confidence(frame: pd.DataFrame, study: Study) -> NDArray[Any]:
    """How much the label may be leant on.

    ``high`` needs counters that leave no other label possible, or modelled bytes, which are minima, that
    prove the memory roof is reached and do not fit into the caches before memory. ``low`` is for a label
    near a line or near the ridge, from perturbed times, or half known.
    """
    lines = thresholds().verdict
    memory, cache, compute = _shares(frame)
    line, gap = lines.roof_frac.value, lines.near_line_frac.value
    with np.errstate(invalid="ignore"):
        nearest = np.fmin(np.abs(np.fmax(memory, cache) - line), np.abs(compute - line))
    ridge_gap = (frame["intensity_flop_per_byte"] / frame["ridge_flop_per_byte"] - 1).abs()
    known = (frame["bound"] != "unknown") & (frame["limiter"] != "unknown")
    decided = frame["limiter"].isin(["communication", "launch", "parallelism"])
    shaky = (nearest < gap) | (ridge_gap < lines.near_ridge_frac.value) | frame["perturbed"]
    cached = per_gpu(frame, study.specs, lambda spec: spec.l2_bytes + spec.memory_side_cache_bytes)
    modelled = frame["bytes_basis"] == "modelled"
    proven = modelled & (frame["limiter"] == "memory-bandwidth") & (frame["bytes"] > 2 * cached)
    sure = known & (proven | _counted(frame, line, gap))
    return np.select([shaky | ~(known | decided), sure], ["low", "high"], default="medium").astype(object)


def _counted(frame: pd.DataFrame, line: float, gap: float) -> NDArray[np.bool_]:
    """Return where counters prove the limiter, whatever the pipes do that were not counted.

    A pipe of half the lanes is busy twice as long as its instructions take issue slots. Scattered requests
    may keep the L1 looking lines up all the time, which is not counted: below all roofs, they prove nothing.
    """
    import pandas as pd

    memory, cache, _ = _shares(frame)
    lines = thresholds().verdict
    measured = (frame["bytes_basis"] == "measured").to_numpy(bool)
    counted = frame["valu_busy_frac"].notna().to_numpy(bool)
    issue = frame["vector_high_frac"].to_numpy(float)
    vector = np.where(counted, issue, np.minimum(issue * lines.half_rate_cycles.value, 1.0))
    # what was not counted may be as busy as can be; AMD's vector pipes issue for the matrix pipes too
    matrix = frame["matrix_high_frac"].fillna(pd.Series(np.where(counted, 0.0, 1.0), frame.index))
    pipes = np.fmax(np.where(np.isnan(vector), 1.0, vector), matrix.to_numpy(float))
    least = frame["matrix_low_frac"].to_numpy(float)
    slack, limiter = lines.balanced_frac.value, frame["limiter"]
    by_memory = (limiter == "memory-bandwidth") & (memory >= line + gap) & (pipes <= memory + slack)
    by_pipes = (limiter == "compute") & (least >= line + gap) & (np.fmax(memory, cache) <= least + slack)
    idle = (memory < line - gap) & ~(cache >= line - gap) & (matrix.to_numpy(float) < line - gap)
    idle &= frame["pipe_high_frac"].to_numpy(float) < line - gap
    scattered = lines.coalesced_sectors.value * frame["global_load_requests"].to_numpy(float)
    idle &= ~(frame["global_load_sectors"].to_numpy(float) > scattered)
    causes = limiter.isin(["latency", "occupancy", "parallelism", "launch"]) & idle
    found: NDArray[np.bool_] = measured & (by_memory | by_pipes | causes).to_numpy(bool)
    return found


ANALYZER = Limiter()
