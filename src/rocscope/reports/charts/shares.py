"""Stacked bars of families: a token by phase, a step by rank; what a template needs to draw them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from rocscope.findings import Analysis, PhaseSummary, StepTable
from rocscope.reports import figures

IDLE: Final = "no kernel"
_SEEN_FRAC: Final = 0.004  # of a bar, for idle time to be drawn


@dataclass(frozen=True)
class Part:
    """A segment of a bar."""

    family: str  # or IDLE
    frac: float  # of the longest bar
    own_frac: float  # of its own bar
    time_s: float

    @property
    def label(self) -> str:
        """Return what stands on the segment where there is room."""
        return f"{self.family} {figures.percent(self.own_frac)}"


@dataclass(frozen=True)
class Bar:
    """A stacked bar with its name before and its total after it."""

    name: str
    detail: str
    total: str
    parts: list[Part]
    mark: str = ""  # why it stands out


def budget(analysis: Analysis) -> list[Bar]:
    """Return a bar for each phase whose tokens are counted, each as long as the others: shares of a token."""
    return [_phase(phase, times) for phase in analysis.phases if (times := phase_times(phase))]


def phase_times(phase: PhaseSummary) -> dict[str, float]:
    """Return what a token of a phase takes by family, s; empty where tokens or times are not known."""
    if not phase.us_per_token or not phase.tokens:
        return {}
    return {
        str(each["family"]): each["time_s"] / phase.tokens for each in phase.families if each.get("time_s")
    }


def _phase(phase: PhaseSummary, times: dict[str, float]) -> Bar:
    """Return a token's bar: the step's length where it is the GPU's; the host's tells nothing of it."""
    of_host = phase.length_by == "host"
    whole = math.fsum(times.values()) if of_host else (phase.us_per_token or 0.0) / 1e6
    idle = None if phase.idle_us_per_token is None else phase.idle_us_per_token / 1e6
    steps = f"{figures.count(phase.steps)} step{'' if phase.steps == 1 else 's'}"
    tokens = f"{figures.count(phase.tokens)} token{'' if phase.tokens == 1 else 's'}"
    total = f"{figures.seconds(whole)} {'of kernels ' if of_host else ''}a token"
    return Bar(phase.phase, f"{steps}, {tokens}", total, _parts(times, whole, whole, idle))


def _parts(times: dict[str, float], whole: float, longest: float, idle: float | None = None) -> list[Part]:
    """Return segments by time, and last the time in which nothing ran, s.

    Where idle time is not known it is what the kernels leave of the whole: the least that it can be, as
    kernels that overlap count twice. Shares are of the whole; segments fill the bar.
    """
    kernels = math.fsum(times.values())
    rest = max(0.0, whole - kernels) if idle is None else idle
    whole = whole or kernels or 1.0
    drawn = max(whole, kernels + rest)
    scale = max(longest, drawn)
    found = dict(sorted(times.items(), key=lambda each: -each[1]))
    if rest > _SEEN_FRAC * whole:
        found[IDLE] = rest
    return [Part(name, spent / scale, spent / whole, spent) for name, spent in found.items() if spent > 0]


def step(table: StepTable) -> list[Bar]:
    """Return a bar for each rank of a step table, on one scale; with one rank, the step itself."""
    wholes = [max(rank.period_s or 0.0, rank.kernel_s) for rank in table.ranks]
    longest = max(wholes, default=0.0) or 1.0
    bars = []
    for index, rank in enumerate(table.ranks):
        times = {family.family: family.time_s[index] for family in table.families}
        parts = _parts(times, rank.period_s or 0.0, longest)
        detail = f"{figures.seconds(rank.kernel_s)} of kernels"
        total = figures.seconds(rank.period_s) if rank.period_s else figures.seconds(rank.kernel_s)
        bars.append(Bar(rank.label, detail, total, parts))
    return bars


def recording(analysis: Analysis) -> list[Bar]:
    """Return a bar for each GPU over the whole recording, on one scale."""
    times: dict[int, dict[str, float]] = {gpu.gpu: {} for gpu in analysis.gpus}
    for kernel in analysis.kernels:
        mine = times.setdefault(kernel.gpu, {})
        mine[kernel.family] = mine.get(kernel.family, 0.0) + (kernel.time_s or 0.0)
    wholes = {gpu.gpu: gpu.wall_s or 0.0 for gpu in analysis.gpus}
    longest = max(
        (max(wholes.get(gpu, 0.0), math.fsum(mine.values())) for gpu, mine in times.items()), default=0.0
    )
    if longest <= 0:
        return []
    names = labels(analysis)
    return [
        Bar(
            names.get(gpu, f"GPU {gpu}"),
            f"{figures.seconds(math.fsum(mine.values()))} of kernels",
            figures.seconds(wholes.get(gpu) or None),
            _parts(mine, wholes.get(gpu, 0.0), longest),
        )
        for gpu, mine in sorted(times.items())
    ]


def places(analysis: Analysis) -> dict[int, str]:
    """Return what a kernel's GPU is called beside it: :func:`labels` of several GPUs, of one nothing."""
    return labels(analysis) if len({kernel.gpu for kernel in analysis.kernels}) > 1 else {}


def labels(analysis: Analysis) -> dict[int, str]:
    """Return what each GPU is called: by its rank where every one has its own."""
    ranks = [gpu.rank for gpu in analysis.gpus]
    by_rank = None not in ranks and len(set(ranks)) == len(ranks)
    return {gpu.gpu: f"rank {gpu.rank}" if by_rank else f"GPU {gpu.gpu}" for gpu in analysis.gpus}
