"""Collectives between GPUs: bytes over the link, which have no place under the roof of device memory.

Bytes that one of n GPUs sends (NCCL and RCCL documentation, "bus bandwidth"): ring all-reduce
``2 * (n - 1) / n * size``, all-gather ``(n - 1) * size`` of its own part, reduce-scatter ``(n - 1) / n *
size``, broadcast ``size``. vLLM's one-stage all-reduce has each GPU read the ``size`` of every other (csrc/
custom_all_reduce.cuh); its two-stage one sends as a ring does. ``size`` is the operator's input.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Final

from rocscope.kernel_names import short_name
from rocscope.models.model import Dispatch, Estimate
from rocscope.models.served import ServedModel
from rocscope.models.shapes import ELEMENT_BYTES, dtype_of, element_bytes, elements, tensors

_SHARES: Final[tuple[tuple[re.Pattern[str], str, Callable[[int], float]], ...]] = (
    (re.compile(r"^(nccl|rccl)\w*AllReduce"), "ring all-reduce", lambda n: 2 * (n - 1) / n),
    (re.compile(r"^(nccl|rccl)\w*AllGather"), "all-gather", lambda n: n - 1),
    (re.compile(r"^(nccl|rccl)\w*ReduceScatter"), "reduce-scatter", lambda n: (n - 1) / n),
    (re.compile(r"^(nccl|rccl)\w*Broadcast"), "broadcast", lambda n: 1),
    (re.compile(r"^cross_device_reduce_1stage"), "one-stage all-reduce", lambda n: n - 1),
    (re.compile(r"^cross_device_reduce_2stage"), "two-stage all-reduce", lambda n: 2 * (n - 1) / n),
)
_TYPES: Final = {"f16": "fp16", "bf16": "bf16", "f32": "fp32", "half": "fp16", "float": "fp32"}
_NAMED: Final = re.compile(r"_(bf16|f16|f32|half|float)(?:_|\b)")


class CommunicationModel:
    """What one GPU sends; needs the number of GPUs, which the tensor-parallel size tells."""

    name = "communication"
    help = "collectives: bytes over the link, from the operator's shapes and the tensor-parallel size"
    families = ("communication",)

    def estimate(self, dispatch: Dispatch, served: ServedModel | None) -> Estimate | None:
        """Return the bytes sent where the collective, its size and the GPUs are known; no FLOPs."""
        name = short_name(dispatch.raw_name)
        found = next(((what, share) for pattern, what, share in _SHARES if pattern.search(name)), None)
        size = _payload(dispatch)
        if found is None or size is None or served is None or served.tp < 2:
            return None
        what, share = found
        return Estimate(
            bytes=share(served.tp) * size,
            source=f"{what} of {size:.0f} B (shapes of {dispatch.operator}) over {served.tp} GPUs: sent over "
            "the link by each",
        )


def _payload(dispatch: Dispatch) -> float | None:
    """Return the bytes of the input: one tensor, or a list of one whose dtype the kernel's name tells."""
    given = tensors(dispatch)
    if given and given[0].dims and (size := element_bytes(given[0])) and dtype_of(given[0]):
        return float(elements(given[0]) * size) or None
    parts = dispatch.operands[0].parts if dispatch.operands else ()
    named = _NAMED.search(short_name(dispatch.raw_name))
    if not parts or named is None:
        return None
    return float(sum(math.prod(dims) for dims in parts) * ELEMENT_BYTES[_TYPES[named[1]]]) or None


MODEL = CommunicationModel()
