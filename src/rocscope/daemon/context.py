"""What every part of the daemon is given."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from rocscope.daemon.events import Events
    from rocscope.daemon.history import History
    from rocscope.daemon.pace import Pace
    from rocscope.daemon.part import Part
    from rocscope.daemon.settings import Settings
    from rocscope.daemon.state_dir import StateDir
    from rocscope.daemon.store import Store
    from rocscope.daemon.supervisor import Trouble
    from rocscope.daemon.wall_clock import WallClock


class Clock(Protocol):
    """What of the daemon's clocks most need, in seconds; no part reads the system's own."""

    def wall_s(self) -> float:
        """Unix time, which may jump."""
        ...

    def monotonic_s(self) -> float:
        """The time that :class:`History` is kept in."""
        ...


@dataclass(frozen=True)
class Facts:
    """What does not change while the daemon runs."""

    version: str
    node: str
    pid: int
    started_wall_s: float
    started_monotonic_s: float


@dataclass(frozen=True)
class Reloaded:
    """How a reload went: what changed at once, what only a restart will change, why it was refused."""

    changed: tuple[str, ...] = ()  # "windows.every_s"
    needs_restart: tuple[str, ...] = ()
    refused: str = ""  # then the old settings hold


async def _no_reload() -> Reloaded:
    return Reloaded(refused="the service is not up yet")


@dataclass
class Context:
    """Shared by all parts and used from the event loop; ``settings`` is another object after a reload."""

    settings: Settings
    clock: WallClock
    folder: StateDir
    store: Store
    history: History
    pace: Pace
    events: Events
    facts: Facts
    parts: Mapping[str, Part] = field(default_factory=dict)  # that run now, by name
    trouble: Mapping[str, Trouble] = field(default_factory=dict)  # failures of each wanted part
    reload: Callable[[], Awaitable[Reloaded]] = _no_reload

    def part(self, name: str) -> Any:
        """Return the part of that name, ``None`` where it does not run; ask anew each time, never keep it."""
        return self.parts.get(name)
