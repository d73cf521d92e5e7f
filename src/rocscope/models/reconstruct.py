"""vLLM's GPTQ weights written out as 16 bit, before a dense product (more than 24 or 50 rows).

Source: vLLM csrc/quantization/gptq/q_gemm.cu: grid in workgroups (ceil(N / B), ceil(K / B)), B the threads of
a workgroup, so that N and K are known to B.
"""

from __future__ import annotations

import re
from typing import Final

from rocscope.kernel_names import short_name
from rocscope.models import gptq
from rocscope.models.model import Dispatch, Estimate
from rocscope.models.served import ServedModel
from rocscope.models.shapes import workgroups

_NAME: Final = re.compile(r"reconstruct_exllama_([2348])bit_kernel")


class ReconstructModel:
    """Packed weights, scales and zeros read, K*N halves written; two operations a weight."""

    name = "reconstruct"
    help = "GPTQ weights written out as 16 bit: N and K from the launch and the operator or the served model"
    families = ("dequant",)

    def estimate(self, dispatch: Dispatch, served: ServedModel | None) -> Estimate | None:
        """Return bytes and FLOPs where N, K and the groups are certain."""
        kernel = _NAME.fullmatch(short_name(dispatch.raw_name))
        grid = workgroups(dispatch)
        if kernel is None or grid is None or dispatch.workgroup is None or grid[2] != 1:
            return None
        bits, block = int(kernel[1]), dispatch.workgroup[0]
        ranges = (gptq.block_range(grid[0], block), gptq.block_range(grid[1], block))
        found = gptq.weights(dispatch, served, bits, ranges)
        if found is None:
            return None
        n, k, groups = found.n, found.k, found.groups
        order = 4 * k if found.act_order else 0
        return Estimate(
            bytes=k * n * bits / 8 + 2 * groups * n + groups * n * bits / 8 + 2 * k * n + order,
            flops=2.0 * n * k,
            flops_unit="vector_fp16",
            problem_shape={"n": n, "k": k, "dtype": "fp16", "group_size": found.group_size, "bits": bits},
            source=f"N={n}, K={k} ({found.how}): {bits}-bit weights of {groups} groups read, halves written",
        )


MODEL = ReconstructModel()
