"""How pictures are compared, without a browser."""

import pytest
import screens
from PIL import Image, ImageDraw


def drawn(shift: int = 0, height: int = 600, bars: int = 5, colour: str = "#0072b2") -> Image.Image:
    """A page with bars and lines of small print."""
    picture = Image.new("RGB", (1440, height), "#fbfbfa")
    pen = ImageDraw.Draw(picture)
    for bar in range(bars):
        pen.rectangle((100, 60 + 100 * bar + shift, 900 - 120 * bar, 100 + 100 * bar + shift), fill=colour)
        for word in range(40):
            x = 100 + 30 * word
            pen.rectangle((x, 120 + 100 * bar + shift, x + 18, 128 + 100 * bar + shift), "#333")
    return picture


def test_the_same_picture_is_the_same() -> None:
    assert screens.compare(drawn(), screens.small(drawn())).same


@pytest.mark.parametrize("other", [drawn(shift=1), drawn(height=604)])
def test_a_pixel_makes_no_difference(other: Image.Image) -> None:
    assert screens.compare(other, screens.small(drawn())).same


@pytest.mark.parametrize(
    "other", [drawn(bars=4), drawn(colour="#666f7a"), drawn(shift=40), drawn(height=660), drawn(bars=0)]
)
def test_a_missing_moved_or_recoloured_part_does(other: Image.Image) -> None:
    assert not screens.compare(other, screens.small(drawn())).same


def test_what_differs_is_shown_beside_what_was_expected() -> None:
    sheet = screens.side_by_side(drawn(bars=4), screens.small(drawn()))
    assert sheet.width > 3 * 2 * 240
