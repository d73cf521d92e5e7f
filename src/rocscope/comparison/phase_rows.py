"""Prefill, decode and mixed steps of both sides, compared at the same batches: a mix is nobody's doing.

A phase's time is the mean over the kinds of its steps that both sides have, each with the same weight on
either side: the number of its steps on the side that has fewer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from rocscope import student
from rocscope.comparison.judging import GAPS, Judged, Measured, decided
from rocscope.comparison.panel import Panel
from rocscope.comparison.result import Difference
from rocscope.comparison.side import Side
from rocscope.comparison.step_matrix import Recorded

_MOST_LABELS: Final = 4


@dataclass(frozen=True)
class Mixture:
    """A phase of which both sides have steps of the same batches."""

    phase: str
    panels: list[int]
    weights: list[float]  # add up to 1
    labels: list[str]  # the batches, in words
    others: int  # batches of the phase that only one side has


def mixtures(panels: list[Panel], recorded: Iterable[Recorded]) -> list[Mixture]:
    """Return the phases that the panels are of; ``recorded`` are the recordings of both sides."""
    kinds = {kind for each in recorded for kind in each.found.kinds}
    found = []
    for phase in dict.fromkeys(each.kind.phase for each in panels):
        mine = [index for index, each in enumerate(panels) if each.kind.phase == phase]
        counts = [float(panels[index].fewest) for index in mine]
        labels = [panels[index].kind.label for index in mine]
        others = sum(kind.phase == phase for kind in kinds) - len(mine)
        found.append(Mixture(phase, mine, [each / sum(counts) for each in counts], labels, others))
    return found


def judged(mixture: Mixture, measured: list[Measured], chance: float) -> Judged:
    """Say what changed of a phase of several kinds of steps, wrong with at most ``chance``.

    Degrees of freedom are Satterthwaite's. A kind with a single step has no spread: nothing is judged.
    """
    parts = [(measured[index], weight) for index, weight in zip(mixture.panels, mixture.weights, strict=True)]
    sides = []
    for name in ("base", "new"):
        mean = sum(weight * float(getattr(each, name).mean[0]) for each, weight in parts)
        variance = sum(weight**2 * float(getattr(each, name).variance[0]) for each, weight in parts)
        sides.append((mean, variance))
    (base, first), (new, second) = sides
    total = first + second
    allowed = parts[0][0].allowed
    if not all(each.judged for each, _ in parts) or not math.isfinite(total):
        return decided(base, new, first, second, None, allowance=allowed.frac)
    shares = [
        (weight**2 * float(getattr(each, name).variance[0])) ** 2 / float(getattr(each, name).degrees[0])
        for each, weight in parts
        for name in ("base", "new")
    ]
    degrees = total**2 / sum(shares) if sum(shares) > 0 else 1.0
    idle_ns = sum(weight * float(each.new.mean[GAPS] - each.base.mean[GAPS]) for each, weight in parts)
    critical = student.value(chance, max(1.0, degrees))
    return decided(
        base,
        new,
        first,
        second,
        critical,
        allowance=allowed.frac,
        idle_ns=allowed.of_idle(idle_ns),
    )


def row(phase: str, found: Judged, *, comparable: bool) -> Difference:
    """Return the row of a phase that was compared."""
    return Difference(
        name=phase,
        base_s=found.base * 1e-9,
        new_s=found.new * 1e-9,
        change_frac=found.change,
        low_frac=found.low,
        high_frac=found.high,
        verdict=found.verdict if comparable else None,
        base_frac=None,
        new_frac=None,
    )


def unmatched(base: Side, new: Side, known: set[str]) -> tuple[list[Difference], list[str]]:
    """Return rows of the phases of which no kind of step is in both sides, and what to say of them."""
    times = [
        {each.phase: each.time_s / each.steps for each in side.analysis.phases if each.time_s and each.steps}
        for side in (base, new)
    ]
    rows, notes = [], []
    for phase in sorted((set(times[0]) | set(times[1])) - known):
        before, after = (side.get(phase) for side in times)
        rows.append(
            Difference(
                name=phase, base_s=before, new_s=after, change_frac=None, base_frac=None, new_frac=None
            )
        )
        if before is not None and after is not None:
            notes.append(f"{phase}: no step of one batch is in both recordings, so that it is not compared")
    return rows, notes


def batches(mixture: Mixture) -> str | None:
    """Say which batches of a phase were compared, where there are several or others."""
    if len(mixture.labels) == 1 and not mixture.others:
        return None
    more = len(mixture.labels) - _MOST_LABELS
    told = ", ".join(mixture.labels[:_MOST_LABELS]) + (f" and {more} more" if more > 0 else "")
    one = mixture.others == 1
    rest = f"; {mixture.others} other batch{' is' if one else 'es are'} in one recording only"
    return f"{mixture.phase} is compared at the same batches: {told}{rest if mixture.others else ''}"
