"""What a check is, and the list of all of them."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from typing import Any, Final, Literal, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict, Field

from rocscope.doctor.machine import Machine

Status = Literal["ok", "warn", "fail", "unknown"]
DEADLINE_S: Final = 5.0


class Finding(BaseModel):
    """What one check saw."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    check: str  # its name
    title: str
    status: Status
    seen: str
    fix: str | None = None  # a command to run
    advice: str | None = None  # where no command does it
    blocks: int | None = None  # the exit code of `rocscope profile` here, where this alone prevents it
    details: dict[str, Any] = Field(default_factory=dict)  # JSON-able; units in the names


@runtime_checkable
class Check(Protocol):
    """Looks at one thing. A module ``check_*.py`` of this package exports its own as ``CHECKS``."""

    name: str
    title: str
    help: str
    order: int  # in the table
    deadline_s: float  # after which it is given up

    def run(self, machine: Machine) -> Finding:
        """Look, and change nothing. May take until the deadline, may raise what it likes."""
        ...


class Base:
    """What most checks have in common."""

    name = ""
    title = ""
    deadline_s = DEADLINE_S

    def ok(self, seen: str, **more: Any) -> Finding:
        """All is well."""
        return self._found("ok", seen, more)

    def warn(self, seen: str, **more: Any) -> Finding:
        """Profiling is possible, and something will be missing or slow."""
        return self._found("warn", seen, more)

    def fail(self, seen: str, **more: Any) -> Finding:
        """Something does not work."""
        return self._found("fail", seen, more)

    def unknown(self, seen: str, **more: Any) -> Finding:
        """It cannot be told."""
        return self._found("unknown", seen, more)

    def _found(self, status: Status, seen: str, more: dict[str, Any]) -> Finding:
        return Finding(check=self.name, title=self.title, status=status, seen=seen, **more)


@cache
def checks() -> tuple[Check, ...]:
    """Return every check, in order."""
    import rocscope.doctor as package

    found: list[Check] = []
    for module in pkgutil.iter_modules(package.__path__):
        if module.name.startswith("check_"):
            found += importlib.import_module(f"{package.__name__}.{module.name}").CHECKS
    return tuple(sorted(found, key=lambda each: (each.order, each.name)))
