"""The roofline as a Plotly figure; colours of text and grid are the page's business (dark or light)."""

from __future__ import annotations

import html
import math
import textwrap
from collections import defaultdict
from typing import Any, Final

from rocscope.findings import Analysis, GpuSummary, KernelFinding
from rocscope.reports import figures, summary
from rocscope.reports.palette import colour
from rocscope.reports.text import shorten
from rocscope.untrusted import visible

MAX_POINTS: Final = 400
MAX_NAMED: Final = 4
_LARGEST_POINT_PX: Final = 34
_SMALLEST_POINT_PX: Final = 7
_CHART_PX: Final = (1030, 460)  # the plot on a desktop; labels are left out on narrow screens
_SLOPE_FRAC: Final = 0.05  # of kernel time, for a line of its own
_ABOVE: Final = 2.5  # times the highest roof, for its label
_WIDEST: Final = 1e-2  # FLOP/B at the left edge where no kernel has a place
_SAME_ROOF: Final = 0.02  # a ridge this near to that of a pipe is that pipe's


def roofline_json(analysis: Analysis) -> str | None:
    """Return the roofline as JSON safe inside ``<script>``, or ``None`` where there is nothing to draw."""
    points, slopes = roofline_points(analysis), roofline_slopes(analysis)
    gpus = [gpu for gpu in analysis.gpus if gpu.peak_bandwidth_bytes_per_s and gpu.peak_flops_per_s]
    if not (points or slopes) or not gpus:
        return None
    import plotly.graph_objects as go

    figure = go.Figure(layout=_layout())
    low, high = _span(points, gpus)
    bottom, top = _height(points, gpus)
    figure.update_xaxes(range=[math.log10(low), math.log10(high)])
    figure.update_yaxes(range=[math.log10(bottom), math.log10(top)])
    for gpu in _models(gpus):
        _add_roofs(figure, gpu, points, low, high)
    for kernel in slopes:
        _add_slope(figure, kernel, low, top / _ABOVE)
    frame = (math.log10(low), math.log10(high), math.log10(bottom), math.log10(top))
    if points:
        _add_points(figure, points, _named(points, frame))
    return for_script(figure.to_json())


def for_script(text: str) -> str:
    """Make JSON safe inside a ``<script>`` element: no ``<``, so neither an end tag nor a comment."""
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def roofline_points(analysis: Analysis) -> list[KernelFinding]:
    """Return the kernels that have a place on a roofline (bytes, FLOPs and a time), by time."""
    placed = [k for k in analysis.kernels if k.intensity_flop_per_byte and achieved_flops(k)]
    return sorted(placed, key=lambda kernel: -(kernel.time_s or 0.0))[:MAX_POINTS]


def roofline_slopes(analysis: Analysis) -> list[KernelFinding]:
    """Return the longest kernels whose bytes were measured and whose FLOPs nobody counted, by time.

    They lie somewhere on the line of their bandwidth; on gfx908, which counts no FLOPs, most kernels do.
    """
    found = [
        k
        for k in analysis.kernels
        if k.bytes_per_dispatch.basis == "measured"
        and k.flops_per_dispatch.value is None
        and k.achieved_bandwidth_bytes_per_s
        and (k.time_frac or 0.0) >= _SLOPE_FRAC
    ]
    return sorted(found, key=lambda kernel: -(kernel.time_s or 0.0))[:MAX_NAMED]


def achieved_flops(kernel: KernelFinding) -> float | None:
    """Return FLOP/s: FLOPs of a dispatch over its mean time."""
    if not kernel.flops_per_dispatch.value or not kernel.mean_ns:
        return None
    return kernel.flops_per_dispatch.value / (kernel.mean_ns / 1e9)


def _layout() -> dict[str, Any]:
    axis = {"type": "log", "exponentformat": "SI", "dtick": 1, "showline": True, "zeroline": False}
    return {
        "xaxis": {**axis, "title": {"text": "arithmetic intensity, FLOP/B"}},
        "yaxis": {**axis, "title": {"text": "achieved, FLOP/s"}},
        "hovermode": "closest",
        "legend": {"orientation": "h", "y": -0.18, "x": 0, "itemsizing": "constant"},
        "margin": {"l": 64, "r": 16, "t": 16, "b": 64},
        "hoverlabel": {"align": "left"},
        "template": "none",
    }


def _models(gpus: list[GpuSummary]) -> list[GpuSummary]:
    """Keep one GPU of each set of roofs: eight of a kind share theirs."""
    found = {
        (g.model, g.peak_bandwidth_bytes_per_s, g.achievable_bandwidth_bytes_per_s): g for g in reversed(gpus)
    }
    return list(found.values())[::-1]


def _span(points: list[KernelFinding], gpus: list[GpuSummary]) -> tuple[float, float]:
    intensities = [k.intensity_flop_per_byte for k in points if k.intensity_flop_per_byte]
    ridges = [max(g.peak_flops_per_s.values()) / (g.peak_bandwidth_bytes_per_s or 1.0) for g in gpus]
    return min(intensities) / 2.5 if intensities else _WIDEST, max([*intensities, *ridges]) * 4


def _height(points: list[KernelFinding], gpus: list[GpuSummary]) -> tuple[float, float]:
    """Return the range of FLOP/s: from below the lowest point to above the roofs, so that labels fit."""
    reached = [rate for k in points if (rate := achieved_flops(k))]
    peaks = [max(_pipes(gpu, points).values()) for gpu in gpus]
    slope = min(gpu.peak_bandwidth_bytes_per_s or 1.0 for gpu in gpus) * _WIDEST
    return min(reached) / 3 if reached else slope / 10, max([*reached, *peaks]) * _ABOVE


Box = tuple[float, float, float, float]  # left, top, right, bottom


def _named(points: list[KernelFinding], frame: tuple[float, float, float, float]) -> dict[int, str]:
    """Choose which points carry their name and on which side, longest first, so that none overlap."""
    left, right, bottom, top = frame
    longest = max((k.time_s or 0.0) for k in points) or 1.0
    spots: list[Box] = []
    for kernel in points:
        x = (math.log10(kernel.intensity_flop_per_byte or 1.0) - left) / (right - left) * _CHART_PX[0]
        y = (top - math.log10(achieved_flops(kernel) or 1.0)) / (top - bottom) * _CHART_PX[1]
        r = _point_px(kernel, longest) / 2
        spots.append((x - r, y - r, x + r, y + r))
    taken: list[Box] = []
    chosen: dict[int, str] = {}
    for index, kernel in enumerate(points[: 3 * MAX_NAMED]):
        spot = spots[index]
        width, middle = 6.5 * len(_label(kernel)) + 8, (spot[1] + spot[3]) / 2
        for side, start in (("middle right", spot[2]), ("middle left", spot[0] - width)):
            box = (start, middle - 9, start + width, middle + 9)
            inside = box[0] > 0 and box[2] < _CHART_PX[0]
            others = [*taken, *spots[:index], *spots[index + 1 :]]
            if inside and len(chosen) < MAX_NAMED and not any(_overlap(box, other) for other in others):
                chosen[index] = side
                taken.append(box)
                break
    return chosen


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _add_roofs(figure: Any, gpu: GpuSummary, points: list[KernelFinding], low: float, high: float) -> None:
    bandwidths = [(gpu.peak_bandwidth_bytes_per_s, "datasheet", "solid")]
    if gpu.achievable_bandwidth_bytes_per_s:
        bandwidths.append((gpu.achievable_bandwidth_bytes_per_s, "achievable", "dash"))
    pipes = _pipes(gpu, points)
    top = max(pipes.values())
    name = visible(gpu.model or "GPU")
    for bandwidth, kind, dash in bandwidths:
        if not bandwidth:
            continue
        label = f"{name} memory, {kind}: {figures.rate_bytes(bandwidth)}"
        _line(figure, [low, top / bandwidth], [low * bandwidth, top], label, dash)
        beside = top / bandwidth / 3  # on the slope, short of the ridge
        above = kind == "datasheet"
        _note(figure, beside, beside * bandwidth, f"{kind} {figures.rate_bytes(bandwidth)}", above=above)
    for pipe, peak in pipes.items():
        start = peak / (gpu.peak_bandwidth_bytes_per_s or 1.0)
        label = f"{name} {pipe.replace('_', ' ')}, datasheet: {figures.rate_flops(peak)}"
        _line(figure, [start, high], [peak, peak], label, "solid")
        _note(figure, high, peak, f"{pipe.replace('_', ' ')} {figures.rate_flops(peak)}", above=True)


def _add_slope(figure: Any, kernel: KernelFinding, low: float, top: float) -> None:
    """Draw where a kernel of known bandwidth and unknown FLOPs may lie."""
    rate = kernel.achieved_bandwidth_bytes_per_s or 1.0
    label = f"{_label(kernel)}: {figures.rate_bytes(rate)}, FLOPs not counted"
    _line(figure, [low, top / rate], [low * rate, top], label, "dot")
    beside = math.sqrt(low * top / rate)
    _note(figure, beside, beside * rate, label, above=False)


def _note(figure: Any, x: float, y: float, text: str, *, above: bool) -> None:
    """Write ``text`` at a point: to its left and above, or to its right and below."""
    anchors = ("right", "bottom") if above else ("left", "top")
    figure.add_annotation(
        x=math.log10(x), y=math.log10(y), xanchor=anchors[0], yanchor=anchors[1], showarrow=False,
        text=html.escape(text), font={"size": 11},
    )  # fmt: skip


def _pipes(gpu: GpuSummary, points: list[KernelFinding]) -> dict[str, float]:
    """Return the compute roofs that the kernels are held against; all of them where that cannot be told."""
    ridges = {k.ridge_flop_per_byte for k in points if k.ridge_flop_per_byte and k.gpu == gpu.gpu}
    bandwidths = [
        b for b in (gpu.peak_bandwidth_bytes_per_s, gpu.achievable_bandwidth_bytes_per_s) if b is not None
    ]
    used = {
        pipe: peak
        for pipe, peak in gpu.peak_flops_per_s.items()
        if any(abs(ridge * b / peak - 1) < _SAME_ROOF for ridge in ridges for b in bandwidths)
    }
    merged: dict[float, list[str]] = defaultdict(list)  # pipes of one speed share a line
    for pipe, peak in (used or gpu.peak_flops_per_s).items():
        merged[peak].append(pipe)
    return {" and ".join(names[:2]): peak for peak, names in merged.items()}


def _line(figure: Any, x: list[float], y: list[float], label: str, dash: str) -> None:
    figure.add_scatter(
        x=x, y=y, mode="lines", line={"width": 2 if dash == "solid" else 1.5, "dash": dash},
        hoverinfo="text", text=html.escape(label), showlegend=False, meta="roof",
    )  # fmt: skip


def _add_points(figure: Any, points: list[KernelFinding], named: dict[int, str]) -> None:
    longest = max((k.time_s or 0.0) for k in points) or 1.0
    families: dict[str, list[tuple[int, KernelFinding]]] = defaultdict(list)
    for index, kernel in enumerate(points):
        families[kernel.family].append((index, kernel))
    for family, members in families.items():
        figure.add_scatter(
            x=[k.intensity_flop_per_byte for _, k in members],
            y=[achieved_flops(k) for _, k in members],
            mode="markers+text",
            name=html.escape(shorten(visible(family), 24)),
            marker={
                "color": colour(family),
                "opacity": 0.85,
                "size": [_point_px(k, longest) for _, k in members],
                "line": {"width": 1, "color": "#ffffff"},
            },
            text=[html.escape(_label(k)) if i in named else "" for i, k in members],
            textposition=[named.get(i, "middle right") for i, _ in members],
            textfont={"size": 11},
            hovertext=[_hover(k) for _, k in members],
            hoverinfo="text",
            meta="kernels",
        )


def _label(kernel: KernelFinding) -> str:
    shape = kernel.problem_shape or {}
    detail = next((f" {key}={shape[key]}" for key in ("N", "n") if key in shape), "")
    return shorten(visible(kernel.kernel), 28) + shorten(visible(detail), 12)


def _point_px(kernel: KernelFinding, longest: float) -> float:
    """Return a diameter whose area goes with time."""
    return max(_SMALLEST_POINT_PX, _LARGEST_POINT_PX * math.sqrt((kernel.time_s or 0.0) / longest))


def _hover(kernel: KernelFinding) -> str:
    lines = [
        shorten(visible(kernel.kernel), 70),
        visible(summary.shape(kernel)),
        f"{figures.seconds(kernel.time_s)} in {figures.count(kernel.dispatches)} dispatches, "
        f"mean {figures.nanoseconds(kernel.mean_ns)}, {figures.percent(kernel.time_frac)} of kernel time",
        f"{figures.intensity(kernel.intensity_flop_per_byte)}, {figures.rate_flops(achieved_flops(kernel))}, "
        f"{figures.percent(kernel.bandwidth_frac)} of bandwidth",
        f"bound {kernel.bound}, limiter {kernel.limiter}, confidence {kernel.confidence}",
    ]
    for sentence in kernel.evidence[:3]:
        lines += textwrap.wrap(visible(sentence), 70)[:3]
    return "<br>".join(html.escape(line, quote=False) for line in lines)
