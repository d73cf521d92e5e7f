"""Long pauses of the GPU: the host did other things, and what it did where that was recorded."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from rocscope import ranking
from rocscope.analyzers import pauses, stall_causes
from rocscope.analyzers.integrity import kernels_missing
from rocscope.findings import Target
from rocscope.study import Study
from rocscope.thresholds import Shares, thresholds
from rocscope.wording import duration, percent

_NAMED: Final = 3
_LONGEST_NAME: Final = 160  # a span may be named after a whole prompt
_OUTER_FRAC: Final = 0.5  # a span over half of the window tells nothing of its pauses
Ints = NDArray[np.int64]


class Stalls:
    """Adds a target where pauses too long to be launches take much of the window; no columns."""

    name = "stalls"
    help = "long pauses of the GPU, and what the host did in them"
    needs = ("gpu", "wall_ns", "critical", "perturbed")
    adds = ()

    def run(self, study: Study) -> None:
        """Look at the GPU that loses most, of those that no other makes wait."""
        frame = study.kernels
        if kernels_missing(study) or frame["perturbed"].any():
            return
        walls = pauses.deciding_walls(study)
        every = pauses.find(study, list(walls))
        found = [
            (gpu, wall, every[gpu].start_ns[every[gpu].stall], every[gpu].end_ns[every[gpu].stall])
            for gpu, wall in walls.items()
        ]
        if not found:
            return
        gpu, wall, starts, ends = max(found, key=lambda each: int((each[3] - each[2]).sum()))
        lost = int((ends - starts).sum())
        if wall <= 0 or lost / wall < thresholds().timeline.gap_frac.value:
            return
        name = f"GPU {gpu}" if frame["gpu"].nunique() > 1 else "the GPU"
        study.targets.append(
            _target(
                name,
                lost,
                wall,
                f"{len(starts)} pauses {_which(every[gpu])}",
                _host(study, starts, ends, wall),
                shares=study.gains.shares("stalls", thresholds().gain["stalls"]),
            )
        )
        study.targets[-1].evidence[1:1] = stall_causes.sentences(study, gpu, starts, ends)


def _host(study: Study, starts: Ints, ends: Ints, wall: float) -> list[str]:
    """Name the host's spans that cover most of the pauses; nested ones each count."""
    spans = study.capture.spans
    if not spans.num_rows:
        return []
    first, last = spans["start_ns"].to_numpy(), spans["end_ns"].to_numpy()
    # time in pauses up to a moment, by straight lines between their ends
    moments = np.column_stack((starts, ends)).ravel()
    base = moments[0]
    gone = np.column_stack((np.cumsum(ends - starts) - (ends - starts), np.cumsum(ends - starts))).ravel()
    inside: Any = np.interp(last - base, moments - base, gone) - np.interp(first - base, moments - base, gone)
    kinds = pc.equal(spans["kind"].cast("string"), "gpu_annotation").to_numpy(zero_copy_only=False)
    useful = (inside > 0) & (last - first < _OUTER_FRAC * wall) & ~kinds
    if not useful.any():
        return []
    import pandas as pd

    names = spans["name"].cast("string").to_pandas()[useful]
    total = pd.Series(inside[useful], index=names.index).groupby(names).sum()
    lost = float((ends - starts).sum())
    told = [(str(name), time) for name, time in total.sort_values(ascending=False, kind="stable").items()]
    return [
        f"{name[:_LONGEST_NAME]}: {percent(min(1.0, time / lost))} of the pauses [stalls-host-span]"
        for name, time in told[:_NAMED]
        if time >= 0.1 * lost
    ]


def _which(found: pauses.Pauses) -> str:
    line, step = thresholds().timeline.launch_gap_s.value, thresholds().timeline.step_gap_s.value
    if not found.annotated:
        return f"of more than {duration(line * 1e9)} between kernels"
    text = f"of more than {duration(line * 1e9)} outside of annotated steps"
    return f"{text}, or {duration(step * 1e9)} within," if found.once.any() else text


def _target(name: str, lost: int, wall: float, which: str, host: list[str], *, shares: Shares) -> Target:
    where = (
        ["what the host did in them, by its spans (one within another counts in both):", *host]
        if host
        else []
    )
    return ranking.of_lost_time(
        "host-stalls",
        f"{name} is idle for {percent(lost / wall)} of the window, in pauses too long for launches",
        lost_ns=lost,
        wall_ns=wall,
        shares=shares,
        regains="stalls",
        shares_of="stalls",
        basis=f"a part of the {percent(lost / wall)} lost in long pauses",
        confidence="low",
        evidence=[
            f"{which} add up to {duration(lost)} of "
            f"{duration(wall)} ({percent(lost / wall)}) [stalls-long-pauses]",
            *where,
        ],
    )


ANALYZER = Stalls()
