"""Short pauses between kernels: the GPU waits for launches."""

from __future__ import annotations

from rocscope import ranking
from rocscope.analyzers import stalls
from rocscope.analyzers.integrity import kernels_missing
from rocscope.findings import Target
from rocscope.study import Study
from rocscope.thresholds import thresholds
from rocscope.wording import duration, percent


class LaunchGaps:
    """Adds a target where pauses short enough to be launches take much of the window; no columns."""

    name = "launch_gaps"
    help = "short pauses of the GPU between launches"
    needs = ("gpu", "wall_ns", "critical", "perturbed")
    adds = ()

    def run(self, study: Study) -> None:
        """Look at the GPU that loses most, of those that wait for no other.

        GPUs of one run wait at the same time, so that what they lose does not add up; where one is late, the
        pauses of the others end in waiting for it, and to launch faster there ends no step sooner.
        """
        if kernels_missing(study) or study.kernels["perturbed"].any():
            return
        line = thresholds().timeline.launch_gap_s.value * 1e9
        walls = stalls.deciding_walls(study)
        gaps = {gpu: stalls.gaps_ns(study, gpu) for gpu in walls}
        lost = {gpu: int(each[each <= line].sum()) for gpu, each in gaps.items()}
        worst = max(lost, key=lambda gpu: (lost[gpu], -gpu), default=None)
        if worst is None or lost[worst] < thresholds().timeline.gap_frac.value * walls[worst]:
            return
        if lost[worst] > 0:
            study.targets.append(_target(study, worst, walls[worst], gaps[worst], line))


def _target(study: Study, gpu: int, wall: float, gaps: stalls.Ints, line: float) -> Target:
    short, long = gaps[gaps <= line], gaps[gaps > line]
    lost, rest = int(short.sum()), int(long.sum())
    name, where = "the GPU", ""
    if study.kernels["gpu"].nunique() > 1:
        name = f"GPU {gpu}"
        why = "which loses most" if study.kernels["critical"].all() else "which the others wait for"
        where = f" on {name}, {why},"
    evidence = [
        f"{len(short)} pauses of at most {duration(line)} between kernels{where} add up to {duration(lost)} "
        f"of {duration(wall)} ({percent(lost / wall)}), {duration(lost / len(short))} each on average "
        "[timeline-launch-gaps]"
    ]
    if rest:
        evidence.append(
            f"beside them {len(long)} longer pauses take {duration(rest)} ({percent(rest / wall)}): there "
            "the host did other things"
        )
    if not study.kernels["critical"].all():
        evidence.append(
            "pauses after dispatches that this GPU alone makes are in the late rank's target too: the two "
            "gains do not add up"
        )
    return ranking.of_lost_time(
        "launch-gaps",
        f"{name} is idle for {percent(lost / wall)} of the window, in short pauses between kernels",
        lost_ns=lost,
        wall_ns=wall,
        shares=thresholds().gain["gaps"],
        basis=f"a part of the {percent(lost / wall)} lost in these pauses, as recorded with the profiler on",
        confidence="medium",
        evidence=evidence,
    )


ANALYZER = LaunchGaps()
