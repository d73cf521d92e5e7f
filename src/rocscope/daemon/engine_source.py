"""The vLLM servers of this node: found, asked once a second, and what they count made into rates.

A server that dies, hangs, restarts, or answers what cannot be used costs readings, never the daemon: each is
watched by a task of its own, each answer has a deadline and a limit, and one that keeps failing is asked less
often.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rocscope import serving_names as ours
from rocscope.daemon.engines import Discovery, Engine, wanted
from rocscope.daemon.part import Health, Part
from rocscope.daemon.scrape import Scraped, Scraper
from rocscope.errors import InputError

if TYPE_CHECKING:
    from rocscope.daemon.context import Context

SOURCE: Final = "engine"
DISCOVER_S: Final = 15.0
SLOWEST_S: Final = 15.0  # between questions to a server that does not answer
FAILURES: Final = 3  # in a row before it is said and asked less often
PARSE_FRAC: Final = 0.002  # of a core that reading one server's answers may take; a longer one is asked less
RATED: Final = ("prompt_tokens", "generation_tokens", "preemptions", "prefix_cache_queried_tokens",
                "prefix_cache_hit_tokens", "engine_steps", "step_tokens")  # fmt: skip
QUANTILES: Final = {"p50": 0.5, "p99": 0.99}
OBSERVED: Final = ("ttft_s", "itl_s", "tpot_s", "e2e_s")  # of which buckets are kept, the others' sums alone
OVER_S: Final = 60.0  # that quantiles are of
QUANTILES_EVERY_S: Final = 5.0


@dataclass
class EngineState:
    """How one server does, for views and for who wants a window of it."""

    engine: Engine
    answered_s: float | None = None  # monotonic, when it last answered
    since_s: float = 0.0  # monotonic, since when it answers, or does not
    ok: bool = False
    reason: str = "not asked yet"
    failures: int = 0  # in a row
    scrapes: int = 0
    failed: int = 0
    restarts: int = 0
    bad_lines: int = 0  # of the last answer


class EngineSource(Part):
    """Keeps one watching task a server; under ``engine:<URL>`` in the history."""

    name = "engines"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.states: dict[str, EngineState] = {}  # by URL
        self._discovery = Discovery()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Look for servers from time to time, and watch each."""
        try:
            while not self._stopping.is_set():
                settings = self.context.settings.engines
                running = await asyncio.to_thread(self._discovery.scan) if settings.discover else []
                self._reconcile(wanted(settings, running))
                for address in self._discovery.foreign[:4]:
                    self.context.events.note(
                        "engine", f"a vLLM server says that it listens on {address}, which is not this node's"
                    )
                await self._pause(DISCOVER_S)
                self._check()
        finally:
            await self._end(list(self._tasks))

    async def stop(self) -> None:
        """End all watching."""
        self._stopping.set()
        await self._end(list(self._tasks))

    def health(self) -> Health:
        """A server that the settings name and that does not answer is a fault to be seen."""
        silent = [each for each in self.states.values() if not each.ok and each.failures >= FAILURES]
        if not silent:
            return Health("ok", f"{len(self.states)} servers are watched")
        told = ", ".join(f"{each.engine.url} ({each.reason})" for each in silent[:3])
        return Health("degraded", f"not answering: {told}")

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    def _reconcile(self, engines: list[Engine]) -> None:
        """Begin to watch what is new, let go of what is gone."""
        found = {each.url: each for each in engines}
        for url in [url for url in self._tasks if url not in found]:
            self._tasks.pop(url).cancel()
            self.states.pop(url, None)
            self.context.events.note("engine", f"{url} is gone")
        for url, engine in found.items():
            if url in self._tasks:
                self.states[url].engine = engine
                continue
            self.states[url] = EngineState(engine, since_s=self.context.clock.monotonic_s())
            self._tasks[url] = asyncio.create_task(self._watch(self.states[url]), name=f"watch {url}")
            how = "named in the settings" if engine.configured else f"found by its process {engine.pid}"
            self.context.events.note("engine", f"{url} is watched ({how})")

    def _check(self) -> None:
        """Have a fault of our own in a watching task fail the part: the service says so and starts anew."""
        for task in self._tasks.values():
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                raise error

    async def _end(self, urls: list[str]) -> None:
        tasks = [task for url in urls if (task := self._tasks.pop(url, None)) is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _watch(self, state: EngineState) -> None:
        """Ask one server until cancelled."""
        scraper, tracker = Scraper(state.engine), _Totals()
        clock = self.context.clock
        try:
            due = clock.monotonic_s()
            while True:
                parse_s = await self._ask(scraper, state, tracker)
                backed = min(SLOWEST_S, 2.0 ** (state.failures - FAILURES)) if state.failures else 0.0
                period = max(self.context.pace.period_s, parse_s / PARSE_FRAC, backed)
                due = max(due + period, clock.monotonic_s())  # late ticks are skipped, not made up for
                await asyncio.sleep(due - clock.monotonic_s())
        finally:
            await asyncio.shield(scraper.close())

    async def _ask(self, scraper: Scraper, state: EngineState, tracker: _Totals) -> float:
        """Ask once and keep the answer; return the CPU time that reading it took."""
        import httpx

        timeout_s = self.context.settings.engines.scrape_timeout_s
        asked = self.context.clock.monotonic_s()
        state.scrapes += 1
        try:
            answer = await scraper.ask(timeout_s)
        except TimeoutError:
            self._failed(state, f"no answer within {timeout_s:g} s")
        except (httpx.HTTPError, httpx.InvalidURL, InputError, OSError) as error:
            self._failed(state, str(error) or type(error).__name__)
        else:
            answered = self.context.clock.monotonic_s()
            self._answered(state, answer, (asked + answered) / 2, tracker, answered - asked)
            return answer.parse_cpu_s
        return 0.0

    def _failed(self, state: EngineState, why: str) -> None:
        state.failed += 1
        state.failures += 1
        state.reason = why
        if state.failures == FAILURES:
            state.since_s = self.context.clock.monotonic_s()
            state.ok = False
            self.context.events.note("engine", f"{state.engine.url} does not answer: {why}", logging.WARNING)

    def _answered(
        self, state: EngineState, answer: Scraped, at_s: float, tracker: _Totals, took_s: float
    ) -> None:
        if not state.ok:
            state.since_s = at_s
            self.context.events.note("engine", f"{state.engine.url} answers")
        state.ok, state.reason, state.failures = True, "", 0
        state.answered_s, state.bad_lines = at_s, answer.bad_lines
        history, subject = self.context.history, state.engine.subject
        if tracker.began_anew(answer.values):
            state.restarts += 1
            history.restarted(subject, at_s)
            self.context.events.note("engine", f"{state.engine.url} was started anew")
        values = {name: value for name, value in answer.values.items() if kept(name)}
        values |= tracker.rates(answer.values, at_s)
        values["scrape_s"] = took_s
        history.add_all(at_s, SOURCE, subject, values)
        if tracker.quantiles_due(at_s):
            history.add_all(at_s, SOURCE, subject, self._quantiles(subject))

    def _quantiles(self, subject: str) -> dict[str, float]:
        """Return quantiles of the last minute, as far as they are known."""
        quantile = self.context.history.quantile
        found = {f"{metric}_{name}": quantile(subject, metric, share, OVER_S)
                 for metric in OBSERVED for name, share in QUANTILES.items()}  # fmt: skip
        return {name: value for name, value in found.items() if value is not None}


class _Totals:
    """The totals of one server as last read."""

    def __init__(self) -> None:
        self._at_s = -math.inf
        self._before: Mapping[str, float] = {}
        self._last: Mapping[str, float] = {}
        self._quantiles_s = -math.inf

    def began_anew(self, values: Mapping[str, float]) -> bool:
        """Tell whether the server was started anew since the last answer: its totals begin again."""
        before, self._last = self._last, values
        began, begins = before.get(ours.STARTED), values.get(ours.STARTED)
        other = began is not None and begins is not None and abs(begins - began) > 1.0
        fell = any(values.get(name, math.inf) < before[name] for name in ours.TOTALS if name in before)
        if other or fell:
            self._before = {}
        return other or fell

    def rates(self, values: Mapping[str, float], at_s: float) -> dict[str, float]:
        """Return the growth of totals in a second since the last answer; none across a restart or a gap."""
        finished = [value for name, value in values.items() if name.startswith(ours.FINISHED)]
        totals = {name: values[name] for name in RATED if name in values}
        if finished:
            totals["requests_finished"] = math.fsum(finished)
        before, span_s = self._before, at_s - self._at_s
        self._before, self._at_s = totals, at_s
        if not 0 < span_s <= SLOWEST_S:
            return {}
        return {f"{name}_per_s": (value - before[name]) / span_s
                for name, value in totals.items() if value >= before.get(name, math.inf)}  # fmt: skip

    def quantiles_due(self, at_s: float) -> bool:
        """Tell whether it is time for quantiles."""
        due = at_s >= self._quantiles_s + QUANTILES_EVERY_S
        if due:
            self._quantiles_s = at_s
        return due


@functools.lru_cache(4096)
def kept(name: str) -> bool:
    """Whether a value goes into the history: of buckets those alone that quantiles are made of."""
    head, is_bucket, _ = name.partition(ours.BUCKET)
    return not is_bucket or head in OBSERVED


PART: Final = EngineSource
