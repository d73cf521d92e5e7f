"""What a GPU pauses in one step, for launches and for longer: to be held against the same step elsewhere."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from rocscope import columns
from rocscope.analyzers import pauses
from rocscope.analyzers.integrity import kernels_missing
from rocscope.step_kernels import StepKernels
from rocscope.study import Study

_SERIALISED: Final = "omniperf"  # formats of runs under a tool that lets one kernel run at a time


class Idle(NamedTuple):
    """Pauses of one step, the mean over the steps."""

    gaps_s: float  # for launches, and those between kernels of one launch, which stay when a graph makes it
    stalls_s: float  # too long for launches


def told(study: Study) -> bool:
    """Tell whether pauses of the recording are the program's own, and no kernel is known to be missing."""
    formats = (each.format for each in study.capture.manifest.sources)
    return not (kernels_missing(study) or any(each.startswith(_SERIALISED) for each in formats))


def of_steps(study: Study, found: StepKernels) -> dict[int, Idle]:
    """Return the pauses of a step, by GPU; empty where pauses are not told.

    A pause goes with the step of the kernel before it, up to the start of the next one.
    """
    if not told(study):
        return {}
    gpus, starts = columns.ints(found.rows["gpu"]), columns.ints(found.rows["start_ns"])
    every = pauses.find(study, sorted(found.steps))
    result = {}
    for gpu, steps in found.steps.items():
        here = np.flatnonzero(gpus == gpu)
        here = here[np.argsort(starts[here], kind="stable")]
        pause = every[gpu]
        before = here[np.searchsorted(starts[here], pause.start_ns, side="right") - 1]
        inside = found.inside[before]
        for_launches = (pause.launch | pause.within) & inside
        long = pause.stall & ~pause.once & inside
        length = pause.length_ns
        result[gpu] = Idle(*(float(length[each].sum()) * 1e-9 / steps for each in (for_launches, long)))
    return result
