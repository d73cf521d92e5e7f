"""Launch shapes: what they amount to, and which kernel a dispatch of another pass is one of for certain."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
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

    def __init__(self, kernels: pd.DataFrame) -> None:
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

        A shape as recorded decides. Where either side has only products of it, these have to agree, and one
        kernel alone may have them; where the kernel's is not recorded, its name has to have one shape.
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
            if row >= 0 and not exact:
                takers[row].append(place)
        for places in takers.values():
            if len(places) > 1:  # two shapes would be one
                found[places] = -1
        return found[ids]

    def _find(self, key: Key, shape: Key) -> tuple[int, bool]:
        candidates = self._rows.get(key) or self._plain.get((key[0], clean(key[1])), [])
        same = [row for other, row in candidates if other == shape]
        if same:
            return (same[0] if len(same) == 1 else -1), True
        alike = [row for other, row in candidates if _agree(other, shape)]
        return (alike[0] if len(alike) == 1 else -1), False


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
