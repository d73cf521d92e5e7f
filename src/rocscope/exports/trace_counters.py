"""Samples as counter tracks of a trace: sensors under their GPU, processes and the server beside them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from typing import Final

from rocscope.capture import Capture
from rocscope.exports import enriched
from rocscope.serving_metrics import Scrapes

_GPU: Final = re.compile(r"gpu:(\d{1,4})")
_SCALED: Final = {  # by the unit that a metric's name ends in: what is shown, and by how much
    "_w": ("W", 1.0),
    "_hz": ("MHz", 1e-6),
    "_c": ("°C", 1.0),
    "_bytes": ("bytes", 1.0),
    "_frac": ("%", 100.0),
    "_j": ("J", 1.0),
    "_rpm": ("rpm", 1.0),
}
_HISTOGRAM: Final = re.compile(r"_(bucket:.*|sum|count)\Z", re.DOTALL)  # of the server: no track can show one
_RATES: Final = ("generation_tokens", "prompt_tokens")


def events(
    capture: Capture, pid_of: Callable[[int | None], int], us: Callable[[int], str]
) -> Iterator[list[str]]:
    """Give counter events in batches, then tokens a second.

    ``pid_of`` gives the process of a GPU, of ``None`` that of all other samples; ``us`` writes a time.
    """
    named: dict[tuple[str, str], tuple[int, str, float] | None] = {}
    for batch in enriched.batches(capture, "samples"):
        get = {name: batch.column(name).to_pylist() for name in ("time_ns", "subject", "metric", "value")}
        lines = []
        for time_ns, *key, value in zip(*get.values(), strict=True):
            subject, metric = key
            if (subject, metric) not in named:
                named[subject, metric] = _track(subject, metric, pid_of)
            track = named[subject, metric]
            if track is not None and value is not None and math.isfinite(value):
                lines.append(_event(track, us(time_ns), value))
        if lines:
            yield lines
    if lines := _rates(capture, pid_of, us):
        yield lines


def _track(subject: str, metric: str, pid_of: Callable[[int | None], int]) -> tuple[int, str, float] | None:
    """Return process, encoded name and factor of a track; ``None`` for what no track can show."""
    unit, factor = next((shown for end, shown in _SCALED.items() if metric.endswith(end)), ("", 1.0))
    if found := _GPU.fullmatch(subject):
        words = metric.rpartition("_")[0] if unit else metric
        return pid_of(int(found[1])), json.dumps(f"{words.replace('_', ' ')}{unit and f' ({unit})'}"), factor
    if subject.startswith(("server", "saved:")) and _HISTOGRAM.search(metric):
        return None
    return pid_of(None), json.dumps(f"{subject} {metric}"), 1.0


def _event(track: tuple[int, str, float], at_us: str, value: float) -> str:
    pid, name, factor = track
    return f'{{"ph":"C","pid":{pid},"name":{name},"ts":{at_us},"args":{{"value":{value * factor!r}}}}}'


def _rates(capture: Capture, pid_of: Callable[[int | None], int], us: Callable[[int], str]) -> list[str]:
    """Return tokens a second between scrapes, each from its first scrape on, 0 after the last."""
    scrapes = Scrapes.read(capture.samples)
    lines: list[str] = []
    if scrapes is None or not scrapes.timed:
        return lines
    for metric in (each for each in _RATES if each in scrapes.values):
        name = json.dumps(f"server {metric.replace('_', ' ')} a second")
        total, times = scrapes.column(metric).tolist(), scrapes.times.tolist()
        for at in range(len(times) - 1):
            grown, passed = total[at + 1] - total[at], times[at + 1] - times[at]
            if passed > 0 and grown >= 0:  # not where it is not known, or the server began anew
                lines.append(_event((pid_of(None), name, 1e9), us(times[at]), grown / passed))
        if times:
            lines.append(_event((pid_of(None), name, 1.0), us(times[-1]), 0.0))
    return lines
