"""One streamed completion, and what it told of the server's speed."""

from __future__ import annotations

import json
import random
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import httpx

FIRST_ID, LAST_ID = 10, 250  # token ids that every vocabulary has, without its first, which have meanings
WORDS: Final = ("time", "of", "a", "token", "goes", "into", "reading", "weights", "from", "memory", "once")
MAX_LINE: Final = 1 << 20


@dataclass
class Timing:
    """Times of one request, seconds from its sending."""

    began_s: float  # of the monotonic clock
    first_s: float | None = None
    last_s: float | None = None
    ended_s: float | None = None
    gaps_s: list[float] = field(default_factory=list)  # between pieces of the answer
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    error: str = ""

    @property
    def tpot_s(self) -> float | None:
        """Seconds an output token after the first; ``None`` with fewer than two."""
        if self.first_s is None or self.last_s is None or not self.output_tokens or self.output_tokens < 2:
            return None
        return (self.last_s - self.first_s) / (self.output_tokens - 1)


class Asker:
    """Sends completions of one shape to one model; finds out first what the server understands."""

    def __init__(self, client: httpx.AsyncClient, model: str, *, prompt: int, output: int) -> None:
        self._client, self._model = client, model
        self._prompt, self._output = prompt, output
        self._ids, self._extra = True, True

    async def probe(self) -> None:
        """Send one short request; leave out what the server refuses. Raises ``ValueError`` with its words."""
        refused = ""
        for self._ids, self._extra in ((True, True), (True, False), (False, False)):
            timing = await self.ask(random.Random(0), prompt=8, output=2)  # noqa: S311  # not secret
            if not timing.error:
                return
            refused = refused or timing.error  # of what was asked for, not of the last resort
            if timing.first_s is None and timing.error.startswith("Connect"):
                break
        raise ValueError(refused)

    async def ask(self, chance: random.Random, *, prompt: int = 0, output: int = 0) -> Timing:
        """Send one request and read its answer to the end. Errors are in what is returned."""
        import httpx

        body = self._body(chance, prompt or self._prompt, output or self._output)
        timing = Timing(began_s=time.perf_counter())
        try:
            async with self._client.stream("POST", "/v1/completions", json=body) as answer:
                if answer.status_code != 200:
                    text = (await answer.aread())[:300].decode("utf-8", "replace")
                    timing.error = f"HTTP {answer.status_code}: {text}"
                    return timing
                async for line in _lines(answer):
                    _take(line, timing)
        except (httpx.HTTPError, ValueError) as error:
            timing.error = f"{type(error).__name__}: {error}"[:300]
        timing.ended_s = time.perf_counter() - timing.began_s
        if timing.first_s is None and not timing.error:
            timing.error = "the answer held no tokens"
        return timing

    def _body(self, chance: random.Random, prompt: int, output: int) -> dict[str, Any]:
        text: list[int] | str
        if self._ids:
            text = [chance.randint(FIRST_ID, LAST_ID) for _ in range(prompt)]
        else:  # about a token a word: the server's own count is what is reported
            text = " ".join(chance.choice(WORDS) for _ in range(prompt))
        body: dict[str, Any] = {"model": self._model, "prompt": text, "max_tokens": output}
        body |= {"temperature": 0, "stream": True}
        if self._extra:
            body |= {"ignore_eos": True, "stream_options": {"include_usage": True}}
        return body


async def _lines(answer: httpx.Response) -> AsyncIterator[str]:
    """Give the lines of an event stream, which line feeds end and nothing else: a token may be U+2028.

    Raises ``ValueError`` for a line without end.
    """
    left = b""
    async for piece in answer.aiter_bytes():
        *whole, left = (left + piece).split(b"\n")
        if len(left) > MAX_LINE:
            raise ValueError("a line of the answer does not end")
        for line in whole:
            yield line.decode("utf-8", "replace").rstrip("\r")
    yield left.decode("utf-8", "replace")


def _take(line: str, timing: Timing) -> None:
    """Take one line of an event stream. Raises ``ValueError`` for what is none."""
    if not line.startswith("data:") or len(line) > MAX_LINE:
        return
    text = line[5:].strip()
    if text == "[DONE]":
        return
    event = json.loads(text)
    if not isinstance(event, dict):
        raise ValueError("an event of the answer is no object")
    if "error" in event:
        raise ValueError(str(event["error"])[:200])
    now = time.perf_counter() - timing.began_s
    choices = event.get("choices")
    if isinstance(choices, list) and choices:
        if timing.first_s is None:
            timing.first_s = now
        elif timing.last_s is not None:
            timing.gaps_s.append(now - timing.last_s)
        timing.last_s = now
    usage = event.get("usage")
    if isinstance(usage, dict):
        timing.prompt_tokens = _count(usage.get("prompt_tokens"))
        timing.output_tokens = _count(usage.get("completion_tokens"))


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
