"""What a token costs, by family and phase: kernel time, and time in which the GPU ran nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from rocscope.findings import Analysis, PhaseSummary
from rocscope.reports import figures

TITLE: Final = "A token's time by family and phase"
KERNELS: Final = "all kernels"
IDLE: Final = "GPU idle"
WHOLE: Final = "whole step"
SHARE: Final = "share"
OTHERS: Final = "smaller families"
MAX_FAMILIES: Final = 10
MAX_MOVED: Final = 4
STEPS_HEADER: Final = ("phase", "steps", "tokens", "time", "a token", "GPU idle")
_Read = Callable[[PhaseSummary], float | None]


def present(analysis: Analysis) -> bool:
    """Return whether the time of a token is known by family, of any phase."""
    return bool(_phases(analysis))


def header(analysis: Analysis) -> list[str]:
    """Return ``family`` and then the name of each phase that is told, with its share beside it."""
    return ["family", *(word for phase in _phases(analysis) for word in (phase.phase, SHARE))]


def rows(analysis: Analysis, most: int = MAX_FAMILIES) -> list[list[str]]:
    """Return under :func:`header` time a token and its share of the step's, longest family first.

    Families beyond ``most`` are one row. The last rows are all kernels, the time in which the GPU ran
    nothing, where that is known, and the whole step, where its length is the GPU's. Kernels that overlap
    count twice, so that their sum may exceed it.
    """
    told = _phases(analysis)
    names = families(analysis)
    most += len(names) == most + 1  # one alone is as short as a row of the rest
    shown, rest = names[:most], names[most:]
    found = [[name, *_cells(told, _spent_on({name}))] for name in shown]
    if rest:
        found.append([f"{len(rest)} {OTHERS}", *_cells(told, _spent_on(set(rest)))])
    found.append([KERNELS, *_cells(told, lambda phase: phase.kernel_us_per_token)])
    if any(phase.idle_us_per_token is not None for phase in told):
        found.append([IDLE, *_cells(told, lambda phase: phase.idle_us_per_token)])
    if any(_whole(phase) is not None for phase in told):
        found.append([WHOLE, *_cells(told, _whole)])
    return found


def families(analysis: Analysis) -> list[str]:
    """Return the families of the phases that are told, most time in all of them first."""
    total: dict[str, float] = {}
    for phase in _phases(analysis):
        for each in phase.families:
            total[each["family"]] = total.get(each["family"], 0.0) + (each.get("time_s") or 0.0)
    return sorted(total, key=lambda family: (-total[family], family))


def sentences(analysis: Analysis) -> list[str]:
    """Return what the table rests on: how many tokens, and what is to be known of it."""
    told = _phases(analysis)
    if not told:
        return []
    counted = [f"{figures.count(each.tokens)} in {_steps(each)}" for each in told]
    tokens = f"Tokens: {', '.join(counted)}; of prompts and generated, as the steps' annotations count them."
    return [tokens, *caveats(analysis)]


def caveats(analysis: Analysis) -> list[str]:
    """Return whose annotations tell nothing of the GPU's time, and where kernels overlap."""
    told, found = _phases(analysis), []
    hosts = [each.phase for each in told if each.length_by == "host"]
    if hosts:
        found.append(
            f"How long the GPU took for a step of {' and '.join(hosts)} is not told, as only the host "
            "annotated it: shares are of kernel time."
        )
    over = [each.phase for each in told if _exceeds(each)]
    if over:
        found.append(f"Kernels overlap in {' and '.join(over)}: the families add up to more than the step.")
    return found


def bytes_a_token(analysis: Analysis) -> list[str]:
    """Return what a token moves in each phase, by family, of those whose bytes are known."""
    return [text for phase in analysis.phases if (text := _moved(phase))]


def _moved(phase: PhaseSummary) -> str:
    known = [each for each in phase.families if each.get("bytes_per_token") is not None]
    bases = sorted({str(each.get("bytes_basis")) for each in known})
    told = [
        f"{each['family']} {figures.size_bytes(each['bytes_per_token'])}"
        + (f" ({each.get('bytes_basis')})" if len(bases) > 1 else "")
        for each in known[:MAX_MOVED]
    ]
    more = f", and {len(known) - len(told)} more" if len(known) > len(told) else ""
    basis = f" ({bases[0]})" if len(bases) == 1 else ""
    return f"Bytes a token, {phase.phase}{basis}: {', '.join(told)}{more}." if told else ""


def steps(analysis: Analysis) -> list[list[str]]:
    """Return a row for each phase under :data:`STEPS_HEADER`."""
    return [
        [
            phase.phase,
            figures.count(phase.steps),
            figures.count(phase.tokens),
            f"{figures.seconds(phase.time_s)}{of_host}",
            f"{figures.seconds(None if phase.us_per_token is None else phase.us_per_token / 1e6)}{of_host}",
            figures.percent(_idle_frac(phase)),
        ]
        for phase in analysis.phases
        for of_host in [" (host)" if phase.length_by == "host" else ""]
    ]


def _idle_frac(phase: PhaseSummary) -> float | None:
    idle, whole = phase.idle_time_s, phase.time_s
    return idle / whole if idle is not None and whole else None


def _steps(phase: PhaseSummary) -> str:
    return f"{figures.count(phase.steps)} {phase.phase} step{'' if phase.steps == 1 else 's'}"


def _phases(analysis: Analysis) -> list[PhaseSummary]:
    return [each for each in analysis.phases if each.kernel_us_per_token is not None and each.families]


def _whole(phase: PhaseSummary) -> float | None:
    """Return the step's time a token, of the GPU: how long the host was in a call says nothing of it."""
    return phase.us_per_token if phase.length_by == "gpu" else None


def _spent_on(names: set[str]) -> _Read:
    def read(phase: PhaseSummary) -> float | None:
        known = [
            each["us_per_token"]
            for each in phase.families
            if each["family"] in names and each.get("us_per_token") is not None
        ]
        return sum(known) if known else None

    return read


def _cells(told: list[PhaseSummary], read: _Read) -> list[str]:
    found = []
    for phase in told:
        spent = read(phase)
        of = _whole(phase) or phase.kernel_us_per_token
        share = spent / of if spent is not None and of else None
        found += [figures.seconds(None if spent is None else spent * 1e-6), figures.percent(share)]
    return found


def _exceeds(phase: PhaseSummary) -> bool:
    kernels, idle, whole = phase.kernel_us_per_token, phase.idle_us_per_token, _whole(phase)
    return kernels is not None and whole is not None and kernels + (idle or 0.0) > 1.01 * whole
