"""Finds the framework operator that launched each GPU activity of a Kineto trace.

An activity and its launching call share a correlation. Most carry the id of the operator ("External id");
those launched around the framework (Triton) do not, and belong to the innermost operator that was open on
the thread of the call. Activities of a graph replay belong to no operator: the ids in them, if any, are of
the time of capture.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from rocscope.collectors.columns import MISSING, Columns, Ints, Mask

GRAPH_LAUNCHES: Final = (
    "cudaGraphLaunch",
    "cuGraphLaunch",
    "cudaGraphLaunch_ptsz",
    "cuGraphLaunch_ptsz",
    "hipGraphLaunch",
    "hipGraphLaunch_spt",
)


def rows_of(column: Ints, wanted: Ints) -> Ints:
    """Return for each value of ``wanted`` the row of ``column`` that alone has it, else -1.

    A value found in several rows identifies none of them.
    """
    if not len(column):
        return np.full(len(wanted), -1, dtype=np.int64)
    order = np.argsort(column, kind="stable")
    ordered = column[order]
    first = np.searchsorted(ordered, wanted, side="left")
    last = np.searchsorted(ordered, wanted, side="right")
    unique = (last - first == 1) & (wanted != MISSING)
    return np.where(unique, order[np.minimum(first, len(order) - 1)], -1)


def link(device: Columns, calls: Columns, operators: Columns, graph_call: Mask) -> tuple[Ints, Ints]:
    """Return for each device row the row of its call and of its operator; -1 where there is none.

    ``calls`` and ``operators`` are host spans (``start``, ``duration`` in ns, ``pid``, ``tid``,
    ``correlation``, ``external``); ``graph_call`` marks the calls that replay a graph.
    """
    call = rows_of(calls["correlation"], device["correlation"])
    called = call >= 0
    replayed = called.copy()
    replayed[called] = graph_call[call[called]]
    external = device["external"].copy()
    blank = called & (external == MISSING)
    external[blank] = calls["external"][call[blank]]
    operator = rows_of(operators["external"], external)
    todo = called & ~replayed & (operator < 0)
    operator[todo] = innermost(operators, {name: calls[name][call[todo]] for name in calls})
    operator[replayed] = -1
    return call, operator


def innermost(operators: Columns, calls: Columns) -> Ints:
    """Return for each call the row of the innermost operator around it on its thread, else -1."""
    found = np.full(len(calls["start"]), -1, dtype=np.int64)
    threads = np.unique(np.stack([calls["pid"], calls["tid"]], axis=1), axis=0)
    for pid, tid in threads.tolist():
        mine = np.flatnonzero((operators["pid"] == pid) & (operators["tid"] == tid))
        asking = np.flatnonzero((calls["pid"] == pid) & (calls["tid"] == tid))
        if len(mine):
            found[asking] = _innermost_on_thread(operators, mine, calls["start"][asking])
    held = found >= 0
    end = calls["start"] + calls["duration"]
    operator_end = operators["start"] + operators["duration"]
    around = operators["start"][found[held]] <= calls["start"][held]
    found[np.flatnonzero(held)[~(around & (end[held] <= operator_end[found[held]]))]] = -1
    return found


def _innermost_on_thread(operators: Columns, mine: Ints, times: Ints) -> Ints:
    """Return the row of the operator that was opened last among those open at each time, else -1.

    Operators of a thread nest. So the depth at a time is how many have begun less how many have ended,
    and the innermost is the last begun of that depth.
    """
    starts = operators["start"][mine]
    ends = starts + operators["duration"][mine]
    order = np.lexsort((-ends, starts))
    mine, starts = mine[order], starts[order]
    ends = np.sort(ends)
    depth = np.arange(1, len(mine) + 1) - np.searchsorted(ends, starts, side="right")
    wanted = np.searchsorted(starts, times, side="right") - np.searchsorted(ends, times, side="right")
    found = np.full(len(times), -1, dtype=np.int64)
    for level in np.unique(wanted[wanted > 0]).tolist():
        rows = np.flatnonzero(depth == level)
        asking = np.flatnonzero(wanted == level)
        if len(rows):
            last = np.searchsorted(starts[rows], times[asking], side="right") - 1
            found[asking] = np.where(last >= 0, mine[rows[np.maximum(last, 0)]], -1)
    return found
