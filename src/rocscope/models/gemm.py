"""Dense matrix products, from the operator that launched them or from their place in the order of a step.

The second way also covers the kernel that adds up split-K's partial sums (32 bit, in the workspaces of
cuBLASLt and Tensile): it belongs to the product before it. Which unit does the work is read off the kernel's
name; where it does not say, FLOPs are given without one.
"""

from __future__ import annotations

import math
import re
from typing import Final

from rocscope.kernel_names import short_name
from rocscope.models import skinny
from rocscope.models.gptq import OPERATOR
from rocscope.models.model import Dispatch, Estimate, Operand
from rocscope.models.served import Linear, ServedModel
from rocscope.models.shapes import SERVED_DTYPES, by_place, counted, dtype_of, element_bytes, gemm_shape

CLEARS: Final = re.compile(r"^Cijk_(?!A[a-z]+_B[a-z]+_)(?!\w*PostGSU)")
"""Tensile's kernels that clear or scale the output before a split product: their names have no factors."""
_PART_OF_ONE: Final = re.compile(
    r"^splitKreduce|PostGSU|^reduce_1Block|^dot_kernel|batched_ptrs|" + CLEARS.pattern
)
"""Kernels that share a product with another kernel of the same operator."""
MATRIX: Final = re.compile(r"^nvjet_|^sm[89]\d_xmma_gemm|^Cijk_\w*_MI\d+x\d+|^Custom_Cijk_\w*_MI\d+x\d+")
_ADDS_UP: Final = re.compile(r"^splitKreduce|PostGSU|^reduce_1Block")
_TEMPLATE: Final = re.compile(
    r"(?:LLGemm1_kernel|wvSplitK_hf\w*|rocblas_\w*gem[mv]\w*)<(?:\w+,\s*)*?(__half|c10::Half|half|_Float16"
    r"|c10::BFloat16|__hip_bfloat16)\b"
)
_NAMED_DTYPES: Final[tuple[tuple[re.Pattern[str], dict[str, str]], ...]] = (
    (re.compile(r"^(?:Custom_)?Cijk_[A-Za-z]+_[A-Za-z]+_([HB])(?:[HBS]|_)"), {"H": "fp16", "B": "bf16"}),
    (re.compile(r"^nvjet_sm\d+_([a-z])[a-z]{2}_"), {"h": "fp16", "t": "bf16"}),
    (re.compile(r"_xmma_gemm_((?:bf|f)16)"), {"f16": "fp16", "bf16": "bf16"}),
    (
        _TEMPLATE,
        dict.fromkeys(("__half", "c10::Half", "half", "_Float16"), "fp16")
        | dict.fromkeys(("c10::BFloat16", "__hip_bfloat16"), "bf16"),
    ),
)
_OPERANDS: Final = {  # places of [M, K] and [K, N]
    "aten::mm": (0, 1),
    "aten::addmm": (1, 2),
    "aten::bmm": (0, 1),
    "aten::linear": (0, 1),
    "_rocm_C::LLMM1": (1, 0),
    "_rocm_C::wvSplitK": (1, 0),
}
_WEIGHTS_BY_ROW: Final = ("aten::linear", "_rocm_C::LLMM1", "_rocm_C::wvSplitK")  # [N, K]


class GemmModel:
    """[M, K] times [K, N]: each matrix once, 2*M*N*K operations, batches likewise."""

    name = "gemm"
    help = "dense products: shapes from the operator, or from the order of a step and the served model"
    families = ("gemm",)

    def estimate(self, dispatch: Dispatch, served: ServedModel | None) -> Estimate | None:
        """Return shape, bytes and FLOPs for an operator of the closed list here, else ``None``."""
        name = short_name(dispatch.raw_name)
        if OPERATOR.match(dispatch.operator or "") and not _PART_OF_ONE.search(name):
            return _after_reconstruct(dispatch, name)
        if dispatch.operator is None and dispatch.layer is not None:
            return _placed(dispatch, served, dispatch.layer, name)
        places = _OPERANDS.get(dispatch.operator or "")
        if places is None or _PART_OF_ONE.search(name) or len(dispatch.operands) <= max(places):
            return None
        a, b = (dispatch.operands[place] for place in places)
        found = _sizes(a, b, transposed=dispatch.operator in _WEIGHTS_BY_ROW)
        dtype, size = dtype_of(a), element_bytes(a)
        if found is None or dtype is None or size is None or dtype_of(b) != dtype:
            return None
        if skinny.rows_of(dispatch) not in (None, found[1]):
            return None
        return _estimate(dispatch, name, found, dtype, size)


def operator_product(dispatch: Dispatch) -> tuple[int, int, int] | None:
    """Return M, N and K as the operator's operands say, ``None`` where there is none or it is another."""
    if OPERATOR.match(dispatch.operator or "") and len(dispatch.operands) > 3:
        a, packed = dispatch.operands[:2]
        return (a.dims[0], packed.dims[1], a.dims[1]) if len(a.dims) == len(packed.dims) == 2 else None
    places = _OPERANDS.get(dispatch.operator or "")
    if places is None or len(dispatch.operands) <= max(places):
        return None
    a, b = (dispatch.operands[place] for place in places)
    found = _sizes(a, b, transposed=dispatch.operator in _WEIGHTS_BY_ROW)
    return found[1:] if found and found[0] == 1 else None


def _placed(dispatch: Dispatch, served: ServedModel | None, layer: Linear, name: str) -> Estimate | None:
    """A product of 16-bit weights by the kernel's name, of the layer whose place it has."""
    dtype = SERVED_DTYPES.get(served.dtype or "") if served else None
    m, parts = skinny.rows_of(dispatch) or dispatch.layer_m, dispatch.layer_parts or 1
    if dtype not in ("fp16", "bf16") or m is None or dispatch.layer_m not in (None, m):
        return None
    n, k = layer.n, layer.k
    told = "by the kernel's name" if skinny.rows_of(dispatch) else "by the step's other launches"
    how = f"M={m} {told}, N={n}, K={k} ({by_place(layer)})"
    if _ADDS_UP.search(name):
        if parts == 1:
            return None
        size = m * n * (4.0 * parts + 2)
        source = f"{how}: {counted(parts, 'partial sum')} of 32 bit read, 16 bit written"
        return Estimate(size, float(parts * m * n), "vector_fp32", None, source)
    if named_dtype(dispatch.raw_name) != dtype:
        return None
    out = m * n * (2.0 if parts == 1 else 4.0 * parts)
    split = "" if parts == 1 else f", {parts} partial sums of 32 bit out"
    return Estimate(
        bytes=2.0 * (m * k + k * n) + out,
        flops=2.0 * m * n * k,
        flops_unit=_unit(dispatch, name, dtype),
        problem_shape=gemm_shape(m, n, k, dtype),
        source=f"{how}; each matrix once{split}",
    )


def named_dtype(raw_name: str) -> str | None:
    """Return the dtype of both factors as the kernel's name has it, ``None`` where it does not say."""
    name = short_name(raw_name)
    for pattern, dtypes in _NAMED_DTYPES:
        if found := pattern.search(raw_name if pattern is _TEMPLATE else name):
            return dtypes.get(found[1])
    return None


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
        flops_unit=_unit(dispatch, name, dtype),
        problem_shape=shape,
        source=f"M={m}, N={n}, K={k} (shapes of {dispatch.operator}), each matrix once",
    )


def _unit(dispatch: Dispatch, name: str, dtype: str) -> str | None:
    if dtype not in ("fp16", "bf16"):
        return None
    return f"matrix_{dtype}" if MATRIX.search(name) else skinny.unit(dispatch, dtype)


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
