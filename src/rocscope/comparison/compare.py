"""Two sides set against each other: what changed, how sure that is, and whether they compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from rocscope.comparison import allowance as allowances
from rocscope.comparison import (
    clocks,
    comparable,
    context,
    differences,
    forecasts,
    judging,
    phase_rows,
    resampling,
    serving_tiers,
    soundness,
    step_tier,
)
from rocscope.comparison import panel as panels
from rocscope.comparison import reasons as why
from rocscope.comparison.allowance import Allowance
from rocscope.comparison.judging import BUSY, GAPS, OVERLAP, PERIOD, Judged, Measured
from rocscope.comparison.panel import Panel
from rocscope.comparison.result import Comparison, Difference, Statistics, Tier
from rocscope.comparison.side import Side
from rocscope.comparison.step_matrix import Recorded, read
from rocscope.wording import duration

LEVEL: Final = 0.95
_TIERS_FRAC: Final = 0.6  # of the chance of being wrong that tiers and phases may take; the rest is kernels'


@dataclass
class _Steps:
    """What steps of both sides show."""

    panels: list[Panel]
    measured: list[Measured]
    judged: list[Judged]  # of each panel's period
    mixtures: list[tuple[phase_rows.Mixture, Judged]]
    families: list[str]
    critical: Any  # of the first panel's columns
    comparisons: int


def compare(
    base: Side,
    new: Side,
    tried: Sequence[str] = (),
    *,
    across: Sequence[str] = (),
    level: float = LEVEL,
    pairs: int = 1,
) -> Comparison:
    """Say what changed from ``base`` to ``new``, and what came of base's forecasts.

    What cannot be compared is not judged. All intervals hold at once with the chance ``level``, over this and
    ``pairs - 1`` other comparisons. ``across`` names what was changed on purpose, see :mod:`comparable`, and
    ``tried`` targets that were worked on, see :mod:`forecasts`.
    """
    likeness = comparable.likeness(base, new, across)
    fit = not likeness.why_not
    recorded = [_recorded(side) for side in (base, new)]
    reasons = [each for each in recorded if isinstance(each, str)]
    found, notes = None, [f"no steps in common: {reason}" for reason in dict.fromkeys(reasons)]
    if not base.analysis.kernels and not new.analysis.kernels:
        notes = []  # loads alone
    if not reasons:
        chance, allowed = (1 - level) / pairs, allowances.between(base, new)
        found = _judged(recorded[0], recorded[1], chance, allowed)  # type: ignore[arg-type]  # no reasons
        if found is None:
            notes.append(
                "no steps in common: neither the same step annotations nor a repeating sequence in both"
            )
    result = _without_steps(base, new)
    if found is not None:
        result = _with_steps(base, new, found, fit)
        result["statistics"] = _statistics(found, level, pairs)
    loads = serving_tiers.served(base, new, comparable=fit)
    tiers = [*clocks.at_one_clock(base, new, result["tiers"]), *loads.tiers]
    kernels = clocks.by_clock(base, new, result["kernels"])
    notes = [
        *soundness.notes(base, new),
        *_on_purpose(likeness),
        *result["notes"],
        *_companions(base, new),
        *notes,
        *loads.notes,
    ]
    notes += clocks.clock_notes(base, new, kernels, tiers)
    so_far = Comparison(
        comparable=fit,
        why_not=likeness.why_not,
        across=likeness.across,
        differs=likeness.differs,
        base=_about(base),
        new=_about(new),
        **(result | {"tiers": tiers, "kernels": kernels, "notes": notes}),
    )
    scored = forecasts.score(base.targets, base.analysis, new.analysis, so_far, tried)
    notes += [*forecasts.notes(scored), *why.missing(base, new)]
    reasons_found = why.reasons(base, new, so_far) if fit else []
    return so_far.model_copy(update={"reasons": reasons_found, "forecasts": scored, "notes": notes})


def compare_all(
    sides: Sequence[Side],
    tried: Sequence[str] = (),
    *,
    across: Sequence[str] = (),
    level: float = LEVEL,
) -> Comparison:
    """Compare each of ``sides`` after the first with it; what is not of the second is in ``more``.

    All intervals hold at once, over all of them.
    """
    base, *others = sides
    first, *more = (
        compare(base, each, tried if index == 0 else (), across=across, level=level, pairs=len(others))
        for index, each in enumerate(others)
    )
    return first.model_copy(update={"more": more})


def _on_purpose(likeness: comparable.Likeness) -> list[str]:
    if not likeness.across:
        return []
    return [f"changed on purpose, so that verdicts are of it as well: {'; '.join(likeness.across)}"]


def _companions(base: Side, new: Side) -> list[str]:
    notices = [each for side in (base, new) for each in side.capture.manifest.notices]
    return [each.message for each in notices if each.code == "companions"]


def _recorded(side: Side) -> list[Recorded] | str:
    found = [read(run) for run in side.runs]
    known = [each for each in found if not isinstance(each, str)]
    return known or next(each for each in found if isinstance(each, str))


def _judged(base: list[Recorded], new: list[Recorded], chance: float, allowed: Allowance) -> _Steps | None:
    """Judge the steps that both sides have, wrong anywhere with at most ``chance``."""
    known = panels.panels(base, new, least=judging.LEAST_STEPS)
    if not known:
        return None
    families, groups = differences.groups(known[0])
    measured = [
        judging.measure(known[0], groups, families=len(families), allowed=allowed),
        *(judging.measure(each, [], allowed=allowed) for each in known[1:]),
    ]
    mixtures = phase_rows.mixtures(known, [*base, *new])
    several = [each for each in mixtures if len(each.panels) > 1]
    count = sum(each.judged for each in measured) + len(several)
    of_tiers = chance * _TIERS_FRAC / max(1, count)
    judged = []
    for each in measured:
        alone = np.zeros(len(each.base.mean), bool)
        alone[PERIOD] = True
        judged.append(judging.judge(each, PERIOD, float(each.critical(of_tiers, alone, 1)[PERIOD])))
    parts = np.ones(len(measured[0].base.mean), bool)
    parts[[PERIOD, OVERLAP, BUSY]] = False
    critical = measured[0].critical(chance * (1 - _TIERS_FRAC), parts, int(parts.sum()))
    critical[PERIOD] = judged[0].critical
    return _Steps(
        panels=known,
        measured=measured,
        judged=judged,
        mixtures=[
            (
                each,
                judged[each.panels[0]]
                if len(each.panels) == 1
                else phase_rows.judged(each, measured, of_tiers),
            )
            for each in mixtures
        ],
        families=families,
        critical=critical,
        comparisons=count + int(parts.sum()),
    )


def _with_steps(base: Side, new: Side, found: _Steps, fit: bool) -> dict[str, Any]:
    first = found.measured[0]
    families, kernels, gaps = differences.rows(
        found.panels[0], first, found.families, found.critical, comparable=fit
    )
    phases, notes = _phases(base, new, found, fit)
    return {
        "tiers": _tiers(found, fit),
        "phases": phases,
        "families": families,
        "kernels": kernels,
        "gaps": gaps,
        "times_of": "step",
        "noise_floor_frac": step_tier.floor(found.judged[0]),
        "notes": [
            *([] if first.by_run else [_within(base, new, first), *_waits(first)]),
            *([told] if (told := context.note(found.panels[0])) else []),
            *notes,
        ],
    }


def _statistics(found: _Steps, level: float, pairs: int) -> Statistics:
    by_run, allowed = found.measured[0].by_run, found.measured[0].allowed
    return Statistics(
        method=_METHOD_REPEATS if by_run else _METHOD_STEPS,
        unit="repeat" if by_run else "step",
        units=found.measured[0].counts,
        level=level,
        comparisons=found.comparisons * pairs,
        draws=None if by_run else resampling.DRAWS,
        seed=None if by_run else resampling.SEED,
        run_to_run_frac=None if by_run else allowed.frac,
        run_to_run_launch_s=None if by_run else allowed.launch_ns * 1e-9,
        run_to_run_family_launch_s=None if by_run else allowed.family_launch_ns * 1e-9,
        run_to_run_idle_s=None if by_run else allowed.idle_ns * 1e-9,
    )


def _tiers(found: _Steps, fit: bool) -> list[Tier]:
    return [
        step_tier.tier(panel, measured, judged, comparable=fit, first=index == 0)
        for index, (panel, measured, judged) in enumerate(
            zip(found.panels, found.measured, found.judged, strict=True)
        )
        if index == 0 or (panel.kind.phase == "decode" and measured.judged)
    ]


def _phases(base: Side, new: Side, found: _Steps, fit: bool) -> tuple[list[Difference], list[str]]:
    mixtures = [each for each in found.mixtures if each[0].phase != "step"]
    rows = [phase_rows.row(mixture.phase, judged, comparable=fit) for mixture, judged in mixtures]
    others, notes = phase_rows.unmatched(base, new, {mixture.phase for mixture, _ in mixtures})
    told = [text for mixture, _ in mixtures if (text := phase_rows.batches(mixture))]
    return [*rows, *others], [*notes, *told]


def _within(base: Side, new: Side, measured: Measured) -> str:
    some = "one of them" if len(base.runs) > 1 or len(new.runs) > 1 else "these two recordings"
    return (
        f"intervals hold the spread between steps of {some}, not from run to run, for which "
        f"{allowances.told(measured.allowed)} allowed: repeat both before you trust a small difference"
    )


def _waits(measured: Measured) -> list[str]:
    """Say where the step's interval is wider for a change of idle time that may be this run's own."""
    period, own_ns = float(measured.base.mean[PERIOD]), measured.idle_ns
    if abs(own_ns) <= measured.allowed.frac * period:
        return []
    change_ns = float(measured.new.mean[GAPS] - measured.base.mean[GAPS])
    way = "longer" if change_ns > 0 else "less"
    part = "which" if own_ns == change_ns else f"of which {duration(abs(own_ns))}"
    return [
        f"the GPU waited {duration(abs(change_ns))} a step {way}, {part} may be this run's own, by its host: "
        "the step's interval holds with it and without"
    ]


def _without_steps(base: Side, new: Side) -> dict[str, Any]:
    table, families = differences.kernel_table, differences.family_table
    phases, notes = phase_rows.unmatched(base, new, set())
    return {
        "tiers": [],
        "phases": phases,
        "families": differences.of_recording(families(base), families(new)),
        "kernels": differences.of_recording(table(base), table(new)),
        "noise_floor_frac": None,
        "notes": notes,
    }


_METHOD_STEPS: Final = (
    "Welch's t over whole steps, successive ones that are alike counting for fewer; critical values from "
    "steps dealt anew to the sides and from a bootstrap of steps, whichever is larger, over all kernels"
)
_METHOD_REPEATS: Final = (
    "Student's t over the means of repeats, with the spread from run to run of both sides together; chances "
    "are shared out over all comparisons (Bonferroni)"
)


def _about(side: Side) -> dict[str, Any]:
    info = side.analysis.capture
    return {
        "id": info.id,
        "profiler": info.profiler,
        "provenance": info.provenance,
        "sources": [source.get("path") for source in info.sources],
        "gpus": [gpu.model or gpu.arch for gpu in side.analysis.gpus],
        "dispatches": side.analysis.integrity.dispatches,
        "repeats": len(side.runs),
        "warnings": soundness.codes(side),
    }
