"""One line of what was held against the truth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict

Status = Literal["pass", "fail", "not applicable", "not run"]
STATUSES: Final[tuple[Status, ...]] = ("pass", "fail", "not applicable", "not run")


class Verdict(BaseModel):
    """Whether what was read is what must be true, and by which figures."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    check: str  # stable, in kebab-case
    trial: str  # which profiler and counters: "rocprofv3 standard"
    kernel: str = ""  # the known kernel's case; "": all of them
    status: Status
    expected: str = ""  # with its unit
    seen: str = ""
    why: str = ""  # in words of our own
    detail: str = ""  # what another program said; never leaves the machine

    def line(self) -> str:
        """Return it as one line of text."""
        what = " ".join(part for part in (self.trial, self.kernel, self.check) if part)
        figures = "; ".join(
            part
            for part in (
                f"expected {self.expected}" if self.expected else "",
                f"seen {self.seen}" if self.seen else "",
                self.why,
                self.detail,
            )
            if part
        )
        return f"{self.status:<14} {what}: {figures}".rstrip(": ")


def judge(passed: bool, check: str, trial: str, **more: Any) -> Verdict:
    """Return ``pass`` or ``fail``."""
    return Verdict(check=check, trial=trial, status="pass" if passed else "fail", **more)


def absent(check: str, trial: str, why: str, **more: Any) -> Verdict:
    """Return ``not applicable``: it cannot be told here, and nothing went wrong."""
    return Verdict(check=check, trial=trial, status="not applicable", why=why, **more)


def not_run(check: str, trial: str, why: str, **more: Any) -> Verdict:
    """Return ``not run``."""
    return Verdict(check=check, trial=trial, status="not run", why=why, **more)


def count(verdicts: Iterable[Verdict]) -> dict[Status, int]:
    """Return how many there are of each status."""
    found = Counter(each.status for each in verdicts)
    return {status: found[status] for status in STATUSES}
