"""What each kernel took in each step: a matrix a kind of step, [steps, columns], in ns.

A column is a kernel with one launch shape and one problem shape. Kernels that some steps of a kind run more
often than others (their launch follows the context's length) are one column whatever their launch shape.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from rocscope import columns, metrics
from rocscope.comparison import step_frames
from rocscope.comparison.side import Side
from rocscope.comparison.step_frames import Found, Kind

if TYPE_CHECKING:
    import pandas as pd

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_WAIT_FRAC: Final = 0.05  # of the usual period, by which idle time exceeds its usual before a step waited
_WAIT_SPREADS: Final = 8.0  # times the median deviation of idle time, likewise
_PROBLEM: Final = ("m", "n", "k")
_TICKS: Final = (1000, 500, 200, 100, 80, 64, 50, 40, 32, 20, 16, 10, 8, 4, 2)
_ON_TICKS_FRAC: Final = 0.99


@dataclass(frozen=True)
class Column:
    """A kernel as it was launched for one problem."""

    kind: str
    raw_name: str
    kernel: str
    family: str
    launch: tuple[int | None, ...] | None  # grid and workgroup; None: several
    problem: tuple[tuple[str, Any], ...] = ()  # m, n, k of a product; empty where not known
    layer: str | None = None  # of the served model, where known
    slot: int | None = None  # place in a step, of kernels that are told apart by it
    shape: dict[str, Any] | None = field(default=None, compare=False)  # the whole problem shape


@dataclass
class Steps:
    """The steps of one kind of one or more recordings of one side."""

    kind: Kind
    found_by: str
    columns: list[Column]
    run: Ints  # [steps], which repeat each is of
    start_ns: Ints  # [steps]
    period_ns: Floats  # [steps]
    busy_ns: Floats  # [steps]
    context: Floats  # [steps], tokens in the cache, NaN unknown
    time_ns: Floats  # [steps, columns]
    calls: Floats  # [steps, columns]
    waited: int = 0  # steps left out, as the GPU had nothing to do for unusually long
    waited_ns: float = 0.0  # their periods together
    tick_ns: int = 1  # of the timer

    def steady(self) -> NDArray[np.bool_]:
        """Tell which columns are launched equally often in every step."""
        found: NDArray[np.bool_] = (self.calls == self.calls[:1]).all(axis=0)
        return found


@dataclass
class Recorded:
    """What is known of the steps of one recording, before kinds are compared."""

    found: Found
    column: Ints  # [rows of found], index into columns
    columns: list[Column]
    busy_ns: Ints
    duration_ns: Ints
    tick_ns: int


def read(side: Side) -> Recorded | str:
    """Return the steps of a recording with the column of each dispatch, or why there are none."""
    found = step_frames.find(side.capture, side.gpu)
    if isinstance(found, str):
        return found
    frame = side.frame()
    row = metrics.members(side.capture, frame, side.placed)[found.places]
    numbered, of_row = _columns(frame)
    duration = columns.ints(found.rows["duration_ns"])
    span = columns.ints(found.rows["end_ns"]) - columns.ints(found.rows["start_ns"])
    duration = np.where(duration >= 0, duration, span)
    return Recorded(found, of_row[row], numbered, step_frames.busy_ns(found), duration, tick(duration))


def tick(duration_ns: Ints) -> int:
    """Return the step of the timer, ns: what nearly all durations are multiples of. 1 µs at most."""
    return next((each for each in _TICKS if (duration_ns % each == 0).mean() >= _ON_TICKS_FRAC), 1)


def _columns(frame: pd.DataFrame) -> tuple[list[Column], Ints]:
    """Return the columns, and which of them each row of ``frame`` (of ``metrics.group``) is."""
    known: dict[Column, int] = {}
    numbers = []
    shapes = frame["problem_shape"] if "problem_shape" in frame else [None] * len(frame)
    layers = frame["layer"] if "layer" in frame else [None] * len(frame)
    for kind, raw, name, family, shape, layer, *launch in zip(
        *(frame[each] for each in ("kind", "raw_name", "kernel", "family")),
        *(shapes, layers),
        *(frame[each] for each in metrics.SHAPE),
        strict=True,
    ):
        told = shape if isinstance(shape, dict) else {}
        product = all(told.get(each) is not None for each in _PROBLEM)
        column = Column(
            kind=kind,
            raw_name=raw,
            kernel=name,
            family=family,
            launch=tuple(None if np.isnan(each) else int(each) for each in launch),
            problem=tuple((each, told[each]) for each in _PROBLEM) if product else (),
            layer=layer if isinstance(layer, str) else None,
            shape=told or None,
        )
        numbers.append(known.setdefault(column, len(known)))
    return list(known), np.array(numbers, np.int64)


def of_kind(recorded: Recorded, kind: Kind) -> Steps | None:
    """Return the steps of ``kind`` that have a period; ``None`` where there are none."""
    found = recorded.found
    if kind not in found.kinds:
        return None
    used = np.flatnonzero((found.kind == found.kinds.index(kind)) & (found.period_ns > 0))
    if not len(used):
        return None
    waited = _waited(found.period_ns[used], recorded.busy_ns[used])
    lost = float(found.period_ns[used[waited]].sum())
    used = used[~waited]
    place = np.full(len(found.kind), -1, np.int64)
    place[used] = np.arange(len(used))
    at = np.where(found.step >= 0, place[found.step], -1)
    rows = np.flatnonzero(at >= 0)
    present, column = np.unique(recorded.column[rows], return_inverse=True)
    cell = at[rows] * len(present) + column
    shape = (len(used), len(present))
    mine = found.kinds[found.kinds.index(kind)]
    return Steps(
        kind=mine,
        found_by=found.found_by or f"start to start of annotated steps {mine.mark}",
        columns=[recorded.columns[each] for each in present],
        run=np.zeros(len(used), np.int64),
        start_ns=found.start_ns[used],
        period_ns=found.period_ns[used].astype(np.float64),
        busy_ns=recorded.busy_ns[used].astype(np.float64),
        context=found.context[used],
        time_ns=_sums(cell, recorded.duration_ns[rows], shape),
        calls=_sums(cell, np.ones(len(cell)), shape),
        waited=int(waited.sum()),
        waited_ns=lost,
        tick_ns=recorded.tick_ns,
    )


def _waited(period_ns: Ints, busy_ns: Ints) -> NDArray[np.bool_]:
    """Tell which steps waited for the host, or for something to do, unlike the others of their kind.

    Where a host hiccups, or a server has a pause, is not the step's doing, and a few such steps hide what is.
    """
    idle = period_ns - busy_ns
    usual = np.median(idle)
    spread = 1.4826 * np.median(np.abs(idle - usual))
    limit = max(_WAIT_FRAC * float(np.median(period_ns)), _WAIT_SPREADS * float(spread))
    found: NDArray[np.bool_] = idle > usual + limit
    return found


def together(runs: list[Steps]) -> Steps:
    """Return the steps of repeated recordings as one, ``run`` telling them apart."""
    known: dict[Column, int] = {}
    for each in runs:
        for column in each.columns:
            known.setdefault(column, len(known))
    places = [np.array([known[column] for column in each.columns], np.int64) for each in runs]

    def wide(values: Floats, at: Ints) -> Floats:
        found = np.zeros((len(values), len(known)))
        found[:, at] = values
        return found

    return replace(
        runs[0],
        columns=list(known),
        run=np.concatenate([np.full(len(each.run), index, np.int64) for index, each in enumerate(runs)]),
        start_ns=np.concatenate([each.start_ns for each in runs]),
        period_ns=np.concatenate([each.period_ns for each in runs]),
        busy_ns=np.concatenate([each.busy_ns for each in runs]),
        context=np.concatenate([each.context for each in runs]),
        time_ns=np.concatenate([wide(each.time_ns, at) for each, at in zip(runs, places, strict=True)]),
        calls=np.concatenate([wide(each.calls, at) for each, at in zip(runs, places, strict=True)]),
        waited=sum(each.waited for each in runs),
        waited_ns=sum(each.waited_ns for each in runs),
        tick_ns=max(each.tick_ns for each in runs),
    )


def _sums(cell: Ints, values: Floats | Ints, shape: tuple[int, int]) -> Floats:
    found = np.bincount(cell, weights=values, minlength=shape[0] * shape[1]).reshape(shape)
    return found.astype(np.float64)


def pooled(steps: Steps, group: Ints, named: list[Column]) -> Steps:
    """Return ``steps`` with columns added up: ``group`` says into which of ``named`` each goes."""
    adds = np.zeros((len(steps.columns), len(named)))
    adds[np.arange(len(steps.columns)), group] = 1
    return replace(steps, columns=named, time_ns=steps.time_ns @ adds, calls=steps.calls @ adds)
