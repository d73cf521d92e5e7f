"""The steps of one recording, each with what it was made of: steps of one kind can be compared, mixes cannot.

A step runs from its start to the start of the next one. Annotations tell its batch; without them a step is
the sequence of kernels that repeats.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from rocscope import columns, intervals, metrics, step_context, steps
from rocscope.capture import Capture

if TYPE_CHECKING:
    import pandas as pd

Ints = NDArray[np.int64]

_COUNTS: Final = ("context_requests", "context_tokens", "generation_requests", "generation_tokens")
_COLUMNS: Final = ["gpu", "process", "correlation_id", "start_ns", "end_ns", "duration_ns", "count"]


@dataclass(frozen=True)
class Kind:
    """What steps have in common that are compared with each other."""

    phase: str  # prefill | decode | mixed | step
    counts: tuple[int, ...]  # of _COUNTS; empty where not annotated
    mark: str = field(default="", compare=False)  # an annotation of theirs; the kernel that begins each

    @property
    def sequences(self) -> int | None:
        """Sequences that each step generates for, of steps of decode alone."""
        return self.counts[2] if self.phase == "decode" else None

    @property
    def label(self) -> str:
        """The batch in words."""
        if self.phase == "step" or not self.counts:
            return "steps"
        prompts, tokens, running, made = self.counts
        parts = []
        if prompts:
            parts.append(f"{tokens} tokens of {prompts} prompt{_s(prompts)}")
        if running:
            more = "" if made == running else f", {made} tokens"
            parts.append(f"{running} sequence{_s(running)}{more}")
        return " and ".join(parts)


@dataclass
class Found:
    """The steps of one GPU of a recording, in order, and which of its dispatches lie in each."""

    kinds: list[Kind]
    kind: Ints  # [steps], index into kinds, -1 where a step is not used
    start_ns: Ints  # [steps]
    period_ns: Ints  # [steps], to the start of the next step; -1 where none follows
    context: NDArray[np.float64]  # [steps], tokens in the cache of all its sequences; NaN unknown
    rows: pa.Table  # dispatches of metrics.timing that have times, of that GPU
    places: Ints  # [rows], which row of metrics.timing each is
    step: Ints  # [rows], the step it is in, -1 where none
    found_by: str  # empty: by annotations


def _s(count: int) -> str:
    return "" if count == 1 else "s"


def find(capture: Capture, gpu: int) -> Found | str:
    """Return the steps of ``gpu``, or why there are none."""
    if metrics.tabled(capture):
        return "a table of measurements has no steps"
    timed = metrics.timing(capture)
    if timed.perturbed:
        return "times were taken under counters, which stretch them"
    table = timed.rows.select(_COLUMNS)
    start, end = columns.ints(table["start_ns"]), columns.ints(table["end_ns"])
    usable = (columns.ints(table["gpu"]) == gpu) & (start >= 0) & (end >= start)
    usable &= columns.ints(table["count"]) == 1
    places = np.flatnonzero(usable).astype(np.int64)
    if not len(places):
        return "the recording has no start times of kernels"
    rows = table.take(pa.array(places))
    frame = steps.annotated(capture)
    frame = frame[frame["gpu"] == gpu].reset_index(drop=True)
    if len(frame):
        return _annotated(capture, frame, rows, places)
    return _repeating(capture, gpu, rows, places)


def _annotated(capture: Capture, frame: pd.DataFrame, rows: pa.Table, places: Ints) -> Found | str:
    following = np.append(frame["start_ns"].to_numpy(np.int64)[1:], np.iinfo(np.int64).max)
    step = step_context.step_of(rows, frame.assign(end_ns=following), capture)
    if not (step >= 0).any():
        return "no kernel can be assigned to an annotated step"
    start = frame["start_ns"].to_numpy(np.int64)
    if not frame["on_gpu"].iloc[0]:  # the GPU is behind the host: a step begins there with its first kernel
        first = np.full(len(frame), np.iinfo(np.int64).max)
        inside = step >= 0
        np.minimum.at(first, step[inside], columns.ints(rows["start_ns"])[inside])
        start = first
    known = start < np.iinfo(np.int64).max
    period = np.full(len(frame), -1, np.int64)
    both = known[:-1] & known[1:]
    period[:-1] = np.where(both, np.diff(np.where(known, start, 0)), -1)
    kinds, kind = _kinds(frame)
    kind = np.where(known & _in_window(capture, frame) & _same_next(kinds, kind), kind, -1)
    return Found(
        kinds=kinds,
        kind=kind,
        start_ns=start,
        period_ns=period,
        context=_context(capture, frame),
        rows=rows,
        places=places,
        step=step,
        found_by="",
    )


def _context(capture: Capture, frame: pd.DataFrame) -> NDArray[np.float64]:
    told = step_context.described(capture)
    told = told[told["gpu"] == frame["gpu"].iloc[0]] if len(told) else told
    if len(told) != len(frame):
        return np.full(len(frame), np.nan)
    return told["step_context_tokens"].to_numpy(np.float64)


def _kinds(frame: pd.DataFrame) -> tuple[list[Kind], Ints]:
    found: dict[Kind, int] = {}
    numbers = []
    columns = (frame[name] for name in ("phase", "name", *_COUNTS))
    for phase, name, *counts in zip(*columns, strict=True):
        told = () if phase == "step" else tuple(int(count) for count in counts)
        numbers.append(found.setdefault(Kind(str(phase), told, str(name)), len(found)))
    return list(found), np.array(numbers, np.int64)


def _same_next(kinds: list[Kind], kind: Ints) -> NDArray[np.bool_]:
    """Tell which steps have a period of their own kind: decode steps, where the next is of the same batch.

    What a step of another kind waits for before it starts is not the doing of the one before. Prefills
    seldom follow each other, so that they are taken as they are.
    """
    decode = np.array([each.phase == "decode" for each in kinds], bool)[kind]
    found = np.ones(len(kind), bool)
    found[:-1] = ~decode[:-1] | (kind[1:] == kind[:-1])
    return found


def _in_window(capture: Capture, frame: pd.DataFrame) -> NDArray[np.bool_]:
    window = capture.manifest.window_ns
    empty = any(notice.code == "window-empty" for notice in capture.manifest.notices)
    if not window or empty or not frame["on_gpu"].iloc[0]:
        return np.ones(len(frame), bool)
    start = frame["start_ns"].to_numpy(np.int64)
    found: NDArray[np.bool_] = (start >= window[0]) & (start <= window[1])
    return found


def _repeating(capture: Capture, gpu: int, rows: pa.Table, places: Ints) -> Found | str:
    periods = steps.repeating(capture, gpu)
    if periods is None or periods.starts_ns is None:
        return "no step annotations, and no sequence of kernels that repeats"
    starts = periods.starts_ns
    period = np.rint(periods.lengths_s * 1e9).astype(np.int64)
    step = intervals.inside(columns.ints(rows["start_ns"]), starts, starts + period)
    kinds = [Kind("step", (), periods.what)]
    return Found(
        kinds=kinds,
        kind=np.zeros(len(starts), np.int64),
        start_ns=starts,
        period_ns=period,
        context=np.full(len(starts), np.nan),
        rows=rows,
        places=places,
        step=step,
        found_by=periods.found_by,
    )


def busy_ns(found: Found) -> Ints:
    """Return the time of each step in which a kernel ran: the union of their intervals, [steps].

    What runs over the end of a step counts in the step that it started in.
    """
    start, end = columns.ints(found.rows["start_ns"]), columns.ints(found.rows["end_ns"])
    order = np.argsort(start, kind="stable")
    start, end = start[order], end[order]
    reach = np.concatenate(([np.iinfo(np.int64).min], np.maximum.accumulate(end)[:-1]))
    added = np.maximum(0, end - np.maximum(start, reach))
    step = found.step[order]
    inside = step >= 0
    total: Any = np.bincount(step[inside], weights=added[inside], minlength=len(found.kind))
    return total.astype(np.int64)  # type: ignore[no-any-return]  # of bincount, which is not typed
