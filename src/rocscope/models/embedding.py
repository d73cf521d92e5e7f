"""Lookups, gathers and concatenations of PyTorch, from the shapes of the operator.

A gathered row is read and written once, with its 64-bit index; rows looked up more than once are counted each
time. Concatenation reads and writes every element once. No arithmetic.
"""

from __future__ import annotations

import math
import re
from typing import Final

from rocscope.kernel_names import short_name
from rocscope.models.model import Dispatch, Estimate, Operand
from rocscope.models.served import ServedModel
from rocscope.models.shapes import counted, dtype_of, element_bytes, elements, tensors, workgroups

_ROWS: Final = ("vectorized_gather_kernel", "indexSelectSmallIndex", "indexSelectLargeIndex")
_ELEMENTS: Final = "_scatter_gather_elementwise_kernel"
_CAT: Final = re.compile(r"^CatArrayBatchedCopy\w*$")
_OPAQUE: Final = re.compile(r"OpaqueType<(\d{1,3})u?l?>|OpaqueTypeILj(\d{1,3})E")
_INDEX_BYTES: Final = 8


class EmbeddingModel:
    """Rows moved from one place to another."""

    name = "embedding"
    help = "lookups, gathers and concatenations with recorded operator shapes"
    families = ("embedding",)

    def estimate(self, dispatch: Dispatch, served: ServedModel | None) -> Estimate | None:
        """Return the bytes for an operator of the closed lists here, else ``None``; 0 FLOPs."""
        name, given = short_name(dispatch.raw_name), tensors(dispatch)
        if _CAT.match(name) and dispatch.operator == "aten::cat":
            return _concatenated(dispatch)
        if name in _ROWS:
            return _rows(dispatch, name, given)
        if name == _ELEMENTS and dispatch.operator == "aten::gather" and len(given) >= 2:
            size = element_bytes(given[0])
            count = elements(given[1])
            if size and count and dtype_of(given[1]) == "int64":
                return _moved(dispatch, count, size, f"{counted(count, 'element')} of {list(given[0].dims)}")
        return None


def _rows(dispatch: Dispatch, name: str, given: tuple[Operand, ...]) -> Estimate | None:
    """A table [rows, length] and indices, whose number the launch tells where the operator does not."""
    if not given or len(given[0].dims) != 2 or not (size := element_bytes(given[0])):
        return None
    length = given[0].dims[1]
    if dispatch.operator in ("aten::index_select", "aten::embedding") and len(given) == 2:
        count = elements(given[1])
    elif dispatch.operator == "aten::gather" and len(given) >= 2 and given[1].dims[1:] == (length,):
        count = given[1].dims[0]  # indices expanded along the rows
    elif dispatch.operator == "aten::index" and name == "vectorized_gather_kernel":
        count = (workgroups(dispatch) or (0,))[0]  # one a row
    else:
        return None
    if name == "vectorized_gather_kernel" and (grid := workgroups(dispatch)) and grid[0] != count:
        return None
    if not count or not length:
        return None
    return _moved(dispatch, count, length * size, f"{counted(count, 'row')} of {length} {given[0].dtype}")


def _moved(dispatch: Dispatch, count: int, each: int, what: str) -> Estimate:
    return Estimate(
        bytes=float(count * (2 * each + _INDEX_BYTES)),
        flops=0.0,
        source=f"{what} (shapes of {dispatch.operator}), read and written once, with their indices",
    )


def _concatenated(dispatch: Dispatch) -> Estimate | None:
    parts = dispatch.operands[0].parts if dispatch.operands else ()
    opaque = _OPAQUE.search(dispatch.raw_name)
    size = int(opaque[1] or opaque[2]) if opaque else 0
    count = sum(math.prod(dims) for dims in parts)
    if not count or not size:
        return None
    shapes = ", ".join(str(list(dims)) for dims in parts[:4]) + (", .." if len(parts) > 4 else "")
    return Estimate(
        bytes=2.0 * count * size,
        flops=0.0,
        source=f"aten::cat of {shapes}, {size} B an element: each read and written once",
    )


MODEL = EmbeddingModel()
