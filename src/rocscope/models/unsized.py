"""Kernels that do at most an operation or two an element, where the number of elements is not recorded.

A graph replay carries no operators, and a launch tells elements only to within a block. What an element costs
is in the kernel's name all the same: every output element is written, so that a functor of ``n`` operations
on an output of ``b`` bytes does at most ``n / b`` FLOPs a byte whatever it reads. Copies, fills, lookups and
concatenations do none.
"""

from __future__ import annotations

import re
from typing import Final

from rocscope.kernel_names import short_name
from rocscope.models.model import Dispatch, Estimate
from rocscope.models.served import ServedModel
from rocscope.models.shapes import DTYPES

_KERNELS: Final = re.compile(
    r"^(vectorized|unrolled|legacy|vectorized_templated)?_?elementwise_kernel(_manual_unroll)?$"
)
_TYPE: Final = r"([\w:]{1,40}(?: \w{1,8}){0,2})"
_FUNCTORS: Final = (  # the output's dtype is the group; operations an element
    (re.compile(rf"CUDAFunctor(?:OnSelf)?_add<{_TYPE}>"), 2, "adds, one side scaled"),
    (
        re.compile(
            rf"(?:Binary|AUnary|BUnary)Functor<[\w: ]+, ?[\w: ]+, ?{_TYPE}, ?[\w:]*(?:Mul|Div)Functor<"
        ),
        1,
        "multiplies",
    ),
    (re.compile(rf"neg_kernel_cuda[^<]{{0,200}}\{{lambda\({_TYPE}\)"), 1, "negates"),
)
_NO_ARITHMETIC: Final = re.compile(r"FillFunctor<|direct_copy_kernel_cuda")
_MOVES: Final = re.compile(
    r"^(CatArrayBatchedCopy\w*|vectorized_gather_kernel|indexSelect(Small|Large)Index|index_elementwise_kernel"
    r"|_scatter_gather_elementwise_kernel)$"
)
_LONGEST: Final = 2000  # characters of a name that are looked at


class UnsizedModel:
    """The most FLOPs a byte that the kernel can do."""

    name = "unsized"  # after the models of sizes
    help = "kernels of known functors without recorded shapes: operations a byte at most"
    families = ("elementwise", "embedding")

    def estimate(self, dispatch: Dispatch, served: ServedModel | None) -> Estimate | None:
        """Return the limit for a functor of the closed list here, else ``None``."""
        name, raw = short_name(dispatch.raw_name), dispatch.raw_name[:_LONGEST]
        if _MOVES.match(name) or (_KERNELS.match(name) and _NO_ARITHMETIC.search(raw)):
            return _limit(0.0, "it moves data")
        if not _KERNELS.match(name):
            return None
        for pattern, operations, what in _FUNCTORS:
            found = pattern.search(raw)
            if found and found[1] in DTYPES:
                size = DTYPES[found[1]][1]
                return _limit(operations / size, f"{what}, and writes {size} B an element")
        return None


def _limit(limit: float, why: str) -> Estimate:
    return Estimate(
        flops_unit="vector_fp32",
        intensity_limit=limit,
        source=f"{why}, by its name; how many elements is not recorded",
    )


MODEL = UnsizedModel()
