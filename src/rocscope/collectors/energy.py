"""Energy counters of GPUs made monotonic: MI100's wraps every few minutes, all restart with their GPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MAX_POWER_W: Final = 3000.0
"""No card draws more: a step that would need it is no wrap but a counter that began anew."""

NARROW_POWER_W: Final = 400.0
"""What an MI100 may draw, the one card with a narrow counter: its cap of 290 W and what bursts pass it."""

_SLACK_J: Final = 500.0  # the firmware writes the counter at its own pace
_LEAST_GAP_S: Final = 0.01


@dataclass
class EnergyMeter:
    """Follows one counter. ``bits`` is how wide it is in the firmware, ``tick_j`` its unit."""

    bits: int
    tick_j: float
    lost: str = ""  # why the energy is not known any more, once it is not
    _last: int | None = None
    _time_ns: int = 0
    _wrapped: int = 0

    def energy_j(self, ticks: int, time_ns: int) -> float | None:
        """Return the energy since the counter began, in J, never less than before.

        A narrow counter that fell has wrapped, if the energy that this means can have been used in the
        time. Where it cannot, where a wide one fell, or where a narrow one was not read for longer than it
        takes to wrap at full power, how much was used is not known: ``None`` from then on, and ``lost`` says
        why.
        """
        if self.lost:
            return None
        ticks &= (1 << self.bits) - 1
        last, gap_s = self._last, max((time_ns - self._time_ns) / 1e9, _LEAST_GAP_S)
        self._last, self._time_ns = ticks, time_ns
        if last is not None:
            most = gap_s * MAX_POWER_W + _SLACK_J
            span = (1 << self.bits) * self.tick_j
            if self.bits < 64 and gap_s * NARROW_POWER_W > span:
                self.lost = f"it was not read for {gap_s:.0f} s, in which its counter may have wrapped unseen"
            elif ticks < last:
                used = ((ticks - last) % (1 << self.bits)) * self.tick_j
                if self.bits == 64 or used > most:
                    self.lost = "its counter began anew"
                else:
                    self._wrapped += 1
            elif (ticks - last) * self.tick_j > most:
                self.lost = "its counter jumped"
        return None if self.lost else (ticks + (self._wrapped << self.bits)) * self.tick_j
