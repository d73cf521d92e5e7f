"""Which roof lies above each kernel, and how near the kernel comes to it.

Measured bytes and FLOPs go before modelled ones. Shares are of datasheet peaks. The least time (``roof_ns``)
is at achievable ceilings where they are known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rocscope.analyzers import bounds
from rocscope.hardware import Ceilings, GpuSpec
from rocscope.models.copies import over_link
from rocscope.study import Study
from rocscope.thresholds import thresholds
from rocscope.wording import percent

if TYPE_CHECKING:
    import pandas as pd


class Roofline:
    """Adds achieved rates, shares of the datasheet roofs, intensity, ridge and bound."""

    name = "roofline"
    help = "memory or compute bound, from bytes, FLOPs and the ceilings of the GPU"
    needs = (
        *("gpu", "kind", "raw_name", "family", "time_ns", "mean_ns", "exposed_ns"),
        *("bytes", "bytes_basis", "bytes_source", "flops", "flops_basis", "flops_source", "flops_unit"),
        *("given_flops_unit", "read_bytes", "write_bytes", "flops_measured", "l2_bytes", "mfma_busy_frac"),
        *("matrix_frac", "matrix_high_frac", "vector_high_frac", "intensity_limit"),
    )
    adds = (
        "peak_bandwidth",  # bytes/s, datasheet
        "peak_flops",  # 1/s, datasheet, of the row's unit
        "achieved_bandwidth_bytes_per_s",
        "bandwidth_frac",
        "compute_frac",
        "intensity_flop_per_byte",
        "ridge_flop_per_byte",
        "bound",
        "bound_rule",
        "unit_told",  # whether the pipe that does the FLOPs is known
        "modelled_bytes",  # where measured ones took their place
        "memory_ns",  # least time to move the bytes
        "memory_basis",
        "roof_ns",  # least time of a dispatch
        "floor_ns",  # no kernel can be expected to run shorter
        "roof_basis",  # "achievable" | "datasheet" | None
        "headroom_ns",  # exposed time above the roofline, of all dispatches
        "over_the_link",  # not to be held against device memory
        "flagged",  # what is above its ceiling, or None
    )

    def run(self, study: Study) -> None:
        """Label every row; one that cannot be known is ``unknown``."""
        frame = study.kernels
        linked = (frame["family"] == "communication") | (
            (frame["kind"] == "memcpy") & frame["raw_name"].map(over_link)
        )
        frame["over_the_link"] = linked.to_numpy(bool)
        bounds.measured_first(frame)
        _ceilings(frame, study.specs)
        bounds.doubt_unit(frame)
        _ceilings(frame, study.specs)
        mean = frame["mean_ns"].where(frame["mean_ns"] > 0)  # shorter than the clock's tick: no rate
        rate = frame["bytes"] / mean * 1e9
        memory = (rate / frame["peak_bandwidth"]).where(~linked)
        compute = frame["flops"] / mean * 1e9 / frame["peak_flops"]
        compute = compute.mask((frame["flops"] == 0) & mean.notna(), 0.0).where(~linked)
        limit = thresholds().verdict.above_ceiling_frac.value
        frame["flagged"] = _flags(memory, compute, limit)
        over = frame["flagged"].notna()
        frame["achieved_bandwidth_bytes_per_s"] = rate.mask(over)
        frame["bandwidth_frac"] = memory.mask(over).clip(upper=1.0)
        frame["compute_frac"] = compute.mask(over).clip(upper=1.0)
        frame["intensity_flop_per_byte"] = (frame["flops"] / frame["bytes"]).where(frame["bytes"] > 0)
        frame["ridge_flop_per_byte"] = frame["peak_flops"] / frame["peak_bandwidth"]
        frame["bound"], frame["bound_rule"] = bounds.decide(frame, study.specs)
        _least_by_memory(frame)
        frame["floor_ns"] = _floor(frame, study.specs)
        above = (1 - frame["roof_ns"] / mean).clip(lower=0.0)
        exposed = frame["exposed_ns"].fillna(frame["time_ns"])
        frame["headroom_ns"] = (exposed * above).where(frame["bound"] != "unknown")
        self._warn(study, over)

    def _warn(self, study: Study, over: pd.Series) -> None:
        frame = study.kernels
        rows = frame[over].sort_values("time_ns", ascending=False, kind="stable")
        if len(rows):
            share = rows["time_ns"].sum() / max(frame["time_ns"].sum(), 1.0)
            study.warn(
                "above-ceiling",
                f"{len(rows)} kernels and shapes ({percent(share)} of kernel time) come out above "
                f"{percent(thresholds().verdict.above_ceiling_frac.value)} of a ceiling, so their labels are "
                f"withheld; the largest is {rows.iloc[0]['kernel']}: {rows.iloc[0]['flagged']}",
            )


def _ceilings(frame: pd.DataFrame, specs: dict[int, GpuSpec | None]) -> None:
    """Add peaks and the least time of each row."""
    bandwidth = {gpu: _bandwidth(spec.datasheet) for gpu, spec in specs.items() if spec}
    frame["peak_bandwidth"] = frame["gpu"].map(bandwidth).astype(float)
    pairs = list(zip(frame["gpu"], frame["flops_unit"], strict=True))
    table = {(gpu, unit): _flops(specs.get(gpu), unit) for gpu, unit in set(pairs) if isinstance(unit, str)}
    frame["peak_flops"] = np.array([table.get(pair, (np.nan, np.nan))[0] for pair in pairs], float)
    flops = np.array([table.get(pair, (np.nan, np.nan))[1] for pair in pairs], float)
    known = {gpu: _bandwidth(spec.achievable) for gpu, spec in specs.items() if spec}
    achievable = frame["gpu"].map(known).astype(float)
    memory_ns = frame["bytes"] / achievable.fillna(frame["peak_bandwidth"]) * 1e9
    rates = np.where(np.isnan(flops), frame["peak_flops"], flops)
    compute_ns = frame["flops"].div(rates).mul(1e9).mask(frame["flops"] == 0, 0.0)
    frame["memory_ns"] = memory_ns
    frame["memory_basis"] = np.where(achievable.notna(), "achievable", "datasheet").astype(object)
    whole = memory_ns.notna() & compute_ns.notna() & ~frame["over_the_link"]
    frame["roof_ns"] = memory_ns.where(memory_ns >= compute_ns, compute_ns).where(whole)
    measured = np.where(memory_ns >= compute_ns, achievable.notna(), ~np.isnan(flops))
    basis = np.where(measured, "achievable", "datasheet").astype(object)
    basis[~whole.to_numpy(bool)] = None
    frame["roof_basis"] = basis


def _floor(frame: pd.DataFrame, specs: dict[int, GpuSpec | None]) -> pd.Series:
    """Return each GPU's launch floor, or the shortest kernel of the recording if that is shorter."""
    usual = thresholds().verdict.shortest_kernel_s.value
    floors = {gpu: s.launch_floor_s.value if s and s.launch_floor_s else usual for gpu, s in specs.items()}
    shortest = frame[frame["mean_ns"] > 0].groupby("gpu")["mean_ns"].min()
    return frame["gpu"].map(shortest).clip(upper=frame["gpu"].map(floors).astype(float) * 1e9)


def _bandwidth(ceilings: Ceilings) -> float:
    figure = ceilings.bandwidth_bytes_per_s
    return figure.value if figure else np.nan


def _flops(spec: GpuSpec | None, unit: str) -> tuple[float, float]:
    """Datasheet and achievable rate of one pipe, NaN where unknown."""
    if spec is None:
        return np.nan, np.nan
    found = (spec.datasheet.flops_per_s.get(unit), spec.achievable.flops_per_s.get(unit))
    datasheet, achievable = (figure.value if figure else np.nan for figure in found)
    return datasheet, achievable


def _flags(memory: pd.Series, compute: pd.Series, limit: float) -> pd.Series:
    import pandas as pd

    texts: list[str | None] = []
    for share, work in zip(memory, compute, strict=True):
        parts = [f"{percent(share)} of the memory bandwidth"] if share > limit else []
        parts += [f"{percent(work)} of the arithmetic peak"] if work > limit else []
        texts.append(" and ".join(parts) or None)
    return pd.Series(texts, index=memory.index, dtype=object)


def _least_by_memory(frame: pd.DataFrame) -> None:
    """Where memory is known to be the roof and FLOPs are not, the least time is that of the bytes."""
    known = (frame["bound"] == "memory") & frame["roof_ns"].isna() & frame["memory_ns"].notna()
    rows = (known & ~frame["over_the_link"]).to_numpy(bool)
    frame["roof_ns"] = frame["roof_ns"].where(~rows, frame["memory_ns"])
    basis = frame["roof_basis"].to_numpy(object).copy()
    basis[rows] = frame["memory_basis"].to_numpy(object)[rows]
    frame["roof_basis"] = basis


ANALYZER = Roofline()
