"""How good forecasts were: how many hit, of those that were scored, and on which side they missed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from pydantic import BaseModel, ConfigDict

from rocscope.forecast_ledger import Entry

STATED_FRAC: Final = 0.8  # of forecasts that are to hit: intervals run from the 10th to the 90th percentile
_SCORE: Final = 1.959963984540054  # of the normal distribution, 95 % both sides
ALL: Final = "all"


class Coverage(BaseModel):
    """Scored forecasts of one kind: of kernels of one limiter, of one kind of lost time, of one rule."""

    model_config = ConfigDict(extra="forbid")

    kind: str  # a limiter, "gaps", "stalls", "waits", "clock", "rule:ID", or "all"
    scored: int
    hits: int
    hit_frac: float
    low_frac: float  # 95 % interval of the share that hits, after Wilson
    high_frac: float
    below: int  # gave less than the forecast's low
    above: int  # gave more than its high
    bias_frac: float  # mean of actual less middle, of the window


def coverage(entries: Sequence[Entry]) -> list[Coverage]:
    """Return coverage by kind, most scored first, then of all together; of forecasts that count."""
    real = [each for each in entries if each.counts]
    kinds: dict[str, list[Entry]] = {}
    for each in real:
        kinds.setdefault(kind_of(each), []).append(each)
    found = [_of(kind, those) for kind, those in kinds.items()]
    found.sort(key=lambda each: (-each.scored, each.kind))
    return [*found, _of(ALL, real)] if len(found) > 1 else found


def kind_of(entry: Entry) -> str:
    """Return what limits the target's kernel, else whose shares it was made with."""
    return entry.limiter or entry.shares_of or entry.regains or "other"


def _of(kind: str, entries: Sequence[Entry]) -> Coverage:
    scored, hits = len(entries), sum(each.hit for each in entries)
    low, high = wilson(hits, scored)
    return Coverage(
        kind=kind,
        scored=scored,
        hits=hits,
        hit_frac=hits / scored,
        low_frac=low,
        high_frac=high,
        below=sum(not each.hit and each.actual_frac < each.low_frac for each in entries),
        above=sum(not each.hit and each.actual_frac > each.high_frac for each in entries),
        bias_frac=math.fsum(each.actual_frac - each.mid_frac for each in entries) / scored,
    )


def wilson(hits: int, scored: int) -> tuple[float, float]:
    """Return the 95 % interval of a share of which ``hits`` of ``scored`` were seen (Wilson 1927)."""
    share, square = hits / scored, _SCORE**2
    middle = (share + square / (2 * scored)) / (1 + square / scored)
    spread = share * (1 - share) / scored + square / (4 * scored**2)
    half = _SCORE * math.sqrt(spread) / (1 + square / scored)
    return max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half))
