"""Dense matrix products, from the shapes of the operator that launched them.

Which unit does the work is read off the kernel's name; where it does not say, FLOPs are given without one.
"""

from __future__ import annotations

import math
import re
from typing import Final

from rocscope.kernel_names import short_name
from rocscope.models.gptq import OPERATOR
from rocscope.models.model import Dispatch, Estimate, Operand
from rocscope.models.served import ServedModel
from rocscope.models.shapes import dtype_of, element_bytes, gemm_shape

_PART_OF_ONE: Final = re.compile(r"^splitKreduce|^Cijk_[SD]_|PostGSU|^reduce_1Block|^dot_kernel|batched_ptrs")
"""Kernels that share a product with another kernel of the same operator."""
_MATRIX: Final = re.compile(r"^nvjet_|^sm[89]\d_xmma_gemm|^Cijk_\w*_MI\d+x\d+|^Custom_Cijk_\w*_MI\d+x\d+")
_OPERANDS: Final = {"aten::mm": (0, 1), "aten::addmm": (1, 2), "aten::bmm": (0, 1), "aten::linear": (0, 1)}


class GemmModel:
    """[M, K] times [K, N]: each matrix once, 2*M*N*K operations, batches likewise."""

    name = "gemm"
    help = "dense products with recorded operator shapes"
    families = ("gemm",)

    def estimate(self, dispatch: Dispatch, served: ServedModel | None) -> Estimate | None:
        """Return shape, bytes and FLOPs for an operator of the closed list here, else ``None``."""
        name = short_name(dispatch.raw_name)
        if OPERATOR.match(dispatch.operator or "") and not _PART_OF_ONE.search(name):
            return _after_reconstruct(dispatch, name)
        places = _OPERANDS.get(dispatch.operator or "")
        if places is None or _PART_OF_ONE.search(name) or len(dispatch.operands) <= places[1]:
            return None
        a, b = (dispatch.operands[place] for place in places)
        found = _sizes(a, b, transposed=dispatch.operator == "aten::linear")
        dtype, size = dtype_of(a), element_bytes(a)
        if found is None or dtype is None or size is None or dtype_of(b) != dtype:
            return None
        return _estimate(dispatch, name, found, dtype, size)


def _after_reconstruct(dispatch: Dispatch, name: str) -> Estimate | None:
    """The dense product of ``gptq_gemm(a, qweight, ..)``, whose weights were written out before."""
    if len(dispatch.operands) < 4:
        return None
    a, packed, _, scales = dispatch.operands[:4]
    if dtype_of(a) != "fp16" or not len(a.dims) == len(packed.dims) == len(scales.dims) == 2:
        return None
    (m, k), n = a.dims, packed.dims[1]
    if scales.dims[1] != n or m * n * k == 0:
        return None
    return _estimate(dispatch, name, (1, m, n, k), "fp16", 2)


def _estimate(
    dispatch: Dispatch, name: str, sizes: tuple[int, int, int, int], dtype: str, size: int
) -> Estimate:
    batch, m, n, k = sizes
    shape = gemm_shape(m, n, k, dtype) | ({"batch": batch} if batch > 1 else {})
    return Estimate(
        bytes=float(batch * (m * k + k * n + m * n) * size),
        flops=2.0 * batch * m * n * k,
        flops_unit=f"matrix_{dtype}" if dtype in ("fp16", "bf16") and _MATRIX.search(name) else None,
        problem_shape=shape,
        source=f"M={m}, N={n}, K={k} (shapes of {dispatch.operator}), each matrix once",
    )


def _sizes(a: Operand, b: Operand, *, transposed: bool) -> tuple[int, int, int, int] | None:
    """Return batch, M, N, K where the shapes agree and nothing is empty."""
    if len(a.dims) < 2 or len(b.dims) < 2:
        return None
    if transposed:  # linear: [.., K] and weights [N, K]
        batch, m, k, inner, n = 1, math.prod(a.dims[:-1]), a.dims[-1], b.dims[-1], b.dims[-2]
    elif len(a.dims) == len(b.dims) and a.dims[:-2] == b.dims[:-2]:
        batch, m, k, inner, n = math.prod(a.dims[:-2]), a.dims[-2], a.dims[-1], b.dims[-2], b.dims[-1]
    else:
        return None
    return (batch, m, n, k) if inner == k and batch * m * n * k > 0 else None


MODEL = GemmModel()
