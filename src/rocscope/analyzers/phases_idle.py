"""Time of each phase's steps in which a GPU ran nothing."""

from __future__ import annotations

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from rocscope import columns, intervals, metrics
from rocscope.analyzers import phases
from rocscope.analyzers.integrity import kernels_missing
from rocscope.findings import PhaseSummary
from rocscope.study import Study


class PhasesIdle:
    """Adds idle time to the phases; no columns."""

    name = "phases_idle"
    help = "time of prefill, decode and mixed steps in which the GPU ran nothing"
    needs = ("gpu", "raw_name", "family", "perturbed")  # the last: integrity has run
    adds = ()

    def run(self, study: Study) -> None:
        """Do nothing where steps are the host's, or kernels may be missing from them."""
        if not study.phases or kernels_missing(study) or study.kernels["perturbed"].any():
            return
        placed = phases.place(study)
        if placed is None or placed.rows is None or not bool(placed.steps["on_gpu"].iloc[0]):
            return
        idle = _idle_ns(study, placed)
        phase, gpu = placed.steps["phase"].to_numpy(object), placed.steps["gpu"].to_numpy()
        used = np.isin(np.arange(len(idle)), placed.at)  # as the phases: steps with kernels in them
        for place, each in enumerate(study.phases):
            mine = (phase == each.phase) & used
            spent = float(idle[mine].sum()) / max(1, len(np.unique(gpu[mine])))
            study.phases[place] = _told(each, spent)


def _told(phase: PhaseSummary, idle_ns: float) -> PhaseSummary:
    each = idle_ns * 1e-3 / phase.tokens if phase.tokens else None
    return phase.model_copy(update={"idle_time_s": idle_ns * 1e-9, "idle_us_per_token": each})


def _idle_ns(study: Study, placed: phases.Placed) -> NDArray[np.float64]:
    """Return for each step how much of it no kernel or copy covers."""
    rows = metrics.timing(study.capture).rows.select(["gpu", "start_ns", "end_ns"])
    valid = pc.and_(rows["start_ns"].is_valid(), pc.greater_equal(rows["end_ns"], rows["start_ns"]))
    rows = rows.filter(pc.fill_null(valid, False))
    gpu, start, end = (columns.ints(rows[name]) for name in ("gpu", "start_ns", "end_ns"))
    first, last = (placed.steps[name].to_numpy(np.int64) for name in ("start_ns", "end_ns"))
    idle: NDArray[np.float64] = (last - first).astype(np.float64)
    for each in placed.steps["gpu"].unique():
        mine = (placed.steps["gpu"] == each).to_numpy()
        busy = intervals.clusters(start[gpu == each], end[gpu == each])
        idle[mine] -= intervals.overlap(first[mine], last[mine], busy.starts, busy.ends)
    return idle


ANALYZER = PhasesIdle()
