"""How often is sampled: as the settings say, slower while the daemon costs more than it may."""

from __future__ import annotations

from collections import deque
from typing import Final

OVER_S: Final = 600.0
LOOK_S: Final = 10.0
SLOWEST: Final = 1 / 16
SPARE: Final = 2.5  # twice the rate must fit with room to spare before the rate is raised again


class Pace:
    """Watches the cost over ten minutes and halves the rate, or doubles it again up to the settings'."""

    def __init__(self, hz: float, max_cpu_frac: float) -> None:
        self._hz, self._max = hz, max_cpu_frac
        self._factor = 1.0
        self._seen: deque[tuple[float, float]] = deque()

    @property
    def hz(self) -> float:
        """Readings a second."""
        return self._hz * self._factor

    @property
    def period_s(self) -> float:
        """Seconds between readings."""
        return 1 / self.hz

    @property
    def slowed(self) -> bool:
        """Whether it is slower than the settings ask."""
        return self._factor < 1

    def reset(self, hz: float, max_cpu_frac: float) -> None:
        """Take other settings."""
        if (hz, max_cpu_frac) != (self._hz, self._max):
            self.__init__(hz, max_cpu_frac)  # type: ignore[misc]  # all of it begins anew

    def cost_frac(self) -> float | None:
        """Cost over what was seen since the rate last changed, as a share of one core."""
        if len(self._seen) < 2:
            return None
        (began, before), (ended, after) = self._seen[0], self._seen[-1]
        return (after - before) / (ended - began)

    def seen(self, at_s: float, cpu_s: float) -> str:
        """Take the CPU time used so far, all resident processes together; return what was changed, if so.

        The first minutes count as the rest: what a start costs is spread over ten minutes as well.
        """
        if self._seen and at_s - self._seen[-1][0] < LOOK_S:
            return ""
        if self._seen and cpu_s < self._seen[-1][1]:
            self._seen.clear()  # a child was started anew
        self._seen.append((at_s, cpu_s))
        while self._seen[-1][0] - self._seen[0][0] > OVER_S + LOOK_S:
            self._seen.popleft()
        cost = self.cost_frac()
        if cost is None or self._seen[-1][0] - self._seen[0][0] < OVER_S:
            return ""
        if cost > self._max and self._factor > SLOWEST:
            return self._change(0.5, f"it cost {cost:.2%} of a core over ten minutes, over the limit of "
                                     f"{self._max:.2%}")  # fmt: skip
        if self.slowed and cost * SPARE < self._max:
            return self._change(2.0, f"it cost {cost:.2%} of a core over ten minutes, far below the limit")
        return ""

    def _change(self, by: float, why: str) -> str:
        self._factor *= by
        self._seen.clear()
        return f"sampling at {self.hz:g} Hz from now on: {why}"
