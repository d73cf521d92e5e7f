"""The built-in load: closed loop (so many clients) or open loop (so many arrivals a second), seeded."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from rocscope.errors import TargetError
from rocscope.traffic.requests import Asker, Timing

if TYPE_CHECKING:
    import httpx

    from rocscope.traffic.spec import Shape

Progress = Callable[[str], None]
TIMEOUT_S: Final = 120.0  # without a byte of an answer
CONNECT_S: Final = 10.0


def generate(
    url: str, shape: Shape, *, model: str | None = None, uds: str = "", progress: Progress | None = None
) -> dict[str, Any]:
    """Put load on the server at ``url`` and return what it was and gave, as JSON.

    SIGINT and SIGTERM end it in order: what was finished by then is returned. Raises :class:`TargetError`
    where the server does not answer or refuses every request.
    """
    return asyncio.run(_generate(url, shape, model, uds, progress or (lambda _: None)))


async def _generate(
    url: str, shape: Shape, model: str | None, uds: str, progress: Progress
) -> dict[str, Any]:
    import httpx

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(ValueError, RuntimeError, NotImplementedError):  # not in the main thread
            loop.add_signal_handler(number, stop.set)
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=max(shape.concurrency))
    async with httpx.AsyncClient(
        base_url=url,
        timeout=httpx.Timeout(TIMEOUT_S, connect=CONNECT_S),
        limits=limits,
        transport=httpx.AsyncHTTPTransport(uds=uds, limits=limits) if uds else None,
        trust_env=False,
        verify=False,  # noqa: S501  # the server is our own, and may have made its certificate itself
    ) as client:
        model = model or await _served(client, url)
        asker = Asker(client, model, prompt=shape.prompt, output=shape.output)
        try:
            await asker.probe()
        except ValueError as error:
            raise TargetError(f"{url} refuses completions: {error}", "look into the server's log") from error
        began = time.time()
        levels = []
        for index, concurrency in enumerate(shape.concurrency):
            if stop.is_set():
                break
            progress(f"load: {concurrency} at a time, level {index + 1} of {len(shape.concurrency)}")
            levels.append(await _level(asker, shape, concurrency, stop))
    if not any(level["requests"] for level in levels) and not stop.is_set():
        told = "; ".join(each["message"] for level in levels for each in level["failures"][:1])
        raise TargetError(f"no request to {url} was answered: {told}", "look into the server's log")
    return {
        "schema_version": "1",
        "kind": "builtin",
        "model": model,
        "shape": shape.model_dump(),
        "began_at_s": began,
        "ended_at_s": time.time(),
        "stopped": stop.is_set(),
        "levels": levels,
    }


async def _served(client: httpx.AsyncClient, url: str) -> str:
    import httpx

    try:
        answer = (await client.get("/v1/models")).raise_for_status().json()
        return str(answer["data"][0]["id"])
    except (httpx.HTTPError, ValueError, LookupError, TypeError) as error:
        raise TargetError(
            f"{url} does not say which model it serves ({type(error).__name__}: {error})",
            "is a server with the OpenAI API there? name the model with --model",
        ) from error


async def _level(asker: Asker, shape: Shape, concurrency: int, stop: asyncio.Event) -> dict[str, Any]:
    """Run one level: warm up, then count."""
    # the same requests whatever levels came before
    chance = random.Random(f"{shape.seed}/{concurrency}")  # noqa: S311  # repeatable, not secret
    for first in range(0, shape.warmup, concurrency):  # compiles and fills caches; not counted
        if not stop.is_set():
            together = min(concurrency, shape.warmup - first)
            await asyncio.gather(*(asker.ask(_own(chance)) for _ in range(together)))
    began = time.perf_counter()
    timings = await (_open if shape.rate else _closed)(asker, shape, concurrency, chance, stop)
    ended = max((each.began_s + (each.ended_s or 0.0) for each in timings), default=began)
    return summary(timings, concurrency, shape.rate, ended - began)


def _own(chance: random.Random) -> random.Random:
    # drawn in order, so that scheduling changes no prompt
    return random.Random(chance.getrandbits(64))  # noqa: S311  # repeatable, not secret


async def _closed(
    asker: Asker, shape: Shape, concurrency: int, chance: random.Random, stop: asyncio.Event
) -> list[Timing]:
    """So many clients, each sends its next request when its last was answered."""
    waiting = [_own(chance) for _ in range(shape.requests_at(concurrency))]
    waiting.reverse()
    done: list[Timing] = []

    async def client() -> None:
        while waiting and not stop.is_set():
            done.append(await asker.ask(waiting.pop()))

    await _until(stop, [asyncio.create_task(client()) for _ in range(concurrency)])
    return done


async def _open(
    asker: Asker, shape: Shape, concurrency: int, chance: random.Random, stop: asyncio.Event
) -> list[Timing]:
    """Arrivals at random times of a given rate, whether earlier ones were answered or not."""
    assert shape.rate is not None  # noqa: S101  # the caller looked
    done: list[Timing] = []
    places = asyncio.Semaphore(concurrency)
    at = time.perf_counter()
    tasks = []

    async def one(due: float, own: random.Random) -> None:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        async with places:
            if not stop.is_set():
                done.append(await asker.ask(own))

    for _ in range(shape.requests_at(concurrency)):
        tasks.append(asyncio.create_task(one(at, _own(chance))))
        at += chance.expovariate(shape.rate)
    await _until(stop, tasks)
    return done


async def _until(stop: asyncio.Event, tasks: list[asyncio.Task[None]]) -> None:
    """Wait for the tasks; where we are told to stop, drop what is not answered."""
    stopping = asyncio.create_task(stop.wait())
    pending: set[asyncio.Task[Any]] = set(tasks)
    while pending and not stopping.done():
        _, pending = await asyncio.wait({*pending, stopping}, return_when=asyncio.FIRST_COMPLETED)
        pending.discard(stopping)
    for each in [*pending, stopping]:
        each.cancel()
    ended = await asyncio.gather(*tasks, stopping, return_exceptions=True)
    for error in ended:
        if isinstance(error, Exception):
            raise error


def summary(timings: list[Timing], concurrency: int, rate: float | None, duration_s: float) -> dict[str, Any]:
    """Summarise a level; what is not known is ``None``. Failed requests are counted, not timed."""
    good = [each for each in timings if not each.error]
    prompts = [each.prompt_tokens for each in good]
    outputs = [each.output_tokens for each in good]
    made = sum(each for each in outputs if each is not None) if outputs and None not in outputs else None
    taken = sum(each for each in prompts if each is not None) if prompts and None not in prompts else None
    single = {
        "ttft_s": [each.first_s for each in good if each.first_s is not None],
        "tpot_s": [each.tpot_s for each in good if each.tpot_s is not None],
        "e2e_s": [each.ended_s for each in good if each.ended_s is not None],
    }
    failures = Counter(each.error for each in timings if each.error)
    return {
        "concurrency": concurrency,
        "rate_per_s": rate,
        "requests": len(good),
        "failed": len(timings) - len(good),
        "failures": [{"message": text, "count": count} for text, count in failures.most_common(5)],
        "duration_s": duration_s if good else None,
        "prompt_tokens": taken,
        "output_tokens": made,
        "output_tokens_per_s": made / duration_s if made is not None and duration_s > 0 else None,
        "requests_per_s": len(good) / duration_s if good and duration_s > 0 else None,
        "itl_s": _spread([gap for each in good for gap in each.gaps_s]),
        **{name: _spread(values) for name, values in single.items()},
        "per_request": {name: [round(value, 7) for value in values] for name, values in single.items()},
    }


def _spread(values: list[float]) -> dict[str, float] | None:
    if not values:
        return None
    import numpy as np

    p50, p90, p99 = np.percentile(values, (50, 90, 99))
    return {"mean": float(np.mean(values)), "p50": float(p50), "p90": float(p90), "p99": float(p99)}
