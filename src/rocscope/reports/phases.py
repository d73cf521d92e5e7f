"""Prefill, decode and mixed steps in words, the same for every report: time and bytes a token by family."""

from __future__ import annotations

from typing import Any, Final

from rocscope.findings import Analysis, PhaseSummary
from rocscope.reports import figures

MAX_FAMILIES: Final = 5


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
