"""Each GPU over the window: busy and idle."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc

from rocscope import intervals, metrics
from rocscope.analyzers.integrity import kernels_missing
from rocscope.findings import GpuSummary
from rocscope.hardware import GpuSpec
from rocscope.study import Study
from rocscope.thresholds import thresholds
from rocscope.wording import duration


@dataclass(frozen=True)
class _Window:
    wall_ns: int
    busy_ns: int
    longest_ns: int  # pause between two kernels
    asked: bool  # the wall is the window that was asked for, not the extent of the kernels


class Timeline:
    """Adds GPU summaries, and the window of each."""

    name = "timeline"
    help = "busy and idle time of each GPU"
    needs = ("gpu", "process", "time_ns", "perturbed")  # the last: integrity has run
    adds = ("wall_ns",)  # window of the row's GPU, NaN where it is none that shares could be taken of

    def run(self, study: Study) -> None:
        """Summarise each GPU. Idle time is claimed only where no kernel is known to be missing."""
        missing = kernels_missing(study)
        if study.kernels["perturbed"].any():
            missing.append("counters were on, which make the GPU wait between kernels")
        windows = _windows(study)
        split = {gpu for gpu, each in windows.items() if each is not None and self._split(study, gpu, each)}
        whole = {gpu: each for gpu, each in windows.items() if each is not None and gpu not in split}
        walls = {gpu: float(each.wall_ns) for gpu, each in whole.items()}
        study.kernels["wall_ns"] = study.kernels["gpu"].map(walls).astype(float)
        ranks = {each.process: each.rank for each in study.capture.manifest.processes}
        owners = study.kernels.groupby("gpu")["process"].first().to_dict()
        for gpu in study.capture.manifest.gpus:
            if gpu.gpu not in windows:
                continue
            spec, window = study.specs.get(gpu.gpu), windows[gpu.gpu]
            known = gpu.gpu in whole and not missing
            study.gpus.append(
                _summary(gpu.gpu, spec, window, idle_known=known).model_copy(
                    update={
                        "arch": gpu.arch or (spec.arch if spec else None),
                        "model": spec.name if spec else gpu.name or None,
                        "host": gpu.host or None,
                        "rank": ranks.get(owners.get(gpu.gpu, -1)),
                    }
                )
            )
        if missing:
            study.warn("idle-withheld", f"idle time is not claimed: {missing[0]}")

    def _split(self, study: Study, gpu: int, window: _Window) -> bool:
        """Tell whether one pause is nearly the whole window, as where two runs lie in one recording."""
        if window.asked or window.longest_ns <= thresholds().timeline.one_gap_frac.value * window.wall_ns:
            return False
        study.warn(
            "one-long-pause",
            f"GPU {gpu}: one pause of {duration(window.longest_ns)} is nearly all of the window, as where "
            "two runs, or two clocks, lie in one recording: idle time is not claimed",
        )
        return True


def _windows(study: Study) -> dict[int, _Window | None]:
    """Return each GPU's window; ``None`` where starts were not recorded."""
    rows = metrics.timing(study.capture).rows.select(["gpu", "start_ns", "end_ns"])
    found: dict[int, _Window | None] = {int(gpu): None for gpu in sorted(pc.unique(rows["gpu"]).to_pylist())}
    rows = rows.filter(
        pc.and_(rows["start_ns"].is_valid(), pc.greater_equal(rows["end_ns"], rows["start_ns"]))
    )
    gpu, start, end = (rows[name].to_numpy() for name in ("gpu", "start_ns", "end_ns"))
    asked = asked_window(study)
    for each in np.unique(gpu):
        here = gpu == each
        merged = intervals.clusters(start[here], end[here])
        first, last = int(merged.starts[0]), int(merged.ends[-1])
        inside = asked is not None and asked[0] <= first and last <= asked[1]
        if asked is not None and (inside or study.options.between_s):
            first, last = min(first, asked[0]), max(last, asked[1])
        found[int(each)] = _Window(
            wall_ns=last - first,
            busy_ns=merged.union_ns,
            longest_ns=int(merged.gaps_ns.max(initial=0)),
            asked=inside,
        )
    return found


def asked_window(study: Study) -> tuple[int, int] | None:
    """Return the window that was asked for, if it is more than the extent of the dispatches.

    A window says nothing of ranks or steps that were selected afterwards; ``--between`` names one itself.
    """
    options, window = study.options, study.capture.manifest.window_ns
    rows = metrics.timing(study.capture).rows
    extent = (pc.min(rows["start_ns"]).as_py(), pc.max(rows["end_ns"]).as_py())
    if window == extent or options.ranks or options.steps:
        return None
    return window


def _summary(gpu: int, spec: GpuSpec | None, window: _Window | None, *, idle_known: bool) -> GpuSummary:
    peak = spec.datasheet.bandwidth_bytes_per_s if spec else None
    reached = spec.achievable.bandwidth_bytes_per_s if spec else None
    wall = window.wall_ns * 1e-9 if window else None
    busy = window.busy_ns * 1e-9 if window else None
    idle = wall - busy if wall is not None and busy is not None and idle_known else None
    return GpuSummary(
        gpu=gpu,
        arch=None,
        model=None,
        peak_bandwidth_bytes_per_s=peak.value if peak else None,
        achievable_bandwidth_bytes_per_s=reached.value if reached else None,
        achievable_source=reached.source if reached else None,
        peak_flops_per_s={unit: f.value for unit, f in spec.datasheet.flops_per_s.items()} if spec else {},
        wall_s=wall,
        busy_s=busy,
        idle_s=idle,
        busy_frac=busy / wall if idle is not None and busy is not None and wall else None,
    )


ANALYZER = Timeline()
