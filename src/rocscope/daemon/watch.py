"""Windows that our own samples ask for: a value that stays below or above a line for a while."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import pairwise
from typing import Final

from rocscope.daemon.context import Clock
from rocscope.daemon.history import History
from rocscope.daemon.settings import Trigger

COVER_FRAC: Final = 0.8  # of the time that values have to be there before they say anything
RATE: Final = "_per_s"  # after a total's name: its rate over the trigger's time, generation_tokens_per_s
_FRESH_S: Final = 5.0
_SPACING: Final = 3.0  # times the usual spacing of values; a longer pause is a hole


@dataclass(frozen=True)
class Fired:
    """A trigger that holds: of which subject, and in words."""

    trigger: Trigger
    subject: str
    reason: str


class Watch:
    """Looks at the triggers of the settings, each time it is asked."""

    def __init__(self, triggers: Sequence[Trigger], clock: Clock, history: History) -> None:
        self.triggers = triggers  # others after a reload
        self._clock, self._history = clock, history
        self._fired_s: dict[str, float] = {}  # of a trigger, when last

    def fired(self) -> list[Fired]:
        """Return the triggers that hold now and have cooled down; each is then cooling again."""
        now, found = self._clock.monotonic_s(), []
        for trigger in self.triggers:
            if now < self._fired_s.get(trigger.name, -math.inf) + trigger.cooldown_s:
                continue
            hit = next(self._hits(trigger, now), None)
            if hit is not None:
                self._fired_s[trigger.name] = now
                found.append(hit)
        return found

    def _hits(self, trigger: Trigger, now: float) -> Iterator[Fired]:
        if trigger.while_metric and not self._meanwhile(trigger):
            return
        total = trigger.metric.removesuffix(RATE)
        as_rate = total != trigger.metric
        series = {(subject, metric) for _, subject, metric in self._history.series()}
        known = any(metric == trigger.metric for _, metric in series)
        for subject, metric in sorted(series):
            if trigger.subject and not fnmatchcase(subject, trigger.subject):
                continue
            if metric == trigger.metric:
                values = self._values(subject, metric, trigger.for_s, now)
            elif as_rate and not known and metric == total:
                rate = self._history.rate(subject, total, trigger.for_s)
                values = [] if rate is None else [rate]
            else:
                continue
            if values and all(_beyond(trigger, value) for value in values):
                yield Fired(trigger, subject, _told(trigger, subject, values))

    def _values(self, subject: str, metric: str, over_s: float, now: float) -> list[float]:
        """Return the values of the time, none where it is not covered: a hole may hide the opposite."""
        points = self._history.points(subject, metric, over_s)
        if not points or now - points[-1][0] > _FRESH_S:
            return []
        covered = points[-1][0] - points[0][0]
        if covered < COVER_FRAC * over_s:
            return []
        steps = sorted(later[0] - earlier[0] for earlier, later in pairwise(points))
        usual = steps[len(steps) // 2] if steps else 0.0
        if steps and steps[-1] > max(_SPACING * usual, (1 - COVER_FRAC) * over_s):
            return []
        return [value for _, value in points]

    def _meanwhile(self, trigger: Trigger) -> bool:
        """Tell whether the trigger's condition on another metric holds for any subject."""
        subjects = {s for _, s, metric in self._history.series() if metric == trigger.while_metric}
        values = (self._history.latest(subject, trigger.while_metric) for subject in subjects)
        return any(value is not None and value > trigger.while_above for value in values)


def _beyond(trigger: Trigger, value: float) -> bool:
    if trigger.below is not None:
        return value < trigger.below
    return trigger.above is not None and value > trigger.above


def _told(trigger: Trigger, subject: str, values: Sequence[float]) -> str:
    line = f"below {trigger.below:g}" if trigger.below is not None else f"above {trigger.above:g}"
    worst = max(values) if trigger.below is not None else min(values)
    return f"{trigger.name}: {trigger.metric} of {subject} {line} for {trigger.for_s:g} s (nearest {worst:g})"
