"""What every reader of hardware counters does with them: one pass a set, impossible values out, checks."""

from __future__ import annotations

from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rocscope.capture import Capture
from rocscope.collectors.builder import CaptureBuilder

SATURATED: Final = float(2**32 - 1)
WRAPPED: Final = float(2**63)
ROTATING: Final = "rotating counter groups"
NEVER_ZERO: Final = frozenset(
    {
        *("GRBM_COUNT", "GRBM_GUI_ACTIVE", "SQ_WAVES", "SQ_BUSY_CYCLES", "SQ_WAVE_CYCLES", "SQ_INSTS_VALU"),
        *("SQ_INSTS", "TCC_REQ", "TCC_EA_RDREQ", "TCC_EA0_RDREQ", "FETCH_SIZE", "FetchSize"),
    }
)
"""Counters that some kernel of every run moves, sums of them too."""


def pass_of(dispatches: np.ndarray, counters: pa.DictionaryArray) -> tuple[tuple[str, ...], str]:
    """Return the set of counters of one run and the note of its pass.

    ``dispatches`` and ``counters`` have one element a value read. Where dispatches have different groups,
    none a part of the other, the profiler rotated the groups: the set is their union and the note says so.
    """
    names = counters.dictionary.to_pylist()
    codes = np.asarray(counters.indices)
    union = tuple(sorted({names[code] for code in np.unique(codes)}))
    order = np.argsort(dispatches, kind="stable")
    starts = np.flatnonzero(np.diff(dispatches[order], prepend=np.nan))
    if not len(starts):
        return union, ""
    marks = np.random.default_rng(0).integers(1, 1 << 62, len(names), dtype=np.uint64)
    sums = np.add.reduceat(marks[codes[order]], starts)  # equal groups have equal sums
    ends = np.append(starts[1:], len(order))
    groups = []
    for first in np.unique(sums, return_index=True)[1]:
        groups.append(frozenset(codes[order[starts[first] : ends[first]]].tolist()))
    rotating = any(not (a <= b or b <= a) for i, a in enumerate(groups[:64]) for b in groups[i + 1 : 64])
    return union, ROTATING if rotating else ""


def impossible(numbers: np.ndarray) -> np.ndarray:
    """Tell which values no counter has that kept within its width; see :func:`accept`."""
    with np.errstate(invalid="ignore"):
        bad: np.ndarray = (numbers > 0) & np.isfinite(numbers) & (np.mod(numbers, SATURATED) == 0)
        return bad | (numbers < 0) | (numbers >= WRAPPED)


def accept(values: pa.Array, names: pa.DictionaryArray, source: str, builder: CaptureBuilder) -> pa.Array:
    """Return ``values`` with saturated and wrapped ones null.

    A 32-bit counter that ran over reads as a multiple of 2^32-1, the factor being how many instances of
    it were added up. One that was read before it was started reads as a negative number, or as that without
    its sign: 2^63 and more, which no dispatch counts.
    """
    bad = impossible(values.to_numpy(zero_copy_only=False))
    if not bad.any():
        return values
    which = sorted(set(names.filter(pa.array(bad)).cast(pa.string()).to_pylist()))
    builder.drop("saturated counter values", int(bad.sum()), source)
    builder.notice(
        "saturated-counters",
        f"{source}: {int(bad.sum())} values of {', '.join(which)} ran over their width and are left out",
        source,
    )
    return pc.if_else(pa.array(bad), None, values)


def check_waves(
    waves: np.ndarray, grid: np.ndarray, workgroup: np.ndarray, wave_size: int | None, source: str
) -> str:
    """Return a sentence where SQ_WAVES contradicts the launch, else ``""``.

    Each workgroup is ``ceil(workgroup / wave_size)`` waves; where the wave size is not recorded 32 and 64
    are both accepted. Launches whose last workgroup is not full are not checked. Arrays of one element a
    dispatch, NaN where unknown; ``source`` names the file.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        known = np.isfinite(waves) & (workgroup > 0) & (np.mod(grid, workgroup) == 0)
        groups = grid / workgroup
        wrong = known.copy()
        for size in (wave_size,) if wave_size else (32, 64):
            wrong &= waves != groups * np.ceil(workgroup / size)
    if not wrong.any():
        return ""
    first = int(np.flatnonzero(wrong)[0])
    low, high = (
        int(groups[first] * np.ceil(workgroup[first] / s)) for s in (wave_size or 64, wave_size or 32)
    )
    expected = f"{low}" if low == high else f"{low} or {high}"
    return (
        f"{source}: SQ_WAVES of {int(wrong.sum())} of {int(known.sum())} dispatches contradicts their launch "
        f"(the first reads {int(waves[first])}, {expected} expected): counts for these are doubtful"
    )


def drop_dead(capture: Capture) -> None:
    """Take out the counters of a run in which every one of them read 0 on a GPU, and say so.

    That is what a profiler writes that was not let at the counters. Zero bytes would be taken for a
    measurement. Runs whose counters may all rightly be 0 (conflicts, atomics) stay.
    """
    table = capture.counters
    if not table.num_rows:
        return
    summary = table.group_by(["pass", "gpu"]).aggregate([("value", "min"), ("value", "max")])
    dead = [
        (row["pass"], row["gpu"]) for row in summary.to_pylist() if row["value_min"] == row["value_max"] == 0
    ]
    values = table["value"]
    for number, gpu in dead:
        rows = pc.and_(pc.equal(table["pass"], number), pc.equal(table["gpu"], gpu))
        names = pc.unique(table["counter"].filter(rows).cast(pa.string())).to_pylist()
        if NEVER_ZERO.isdisjoint(name.removesuffix("_sum") for name in names):
            continue
        values = pc.if_else(rows, pa.scalar(None, pa.float64()), values)
        capture.notice(
            "counters-all-zero",
            f"every counter of pass {number} reads 0 on GPU {gpu} ({', '.join(names[:5])}): the profiler was "
            "not let at the GPU's counters (rights, perf_event_paranoid, isolated devices), so none is used",
        )
    if values is not table["value"]:
        at = table.schema.get_field_index("value")
        capture.counters = table.set_column(at, table.schema.field(at), values)
