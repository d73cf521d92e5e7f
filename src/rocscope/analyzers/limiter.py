"""What holds each kernel back now: a roof it is near, or a reason why it is near none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from rocscope.analyzers import evidence, residency
from rocscope.analyzers.activity import l2_peak, per_gpu
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
        *("gpu", "family", "dispatches", "mean_ns", "min_ns", "max_ns"),
        *("bytes", "bytes_basis", "flops", "bound", "bandwidth_frac"),
        *(
            "compute_frac",
            "flops_unit",
            "intensity_flop_per_byte",
            "ridge_flop_per_byte",
            "over_the_link",
            "flagged",
            "perturbed",
            "bound_rule",
            "unit_told",
        ),
        *("l2_frac", "l1_frac", "l2_lookup_frac", "l2_high_frac"),
        *("matrix_frac", "matrix_low_frac", "matrix_high_frac", "vector_frac", "vector_low_frac"),
        *("vector_high_frac", "pipe_high_frac", "valu_busy_frac", "mem_unit_busy_frac", "salu_busy_frac"),
        *("issue_active_frac", "mfma_busy_frac", "workgroups", "waves_per_cu", "active_cus_frac"),
        *("achieved_occupancy_frac", "theoretical_occupancy_frac"),
        *("global_load_requests", "global_load_sectors"),
    )
    adds = (
        *("limiter", "limiter_rule", "confidence", "evidence"),
        "cache_frac",  # of the nearer cache roof, if counted
        "work_frac",  # of the nearest arithmetic roof: FLOPs, matrix pipes or issue slots
        "nearest_frac",  # of the nearest roof of all
        "from_memory_frac",  # of the memory roof at least: modelled bytes may come from a cache
        "cache_size_bytes",  # of all caches before memory
    )

    def run(self, study: Study) -> None:
        """Decide by the first rule that holds; ``unknown`` where none does."""
        frame = study.kernels
        memory, cache, compute = _shares(frame)
        frame["cache_frac"], frame["work_frac"] = cache, compute
        frame["nearest_frac"] = np.fmax(np.fmax(memory, cache), compute)
        frame["from_memory_frac"] = residency.from_memory_frac(frame, study)
        frame["cache_size_bytes"] = residency.sizes(frame, study)
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
    names = ("bandwidth_frac", "l2_frac", "l2_lookup_frac", "l1_frac", "matrix_frac", "vector_frac")
    memory, l2, lookups, l1, matrix, vector = (frame[name].to_numpy(float) for name in names)
    return memory, np.fmax(np.fmax(l2, lookups), l1), np.fmax(told.to_numpy(float), np.fmax(matrix, vector))


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
    # so few CUs cannot do so much of the GPU's arithmetic, known or not
    below = (memory < roof) & ((compute < roof) | (groups < roof * units)) & ~(high_data | high_compute)
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
    by_matrix = frame["flops_unit"].fillna("").astype(str).str.startswith("matrix").to_numpy(bool)
    matrix = np.fmax(frame["matrix_frac"].to_numpy(float), np.where(by_matrix, frame["compute_frac"], np.nan))
    by_pipes = matrix >= lines.matrix_busy_frac.value
    thin = below & (resident < lines.low_occupancy_frac.value) & ~by_pipes
    led = high_data & ~(high_compute & (compute > data))
    seen = np.fmax(frame["l2_frac"].to_numpy(float), frame["l1_frac"].to_numpy(float))
    likely = (cache >= roof) & ~(seen >= roof)  # by look-ups alone
    # modelled bytes that a cache may have served are no share of the memory roof
    warm = high_data & (memory >= roof) & ~(frame["from_memory_frac"].to_numpy(float) >= roof)
    warm &= ~(cache >= roof)
    # few dispatches, one of them far longer: it paid for first use, and the mean is of neither
    few_timed = frame["dispatches"].between(2, lines.uneven_dispatches.value).to_numpy(bool)
    uneven = few_timed & (frame["max_ns"] >= lines.uneven_factor.value * frame["min_ns"]).to_numpy(bool)
    choices = [
        (link, "communication", "limiter-link"),
        (flagged, "unknown", "limiter-withheld"),
        (uneven, "unknown", "limiter-uneven-times"),
        (warm & high_compute, "compute", "limiter-compute-roof"),
        (warm, "unknown", "limiter-in-cache"),
        (near, "balanced", "limiter-balanced"),
        (led & (memory >= roof), "memory-bandwidth", "limiter-memory-roof"),
        (led & likely, "cache-bandwidth", "limiter-scattered-loads"),
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
    sure = (known & proven) | _counted(frame, study.specs)
    half = ~(known | decided) | _half_counted(frame, line)
    return np.select([shaky, sure, half], ["low", "high", "low"], default="medium").astype(object)


def _half_counted(frame: pd.DataFrame, line: float) -> NDArray[np.bool_]:
    """Return where a roof is said not to be reached, and what might have reached it was not counted.

    That is the memory roof where reads alone were counted and the L2 had more traffic, and the matrix pipes
    of a kernel of unknown FLOPs.
    """
    slow = frame["limiter"].isin(["latency", "occupancy", "parallelism"])
    writes = (_most_memory(frame) >= line) & frame["l2_bytes"].notna()
    pipes = frame["matrix_frac"].isna() & frame["compute_frac"].isna() & frame["valu_busy_frac"].isna()
    few = frame["active_cus_frac"] < line
    measured = frame["bytes_basis"] == "measured"
    found: NDArray[np.bool_] = (slow & measured & (writes | (pipes & ~few))).to_numpy(bool)
    return found


def _counted(frame: pd.DataFrame, specs: dict[int, GpuSpec | None]) -> NDArray[np.bool_]:
    """Return where counters prove the limiter, whatever the pipes do that were not counted.

    A pipe of half the lanes is busy twice as long as its instructions take issue slots. A CU without a
    workgroup is never busy, so that few workgroups bound all pipes, counted or not.
    """
    import pandas as pd

    memory, cache, _ = _shares(frame)
    lines = thresholds().verdict
    line, gap = lines.roof_frac.value, lines.near_line_frac.value
    measured = (frame["bytes_basis"] == "measured").to_numpy(bool)
    counted = frame["valu_busy_frac"].notna().to_numpy(bool)
    issue = frame["vector_high_frac"].to_numpy(float)
    vector = np.where(counted, issue, np.minimum(issue * lines.half_rate_cycles.value, 1.0))
    # what was not counted may be as busy as can be; AMD's vector pipes issue for the matrix pipes too
    whole = frame["active_cus_frac"].fillna(1.0).to_numpy(float)  # a CU without a workgroup is never busy
    matrix = frame["matrix_high_frac"].fillna(pd.Series(np.where(counted, 0.0, whole), frame.index))
    pipes = np.fmax(np.where(np.isnan(vector), whole, vector), matrix.to_numpy(float))
    matrix_least = frame["matrix_low_frac"].to_numpy(float)
    slack, limiter = lines.balanced_frac.value, frame["limiter"]
    most, l2 = _most_memory(frame), _most_l2(frame, specs)
    by_memory = (limiter == "memory-bandwidth") & (memory >= line + gap) & (pipes <= memory + slack)
    single = frame["l2_lookup_frac"].notna().to_numpy(bool)  # likely, not shown
    by_cache = (limiter == "cache-bandwidth") & (cache >= line + gap) & (pipes <= cache + slack) & ~single
    by_pipes = (limiter == "compute") & (matrix_least >= line + gap)
    by_pipes &= np.fmax(most, np.where(np.isnan(frame["l2_frac"]), l2, cache)) <= matrix_least + slack
    # nothing can be busier than all the time, so a pipe this near to it leads or shares the lead
    by_pipes |= (limiter == "compute") & (frame["vector_low_frac"] >= 1 - slack)
    idle = (most < line - gap) & ~(cache >= line - gap) & (matrix.to_numpy(float) < line - gap)
    idle &= frame["pipe_high_frac"].to_numpy(float) < line - gap
    idle &= l2 < line - gap
    causes = limiter.isin(["latency", "occupancy", "parallelism", "launch"]) & idle
    found: NDArray[np.bool_] = measured & (by_memory | by_cache | by_pipes | causes).to_numpy(bool)
    return found


def _most_l2(frame: pd.DataFrame, specs: dict[int, GpuSpec | None]) -> Floats:
    """Return the most of the L2's look-ups; where nobody counted, all that the CUs with work can ask for.

    AMD's memory unit counts as busy while it waits, so where that was counted the L2 is no other roof.
    """
    lines = thresholds().verdict
    asked = frame["active_cus"] * lines.cu_bytes_per_clock.value
    asked = asked * per_gpu(frame, specs, lambda spec: spec.clock_hz.value) / per_gpu(frame, specs, l2_peak)
    most = asked.fillna(1.0).clip(upper=1.0).mask(frame["mem_unit_busy_frac"].notna(), 0.0)
    return frame["l2_high_frac"].fillna(most).to_numpy(float)


def _most_memory(frame: pd.DataFrame) -> Floats:
    """Return the most of the memory bandwidth that can have been used: reads alone say nothing of writes."""
    memory = frame["bandwidth_frac"].to_numpy(float)
    by_l2 = frame["l2_bytes"] / frame["mean_ns"].where(frame["mean_ns"] > 0) * 1e9 / frame["peak_bandwidth"]
    return np.where(frame["write_bytes"].isna(), np.minimum(by_l2.fillna(1.0), 1.0), memory)


ANALYZER = Limiter()
