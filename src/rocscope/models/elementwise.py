"""Elementwise kernels of PyTorch, from the shapes of the operator that launched them.

Without an operator the launch tells the number of elements only to within a block, which is not enough. An
expanded tensor has more elements than lie in memory; where strides were not recorded, only kernels that
demand contiguous tensors are modelled.
"""

from __future__ import annotations

import math
from typing import Final

from rocscope.kernel_names import short_name
from rocscope.models.model import Dispatch, Estimate, Operand
from rocscope.models.served import ServedModel
from rocscope.models.shapes import FLOATS, dtype_of, element_bytes, elements, tensors

_ARITHMETIC: Final = frozenset(
    (
        *("add", "sub", "mul", "div", "neg", "abs", "sqrt", "rsqrt", "reciprocal", "exp", "log", "sigmoid"),
        *("tanh", "relu", "silu", "gelu", "square", "maximum", "minimum"),
    )
)
"""One operation an output element; a transcendental counts as one."""
_COPIES: Final = ("aten::copy_", "aten::_copy_from")
_FILLS: Final = ("aten::fill_", "aten::zero_")
_CONTIGUOUS: Final = (
    "vectorized_elementwise_kernel",
    "vectorized_templated_elementwise_kernel",
    "unrolled_elementwise_kernel",
)
_ANY_STRIDES: Final = ("elementwise_kernel", "elementwise_kernel_manual_unroll", "legacy_elementwise_kernel")


class ElementwiseModel:
    """Inputs read once, the output written once; one operation an output element, none for copies."""

    name = "elementwise"
    help = "elementwise operators with recorded shapes: inputs and output, once each"
    families = ("elementwise",)

    def estimate(self, dispatch: Dispatch, served: ServedModel | None) -> Estimate | None:
        """Return bytes and FLOPs for an operator of the closed list here, else ``None``."""
        name, given = short_name(dispatch.raw_name), tensors(dispatch)
        if not dispatch.operator or name not in (*_CONTIGUOUS, *_ANY_STRIDES):
            return None
        if name in _ANY_STRIDES and any(each.stored is None for each in given):
            return None
        if dispatch.operator in _FILLS:
            return _fill(dispatch, given)
        if dispatch.operator in _COPIES:
            return _copy(dispatch, given)
        plain = dispatch.operator.removeprefix("aten::")
        in_place = plain.endswith("_")
        if dispatch.operator.startswith("aten::") and plain.removesuffix("_") in _ARITHMETIC:
            return _arithmetic(dispatch, given, in_place=in_place)
        return None


def _fill(dispatch: Dispatch, given: tuple[Operand, ...]) -> Estimate | None:
    if not given or dispatch.operands[0].dtype != given[0].dtype:
        return None
    size = stored(given[0]) * (element_bytes(given[0]) or 0)
    return _estimate(dispatch, float(size), 0.0, None) if size else None


def _copy(dispatch: Dispatch, given: tuple[Operand, ...]) -> Estimate | None:
    """``copy_(self, source)``: the source may be broadcast and of another dtype."""
    if len(given) != 2 or broadcast(given) != given[0].dims:
        return None
    size = sum(stored(each) * (element_bytes(each) or 0) for each in given)
    return _estimate(dispatch, float(size), 0.0, None) if size else None


def _arithmetic(dispatch: Dispatch, given: tuple[Operand, ...], *, in_place: bool) -> Estimate | None:
    """Scalars cost nothing; tensors of different dtypes are not followed through type promotion."""
    wide = [each for each in given if each.dims]
    kinds = {dtype_of(each) for each in wide}
    if not wide or len(wide) > 2 or len(kinds) != 1 or not kinds <= set(FLOATS):
        return None
    dims = broadcast(tuple(wide))
    if dims is None or (in_place and dims != given[0].dims):
        return None
    count = math.prod(dims)
    if not count:
        return None
    size = element_bytes(wide[0]) or 0
    moved = sum(stored(each) for each in wide) + count
    return _estimate(dispatch, float(moved * size), float(count), "vector_fp32")


def _estimate(dispatch: Dispatch, size: float, flops: float, unit: str | None) -> Estimate:
    shapes = ", ".join(f"{list(each.dims)} {each.dtype}" for each in tensors(dispatch))
    what = "one operation an element" if flops else "no arithmetic"
    moved = "written once" if dispatch.operator in _FILLS else "each read or written once"
    return Estimate(size, flops, unit, None, f"{dispatch.operator} of {shapes}: {moved}, {what}")


def stored(operand: Operand) -> int:
    """Return how many elements lie in memory; all where that was not recorded."""
    return elements(operand) if operand.stored is None else min(operand.stored, elements(operand))


def broadcast(given: tuple[Operand, ...]) -> tuple[int, ...] | None:
    """Return the common shape by NumPy's rule, ``None`` where there is none."""
    rank = max((len(each.dims) for each in given), default=0)
    found = []
    for axis in range(1, rank + 1):
        sizes = {each.dims[-axis] for each in given if len(each.dims) >= axis} - {1}
        if len(sizes) > 1:
            return None
        found.append(sizes.pop() if sizes else 1)
    return tuple(reversed(found))


MODEL = ElementwiseModel()
