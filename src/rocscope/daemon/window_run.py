"""One window from its beginning to its end: profiled, watched for harm, written down, handed on."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from sqlite3 import Connection
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

from rocscope.daemon import store_windows
from rocscope.daemon.budget import Budget, Outcome
from rocscope.daemon.harm import Harm
from rocscope.daemon.window_process import KILL_S, SLACK_S, WindowProcess
from rocscope.errors import StoreError

if TYPE_CHECKING:
    from rocscope.daemon.context import Context
    from rocscope.daemon.engines import Engine
    from rocscope.daemon.settings import Profile

TICK_S: Final = 0.5
STOPPING: Final = "the daemon is stopping"  # why a window was aborted
LOCK: Final = "window.lock"  # in the work folder; held by a window's process while the profiler may be on
CAPTURE: Final = "capture"  # in the window's own folder there
WAYS: Final = {"auto": "auto", "engine": "torch", "rocprofv3": "rocprofv3"}  # of a profile, as attaching says

T = TypeVar("T")
TriggerKind = Literal["schedule", "threshold", "webhook", "operator"]


@dataclass(frozen=True)
class WindowRequest:
    """What somebody wants: a named profile, and nothing that could run a command."""

    trigger: TriggerKind
    reason: str
    profile: str = "kernel-trace"
    engine: str | None = None  # URL or name, of those that are watched
    window_s: float | None = None
    force: bool = False  # of root, through the control socket


@dataclass(frozen=True)
class Ended:
    """How a window came out."""

    outcome: Outcome
    text: str
    capture: Path | None  # of one that was done


class WindowRun:
    """One window. ``moment`` is planned, starting, started, stopping or stopped: of the profiler."""

    def __init__(
        self, context: Context, budget: Budget, window_id: str, request: WindowRequest, engine: Engine
    ) -> None:
        self.context, self.id, self.request, self.engine = context, window_id, request, engine
        self.profile: Profile = context.settings.windows.profiles[request.profile]
        self.window_s = request.window_s or self.profile.window_s
        self.moment = "planned"
        self.began_s: float | None = None  # monotonic, when the profiler was about to be started
        self.ended_s: float | None = None  # when it was off again
        self.abort_reason: str | None = None
        self.profiler_left_on = False  # or may have been
        self._budget = budget
        self._process: WindowProcess | None = None
        given = context.settings
        self._harm = Harm(context.history, engine.subject, given.windows, given.state.min_free_bytes)

    @property
    def work(self) -> Path:
        """Where windows are made before they are kept."""
        return self.context.settings.state.folder / "work"

    @property
    def out(self) -> Path:
        """What this one writes."""
        return self.work / self.id

    @property
    def _log(self) -> Path:
        """What its process says on standard error."""
        return self.work / f"{self.id}.log"

    def unfit(self) -> str | None:
        """Return why the machine has no room for it."""
        return self._harm.machine()

    def abort(self, reason: str) -> None:
        """Have the profiler stopped at once; what it recorded is thrown away."""
        if self.abort_reason is None:
            self.abort_reason = reason
            self.context.events.note("window", f"{self.id} aborted: {reason}", logging.WARNING)
        if self._process is not None:
            self._process.end()

    async def kill(self) -> None:
        """End its process by force."""
        if self._process is not None:
            await self._process.kill()

    async def run(self) -> Ended:
        """Do it; the budget has been opened for it, and is closed in any case. Cancelled, it is cut short."""
        outcome: Outcome = "failed"
        text, result = "it was cut short", {}
        try:
            await self._plan()
            result = await self._profiled()
            outcome, text = self._judged(result)
        except OSError as error:
            text = f"its process could not be started: {error}"
        except asyncio.CancelledError:
            self.abort_reason = self.abort_reason or STOPPING
            outcome = "stopped"
            raise
        except Exception as error:  # noqa: BLE001  # whatever it is, the window is over
            text = f"{type(error).__name__}: {error}"
        finally:
            self.ended_s = self.ended_s or self.context.clock.monotonic_s()
            taken = int(result.get("bytes") or 0)
            spent = self._budget.close(outcome, taken)
            values = {"bytes": taken, "way": result.get("way"), "capture_id": result.get("capture_id"),
                      "window_s": spent.seconds, "abort": self.abort_reason}  # fmt: skip
            ending = asyncio.ensure_future(self._written(outcome, text, values))
            try:
                await asyncio.shield(ending)
            except asyncio.CancelledError:
                pass
            except (
                StoreError
            ) as error:  # a start finds the window unfinished, and its capture where it is whole
                said = f"{self.id}: how it ended is not kept ({error.message})"
                self.context.events.note("window", said, logging.ERROR)
        return Ended(outcome, text, Path(str(result["done"])) if outcome == "done" else None)

    async def _plan(self) -> None:
        now, request = self.context.clock.wall_s(), self.request
        more: dict[str, Any] = {"reason": request.reason, "profile": request.profile,
                                "engine": self.engine.url, "window_s": self.window_s}  # fmt: skip
        await self.write(lambda c: store_windows.create(c, self.id, request.trigger, now, **more))

    async def _profiled(self) -> dict[str, Any]:
        """Run the window's process, watched for harm; return what it said."""
        given, engine = self.context.settings, self.engine
        orders = {
            "engine": engine.url,
            "window_s": self.window_s,
            "way": WAYS[self.profile.way],
            "out": str(self.out),
            "lock": str(self.work / LOCK),
            "pid": engine.pid,
            "started_ticks": engine.started_ticks,
            "uid": engine.uid,
            "most_bytes": given.windows.max_window_bytes,
            "traces": str(engine.traces) if engine.traces else None,
            "model": engine.model if Path(engine.model).is_absolute() else None,
            "gpu": given.node.gpu or None,
        }
        process = self._process = WindowProcess(orders, self._log, self._at)
        await process.start()
        following = asyncio.create_task(process.follow())
        guarding = asyncio.create_task(self._guard())
        guarding.add_done_callback(self._unguarded)
        limit_s = SLACK_S + self.window_s + given.windows.gather_timeout_s
        try:
            return await asyncio.wait_for(asyncio.shield(following), limit_s)
        except TimeoutError:
            return {"failed": f"it did not end within {limit_s:.0f} s"}
        finally:
            guarding.cancel()
            if not following.done():
                await process.kill()
                # what left its group may hold the pipe for ever: its end is not waited for
                await asyncio.wait({following}, timeout=KILL_S)
                following.cancel()
            self.profiler_left_on = not process.stopped

    def _at(self, moment: str) -> None:
        """Note what the window's process says of the profiler."""
        self.moment, now, wall = moment, self.context.clock.monotonic_s(), self.context.clock.wall_s()
        if moment == "starting":
            self.began_s = now
            self.context.store.write(lambda c: store_windows.set_state(c, self.id, "open", started_at=wall))
        elif moment == "stopped":
            self.ended_s = now
            self.context.store.write(
                lambda c: store_windows.set_state(c, self.id, "gathering", ended_at=wall)
            )

    async def _guard(self) -> None:
        """Abort the window as soon as it does harm, or writes more than it may."""
        allowed, before = self._budget.bytes_left(), self._harm.before(self.context.clock.monotonic_s())
        while self.moment != "stopped" and self.abort_reason is None:
            now = self.context.clock.monotonic_s()
            if self.began_s is None:
                reason = self._harm.machine()
            else:
                reason = self._harm.found(before, self.began_s, now)
            written = await asyncio.to_thread(_size, self.out, self._log)
            if written > allowed:
                reason = f"it wrote {written} bytes, of {allowed} that it may"
            if reason is not None:
                self.abort(reason)
            await asyncio.sleep(TICK_S)

    def _unguarded(self, guarding: asyncio.Task[None]) -> None:
        """End a window that is no longer watched."""
        if not guarding.cancelled() and (error := guarding.exception()) is not None:
            self.abort(f"it cannot be watched ({type(error).__name__}: {error})")

    def _judged(self, result: dict[str, Any]) -> tuple[Outcome, str]:
        if self.abort_reason is not None:
            return "stopped" if self.abort_reason == STOPPING else "aborted", self.abort_reason
        if "failed" in result:
            return "failed", str(result["failed"])[:500]
        if result.get("lost"):
            return "failed", f"data lost: {'; '.join(map(str, result['lost']))}"[:500]
        return "done", f"{result.get('way')} for {self.window_s:g} s"

    async def _written(self, outcome: Outcome, text: str, values: dict[str, Any]) -> None:
        """Write down how it ended; of one that is not done, nothing else is left."""
        if outcome == "done":
            await self.write(lambda c: store_windows.set_state(c, self.id, "analysing", **values))
            self.context.events.note("window", f"{self.id} of {self.engine.url}: {text}")
            await asyncio.to_thread(_remove, None, self._log)
            return
        final = "aborted" if self.abort_reason is not None else "failed"
        values["refusal"] = None if self.abort_reason is not None else text
        if self.abort_reason is None:
            self.context.events.note("window", f"{self.id} failed: {text}", logging.WARNING)
        await asyncio.to_thread(_remove, self.out, self._log)
        await self.write(lambda c: store_windows.set_state(c, self.id, final, **values))

    async def write(self, group: Callable[[Connection], T]) -> T:
        """Write to the ledger and wait until it is there."""
        return await asyncio.wrap_future(self.context.store.write(group))


def _size(folder: Path, log: Path) -> int:
    total = 0
    for path in (log, *folder.rglob("*")):
        with contextlib.suppress(OSError):
            total += path.lstat().st_size
    return total


def _remove(folder: Path | None, log: Path) -> None:
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):
        log.unlink()
