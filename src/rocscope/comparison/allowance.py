"""By how much two runs of one thing may differ where no repeats of either show it.

Steps of one recording tell nothing of the next one: a kernel's launches come out shorter or longer as a
server is started anew, and the time in which the GPU waits for the host is that run's own. What is allowed
was measured between servers that nothing set apart; its figures and their source are in thresholds.toml.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rocscope.comparison.side import Side
from rocscope.thresholds import thresholds
from rocscope.wording import duration, percent


@dataclass(frozen=True)
class Allowance:
    """What is allowed of a step's columns, beyond what chance makes of its own steps."""

    frac: float = 0.0  # of any time
    launch_ns: float = 0.0  # of each launch of one kernel
    family_launch_ns: float = 0.0  # of each launch of a family, whose kernels even out
    idle_ns: float = 0.0  # of the time of a step in which no kernel runs

    def of_launches(self, launches: float, time_ns: float, *, family: bool) -> float:
        """Return what is allowed of ``time_ns`` a step in so many launches, relative."""
        each = self.family_launch_ns if family else self.launch_ns
        return self.frac + (each * launches / time_ns if time_ns > 0 else 0.0)

    def of_idle(self, change_ns: float) -> float:
        """Return the part of a change of idle time that a run may have made by itself, ns."""
        return float(np.clip(change_ns, -self.idle_ns, self.idle_ns))


NOTHING = Allowance()


def between(base: Side, new: Side) -> Allowance:
    """Return what is allowed between two sides that are not repeated.

    Parts of one recording have one server and one host, and synthetic ones none: for them a share stands.
    """
    data = thresholds().compare
    if _one_run(base, new):
        return Allowance(frac=data.run_to_run_frac.value)
    return Allowance(
        frac=data.run_to_run_frac.value,
        launch_ns=data.run_to_run_launch_s.value * 1e9,
        family_launch_ns=data.run_to_run_family_launch_s.value * 1e9,
        idle_ns=data.run_to_run_idle_s.value * 1e9,
    )


def told(allowed: Allowance) -> str:
    """Return the figures of an allowance in words, with their verb."""
    share = percent(allowed.frac)
    if not allowed.launch_ns:
        return f"{share} is"
    one, family, idle = map(duration, (allowed.launch_ns, allowed.family_launch_ns, allowed.idle_ns))
    return (
        f"{share}, {one} a launch of a kernel ({family} of a family) and {idle} a step without a kernel are"
    )


def _one_run(base: Side, new: Side) -> bool:
    first, second = base.capture.manifest, new.capture.manifest
    if "synthetic" in (first.provenance, second.provenance):
        return True
    return first.id == second.id or bool(first.sources and first.sources == second.sources)
