"""Activations quantised to 8 bit for a product, from the operator's operands.

Source: vLLM csrc/quantization/w8a8: ``static_scaled_fp8_quant(out, in, scale)``, ``dynamic_..`` and their
int8 twins. The per-tensor dynamic form runs a reduction before, which is a kernel of its own and not this.
"""

from __future__ import annotations

import re
from typing import Final

from rocscope.kernel_names import short_name
from rocscope.models.model import Dispatch, Estimate
from rocscope.models.served import ServedModel
from rocscope.models.shapes import dtype_of, element_bytes, elements

_OPERATOR: Final = re.compile(r"^_C(_\w+)?::(static|dynamic)(_per_token)?_scaled_(fp8|int8)_quant$")
_KERNEL: Final = re.compile(
    r"(dynamic_per_token_scaled_fp8_quant|scaled_fp8_quant|(static|dynamic)_scaled_int8_quant)_kernel\w*"
)


class QuantizeModel:
    """The input read, the 8-bit output and the scales moved once; one operation an element.

    A kernel that also looks for the largest value has two operations an element.
    """

    name = "quantize"
    help = "activations to 8 bit: input, output and scales of the operator, once each"
    families = ("quantize",)

    def estimate(self, dispatch: Dispatch, served: ServedModel | None) -> Estimate | None:
        """Return bytes and FLOPs where the operator's operands were recorded."""
        name = short_name(dispatch.raw_name)
        if not _OPERATOR.match(dispatch.operator or "") or not _KERNEL.fullmatch(name):
            return None
        if len(dispatch.operands) < 3:
            return None
        out, given, scale = dispatch.operands[:3]
        wide, narrow = element_bytes(given), element_bytes(out)
        if wide is None or narrow != 1 or out.dims != given.dims or not elements(given):
            return None
        count = elements(given)
        scales = elements(scale) * (element_bytes(scale) or 0)
        steps = 2 if "per_token" in name or name.startswith("dynamic_scaled_int8") else 1
        return Estimate(
            bytes=float(count * (wide + narrow) + scales),
            flops=float(count * steps),
            flops_unit="vector_fp32",
            source=f"{list(given.dims)} {dtype_of(given)} to {dtype_of(out)} (shapes of "
            f"{dispatch.operator}), each once",
        )


MODEL = QuantizeModel()
