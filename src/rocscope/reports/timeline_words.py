"""The timeline for reports without a chart: a line of blocks for each GPU, and sentences."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from typing import Final

from rocscope.findings import Analysis, Timeline, TimelineGap, TimelineSpan
from rocscope.reports import figures
from rocscope.reports.text import clip, shorten
from rocscope.untrusted import visible

TITLE: Final = "Over time"
MAX_LANES: Final = 16
MAX_GAPS: Final = 3  # that are told one by one
MAX_CAUSES: Final = 4
MAX_SPANS: Final = 6
_LONGEST_CAUSE: Final = 130
_BLOCKS: Final = " ▁▂▃▄▅▆▇█"
_NOT_TOLD: Final = "with no cause recorded"
_PART: Final = re.compile(r" for [0-9.]+ % of it")  # what the host did for how much of one pause


def present(analysis: Analysis) -> bool:
    """Return whether there is a timeline."""
    return analysis.timeline is not None


def lines(analysis: Analysis, width: int) -> list[str]:
    """Return a GPU a line, its busy share from left to right as blocks, at most ``width`` characters wide.

    A blank is time in which nothing ran, a full block one in which something always did.
    """
    timeline = analysis.timeline
    if timeline is None:
        return []
    shown = timeline.lanes[:MAX_LANES]
    names = [visible(lane.label) for lane in shown]
    name = min(max(map(len, names), default=0), max(1, width // 3))
    room = max(1, width - name - 3)
    drawn = [
        f"{shorten(label, name):<{name}} |{_blocks(lane.busy_frac, room)}|"
        for label, lane in zip(names, shown, strict=True)
    ]
    if shown:
        end = figures.seconds(timeline.span_s)
        cells = len(drawn[0]) - name - 3
        drawn.append(f"{'':<{name}} 0{end:>{max(len(end) + 1, cells + 1)}}")
    return drawn


def _blocks(busy: Sequence[float], room: int) -> str:
    """Return the means of as many stretches as there is room for."""
    count = min(len(busy), room)
    edges = [len(busy) * at / count for at in range(count + 1)]
    return "".join(_block(_mean(busy, low, high)) for low, high in itertools.pairwise(edges))


def _mean(busy: Sequence[float], low: float, high: float) -> float:
    """Return the mean of ``busy`` from ``low`` to ``high``, which may lie within bins."""
    first, last = math.floor(low), min(len(busy), math.ceil(high))
    parts = [busy[at] * (min(high, at + 1) - max(low, at)) for at in range(first, last)]
    return math.fsum(parts) / (high - low)


def _block(share: float) -> str:
    """Return a block that is full or blank only where that is so."""
    if share <= 0:
        return _BLOCKS[0]
    return _BLOCKS[-1] if share >= 0.995 else _BLOCKS[min(7, max(1, round(share * 8)))]


def sentences(analysis: Analysis) -> list[str]:
    """Return what happened when: pauses and what they were for, phases, throttling, and what is not told."""
    timeline = analysis.timeline
    if timeline is None:
        return []
    names = {lane.gpu: lane.label for lane in timeline.lanes}
    told = [_busy(analysis, names)]
    told += [_causes(timeline), _longest(timeline, names), _phases(timeline, names)]
    told.append(_throttled(timeline, names))
    more = len(timeline.lanes) - MAX_LANES
    told.append(f"{more} more GPUs are not drawn" if more > 0 else "")
    told += timeline.notes
    return [f"{text[:1].upper()}{text[1:]}." for text in told if text]


def _busy(analysis: Analysis, names: dict[int, str]) -> str:
    """Tell each GPU's busy share of its own window, where that is known."""
    known = [gpu for gpu in analysis.gpus if gpu.busy_frac is not None]
    told = [
        f"{_name(gpu.gpu, names)} {figures.percent(gpu.busy_frac)} of {figures.seconds(gpu.wall_s)}"
        for gpu in known[:MAX_LANES]
    ]
    return f"busy: {', '.join(told)}" if told else ""


def _causes(timeline: Timeline) -> str:
    """Add up the longest pauses by what they were for."""
    if not timeline.gaps:
        return ""
    spent: dict[str, float] = {}
    for gap in timeline.gaps:
        cause = _PART.sub("", gap.during or _NOT_TOLD)
        spent[cause] = spent.get(cause, 0.0) + gap.duration_s
    order = sorted(spent, key=lambda cause: -spent[cause])
    shown = [f"{figures.seconds(spent[cause])} {_cause(cause)}" for cause in order[:MAX_CAUSES]]
    if len(order) > MAX_CAUSES:
        rest = math.fsum(spent[cause] for cause in order[MAX_CAUSES:])
        shown.append(f"{figures.seconds(rest)} for {len(order) - MAX_CAUSES} other reasons")
    count = len(timeline.gaps)
    total = math.fsum(gap.duration_s for gap in timeline.gaps)
    which = "all" if not timeline.gaps_left_out else "longest"
    text = f"the {which} {count} pauses take {figures.seconds(total)}"
    if count > MAX_GAPS:  # else all are told one by one
        text += f": {'; '.join(shown)}"
    if timeline.gaps_left_out:
        text += f"; {figures.count(timeline.gaps_left_out)} shorter ones {_left_out(timeline)}"
    return text if count > 1 else f"one pause takes {figures.seconds(total)}, {_cause(order[0])}"


def _left_out(timeline: Timeline) -> str:
    return f"add up to {figures.seconds(timeline.gaps_left_out_s)}"


def _cause(cause: str) -> str:
    return clip(cause, _LONGEST_CAUSE)


def _longest(timeline: Timeline, names: dict[int, str]) -> str:
    if len(timeline.gaps) < 2:
        return ""
    told = [_gap(gap, names, several=len(timeline.lanes) > 1) for gap in timeline.gaps[:MAX_GAPS]]
    return f"the longest: {'; '.join(told)}"


def _gap(gap: TimelineGap, names: dict[int, str], *, several: bool) -> str:
    where = f"{_name(gap.gpu, names)}, " if several else ""
    why = f" ({_cause(gap.during)})" if gap.during else ""
    return f"{where}{figures.seconds(gap.duration_s)} at {figures.seconds(gap.start_s)}{why}"


def _phases(timeline: Timeline, names: dict[int, str]) -> str:
    """Tell the stretches of the first GPU that has any: ranks that differ are in the chart."""
    found = [span for span in timeline.spans if span.kind == "phase"]
    if not found:
        return ""
    gpu = found[0].gpu
    mine = [span for span in found if span.gpu == gpu]
    told = [_span(span) for span in mine[:MAX_SPANS]]
    more = f", and {len(mine) - MAX_SPANS} more stretches" if len(mine) > MAX_SPANS else ""
    of = f" of {_name(gpu, names)}" if gpu is not None and len(timeline.lanes) > 1 else ""
    return f"phases{of}: {', '.join(told)}{more}"


def _name(gpu: int | None, names: dict[int, str]) -> str:
    return "a GPU" if gpu is None else names.get(gpu, f"GPU {gpu}")


def _span(span: TimelineSpan) -> str:
    steps = "" if span.steps is None else f" ({figures.count(span.steps)} step{'s' * (span.steps != 1)})"
    return f"{span.name} {figures.seconds(span.start_s)} to {figures.seconds(span.end_s)}{steps}"


def _throttled(timeline: Timeline, names: dict[int, str]) -> str:
    """Add up throttled time by GPU and reason."""
    spent: dict[tuple[int | None, str], float] = {}
    for span in timeline.spans:
        if span.kind == "throttled":
            key = (span.gpu, span.name)
            spent[key] = spent.get(key, 0.0) + span.end_s - span.start_s
    if not spent:
        return ""
    told = [
        f"{_name(gpu, names)} for {figures.seconds(time)} by {reason}"
        for (gpu, reason), time in sorted(spent.items(), key=lambda each: -each[1])[:MAX_SPANS]
    ]
    return f"throttled, by the GPU's own word: {', '.join(told)}"
