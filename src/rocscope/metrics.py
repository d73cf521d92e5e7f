"""From dispatches to groups: one row for each (GPU, kernel, launch shape, operand shapes), and its times.

Times come from the pass without counters. Where a recording has none, the passes under counters stand in
and are said to be perturbed. Barrier rows are waiting, not work, and are in no group.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from rocscope import columns, intervals, remembered
from rocscope.capture import Capture

if TYPE_CHECKING:
    import pandas as pd

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

SHAPE: Final = ("grid_x", "grid_y", "grid_z", "workgroup_x", "workgroup_y", "workgroup_z")
RESOURCES: Final = ("wave_size", "lds_bytes", "scratch_bytes", "vgprs", "agprs", "sgprs")
COPIES: Final = ("memcpy", "memset")
TABLE: Final = "table"  # profiler of a capture that a table of measurements made
_TEXTS: Final = ("kind", "kernel", "operator_shapes")
_GIVEN: Final = ("case", "given_family", "given_flops_unit")


@dataclass(frozen=True)
class Timing:
    """The dispatches whose times count."""

    passes: tuple[int, ...]  # empty: the capture names none, and every row counts
    perturbed: bool  # counters were on while they were taken
    rows: pa.Table  # of tables.DISPATCHES, without barriers
    barrier_rows: int
    barrier_ns: int  # waiting, not work


def timing(capture: Capture) -> Timing:
    """Choose the pass to take times from, and leave barriers out."""
    table = capture.dispatches
    passes, perturbed = _timing_passes(capture)
    if passes and len(capture.manifest.passes) > 1:
        table = table.filter(pc.is_in(table["pass"], pa.array(passes, pa.int16())))
    barrier = columns.holds(table["kind"], lambda kind: kind == "barrier")
    waits = table.filter(barrier)
    if waits.num_rows:
        table = table.filter(pc.invert(barrier))
    return Timing(
        passes=passes,
        perturbed=perturbed,
        rows=table,
        barrier_rows=pc.sum(waits["count"]).as_py() or 0,
        barrier_ns=pc.sum(waits["duration_ns"]).as_py() or 0,
    )


def _depends(capture: Capture) -> tuple[Any, ...]:
    passes = [(each.index, each.perturbed, tuple(each.counters)) for each in capture.manifest.passes]
    return capture.dispatches, passes


@remembered.by_capture(_depends)  # not the rows: kept, they would double a large capture
def _timing_passes(capture: Capture) -> tuple[tuple[int, ...], bool]:
    """Return the passes that times are taken from, and whether counters perturbed them.

    Passes of one run with rotating counter groups are pooled: they share processes, and no dispatch is in
    two of them. Passes that are runs of their own repeat the work, so only the fullest counts.
    """
    passes = capture.manifest.passes
    clean = [each.index for each in passes if not each.perturbed and not each.counters]
    table = capture.dispatches.select(["pass", "process", "gpu", "dispatch_id", "duration_ns"])
    sizes = _timed_rows(table)
    timed = [index for index in clean if sizes.get(index)]
    perturbed = bool(passes) and not timed
    chosen = timed or [each.index for each in passes if sizes.get(each.index)]
    if not chosen:
        return tuple(each.index for each in passes), perturbed and table.num_rows > 0
    if len(chosen) > 1:
        chosen = sorted(chosen, key=lambda index: (-sizes[index], index))
        if not _one_run(table, chosen):
            chosen = chosen[:1]
    return tuple(sorted(chosen)), perturbed


def _timed_rows(table: pa.Table) -> dict[int, int]:
    """Return how many dispatches of each pass have times, or, where none has any, how many there are."""
    counted = table.group_by("pass").aggregate([("duration_ns", "count"), ("pass", "count")])
    timed = bool(pc.sum(counted["duration_ns_count"]).as_py())
    sizes = counted["duration_ns_count" if timed else "pass_count"]
    return dict(zip(counted["pass"].to_pylist(), sizes.to_pylist(), strict=True))


def _one_run(table: pa.Table, passes: list[int]) -> bool:
    chosen = table.filter(pc.is_in(table["pass"], pa.array(passes, pa.int16())))
    if chosen["dispatch_id"].null_count:
        return False
    processes = chosen.group_by("process").aggregate([("pass", "count_distinct")])
    if min(processes["pass_count_distinct"].to_pylist()) < 2:
        return False
    keys = chosen.group_by(["process", "gpu", "dispatch_id"]).aggregate([("pass", "count_distinct")])
    return int(pc.max(keys["pass_count_distinct"]).as_py()) == 1


def group(
    capture: Capture,
    names: pd.DataFrame | None = None,
    placed: Mapping[str, tuple[Ints, NDArray[Any]]] | None = None,
) -> pd.DataFrame:
    """Return one row for each (gpu, kind, raw kernel, grid, workgroup, operand shapes).

    What ``placed`` names (:func:`rocscope.models.sequence.place`) keeps rows apart too, and is a column each.
    Rows of a table of measurements stay apart. The columns are ``study.GROUP_COLUMNS`` and ``exposed_ns``,
    the time in which no other group ran on that GPU (NaN where starts are not recorded). ``names`` is what
    ``taxonomy.classify`` says of :func:`kernel_names`; without it every family is ``other``. A group's
    ``time_ns`` is the sum over its timed dispatches; percentiles interpolate linearly, and are NaN for
    groups of aggregated rows. The order is by GPU, then time, longest first.
    """
    import pandas as pd

    table = timing(capture).rows.unify_dictionaries()
    codes = {name: columns.text(table[name]) for name in (*_TEXTS, "operator", *_GIVEN)}
    apart = tabled(capture)
    ids, size = _identify(table, apart, placed)
    first = columns.first_rows(ids, size)
    frame: dict[str, Any] = {name: columns.ints(table[name])[first] for name in ("gpu", "process")}
    for name, column in (("kind", "kind"), ("raw_name", "kernel"), ("operator_shapes", "operator_shapes")):
        frame[name] = pd.Series(columns.lookup(codes[column], first), dtype=object)
    frame["operator"] = pd.Series(columns.sole(codes["operator"], ids, size, first), dtype=object)
    for name in _GIVEN:
        frame[name] = pd.Series(columns.lookup(codes[name], first), dtype=object)
    # the one dispatch that a row of a table stands for; its counters are found by it
    frame["dispatch_id"] = columns.ints(table["dispatch_id"])[first] if apart else -1
    for name in (*SHAPE, *RESOURCES):
        frame[name] = columns.known(table[name], ids, size)
    frame["number"] = np.arange(size)
    frame |= _times(table, ids, size)
    frame["copied_bytes"] = columns.mean(table["copied_bytes"], ids, size)
    for name, told in (placed or {}).items():
        frame[name] = pd.Series(columns.lookup(told, first), dtype=object)
    result = pd.DataFrame(frame)
    _name(result, names)
    return result.sort_values(
        ["gpu", "time_ns", "raw_name"], ascending=[True, False, True], kind="stable", ignore_index=True
    )[[*_COLUMNS, *(placed or ())]]


def members(
    capture: Capture,
    kernels: pd.DataFrame,
    placed: Mapping[str, tuple[Ints, NDArray[Any]]] | None = None,
) -> Ints:
    """Return the place in ``kernels`` (of :func:`group`, given ``placed``) of each row of the timing pass."""
    ids, size = _identify(timing(capture).rows.unify_dictionaries(), tabled(capture), placed)
    place = np.full(size, -1, np.int64)
    place[kernels["number"].to_numpy(np.int64)] = np.arange(len(kernels))
    found: Ints = place[ids]
    return found


def _identify(
    table: pa.Table, apart: bool, placed: Mapping[str, tuple[Ints, NDArray[Any]]] | None
) -> tuple[Ints, int]:
    """Number the rows of ``table`` by what keeps groups apart."""
    return columns.identify(
        [columns.ints(table["gpu"]), *(columns.text(table[name])[0] for name in _TEXTS)]
        + [each for each, _ in (placed or {}).values()]
        + [columns.ints(table[name]) for name in (*SHAPE, *(("dispatch_id",) if apart else ()))]
    )


_COLUMNS: Final = (
    *("gpu", "process", "kind", "raw_name", "kernel", "family", "subfamily"),
    *SHAPE,
    *("operator", "operator_shapes", *_GIVEN, "dispatch_id"),
    *RESOURCES,
    *(
        "copied_bytes",
        "number",
        "dispatches",
        "time_ns",
        "mean_ns",
        "min_ns",
        "p50_ns",
        "p99_ns",
        "max_ns",
        "exposed_ns",
    ),
)


def tabled(capture: Capture) -> bool:
    """Return whether each row of the dispatches is a measurement of its own, never to be pooled."""
    return capture.manifest.profiler == TABLE


def kernel_names(capture: Capture) -> list[str]:
    """Return the distinct raw names of all dispatches, sorted."""
    return sorted(set(pc.unique(capture.dispatches["kernel"]).to_pylist()))


def _name(frame: pd.DataFrame, names: pd.DataFrame | None) -> None:
    import pandas as pd

    raw = frame["raw_name"]
    if names is None:
        frame["kernel"], frame["family"], frame["subfamily"] = raw, "other", None
    else:
        known = names.drop_duplicates("raw_name").set_index("raw_name")
        frame["kernel"] = raw.map(known["kernel"]).where(raw.isin(known.index), raw)
        frame["family"] = raw.map(known["family"]).fillna("other")
        subfamily = raw.map(known["subfamily"]).astype(object)
        frame["subfamily"] = subfamily.where(subfamily.notna(), None)
    copies = frame["kind"].isin(COPIES) & (frame["family"] == "other")
    frame.loc[copies, "family"] = "memcpy"
    given = frame["given_family"].notna()
    frame.loc[given, "family"] = frame.loc[given, "given_family"]
    for column in ("kernel", "family", "subfamily"):
        frame[column] = pd.Series(frame[column], dtype=object)


def _times(table: pa.Table, ids: Ints, size: int) -> dict[str, Floats | Ints]:
    start, end = columns.ints(table["start_ns"]), columns.ints(table["end_ns"])
    count = columns.ints(table["count"])
    duration = columns.ints(
        pc.coalesce(table["duration_ns"], pc.subtract(table["end_ns"], table["start_ns"]))
    )
    timed = duration >= 0
    weight = np.where(timed, count, 0)
    total = columns.total(ids, np.where(timed, duration, 0), size)
    timed_count = columns.total(ids, weight, size)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(timed_count > 0, total / timed_count, np.nan)
    single = (count == 1) & timed
    whole = columns.total(ids, (~single).astype(np.int64), size) == 0
    low, median, high, most = _percentiles(ids[single], duration[single], size, (0.0, 0.5, 0.99, 1.0))
    clear = columns.total(ids, (timed & (table["start_ns"].is_valid().to_numpy(zero_copy_only=False))), size)
    return {
        "dispatches": columns.total(ids, count, size),
        "time_ns": np.where(timed_count > 0, total, np.nan),
        "mean_ns": mean,
        "min_ns": np.where(whole, low, np.nan),
        "p50_ns": np.where(whole, median, np.nan),
        "p99_ns": np.where(whole, high, np.nan),
        "max_ns": np.where(whole, most, np.nan),
        "exposed_ns": np.where(clear > 0, _exposed(table, ids, size, start, end), np.nan),
    }


def _exposed(table: pa.Table, ids: Ints, size: int, start: Ints, end: Ints) -> Ints:
    """Sum over GPUs of the time in which only one group ran."""
    placed = table["start_ns"].is_valid().to_numpy(zero_copy_only=False) & (end >= start)
    gpu = columns.ints(table["gpu"])
    total = np.zeros(size, np.int64)
    for each in np.unique(gpu):
        here = placed & (gpu == each)
        total += intervals.exposed_ns(start[here], end[here], ids[here], size)
    return total


def _percentiles(ids: Ints, values: Ints, size: int, shares: tuple[float, ...]) -> list[Floats]:
    """Return linearly interpolated quantiles of each group, NaN where it is empty."""
    counts = np.bincount(ids, minlength=size)
    bits = int(values.max()).bit_length() if len(values) else 0
    if bits + size.bit_length() < 63:  # one sort of packed keys is several times faster than a lexsort
        packed = (ids << bits) | values
        packed.sort()
        ordered = packed & ((1 << bits) - 1)
    else:
        ordered = values[np.lexsort((values, ids))]
    offsets = np.concatenate(([0], np.cumsum(counts)[:-1]))
    found = []
    for share in shares:
        position = np.maximum(counts - 1, 0) * share
        below = np.floor(position).astype(np.int64)
        above = np.minimum(below + 1, np.maximum(counts - 1, 0))
        result = np.full(size, np.nan)
        some = counts > 0
        lower = ordered[(offsets + below)[some]].astype(np.float64)
        upper = ordered[(offsets + above)[some]].astype(np.float64)
        result[some] = lower + (upper - lower) * (position - below)[some]
        found.append(result)
    return found
