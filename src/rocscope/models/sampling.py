"""Choosing tokens with PyTorch's operators, from their shapes: argmax and softmax over the vocabulary.

Argmax reads its input once and writes a 64-bit index a row, one comparison an element. Softmax at least
reads its input and writes its output once: five operations an element (maximum, subtract, exponential, add,
divide).
PyTorch's kernel reads rows that do not fit into a workgroup's registers two or three times.
"""

from __future__ import annotations

import re
from typing import Final

from rocscope.kernel_names import short_name
from rocscope.models.model import Dispatch, Estimate, Operand
from rocscope.models.served import ServedModel
from rocscope.models.shapes import DTYPES, dtype_of, element_bytes, elements, tensors

_ARGMAX: Final = ("aten::argmax", "aten::argmin")
_SOFTMAX: Final = ("aten::_softmax", "aten::_log_softmax")
_TYPES: Final = re.compile(r"cunn_SoftMaxForward\w*<(?:\d+, ?)?([\w:]+), ?[\w:]+, ?([\w:]+)")
_INDEX_BYTES: Final = 8
_SOFTMAX_FLOPS: Final = 5


class SamplingModel:
    """One kernel an operator; sorts and top-k take several, which are not modelled."""

    name = "sampling"
    help = "argmax and softmax with recorded operator shapes"
    families = ("sampling",)

    def estimate(self, dispatch: Dispatch, served: ServedModel | None) -> Estimate | None:
        """Return bytes and FLOPs for an operator of the closed lists here, else ``None``."""
        given, name = tensors(dispatch), short_name(dispatch.raw_name)
        if not given or not given[0].dims or not elements(given[0]):
            return None
        if dispatch.operator in _ARGMAX and name == "reduce_kernel":
            return _argmax(dispatch, given[0])
        if dispatch.operator in _SOFTMAX and name.startswith("cunn_SoftMaxForward"):
            return _softmax(dispatch, given[0])
        return None


def _argmax(dispatch: Dispatch, given: Operand) -> Estimate:
    rows = elements(given) // given.dims[-1]
    size = elements(given) * (element_bytes(given) or 0) + rows * _INDEX_BYTES
    return Estimate(
        bytes=float(size),
        flops=float(elements(given)),
        flops_unit="vector_fp32",
        problem_shape={"rows": rows, "length": given.dims[-1], "dtype": dtype_of(given)},
        source=f"{dispatch.operator} of {list(given.dims)} {given.dtype}: read once, one comparison each",
    )


def _softmax(dispatch: Dispatch, given: Operand) -> Estimate | None:
    types = _TYPES.search(dispatch.raw_name)
    if types is None or types[1] != given.dtype or types[2] not in DTYPES:
        return None
    count = elements(given)
    return Estimate(
        bytes=float(count * ((element_bytes(given) or 0) + DTYPES[types[2]][1])),
        flops=float(_SOFTMAX_FLOPS * count),
        flops_unit="vector_fp32",
        problem_shape={
            "rows": count // given.dims[-1],
            "length": given.dims[-1],
            "dtype": dtype_of(given),
        },
        source=f"{dispatch.operator} of {list(given.dims)} {given.dtype}: at least read and written once, "
        f"as {types[2]}, {_SOFTMAX_FLOPS} operations an element",
    )


MODEL = SamplingModel()
