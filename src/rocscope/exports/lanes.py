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
