"""How near each kernel comes to the roofs that only counters see: caches, matrix pipes, issue slots.

Shares are of the time a kernel took. NVIDIA's tools count pipes per cycle in which a multiprocessor had work;
the rest of a dispatch (launch, drain, multiprocessors without a workgroup) is taken off here, as an interval.
AMD's divide by all cycles of the dispatch already. docs/adr/0008 has the argument for each step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from rocscope.hardware import GpuSpec
from rocscope.study import MEASURE_COLUMNS, Study
from rocscope.thresholds import thresholds

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
SECTOR: Final = 32  # bytes


class Activity:
    """Adds shares of the cache roofs and of the arithmetic pipes, as far as counters tell."""

    name = "activity"
    help = "shares of the cache roofs, matrix pipes and issue slots, of the time a kernel took"
    needs = ("gpu", "mean_ns", "active_cus", *MEASURE_COLUMNS)
    adds = (
        "l2_frac",  # bytes a second against the datasheet's
        "l1_frac",
        "matrix_frac",  # of the time; likely, least and most
        "matrix_low_frac",
        "matrix_high_frac",
        "vector_frac",  # issue slots, or vector pipes where those were counted
        "vector_low_frac",
        "vector_high_frac",
        "pipe_high_frac",  # the most that any one vector or load-store pipe can have been busy
        "l2_lookup_frac",  # of the L2's look-ups: likely, where loads are scattered
        "l2_high_frac",  # and most, whatever the traffic is made of
    )

    def run(self, study: Study) -> None:
        """Fill what counters tell; the rest is NaN."""
        frame, specs = study.kernels, study.specs
        lines = thresholds().verdict
        _caches(frame, study)
        low, mid, high = _of_elapsed(frame, specs)
        given = {name: frame[name].to_numpy(float) for name in ("mfma_busy_frac", "issue_active_frac")}
        matrix, issue = given["mfma_busy_frac"], given["issue_active_frac"]
        frame["matrix_frac"] = matrix * mid
        frame["matrix_low_frac"] = matrix * low
        frame["matrix_high_frac"] = matrix * high
        valu = frame["valu_busy_frac"].to_numpy(float)
        frame["vector_frac"] = np.fmax(issue * mid, valu)
        frame["vector_low_frac"] = np.fmax(issue * low, valu)
        frame["vector_high_frac"] = np.fmax(issue * high, valu)
        memory_unit = frame["mem_unit_busy_frac"].to_numpy(float)
        seen = np.where(np.isnan(memory_unit), np.nan, np.fmax(valu, memory_unit))
        # one load-store unit serves all schedulers of a CU: any slot may be an instruction that kept it busy,
        # in several passes; but no pipe of a CU without a workgroup is ever busy, counted or not
        slots = per_gpu(frame, specs, lambda spec: spec.simds_per_cu) * lines.load_passes.value
        worst = np.fmin(np.minimum(issue * slots, 1.0) * high, np.where(high < 1, high, np.nan))
        # matrix instructions may read their operands from shared memory without a slot for each
        operands = np.minimum(matrix * lines.operand_passes.value, 1.0) * high
        worst = np.where(np.isnan(worst), worst, np.fmax(worst, operands))
        frame["pipe_high_frac"] = np.where(np.isnan(valu), worst, seen)


def per_gpu(frame: pd.DataFrame, specs: dict[int, GpuSpec | None], figure: Any) -> Floats:
    """Return a figure of each row's GPU, NaN where the GPU or the figure is unknown."""
    values = {gpu: figure(spec) for gpu, spec in specs.items() if spec is not None}
    return frame["gpu"].map(values).to_numpy(dtype=float, na_value=np.nan)


def _caches(frame: pd.DataFrame, study: Study) -> None:
    specs, lines = study.specs, thresholds().verdict
    mean = frame["mean_ns"].where(frame["mean_ns"] > 0).to_numpy(float)
    l2 = per_gpu(frame, specs, l2_peak)
    l1 = lines.cu_bytes_per_clock.value * per_gpu(frame, specs, lambda s: s.compute_units * s.clock_hz.value)
    loaded = frame["global_load_sectors"].to_numpy(float) * SECTOR
    l1_bytes = frame["l1_bytes"].to_numpy(float)
    shares = {
        "l2_frac": frame["l2_bytes"].to_numpy(float) / mean * 1e9 / l2,
        "l1_frac": np.where(np.isnan(l1_bytes), loaded, l1_bytes) / mean * 1e9 / l1,
    }
    for name, share in shares.items():
        wrong = share > lines.above_ceiling_frac.value
        if wrong.any():
            study.warn(
                "cache-above-ceiling",
                f"the {name[:2].upper()} traffic of {int(wrong.sum())} kernels and shapes is more than that "
                "cache can move, so it decides no label",
            )
        frame[name] = np.minimum(np.where(wrong, np.nan, share), 1.0)
    # a look-up that finds one sector takes the time of one that finds two
    frame["l2_high_frac"] = np.minimum(frame["l2_frac"] * lines.lookup_sectors.value, 1.0)
    frame["l2_lookup_frac"] = frame["l2_high_frac"].where(scattered(frame))


def scattered(frame: pd.DataFrame) -> NDArray[np.bool_]:
    """Return where loads ask the L2 for so many sectors a request that most lanes have one of their own.

    Lanes that read half a sector each find the other half in the L1: those are not scattered.
    """
    most = thresholds().verdict.scattered_sectors.value * frame["global_load_requests"]
    asked = frame["global_load_sectors"] * (1 - frame["l1_hit_frac"].fillna(0.0))
    found: NDArray[np.bool_] = (asked > most).to_numpy(bool)
    return found


def l2_peak(spec: GpuSpec) -> float:
    """Return the datasheet's bytes a second of the L2, NaN where there is none."""
    figure = spec.datasheet.l2_bandwidth_bytes_per_s
    return figure.value if figure else np.nan


def _of_elapsed(frame: pd.DataFrame, specs: dict[int, GpuSpec | None]) -> tuple[Floats, Floats, Floats]:
    """Return the least, likely and most cycles with work of a CU, as shares of the dispatch's.

    A shortest kernel's time goes to launch and drain; at most some times as much, as workgroups that start
    together wait together for their first loads and last stores. At most ``workgroups / CUs`` of the CUs
    ever have work. With a few workgroups a CU, those with one fewer end early: not at all if a workgroup
    waits for its own loads, in proportion if it waits for the pipes.
    """
    lines = thresholds().verdict
    per_active = per_gpu(frame, specs, lambda spec: spec.vendor == "nvidia") == 1
    floor = per_gpu(
        frame, specs, lambda s: s.launch_floor_s.value if s.launch_floor_s else lines.shortest_kernel_s.value
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        lost = np.minimum(floor * 1e9 / frame["mean_ns"].to_numpy(float), 1.0)
        each = frame["workgroups"].to_numpy(float) / per_gpu(frame, specs, lambda spec: spec.compute_units)
        even = np.where(each > 1, each / np.ceil(each), 1.0)
    spread = np.fmin(each, 1.0)  # 1 where not known
    low = spread * even * np.maximum(1 - lines.ramp_factor.value * lost, 0.0)
    mid = spread * (1 + even) / 2 * (1 - lost)
    shares = (low, mid, spread)
    first, second, third = (np.where(per_active, share, 1.0) for share in shares)
    return first, second, third


ANALYZER = Activity()
