"""Prefill, decode and mixed steps in words, the same for every report: time and bytes a token by family."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from rocscope.findings import Analysis, PhaseSummary
from rocscope.reports import figures
from rocscope.reports.charts.shares import phase_times

MAX_FAMILIES: Final = 5


@dataclass(frozen=True)
class Matrix:
    """Time and bytes a token, a row for each family."""

    phases: list[str]
    rows: list[tuple[str, list[tuple[str, str]]]]  # of each phase its time, and bytes with their basis or ""
    bytes_known: bool


def rows(analysis: Analysis) -> list[list[str]]:
    """Return phase, steps, tokens, time and time a token of each phase."""
    return [
        [
            phase.phase,
            figures.count(phase.steps),
            figures.count(phase.tokens),
            figures.seconds(phase.time_s),
            figures.seconds(None if phase.us_per_token is None else phase.us_per_token / 1e6),
        ]
        for phase in analysis.phases
    ]


def matrix(analysis: Analysis) -> Matrix:
    """Return what a token costs, phases side by side; the families that take most of any token first."""
    counted = [phase for phase in analysis.phases if phase_times(phase)]
    times = [phase_times(phase) for phase in counted]
    moved = [_moved(phase) for phase in counted]
    most: dict[str, float] = {}
    for phase, found in zip(counted, times, strict=True):
        for family, spent in found.items():
            most[family] = max(most.get(family, 0.0), spent / (phase.us_per_token or 1.0))
    rows = [
        (
            family,
            [
                (figures.seconds(spent.get(family)), size.get(family, ""))
                for spent, size in zip(times, moved, strict=True)
            ],
        )
        for family in sorted(most, key=lambda family: (-most[family], family))
    ]
    return Matrix([phase.phase for phase in counted], rows, any(moved))


def _moved(phase: PhaseSummary) -> dict[str, str]:
    return {
        str(each["family"]): f"{figures.size_bytes(each['bytes_per_token'])} {each.get('bytes_basis')}"
        for each in phase.families
        if each.get("bytes_per_token") is not None
    }


def sentences(analysis: Analysis) -> list[str]:
    """Return what a token costs in each phase, by family, longest first."""
    return [text for phase in analysis.phases if (text := _sentence(phase))]


def _sentence(phase: PhaseSummary) -> str:
    told = [_family(each) for each in phase.families[:MAX_FAMILIES] if each.get("us_per_token") is not None]
    if not told:
        return ""
    more = len(phase.families) - len(told)
    rest = f", and {more} smaller" if more > 0 else ""
    return f"{phase.phase[:1].upper()}{phase.phase[1:]}, a token: {', '.join(told)}{rest}."


def _family(family: dict[str, Any]) -> str:
    text = f"{family['family']} {figures.seconds(family['us_per_token'] / 1e6)}"
    moved = family.get("bytes_per_token")
    if moved is None:
        return text
    return f"{text} and {figures.size_bytes(moved)} ({family.get('bytes_basis')})"
