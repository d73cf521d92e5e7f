"""Products whose layer is not known, but whose name or launch tells rows and bits: FLOPs a byte at most.

Every weight is read at least once and multiplies each row once, so that ``rows`` rows on weights of ``b``
bits do at most ``16 * rows / b`` FLOPs a byte, whatever N and K. This is what can be said of a model whose
layers are not known here (linear attention, a missing ``config.json``), and of a graph replay without grids.

Rows: fused GPTQ products have theirs in the launch or, below eight, in the name; those without exllama are
called for eight at most (vLLM csrc/quantization/gptq/q_gemm.cu); ``LLGemm1`` and ``wvSplitK`` have them in
the name (csrc/rocm/skinny_gemms.cu). The others have those of the step, if it only decodes. Weights that are
written out as 16 bit cost two operations each.
"""

from __future__ import annotations

import re
from typing import Final

from rocscope.kernel_names import short_name
from rocscope.models import gptq, reconstruct, skinny
from rocscope.models.gemm import MATRIX, named_dtype
from rocscope.models.model import Dispatch, Estimate
from rocscope.models.served import ServedModel

_FUSED: Final = re.compile(r"gemm_half_q_half_(gptq|alt)_([2348])bit_kernel")
_MOST_ALTERNATIVE_ROWS: Final = 8
_TRITON: Final = ("awq_gemm_kernel", "triton_w4a16_gemm_kernel")
_WRITTEN_OUT: Final = "awq_dequantize_kernel"
_WIDE_BITS: Final = 16
_PACKED_BITS: Final = 4


class UnsizedRowsModel:
    """The most FLOPs a byte that the product can do."""

    name = "unsized-rows"  # after the models of sizes
    help = "packed and skinny products of layers that are not known: operations a byte by their rows and bits"
    families = ("gemm", "gptq_gemm", "awq_gemm", "dequant")

    def estimate(self, dispatch: Dispatch, served: ServedModel | None) -> Estimate | None:
        """Return the limit where rows and bits are known, else ``None``."""
        name = short_name(dispatch.raw_name)
        bits = _PACKED_BITS if name == _WRITTEN_OUT else reconstruct.bits(dispatch)
        if bits is not None:
            return _written_out(bits)
        if fused := _FUSED.fullmatch(name):
            return _limit(_packed_rows(dispatch, fused[1]), int(fused[2]), "vector_fp16")
        if name in _TRITON:
            return _limit(_step_rows(dispatch), _PACKED_BITS, None)
        dtype = named_dtype(dispatch.raw_name)
        if dtype is None:
            return None
        if rows := skinny.rows_of(dispatch):
            return _limit((rows, "by the kernel's name"), _WIDE_BITS, skinny.unit(dispatch, dtype))
        return _limit(_step_rows(dispatch), _WIDE_BITS, f"matrix_{dtype}") if MATRIX.search(name) else None


def _packed_rows(dispatch: Dispatch, kind: str) -> tuple[float, str] | None:
    if kind == "alt":
        return _MOST_ALTERNATIVE_ROWS, "as vLLM calls it for no more"
    if rows := gptq.launch_rows(dispatch):
        return rows, "by the launch"
    if dispatch.grid is None and (rows := gptq.remainder(dispatch)):
        return rows, "by the kernel's name"
    return _step_rows(dispatch) if dispatch.grid is None and gptq.full_rows(dispatch) else None


def _step_rows(dispatch: Dispatch) -> tuple[float, str] | None:
    if dispatch.step_rows_limit is None or dispatch.step_phase != "decode":
        return None
    return dispatch.step_rows_limit, (
        f"in this step of {dispatch.step_tokens:.4g} tokens ({dispatch.step_context_source})"
    )


def _limit(rows: tuple[float, str] | None, bits: int, unit: str | None) -> Estimate | None:
    if rows is None:
        return None
    count, how = rows
    return Estimate(
        flops_unit=unit,
        intensity_limit=2.0 * count * 8 / bits,
        source=f"each {bits}-bit weight serves at most {count:.4g} row{'' if count == 1 else 's'}, {how}; "
        "the layer's size is not known",
    )


def _written_out(bits: int) -> Estimate:
    return Estimate(
        flops_unit="vector_fp16",
        intensity_limit=2.0 / (bits / 8 + 2),
        source=f"each {bits}-bit weight costs two operations, and 2 B where it is written out; the layer's "
        "size is not known",
    )


MODEL = UnsizedRowsModel()
