"""vLLM's AWQ products in Triton: fused with split-K, or the weights written out before a dense product.

Source: vLLM model_executor/layers/quantization/awq_triton.py. ``awq_gemm_kernel``: grid in workgroups
(ceil(M / 32) * ceil(N / 32), S), S a power of two (8 as vLLM calls it); each of the S writes partial sums
[M, N] in 16 bit, which another kernel adds up after a third has zeroed them. ``awq_dequantize_kernel``: grid
(ceil(N / 8 / 32), ceil(K / 32)); a decoder that was recorded here launches it the other way round. Weights
are [K, N / 8] words, zero points [G, N / 8], scales [G, N] of 16 bit.
"""

from __future__ import annotations

from typing import Final

from rocscope.kernel_names import short_name
from rocscope.models.model import Dispatch, Estimate
from rocscope.models.served import Linear, ServedModel
from rocscope.models.shapes import SERVED_DTYPES, by_place, counted, gemm_shape, packed_gemm_bytes, workgroups

_BITS: Final = 4
_TILE: Final = 32
_WORD: Final = 8  # weights in an int32
_MOST_PARTS: Final = 32
_FUSED: Final = "awq_gemm_kernel"
_WRITTEN_OUT: Final = "awq_dequantize_kernel"


class AwqModel:
    """Least bytes: weights, scales and zeros once, activations in, partial sums or 16-bit weights out."""

    name = "awq"
    help = "AWQ in Triton: shapes from the launch, the served model and the order of a step"
    families = ("awq_gemm", "dequant")

    def estimate(self, dispatch: Dispatch, served: ServedModel | None) -> Estimate | None:
        """Return shape, bytes and FLOPs where all are certain."""
        name = short_name(dispatch.raw_name)
        if served is None or served.quantization is None or served.quantization.bits != _BITS:
            return None
        if name == _FUSED:
            return _fused(dispatch, served)
        return _written_out(dispatch, served) if name == _WRITTEN_OUT else None


def fits(dispatch: Dispatch, layer: Linear, m: int | None) -> bool | None:
    """Return whether a fused launch can be this product; ``None`` for other kernels."""
    grid = workgroups(dispatch)
    if short_name(dispatch.raw_name) != _FUSED or grid is None:
        return None
    columns = -(-layer.n // _TILE)
    parts = grid[1]
    rows_fit = grid[0] % columns == 0 if m is None else grid[0] == -(-m // _TILE) * columns
    return rows_fit and 0 < parts <= _MOST_PARTS and parts & (parts - 1) == 0


def dequantise_ranges(dispatch: Dispatch, *, turned: bool = False) -> tuple[range, range] | None:
    """Return where N and K lie, of a kernel that writes AWQ weights out."""
    grid = workgroups(dispatch)
    if short_name(dispatch.raw_name) != _WRITTEN_OUT or grid is None or grid[2] != 1:
        return None
    x, y = (grid[1], grid[0]) if turned else (grid[0], grid[1])
    block = _TILE * _WORD
    return range((x - 1) * block + 1, x * block + 1), range((y - 1) * _TILE + 1, y * _TILE + 1)


def _fused(dispatch: Dispatch, served: ServedModel) -> Estimate | None:
    layer, m, grid = dispatch.layer, dispatch.layer_m, workgroups(dispatch)
    dtype = SERVED_DTYPES.get(served.dtype or "")
    if layer is None or m is None or grid is None or dtype not in ("fp16", "bf16"):
        return None
    groups = served.quantization.groups(layer.k) if served.quantization else None
    if groups is None or served.quantization is None or not fits(dispatch, layer, m):
        return None
    n, k, parts = layer.n, layer.k, grid[1]
    size = packed_gemm_bytes(m, n, k, _BITS, groups, out_bytes=2 * parts)
    return Estimate(
        bytes=size,
        flops=2.0 * m * n * k,
        flops_unit=f"matrix_{dtype}",
        problem_shape=gemm_shape(m, n, k, dtype, group_size=served.quantization.group_rows(k), bits=_BITS),
        source=f"M={m}, N={n}, K={k} ({by_place(layer)}): weights, scales and zeros of "
        f"{counted(groups, 'group')} and "
        f"activations once, {counted(parts, 'partial sum')} out",
    )


def _written_out(dispatch: Dispatch, served: ServedModel) -> Estimate | None:
    quantization = served.quantization
    layers = (dispatch.layer,) if dispatch.layer else served.linears
    found = {
        (each.n, each.k)
        for each in layers
        for turned in (False, True)
        if (ranges := dequantise_ranges(dispatch, turned=turned))
        and each.n in ranges[0]
        and each.k in ranges[1]
    }
    if len(found) != 1 or quantization is None or not served.linears_complete:
        return None
    n, k = found.pop()
    groups = quantization.groups(k)
    if groups is None:
        return None
    how = by_place(dispatch.layer) if dispatch.layer else "the only layer of the served model that fits"
    shape = {"n": n, "k": k, "dtype": SERVED_DTYPES.get(served.dtype or "")}
    return Estimate(
        bytes=k * n / 2 + 2 * groups * n + groups * n / 2 + 2 * k * n,
        flops=2.0 * n * k,
        flops_unit="vector_fp16",
        problem_shape=shape | {"group_size": quantization.group_rows(k), "bits": _BITS},
        source=f"N={n}, K={k} ({how}): 4-bit weights of {counted(groups, 'group')} read, written out as 16 "
        "bit",
    )


MODEL = AwqModel()
