"""vLLM's products for few rows on ROCm: ``LLGemm1_kernel`` (one row) and ``wvSplitK`` (up to a few).

Source: vLLM csrc/rocm/skinny_gemms.cu. LLGemm1<T, r>: N / r workgroups, K / 8 threads in whole waves (at
least 16 * r); packed 16-bit FMA. wvSplitK<T, 64, Y, W, C, U, M>: M is the last template argument, workgroups
are persistent, one a CU, so N and K come from elsewhere; 16-bit dot products, for bfloat16 the matrix unit on
MI300 and 32-bit FMA before.
"""

from __future__ import annotations

import re
from typing import Final

from rocscope.kernel_names import short_name
from rocscope.models.model import Dispatch
from rocscope.models.shapes import workgroups

_ROWS: Final = re.compile(r"LLGemm1_kernel<[^<>]*,\s*(\d{1,2})>")
_SPLIT: Final = re.compile(r"wvSplitK_hf\w*<[^<>]*,\s*(\d{1,2})>")
_WAVE: Final = 64
_A_THREAD: Final = 8  # 16-bit numbers of a row of weights
_MATRIX_BF16: Final = ("gfx942", "gfx950")


def ranges(dispatch: Dispatch) -> tuple[range, range] | None:
    """Return where N and K lie, ``None`` for kernels whose launch does not tell."""
    found, grid = _ROWS.search(dispatch.raw_name), workgroups(dispatch)
    if found is None or grid is None or dispatch.workgroup is None or not 0 < int(found[1]) <= 16:
        return None
    rows, threads = int(found[1]), dispatch.workgroup[0]
    n = range(grid[0] * rows, (grid[0] + 1) * rows)
    least = 1 if threads <= max(_WAVE, 16 * rows) else (threads - _WAVE) * _A_THREAD + 1
    return n, range(least, threads * _A_THREAD + 1)


def rows_of(dispatch: Dispatch) -> int | None:
    """Return M where the kernel says it."""
    if short_name(dispatch.raw_name) == "LLGemm1_kernel":
        return 1
    found = _SPLIT.search(dispatch.raw_name)
    return int(found[1]) if found and int(found[1]) else None


def unit(dispatch: Dispatch, dtype: str) -> str | None:
    """Return the pipe that multiplies, ``None`` for other kernels or where it is not known."""
    name = short_name(dispatch.raw_name)
    if name == "LLGemm1_kernel":
        return "vector_fp16" if dtype == "fp16" else None
    if not name.startswith("wvSplitK_hf"):
        return None
    if dtype == "fp16":
        return "vector_fp16"
    if dispatch.gpu is None:
        return None
    return "matrix_bf16" if dispatch.gpu.arch in _MATRIX_BF16 else "vector_fp32"
