"""What is said over the control socket: one JSON object a line, a question and its answer.

A question names a command and what that command takes, and nothing that could become a command line, a path
or a variable.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

MAX_BYTES: Final = 64 << 10  # of a question
MAX_ANSWER_BYTES: Final = 4 << 20


class _Question(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class AskWindow(_Question):
    """Open a window now."""

    command: Literal["window"] = "window"
    profile: str = Field(default="kernel-trace", max_length=64)
    engine: str | None = Field(default=None, max_length=300)
    window_s: float | None = Field(default=None, gt=0, le=3600, allow_inf_nan=False)
    force: bool = False
    reason: str = Field(default="asked for by the operator", max_length=200)


class AskStatus(_Question):
    """Say how everything is."""

    command: Literal["status"] = "status"


class AskPause(_Question):
    """Open no window for a while, or until resumed."""

    command: Literal["pause"] = "pause"
    for_s: float | None = Field(default=None, gt=0, le=31_622_400, allow_inf_nan=False)


class AskResume(_Question):
    """End a pause and close the breaker."""

    command: Literal["resume"] = "resume"


class AskReload(_Question):
    """Read the settings again."""

    command: Literal["reload"] = "reload"


Question = Annotated[AskWindow | AskStatus | AskPause | AskResume | AskReload, Field(discriminator="command")]
QUESTIONS: Final[TypeAdapter[Question]] = TypeAdapter(Question)


class Reply(BaseModel):
    """The answer: ``ok`` with ``result``, or ``error`` with what to do next."""

    model_config = ConfigDict(extra="forbid")

    ok: bool
    result: dict[str, Any] = Field(default_factory=dict)
    error: str | None = None
    hint: str | None = None
