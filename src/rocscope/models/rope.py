"""Rotary embedding of queries and keys (vLLM csrc/pos_encoding_kernels.cu).

A workgroup rotates one token, so that the launch tells the tokens exactly. Bytes: the rotated part of queries
and keys read and written, ``2 * tokens * (heads + kv_heads) * rotary_dim * b``, a row of cosines and sines a
token and its position (64 bit). FLOPs: four multiplications and two additions for each pair of elements, in
32 bit.
"""

from __future__ import annotations

import math
from typing import Final

from rocscope.kernel_names import short_name
from rocscope.models.model import Dispatch, Estimate
from rocscope.models.served import ServedModel
from rocscope.models.shapes import ELEMENT_BYTES, SERVED_DTYPES, counted, dtype_of, tensors, workgroups

_KERNELS: Final = ("rotary_embedding_kernel", "batched_rotary_embedding_kernel")
_OPERATOR: Final = "_C::rotary_embedding"
_MOST_THREADS: Final = 512
_FLOPS: Final = 3  # an element
_POSITION_BYTES: Final = 8


class RopeModel:
    """Queries and keys rotated in place."""

    name = "rope"
    help = "rotary embedding: tokens from the launch, heads from the operator or the served model"
    families = ("rope",)

    def estimate(self, dispatch: Dispatch, served: ServedModel | None) -> Estimate | None:
        """Return bytes and FLOPs where tokens, heads and rotated dimensions are known."""
        if short_name(dispatch.raw_name) not in _KERNELS:
            return None
        told = dispatch.operator == _OPERATOR
        found = _from_operator(dispatch, served) if told else _from_launch(dispatch, served)
        if found is None:
            return None
        tokens, width, rotary, dtype, how = found
        size = ELEMENT_BYTES[dtype]
        return Estimate(
            bytes=float(2 * tokens * width * size + tokens * (rotary * size + _POSITION_BYTES)),
            flops=float(_FLOPS * tokens * width),
            flops_unit="vector_fp32",
            problem_shape={"tokens": tokens, "width": width, "rotary_dim": rotary, "dtype": dtype},
            source=f"{counted(tokens, 'token')}, {width} {dtype} each of queries and keys to rotate "
            f"({how}): read and "
            "written, with a row of cosines and sines",
        )


def _from_operator(dispatch: Dispatch, served: ServedModel | None) -> tuple[int, int, int, str, str] | None:
    """Read ``rotary_embedding(positions, query, key, head_size, cos_sin_cache, ..)``."""
    given = tensors(dispatch)
    if len(given) != 4:
        return None
    positions, query, key, cache = given
    tokens, dtype, rotary = math.prod(positions.dims), dtype_of(query), cache.dims[-1] if cache.dims else 0
    if dtype is None or not tokens or not rotary or dtype_of(key) != dtype:
        return None
    sizes, grid = [math.prod(each.dims) for each in (query, key)], workgroups(dispatch)
    if any(size % (tokens * rotary) for size in sizes) or (grid is not None and grid[0] != tokens):
        return None
    head = _head(dispatch, served, sizes[0] // tokens, rotary)
    if head is None or head < rotary:
        return None
    return tokens, sum(sizes) // tokens * rotary // head, rotary, dtype, f"shapes of {_OPERATOR}"


def _head(dispatch: Dispatch, served: ServedModel | None, width: int, rotary: int) -> int | None:
    """Return the elements of a head, of which ``rotary`` are rotated; the operator gives them as a number."""
    if served is not None and served.rotary_dim == rotary and width % served.head_dim == 0:
        return served.head_dim
    threads = _threads(dispatch)
    return rotary if threads is not None and threads == width // 2 < _MOST_THREADS else None


def _from_launch(dispatch: Dispatch, served: ServedModel | None) -> tuple[int, int, int, str, str] | None:
    grid = workgroups(dispatch)
    if served is None or served.rotary_dim is None or grid is None or grid[1:] != (1, 1):
        return None
    dtype = SERVED_DTYPES.get((served.dtype or "").removeprefix("torch."))
    heads, kv_heads = served.rank_heads
    if dtype is None or _threads(dispatch) != min(heads * served.rotary_dim // 2, _MOST_THREADS):
        return None
    width = (heads + kv_heads) * served.rotary_dim
    return grid[0], width, served.rotary_dim, dtype, "a workgroup a token, heads of the served model"


def _threads(dispatch: Dispatch) -> int | None:
    return dispatch.workgroup[0] if dispatch.workgroup else None


MODEL = RopeModel()
