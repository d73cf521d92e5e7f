"""Which roof lies above a kernel: by intensity, or, without FLOPs, by what its pipes can have done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from rocscope.analyzers.activity import l2_peak, per_gpu
from rocscope.hardware import GpuSpec
from rocscope.thresholds import thresholds

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
MEASURED: Final = "measured"
_NO_UNIT: Final = (None, "")


def measured_first(frame: pd.DataFrame) -> None:
    """Put measured bytes and FLOPs in the place of modelled ones, and keep the modelled bytes beside.

    Reads without writes are less than the traffic, and say so. FLOPs of which nobody says what pipe did them
    are held against the matrix pipes where these were busy, else against the lowest vector peak.
    """
    frame["modelled_bytes"] = frame["bytes"].where(frame["bytes_basis"] == "modelled")
    read, write = frame["read_bytes"], frame["write_bytes"]
    counted = read.notna() & ~frame["over_the_link"]
    total = read + write.fillna(0.0)
    source = np.where(write.notna(), "device memory, read and written", "device memory, reads alone")
    _put(frame, "bytes", total, counted, source)
    given = frame["flops_measured"]
    _put(frame, "flops", given, given.notna(), _flops_source(frame))
    unit = frame["flops_unit"].astype(object)
    unit = unit.mask(given.notna() & frame["given_flops_unit"].notna(), frame["given_flops_unit"])
    nameless = given.notna() & unit.isin(_NO_UNIT)
    matrix = frame["mfma_busy_frac"] >= thresholds().verdict.matrix_busy_frac.value
    unit = unit.mask(nameless & matrix, "matrix_fp16")
    frame["flops_unit"] = unit.mask(nameless & ~matrix, "vector_fp32").astype(object)
    frame["unit_told"] = (~nameless).to_numpy(bool)


def _flops_source(frame: pd.DataFrame) -> NDArray[Any]:
    """Say of each row whether FLOPs were counted as instructions or given, as in a table."""
    known = "measures_source" in frame
    told: list[dict[str, str]] = frame["measures_source"].tolist() if known else [{}] * len(frame)
    counted = ["SQ_INSTS" in each.get("flops_measured", "") for each in told]
    return np.where(counted, "instruction counters, at most this", "given with the measurement")


def doubt_unit(frame: pd.DataFrame) -> None:
    """Take given FLOPs that vector pipes cannot do as those of the matrix pipes, where these were busy.

    A table often has the FLOPs and the unit of an operation in the row of each kernel that it launches.
    """
    lines = thresholds().verdict
    most = frame["peak_flops"] * lines.above_ceiling_frac.value
    rate = frame["flops_measured"] / frame["mean_ns"].where(frame["mean_ns"] > 0) * 1e9
    vector = ~frame["flops_unit"].astype(str).str.startswith("matrix")
    wrong = vector & (rate > most) & (frame["mfma_busy_frac"] >= lines.matrix_busy_frac.value)
    frame["flops_unit"] = frame["flops_unit"].mask(wrong, "matrix_fp16").astype(object)
    frame["unit_told"] = (frame["unit_told"] & ~wrong).to_numpy(bool)


def _put(frame: pd.DataFrame, name: str, value: pd.Series, where: pd.Series, source: NDArray[Any]) -> None:
    rows = where.to_numpy(bool)
    frame[name] = frame[name].where(~rows, value)
    for column, text in ((f"{name}_basis", MEASURED), (f"{name}_source", source)):
        kept = frame[column].to_numpy(object).copy()
        kept[rows] = text if isinstance(text, str) else text[rows]
        frame[column] = kept


def decide(frame: pd.DataFrame, specs: dict[int, GpuSpec | None]) -> tuple[Any, Any]:
    """Return bound and rule of each row; ``unknown`` where what is known leaves both roofs possible.

    Measured bytes of device memory miss what was in the L2 before and what is still there after. So a kernel
    is compute bound only if it would be with all of that (no more than the L2 holds, or than it asked of it).
    """
    known = frame["flagged"].isna() & ~frame["over_the_link"]
    intensity, ridge = frame["intensity_flop_per_byte"], frame["ridge_flop_per_byte"]
    flops = frame["flops"]
    copy = known & (flops == 0) & intensity.notna()
    below = known & (intensity < ridge)
    above = known & ~copy & (intensity >= ridge)
    counted = frame["bytes_basis"] == MEASURED
    hidden = np.fmin(frame["l2_bytes"].to_numpy(float), per_gpu(frame, specs, lambda spec: spec.l2_bytes))
    sure = above & (~counted | (flops / (frame["bytes"] + hidden) >= ridge))
    # nobody said which pipe: at packed 16-bit rates the ridge is up to twice as high, on matrix pipes more
    sure &= frame["unit_told"] | frame["flops_unit"].astype(str).str.startswith("matrix")
    l2 = per_gpu(frame, specs, l2_peak)
    cached = above & ~sure & (flops / frame["l2_bytes"] < frame["peak_flops"] / l2)
    loose = known & flops.isna() & counted
    # FLOPs are at most what busy pipes can do: memory traffic nearer to its peak than they are decides
    most = np.fmax(frame["matrix_high_frac"], frame["vector_high_frac"])
    idle = loose & (frame["bandwidth_frac"] > most)
    line = thresholds().verdict.roof_frac.value
    busy = loose & ~idle & (frame["matrix_frac"] >= line)
    busy &= frame["matrix_frac"] > frame["bandwidth_frac"]
    limited = known & flops.isna() & (frame["intensity_limit"] < _least_ridge(frame, specs))
    choices = [
        (copy, "memory", "bound-copy"),
        (below, "memory", "bound-ridge"),
        (sure, "compute", "bound-ridge"),
        (cached, "memory", "bound-cache"),
        (idle, "memory", "bound-pipes-idle"),
        (busy, "compute", "bound-pipes-busy"),
        (limited, "memory", "bound-limit"),
    ]
    conditions = [np.asarray(condition, bool) for condition, _, _ in choices]
    names = np.select(conditions, [name for _, name, _ in choices], default="unknown").astype(object)
    rules = np.select(conditions, [rule for _, _, rule in choices], default="bound-unknown").astype(object)
    return names, rules


def _least_ridge(frame: pd.DataFrame, specs: dict[int, GpuSpec | None]) -> Floats:
    """Return the ridge of the row's own unit, else the lowest of its GPU's."""

    def lowest(spec: GpuSpec) -> float:
        units = [f.value for unit, f in spec.datasheet.flops_per_s.items() if not unit.endswith("64")]
        memory = spec.datasheet.bandwidth_bytes_per_s
        return min(units) / memory.value if units and memory else np.nan

    own = frame["ridge_flop_per_byte"].to_numpy(float)
    return np.where(np.isnan(own), per_gpu(frame, specs, lowest), own)
