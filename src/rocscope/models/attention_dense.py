"""Attention of PyTorch over whole queries, keys and values, from the shapes of the operator.

Bytes: queries, keys, values and output once each. FLOPs: four for each (query, key) pair that counts, head
and dimension; a language model that is served masks what lies ahead, so that a prompt alone has
``n * (n + 1) / 2`` pairs. Without one, whether the mask is causal is not recorded, and FLOPs are not given.
"""

from __future__ import annotations

import math
import re
from typing import Final

from rocscope.kernel_names import short_name
from rocscope.models.model import Dispatch, Estimate
from rocscope.models.served import ServedModel
from rocscope.models.shapes import ELEMENT_BYTES, dtype_of, tensors

_LAYOUTS: Final = {  # where (heads, tokens) are in [batch, .., .., head_dim]
    "aten::_cudnn_attention_forward": (1, 2),
    "aten::_scaled_dot_product_flash_attention": (1, 2),
    "aten::_flash_attention_forward": (2, 1),
    "aten::_efficient_attention_forward": (2, 1),
}
_NAME: Final = re.compile(r"_sdpa_\w*fprop|(^|_)flash_fwd_kernel|(^|_)fmha_(cutlass)?[fF]|FmhaFwd|^attn_fwd$")


class DenseAttentionModel:
    """One dispatch of the operator does the attention of all heads."""

    name = "attention-dense"
    help = "PyTorch's attention: shapes of the operator"
    families = ("attention",)

    def estimate(self, dispatch: Dispatch, served: ServedModel | None) -> Estimate | None:
        """Return bytes, and FLOPs where it is known which pairs count."""
        layout, given = _LAYOUTS.get(dispatch.operator or ""), tensors(dispatch)[:3]
        name = short_name(dispatch.raw_name)
        if layout is None or len(given) != 3 or not (_NAME.search(name) or _NAME.search(dispatch.raw_name)):
            return None
        query, key, value = given
        dtype = dtype_of(query)
        if dtype is None or any(len(each.dims) != 4 or dtype_of(each) != dtype for each in given):
            return None
        heads, tokens = (query.dims[place] for place in layout)
        batch, width, keys = query.dims[0], query.dims[3], key.dims[layout[1]]
        sizes = [math.prod(each.dims) for each in given]
        if 0 in sizes or heads % key.dims[layout[0]] or key.dims != value.dims or key.dims[0] != batch:
            return None
        pairs = _pairs(tokens, keys, served)
        masked = "" if pairs == tokens * keys else ", causal half"
        return Estimate(
            bytes=float((2 * sizes[0] + sizes[1] + sizes[2]) * ELEMENT_BYTES[dtype]),
            flops=None if pairs is None else 4.0 * batch * heads * width * pairs,
            flops_unit=None if pairs is None else f"matrix_{dtype}",
            problem_shape={
                "batch": batch,
                "tokens": tokens,
                "keys": keys,
                "heads": heads,
                "kv_heads": key.dims[layout[0]],
                "head_dim": width,
                "dtype": dtype,
            },
            source=f"{batch} x {tokens} queries on {keys} keys of {heads} heads of {width} {dtype} "
            f"(shapes of {dispatch.operator}{masked}): queries, keys, values and output once each",
        )


def _pairs(tokens: int, keys: int, served: ServedModel | None) -> float | None:
    if tokens == 1:
        return keys
    return tokens * (tokens + 1) / 2 if served is not None and tokens == keys else None


MODEL = DenseAttentionModel()
