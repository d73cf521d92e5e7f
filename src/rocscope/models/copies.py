"""Copies and fills by the runtime: the bytes that the profiler recorded."""

from __future__ import annotations

import re
from typing import Final

from rocscope.models.model import Dispatch, Estimate
from rocscope.models.served import ServedModel

_WITHIN: Final = re.compile(r"DtoD|Device ?-> ?Device|(?i:device_?to_?device)")
_OVER_LINK: Final = re.compile(
    r"HtoD|DtoH|PtoP|HtoH|(?i:host_?to_?device|device_?to_?host|peer_?to_?peer)"
    r"|(?:Pageable|Pinned) ?->|-> ?(?:Pageable|Pinned)"
)


def over_link(name: str) -> bool:
    """Tell whether a copy of this name goes to or from the host or another GPU."""
    return bool(_OVER_LINK.search(name))


class CopyModel:
    """A copy within the GPU's memory moves each byte twice, a fill once.

    A copy to or from the host or another GPU touches this GPU's memory once a byte and is held back by the
    link. A copy whose bytes or direction were not recorded (``__amd_rocclr_copyBuffer``) stays unknown.
    """

    name = "copies"
    help = "copies and fills: recorded bytes, read and written"
    families = ("memcpy",)

    def estimate(self, dispatch: Dispatch, served: ServedModel | None) -> Estimate | None:
        """Return the bytes moved; 0 FLOPs."""
        size = dispatch.copied_bytes
        if size is None or size <= 0 or dispatch.kind not in ("memcpy", "memset"):
            return None
        if dispatch.kind == "memset":
            return Estimate(float(size), 0.0, source=f"the {size:.0f} bytes recorded, written once")
        if over_link(dispatch.raw_name):
            return Estimate(
                float(size),
                0.0,
                source=f"the {size:.0f} bytes recorded, over the link and once to or from this GPU's memory",
            )
        if _WITHIN.search(dispatch.raw_name):
            return Estimate(2.0 * size, 0.0, source=f"the {size:.0f} bytes recorded, read and written")
        return None


MODEL = CopyModel()
