"""One colour for each family, the same in every chart and table."""

from __future__ import annotations

import zlib
from typing import Final

# Hues in the manner of Okabe and Ito (distinct to people with colour-blind sight); families of one kind
# share a hue and differ in lightness. Colour is never the only sign: every mark carries its name as well.
COLOURS: Final = {
    "gptq_gemm": "#0072b2",
    "awq_gemm": "#3a93c8",
    "gguf_gemm": "#6fb1d9",
    "bnb_gemm": "#00527f",
    "gemm": "#56b4e9",
    "moe": "#1c4e80",
    "dequant": "#a63d00",
    "quantize": "#d55e00",
    "attention": "#e69f00",
    "ssm": "#b37b00",
    "conv": "#f0c566",
    "rmsnorm": "#009e73",
    "layernorm": "#3dbb97",
    "rope": "#00694d",
    "activation": "#7fcfb5",
    "kv_cache": "#cc79a7",
    "communication": "#a3386f",
    "sampling": "#7a5195",
    "embedding": "#b08fc7",
    "memcpy": "#8c8c8c",
    "elementwise": "#b8a100",
    "reduction": "#8a7a1f",
    "other": "#666f7a",
}
_SPARE: Final = ("#6a4c93", "#4f6d7a", "#9c6644", "#588157", "#b56576")


def colour(family: str) -> str:
    """Return the colour of ``family`` as ``#rrggbb``; a family not listed always gets the same one too."""
    return COLOURS.get(family) or _SPARE[zlib.crc32(family.encode("utf-8", "replace")) % len(_SPARE)]


def ink(background: str) -> str:
    """Return black or white, whichever reads better on ``#rrggbb``; the contrast is 4.5 or more.

    Relative luminance and contrast as WCAG 2 defines them: the two are equally readable at 0.179.
    """
    return "#000000" if luminance(background) > 0.179 else "#ffffff"


def luminance(colour: str) -> float:
    """Return the relative luminance of ``#rrggbb``, 0 to 1."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
