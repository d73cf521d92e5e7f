"""The window on one axis: GPUs busy by family, pauses, phases, throttling, and what sensors read."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import Any, Final

from rocscope.findings import Timeline, TimelineLane, TimelineSeries, TimelineSpan
from rocscope.reports import figures
from rocscope.reports.charts.figure import Figure, inert, lines
from rocscope.reports.palette import colour, ink
from rocscope.reports.text import shorten
from rocscope.untrusted import visible

LANE_PX: Final = 96
SERIES_PX: Final = 76
STRIP_PX: Final = 26
GAP_PX: Final = 30  # between rows, with room for a row's title
AXIS_PX: Final = 80  # margins above and below the rows
MAX_GAPS: Final = 200  # drawn
MAX_STRIPS: Final = 400
MAX_FAMILIES: Final = 12  # of a lane; the rest is one more
_TALL_FRAC: Final = 0.2  # of the lane, for a family to be named on its area
_PLOT_PX: Final = 1000  # on a desktop; on a phone nothing is named on its area
_LETTER_PX: Final = 6.6
_UNITS: Final = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))
_PHASE_SHADES: Final = {"prefill": "#8d99a6", "decode": "#c3cbd3", "mixed": "#a8b2bd"}
_SERIES: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a5195", "#8c8c8c")
_FROM_ZERO: Final = ("W", "Hz", "tokens/s", "")
THROTTLED: Final = "#d55e00"


@dataclass(frozen=True)
class Row:
    """A strip of the chart with a y axis of its own, from top to bottom."""

    title: str
    height_px: int
    axis: int  # 1 is "y", 2 is "y2"
    bottom: float = 0.0  # of the plot's height
    top: float = 0.0

    @property
    def name(self) -> str:
        """Return what traces call the axis."""
        return "y" if self.axis == 1 else f"y{self.axis}"


def figure(timeline: Timeline) -> Figure | None:
    """Return the chart, or ``None`` of an empty window. The axis is in the unit that suits its length."""
    if timeline.span_s <= 0 or not (timeline.lanes or timeline.series):
        return None
    per_unit, unit = next(((s, u) for s, u in _UNITS if timeline.span_s >= s), _UNITS[-1])
    series = _grouped(timeline.series)
    phases = [span for span in timeline.spans if span.kind == "phase"]
    rows = _rows(timeline, phases, series)
    drawn = Figure(_layout(rows, timeline.span_s / per_unit, unit))
    chart = _Chart(drawn, timeline, per_unit)
    remaining = iter(rows)
    if phases:
        chart.phases(next(remaining), phases)
    for lane in timeline.lanes:
        chart.lane(next(remaining), lane)
    for group in series.values():
        chart.series(next(remaining), group)
    chart.throttled([span for span in timeline.spans if span.kind == "throttled"])
    return drawn


def height_px(timeline: Timeline) -> int:
    """Return how tall the chart is."""
    phases = any(span.kind == "phase" for span in timeline.spans)
    count = len(timeline.lanes) + len(_grouped(timeline.series))
    tall = len(timeline.lanes) * LANE_PX + len(_grouped(timeline.series)) * SERIES_PX
    return tall + phases * STRIP_PX + (count + phases) * GAP_PX + AXIS_PX


def _grouped(series: list[TimelineSeries]) -> dict[tuple[str, str], list[TimelineSeries]]:
    """Put one sensor of all GPUs on one row; a series without a reading is left out."""
    found: dict[tuple[str, str], list[TimelineSeries]] = defaultdict(list)
    for each in series:
        if any(value is not None for value in each.value):
            found[(each.name, each.unit)].append(each)
    return found


def _rows(
    timeline: Timeline, phases: list[TimelineSpan], series: dict[tuple[str, str], list[TimelineSeries]]
) -> list[Row]:
    titles = [("phase", STRIP_PX)] if phases else []
    titles += [(f"{lane.label}, busy", LANE_PX) for lane in timeline.lanes]
    titles += [(name, SERIES_PX) for name, _ in series]
    plot = sum(tall + GAP_PX for _, tall in titles)
    rows, edge = [], float(plot)
    for number, (title, tall) in enumerate(titles, 1):
        edge -= GAP_PX
        rows.append(Row(title, tall, number, (edge - tall) / plot, edge / plot))
        edge -= tall
    return rows


def _layout(rows: list[Row], span: float, unit: str) -> dict[str, Any]:
    layout: dict[str, Any] = {
        "hovermode": "closest",
        "showlegend": False,
        "dragmode": "zoom",
        "annotations": [],
        "shapes": [],
        "xaxis": {
            "range": [0, span], "title": {"text": f"time in the window, {unit}", "standoff": 8},
            "zeroline": False, "anchor": rows[-1].name, "minallowed": -0.02 * span, "maxallowed": 1.02 * span,
        },
    }  # fmt: skip
    for row in rows:
        layout[f"yaxis{row.axis if row.axis > 1 else ''}"] = {
            "domain": [round(max(row.bottom, 0.0), 5), round(row.top, 5)], "fixedrange": True,
            "zeroline": False, "nticks": 3,
        }  # fmt: skip
        layout["annotations"].append(
            {
                "xref": "paper", "yref": "paper", "x": 0, "y": row.top, "xanchor": "left",
                "yanchor": "bottom", "text": inert(row.title, 60), "showarrow": False, "font": {"size": 12},
                "name": "row",
            }
        )  # fmt: skip
    return layout


def _scale(unit: str) -> tuple[float, str]:
    return (1e6, "MHz") if unit == "Hz" else (1.0, unit)


@dataclass(frozen=True)
class _Chart:
    """Draws rows of one timeline."""

    drawn: Figure
    timeline: Timeline
    per_unit: float  # seconds of a unit of the axis

    def at(self, seconds: float) -> float:
        return round(seconds / self.per_unit, 6)

    def phases(self, row: Row, spans: list[TimelineSpan]) -> None:
        """Draw a strip of phases, each named where it is long enough."""
        self._axis(row, range=[0, 1], visible=False)
        wide = self.timeline.span_s * 0.06
        for span in sorted(spans, key=lambda s: s.start_s - s.end_s)[:MAX_STRIPS]:
            shade = _PHASE_SHADES.get(span.name, "#b5bdc6")
            self._box(span, row.name, shade, 1.0)
            middle = (span.start_s + span.end_s) / 2
            self._hover(middle, 0.5, row.name, _phase_words(span))
            if span.end_s - span.start_s >= wide:
                self.drawn.note(
                    self.at(middle), 0.5, shorten(visible(span.name), 16), yref=row.name, name="on",
                    font={"size": 11, "color": ink(shade)},
                )  # fmt: skip

    def lane(self, row: Row, lane: TimelineLane) -> None:
        """Draw how busy a GPU was, its families one upon another, and its pauses under them."""
        self._axis(
            row, range=[-0.14, 1.02], tickvals=[0, 0.5, 1], ticktext=["0", "50 %", "100 %"], hoverformat=".1%"
        )
        width = self.timeline.bin_s / self.per_unit
        below = [0.0] * len(lane.busy_frac)
        for family in lane.families[:MAX_FAMILIES]:
            y = [round(value, 3) for value in family.busy_frac]
            self.drawn.data.append(
                {
                    "type": "scatter", "mode": "lines", "x0": 0, "dx": width, "y": [*y, y[-1] if y else 0],
                    "stackgroup": row.name, "yaxis": row.name, "line": {"width": 0, "shape": "hv"},
                    "fillcolor": colour(family.family), "name": inert(f"{lane.label}, {family.family}", 60),
                    "hoverinfo": "name+y", "hoveron": "points", "showlegend": False, "meta": "lane",
                }
            )  # fmt: skip
            self._name(row, family.family, y, below)
            below = [a + b for a, b in zip(below, y, strict=False)]
        self._gaps(row, lane)

    def _name(self, row: Row, family: str, y: list[float], below: list[float]) -> None:
        """Write a family's name on its area, in its longest stretch that is tall enough, if it fits."""
        text = shorten(visible(family), 20)
        tall, floor = _smooth(y), _smooth(below)
        length, start = _longest([value >= _TALL_FRAC for value in tall])
        if length * self.timeline.bin_s / self.timeline.span_s < (len(text) * _LETTER_PX + 8) / _PLOT_PX:
            return
        middle = start + length // 2
        self.drawn.note(
            self.at((middle + 0.5) * self.timeline.bin_s), round(floor[middle] + tall[middle] / 2, 3), text,
            yref=row.name, name="on", font={"size": 11, "color": ink(colour(family))},
            bgcolor=colour(family), borderpad=1,
        )  # fmt: skip

    def _gaps(self, row: Row, lane: TimelineLane) -> None:
        gaps = [gap for gap in self.timeline.gaps if gap.gpu == lane.gpu][:MAX_GAPS]
        if not gaps:
            return
        x: list[Any] = []
        for gap in sorted(gaps, key=lambda each: each.start_s):
            x += [self.at(gap.start_s), self.at(gap.start_s + gap.duration_s), None]
        y = [None if each is None else -0.08 for each in x]
        self.drawn.line(x, y, yaxis=row.name, line={"width": 4}, hoverinfo="skip", meta="gap")
        for gap in gaps:
            words = [f"{lane.label}: pause of {figures.seconds(gap.duration_s)}", *_during(gap.during)]
            self._hover(gap.start_s + gap.duration_s / 2, -0.08, row.name, words)
        longest = gaps[0]
        if longest.duration_s >= 0.08 * self.timeline.span_s:
            middle = self.at(longest.start_s + longest.duration_s / 2)
            text = f"pause {figures.seconds(longest.duration_s)}"
            self.drawn.note(middle, 0.1, text, yref=row.name, name="gap")

    def series(self, row: Row, group: list[TimelineSeries]) -> None:
        """Draw a sensor of each GPU, the GPU named at the line's end."""
        factor, unit = _scale(group[0].unit)
        self._axis(
            row, range=_range(group, factor), ticksuffix=inert(f" {unit}".rstrip(), 16), hoverformat=".3~r"
        )  # fmt: skip
        for each in group:
            shade = _SERIES[(each.gpu or 0) % len(_SERIES)]
            who = "" if each.gpu is None else f"GPU {each.gpu}"
            values = [None if v is None else round(v / factor, 4) for v in each.value]
            self.drawn.line(
                [self.at(t) for t in each.time_s], values, yaxis=row.name, connectgaps=False,
                line={"width": 1.5, "color": shade}, hoverinfo="name+y", meta="series",
                name=inert(f"{who} {each.name}".strip(), 60),
            )  # fmt: skip
        if len(group) > 1:
            self._ends(row, group, factor)

    def _ends(self, row: Row, group: list[TimelineSeries], factor: float) -> None:
        """Name the GPUs at the ends of their lines, apart from each other."""
        ends = []
        for each in group:
            index = max(i for i, value in enumerate(each.value) if value is not None)
            ends.append(((each.value[index] or 0.0) / factor, each.time_s[index], each.gpu))
        low, high = _range(group, factor)
        apart = min(11.0, SERIES_PX / len(ends))
        lowest = -math.inf
        for value, seconds, gpu in sorted(ends, key=lambda end: end[0]):
            height = (value - low) / (high - low) * SERIES_PX
            placed = max(height, lowest + apart)
            lowest = placed
            self.drawn.note(
                self.at(seconds), value, f"GPU {gpu}", yref=row.name, xanchor="left", name="end",
                font={"size": 10}, yshift=round(placed - height, 1),
            )  # fmt: skip

    def throttled(self, spans: list[TimelineSpan]) -> None:
        """Shade the whole height where a GPU was throttled, and say at the top why."""
        for index, span in enumerate(sorted(spans, key=lambda s: s.start_s - s.end_s)[:MAX_STRIPS]):
            self._box(span, "paper", THROTTLED, 0.14)
            if index == 0:
                who = "" if span.gpu is None else f"GPU {span.gpu} "
                words = shorten(visible(f"{who}throttled: {span.name}"), 44)
                middle = self.at((span.start_s + span.end_s) / 2)
                self.drawn.note(middle, 1, words, yref="paper", yanchor="bottom", name="throttled")

    def _box(self, span: TimelineSpan, yref: str, shade: str, opacity: float) -> None:
        self.drawn.layout["shapes"].append(
            {
                "type": "rect", "xref": "x", "yref": yref, "x0": self.at(span.start_s),
                "x1": self.at(span.end_s), "y0": 0, "y1": 1, "fillcolor": shade, "opacity": opacity,
                "line": {"width": 0}, "layer": "below",
            }
        )  # fmt: skip

    def _hover(self, seconds: float, y: float, axis: str, words: list[str]) -> None:
        """Put words at a place where nothing is drawn that could answer to the pointer."""
        found = next((t for t in self.drawn.data if t.get("meta") == "words" and t["yaxis"] == axis), None)
        if found is None:
            self.drawn.points(
                [],
                [],
                yaxis=axis,
                marker={"size": 14, "opacity": 0},
                hoverinfo="text",
                hovertext=[],
                meta="words",
            )
            found = self.drawn.data[-1]
        found["x"].append(self.at(seconds))
        found["y"].append(y)
        found["hovertext"].append(lines(words))

    def _axis(self, row: Row, **settings: Any) -> None:
        self.drawn.layout[f"yaxis{row.axis if row.axis > 1 else ''}"].update(settings)


def _range(group: list[TimelineSeries], factor: float) -> tuple[float, float]:
    """Return the ends of a sensor's axis: from zero where zero means something, never of no height."""
    known = [value / factor for each in group for value in each.value if value is not None]
    low, high = min(known), max(known)
    if group[0].unit in _FROM_ZERO:
        return min(0.0, low), high * 1.08 if high > 0 else 1.0
    room = max(5.0, 0.1 * (high - low))
    return low - room, high + room


def _smooth(values: list[float]) -> list[float]:
    """Return the running mean over a fiftieth of the window, which is what the eye sees."""
    import numpy as np

    wide = max(1, len(values) // 50)
    if not values or wide == 1:
        return values
    weights = np.convolve(np.ones(len(values)), np.ones(wide), mode="same")
    smooth: list[float] = (np.convolve(values, np.ones(wide), mode="same") / weights).tolist()
    return smooth


def _longest(flags: list[bool]) -> tuple[int, int]:
    """Return length and start of the longest run of true."""
    best, start = (0, 0), None
    for index, flag in enumerate([*flags, False]):
        if flag and start is None:
            start = index
        elif not flag and start is not None:
            best = max(best, (index - start, start), key=lambda run: run[0])
            start = None
    return best


def _phase_words(span: TimelineSpan) -> list[str]:
    steps = f", {figures.count(span.steps)} steps" if span.steps else ""
    return [f"{span.name}: {figures.seconds(span.end_s - span.start_s)}{steps}"]


def _during(text: str | None) -> list[str]:
    return [shorten(visible(text), 80)] if text else []
