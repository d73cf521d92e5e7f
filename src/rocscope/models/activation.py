"""Gated activations: ``act(gate) * up`` (vLLM csrc/activation_kernels.cu, and the recorded decoder's kernel).

vLLM's kernel has a workgroup a token, the decoder's Triton kernel one for 1024 columns of a token. Bytes:
``3 * tokens * d * b``, both halves read and one written. FLOPs: negate, exponential, add, divide and
multiply, five an output element, in 32 bit.
"""

from __future__ import annotations

import math
from typing import Final

from rocscope.kernel_names import short_name
from rocscope.models.model import Dispatch, Estimate
from rocscope.models.served import ServedModel
from rocscope.models.shapes import ELEMENT_BYTES, SERVED_DTYPES, counted, dtype_of, tensors, workgroups

_VLLM: Final = ("act_and_mul_kernel", "act_and_mul_kernel_with_param")
_TRITON: Final = "silu_and_mul_kernel"
_COLUMNS: Final = 1024  # of a workgroup of the Triton kernel; the most threads of vLLM's
_OPERATORS: Final = ("_C::silu_and_mul", "_C::gelu_and_mul", "_C::gelu_tanh_and_mul", "_C::mul_and_silu")
_FLOPS: Final = 5


class ActivationModel:
    """Two halves in, one out."""

    name = "activation"
    help = "gated activations: tokens from the launch, their width from the operator or the served model"
    families = ("activation",)

    def estimate(self, dispatch: Dispatch, served: ServedModel | None) -> Estimate | None:
        """Return bytes and FLOPs where tokens, width and dtype are known."""
        name = short_name(dispatch.raw_name)
        if name not in (*_VLLM, _TRITON):
            return None
        found = _from_operator(dispatch) or _from_launch(dispatch, served, name)
        if found is None:
            return None
        tokens, width, dtype, how = found
        return Estimate(
            bytes=float(3 * tokens * width * ELEMENT_BYTES[dtype]),
            flops=float(_FLOPS * tokens * width),
            flops_unit="vector_fp32",
            problem_shape={"rows": tokens, "length": width, "dtype": dtype},
            source=f"{counted(tokens, 'row')} of 2 x {width} {dtype} in, {width} out ({how}), {_FLOPS} "
            "operations each",
        )


def _from_operator(dispatch: Dispatch) -> tuple[int, int, str, str] | None:
    given = tensors(dispatch)
    if dispatch.operator not in _OPERATORS or len(given) < 2:
        return None
    out, both = given[:2]
    dtype, width = dtype_of(out), out.dims[-1] if out.dims else 0
    if dtype is None or not width or both.dims != (*out.dims[:-1], 2 * width) or dtype_of(both) != dtype:
        return None
    tokens = math.prod(out.dims[:-1])
    return (tokens, width, dtype, f"shapes of {dispatch.operator}") if tokens else None


def _from_launch(
    dispatch: Dispatch, served: ServedModel | None, name: str
) -> tuple[int, int, str, str] | None:
    """Take the width from the served model, whose only gated layer then must fit the launch."""
    grid = workgroups(dispatch)
    if served is None or not served.linears_complete or served.experts or grid is None or grid[2] != 1:
        return None
    dtype = SERVED_DTYPES.get((served.dtype or "").removeprefix("torch."))
    if dtype is None or served.intermediate_size is None or dispatch.workgroup is None:
        return None
    width = served.intermediate_size // served.tp
    if name == _TRITON:
        fits = grid[1] == -(-width // _COLUMNS)
    else:
        vector = 16 // ELEMENT_BYTES[dtype]
        fits = grid[1] == 1 and dispatch.workgroup[0] in {
            min(width, _COLUMNS),
            min(width // vector, _COLUMNS),
        }
    return (grid[0], width, dtype, "workgroups a token, the served model's width") if fits else None


MODEL = ActivationModel()
