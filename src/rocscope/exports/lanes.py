"""Kernels that overlap on one queue, side by side: a track of a trace viewer holds one thing at a time."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Final

import pyarrow as pa

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

COLUMNS: Final = ["gpu", "queue", "stream", "start_ns", "end_ns"]


def assign(dispatches: pa.Table) -> npt.NDArray[np.int32]:
    """Return the lane of each row: 0, or the next free one where others of its queue still run.

    Rows of one (gpu, queue, stream) share lanes; ``start_ns`` and ``end_ns`` must be known.
    """
    import numpy as np

    rows = dispatches.num_rows
    lane = np.zeros(rows, np.int32)
    if not rows:
        return lane
    frame = dispatches.select(COLUMNS).to_pandas()
    track = frame.groupby(
        [frame["gpu"], frame["queue"].fillna(frame["stream"])], dropna=False, sort=False
    ).ngroup()
    start, end = frame["start_ns"].to_numpy(), frame["end_ns"].to_numpy()
    order = np.lexsort((start, track.to_numpy()))
    for members in np.split(order, np.flatnonzero(np.diff(track.to_numpy()[order])) + 1):
        latest = np.maximum.accumulate(end[members])
        if (start[members][1:] < latest[:-1]).any():
            lane[members] = _greedy(start[members].tolist(), end[members].tolist())
    return lane


def of_spans(spans: pa.Table, gpus: set[int]) -> list[int]:
    """Return the lane of each span among those of its thread, or of its GPU for annotations of ``gpus``."""
    lane = [0] * spans.num_rows
    if not spans.num_rows:
        return lane
    frame = spans.select(["process", "thread", "kind", "gpu", "start_ns", "end_ns"]).to_pandas()
    frame["kind"] = (frame["kind"] == "gpu_annotation") & frame["gpu"].isin(gpus)
    frame.loc[frame["kind"], ["process", "thread"]] = -1
    frame.loc[~frame["kind"], "gpu"] = -1
    for _, mine in frame.groupby(["process", "thread", "gpu"], dropna=False, sort=False):
        for row, found in zip(
            mine.index, nested(mine["start_ns"].tolist(), mine["end_ns"].tolist()), strict=True
        ):
            lane[row] = found
    return lane


def nested(starts: list[int], ends: list[int]) -> list[int]:
    """Return the lane of each span so that those of one lane lie within one another or apart.

    A track of a trace viewer holds calls within calls; spans that overlap in part need another. The order is
    the caller's; rows of ``starts`` and ``ends`` belong together.
    """
    stacks: list[list[int]] = []  # ends of what is open in each lane, outermost first
    found = [0] * len(starts)
    for at in sorted(range(len(starts)), key=lambda each: (starts[each], -ends[each])):
        lane = next((lane for lane, stack in enumerate(stacks) if _fits(stack, starts[at], ends[at])), None)
        if lane is None:
            lane = len(stacks)
            stacks.append([])
        stacks[lane].append(ends[at])
        found[at] = lane
    return found


def _fits(stack: list[int], start: int, end: int) -> bool:
    """Close what has ended by ``start``, and tell whether the rest holds a span to ``end``."""
    while stack and stack[-1] <= start:
        stack.pop()
    return not stack or end <= stack[-1]


def _greedy(starts: list[int], ends: list[int]) -> list[int]:
    """Return the lowest lane free at each start; ``starts`` ascend."""
    busy: list[tuple[int, int]] = []  # (end, lane)
    free: list[int] = []
    found = []
    for start, end in zip(starts, ends, strict=True):
        while busy and busy[0][0] <= start:
            heapq.heappush(free, heapq.heappop(busy)[1])
        lane = heapq.heappop(free) if free else len(busy)
        heapq.heappush(busy, (end, lane))
        found.append(lane)
    return found
