"""Ranks side by side: where each one's time goes, which one the others wait for, how far they lie apart."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from rocscope.findings import Analysis, StepTable, Target
from rocscope.reports import figures
from rocscope.reports.charts import shares

WAITING = "communication"  # the family whose time is, for a part, waiting for other ranks


@dataclass(frozen=True)
class Ranks:
    """Bars of all ranks on one scale, and what follows from them."""

    title: str
    bars: list[shares.Bar]
    of_step: StepTable | None  # None: of the whole recording
    spread: str
    straggler: Target | None  # where the analysis found one


def compare(analysis: Analysis) -> Ranks | None:
    """Return the comparison, of one step where steps are known; ``None`` of one GPU."""
    table = analysis.step_table
    by_step = table is not None and len(table.ranks) > 1
    if not analysis.kernels or not (by_step or len(analysis.gpus) > 1):
        return None
    straggler = next((t for t in analysis.targets if t.id.startswith("timeline-straggler")), None)
    if table is not None and by_step:
        own = [
            math.fsum(f.time_s[index] for f in table.families if f.family != WAITING)
            for index in range(len(table.ranks))
        ]
        bars = _marked(shares.step(table), own)
        kind = "decode step" if table.phase == "decode" else "step"
        return Ranks(f"Ranks side by side, one {kind}", bars, table, _spread(own), straggler)
    bars = shares.recording(analysis)
    if not bars:
        return None
    own = [
        math.fsum(part.time_s for part in bar.parts if part.family not in (WAITING, shares.IDLE))
        for bar in bars
    ]
    return Ranks("GPUs side by side", _marked(bars, own), None, _spread(own), straggler)


def _marked(bars: list[shares.Bar], own: list[float]) -> list[shares.Bar]:
    """Mark the rank with most work of its own, which others wait for, unless all have the same."""
    most = max(range(len(own)), key=own.__getitem__)
    rest = [value for index, value in enumerate(own) if index != most]
    if not own[most] or own[most] < 1.01 * max(rest, default=0.0):
        return bars
    mark = f"slowest: {figures.seconds(own[most])} of its own work"
    return [replace(bar, mark=mark) if index == most else bar for index, bar in enumerate(bars)]


def _spread(own: list[float]) -> str:
    most, least = max(own), min(own)
    if most <= 0:
        return ""
    return (
        f"Work of their own (kernels other than {WAITING}) takes {figures.seconds(least)} to "
        f"{figures.seconds(most)}: the least is {figures.percent((most - least) / most)} below the most."
    )
