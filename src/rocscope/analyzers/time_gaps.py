"""The longest pauses of each GPU on the axis, and what is known of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from rocscope import columns, intervals, steps
from rocscope.analyzers import pauses
from rocscope.analyzers.time_axis import Axis
from rocscope.findings import TimelineGap
from rocscope.serving_metrics import Scrapes
from rocscope.study import Study
from rocscope.wording import percent

MOST: Final = 50
_COVERED: Final = 0.9  # of a gap: the shortest span that covers so much tells most of it
_LEAST: Final = 0.25  # of a gap, for a span to be named
_OUTER: Final = 0.5  # a span over half of the axis tells nothing of a gap in it
_LONGEST_NAME: Final = 120  # a span may be named after a whole prompt
_WITHIN: Final = "between kernels of one launch, as of a graph"  # no host is waited for
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Gaps:
    """The longest gaps, longest first, and the rest of them in sum."""

    longest: list[TimelineGap]
    left_out: int
    left_out_s: float


@dataclass(frozen=True)
class _Found:
    """Gaps of one GPU, ns of the capture; arrays of equal length."""

    gpu: int
    start: Ints
    end: Ints
    why: NDArray[Any]  # text or None


def find(study: Study, axis: Axis) -> Gaps:
    """Return the longest gaps on ``axis``, those at its ends only where it is a window that was asked for."""
    every = pauses.find(study, list(axis.lanes))
    found = [_of(axis, gpu, every[gpu]) for gpu in axis.lanes]
    lengths = np.concatenate([each.end - each.start for each in found])
    lane = np.repeat(np.arange(len(found)), [len(each.start) for each in found])
    row = np.concatenate([np.arange(len(each.start)) for each in found])
    order = np.argsort(-lengths, kind="stable")
    scrapes = Scrapes.read(study.capture.samples) if axis.one_clock else None
    told: dict[int, TimelineGap] = {}
    for at in np.unique(lane[order[:MOST]]):
        mine = order[:MOST][lane[order[:MOST]] == at]
        texts = _during(study, axis, found[at], row[mine], scrapes)
        for place, text in zip(mine, texts, strict=True):
            gap, gpu = row[place], found[at].gpu
            told[int(place)] = TimelineGap(
                gpu=gpu,
                start_s=float(axis.place(gpu, found[at].start[gap])) * 1e-9,
                duration_s=float(lengths[place]) * 1e-9,
                during=text,
            )
    rest = order[MOST:]
    return Gaps(
        longest=[told[int(place)] for place in order[:MOST]],
        left_out=len(rest),
        left_out_s=float(lengths[rest].sum()) * 1e-9,
    )


def _of(axis: Axis, gpu: int, found: pauses.Pauses) -> _Found:
    origin = axis.origin_ns[gpu]
    inside = (found.start_ns >= origin) & (found.end_ns <= origin + axis.span_ns)
    start, end, why = found.start_ns[inside], found.end_ns[inside], _why(found)[inside]
    if axis.asked:
        lane = axis.lanes[gpu]
        first, last = int(lane.start.min()), int(lane.end.max())
        start = np.concatenate((start, [origin, origin + last]))
        end = np.concatenate((end, [origin + first, origin + axis.span_ns]))
        why = np.concatenate((why, np.array(["before the first kernel", "after the last kernel"], object)))
    some = end > start
    return _Found(gpu, start[some], end[some], why[some])


def _why(found: pauses.Pauses) -> NDArray[Any]:
    """Say what a pause is for by its length and its neighbours; ``None`` where the host did other things."""
    text = np.full(len(found.start_ns), None, object)
    text[found.launch] = "waiting for launches"
    text[found.within] = _WITHIN
    text[found.once] = "too long for launches (compiling or loading kernels, as a rule)"
    known = np.flatnonzero([phase is not None for phase in found.phase])
    for at in known:
        inside = f"in a {found.phase[at]} step"
        text[at] = inside if text[at] is None else f"{inside}, {text[at]}"
    return text


def _during(study: Study, axis: Axis, found: _Found, rows: Ints, scrapes: Scrapes | None) -> list[str | None]:
    """Return for each of ``rows`` what is known of the gap, or ``None``."""
    spans = _candidates(study, axis, found, rows)
    told = []
    for row in rows:
        first, last = int(found.start[row]), int(found.end[row])
        host = None if found.why[row] == _WITHIN else _span(spans, first, last)
        parts = [found.why[row], host and f"host in {host}", _requests(scrapes, first, last)]
        told.append(", ".join(part for part in parts if part) or None)
    return told


def _candidates(study: Study, axis: Axis, found: _Found, rows: Ints) -> pa.Table:
    """Return what the GPU's processes did in a gap, without steps and what is outermost."""
    capture = study.capture
    spans = capture.spans
    if not spans.num_rows:
        return spans
    owners = capture.dispatches.filter(pc.equal(capture.dispatches["gpu"], found.gpu))["process"]
    kinds = columns.holds(spans["kind"], lambda kind: kind != "gpu_annotation")
    spans = spans.filter(pc.and_(kinds, pc.is_in(spans["process"], pc.unique(owners))))
    spans = spans.filter(columns.holds(spans["name"], lambda name: steps.parse(name) is None))
    order = rows[np.argsort(found.start[rows])]
    first, last = columns.ints(spans["start_ns"]), columns.ints(spans["end_ns"])
    touches = intervals.overlap(first, last, found.start[order], found.end[order]) > 0
    return spans.filter(pa.array(touches & (last - first < _OUTER * axis.span_ns)))


def _span(spans: pa.Table, first: int, last: int) -> str | None:
    """Name the shortest span that covers the gap, else the name that covers most of it."""
    if not spans.num_rows:
        return None
    start, end = columns.ints(spans["start_ns"]), columns.ints(spans["end_ns"])
    share = np.clip(np.minimum(end, last) - np.maximum(start, first), 0, None) / (last - first)
    covering = np.flatnonzero(share >= _COVERED)
    if len(covering):
        return _shown(spans, covering[(end - start)[covering].argmin()])
    most = int(share.argmax())
    return f"{_shown(spans, most)} for {percent(share[most])} of it" if share[most] >= _LEAST else None


def _shown(spans: pa.Table, row: int) -> str:
    name: str = spans["name"][int(row)].as_py()
    return name[:_LONGEST_NAME]


def _requests(scrapes: Scrapes | None, first: int, last: int) -> str | None:
    """Say so where the server had nothing to do, by every reading within the gap."""
    if scrapes is None or not scrapes.timed:
        return None
    inside = scrapes.between(first, last - 1)
    if not len(inside.times):
        return None
    running, waiting = inside.column("requests_running"), inside.column("requests_waiting")
    return "no request was running or waiting" if bool((running + waiting == 0).all()) else None
