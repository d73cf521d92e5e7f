"""Launch shapes: what they amount to, and which kernel a dispatch of another pass is one of for certain."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from rocscope import columns
from rocscope.hardware import GpuSpec
from rocscope.kernel_names import clean
from rocscope.metrics import SHAPE

if TYPE_CHECKING:
    import pandas as pd

Key = tuple[Any, ...]
_UNKNOWN = -1


class Groups:
    """Rows of ``metrics.group`` by name and launch shape."""

    def __init__(
        self, kernels: pd.DataFrame, timed: tuple[pa.Table, NDArray[np.int64]] | None = None
    ) -> None:
        """``timed`` are the dispatches that times come from, and the row of ``kernels`` of each."""
        self._timed = timed
        self._split: dict[Key, int] = {}  # rows that share name and launch shape, to their number
        self.unordered: dict[str, str] = {}  # such kernels whose order does not tell, and why
        self._names = kernels["kernel"].tolist() if "kernel" in kernels else kernels["raw_name"].tolist()
        self._rows: dict[Key, list[tuple[Key, int]]] = defaultdict(list)
        self._plain: dict[Key, list[tuple[Key, int]]] = defaultdict(list)  # by what all tools call a kernel
        self._single: dict[Key, int] = {}  # rows that stand for one dispatch, as a table of measurements has
        shapes = kernels[list(SHAPE)].fillna(_UNKNOWN).to_numpy().astype(np.int64).tolist()
        singles = kernels["dispatch_id"] if "dispatch_id" in kernels else [_UNKNOWN] * len(kernels)
        for row, (gpu, name, single, shape) in enumerate(
            zip(kernels["gpu"], kernels["raw_name"], singles, shapes, strict=True)
        ):
            for known in (self._rows[(gpu, name)], self._plain[(gpu, clean(name))]):
                known.append((tuple(shape), row))
            if single >= 0:
                self._single[(gpu, single)] = row

    def of(self, table: pa.Table) -> NDArray[np.int64]:
        """Return the row of the kernel that each dispatch of ``table`` is one of, -1 where none or several.

        A shape as recorded decides. Rows that share one (layers of the served model, operand shapes) are told
        apart by the order of dispatches, where a pass ran as many as were timed. Where either side has only
        products of a shape, these have to agree, and one kernel alone may have them; where the kernel's is
        not recorded, its name has to have one shape.
        """
        if self._single:
            keys = zip(columns.ints(table["gpu"]), columns.ints(table["dispatch_id"]), strict=True)
            return np.array([self._single.get(key, -1) for key in keys], np.int64)
        text = columns.text(table["kernel"])
        numbers = [columns.ints(table[name]) for name in ("gpu", *SHAPE)]
        ids, size = columns.identify([*numbers, text[0]])
        first = columns.first_rows(ids, size)
        parts = [column[first].tolist() for column in numbers]
        names = columns.lookup(text, first)
        found = np.full(size, -1, np.int64)
        takers: dict[int, list[int]] = defaultdict(list)
        for place in range(size):
            shape = tuple(column[place] for column in parts[1:])
            row, exact = self._find((parts[0][place], names[place]), shape)
            found[place] = row
            if row != -1 and not exact:
                takers[row].append(place)
        for places in takers.values():
            if len(places) > 1:  # two shapes would be one
                found[places] = -1
        result: NDArray[np.int64] = found[ids]
        for rows, number in self._split.items():
            mine = np.flatnonzero(result == -2 - number)
            if len(mine):
                result[mine] = self._by_order(table, mine, rows)
        return result

    def _by_order(self, table: pa.Table, mine: NDArray[np.int64], rows: Key) -> NDArray[np.int64]:
        """Return the rows of dispatches ``mine`` by their ordinal among those that were timed."""
        name = self._names[rows[0]]
        unknown = np.full(len(mine), -1, np.int64)
        order = self._order(rows)
        if order is None:
            self.unordered[name] = "they ran on several queues or processes, or without starts"
            return unknown
        ids = columns.ints(table["dispatch_id"])[mine]
        process, passes = columns.ints(table["process"])[mine], columns.ints(table["pass"])[mine]
        for each in np.unique(passes):
            here = np.flatnonzero(passes == each)
            if len(here) != len(order) or len(np.unique(process[here])) > 1 or (ids[here] < 0).any():
                self.unordered[name] = (
                    f"a pass under counters has {len(here)} dispatches of it, the timed one {len(order)}"
                )
                continue
            unknown[here[np.argsort(ids[here], kind="stable")]] = order
        return unknown

    def _order(self, rows: Key) -> NDArray[np.int64] | None:
        """Return the rows of the timed dispatches as they ran; ``None`` where that is not certain."""
        if self._timed is None:
            return None
        table, members = self._timed
        mine = np.flatnonzero(np.isin(members, np.array(rows, np.int64)))
        start = columns.ints(table["start_ns"])[mine]
        lane = columns.ints(pc.coalesce(table["stream"], table["queue"]))[mine]
        sole = len(np.unique(lane)) == 1 and len(np.unique(columns.ints(table["process"])[mine])) == 1
        if not sole or (start < 0).any() or (columns.ints(table["count"])[mine] != 1).any():
            return None
        found: NDArray[np.int64] = members[mine][np.argsort(start, kind="stable")]
        return found

    def _find(self, key: Key, shape: Key) -> tuple[int, bool]:
        candidates = self._rows.get(key) or self._plain.get((key[0], clean(key[1])), [])
        same = [row for other, row in candidates if other == shape]
        if same:
            return self._one(same), True
        alike = [(other, row) for other, row in candidates if _agree(other, shape)]
        one_shape = len({other for other, _ in alike}) == 1
        return (self._one([row for _, row in alike]) if one_shape else -1), False

    def _one(self, rows: list[int]) -> int:
        """Return the row, or what stands for several: -2 and below."""
        if len(rows) == 1:
            return rows[0]
        return -2 - self._split.setdefault(tuple(sorted(rows)), len(self._split))


def _agree(one: Key, other: Key) -> bool:
    """Whether two shapes may be one: of each half, equal products where a side has only those."""
    return all(_half(one[part], other[part]) for part in (slice(0, 3), slice(3, 6)))


def _half(one: Key, other: Key) -> bool:
    if one == other or _UNKNOWN in (one[0], other[0]):
        return True
    flat = _UNKNOWN in one[1:] or _UNKNOWN in other[1:]
    return flat and _product(one) == _product(other)


def _product(sides: Key) -> int:
    return int(np.prod([side for side in sides if side != _UNKNOWN], dtype=object))


def launch_waves(kernels: pd.DataFrame, specs: dict[int, GpuSpec | None]) -> pd.Series:
    """Return the waves a launch has: workgroups times waves of a workgroup; NaN where not recorded."""
    groups = launch_workgroups(kernels)
    sizes = kernels["gpu"].map({gpu: spec.wave_size for gpu, spec in specs.items() if spec}).astype(float)
    wave = kernels["wave_size"].astype(float).fillna(sizes)
    items = workgroup_items(kernels)
    found: pd.Series = groups * np.ceil(items / wave)
    return found.astype(float)


def workgroup_items(kernels: pd.DataFrame) -> pd.Series:
    """Return the work-items of a workgroup; NaN where not recorded."""
    x, y, z = (kernels[f"workgroup_{axis}"].astype(float) for axis in "xyz")
    return x * y.fillna(1) * z.fillna(1)


def launch_workgroups(kernels: pd.DataFrame) -> pd.Series:
    """Return the workgroups of a launch; NaN where grid or workgroup are not recorded.

    Where a tool gives only products, x holds them and the product of the others is 1.
    """
    total = kernels["grid_x"].astype(float) * 0 + 1
    for axis in "xyz":
        size = kernels[f"workgroup_{axis}"].fillna(1).clip(lower=1)
        total = total * np.ceil(kernels[f"grid_{axis}"].fillna(1) / size)
    return total.where(kernels["grid_x"].notna() & kernels["workgroup_x"].notna())
