"""What shape models share: dtypes and sizes of operands, matrix products, workgroup counts."""

from __future__ import annotations

import math
import re
from typing import Any, Final

from rocscope.models.model import Dispatch, Operand
from rocscope.models.served import Linear

DTYPES: Final = {  # as torch's profiler and C++ names write them: (name of ours, bytes of an element)
    "c10::Half": ("fp16", 2),
    "__half": ("fp16", 2),
    "c10::BFloat16": ("bf16", 2),
    "__hip_bfloat16": ("bf16", 2),
    "__nv_bfloat16": ("bf16", 2),
    "float": ("fp32", 4),
    "double": ("fp64", 8),
    "c10::Float8_e4m3fn": ("fp8", 1),
    "c10::Float8_e4m3fnuz": ("fp8", 1),
    "c10::Float8_e5m2": ("fp8", 1),
    "c10::Float8_e5m2fnuz": ("fp8", 1),
    "int": ("int32", 4),
    "long int": ("int64", 8),
    "long": ("int64", 8),
    "long long": ("int64", 8),
    "short": ("int16", 2),
    "short int": ("int16", 2),
    "signed char": ("int8", 1),
    "unsigned char": ("uint8", 1),
    "bool": ("bool", 1),
}
FLOATS: Final = ("fp8", "fp16", "bf16", "fp32", "fp64")
SERVED_DTYPES: Final = {
    "float16": "fp16",
    "half": "fp16",
    "bfloat16": "bf16",
    "float32": "fp32",
    "float": "fp32",
}
ELEMENT_BYTES: Final = dict(DTYPES.values())
_MANGLED_NUMBER: Final = re.compile(r"L[bijlm](\d{1,9})E")


def dtype_of(operand: Operand) -> str | None:
    """Return the operand's dtype by our name, ``None`` for what is not a tensor of a known one."""
    found = DTYPES.get(operand.dtype)
    return found[0] if found else None


def element_bytes(operand: Operand) -> int | None:
    """Return the bytes of one element, ``None`` for what is not a tensor of a known dtype."""
    found = DTYPES.get(operand.dtype)
    return found[1] if found else None


def elements(operand: Operand) -> int:
    """Return the number of elements; 1 for a tensor without dimensions."""
    return math.prod(operand.dims)


def tensors(dispatch: Dispatch) -> tuple[Operand, ...]:
    """Return the operands that are tensors of a known dtype."""
    return tuple(operand for operand in dispatch.operands if operand.dtype in DTYPES)


def workgroups(dispatch: Dispatch) -> tuple[int, int, int] | None:
    """Return the grid in workgroups, ``None`` unless it is known and whole."""
    if dispatch.grid is None or dispatch.workgroup is None:
        return None
    found = []
    for items, size in zip(dispatch.grid, dispatch.workgroup, strict=True):
        if size <= 0 or items <= 0 or items % size:
            return None
        found.append(items // size)
    return found[0], found[1], found[2]


def template_numbers(raw_name: str, function: str) -> tuple[int, ...]:
    """Return the numbers among the template arguments of ``function``, true as 1.

    Reads ``f<true, 4>``, ``f<1, 4>`` and the mangled ``1fILb1ELi4EE``; only the arguments up to the first
    that is neither number nor plain type.
    """
    at = raw_name.find(function)
    rest = raw_name[at + len(function) :][:400] if at >= 0 else ""
    if rest.startswith("<"):
        inside = rest[1:].partition(">")[0]
        values = [{"true": "1", "false": "0"}.get(part.strip(), part.strip()) for part in inside.split(",")]
        return tuple(
            int(value) for value in values if value.isascii() and value.isdigit() and len(value) < 10
        )
    if rest.startswith("I"):
        found, at = [], 1
        while number := _MANGLED_NUMBER.match(rest, at):
            found.append(int(number[1]))
            at = number.end()
        return tuple(found)
    return ()


def gemm_shape(
    m: int, n: int, k: int, dtype: str, *, group_size: int | None = None, bits: int | None = None
) -> dict[str, Any]:
    """Return the problem of a matrix product [m, k] times [k, n], as reports print it."""
    return {"m": m, "n": n, "k": k, "dtype": dtype, "group_size": group_size, "bits": bits}


def packed_gemm_bytes(
    m: int, n: int, k: int, bits: int, groups: int, *, zero_bits: int | None = None, out_bytes: int = 2
) -> float:
    """Return the least bytes of one product with packed weights, each datum moved once.

    Weights k*n*bits/8, 16-bit scales 2*groups*n, zero points groups*n*zero_bits/8 (``bits`` unless given),
    16-bit activations 2*m*k in, m*n*``out_bytes`` out. From the tensor layouts of vLLM's GPTQ and AWQ layers.
    """
    zeros = bits if zero_bits is None else zero_bits
    return k * n * bits / 8 + 2 * groups * n + groups * n * zeros / 8 + 2 * m * k + m * n * out_bytes


def counted(count: float, noun: str) -> str:
    """Return ``count`` and ``noun``, in the plural unless it is one."""
    figure = f"{count:.0f}" if count == round(count) or count >= 1e4 else f"{count:.4g}"
    return f"{figure} {noun}{'' if count == 1 else 's'}"


def by_place(layer: Linear) -> str:
    """Say how a layer was found that no launch and no operator tells."""
    return f"{layer.name} by its place in the order of every step's products [layer-order]"
