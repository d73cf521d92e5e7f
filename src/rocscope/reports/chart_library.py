"""The script that draws charts: the small build put into the package, else the one inside PyPI's plotly."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Final

from rocscope.errors import RocscopeError

_VERSION: Final = re.compile(r"plotly\.js[^\n]*?v(\d+\.\d+\.\d+)")


@dataclass(frozen=True)
class ChartLibrary:
    """The script, as it goes into a page."""

    script: str
    version: str  # of plotly.js, "" where it does not say
    small: bool  # with lines and bars only

    def words(self) -> str:
        """Say which one it is and how large."""
        kind = "lines and bars only" if self.small else "whole, since the small one was not fetched"
        return f"plotly.js {self.version} ({kind}), {len(self.script) / 1e6:.2f} MB in each report"


@cache
def library() -> ChartLibrary:
    """Return the smallest one that is there. Raises :class:`RocscopeError` where there is none."""
    places = (_packaged(), True), (resources.files("plotly").joinpath("package_data", "plotly.min.js"), False)
    for place, small in places:
        if place.is_file():
            script = place.read_text(encoding="utf-8")
            version = _VERSION.search(script[:500])
            clean = script.replace("\r\n", "\n").replace("</script", "<\\/script")
            return ChartLibrary(clean, version[1] if version else "", small)
    raise RocscopeError("no chart library for the HTML report", "pip install --force-reinstall plotly")


def _packaged() -> Traversable:
    """Return where hatch_build.py puts the small one."""
    return resources.files("rocscope.reports").joinpath("library", "plotly-basic.min.js")


if __name__ == "__main__":
    print(f"charts: {library().words()}")
