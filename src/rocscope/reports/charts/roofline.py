"""The roofline: kernels by intensity and rate under the roofs of their GPU."""

from __future__ import annotations

import math
import textwrap
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from rocscope.findings import Analysis, GpuSummary, KernelFinding
from rocscope.reports import figures, summary
from rocscope.reports.charts.figure import Figure, inert, lines
from rocscope.reports.charts.label_places import Box, Places, Spot, beside, overlap, places
from rocscope.reports.palette import colour
from rocscope.reports.text import shorten
from rocscope.untrusted import visible

MAX_POINTS: Final = 400
MAX_NAMED: Final = 7
_LARGEST_POINT_PX: Final = 34
_SMALLEST_POINT_PX: Final = 7
_WIDE_PX: Final = (1030, 460)  # the plot on a desktop
_NARROW_PX: Final = (290, 330)  # and on a phone
_SLOPE_FRAC: Final = 0.05  # of kernel time, for a line of its own
_ABOVE: Final = 2.5  # times the highest roof, for its label
_WIDEST: Final = 1e-2  # FLOP/B at the left edge where no kernel has a place
_NOTE_PARTS: Final = tuple(0.55 + side * step / 50 for step in range(26) for side in (1, -1))  # of a slope
_ROOF_STEP_PX: Final = 8
_ALONG: Final = 24  # parts of a line
_SAME_ROOF: Final = 0.02  # a ridge this near to that of a pipe is that pipe's

Frame = tuple[float, float, float, float]  # left, right, bottom, top, as logarithms


@dataclass(frozen=True)
class _Plot:
    """Where logarithms lie on a screen."""

    frame: Frame
    width_px: int
    height_px: int

    def px(self, x: float, y: float) -> tuple[float, float]:
        """Return where a point of the axes lies."""
        return self.x_px(math.log10(x)), self.y_px(math.log10(y))

    def x_px(self, logarithm: float) -> float:
        left, right, _, _ = self.frame
        return (logarithm - left) / (right - left) * self.width_px

    def y_px(self, logarithm: float) -> float:
        _, _, bottom, top = self.frame
        return (top - logarithm) / (top - bottom) * self.height_px


def figure(analysis: Analysis) -> Figure | None:
    """Return the chart, or ``None`` where there is nothing to draw."""
    points, slopes = roofline_points(analysis), roofline_slopes(analysis)
    gpus = [gpu for gpu in analysis.gpus if gpu.peak_bandwidth_bytes_per_s and gpu.peak_flops_per_s]
    if not (points or slopes) or not gpus:
        return None
    low, high = _span(points, gpus)
    bottom, top = _height(points, gpus)
    frame = (math.log10(low), math.log10(high), math.log10(bottom), math.log10(top))
    drawn = Figure(_layout(frame))
    plot = _Plot(frame, *_WIDE_PX)
    spots = [_box(kernel, plot, _longest(points)) for kernel in points]
    for gpu in _models(gpus):
        _add_roofs(drawn, gpu, points, plot, spots)
    for kernel in slopes:
        _add_slope(drawn, kernel, low, top / _ABOVE)
    if points:
        _add_points(drawn, points, frame)
    _thin_out(drawn, _Plot(frame, *_NARROW_PX))
    return drawn


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
    return sorted(found, key=lambda kernel: -(kernel.time_s or 0.0))[:4]


def unplaced(analysis: Analysis) -> dict[str, Any]:
    """Return how many kernels have no place here, and their share of kernel time."""
    placed = {id(kernel) for kernel in (*roofline_points(analysis), *roofline_slopes(analysis))}
    rest = [kernel for kernel in analysis.kernels if id(kernel) not in placed]
    shares = [kernel.time_frac for kernel in rest if kernel.time_frac is not None]
    return {"count": len(rest), "time_frac": sum(shares) if shares else None}


def achieved_flops(kernel: KernelFinding) -> float | None:
    """Return FLOP/s: FLOPs of a dispatch over its mean time."""
    if not kernel.flops_per_dispatch.value or not kernel.mean_ns:
        return None
    return kernel.flops_per_dispatch.value / (kernel.mean_ns / 1e9)


def _layout(frame: Frame) -> dict[str, Any]:
    return {
        "xaxis": _axis(frame[:2], "arithmetic intensity, FLOP/B"),
        "yaxis": _axis(frame[2:], "achieved, FLOP/s"),
        "hovermode": "closest",
        "showlegend": False,
        "annotations": [],
    }


def _axis(ends: tuple[float, float], title: str) -> dict[str, Any]:
    """Return an axis of decades, written out: Plotly's powers of ten need styles, which no page allows."""
    decades = range(math.ceil(ends[0]), math.floor(ends[1]) + 1)
    return {
        "type": "log", "range": ends, "title": {"text": title}, "showline": True, "zeroline": False,
        "tickvals": [10.0**decade for decade in decades],
        "ticktext": [figures.rounded(10.0**decade) for decade in decades],
    }  # fmt: skip


def _models(gpus: list[GpuSummary]) -> list[GpuSummary]:
    """Keep one GPU of each set of roofs: eight of a kind share theirs."""
    found = {
        (g.model, g.peak_bandwidth_bytes_per_s, g.achievable_bandwidth_bytes_per_s): g for g in reversed(gpus)
    }
    return list(found.values())[::-1]


def _span(points: list[KernelFinding], gpus: list[GpuSummary]) -> tuple[float, float]:
    intensities = [k.intensity_flop_per_byte for k in points if k.intensity_flop_per_byte]
    ridges = [max(_pipes(g, points).values()) / (g.peak_bandwidth_bytes_per_s or 1.0) for g in gpus]
    return min(intensities) / 2.5 if intensities else _WIDEST, max([*intensities, *ridges]) * 4


def _height(points: list[KernelFinding], gpus: list[GpuSummary]) -> tuple[float, float]:
    """Return the range of FLOP/s: from below the lowest point to above the roofs, so that labels fit."""
    reached = [rate for k in points if (rate := achieved_flops(k))]
    peaks = [max(_pipes(gpu, points).values()) for gpu in gpus]
    slope = min(gpu.peak_bandwidth_bytes_per_s or 1.0 for gpu in gpus) * _WIDEST
    return min(reached) / 3 if reached else slope / 10, max([*reached, *peaks]) * _ABOVE


def _add_roofs(
    drawn: Figure, gpu: GpuSummary, points: list[KernelFinding], plot: _Plot, spots: list[Box]
) -> None:
    low, high = (10.0**end for end in plot.frame[:2])
    bandwidths = [(gpu.peak_bandwidth_bytes_per_s, "datasheet", "solid")]
    if gpu.achievable_bandwidth_bytes_per_s:
        bandwidths.append((gpu.achievable_bandwidth_bytes_per_s, "achievable", "dash"))
    pipes = _pipes(gpu, points)
    top = max(pipes.values())
    name = gpu.model or "GPU"
    covered = [*spots, *(_level(peak, gpu, plot) for peak in pipes.values())]
    for bandwidth, kind, dash in bandwidths:
        if not bandwidth:
            continue
        label = f"{name} memory, {kind}: {figures.rate_bytes(bandwidth)}"
        _roof(drawn, [[low, top / bandwidth], [low * bandwidth, top]], inert(label), dash)
        text, above = f"{kind} {figures.rate_bytes(bandwidth)}", kind == "datasheet"
        along = [low * (top / bandwidth / low) ** part for part in _NOTE_PARTS]
        boxes = [beside(*plot.px(x, x * bandwidth), text, above=above) for x in along]
        free = (x for x, box in zip(along, boxes, strict=True) if _free(box, covered))
        at = next(free, along[0])
        _note(drawn, at, at * bandwidth, text, above=above)
    for pipe, peak in pipes.items():
        start = peak / (gpu.peak_bandwidth_bytes_per_s or 1.0)
        label = f"{name} {pipe.replace('_', ' ')}, datasheet: {figures.rate_flops(peak)}"
        _roof(drawn, [[start, high], [peak, peak]], inert(label), "solid")
        _note(drawn, high, peak, f"{pipe.replace('_', ' ')} {figures.rate_flops(peak)}", above=True)


def _level(peak: float, gpu: GpuSummary, plot: _Plot) -> Box:
    """Return what a compute roof covers."""
    left, y = plot.px(peak / (gpu.peak_bandwidth_bytes_per_s or 1.0), peak)
    return (left, y - 1, plot.width_px, y + 1)


def _free(box: Box, covered: list[Box]) -> bool:
    return box[0] > 0 and not any(overlap(box, other) for other in covered)


def _thin_out(drawn: Figure, plot: _Plot) -> None:
    """Mark the notes that have no room on a phone, the highest first to stay."""
    kept: list[Box] = []
    for note in sorted(drawn.layout["annotations"], key=lambda note: -note["y"]):
        box = beside(
            plot.x_px(note["x"]), plot.y_px(note["y"]), note["text"], above=note["yanchor"] == "bottom"
        )
        inside = box[0] > 0 and box[2] < plot.width_px + 4
        if inside and not any(overlap(box, other) for other in kept):
            kept.append(box)
        else:
            note["name"] = "wide"


def _longest(points: list[KernelFinding]) -> float:
    return max(((kernel.time_s or 0.0) for kernel in points), default=0.0) or 1.0


def _box(kernel: KernelFinding, plot: _Plot, longest: float) -> Box:
    """Return what a kernel's point covers."""
    x, y = plot.px(kernel.intensity_flop_per_byte or 1.0, achieved_flops(kernel) or 1.0)
    radius = _point_px(kernel, longest) / 2
    return (x - radius, y - radius, x + radius, y + radius)


def _add_slope(drawn: Figure, kernel: KernelFinding, low: float, top: float) -> None:
    """Draw where a kernel of known bandwidth and unknown FLOPs may lie."""
    rate = kernel.achieved_bandwidth_bytes_per_s or 1.0
    label = f"{_label(kernel)}: {figures.rate_bytes(rate)}, FLOPs not counted"
    _roof(drawn, [[low, top / rate], [low * rate, top]], lines(_hover(kernel)), "dot")
    at = math.sqrt(low * top / rate)
    _note(drawn, at, at * rate, label, above=False)


def _note(drawn: Figure, x: float, y: float, text: str, *, above: bool) -> None:
    """Write ``text`` at a point: to its left and above, or to its right and below."""
    anchors = ("right", "bottom") if above else ("left", "top")
    drawn.note(math.log10(x), math.log10(y), text, xanchor=anchors[0], yanchor=anchors[1])


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


def _roof(drawn: Figure, ends: list[list[float]], hover: str, dash: str) -> None:
    """Draw a roof. It answers to the pointer along its whole length, so it has points between its ends."""
    along = [[a * (b / a) ** (i / _ALONG) for i in range(_ALONG + 1)] for a, b in ends]
    drawn.line(
        *along, line={"width": 2 if dash == "solid" else 1.5, "dash": dash},
        hoverinfo="text", text=hover, meta="roof",
    )  # fmt: skip


def _add_points(drawn: Figure, points: list[KernelFinding], frame: Frame) -> None:
    longest = _longest(points)
    wide = _named(points, _Plot(frame, *_WIDE_PX), MAX_NAMED, (_label, _family_label), drawn)
    narrow = _named(points, _Plot(frame, *_NARROW_PX), 4, (_family_label,), drawn)
    nameless = ("", "middle right")
    families: dict[str, list[tuple[int, KernelFinding]]] = defaultdict(list)
    for index, kernel in enumerate(points):
        families[kernel.family].append((index, kernel))
    for family, members in families.items():
        drawn.points(
            [k.intensity_flop_per_byte for _, k in members],
            [achieved_flops(k) for _, k in members],
            mode="markers+text",
            name=inert(family, 24),
            marker={
                "color": colour(family),
                "opacity": 0.85,
                "size": [_point_px(k, longest) for _, k in members],
                "line": {"width": 1, "color": "#ffffff"},
            },
            text=[inert(wide.get(i, nameless)[0]) for i, _ in members],
            textposition=[wide.get(i, nameless)[1] for i, _ in members],
            textfont={"size": 11},
            hovertext=[lines(_hover(k)) for _, k in members],
            hoverinfo="text",
            meta={
                "text": [inert(narrow.get(i, nameless)[0]) for i, _ in members],
                "textposition": [narrow.get(i, nameless)[1] for i, _ in members],
            },
        )


def _named(
    points: list[KernelFinding],
    plot: _Plot,
    limit: int,
    labels: tuple[Callable[[KernelFinding], str], ...],
    drawn: Figure,
) -> Places:
    """Choose which points carry their name: the longest of each family first, then the longest of all."""
    longest = _longest(points)
    spots = [
        Spot(
            *plot.px(k.intensity_flop_per_byte or 1.0, achieved_flops(k) or 1.0),
            _point_px(k, longest) / 2,
            tuple(label(k) for label in labels),
        )
        for k in points
    ]
    taken: list[Box] = [
        beside(plot.x_px(note["x"]), plot.y_px(note["y"]), note["text"], above=note["yanchor"] == "bottom")
        for note in drawn.layout["annotations"]
    ]
    taken += [box for trace in drawn.data if trace.get("meta") == "roof" for box in _along(trace, plot)]
    seen: set[str] = set()
    first: list[int] = []
    further: list[int] = []
    for index, kernel in enumerate(points):
        (further if kernel.family in seen else first).append(index)
        seen.add(kernel.family)
    ranked = [*first, *further]
    chosen = places([spots[index] for index in ranked], plot.width_px, limit, taken)
    return {ranked[at]: place for at, place in chosen.items()}


def _along(trace: dict[str, Any], plot: _Plot) -> list[Box]:
    """Return small boxes along a roof, so that no name is written across it."""
    ends = [(plot.x_px(math.log10(trace["x"][i])), plot.y_px(math.log10(trace["y"][i]))) for i in (0, -1)]
    (left, top), (right, bottom) = ends
    count = max(1, round(math.dist(*ends) / _ROOF_STEP_PX))
    spots = [(left + (right - left) * i / count, top + (bottom - top) * i / count) for i in range(count + 1)]
    return [(x - 2, y - 2, x + 2, y + 2) for x, y in spots]


def _label(kernel: KernelFinding) -> str:
    shape = kernel.problem_shape or {}
    detail = next((f" {key}={shape[key]}" for key in ("N", "n") if key in shape), "")
    return shorten(visible(kernel.kernel), 28) + shorten(visible(detail), 12)


def _family_label(kernel: KernelFinding) -> str:
    return shorten(visible(kernel.family), 14)


def _point_px(kernel: KernelFinding, longest: float) -> float:
    """Return a diameter whose area goes with time."""
    return max(_SMALLEST_POINT_PX, _LARGEST_POINT_PX * math.sqrt((kernel.time_s or 0.0) / longest))


def _hover(kernel: KernelFinding) -> list[str]:
    told = [
        shorten(visible(kernel.kernel), 70),
        f"{visible(kernel.family)}, {visible(summary.shape(kernel))}",
        f"{figures.seconds(kernel.time_s)} in {figures.count(kernel.dispatches)} dispatches, "
        f"mean {figures.nanoseconds(kernel.mean_ns)}, {figures.percent(kernel.time_frac)} of kernel time",
        f"{figures.intensity(kernel.intensity_flop_per_byte)}, {figures.rate_flops(achieved_flops(kernel))}, "
        f"{figures.percent(kernel.bandwidth_frac)} of bandwidth",
        f"bound {kernel.bound}, limiter {kernel.limiter}, confidence {kernel.confidence}",
    ]
    for sentence in kernel.evidence[:3]:
        told += textwrap.wrap(visible(sentence), 70)[:3]
    return told
