"""What a token costs by family, in time and bytes, phases side by side."""

from __future__ import annotations

from dataclasses import dataclass

from rocscope.findings import Analysis, PhaseSummary
from rocscope.reports import figures
from rocscope.reports.charts.shares import phase_times


@dataclass(frozen=True)
class Matrix:
    """Time and bytes a token, a row for each family."""

    phases: list[str]
    rows: list[tuple[str, list[tuple[str, str]]]]  # of each phase its time, and bytes with their basis or ""
    bytes_known: bool


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
