"""Which points of a chart carry a name, and on which side: no label covers a point or another label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

_LETTER_PX: Final = 6.6
_HALF_LINE_PX: Final = 9
TRIED: Final = 40  # further spots are small, and nobody looks for their names

Box = tuple[float, float, float, float]  # left, top, right, bottom, px
Places = dict[int, tuple[str, str]]  # label and side of each spot that has one


@dataclass(frozen=True)
class Spot:
    """A point on the screen that asks for a label, px."""

    x: float
    y: float
    radius: float
    labels: tuple[str, ...]  # from the fullest to the shortest


def places(spots: Sequence[Spot], width: float, limit: int, taken: Sequence[Box] = ()) -> Places:
    """Return label and Plotly's ``textposition`` of up to ``limit`` spots, none on ``taken``."""
    boxes = [(s.x - s.radius, s.y - s.radius, s.x + s.radius, s.y + s.radius) for s in spots]
    taken = list(taken)
    chosen: Places = {}
    for index, spot in enumerate(spots[:TRIED]):
        if len(chosen) == limit:
            break
        others = [*taken, *boxes[:index], *boxes[index + 1 :]]
        for label, side, box in _choices(spot):
            inside = box[0] > 0 and box[1] > 0 and box[2] < width
            if inside and not any(overlap(box, other) for other in others):
                chosen[index] = (label, side)
                taken.append(box)
                break
    return chosen


def beside(x: float, y: float, text: str, *, above: bool) -> Box:
    """Return the box of a text that ends above and left of a point, or begins below and right of it."""
    wide, tall = _LETTER_PX * len(text) + 4, 2 * _HALF_LINE_PX
    return (x - wide, y - tall, x, y) if above else (x, y, x + wide, y + tall)


def _choices(spot: Spot) -> list[tuple[str, str, Box]]:
    return [(label, side, box) for label in spot.labels for side, box in _sides(spot, label)]


def _sides(spot: Spot, label: str) -> list[tuple[str, Box]]:
    wide = _LETTER_PX * len(label) + 8
    top, bottom = spot.y - _HALF_LINE_PX, spot.y + _HALF_LINE_PX
    right, left, half = spot.x + spot.radius, spot.x - spot.radius, wide / 2
    above, below = spot.y - spot.radius - 2 * _HALF_LINE_PX, spot.y + spot.radius
    return [
        ("middle right", (right, top, right + wide, bottom)),
        ("middle left", (left - wide, top, left, bottom)),
        ("top center", (spot.x - half, above, spot.x + half, above + 2 * _HALF_LINE_PX)),
        ("bottom center", (spot.x - half, below, spot.x + half, below + 2 * _HALF_LINE_PX)),
    ]


def overlap(one: Box, other: Box) -> bool:
    """Return whether two boxes share any area."""
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
