"""Writing new keys and values to the cache (vLLM csrc/cache_kernels.cu, v1/attention/ops).

A workgroup writes one token. Bytes: keys and values of the token read and written, ``2 * tokens * kv_heads *
head_dim * (b + b_cache)``, and a 64-bit slot a token. No arithmetic but the scaling to FP8, which is not
counted.
"""

from __future__ import annotations

import re
from typing import Final

from rocscope.kernel_names import short_name
from rocscope.models.attention import cached_element_bytes
from rocscope.models.model import Dispatch, Estimate
from rocscope.models.served import ServedModel
from rocscope.models.shapes import ELEMENT_BYTES, SERVED_DTYPES, counted, dtype_of, tensors, workgroups

_NAME: Final = re.compile(r"^reshape_and_cache(_flash)?_kernel(_flash)?$")
_OPERATORS: Final = (
    *("vllm::unified_kv_cache_update", "_C_cache_ops::reshape_and_cache_flash"),
    "_C_cache_ops::reshape_and_cache",
)
_SLOT_BYTES: Final = 8


class KvCacheModel:
    """New keys and values read once and written once."""

    name = "kv_cache"
    help = "writing the cache: tokens from the launch, heads from the operator or the served model"
    families = ("kv_cache",)

    def estimate(self, dispatch: Dispatch, served: ServedModel | None) -> Estimate | None:
        """Return the bytes where tokens and heads are known; 0 FLOPs."""
        if not _NAME.match(short_name(dispatch.raw_name)):
            return None
        found = _from_operator(dispatch) or _from_launch(dispatch, served)
        if found is None:
            return None
        tokens, width, dtype, how = found
        size = ELEMENT_BYTES[dtype]
        cached = cached_element_bytes(dispatch, served, size)
        return Estimate(
            bytes=float(2 * tokens * width * (size + cached) + _SLOT_BYTES * tokens),
            flops=0.0,
            problem_shape={"tokens": tokens, "width": width, "dtype": dtype},
            source=f"keys and values of {counted(tokens, 'token')}, {width} {dtype} each ({how}), read, "
            "and written "
            f"with {cached:g} B an element",
        )


def _from_operator(dispatch: Dispatch) -> tuple[int, int, str, str] | None:
    given = tensors(dispatch)
    if dispatch.operator not in _OPERATORS or len(given) < 2:
        return None
    key, value = given[:2]
    dtype, grid = dtype_of(key), workgroups(dispatch)
    if dtype is None or len(key.dims) != 3 or key.dims != value.dims or 0 in key.dims:
        return None
    tokens = key.dims[0] if grid is None else min(key.dims[0], grid[0])  # a graph's padding is not written
    return tokens, key.dims[1] * key.dims[2], dtype, f"shapes of {dispatch.operator}"


def _from_launch(dispatch: Dispatch, served: ServedModel | None) -> tuple[int, int, str, str] | None:
    """Take the heads from the served model. Latent caches have other kernels, which are not modelled."""
    grid = workgroups(dispatch)
    if served is None or grid is None or grid[1:] != (1, 1) or not served.linears_complete:
        return None
    dtype = SERVED_DTYPES.get((served.dtype or "").removeprefix("torch."))
    width = served.rank_heads[1] * served.head_dim
    if dtype is None or dispatch.workgroup is None or dispatch.workgroup[0] > max(64, width):
        return None
    return grid[0], width, dtype, "a workgroup a token, heads of the served model"


MODEL = KvCacheModel()
