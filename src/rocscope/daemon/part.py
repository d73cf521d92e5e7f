"""A part of the daemon: something that runs beside the others and may fail without them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

if TYPE_CHECKING:
    from rocscope.daemon.context import Context
    from rocscope.daemon.settings import Settings

HealthState = Literal["ok", "degraded", "failing"]


@dataclass(frozen=True)
class Health:
    """How a part does: ``degraded`` still does some of its work; ``reason`` is for the operator to read."""

    state: HealthState = "ok"
    reason: str = ""


class Part(ABC):
    """What the service runs. A module of :mod:`rocscope.daemon.parts` exports its class as ``PART``.

    A part is built by ``PART(context)``, which must be cheap and must not fail for want of something in the
    world: what may fail belongs into :meth:`run`. Where ``run`` raises, the service calls :meth:`stop`,
    waits (ever longer), builds a new one and runs that; the other parts go on.
    """

    name: ClassVar[str]
    """In messages, health and metrics: one word."""
    sections: ClassVar[tuple[str, ...]] = ()
    """Sections of the settings that are read once only: a reload that changes one of them has the part
    stopped and built anew. What is read from ``context.settings`` at its use needs no entry."""

    fatal: ClassVar[tuple[type[Exception], ...]] = ()
    """Errors of its first run that end the daemon, such as a port that is taken."""

    def __init__(self, context: Context) -> None:
        self.context = context

    @classmethod
    def wanted(cls, settings: Settings) -> bool:
        """Whether these settings ask for this part."""
        return True

    @abstractmethod
    async def run(self) -> None:
        """Work until :meth:`stop`; to raise, or to return before, counts as a failure."""

    @abstractmethod
    async def stop(self) -> None:
        """Have :meth:`run` return soon, and leave nothing running: no thread, no child. May come twice."""

    def health(self) -> Health:
        """Tell how it does; called often, from the event loop."""
        return Health()

    def ready(self) -> bool:
        """Whether what others wait for at the start is there, such as a bound port."""
        return True
