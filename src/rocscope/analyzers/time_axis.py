"""One axis for all GPUs of a recording: where it begins on the clock of each, and which part it shows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from rocscope import columns, intervals, metrics
from rocscope.analyzers.timeline import asked_window
from rocscope.study import Study
from rocscope.thresholds import thresholds
from rocscope.wording import duration, percent

_MOST_CUTS: Final = 8
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Rows:
    """Dispatches of one GPU with times: ns of the axis, and the code of each one's kernel."""

    start: Ints
    end: Ints
    kernel: Ints


@dataclass(frozen=True)
class Axis:
    """The axis, ns from its beginning."""

    span_ns: int
    origin_ns: dict[int, int]  # by GPU: when the axis begins, by the clock of its times
    lanes: dict[int, Rows]  # of GPUs that ran something on it
    kernels: NDArray[np.object_]  # names that the codes stand for
    one_clock: bool  # what is not of a GPU can be put on it too
    asked: bool  # it is the window that was asked for
    notes: list[str] = field(default_factory=list)

    def place(self, gpu: int | None, time_ns: Ints) -> Ints:
        """Return times of the capture on the axis; of no GPU where all have one clock."""
        origin = self.origin_ns[gpu] if gpu is not None else next(iter(self.origin_ns.values()))
        return time_ns - origin


def find(study: Study) -> Axis | None:
    """Return the axis; ``None`` where no dispatch has a start, or all of them no length.

    It spans what the GPUs ran and, where one was asked for, the window. GPUs whose times never meet have
    different clocks, as those of two hosts do: each is then shown from its own first dispatch. A pause of
    nearly all of the window lies between two runs: the longer one is shown.
    """
    found = _read(study)
    if not found.lanes:
        return None
    found = _aligned(study, found)
    asked = asked_window(study) if found.one_clock else None
    first = min(int(each.start.min()) for each in found.lanes.values())
    last = max(int(each.end.max()) for each in found.lanes.values())
    inside = asked is not None and asked[0] <= first and last <= asked[1]
    if asked is not None and (inside or study.options.between_s):
        first, last = min(first, asked[0]), max(last, asked[1])
    elif cut := _longer_run(found, first, last):
        first, last = cut
    return _between(found, first, last, asked=inside) if last > first else None


def _read(study: Study) -> Axis:
    rows = metrics.timing(study.capture).rows.select(["gpu", "kernel", "start_ns", "end_ns"])
    placed = pc.and_(rows["start_ns"].is_valid(), pc.greater_equal(rows["end_ns"], rows["start_ns"]))
    rows = rows.filter(pc.fill_null(placed, False)).unify_dictionaries()
    codes, names = columns.text(rows["kernel"])
    gpu, start, end = (columns.ints(rows[name]) for name in ("gpu", "start_ns", "end_ns"))
    lanes = {}
    for each in np.unique(gpu):
        mine = gpu == each
        lanes[int(each)] = Rows(start[mine], end[mine], codes[mine])
    return Axis(0, dict.fromkeys(lanes, 0), lanes, names, one_clock=True, asked=False)


def _aligned(study: Study, found: Axis) -> Axis:
    """Let GPUs that do not share a clock begin together."""
    gpus = list(found.lanes)
    first = np.array([found.lanes[gpu].start.min() for gpu in gpus], np.int64)
    last = np.array([found.lanes[gpu].end.max() for gpu in gpus], np.int64)
    parts = intervals.clusters(first, last)
    if len(parts.starts) < 2 or not _clocks_differ(study, gpus, parts):
        return found
    member = np.searchsorted(parts.starts, first, side="right") - 1
    origins = {gpu: int(parts.starts[at]) for gpu, at in zip(gpus, member, strict=True)}
    lanes = {
        gpu: Rows(each.start - origins[gpu], each.end - origins[gpu], each.kernel)
        for gpu, each in found.lanes.items()
    }
    note = (
        "GPUs whose times never meet are of different clocks: each is shown from its own first dispatch, so "
        "that what stands one above the other need not have run at the same time"
    )
    return Axis(0, origins, lanes, found.kernels, one_clock=False, asked=False, notes=[note])


def _clocks_differ(study: Study, gpus: list[int], parts: intervals.Clusters) -> bool:
    """Tell whether GPUs that did not run at the same time should have: they are of hosts, or of ranks."""
    manifest = study.capture.manifest
    hosts = {each.gpu: each.host for each in manifest.gpus}
    ranks = {each.process: each.rank for each in manifest.processes}
    owners = study.kernels.groupby("gpu")["process"].first().to_dict()
    if len({hosts.get(gpu, "") for gpu in gpus}) > 1:
        return True
    if len({ranks.get(owners.get(gpu, -1)) for gpu in gpus} - {None}) > 1:
        return True
    whole = int(parts.ends[-1] - parts.starts[0])
    return bool(parts.gaps_ns.max() > thresholds().timeline.one_gap_frac.value * whole)


def _longer_run(found: Axis, first: int, last: int) -> tuple[int, int] | None:
    """Return the part with most busy time, where pauses are nearly all of the rest; ``None`` without such."""
    busy = intervals.clusters(
        np.concatenate([each.start for each in found.lanes.values()]),
        np.concatenate([each.end for each in found.lanes.values()]),
    )
    starts, ends = busy.starts, busy.ends
    for _ in range(_MOST_CUTS):
        pauses = starts[1:] - ends[:-1]
        line = thresholds().timeline.one_gap_frac.value * (ends[-1] - starts[0])
        if not len(pauses) or pauses.max() <= line:
            break
        at = int(pauses.argmax()) + 1
        before = int((ends[:at] - starts[:at]).sum()) >= int((ends[at:] - starts[at:]).sum())
        part = slice(None, at) if before else slice(at, None)
        starts, ends = starts[part], ends[part]
    if len(starts) == len(busy.starts):
        return None
    shown = float((ends - starts).sum()) / max(busy.union_ns, 1)
    found.notes.append(
        f"a pause is nearly all of the {duration(last - first)} that were recorded: the run with most time "
        f"in kernels is shown, {percent(shown)} of it"
    )
    return int(starts[0]), int(ends[-1])


def _between(found: Axis, first: int, last: int, *, asked: bool) -> Axis:
    """Return the axis from ``first`` to ``last``, ns of ``found``."""
    lanes = {}
    for gpu, each in found.lanes.items():
        inside = (each.end >= first) & (each.start <= last)
        if inside.any():
            lanes[gpu] = Rows(each.start[inside] - first, each.end[inside] - first, each.kernel[inside])
    origins = {gpu: found.origin_ns[gpu] + first for gpu in lanes}
    return Axis(
        last - first,
        origins,
        lanes,
        found.kernels,
        one_clock=found.one_clock,
        asked=asked,
        notes=found.notes,
    )
