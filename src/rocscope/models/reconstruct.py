"""vLLM's GPTQ weights written out as 16 bit, before a dense product (more than 24 or 50 rows).

Source: vLLM csrc/quantization/gptq/q_gemm.cu: grid in workgroups (ceil(N / B), ceil(K / B)), B the threads of
a workgroup, so that N and K are known to B. The form without exllama
(``reconstruct_gptq_kernel``) is read by its operator or its place in a step alone.
"""

from __future__ import annotations

import re
from typing import Final

from rocscope.kernel_names import short_name
from rocscope.models import gptq
from rocscope.models.model import Dispatch, Estimate
from rocscope.models.served import ServedModel
from rocscope.models.shapes import counted, workgroups

_NAME: Final = re.compile(r"reconstruct_exllama_([2348])bit_kernel")
_PLAIN: Final = re.compile(
    r"reconstruct_gptq_kernel<.*MatrixView_q([248])_row|reconstruct_gptq_(3)bit_kernel"
)


class ReconstructModel:
    """Packed weights, scales and zeros read, K*N halves written; two operations a weight.

    With the dense product that follows it is one quantised product, so its M is told too where it is known.
    """

    name = "reconstruct"
    help = "GPTQ weights written out as 16 bit: N and K from the launch and the operator or the served model"
    families = ("dequant",)

    def estimate(self, dispatch: Dispatch, served: ServedModel | None) -> Estimate | None:
        """Return bytes and FLOPs where N, K and the groups are certain."""
        packed, within = bits(dispatch), ranges(dispatch)
        if dispatch.grid is None and dispatch.layer is not None:  # as in graph replays on ROCm
            within = (gptq.ANY, gptq.ANY)
        if packed is None or within is None:
            return None
        found = gptq.weights(dispatch, served, packed, within)
        if found is None:
            return None
        n, k, groups = found.n, found.k, found.groups
        order = 4 * k if found.act_order or _PLAIN.search(dispatch.raw_name) else 0
        m = gptq.operator_rows(dispatch) or dispatch.layer_m
        shape = {"n": n, "k": k, "dtype": "fp16", "group_size": found.group_size, "bits": packed}
        return Estimate(
            bytes=k * n * packed / 8 + 2 * groups * n + groups * n * packed / 8 + 2 * k * n + order,
            flops=2.0 * n * k,
            flops_unit="vector_fp16",
            problem_shape=({"m": m} if m else {}) | shape,
            source=f"N={n}, K={k} ({found.how}): {packed}-bit weights of {counted(groups, 'group')} read, "
            "halves "
            "written; the dense product that follows is the other part of this GPTQ product",
        )


def ranges(dispatch: Dispatch) -> tuple[range, range] | None:
    """Return where N and K lie, ``None`` for other kernels."""
    if _PLAIN.search(dispatch.raw_name):
        return gptq.ANY, gptq.ANY
    kernel, grid = _NAME.fullmatch(short_name(dispatch.raw_name)), workgroups(dispatch)
    if kernel is None or grid is None or dispatch.workgroup is None or grid[2] != 1:
        return None
    block = dispatch.workgroup[0]
    return gptq.block_range(grid[0], block), gptq.block_range(grid[1], block)


def bits(dispatch: Dispatch) -> int | None:
    """Return the bits of the weights that are written out, ``None`` for other kernels."""
    kernel = _NAME.fullmatch(short_name(dispatch.raw_name)) or _PLAIN.search(dispatch.raw_name)
    return int(kernel[kernel.lastindex or 1]) if kernel else None


MODEL = ReconstructModel()
