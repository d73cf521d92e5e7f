"""Pictures of a page against reference pictures: what the layout is, not how its letters are drawn.

A picture is made small and soft, so that another way to smooth letters or a line a pixel lower makes no
difference, and compared tile by tile, so that one missing chart does not vanish in a tall page.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SCALE = 4  # px of the page in one of a reference
COLOURS = 64
SOFT_PX = 1.2
TILE_PX = 8  # of a reference
REACH_PX = 8  # up or down, where a line more or less above moved what follows
MOST_MEAN = 4.0  # difference of 255 levels, over the whole
MOST_TILE = 32.0  # and of the worst tile
MOST_TALLER = 0.06


@dataclass(frozen=True)
class Difference:
    """How far a picture is from its reference, in levels of 255."""

    mean: float
    worst: float
    taller_frac: float

    @property
    def same(self) -> bool:
        """Whether it is the same layout."""
        return self.mean <= MOST_MEAN and self.worst <= MOST_TILE and self.taller_frac <= MOST_TALLER


def small(picture: Any) -> Any:
    """Return the picture as references are stored: small, in few colours."""
    from PIL import Image

    width, height = max(1, picture.width // SCALE), max(1, picture.height // SCALE)
    reduced = picture.convert("RGB").resize((width, height), Image.Resampling.BOX)
    return reduced.quantize(COLOURS, dither=Image.Dither.NONE)


def compare(picture: Any, reference: Any) -> Difference:
    """Hold a picture of a page against a reference made by :func:`small`.

    Of each tile of the reference the nearest place in the picture counts, a little up or down.
    """
    now, known = _soft(small(picture)), _soft(reference)
    worst = [
        _apart(now, known, x, y)
        for y in range(0, len(known), TILE_PX)
        for x in range(0, known.shape[1], TILE_PX)
    ]
    return Difference(float(np.mean(worst)), max(worst), abs(len(now) - len(known)) / len(known))


def _soft(picture: Any) -> NDArray[np.float32]:
    from PIL import ImageFilter

    return np.asarray(picture.convert("RGB").filter(ImageFilter.GaussianBlur(SOFT_PX)), dtype=np.float32)


def _apart(now: NDArray[np.float32], known: NDArray[np.float32], x: int, y: int) -> float:
    tile = known[y : y + TILE_PX, x : x + TILE_PX]
    moved = round(y * len(now) / len(known))  # where it lies if all lines are a little taller
    found = [255.0]
    for top in range(max(0, min(y, moved) - REACH_PX), max(y, moved) + REACH_PX + 1):
        other = now[top : top + len(tile), x : x + TILE_PX]
        if other.shape == tile.shape:
            found.append(float(np.abs(other - tile).max(axis=2).mean()))
    return min(found)


def side_by_side(picture: Any, reference: Any) -> Any:
    """Return the reference, the picture and their difference beside each other, for a person to look at."""
    from PIL import Image, ImageChops

    now, known = small(picture).convert("RGB"), reference.convert("RGB")
    fitted = now.resize(known.size)
    apart = ImageChops.invert(ImageChops.difference(fitted, known))
    sheet = Image.new("RGB", (3 * known.width + 20, max(known.height, now.height)), "#888888")
    for index, each in enumerate((known, now, apart)):
        sheet.paste(each, (index * (known.width + 10), 0))
    return sheet.resize((sheet.width * 2, sheet.height * 2))


def save(picture: Any, path: Path) -> None:
    """Write a picture, not larger than it must be; a rare colour stays what it is."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    if picture.mode != "P":
        method, plain = Image.Quantize.MAXCOVERAGE, Image.Dither.NONE
        picture = picture.convert("RGB").quantize(256, method=method, dither=plain)
    picture.save(path, optimize=True)
