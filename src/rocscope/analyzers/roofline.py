"""Which roof lies above each kernel, and how near the kernel comes to it.

Shares are of datasheet peaks. The least time (``roof_ns``) is at achievable ceilings where they are known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

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
        *("bytes", "flops", "flops_unit"),
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
        frame["bound"] = _bound(frame, over)
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


def _bound(frame: pd.DataFrame, over: pd.Series) -> np.ndarray:
    """Memory where the intensity is below the ridge, compute above it, unknown where either is not known."""
    known = frame["intensity_flop_per_byte"].notna() & ~over & ~frame["over_the_link"]
    copy = known & (frame["flops"] == 0)
    ridge = frame["ridge_flop_per_byte"]
    below = copy | (known & (frame["intensity_flop_per_byte"] < ridge))
    above = known & ~copy & (frame["intensity_flop_per_byte"] >= ridge)
    return np.select([below, above], ["memory", "compute"], default="unknown").astype(object)


ANALYZER = Roofline()
