"""A Plotly figure as plain data, so that a report needs no plotting library to be written."""

from __future__ import annotations

import html
import json
from dataclasses import dataclass, field
from typing import Any

from rocscope.reports.page import for_script
from rocscope.reports.text import shorten
from rocscope.untrusted import visible

LABEL_PX = 11


@dataclass
class Figure:
    """Traces and layout as Plotly.js takes them. Text in them must have gone through :func:`inert`."""

    layout: dict[str, Any]
    data: list[dict[str, Any]] = field(default_factory=list)

    def line(self, x: list[Any], y: list[Any], **more: Any) -> None:
        """Add a line through the points; ``None`` breaks it."""
        self.data.append({"type": "scatter", "mode": "lines", "x": x, "y": y, "showlegend": False, **more})

    def points(self, x: list[Any], y: list[Any], **more: Any) -> None:
        """Add points."""
        mark = {"type": "scatter", "mode": "markers", "x": x, "y": y, "showlegend": False}
        self.data.append({**mark, **more})

    def note(self, x: float, y: float, text: str, **more: Any) -> None:
        """Write ``text`` at a point of the axes."""
        note = {"x": x, "y": y, "text": inert(text), "showarrow": False, "font": {"size": LABEL_PX}, **more}
        self.layout.setdefault("annotations", []).append(note)

    def json(self) -> str:
        """Return the figure as JSON that is safe inside ``<script>``."""
        whole = {"data": self.data, "layout": self.layout}
        return for_script(json.dumps(whole, ensure_ascii=False, separators=(",", ":"), allow_nan=False))


def inert(text: str, width: int = 200) -> str:
    """Make text of a recording safe in a chart: Plotly obeys some tags and entities of HTML."""
    return html.escape(shorten(visible(text), width), quote=False)


def lines(sentences: list[str]) -> str:
    """Join lines for a hover label, each made inert."""
    return "<br>".join(inert(each) for each in sentences)
