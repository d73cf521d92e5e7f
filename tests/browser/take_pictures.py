"""Take the pictures of the README: the report of the recording in the examples, on a desktop and on a phone.

usage: take_pictures.py FOLDER
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path

import chromium_page
import screens

import rocscope
from rocscope.reports import html

EXAMPLE = Path(__file__).parents[2] / "examples" / "h200_decoder"
SHOTS = (("report.png", 1440, 1840), ("report-390.png", 390, 1840))  # width and height


def main(folder: Path) -> int:
    """Write the pictures to ``folder``."""
    from PIL import Image

    if lacking := chromium_page.missing():
        print(lacking, file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as place:
        page = Path(place) / "report.html"
        page.write_text(html.REPORT.render(_analysis()), encoding="utf-8")
        with chromium_page.chromium(Path(place)) as driver:
            shown = chromium_page.Page(driver)
            for name, width, height in SHOTS:
                shown.open(page, width=width)
                shown.rule("header.page { position: static !important; }")
                picture = Image.open(io.BytesIO(shown.top(width, height))).convert("RGB")
                screens.save(picture, folder / name)
                print(f"{folder / name}: {(folder / name).stat().st_size / 1000:.0f} kB")
    return 0


def _analysis() -> rocscope.Analysis:
    return rocscope.analyze(
        rocscope.load(EXAMPLE / "kineto_strided_graph.json.gz", EXAMPLE / "decode_telemetry.csv"),
        model=EXAMPLE / "w4_config.json",
        context=2048,
    )


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
