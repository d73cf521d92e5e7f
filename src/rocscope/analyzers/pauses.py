"""Pauses of a GPU between its kernels: waiting for the host to launch, or for something else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from rocscope import columns, intervals, metrics, step_context, steps
from rocscope.study import Study
from rocscope.thresholds import thresholds

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Pauses:
    """The pauses of one GPU, in order; arrays of equal length."""

    start_ns: Ints
    end_ns: Ints
    launch: Flags  # the GPU waits for the host to launch
    within: Flags  # a launch made both neighbours, as a graph's: no host is waited for
    once: Flags  # within an annotated step, but too long for launches: compilation, as a rule
    phase: NDArray[Any]  # of the annotated step that both neighbours are in, else None
    annotated: bool  # whether steps are annotated

    @property
    def length_ns(self) -> Ints:
        """Their lengths."""
        return self.end_ns - self.start_ns

    @property
    def stall(self) -> Flags:
        """Which are too long for launches: the host did other things."""
        found: Flags = ~self.launch & ~self.within
        return found


def deciding_walls(study: Study) -> dict[int, float]:
    """Return the window of each GPU that waits for no other, where it has one."""
    frame = study.kernels
    walls = frame[frame["critical"].astype(bool)].groupby("gpu")["wall_ns"].first().dropna()
    return {int(gpu): float(wall) for gpu, wall in zip(walls.index, walls, strict=True)}


def find(study: Study, gpus: list[int]) -> dict[int, Pauses]:
    """Return the pauses of each of ``gpus``.

    A pause is for launches if it is short, whatever surrounds it, or lies between two kernels of one
    annotated step and is no longer than launches ever take: the host has begun that step, and the GPU waits
    for the rest of it. Kernels that one call launched, as those of a graph, wait for no host.
    """
    rows = metrics.timing(study.capture).rows.select(
        ["gpu", "process", "correlation_id", "start_ns", "end_ns"]
    )
    placed = pc.and_(rows["start_ns"].is_valid(), pc.greater_equal(rows["end_ns"], rows["start_ns"]))
    rows = rows.filter(pc.fill_null(placed, False))
    told = steps.annotated(study.capture)
    at = np.full(rows.num_rows, -1, np.int64)
    if not told.empty and rows.num_rows:
        at = step_context.step_of(rows, told, study.capture)
    phases = np.append(told["phase"].to_numpy(object) if len(told) else np.empty(0, object), [None])
    return {gpu: _of(rows, gpu, at, phases) for gpu in gpus}


def _of(rows: pa.Table, gpu: int, at: Ints, phases: NDArray[Any]) -> Pauses:
    mine = np.flatnonzero(columns.ints(rows["gpu"]) == gpu)
    names = ("start_ns", "end_ns", "process", "correlation_id")
    start, end, process, call = (columns.ints(rows[name])[mine] for name in names)
    merged = intervals.clusters(start, end)
    after = merged.order[merged.first[1:]]
    before = merged.order[merged.first[1:] - 1]
    steps_of = at[mine]
    line = thresholds().timeline
    length = merged.gaps_ns
    within = (call[before] == call[after]) & (call[after] > 0) & (process[before] == process[after])
    inside = (steps_of[before] == steps_of[after]) & (steps_of[after] >= 0)
    once = inside & ~within & (length > line.step_gap_s.value * 1e9)
    short = length <= line.launch_gap_s.value * 1e9
    return Pauses(
        start_ns=np.asarray(merged.ends[:-1]),
        end_ns=np.asarray(merged.starts[1:]),
        launch=(short | inside) & ~within & ~once,
        within=within,
        once=once,
        phase=phases[np.where(inside, steps_of[after], -1)],
        annotated=len(phases) > 1,
    )
