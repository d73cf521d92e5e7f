"""Which kernels belong to one and the same kind of engine step, GPU by GPU.

A step runs from its annotation's start to the start of the next one: head and sampler run after the part
that vLLM annotates. Without annotations it is a sequence of kernels that repeats, if it is seen to be a whole
step: one layer repeats too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from rocscope import columns, metrics, step_context, steps
from rocscope.capture import Capture
from rocscope.config import AnalyzeOptions

if TYPE_CHECKING:
    import pandas as pd

_COLUMNS: Final = ["gpu", "process", "correlation_id", "kernel", "start_ns", "end_ns", "duration_ns", "count"]
_LATE: Final = 2.0  # times the usual period: a step whose successor comes later was followed by a pause
_OF_A_TOKEN: Final = ("embedding", "sampling")  # families that are in every step and in no layer
_UNTIL_NEXT: Final = "from the start of its annotation to the start of the next"
_ANNOTATED_ONLY: Final = (
    "only what lies inside the annotations is in it: work that follows them, often head and sampler, is not"
)


@dataclass
class StepKernels:
    """The kernels of the steps of one kind."""

    phase: Literal["decode", "step"]
    sequences: int | None  # that each step generates for, where annotated
    found_by: str
    speculates: bool  # a step may make more than one token a sequence
    rows: pa.Table  # of metrics.timing, those with times
    inside: NDArray[np.bool_]  # which of them are in a step
    steps: dict[int, int]  # whole steps, by GPU; only those that have any
    period_s: dict[int, float | None]  # median from start to start
    notes: list[str] = field(default_factory=list)


def find(capture: Capture, kernels: pd.DataFrame, options: AnalyzeOptions) -> StepKernels | str:
    """Return the kernels of the most frequent kind of decode step, or why steps are not known.

    ``kernels`` are rows of :func:`rocscope.metrics.group`, ``options`` what was selected of the recording.
    Where no annotation says what a step is for, steps of any kind are taken (``phase`` "step", or "decode"
    where kernels say so).
    """
    if metrics.tabled(capture):
        return "a table of measurements has no steps"
    timed = metrics.timing(capture)
    if timed.perturbed:
        return "times were taken under counters, which stretch them"
    rows = timed.rows.select(_COLUMNS).unify_dictionaries()
    known = pc.and_(
        rows["start_ns"].is_valid(), pc.or_(rows["duration_ns"].is_valid(), rows["end_ns"].is_valid())
    )
    rows = rows if pc.all(known).as_py() else rows.filter(known)
    if not rows.num_rows:
        return "the recording has no start times of kernels"
    annotated = steps.annotated(capture)
    if annotated.empty:
        return _repeating(capture, rows, kernels)
    if not annotated["on_gpu"].iloc[0] and (options.steps or options.between_s):
        return "steps are annotated on the host only, where it does not show which of them a selection cuts"
    return _annotated(capture, rows, annotated, extend=options.steps is None)


def _annotated(capture: Capture, rows: pa.Table, frame: pd.DataFrame, *, extend: bool) -> StepKernels | str:
    whole, followed = _whole(capture, frame, extend=extend)
    if whole.empty:
        return "no annotated step is a decode step that lies in the recording from end to end"
    whole = whole.reset_index(drop=True)
    at = step_context.step_of(rows, whole, capture)
    if not (at >= 0).any():
        return (
            "no kernel can be assigned to an annotated step: the calls that launched them were not recorded"
        )
    with_kernels = np.bincount(at[at >= 0], minlength=len(whole)) > 0
    used = whole[with_kernels]
    first = used.iloc[0]
    decode = first["phase"] == "decode"
    sequences = int(first["generation_requests"]) if decode else None
    kind = f"decode steps of {sequences} sequence{'' if sequences == 1 else 's'}" if decode else "steps"
    gpu, length = used["gpu"].to_numpy(np.int64), (used["end_ns"] - used["start_ns"]).to_numpy(np.int64)
    found = StepKernels(
        phase="decode" if decode else "step",
        sequences=sequences,
        found_by=f"{kind}, as annotated{f', each {_UNTIL_NEXT}' if followed else ''}",
        speculates=bool(decode and first["generation_tokens"] > first["generation_requests"]),
        rows=rows,
        inside=at >= 0,
        steps={each: int((gpu == each).sum()) for each in np.unique(gpu).tolist()},
        period_s={
            each: float(np.median(length[gpu == each])) * 1e-9 if followed else None
            for each in np.unique(gpu).tolist()
        },
    )
    if not followed:
        found.notes.append(_ANNOTATED_ONLY)
    return found


def _whole(capture: Capture, frame: pd.DataFrame, *, extend: bool) -> tuple[pd.DataFrame, bool]:
    """Return the steps of one kind with their ends at the start of the next, and whether they have a next.

    Those that no other follows soon are left out: what came after them is not known to be theirs. Where none
    is followed, as in a recording of one step, or what follows was not selected (not ``extend``), they end
    where their annotations do.
    """
    following = frame.groupby("gpu")["start_ns"].shift(-1)
    chosen = frame.assign(next_ns=following)
    decode = chosen[chosen["phase"] == "decode"]
    chosen = decode if not decode.empty else chosen[chosen["phase"] == "step"]
    followed = extend and bool(chosen["next_ns"].notna().any())
    if followed:
        chosen = chosen[chosen["next_ns"].notna()]
        chosen = chosen.assign(end_ns=chosen["next_ns"].astype(np.int64))
    window = capture.manifest.window_ns
    empty = any(notice.code == "window-empty" for notice in capture.manifest.notices)
    if window and not empty and bool(frame["on_gpu"].iloc[0]):  # what starts outside of it is left out
        chosen = chosen[(chosen["start_ns"] >= window[0]) & (chosen["end_ns"] <= window[1])]
    if chosen.empty:
        return chosen, followed
    if (chosen["phase"] == "decode").all():
        chosen = _most_frequent(chosen)
    length = chosen["end_ns"] - chosen["start_ns"]
    return chosen[length <= _LATE * length.median()], followed


def _most_frequent(frame: pd.DataFrame) -> pd.DataFrame:
    """Keep the decode steps of the batch that most steps have, of several the largest."""
    keys = ["generation_requests", "generation_tokens"]
    counts = frame.groupby(keys).size()
    best = max(counts.index, key=lambda key: (counts[key], key))
    kept: pd.DataFrame = frame[(frame[keys[0]] == best[0]) & (frame[keys[1]] == best[1])]
    return kept


def _repeating(capture: Capture, rows: pa.Table, kernels: pd.DataFrame) -> StepKernels | str:
    gpu = columns.ints(rows["gpu"])
    start = columns.ints(rows["start_ns"])
    inside = np.zeros(rows.num_rows, np.bool_)
    found = StepKernels("step", None, "", False, rows, inside, {}, {})
    doubtful, decode = False, True
    for each in np.unique(gpu).tolist():
        periods = steps.repeating(capture, each)
        if periods is None or periods.span_ns is None:
            continue
        mine = (gpu == each) & (start >= periods.span_ns[0]) & (start < periods.span_ns[1])
        raw = set(pc.unique(rows["kernel"].filter(pa.array(mine))).to_pylist())
        body = kernels[(kernels["gpu"] == each) & kernels["raw_name"].isin(raw)]
        if not periods.ends_within or not body["family"].isin(_OF_A_TOKEN).any():
            doubtful = True
            continue
        decode &= bool(body["subfamily"].astype(str).str.startswith("decode").any())
        inside |= mine
        found.steps[each] = len(periods.lengths_s)
        found.period_s[each] = float(np.median(periods.lengths_s))
        found.found_by = found.found_by or f"no annotations, but {periods.found_by}"
    if not found.steps:
        which = "the sequence of kernels that repeats may be a layer"
        which = which if doubtful else "no sequence of kernels repeats from end to end"
        return f"there are no step annotations (vLLM's torch profiler writes them), and {which}"
    found.phase = "decode" if decode else "step"
    return found
