"""The timeline in words and cells: what its chart shows, for those who do not see it."""

from __future__ import annotations

from rocscope.findings import Analysis, Timeline, TimelineSeries, TimelineSpan
from rocscope.reports import figures
from rocscope.reports.charts.shares import labels

GAP_HEADER = ("pause of", "begins at", "takes", "meanwhile")
SERIES_HEADER = ("sensor", "least", "mean", "most", "read from")
SPAN_HEADER = ("what", "where", "begins at", "takes", "steps")
MAX_ROWS = 12


def gaps(timeline: Timeline) -> list[list[str]]:
    """Return the longest pauses under :data:`GAP_HEADER`."""
    labels = {lane.gpu: lane.label for lane in timeline.lanes}
    return [
        [
            labels.get(gap.gpu, f"GPU {gap.gpu}"),
            figures.seconds(gap.start_s),
            figures.seconds(gap.duration_s),
            gap.during or figures.UNKNOWN,
        ]
        for gap in timeline.gaps[:MAX_ROWS]
    ]


def busy(analysis: Analysis) -> str:
    """Return how busy each GPU was."""
    names = labels(analysis)
    told = [
        f"{names[gpu.gpu]} {figures.percent(gpu.busy_frac)}"
        for gpu in analysis.gpus
        if gpu.busy_frac is not None
    ]
    return f"Busy: {', '.join(told)}." if told else ""


def rest(timeline: Timeline) -> str:
    """Return how many pauses have no row."""
    more = max(0, len(timeline.gaps) - MAX_ROWS) + timeline.gaps_left_out
    if more <= 0:
        return ""
    hidden = timeline.gaps[MAX_ROWS:]
    lost = timeline.gaps_left_out_s + sum(gap.duration_s for gap in hidden)
    together = f", {figures.seconds(lost)} together," if lost > 0 else ""
    return f"{figures.count(more)} shorter pauses{together} are left out of the table."


def spans(timeline: Timeline) -> list[list[str]]:
    """Return the longest phases and throttled times, under :data:`SPAN_HEADER`, in the order of time."""
    longest = sorted(timeline.spans, key=lambda span: span.start_s - span.end_s)[:MAX_ROWS]
    return [_span(span) for span in sorted(longest, key=lambda span: span.start_s)]


def _span(span: TimelineSpan) -> list[str]:
    name = span.name if span.kind == "phase" else f"throttled: {span.name}"
    return [
        name,
        "all" if span.gpu is None else f"GPU {span.gpu}",
        figures.seconds(span.start_s),
        figures.seconds(span.end_s - span.start_s),
        figures.count(span.steps),
    ]


def series(timeline: Timeline) -> list[list[str]]:
    """Return a row for each sensor under :data:`SERIES_HEADER`."""
    return [row for each in timeline.series if (row := _series(each))]


def _series(each: TimelineSeries) -> list[str]:
    values = [value for value in each.value if value is not None]
    if not values:
        return []
    name = each.name if each.gpu is None else f"GPU {each.gpu} {each.name}"
    told = (min(values), sum(values) / len(values), max(values))
    return [name, *(reading(value, each.unit) for value in told), each.source]


def reading(value: float, unit: str) -> str:
    """Write what a sensor read, a frequency in MHz."""
    shown, unit = (value / 1e6, "MHz") if unit == "Hz" else (value, unit)
    return f"{figures.significant(shown)}{figures.NBSP}{unit}".rstrip()
