"""Triton products of 16-bit activations with 4-bit weights.

* ``triton_w4a16_gemm_kernel`` (vLLM 0.32 kernels/linear/mixed_precision/triton_w4a16.py): grid
  (ceil(M / BM), ceil(N / BN)), BM, BN = 32, 64 for M <= 32, 64, 64 for M <= 64, else 128, 128. The launch
  tells neither M nor K: the shape comes from the operator's operands ([M, K] activations, [K, N / 8] words,
  [G, N] scales), else from the order of a step. Symmetric weights have no zero points.
* ``gptq_w4a16_gemm_kernel`` (the recorded decoder's, for several rows): grid (ceil(N / BN), ceil(M / BM)),
  a tile of 128 by 128 for 256 threads, and of 64 or 128 columns by at most 64 rows for 128. ``tl.dot``.
* ``gptq_w4a16_gemv_strided_kernel`` and ``gptq_w4a16_gemv_kernel`` (the recorded decoder's): one row. The
  first has a workgroup a column, the second one for 256 columns and adds 32-bit partial sums, with
  workgroups along y that share K. K is taken from the served model where just one layer has that N.
"""

from __future__ import annotations

from typing import Final

from rocscope.kernel_names import short_name
from rocscope.models.model import Dispatch, Estimate
from rocscope.models.served import Linear, ServedModel
from rocscope.models.shapes import (
    DTYPES,
    SERVED_DTYPES,
    by_place,
    counted,
    dtype_of,
    gemm_shape,
    packed_gemm_bytes,
    workgroups,
)

_BITS: Final = 4
_COLUMNS: Final = {"gptq_w4a16_gemv_strided_kernel": 1, "gptq_w4a16_gemv_kernel": 256}  # a workgroup
_OUT_BYTES: Final = {"gptq_w4a16_gemv_strided_kernel": 2, "gptq_w4a16_gemv_kernel": 4}
_ZERO_BITS: Final = 16  # the decoder keeps zero points as 16-bit numbers
_WORD: Final = 8  # weights in an int32
_VLLM: Final = "triton_w4a16_gemm_kernel"
_SEVERAL_ROWS: Final = "gptq_w4a16_gemm_kernel"


class W4A16Model:
    """Least bytes of the product, each datum once, and its 2*M*N*K operations.

    vLLM's kernel multiplies in ``tl.dot``, so the matrix unit; the one-row kernels with vector FMA in 32 bit.
    """

    name = "w4a16"
    help = "Triton 4-bit products: shapes from the operator, the launch, or the order of a step"
    families = ("gptq_gemm",)

    def estimate(self, dispatch: Dispatch, served: ServedModel | None) -> Estimate | None:
        """Return shape, bytes and FLOPs where all are certain."""
        name = short_name(dispatch.raw_name)
        if name == _VLLM:
            zeros = served is not None and served.quantization is not None and served.quantization.zero_points
            return _from_operator(dispatch) or _placed(dispatch, served, _BITS if zeros else 0)
        if name == _SEVERAL_ROWS:
            return _placed(dispatch, served, _ZERO_BITS)
        if name in _COLUMNS:
            return _one_row(dispatch, served, name)
        return None


def fits(dispatch: Dispatch, layer: Linear, m: int | None) -> bool | None:
    """Return whether a launch can be this product; ``None`` for kernels that are not of this module."""
    name, grid = short_name(dispatch.raw_name), workgroups(dispatch)
    if grid is None:
        return None
    if name in _COLUMNS:
        return -(-layer.n // _COLUMNS[name]) == grid[0] and m in (None, 1)
    if name == _VLLM:
        return grid == _tiles(m, layer.n) if m else any(grid[1] == -(-layer.n // each) for each in (64, 128))
    if name == _SEVERAL_ROWS and dispatch.workgroup is not None:
        wide = dispatch.workgroup[0] == 256
        rows, columns = (128, (128,)) if wide else (64, (64, 128))
        in_rows = m is None or (grid[1] == -(-m // rows) if wide else grid[1] >= -(-m // rows))
        return in_rows and any(grid[0] == -(-layer.n // each) for each in columns)
    return None


def contradiction(dispatch: Dispatch, served: ServedModel) -> str | None:
    """Say why a one-row product cannot be one of ``served``, as :func:`gptq.contradiction` does."""
    name, grid = short_name(dispatch.raw_name), workgroups(dispatch)
    if name not in _COLUMNS or grid is None or not served.linears_complete or served.experts:
        return None
    bits = served.quantization.bits if served.quantization else 16
    if bits is not None and bits != _BITS:
        return f"{name} ran, the model has {bits}-bit weights"
    columns = _COLUMNS[name]
    if any(-(-each.n // columns) == grid[0] for each in served.linears):
        return None
    least, most = (grid[0] - 1) * columns + 1, grid[0] * columns
    span = str(most) if least == most else f"{least} to {most}"
    return f"{name} ran with N of {span}, which no layer of the model has"


def _tiles(m: int, n: int) -> tuple[int, int, int]:
    rows, columns = (32, 64) if m <= 32 else (64, 64) if m <= 64 else (128, 128)
    return -(-m // rows), -(-n // columns), 1


def _from_operator(dispatch: Dispatch) -> Estimate | None:
    if len(dispatch.operands) < 3:
        return None
    a, weights, scales = dispatch.operands[:3]
    if dtype_of(a) not in ("fp16", "bf16") or DTYPES.get(weights.dtype, ("", 0))[0] != "int32":
        return None
    if not len(a.dims) == len(weights.dims) == len(scales.dims) == 2 or dtype_of(scales) != dtype_of(a):
        return None
    (m, k), n, groups = a.dims, weights.dims[1] * _WORD, scales.dims[0]
    if (
        weights.dims[0] != k
        or scales.dims[1] != n
        or not m
        or not groups
        or workgroups(dispatch) != _tiles(m, n)
    ):
        return None
    zeros = [each for each in dispatch.operands[3:] if each.dims == (groups, n // _WORD)]
    size = packed_gemm_bytes(m, n, k, _BITS, groups, zero_bits=_BITS if zeros else 0)
    dtype = dtype_of(a) or ""
    return Estimate(
        bytes=size,
        flops=2.0 * m * n * k,
        flops_unit=f"matrix_{dtype}",
        problem_shape=gemm_shape(m, n, k, dtype, group_size=-(-k // groups), bits=_BITS),
        source=f"M={m}, N={n}, K={k}, {counted(groups, 'group')} (shapes of {dispatch.operator}); each "
        "datum once",
    )


def _one_row(dispatch: Dispatch, served: ServedModel | None, name: str) -> Estimate | None:
    quantization = served.quantization if served else None
    grid = workgroups(dispatch)
    if served is None or quantization is None or not served.linears_complete:
        return None
    if grid is None and dispatch.layer is None:
        return None
    dtype = SERVED_DTYPES.get(served.dtype or "")
    if quantization.bits != _BITS or dtype not in ("fp16", "bf16"):
        return None
    columns = _COLUMNS[name]
    layers = (dispatch.layer,) if dispatch.layer else served.linears
    found = {(each.n, each.k) for each in layers if grid is None or -(-each.n // columns) == grid[0]}
    if len(found) != 1:
        return None
    n, k = found.pop()
    how = by_place(dispatch.layer) if dispatch.layer else "the only layer that fits"
    groups = quantization.groups(k)
    if groups is None:
        return None
    size = packed_gemm_bytes(1, n, k, _BITS, groups, zero_bits=_ZERO_BITS, out_bytes=_OUT_BYTES[name])
    return Estimate(
        bytes=size,
        flops=2.0 * n * k,
        flops_unit="vector_fp32",
        problem_shape=gemm_shape(1, n, k, dtype, group_size=quantization.group_rows(k), bits=_BITS),
        source=f"M=1 by the kernel, N={n}, K={k}: {how}; each datum once",
    )


def _placed(dispatch: Dispatch, served: ServedModel | None, zero_bits: int) -> Estimate | None:
    """Return a product whose N and K its place tells, M by the other kernels of the step."""
    layer, m = dispatch.layer, dispatch.layer_m
    quantization = served.quantization if served else None
    if served is None or quantization is None or layer is None or m is None or quantization.bits != _BITS:
        return None
    groups, dtype = quantization.groups(layer.k), SERVED_DTYPES.get(served.dtype or "")
    if groups is None or dtype not in ("fp16", "bf16") or fits(dispatch, layer, m) is False:
        return None
    n, k = layer.n, layer.k
    return Estimate(
        bytes=packed_gemm_bytes(m, n, k, _BITS, groups, zero_bits=zero_bits),
        flops=2.0 * m * n * k,
        flops_unit=f"matrix_{dtype}",
        problem_shape=gemm_shape(m, n, k, dtype, group_size=quantization.group_rows(k), bits=_BITS),
        source=f"M={m} by the step's other launches, N={n}, K={k} ({by_place(layer)}); "
        f"{counted(groups, 'group')}, "
        "each datum once",
    )


MODEL = W4A16Model()
