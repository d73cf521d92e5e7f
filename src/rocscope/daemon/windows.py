"""Windows: short profiles of an engine, by schedule, by our own samples, by webhook or by the operator.

One at a time, within the budget, never beside another profiler. The engine is asked for its own profiler
first, rocprofv3 attaches where it can, else there is none, and the reason is said.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from sqlite3 import Connection
from typing import TYPE_CHECKING, Final, TypeVar

from rocscope.daemon import overhead, rivals, store_meta, store_windows
from rocscope.daemon.budget import DAY_S, Budget, Outcome, Spent
from rocscope.daemon.part import Health, Part
from rocscope.daemon.schedule import Schedule
from rocscope.daemon.watch import Watch
from rocscope.daemon.window_process import KILL_S
from rocscope.daemon.window_run import CAPTURE, STOPPING, TICK_S, WindowRequest, WindowRun
from rocscope.errors import StoreError

if TYPE_CHECKING:
    from rocscope.daemon.context import Context
    from rocscope.daemon.engines import Engine

STOP_S: Final = 10.0  # that an open window has to end its profiler when the daemon stops
LET_GO_S: Final = 60.0
RECOVER_S: Final = 5.0
REFUSAL_S: Final = 60.0
PAUSED: Final = "windows_paused_until"  # in the store, Unix seconds
RESUMED: Final = "windows_resumed_at"  # likewise: failures before it count no more
MOST_MEASURED: Final = 8  # windows whose cost is waited for at a time

T = TypeVar("T")


@dataclass(frozen=True)
class Answer:
    """Whether the window is opened: its id, or why not."""

    id: str | None
    refusal: str | None = None
    code: str | None = None
    retry_s: float | None = None


class Windows(Part):
    """Opens windows and follows each to its end."""

    name = "windows"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        given, clock, node = context.settings, context.clock, context.facts.node
        self.current: WindowRun | None = None
        self.budget = Budget(given.windows, clock, node)
        self.schedule = Schedule(given.windows, clock, node)
        self._watch = Watch(given.triggers, clock, context.history)
        self._recovered, self._stopping = asyncio.Event(), asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._measuring: set[asyncio.Task[None]] = set()
        self._doubtful: set[str] = set()  # URLs of engines whose profiler may still be on
        self._turn = 0  # which engine the schedule takes next
        self._paused_until_s: float | None = None  # as it was said since the start, monotonic
        self._refusals: dict[tuple[str, str], float] = {}  # when it was last kept: two closed sets of words
        self._last_failure = ""

    def health(self) -> Health:
        """Degraded while the breaker is open."""
        if self.budget.broken:
            return Health("degraded", f"windows failed in a row, the last one: {self._last_failure}")
        return Health()

    async def run(self) -> None:
        """Look twice a second whether a window is due."""
        await self._write(self._recover)
        self._recovered.set()
        while not self._stopping.is_set():
            given = self.context.settings
            self.budget.settings = self.schedule.settings = given.windows
            self._watch.triggers = given.triggers
            if self.current is None:
                await self._ask_what_is_due()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK_S):
                    await self._stopping.wait()

    async def stop(self) -> None:
        """End an open window at once, its profiler first; wait for nothing else."""
        self._stopping.set()
        for each in self._measuring:
            each.cancel()
        run, task = self.current, self._task
        if run is None or task is None:
            return
        run.abort(STOPPING)
        done, _ = await asyncio.wait({task}, timeout=STOP_S)
        if not done:
            await run.kill()
            task.cancel()
            await asyncio.wait({task}, timeout=KILL_S)

    async def ask(self, request: WindowRequest) -> Answer:
        """Open a window if everything allows it. What is refused is kept in the ledger with the reason."""
        try:
            async with asyncio.timeout(RECOVER_S):
                await self._recovered.wait()  # what earlier windows cost is not known before
        except TimeoutError:
            return Answer(None, "the daemon is still starting", "starting", RECOVER_S)
        return await self._answer(request)

    async def _answer(self, request: WindowRequest) -> Answer:
        profile = self.context.settings.windows.profiles.get(request.profile)
        if profile is None:
            return Answer(None, f"no profile {request.profile!r} in the settings", "profile")
        refusal = self.budget.refusal(request.window_s or profile.window_s, force=request.force)
        if refusal is None and self.current is not None:  # it is being looked at, or gathered
            return await self._refused(request, "a window is under way", "open", None)
        if refusal is not None:
            return await self._refused(request, refusal.text, refusal.code, refusal.retry_s)
        engine, why = self._engine(request)
        if engine is None:
            return await self._refused(request, why, "engine", None)
        run = WindowRun(self.context, self.budget, self._new_id(), request, engine)
        self.current = run  # from here on nobody else opens one: the looks below take time
        try:
            if reason := await self._unfit(run):
                return await self._refused(request, reason, "unfit", self.context.settings.windows.min_gap_s)
            self.budget.open()
            self._task = asyncio.create_task(self._follow(run), name=f"window {run.id}")
        finally:
            if not self.budget.is_open:
                self.current = None
        return Answer(run.id)

    def pause(self, for_s: float = math.inf) -> None:
        """Open no window for a while, also after a restart; one that is open goes on."""
        self._paused_until_s = self.context.clock.monotonic_s() + for_s
        self.budget.pause(for_s)
        self._keep_pause(self.context.clock.wall_s() + for_s)
        self.context.events.note("window", "paused" if math.isinf(for_s) else f"paused for {for_s:.0f} s")

    def resume(self) -> None:
        """End a pause and close the breaker."""
        self._paused_until_s = -math.inf
        self.budget.resume()
        self._keep_pause(-math.inf)
        now = self.context.clock.wall_s()
        self.context.store.write(lambda c: store_meta.put(c, RESUMED, repr(now)))
        self.context.events.note("window", "resumed")

    def _keep_pause(self, until_s: float) -> None:
        self.context.store.write(lambda c: store_meta.put(c, PAUSED, repr(until_s)))

    async def finished(self) -> None:
        """Wait until the window that is open now, if any, has come to its end."""
        if self._task is not None:
            await asyncio.wait({self._task})

    async def _ask_what_is_due(self) -> None:
        for hit in self._watch.fired():
            engine = hit.subject.removeprefix("engine:") if hit.subject.startswith("engine:") else None
            if (await self.ask(WindowRequest("threshold", hit.reason, hit.trigger.profile, engine))).id:
                return
        if not self.schedule.due:
            return
        wait_s = self.budget.next_slot_s(self.context.clock.wall_s())
        if 0 < wait_s < math.inf:
            self.schedule.later(wait_s)
            return
        self.schedule.taken()
        await self.ask(WindowRequest("schedule", f"every {self.context.settings.windows.every_s:g} s"))

    def _engine(self, request: WindowRequest) -> tuple[Engine | None, str]:
        """Return the engine to profile: the one that was named, else each in turn; or why there is none."""
        part = self.context.part("engines")
        up: list[Engine] = [] if part is None else [each.engine for each in part.states.values() if each.ok]
        if request.engine is not None:
            named = (each for each in up if request.engine in (each.url, each.name))
            return next(named, None), f"no engine {request.engine} is up"
        if not up:
            return None, "no engine is up"
        self._turn += 1
        return up[self._turn % len(up)], ""

    async def _unfit(self, run: WindowRun) -> str | None:
        """Return why no profiler may be started now, whatever the budget says."""
        if reason := run.unfit():
            return reason
        if found := await asyncio.to_thread(rivals.programs, frozenset({os.getpid()})):
            return f"another profiler runs: {', '.join(found)}"
        if reason := await rivals.exporter():
            return reason
        return STOPPING if self._stopping.is_set() else None  # who stops us meanwhile does not see this one

    def _new_id(self) -> str:
        now = datetime.fromtimestamp(self.context.clock.wall_s(), UTC)
        return f"{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"

    async def _refused(self, request: WindowRequest, text: str, code: str, retry_s: float | None) -> Answer:
        """Keep what was refused, of one trigger and reason once a minute: who asks again fills no ledger.

        That the schedule finds no engine is nothing new each quarter of an hour.
        """
        moment, kind = self.context.clock.monotonic_s(), (request.trigger, code)
        known = moment - self._refusals.get(kind, -math.inf) < REFUSAL_S
        if not known and (request.trigger != "schedule" or code != "engine"):
            self._refusals[kind] = moment
            now, window_id = self.context.clock.wall_s(), self._new_id()
            more = {"reason": request.reason, "profile": request.profile, "engine": request.engine,
                    "refusal": f"{code}: {text}"}  # fmt: skip
            with contextlib.suppress(StoreError):  # who asked is answered all the same
                await self._write(
                    lambda c: store_windows.create(
                        c, window_id, request.trigger, now, state="skipped", **more
                    )
                )
            self.context.events.note("window", f"{request.trigger}: refused, {text}")
        return Answer(None, text, code, retry_s)

    async def _follow(self, run: WindowRun) -> None:
        """Follow a window to its end, and hand what it recorded to the analysis."""
        try:
            await self._let_go(run.engine)
            ended = await run.run()
        finally:
            if self.budget.is_open:  # it did not come so far
                self.budget.close("failed")
            if run.profiler_left_on:
                self._doubtful.add(run.engine.url)
            self.current = None
        if ended.outcome == "failed":
            self._last_failure = ended.text
        if ended.capture is None:
            return
        if run.began_s is not None and run.ended_s is not None and len(self._measuring) < MOST_MEASURED:
            task = asyncio.create_task(self._measure(run, run.began_s, run.ended_s))
            self._measuring.add(task)
            task.add_done_callback(self._measuring.discard)
        if (analysis := self.context.part("analysis")) is not None:
            await analysis.window(run.id, ended.capture, keep=run.profile.keep_capture)

    async def _measure(self, run: WindowRun, began_s: float, ended_s: float) -> None:
        """Measure what a window cost, once the time after it has passed."""
        await asyncio.sleep(overhead.WAIT_S)
        found = overhead.measure(self.context.history, run.engine.subject, began_s, ended_s)
        with contextlib.suppress(StoreError):  # the store says itself what is wrong with it
            await self._write(lambda c: store_windows.note(c, run.id, overhead=found))

    async def _let_go(self, engine: Engine) -> None:
        """Ask an engine to stop a profiler that an earlier window may have left on."""
        if engine.url not in self._doubtful or engine.socket_path:
            return
        import httpx

        with contextlib.suppress(httpx.HTTPError):
            async with httpx.AsyncClient(timeout=LET_GO_S, trust_env=False) as client:
                await client.post(f"{engine.url}/stop_profile")
            self._doubtful.discard(engine.url)

    def _recover(self, connection: Connection) -> None:
        """Take what windows of before cost into the budget, and end those that a kill cut short.

        A window whose capture is whole is left in ``analysing``: the analysis takes it up.
        """
        clock = self.context.clock
        now, monotonic = clock.wall_s(), clock.monotonic_s()
        for row in store_windows.unfinished(connection):
            if row.state not in ("planned", "open", "gathering"):
                continue
            work = self.context.settings.state.folder / "work"
            if (work / row.id / CAPTURE / "manifest.json").is_file():
                store_windows.set_state(connection, row.id, "analysing")
                continue
            if row.engine and row.state == "open":
                self._doubtful.add(row.engine)
            store_windows.set_state(
                connection, row.id, "failed", refusal="the daemon ended in the midst of it"
            )
        past, resumed = [], float(store_meta.get(connection, RESUMED) or -math.inf)
        for row in store_windows.listing(connection, 10_000, since_s=now - DAY_S):
            if row.started_at is not None and row.started_at <= now:
                ended = min(now, row.ended_at or row.started_at + (row.window_s or 0.0))
                outcome: Outcome = _outcome(row) if row.started_at > resumed else "stopped"
                past.append(Spent(monotonic - (now - ended), row.window_s or 0.0, row.bytes or 0, outcome))
        self.budget = Budget(self.context.settings.windows, clock, self.context.facts.node, past)
        kept = store_meta.get(connection, PAUSED)
        left_s = float(kept) - now if kept is not None else -math.inf
        if self._paused_until_s is not None:  # said while this was looked up
            left_s = self._paused_until_s - monotonic
        if left_s > 0:
            self.budget.pause(left_s)

    async def _write(self, group: Callable[[Connection], T]) -> T:
        return await asyncio.wrap_future(self.context.store.write(group))


def _outcome(row: store_windows.WindowRow) -> Outcome:
    """Return how a window of before a restart came out, as the budget counts it."""
    if row.state == "aborted":
        return "stopped" if row.abort == STOPPING else "aborted"
    return "failed" if row.state == "failed" else "done"


PART = Windows
