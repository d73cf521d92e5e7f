"""Sums, means and extremes of PyTorch (``reduce_kernel``), from the shapes of the operator.

The input is read once, one operation an element. Which dimensions are reduced is not recorded, so that the
output, which is smaller, is not in the bytes.
"""

from __future__ import annotations

from typing import Final

from rocscope.kernel_names import short_name
from rocscope.models.elementwise import stored
from rocscope.models.model import Dispatch, Estimate
from rocscope.models.served import ServedModel
from rocscope.models.shapes import FLOATS, dtype_of, element_bytes, elements, tensors

_OPERATORS: Final = tuple(
    f"aten::{name}" for name in ("sum", "mean", "amax", "amin", "max", "min", "prod", "linalg_vector_norm")
)


class ReductionModel:
    """The input once."""

    name = "reduction"
    help = "sums, means and extremes with recorded operator shapes: the input once"
    families = ("reduction",)

    def estimate(self, dispatch: Dispatch, served: ServedModel | None) -> Estimate | None:
        """Return bytes and FLOPs for an operator of the closed list here, else ``None``."""
        given = tensors(dispatch)
        if short_name(dispatch.raw_name) != "reduce_kernel" or dispatch.operator not in _OPERATORS:
            return None
        if not given or dtype_of(given[0]) not in FLOATS or not elements(given[0]):
            return None
        return Estimate(
            bytes=float(stored(given[0]) * (element_bytes(given[0]) or 0)),
            flops=float(elements(given[0])),
            flops_unit="vector_fp32",
            source=f"{dispatch.operator} of {list(given[0].dims)} {given[0].dtype}: read once, one operation "
            "an element; the output, which is smaller, is not counted",
        )


MODEL = ReductionModel()
