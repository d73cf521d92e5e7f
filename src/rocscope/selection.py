"""The part of a capture that a user asks for: ranks, seconds, steps."""

from __future__ import annotations

from typing import Final, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rocscope import columns
from rocscope.capture import Capture
from rocscope.config import AnalyzeOptions
from rocscope.errors import InputError

_STEPS: Final = tuple(  # vLLM's own before the PyTorch profiler's, what the GPU did before its launch
    (prefix, kind) for prefix in ("execute_", "ProfilerStep#") for kind in ("gpu_annotation", "annotation")
)
_FEWEST_STEPS: Final = 3
_UNTIMED: Final = ("saved:", "load:")  # subjects of samples whose times count something else
_Mask: TypeAlias = "pa.Array | pa.ChunkedArray"


def select(capture: Capture, options: AnalyzeOptions) -> Capture:
    """Return the part of ``capture`` that ``options`` name.

    Where they name no time, it is the window in which profiling was asked for, if the manifest marks one: a
    server's start-up is in the recording too. Where no kernel ran in that window all is kept, with a notice.
    ``between_s`` counts seconds from the first dispatch, ``steps`` counts step annotations of each process
    from 0, half open. A dispatch belongs to where it starts; spans and samples are kept where they touch
    the window. Raises :class:`InputError` where the recording lacks ranks, times or step annotations, or
    nothing is left.
    """
    if options.ranks is not None:
        capture = _by_rank(capture, options.ranks)
    if options.between_s is None and options.steps is None:
        capture = _asked_for(capture)
    if options.between_s is not None:
        capture = _between(capture, *options.between_s)
    if options.steps is not None:
        capture = _by_step(capture, *options.steps)
    return capture


def stepped(capture: Capture) -> tuple[int, int] | None:
    """Return the window from the first annotated step to the end of the last, ns; ``None`` below three.

    A program that annotates its steps tells them from its set-up, which no user waits for.
    """
    spans = capture.spans
    if not spans.num_rows:  # the filters below would import pandas
        return None
    for prefix, kind in _STEPS:
        wanted = pc.and_(
            pc.equal(spans["kind"], kind), pc.starts_with(spans["name"].cast(pa.string()), prefix)
        )
        found = spans.filter(wanted)
        if len(found) >= _FEWEST_STEPS:
            return pc.min(found["start_ns"]).as_py(), pc.max(found["end_ns"]).as_py()
    return None


def _by_rank(capture: Capture, ranks: tuple[int, ...]) -> Capture:
    processes = capture.manifest.processes
    known = {each.rank for each in processes if each.rank is not None}
    named = ", ".join(f"{each.pid} {each.name}".strip() for each in processes) or "none"
    if not known:
        raise InputError(
            "--ranks: no ranks are recorded in this capture",
            f"its processes are {named}; name the files of one process instead",
        )
    if missing := [rank for rank in ranks if rank not in known]:
        raise InputError(
            f"--ranks: no rank {missing[0]} in this capture",
            f"ranks are {', '.join(map(str, sorted(known)))}",
        )
    wanted = pa.array([each.process for each in processes if each.rank in ranks], pa.int32())
    result = _cut(
        capture, {name: pc.is_in(getattr(capture, name)["process"], wanted) for name in _OF_PROCESSES}
    )
    _require(result, capture, "--ranks", f"ranks are {', '.join(map(str, sorted(known)))}")
    result.notice("selection", f"only rank {', '.join(map(str, ranks))} is analysed")
    return result


def _asked_for(capture: Capture) -> Capture:
    window = capture.manifest.window_ns
    starts = capture.dispatches["start_ns"].filter(pa.array(~_untimed(capture))).drop_null()
    if window is None or not len(starts):
        return capture
    inside = pc.and_(pc.greater_equal(starts, window[0]), pc.less_equal(starts, window[1]))
    if pc.all(inside).as_py():
        return capture
    if not pc.any(inside).as_py():
        capture.notice("window-empty", "no kernel ran while profiling was on: the whole run is shown")
        return capture
    result = _window(capture, window[0], window[1] + 1)
    result.manifest.window_ns = window
    seconds = (window[1] - window[0]) / 1e9
    result.notice("selection", f"only the {seconds:.6g} s in which profiling was asked for are analysed")
    return result


def _between(capture: Capture, low: float, high: float) -> Capture:
    first, last = _range(capture, "--between")
    start = first + round(low * 1e9)
    stop = max(last + 1, pc.max(capture.dispatches["end_ns"]).as_py() or 0)  # nothing is known of later
    end = stop if high == float("inf") else min(stop, first + round(high * 1e9))
    result = _window(capture, start, end)
    whole = f"dispatches run from 0 to {(last - first) / 1e9:.6g} s"
    _require(result, capture, "--between", whole)
    result.notice("selection", f"only {low:g} to {min(high, (last - first) / 1e9):g} s is analysed ({whole})")
    return result


def _by_step(capture: Capture, low: float, high: float) -> Capture:
    steps = _steps(capture)
    if not len(steps):
        raise InputError(
            "--steps: no step annotations in this recording",
            "record with the torch profiler (vLLM annotates its steps), or use --between",
        )
    chosen = []
    for process in np.unique(steps[:, 0]):
        own = steps[steps[:, 0] == process]
        stop = len(own) if high == float("inf") else int(high)
        chosen.append(own[int(low) : stop])
    picked = np.concatenate(chosen)
    available = max(int((steps[:, 0] == process).sum()) for process in np.unique(steps[:, 0]))
    hint = f"steps are 0 to {available - 1}"
    if not len(picked):
        raise InputError("--steps: none of the steps is in this range", hint)
    masks = {
        "dispatches": pa.array(_inside(capture.dispatches, picked) | _untimed(capture)),
        "spans": _touches(capture.spans, picked),
    }
    window = (int(picked[:, 1].min()), int(picked[:, 2].max()))
    result = _cut(capture, {**masks, "samples": _during(capture, *window)}, window)
    _require(result, capture, "--steps", hint)
    result.notice("selection", f"only steps {int(low)} to {int(min(high, available)) - 1} are analysed")
    return result


_OF_PROCESSES: Final = ("dispatches", "counters", "spans")


def _steps(capture: Capture) -> np.ndarray:
    """Return process, start and end (ns) of each step in order, an int64 array of n by 3.

    Each process's steps are of the first kind of :data:`_STEPS` that it has.
    """
    kinds = capture.spans["kind"].cast(pa.string())
    names = capture.spans["name"].cast(pa.string())
    found = np.empty((0, 3), dtype=np.int64)
    for prefix, kind in _STEPS:
        rows = capture.spans.filter(pc.and_(pc.starts_with(names, prefix), pc.equal(kinds, kind)))
        columns = [rows[name].to_numpy() for name in ("process", "start_ns", "end_ns")]
        text = pc.dictionary_encode(rows["name"].cast(pa.string()).combine_chunks()).indices
        own = np.column_stack([*columns, text.to_numpy()]).astype(np.int64)
        own = own[~np.isin(own[:, 0], found[:, 0])]
        found = np.concatenate([found, _merged(own)])
    return found[np.lexsort((found[:, 1], found[:, 0]))]


def _merged(steps: np.ndarray) -> np.ndarray:
    """Join what a trace gives once for each stream: the same name at the same time is one step."""
    result: list[list[int]] = []
    last: dict[tuple[int, int], list[int]] = {}
    for process, start, end, name in steps[np.lexsort((steps[:, 1], steps[:, 0]))].tolist():
        before = last.get((process, name))  # a row a step, not a dispatch: few
        if before is not None and start < before[2]:
            before[2] = max(before[2], end)
            continue
        last[process, name] = [process, start, end]
        result.append(last[process, name])
    return np.array(result, dtype=np.int64).reshape(-1, 3)


def _untimed(capture: Capture) -> np.ndarray:
    """Tell which dispatches belong to passes with counters beside a clean one.

    These ran at another time, so that no window can choose among them: they stay whole, for their counters.
    """
    passes = capture.manifest.passes
    perturbed = [each.index for each in passes if each.perturbed]
    if len(perturbed) == len(passes):
        return np.zeros(capture.dispatches.num_rows, dtype=bool)
    return np.isin(capture.dispatches["pass"].to_numpy(), perturbed)


def _range(capture: Capture, option: str) -> tuple[int, int]:
    starts = capture.dispatches["start_ns"].filter(pa.array(~_untimed(capture)))
    low, high = pc.min(starts).as_py(), pc.max(starts).as_py()
    if low is None:
        raise InputError(
            f"{option}: no times of single dispatches in this recording", "record a kernel trace, not totals"
        )
    return low, high


def _window(capture: Capture, start: int, end: int) -> Capture:
    begins = capture.dispatches["start_ns"]
    inside = pc.and_(pc.greater_equal(begins, start), pc.less(begins, end)).fill_null(False)
    spans = pc.and_(pc.less(capture.spans["start_ns"], end), pc.greater_equal(capture.spans["end_ns"], start))
    masks = {
        "dispatches": pc.or_(inside, pa.array(_untimed(capture))),
        "spans": spans,
        "samples": _during(capture, start, end),
    }
    return _cut(capture, masks, (start, end))


def _during(capture: Capture, start: int, end: int) -> _Mask:
    times = capture.samples["time_ns"]
    untimed = columns.holds(capture.samples["subject"], lambda text: text.startswith(_UNTIMED))
    return pc.or_(untimed, pc.and_(pc.greater_equal(times, start), pc.less(times, end)))


def _inside(dispatches: pa.Table, steps: np.ndarray) -> np.ndarray:
    """Tell which dispatches start in a step of their own process."""
    process = dispatches["process"].to_numpy()
    start = dispatches["start_ns"].fill_null(-1).to_numpy()
    found = np.zeros(len(start), dtype=bool)
    for each in np.unique(steps[:, 0]):
        own = steps[steps[:, 0] == each]
        at = np.searchsorted(own[:, 1], start, side="right") - 1
        found |= (process == each) & (at >= 0) & (start < np.maximum.accumulate(own[:, 2])[at])
    return found


def _touches(spans: pa.Table, steps: np.ndarray) -> _Mask:
    """Tell which spans overlap a step of their own process."""
    process, start, end = (spans[name].to_numpy() for name in ("process", "start_ns", "end_ns"))
    found = np.zeros(len(start), dtype=bool)
    for each in np.unique(steps[:, 0]):
        own = steps[steps[:, 0] == each]
        before = np.searchsorted(own[:, 1], end, side="right")  # steps that begin by the span's end
        last_end = np.concatenate([[np.iinfo(np.int64).min], np.maximum.accumulate(own[:, 2])])
        found |= (process == each) & (last_end[before] >= start)
    return pa.array(found)


def _cut(capture: Capture, masks: dict[str, _Mask], window: tuple[int, int] | None = None) -> Capture:
    """Return a capture of the rows in ``masks``; counters follow their dispatches."""
    found = {
        name: table.filter(masks[name]) if name in masks else table
        for name, table in capture.tables().items()
    }
    if "counters" not in masks and capture.counters.num_rows:
        found["counters"] = _counters_of(found["counters"], found["dispatches"])
    manifest = capture.manifest.model_copy(deep=True)
    if window is not None:
        manifest.window_ns = window
        manifest.duration_s = (window[1] - window[0]) / 1e9
    return Capture(manifest=manifest, **found)


def _counters_of(counters: pa.Table, dispatches: pa.Table) -> pa.Table:
    keys = ["pass", "process", "gpu", "dispatch_id"]
    known = dispatches.select(keys).group_by(keys).aggregate([])
    rows = counters.select(keys).append_column("row", pa.array(np.arange(counters.num_rows)))
    kept = rows.join(known, keys=keys, join_type="left semi")["row"].to_numpy()
    return counters.take(pa.array(np.sort(kept)))


def _require(result: Capture, capture: Capture, option: str, hint: str) -> None:
    kept = result.dispatches.num_rows - int(_untimed(result).sum())
    if capture.dispatches.num_rows and not kept:
        raise InputError(f"{option}: no GPU kernel is in this part of the recording", hint)
