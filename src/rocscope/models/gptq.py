"""vLLM's fused GPTQ product (exllama), whose launch tells its shape.

Source: vLLM csrc/quantization/gptq/q_gemm.cu. The grid in workgroups is (ceil(N / 4B), ceil(M / m_count),
ceil(K / B)), B the workgroup's threads: 128 upstream, 256 in the gfx906 fork, m_count the second template
argument. M is exact: a call launches whole multiples of m_count, the remainder as a dispatch of its own.
N and K are known to a block, and exact where just one layer of the served model fits. The kernel for
act-order without exllama (``gemm_half_q_half_alt``, at most 8 rows) is read by its operator or place alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from rocscope.kernel_names import short_name
from rocscope.models.model import Dispatch, Estimate
from rocscope.models.served import Linear, ServedModel
from rocscope.models.shapes import (
    by_place,
    counted,
    dtype_of,
    gemm_shape,
    packed_gemm_bytes,
    template_numbers,
    workgroups,
)

_NAME: Final = re.compile(r"gemm_half_q_half_gptq_([2348])bit_kernel")
_ALTERNATIVE: Final = re.compile(r"gemm_half_q_half_alt_([48])bit_kernel")
ANY: Final = range(1, 1 << 31)  # a size that a launch does not tell
_COLUMNS_A_THREAD: Final = 4
_BLOCKS: Final = (128, 256)
_MOST_ROWS: Final = 8  # BLOCK_M_SIZE_MAX
OPERATOR: Final = re.compile(r"^_C(_\w+)?::gptq_gemm$")


class GptqModel:
    """Least bytes of the fused product, each datum once, and its 2*M*N*K operations.

    Bytes: K*N*b/8 + 2*G*N + G*N*b/8 + 2*M*K + 2*M*N, 4*K more with act-order. The kernel multiplies with
    packed 16-bit FMA, not with the matrix unit.
    """

    name = "gptq"
    help = "fused GPTQ products: M from the launch, N and K from the launch and the served model"
    families = ("gptq_gemm",)

    def estimate(self, dispatch: Dispatch, served: ServedModel | None) -> Estimate | None:
        """Return shape, bytes and FLOPs where all are certain."""
        name = short_name(dispatch.raw_name)
        kernel, alternative = _NAME.fullmatch(name), _ALTERNATIVE.fullmatch(name)
        rows: int | None
        ranges: tuple[range, range] | None
        if alternative is not None:  # one dispatch for all rows, in a launch that is not read here
            rows, ranges = operator_rows(dispatch) or dispatch.layer_m, (ANY, ANY)
        else:
            rows, ranges = launch_rows(dispatch), launch_ranges(dispatch)
            if dispatch.grid is None and dispatch.layer is not None:  # as in graph replays on ROCm
                rows, ranges = remainder(dispatch), (ANY, ANY)
        found_bits = kernel or alternative
        if found_bits is None:
            return None
        bits = int(found_bits[1])
        if rows is None or ranges is None:
            return None
        found = weights(dispatch, served, bits, ranges)
        if found is None:
            return None
        n, k, groups = found.n, found.k, found.groups
        order = 4 * k if found.act_order or alternative else 0  # without exllama it is always read
        size = packed_gemm_bytes(rows, n, k, bits, groups) + order
        told = f"M={rows} {'by the launch' if kernel else 'of the product'}{_of_more(dispatch, rows)}"
        return Estimate(
            bytes=size,
            flops=2.0 * rows * n * k,
            flops_unit="vector_fp16",
            problem_shape=gemm_shape(rows, n, k, "fp16", group_size=found.group_size, bits=bits),
            source=f"{told}, N={n}, K={k} ({found.how}); {bits}-bit weights, scales, zeros of "
            f"{counted(groups, 'group')}, activations in and out, each once",
        )


def _of_more(dispatch: Dispatch, rows: int) -> str:
    """Say where a product was split over two dispatches: multiples of eight rows, and the remainder."""
    total = dispatch.layer_m or 0
    split = total > _MOST_ROWS and total % _MOST_ROWS and rows in (total % _MOST_ROWS, total // 8 * 8)
    return f" (of {total}: the other {total - rows} in a dispatch of their own)" if split else ""


def launch_rows(dispatch: Dispatch) -> int | None:
    """Return M of a fused product: workgroups along y times the rows that each takes."""
    name = short_name(dispatch.raw_name)
    numbers = template_numbers(dispatch.raw_name, name) if _NAME.fullmatch(name) else ()
    grid = workgroups(dispatch)
    if len(numbers) != 2 or grid is None or not 1 <= numbers[1] <= _MOST_ROWS:
        return None
    return grid[1] * numbers[1]


def remainder(dispatch: Dispatch) -> int | None:
    """Return the rows of a dispatch of fewer than eight, which its name tells, else ``None``."""
    name = short_name(dispatch.raw_name)
    numbers = template_numbers(dispatch.raw_name, name) if _NAME.fullmatch(name) else ()
    return numbers[1] if len(numbers) == 2 and 1 <= numbers[1] < _MOST_ROWS else None


def full_rows(dispatch: Dispatch) -> bool:
    """Return whether this dispatch does whole multiples of eight rows, maybe before one for the rest."""
    name = short_name(dispatch.raw_name)
    return bool(_NAME.fullmatch(name)) and template_numbers(dispatch.raw_name, name)[1:] == (_MOST_ROWS,)


def launch_ranges(dispatch: Dispatch) -> tuple[range, range] | None:
    """Return where N and K lie."""
    grid = workgroups(dispatch)
    if grid is None or dispatch.workgroup is None:
        return None
    block, *others = dispatch.workgroup
    if block not in _BLOCKS or others != [1, 1]:
        return None
    return block_range(grid[0], block * _COLUMNS_A_THREAD), block_range(grid[2], block)


def block_range(blocks: int, size: int) -> range:
    """Return the lengths that take ``blocks`` blocks of ``size``."""
    return range((blocks - 1) * size + 1, blocks * size + 1)


def contradiction(dispatch: Dispatch, served: ServedModel) -> str | None:
    """Say why a fused product cannot be one of ``served``: other bits, or no layer that fits its launch.

    Models with experts, or with layers that are not known here, contradict nothing.
    """
    name = short_name(dispatch.raw_name)
    kernel, ranges = _NAME.fullmatch(name), launch_ranges(dispatch)
    if kernel is None or not served.linears_complete or served.experts:
        return None
    bits = served.quantization.bits if served.quantization else 16
    if bits is not None and bits != int(kernel[1]):
        return f"{name} ran, the model has {bits}-bit weights"
    layers = [*served.linears, *([served.lm_head] if served.lm_head else [])]
    if ranges is None or any(each.n in ranges[0] and each.k in ranges[1] for each in layers):
        return None
    n, k = ((each.start, each.stop - 1) for each in ranges)
    return f"{name} ran with N of {n[0]} to {n[1]} and K of {k[0]} to {k[1]}, which no layer of the model has"


@dataclass(frozen=True)
class Weights:
    """One layer's packed weights, and how they were found."""

    n: int
    k: int
    groups: int
    group_size: int
    act_order: bool
    how: str


def weights(
    dispatch: Dispatch, served: ServedModel | None, bits: int, ranges: tuple[range, range]
) -> Weights | None:
    """Return the weights with N and K in ``ranges``: the operator's, else the served model's only one."""
    return _from_operator(dispatch, bits, ranges) or _from_served(dispatch, served, bits, ranges)


def operator_rows(dispatch: Dispatch) -> int | None:
    """Return M of the operator ``gptq_gemm(a, ..)``, whose dispatches may be several."""
    if not OPERATOR.match(dispatch.operator or "") or not dispatch.operands:
        return None
    dims = dispatch.operands[0].dims
    return dims[0] if len(dims) == 2 and dims[0] else None


def _from_operator(dispatch: Dispatch, bits: int, ranges: tuple[range, range]) -> Weights | None:
    """Read K, N and the groups off the inputs of ``gptq_gemm(a, qweight, qzeros, scales, g_idx, ..)``."""
    if not OPERATOR.match(dispatch.operator or "") or len(dispatch.operands) < 5:
        return None
    a, packed, _, scales, index = dispatch.operands[:5]
    if dtype_of(a) != "fp16" or not len(a.dims) == len(packed.dims) == len(scales.dims) == 2:
        return None
    k, n, groups = a.dims[1], packed.dims[1], scales.dims[0]
    if n not in ranges[0] or k not in ranges[1] or packed.dims[0] * 32 != k * bits:
        return None
    if not groups or scales.dims[1] != n:
        return None
    act_order = index.dims == (k,)
    return Weights(n, k, groups, -(-k // groups), act_order, f"shapes of {dispatch.operator}")


def _from_served(
    dispatch: Dispatch, served: ServedModel | None, bits: int, ranges: tuple[range, range]
) -> Weights | None:
    placed = dispatch.layer
    quantization = served.quantization if served else None
    if served is None or quantization is None or not served.linears_complete or quantization.bits != bits:
        return None
    layers = (placed,) if placed else served.linears
    fits = [each for each in layers if each.n in ranges[0] and each.k in ranges[1]]
    groups = quantization.groups(fits[0].k) if fits else None
    if groups is None or len({(each.n, each.k) for each in fits}) != 1:
        return None
    layer = fits[0]
    if _all_scales(dispatch, served, layer):
        groups = quantization.groups(layer.k * served.tp) or groups
    size = quantization.group_size or 0
    how = f"the only layer of the served model that fits: {layer.name}"
    how = by_place(layer) if placed else how
    return Weights(layer.n, layer.k, groups, size if size > 0 else layer.k, quantization.act_order, how)


def _all_scales(dispatch: Dispatch, served: ServedModel, layer: Linear) -> bool:
    """Whether a rank that has part of K keeps the scales of all of it: with act-order, any may be asked for.

    vLLM (model_executor/layers/quantization/gptq.py) leaves exllama for such layers.
    """
    ordered = served.quantization is not None and served.quantization.act_order and served.tp > 1
    exllama = "exllama" in dispatch.raw_name or _NAME.fullmatch(short_name(dispatch.raw_name)) is not None
    return ordered and not exllama and any(each in layer.name for each in ("o_proj", "down_proj"))


MODEL = GptqModel()
