"""Norms, rotations, activations, reductions, copies and the like of unrecorded sizes: FLOPs a byte at most.

Each reads and writes its elements at least once, with so many operations an element as the models of sizes
count (``rmsnorm``, ``rope``, ``activation``, ``sampling``, ``reduction``). The dtype is in the kernel's name.
"""

from __future__ import annotations

import re
from typing import Final

from rocscope.kernel_names import short_name
from rocscope.models.model import Dispatch, Estimate
from rocscope.models.served import ServedModel
from rocscope.models.shapes import DTYPES

_TYPE: Final = r"<([\w:]{1,40}(?: \w{1,8})?)[,>]"
_NAMED: Final = (  # operations, elements moved, what
    (re.compile(rf"\bfused_add_rms_norm_kernel{_TYPE}"), 5, 4, "normalises with the residual"),
    (re.compile(rf"\brms_norm_kernel{_TYPE}"), 4, 2, "normalises"),
    (re.compile(rf"\brotary_embedding_kernel{_TYPE}"), 3, 2, "rotates"),
    (re.compile(rf"\bact_and_mul_kernel{_TYPE}"), 5, 3, "gates"),
)
_CK_NORM: Final = re.compile(r"Rmsnorm2dFwdPipelineProblemI(DF16b|DF16_)\1")
_CK_BYTES: Final = 2
_SOFTMAX: Final = re.compile(
    r"\bcunn_SoftMaxForward\w*<(?:\d+, ?)?([\w:]{1,40}), ?[\w:]{1,40}, ?([\w:]{1,40})"
)
_SOFTMAX_FLOPS: Final = 5
_REDUCTION: Final = re.compile(
    r"\breduce_kernel<\d+, ?\d+, ?at::native::ReduceOp<([\w:]{1,40}), ?at::native::"
    r"(?:(?:Mean|ArgMax|ArgMin|Max|Min)Ops<|func_wrapper_t<[\w:]{1,40}, ?at::native::sum_functor<)"
)
_REDUCTION_FLOPS: Final = 2  # an element, with the scaling of a mean
_MOVES: Final = (
    (
        re.compile(r"^triton_poi_fused(_(_to_copy|clone|copy_?|constant_pad_nd))+_\d+$"),
        "it copies, pads or casts",
    ),
    (re.compile(r"^reshape_and_cache(_flash)?_kernel(_flash)?$"), "it writes keys and values to the cache"),
    (re.compile(r"^__amd_rocclr_fillBuffer"), "it fills memory"),
)
_LONGEST: Final = 2000  # characters of a name that are looked at


class UnsizedLayersModel:
    """The most FLOPs a byte that the kernel can do."""

    name = "unsized-layers"  # after the models of sizes
    help = "norms, rotations, activations, reductions, copies without recorded shapes: operations a byte"
    families = (
        *("rmsnorm", "rope", "activation", "kv_cache", "elementwise", "sampling", "reduction", "memcpy"),
    )

    def estimate(self, dispatch: Dispatch, served: ServedModel | None) -> Estimate | None:
        """Return the limit for a kernel of the closed list here, else ``None``."""
        name, raw = short_name(dispatch.raw_name), dispatch.raw_name[:_LONGEST]
        for pattern, what in _MOVES:
            if pattern.match(name):
                return _limit(0.0, what)
        if _CK_NORM.search(raw):
            return _limit(5 / (2 * _CK_BYTES), "normalises: 5 operations at most, 2 elements of 2 B at least")
        return _softmax(raw) or _reduction(raw) or _layer(raw)


def _layer(raw: str) -> Estimate | None:
    for pattern, operations, moved, what in _NAMED:
        found = pattern.search(raw)
        if found and found[1] in DTYPES:
            size = DTYPES[found[1]][1]
            why = f"{what}: {operations} operations for {moved} elements of {size} B read or written"
            return _limit(operations / (moved * size), why)
    return None


def _softmax(raw: str) -> Estimate | None:
    found = _SOFTMAX.search(raw)
    if not found or found[1] not in DTYPES or found[2] not in DTYPES:
        return None
    size = DTYPES[found[1]][1] + DTYPES[found[2]][1]
    return _limit(
        _SOFTMAX_FLOPS / size, f"softmax: {_SOFTMAX_FLOPS} operations for {size} B read and written"
    )


def _reduction(raw: str) -> Estimate | None:
    found = _REDUCTION.search(raw)
    if not found or found[1] not in DTYPES:
        return None
    size = DTYPES[found[1]][1]
    return _limit(
        _REDUCTION_FLOPS / size, f"reduces: {_REDUCTION_FLOPS} operations at most for {size} B read"
    )


def _limit(limit: float, why: str) -> Estimate:
    return Estimate(
        flops_unit="vector_fp32",
        intensity_limit=limit,
        source=f"{why}, by its name; how many elements is not recorded",
    )


MODEL = UnsizedLayersModel()
