"""Engine steps: what annotations say of them, and where a recording without annotations repeats itself."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from rocscope import columns, remembered
from rocscope.capture import Capture
from rocscope.kernel_names import short_name
from rocscope.metrics import timing

if TYPE_CHECKING:
    import pandas as pd

Phase = Literal["prefill", "decode", "mixed", "step"]

_PLAIN: Final = re.compile(r"execute_context_(\d{1,12})\((\d{1,12})\)_generation_(\d{1,12})\((\d{1,12})\)")
_DETAILED: Final = re.compile(
    r"execute_\d+_context_(\d{1,12})\(sq(\d{1,12})sk(\d{1,12})sqsq(\d{1,12})sqsk(\d{1,12})\)"
    r"_generation_(\d{1,12})\(sq(\d{1,12})sk(\d{1,12})sqsq(\d{1,12})sqsk(\d{1,12})\)"
)
_PROFILER: Final = re.compile(r"ProfilerStep#?(\d+)")
_MOST_ANCHORS: Final = 64  # kernels tried as the mark of a step
_COVER_FRAC: Final = 0.5  # of the recording that the repeated steps must fill
_PAUSE: Final = 2.0  # times the usual time between steps, beyond a step's own length: nothing was to be done
_JITTER_FRAC: Final = 0.25  # periods may differ this much from their median before they are no period
_HICCUPS_FRAC: Final = 0.05  # of many periods that may differ more: a host stalls now and then


@dataclass(frozen=True)
class Step:
    """What an annotation says of one engine step. Unknown is ``None``."""

    phase: Phase
    context_requests: int | None = None
    context_tokens: int | None = None  # of prompts, computed in this step
    generation_requests: int | None = None
    generation_tokens: int | None = None  # one a running request, more with speculation
    # of all requests, detailed form only:
    attended_tokens: int | None = None  # sum of the tokens that lie in the cache after the step
    attended_pairs: float | None = None  # sum of (new token, token it attends to), itself and earlier ones


def parse(name: str) -> Step | None:
    """Read a step annotation of vLLM (both forms) or PyTorch; ``None`` for any other text or an empty step.

    vLLM writes ``execute_context_1(300)_generation_4(4)``: requests and, in brackets, tokens; with
    ``detailed_trace_annotation`` the brackets hold sums over requests of the new tokens (sq), of all tokens
    with the new ones (sk), and of their products: a request's pairs are q*k - q*(q - 1)/2.
    """
    context, pairs = None, None
    if found := _PLAIN.match(name):
        requests, tokens, running, made = (int(part) for part in found.groups())
    elif found := _DETAILED.match(name):
        numbers = [int(part) for part in found.groups()]
        (requests, tokens), (running, made) = numbers[0:2], numbers[5:7]
        context = numbers[2] + numbers[7]
        pairs = sum(
            sqsk - (sqsq - sq) / 2
            for sq, sqsq, sqsk in (numbers[1:2] + numbers[3:5], numbers[6:7] + numbers[8:10])
        )
    elif _PROFILER.match(name):
        return Step("step")
    else:
        return None
    if not requests and not running:
        return None
    phase: Phase = "mixed" if requests and running else "prefill" if requests else "decode"
    return Step(phase, requests, tokens, running, made, context, pairs)


@remembered.by_capture(lambda capture: (capture.spans, capture.dispatches), copied=True)
def annotated(capture: Capture) -> pd.DataFrame:
    """Return the annotated steps of each GPU, sorted by (gpu, start).

    Columns: gpu, name, start_ns, end_ns, the fields of :class:`Step`, on_gpu. Annotations on the GPU's own
    timeline are preferred; where there are only those of the host, they stand for every GPU of their process
    and ``on_gpu`` is false; without any dispatch ``gpu`` is then the process. What a trace gives once for
    each stream, the same name at the same time, is one step.
    """
    import pandas as pd

    wanted = ["gpu", "name", "start_ns", "end_ns", "phase", "context_requests", "context_tokens"]
    wanted += ["generation_requests", "generation_tokens", "attended_tokens", "attended_pairs", "on_gpu"]
    spans = capture.spans
    spans = spans.filter(columns.holds(spans["kind"], lambda kind: kind in ("annotation", "gpu_annotation")))
    steps = {name: parse(name) for name in pc.unique(spans["name"]).to_pylist()}
    known = {name: step for name, step in steps.items() if step is not None}
    if not known:
        return pd.DataFrame(columns=wanted)
    spans = spans.filter(columns.holds(spans["name"], known.__contains__))
    frame = spans.select(["process", "kind", "name", "start_ns", "end_ns", "gpu"]).to_pandas()
    frame = frame.astype({"kind": object, "name": object})
    device = frame[(frame["kind"] == "gpu_annotation") & frame["gpu"].notna()]
    on_gpu = not device.empty
    if on_gpu:
        frame = _of_all_streams(device.astype({"gpu": int}))
    elif not capture.dispatches.num_rows:
        frame = frame.assign(gpu=frame["process"])
    else:
        table = capture.dispatches.group_by(["process", "gpu"]).aggregate([]).to_pandas()
        frame = frame.drop(columns="gpu").merge(table, on="process")
    if any(known[name].phase != "step" for name in frame["name"].unique()):
        frame = frame[[known[name].phase != "step" for name in frame["name"]]]  # vLLM's own say more
    for field in wanted[4:-1]:
        frame[field] = [getattr(known[name], field) for name in frame["name"]]
    frame["on_gpu"] = on_gpu
    found: pd.DataFrame = frame[wanted].sort_values(["gpu", "start_ns"], kind="stable", ignore_index=True)
    return found


def extended(frame: pd.DataFrame) -> pd.DataFrame:
    """Return annotated steps with ends at the start of the next: head and sampler run after an annotation.

    A step that no other follows, or only after a pause, is given the time that usually lies between an
    annotation's end and the next step of that GPU. Steps of a recording that has only one keep their ends.
    """
    ends = frame["end_ns"].astype(np.int64).to_numpy(copy=True)
    for gpu in frame["gpu"].unique():
        mine = np.flatnonzero((frame["gpu"] == gpu).to_numpy())
        if len(mine) < 2:
            continue
        start, end = frame["start_ns"].to_numpy(np.int64)[mine], ends[mine]
        after = np.append(start[1:] - end[:-1], np.iinfo(np.int64).max)
        usual = max(0, int(np.median(after[:-1])))
        paused = after > _PAUSE * usual + (end - start)
        ends[mine] = end + np.where(paused, np.minimum(usual, after), after)
    return frame.assign(end_ns=ends)


def _of_all_streams(frame: pd.DataFrame) -> pd.DataFrame:
    """Join annotations of one GPU that have the same name and overlap."""
    frame = frame.sort_values(["gpu", "name", "start_ns"], kind="stable", ignore_index=True)
    keys = ["gpu", "name"]
    reach = frame.groupby(keys, sort=False)["end_ns"].cummax().groupby([frame["gpu"], frame["name"]]).shift()
    step = (reach.isna() | (frame["start_ns"] >= reach)).cumsum()
    joined: pd.DataFrame = frame.groupby(step, sort=False).agg(
        {name: "max" if name == "end_ns" else "first" for name in frame.columns}
    )
    return joined


@dataclass(frozen=True)
class Periods:
    """Lengths of successive steps on one GPU, and how they were found."""

    gpu: int
    lengths_s: NDArray[np.float64]
    found_by: str
    what: str  # the steps that are compared: an annotation, or a kernel name
    steps: float = float("nan")  # of that length that the recording's kernels make up
    whole: bool = False  # nothing but these steps is in the recording
    span_ns: tuple[int, int] | None = None  # from the first mark to the last, the whole steps between them
    ends_within: bool = False  # what comes after the last mark is a part of one more step
    starts_ns: NDArray[np.int64] | None = None  # of each of these steps


def repeating(capture: Capture, gpu: int) -> Periods | None:
    """Find the period of a recording that replays one sequence of kernels, as graphs do.

    A step's mark is a kernel that occurs least often, at least three times, with one and the same set
    of kernels between any two occurrences. ``None`` unless such a kernel exists, the periods (of more than
    twenty all but one in twenty) stay within 25 % of their median and fill half the recording: better no
    period than a wrong one.
    """
    rows = timing(capture).rows.select(["gpu", "kernel", "start_ns"])
    rows = rows.filter(pc.and_(pc.equal(rows["gpu"], gpu), rows["start_ns"].is_valid()))
    if rows.num_rows < 4:
        return None
    order = pc.sort_indices(rows["start_ns"]).to_numpy()
    start = rows["start_ns"].to_numpy()[order]
    codes, names = _by_first(*columns.text(rows.unify_dictionaries()["kernel"]), order)
    counts = np.bincount(codes)
    candidates = [int(code) for code in np.argsort(counts, kind="stable") if counts[code] >= 3]
    for code in candidates[:_MOST_ANCHORS]:
        at = np.flatnonzero(codes == code)
        if not _same_between(codes, at):
            continue
        lengths = np.diff(start[at]) * 1e-9
        middle = float(np.median(lengths))
        covered = float(start[at[-1]] - start[at[0]]) / max(1.0, float(start[-1] - start[0]))
        if middle <= 0 or covered < _COVER_FRAC or not _steady(lengths / middle):
            continue
        name = short_name(str(names[code]))
        width = int(at[1] - at[0])
        text = f"the same {width} kernels come {len(at) - 1} times in a row; {name} marks each"
        steps = len(codes) / width
        return Periods(
            gpu,
            lengths,
            text,
            name,
            steps,
            whole=bool(steps < len(at) + 1),
            span_ns=(int(start[at[0]]), int(start[at[-1]])),
            ends_within=_part_of(codes[at[-1] :], codes[at[0] : at[1]]),
            starts_ns=start[at[:-1]].astype(np.int64),
        )
    return None


def _steady(relative: NDArray[np.float64]) -> bool:
    """Tell whether periods, as multiples of their median, are one period but for hiccups."""
    return int((np.abs(relative - 1) > _JITTER_FRAC).sum()) <= int(_HICCUPS_FRAC * len(relative))


def _same_between(codes: NDArray[np.int64], at: NDArray[np.int64]) -> bool:
    """Tell whether the same multiset of kernels lies between any two marks.

    Kernels of parallel streams may swap places from step to step, so that their order is not compared.
    """
    width = int(at[1] - at[0])
    if width < 2 or bool(np.any(np.diff(at) != width)):
        return False
    body = np.sort(codes[at[0] : at[-1]].reshape(len(at) - 1, width), axis=1)
    return bool(np.all(body == body[0]))


def _by_first(
    codes: NDArray[np.int64], names: NDArray[Any], order: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Return codes in ``order``, numbered anew as they come up first, and the names they stand for."""
    distinct, first, placed = np.unique(codes[order], return_index=True, return_inverse=True)
    rank = np.argsort(first, kind="stable")
    return np.argsort(rank, kind="stable")[placed], names[distinct[rank]]


def _part_of(some: NDArray[np.int64], body: NDArray[np.int64]) -> bool:
    """Tell whether ``some`` are kernels of the multiset ``body``."""
    size = int(max(some.max(), body.max())) + 1
    return bool(np.all(np.bincount(some, minlength=size) <= np.bincount(body, minlength=size)))


def decode_periods(capture: Capture, gpu: int) -> dict[str, Periods]:
    """Return start-to-start times of neighbouring steps with the same annotation, by annotation.

    Steps of prefill alone are left out. A step that another kind follows gives no period.
    """
    frame = annotated(capture)
    frame = frame[(frame["gpu"] == gpu) & frame["on_gpu"].astype(bool)]
    found: dict[str, Periods] = {}
    name, start = frame["name"].to_numpy(), frame["start_ns"].to_numpy(dtype=np.int64)
    decodes = (frame["phase"] != "prefill").to_numpy(dtype=bool)
    follows = np.flatnonzero((name[1:] == name[:-1]) & decodes[1:]) if len(name) else np.empty(0, np.int64)
    for each in sorted(set(name[follows])):
        at = follows[name[follows] == each]
        lengths = (start[at + 1] - start[at]) * 1e-9
        found[each] = Periods(gpu, lengths, f"start to start of annotated steps {each}", each)
    return found
