"""What a token costs, by family and phase: kernel time, and time in which the GPU ran nothing."""

from __future__ import annotations

from typing import Any, Final

from rocscope.findings import Analysis, PhaseSummary
from rocscope.reports import figures

TITLE: Final = "A token's time by family and phase"
IDLE: Final = "GPU idle"
WHOLE: Final = "whole step"
OTHERS: Final = "smaller families"
MAX_FAMILIES: Final = 10


def present(analysis: Analysis) -> bool:
    """Return whether the time of a token is known by family, of any phase."""
    return bool(_phases(analysis))


def header(analysis: Analysis) -> list[str]:
    """Return ``family`` and then the name of each phase that is told, with its share beside it."""
    return ["family", *(word for phase in _phases(analysis) for word in (phase.phase, "share"))]


def rows(analysis: Analysis, most: int = MAX_FAMILIES) -> list[list[str]]:
    """Return under :func:`header` time a token and its share of the step's, longest family first.

    Families beyond ``most`` are one row. The last rows are the time in which the GPU ran nothing, where that
    is known, and the whole step. Kernels that overlap count twice, so that a column may exceed its step.
    """
    told = _phases(analysis)
    names = families(analysis)
    shown, rest = names[:most], names[most:]
    found = [[name, *_cells(told, lambda phase, of=name: _spent(phase, {of}))] for name in shown]
    if rest:
        found.append([f"{len(rest)} {OTHERS}", *_cells(told, lambda phase: _spent(phase, set(rest)))])
    if any(phase.idle_us_per_token is not None for phase in told):
        found.append([IDLE, *_cells(told, lambda phase: phase.idle_us_per_token)])
    found.append([WHOLE, *_cells(told, lambda phase: phase.us_per_token)])
    return found


def families(analysis: Analysis) -> list[str]:
    """Return the families of the phases that are told, most time in all of them first."""
    total: dict[str, float] = {}
    for phase in _phases(analysis):
        for each in phase.families:
            total[each["family"]] = total.get(each["family"], 0.0) + (each.get("time_s") or 0.0)
    return sorted(total, key=lambda family: (-total[family], family))


def sentences(analysis: Analysis) -> list[str]:
    """Return what the table rests on: how many tokens, and where kernels overlap."""
    told = _phases(analysis)
    if not told:
        return []
    counted = [f"{figures.count(each.tokens)} in {_steps(each)} {each.phase} " + _word(each) for each in told]
    found = [f"Tokens: {', '.join(counted)}; of prompts and generated, as the steps' annotations count them."]
    over = [each.phase for each in told if _exceeds(each)]
    if over:
        found.append(f"Kernels overlap in {' and '.join(over)}: the families add up to more than the step.")
    return found


def _phases(analysis: Analysis) -> list[PhaseSummary]:
    return [each for each in analysis.phases if each.us_per_token is not None and each.families]


def _steps(phase: PhaseSummary) -> str:
    return figures.count(phase.steps)


def _word(phase: PhaseSummary) -> str:
    return "step" if phase.steps == 1 else "steps"


def _spent(phase: PhaseSummary, names: set[str]) -> float | None:
    known = [
        each["us_per_token"]
        for each in phase.families
        if each["family"] in names and each.get("us_per_token") is not None
    ]
    return sum(known) if known else None


def _cells(told: list[PhaseSummary], read: Any) -> list[str]:
    found = []
    for phase in told:
        spent = read(phase)
        share = spent / phase.us_per_token if spent is not None and phase.us_per_token else None
        found += [figures.seconds(None if spent is None else spent * 1e-6), figures.percent(share)]
    return found


def _exceeds(phase: PhaseSummary) -> bool:
    kernels, idle, whole = phase.kernel_us_per_token, phase.idle_us_per_token, phase.us_per_token
    return kernels is not None and whole is not None and kernels + (idle or 0.0) > 1.01 * whole
