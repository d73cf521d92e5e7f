"""Layer norms of PyTorch, from the shapes of the operator.

Bytes: rows read and written, weight and bias once, a 32-bit mean and deviation a row. FLOPs: eight an element
(mean, squared deviation, scale and shift).
"""

from __future__ import annotations

from typing import Final

from rocscope.kernel_names import short_name
from rocscope.models.model import Dispatch, Estimate
from rocscope.models.served import ServedModel
from rocscope.models.shapes import FLOATS, counted, dtype_of, element_bytes, elements, tensors

_FLOPS: Final = 8


class LayerNormModel:
    """The one kernel that does a whole layer norm; PyTorch's others share it out."""

    name = "layernorm"
    help = "layer norms with recorded operator shapes"
    families = ("layernorm",)

    def estimate(self, dispatch: Dispatch, served: ServedModel | None) -> Estimate | None:
        """Return bytes and FLOPs for ``aten::native_layer_norm``, else ``None``."""
        given = tensors(dispatch)
        if short_name(dispatch.raw_name) != "vectorized_layer_norm_kernel" or len(given) < 1:
            return None
        if dispatch.operator != "aten::native_layer_norm" or dtype_of(given[0]) not in FLOATS:
            return None
        rows, size = given[0], element_bytes(given[0]) or 0
        count = elements(rows)
        weights = [each for each in given[1:3] if each.dims]
        if not rows.dims or not count or any(each.dims != weights[0].dims for each in weights):
            return None
        length = elements(weights[0]) if weights else rows.dims[-1]
        if not length or count % length:
            return None
        return Estimate(
            bytes=float(2 * count * size + len(weights) * length * size + 8 * (count // length)),
            flops=float(_FLOPS * count),
            flops_unit="vector_fp32",
            problem_shape={"rows": count // length, "length": length, "dtype": dtype_of(rows)},
            source=f"{counted(count // length, 'row')} of {length} {rows.dtype} (shapes of "
            "aten::native_layer_norm), "
            "read and written once",
        )


MODEL = LayerNormModel()
