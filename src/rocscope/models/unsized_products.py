"""Products of a decode step whose shapes are not recorded: FLOPs a byte at most, by the tokens of the step.

A weight of ``b`` bytes that is read from memory multiplies at most as many rows as the step has tokens: every
one in a dense layer, those routed to it in an expert. That is ``2 * rows / b`` FLOPs a byte, whatever the
layer's size; activations only add bytes. Rows are counted with a graph's padding and with the tokens of other
ranks, which experts may serve too. Steps with a prompt are left out, as an encoder's rows are not tokens.

Dtypes are in the names: Tensile's ``Cijk_.._BBS_..`` (first letter, the inputs' type) and those of
triton_kernels' ``_matmul_ogs_<layout>_<out>x<activations>x<weights>_<tile>``.
"""

from __future__ import annotations

import re
from typing import Final

from rocscope.kernel_names import short_name
from rocscope.models.model import Dispatch, Estimate
from rocscope.models.served import ServedModel

_TENSILE: Final = re.compile(r"^(?:Custom_)?Cijk_A\w{3}_B\w{3}_([BH])[BHS]S?_")
_MATRIX: Final = re.compile(r"_MI\d+x\d+")
_EXPERTS: Final = re.compile(r"^_p?_?matmul_ogs_[NT]+_(?:fp16|bf16|fp32)x(fp16|bf16)x(mxfp4|fp16|bf16)_\d")
_BITS: Final = {"mxfp4": 4.25, "fp16": 16.0, "bf16": 16.0}  # MX formats: a scale of 8 bits for 32 values
_LETTERS: Final = {"B": "bf16", "H": "fp16"}


class UnsizedProductsModel:
    """The most FLOPs a byte that the product can do."""

    name = "unsized-products"  # after the models of sizes
    help = "products of decode steps without recorded shapes: operations a byte by the tokens of the step"
    families = ("gemm", "moe")

    def estimate(self, dispatch: Dispatch, served: ServedModel | None) -> Estimate | None:
        """Return the limit where the step's tokens and the weights' dtype are known, else ``None``."""
        rows, name = dispatch.step_rows_limit, short_name(dispatch.raw_name)
        if rows is None or dispatch.step_phase != "decode":
            return None
        experts, tensile = _EXPERTS.match(name), _TENSILE.match(name)
        if experts:
            dtype, weights = experts[1], experts[2]
        elif tensile and _MATRIX.search(name):
            dtype = weights = _LETTERS[tensile[1]]
        else:
            return None
        limit = 2.0 * rows * 8 / _BITS[weights]
        return Estimate(
            flops_unit=f"matrix_{dtype}",
            intensity_limit=limit,
            source=f"each {weights} weight serves at most {rows:.4g} rows in this step of "
            f"{dispatch.step_tokens:.4g} tokens ({dispatch.step_context_source}); the layer's size is not "
            "recorded",
        )


MODEL = UnsizedProductsModel()
