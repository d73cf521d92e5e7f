"""Pauses between kernels in which the GPU waits for launches."""

from __future__ import annotations

from typing import Final

import numpy as np

from rocscope import ranking
from rocscope.analyzers import pauses
from rocscope.analyzers.integrity import kernels_missing
from rocscope.findings import NotEvaluated, Target
from rocscope.study import Study
from rocscope.thresholds import thresholds
from rocscope.wording import duration, percent

_PHASES: Final = ("prefill", "mixed", "decode", "step")
_SERIALISED: Final = "omniperf"  # formats of runs under a tool that lets one kernel run at a time
_NOT_TOLD: Final = NotEvaluated(
    rule="timeline-launch-gaps",
    missing="pauses of the program's own: Omniperf and rocprof-compute may hold each kernel back until the "
    "one before it is done, also in the run without counters",
    collect_with="rocscope profile --profiler rocprofv3",
)


class LaunchGaps:
    """Adds a target where waiting for launches takes much of the window; no columns."""

    name = "launch_gaps"
    help = "pauses of the GPU in which it waits for launches"
    needs = ("gpu", "wall_ns", "critical", "perturbed")
    adds = ()

    def run(self, study: Study) -> None:
        """Look at the GPU that loses most, of those that wait for no other.

        GPUs of one run wait at the same time, so that what they lose does not add up; where one is late, the
        pauses of the others end in waiting for it, and to launch faster there ends no step sooner. What is
        lost is a share of the window without what happens once, as compilation in a first step.
        """
        if kernels_missing(study) or study.kernels["perturbed"].any():
            return
        if any(each.format.startswith(_SERIALISED) for each in study.capture.manifest.sources):
            study.not_evaluated.append(_NOT_TOLD)
            return
        walls = pauses.deciding_walls(study)
        found = pauses.find(study, list(walls))
        lost = {gpu: int(each.length_ns[each.launch].sum()) for gpu, each in found.items()}
        worst = max(lost, key=lambda gpu: (lost[gpu], -gpu), default=None)
        if worst is None or lost[worst] <= 0:
            return
        wall = walls[worst] - float(found[worst].length_ns[found[worst].once].sum())
        if lost[worst] >= thresholds().timeline.gap_frac.value * wall:
            study.targets.append(_target(study, worst, wall, found[worst]))


def _target(study: Study, gpu: int, wall: float, found: pauses.Pauses) -> Target:
    lost = int(found.length_ns[found.launch].sum())
    name, where = "the GPU", ""
    if study.kernels["gpu"].nunique() > 1:
        name = f"GPU {gpu}"
        why = "which loses most" if study.kernels["critical"].all() else "which the others wait for"
        where = f" on {name}, {why},"
    evidence = [*_counted(found, wall, where), *_others(found, wall)]
    if not study.kernels["critical"].all():
        evidence.append(
            "pauses after dispatches that this GPU alone makes are in the late rank's target too: the two "
            "gains do not add up"
        )
    kind = "waiting for launches" if found.annotated else "in short pauses between kernels"
    return ranking.of_lost_time(
        "launch-gaps",
        f"{name} is idle for {percent(lost / wall)} of the window, {kind}",
        lost_ns=lost,
        wall_ns=wall,
        shares=study.gains.shares("gaps", thresholds().gain["gaps"]),
        regains="gaps",
        shares_of="gaps",
        basis=f"a part of the {percent(lost / wall)} lost in these pauses, as recorded with the profiler on",
        confidence="medium",
        evidence=evidence,
    )


def _counted(found: pauses.Pauses, wall: float, where: str) -> list[str]:
    """Say what was counted: pauses within steps where those are annotated, and short ones."""
    length, inside = found.length_ns, np.array([each is not None for each in found.phase], np.bool_)
    line = duration(thresholds().timeline.launch_gap_s.value * 1e9)

    def told(chosen: pauses.Flags, which: str, where: str = "") -> str:
        lost, count = int(length[chosen].sum()), int(chosen.sum())
        return (
            f"{count} pauses {which}{where} add up to {duration(lost)} of {duration(wall)} "
            f"({percent(lost / wall)}), {duration(lost / count)} each on average [timeline-launch-gaps]"
        )

    steps, rest = found.launch & inside, found.launch & ~inside
    parts = []
    if steps.any():
        parts.append(told(steps, "between kernels of one annotated step", where))
        kinds = [(kind, steps & (found.phase == kind)) for kind in _PHASES]
        by_kind = "; ".join(
            f"{int(these.sum())} in {kind + ' ' if kind != 'step' else ''}steps, "
            f"{duration(int(length[these].sum()))}"
            for kind, these in kinds
            if these.any()
        )
        parts.append(f"however long, the host had begun the step and was launching the rest of it: {by_kind}")
    if rest.any():
        which = f"of at most {line} between kernels"
        parts.append(told(rest, f"{which} outside of steps" if steps.any() else which, where))
    return parts


def _others(found: pauses.Pauses, wall: float) -> list[str]:
    """Say which pauses are not counted, and why."""
    length, parts = found.length_ns, []
    long = found.stall & ~found.once
    if count := int(long.sum()):
        lost = int(length[long].sum())
        takes = f"{count} longer pauses take" if count > 1 else "one longer pause takes"
        where = " between steps" if found.annotated else ""
        parts.append(
            f"beside them {takes} {duration(lost)} ({percent(lost / wall)}){where}: there the host did other "
            "things"
        )
    if found.within.any():
        parts.append(
            f"{int(found.within.sum())} pauses, {duration(int(length[found.within].sum()))}, are between "
            "kernels that one launch made both, as a graph's, and are not counted"
        )
    if count := int(found.once.sum()):
        line = duration(thresholds().timeline.step_gap_s.value * 1e9)
        which = f"one pause of more than {line}" if count == 1 else f"{count} pauses of more than {line}"
        parts.append(
            f"{which} within steps, {duration(int(length[found.once].sum()))}, "
            f"{'is' if count == 1 else 'are'} left out of the window too: no launch takes so long, a kernel "
            "compiled when it is first needed does"
        )
    return parts


ANALYZER = LaunchGaps()
