"""RMS norms, alone and with the residual added.

A workgroup normalises one row, so that the launch tells the number of rows exactly; their length comes from
the operator's shapes, else from the served model where just one of its sizes fits the launch.
"""

from __future__ import annotations

import re
from typing import Final

from rocscope.kernel_names import short_name
from rocscope.models.model import Dispatch, Estimate
from rocscope.models.served import ServedModel
from rocscope.models.shapes import (
    DTYPES,
    ELEMENT_BYTES,
    SERVED_DTYPES,
    counted,
    dtype_of,
    elements,
    template_numbers,
    tensors,
    workgroups,
)

_PASSES: Final = {"rms_norm_kernel": 2, "fused_add_rms_norm_kernel": 4}  # of rows x length elements
_OPERATIONS: Final = {"rms_norm_kernel": 4, "fused_add_rms_norm_kernel": 5}  # an element
_OPERATORS: Final = ("_C::rms_norm", "_C::fused_add_rms_norm")
_CAPS: Final = (256, 512, 1024)  # largest workgroups that the kernels choose from
_TYPE: Final = re.compile(r"rms_norm_kernel<([\w:]+)")


class RmsNormModel:
    """vLLM's and the recorded decoder's norms (vLLM csrc/layernorm_kernels.cu).

    Bytes: 2*rows*length*b + length*b alone, 4*rows*length*b + length*b with the residual, which is read and
    written too. FLOPs: square, add, scale and weigh an element, and the addition: 4 or 5.
    """

    name = "rmsnorm"
    help = "RMS norms: rows from the launch, their length from the operator or the served model"
    families = ("rmsnorm",)

    def estimate(self, dispatch: Dispatch, served: ServedModel | None) -> Estimate | None:
        """Return bytes and FLOPs where rows, length and dtype are known."""
        name = short_name(dispatch.raw_name)
        if name not in _PASSES:
            return None
        found = _from_operator(dispatch) or _from_launch(dispatch, served, name)
        if found is None:
            return None
        rows, length, dtype, how = found
        size = ELEMENT_BYTES[dtype]
        return Estimate(
            bytes=float((_PASSES[name] * rows + 1) * length * size),
            flops=float(_OPERATIONS[name] * rows * length),
            flops_unit="vector_fp32",
            problem_shape={"rows": rows, "length": length, "dtype": dtype},
            source=f"{counted(rows, 'row')} of {length} {dtype} ({how}): {_PASSES[name]} x rows x length + "
            "the weights",
        )


def _from_operator(dispatch: Dispatch) -> tuple[int, int, str, str] | None:
    given = tensors(dispatch)
    if dispatch.operator not in _OPERATORS or len(given) != 3:
        return None
    dtype, dims, weight = dtype_of(given[0]), given[0].dims, given[2].dims
    if dtype is None or not dims or len(weight) != 1 or dims[-1] != weight[0] or not elements(given[0]):
        return None
    return elements(given[0]) // dims[-1], dims[-1], dtype, f"shapes of {dispatch.operator}"


def _from_launch(
    dispatch: Dispatch, served: ServedModel | None, name: str
) -> tuple[int, int, str, str] | None:
    grid = workgroups(dispatch)
    if served is None or not served.linears_complete:  # another kind of model may norm other lengths
        return None
    if grid is None or dispatch.workgroup is None or grid[1:] != (1, 1):
        return None
    dtype = _dtype(dispatch.raw_name, served)
    threads = dispatch.workgroup[0]
    vector = next(iter(template_numbers(dispatch.raw_name, name)), None)
    lengths = {served.hidden_size} | ({served.head_dim} if served.norms_heads else set())
    fits = [length for length in lengths if _fits(length, threads, vector)]
    if dtype is None or len(fits) != 1:
        return None
    return grid[0], fits[0], dtype, "a workgroup a row, and the served model's only length that fits it"


def _fits(length: int, threads: int, vector: int | None) -> bool:
    """Whether a row of ``length`` is given ``threads`` threads: one a vector or an element, up to a cap."""
    if vector is None:  # Triton: any power of two up to the length
        return threads <= length
    wanted = {length} | ({length // vector} if vector > 0 and length % vector == 0 else set())
    return any(threads == min(size, cap) for size in wanted for cap in _CAPS)


def _dtype(raw_name: str, served: ServedModel) -> str | None:
    named = _TYPE.search(raw_name)
    if named:
        found = DTYPES.get(named[1])
        return found[0] if found else None
    if "<" in raw_name or raw_name.startswith("_Z"):
        return None
    return SERVED_DTYPES.get(served.dtype or "")


MODEL = RmsNormModel()
