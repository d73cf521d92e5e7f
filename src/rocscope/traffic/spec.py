"""What load a user asks for, and the command that makes it."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from rocscope.errors import UsageError

Kind = Literal["builtin", "bench-serve", "command"]
RESULT: Final = "result.json"


class Shape(BaseModel):
    """The requests of the built-in generator."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    concurrency: tuple[int, ...] = (1, 8)  # levels, one after another; of an open loop the most in flight
    requests: int | None = Field(default=None, ge=1)  # a level; None: four a client, eight at least
    prompt: int = Field(default=512, ge=1, le=1_000_000)  # tokens
    output: int = Field(default=128, ge=1, le=1_000_000)  # tokens
    rate: float | None = Field(default=None, gt=0, allow_inf_nan=False)  # arrivals a second: an open loop
    warmup: int = Field(default=2, ge=0)  # requests before each level, not counted
    seed: int = Field(default=0, ge=0)

    @field_validator("concurrency", mode="before")
    @classmethod
    def _levels(cls, value: object) -> object:
        return tuple(value.split("+")) if isinstance(value, str) else value

    @field_validator("concurrency")
    @classmethod
    def _positive(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value or min(value) < 1 or max(value) > 4096:
            raise ValueError("levels are numbers from 1 to 4096, e.g. 1+8+32")
        return value

    def requests_at(self, concurrency: int) -> int:
        """Requests counted at one level."""
        return self.requests or max(8, 4 * concurrency)

    def arguments(self) -> list[str]:
        """Options of ``rocscope load`` that ask for this."""
        given = [
            "--concurrency",
            "+".join(map(str, self.concurrency)),
            "--prompt",
            str(self.prompt),
            "--output",
            str(self.output),
            "--warmup",
            str(self.warmup),
            "--seed",
            str(self.seed),
        ]
        if self.requests is not None:
            given += ["--requests", str(self.requests)]
        if self.rate is not None:
            given += ["--rate", f"{self.rate:g}"]
        return given


@dataclass(frozen=True)
class Place:
    """The server that a load goes to."""

    url: str
    socket_path: str = ""
    vllm: tuple[str, ...] = ("vllm",)  # how vLLM itself is called, to run its benchmark
    model: str | None = None  # name or folder, for its tokeniser
    served_name: str = ""  # as requests name it, where that differs


@dataclass(frozen=True)
class Load:
    """A load as ``--load`` names it."""

    kind: Kind
    words: tuple[str, ...] = ()  # of a command, or further options of bench-serve
    shape: Shape = field(default_factory=Shape)

    @property
    def measures(self) -> bool:
        """Whether it says afterwards how fast the server was."""
        return self.kind != "command"

    def command(self, server: Place, folder: Path) -> tuple[str, ...]:
        """Say what to run against ``server``; results go into ``folder``. Raises :class:`UsageError`."""
        if self.kind == "command":
            return self.words
        if self.kind == "builtin":
            more = ["--uds", server.socket_path] if server.socket_path else []
            target = str(folder / RESULT)
            words = (
                "-m",
                "rocscope",
                "load",
                server.url,
                *self.shape.arguments(),
                *more,
                "--json-to",
                target,
            )
            return (sys.executable, *words)
        if server.model is None or server.socket_path:
            what = "listens on a Unix socket" if server.socket_path else "does not say which model it serves"
            raise UsageError(f"--load bench-serve: the server {what}", "use --load builtin")
        named = ("--served-model-name", server.served_name) if server.served_name else ()
        return (
            *(*server.vllm, "bench", "serve", "--backend", "vllm", "--base-url", server.url),
            *("--model", server.model, *named, "--dataset-name", "random"),
            *("--random-input-len", str(self.shape.prompt), "--random-output-len", str(self.shape.output)),
            *("--ignore-eos", "--seed", str(self.shape.seed)),
            *("--num-prompts", str(self.shape.requests_at(max(self.shape.concurrency)))),
            *("--max-concurrency", str(max(self.shape.concurrency))),
            *("--percentile-metrics", "ttft,tpot,itl,e2el", "--save-result"),
            *("--result-dir", str(folder), "--result-filename", RESULT, *self.words),
        )


def parse(text: str) -> Load | None:
    """Read what ``--load`` was given; ``None`` for ``none``.

    ``builtin`` or ``builtin:concurrency=1+8,prompt=512,output=128,requests=32,rate=4,warmup=2,seed=0``;
    ``bench-serve``, with options of ``vllm bench serve`` behind it; anything else is a command, run without
    a shell. Raises :class:`UsageError` that names the field.
    """
    if text.strip() == "none":
        return None
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UsageError(f"--load: {error}", "mind the quotes") from error
    if not words:
        raise UsageError("--load is empty", "write --load builtin, --load bench-serve or --load COMMAND")
    if words[0] == "bench-serve":
        return Load("bench-serve", tuple(words[1:]), Shape(concurrency=(8,)))
    kind, _, given = words[0].partition(":")
    if kind != "builtin":
        return Load("command", tuple(words))
    if len(words) > 1:
        raise UsageError(
            f"--load builtin: what is {words[1]!r}?", "write --load builtin:prompt=512,output=128"
        )
    fields: dict[str, str] = {}
    for part in filter(None, given.split(",")):
        name, equals, value = part.partition("=")
        if not equals:
            raise UsageError(f"--load builtin: {part!r} has no value", "write for example builtin:prompt=512")
        fields[name.strip()] = value.strip()
    return Load("builtin", (), checked(fields, "--load builtin"))


def checked(fields: dict[str, str], where: str) -> Shape:
    """Make a shape of texts. Raises :class:`UsageError` that names the field and lists those there are."""
    try:
        return Shape.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        if first["type"] == "extra_forbidden":
            raise UsageError(
                f"{where}: no field {name!r}", f"fields are {', '.join(Shape.model_fields)}"
            ) from error
        raise UsageError(f"{where}: {name}: {first['msg'].lower()}", "see rocscope load --help") from error
