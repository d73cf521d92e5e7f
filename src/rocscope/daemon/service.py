"""The daemon as a whole: builds what the parts share, runs them, reloads, and ends in order."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from rocscope import __version__
from rocscope.daemon import log_format, parts, reloading
from rocscope.daemon.context import Context, Facts, Reloaded
from rocscope.daemon.events import LOG, Event, Events
from rocscope.daemon.history import History
from rocscope.daemon.host_source import children
from rocscope.daemon.pace import Pace
from rocscope.daemon.sd_notify import Notify
from rocscope.daemon.state_dir import StateDir
from rocscope.daemon.store import Store
from rocscope.daemon.supervisor import Supervisor
from rocscope.daemon.wall_clock import WallClock
from rocscope.errors import RocscopeError

if TYPE_CHECKING:
    from rocscope.daemon.part import Part
    from rocscope.daemon.settings import Settings

READY_S: Final = 30.0  # then the service is up whether or not each part is
TEND_S: Final = 10.0  # between looks at clock, health and status
CHILD_S: Final = 1.0  # that children have to end after SIGTERM
STORE_S: Final = 3.0  # that the store has to write what is queued
WATCHDOG_SHARE: Final = 1 / 3  # of systemd's patience: two signs may be lost
Ready = Callable[[Context], None]


class Service:
    """One daemon on one state folder."""

    def __init__(
        self,
        settings: Settings,
        load: Callable[[], Settings],
        *,
        ready: Ready = lambda _: None,
        classes: Sequence[type[Part]] | None = None,
        clock: WallClock | None = None,
    ) -> None:
        """``load`` reads the settings again; ``ready`` is called once, when the parts are up."""
        self._settings, self._load, self._ready = settings, load, ready
        self._classes = parts.classes() if classes is None else list(classes)
        self._clock = clock or WallClock()
        self._why = ""  # it ends
        self._reloads = asyncio.Lock()

    def run(self) -> None:
        """Run until SIGTERM or SIGINT. Raises :class:`RocscopeError` where it cannot start."""
        with StateDir.claim(self._settings.state.folder) as folder:
            store = Store.open(folder, self._clock)
            try:
                asyncio.run(self._run(folder, store))
            finally:
                if not store.close(STORE_S):
                    LOG.error("the store did not end: the disk does not answer", extra={"kind": "store"})

    async def _run(self, folder: StateDir, store: Store) -> None:
        self._stop = asyncio.Event()
        self._notify = Notify()
        given = self._settings

        def keep(event: Event) -> None:
            store.event(event.kind, event.text)  # one that cannot be written is in the log all the same

        self.context = context = Context(
            settings=given,
            clock=self._clock,
            folder=folder,
            store=store,
            history=History(self._clock, given.sampling.hz),
            pace=Pace(given.sampling.hz, given.sampling.max_cpu_frac),
            events=Events(self._clock, keep),
            facts=Facts(
                __version__,
                given.node.name or socket.gethostname(),
                os.getpid(),
                self._clock.wall_s(),
                self._clock.monotonic_s(),
            ),
            reload=self.reload,
        )
        self._supervisor = Supervisor(context, self._classes)
        self._listen()
        context.events.note("service", f"rocscope {__version__} starts on {folder.path}")
        self._supervisor.start()
        tending = asyncio.create_task(self._tend(), name="tend")
        watching = asyncio.create_task(self._watchdog(), name="watchdog")
        try:
            await self._until_ended()
        finally:
            for each in (tending, watching):
                each.cancel()
            self._notify.stopping(self._why)
            context.events.note("service", f"stopping: {self._why}")
            await self._supervisor.stop()
            await asyncio.gather(tending, watching, return_exceptions=True)
            await end_children()
            self._notify.close()
            gc.unfreeze()
        if self._supervisor.fatal.done():
            raise self._supervisor.fatal.result()

    async def _until_ended(self) -> None:
        """Say when the parts are up, and return when it is time to stop."""
        stop = asyncio.create_task(self._stop.wait())
        fatal = self._supervisor.fatal
        either: list[asyncio.Future[Any]] = [stop, fatal]
        end_s = self._clock.monotonic_s() + READY_S
        while not self._supervisor.ready and self._clock.monotonic_s() < end_s:
            if (await asyncio.wait(either, timeout=0.05, return_when=asyncio.FIRST_COMPLETED))[0]:
                break
        if not fatal.done() and not stop.done():
            gc.collect()
            gc.freeze()  # what is loaded now stays: it need not be looked through again and again
            self._ready(self.context)
            self._notify.ready(self._status())
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        self._why = self._why or "a part without which it cannot run failed"
        stop.cancel()

    def _listen(self) -> None:
        """Take the signals."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop, number.name)
        loop.add_signal_handler(signal.SIGHUP, self._hang_up)

    def stop(self, why: str) -> None:
        """Begin to end."""
        self._why = self._why or why
        self._stop.set()

    def _hang_up(self) -> None:
        self._reloading = asyncio.create_task(self.reload(), name="reload")

    async def reload(self) -> Reloaded:
        """Read the settings again; where they are refused, the old ones hold."""
        async with self._reloads:
            self._notify.reloading()
            try:
                return await self._reload()
            finally:
                self._notify.ready(self._status())

    async def _reload(self) -> Reloaded:
        note = self.context.events.note
        try:
            new = await asyncio.to_thread(self._load)
        except RocscopeError as error:
            note("reload", f"refused, the old settings hold: {error.message}", logging.WARNING)
            return Reloaded(refused=error.message)
        change = reloading.change(self.context.settings, new)
        self.context.settings = change.settings
        self.context.pace.reset(change.settings.sampling.hz, change.settings.sampling.max_cpu_frac)
        renewed = await self._supervisor.renew(change.sections)
        said = f"changed: {', '.join(change.changed)}" if change.changed else "nothing changed"
        said += f"; started anew: {', '.join(renewed)}" if renewed else ""
        if change.needs_restart:
            said += f"; only a restart changes {', '.join(change.needs_restart)}"
        note("reload", said)
        return Reloaded(change.changed, change.needs_restart)

    async def _tend(self) -> None:
        """Tell of jumps of the wall clock, and keep the status line."""
        while True:
            for jump in self._clock.new_jumps():
                self.context.events.note("clock", jump.text, logging.WARNING)
            self._notify.status(self._status())
            await asyncio.sleep(TEND_S)

    async def _watchdog(self) -> None:
        """Give systemd signs of life, as long as the event loop and the store's writer answer."""
        patience_s = self._notify.watchdog_s
        while patience_s is not None:
            period_s = patience_s * WATCHDOG_SHARE
            if await self._store_answers(period_s):
                self._notify.alive()
            else:
                self.context.events.note("store", "its writer does not answer", logging.ERROR)
            await asyncio.sleep(period_s)

    async def _store_answers(self, within_s: float) -> bool:
        """Whether the writer's thread takes something up; that it cannot write is no reason to restart."""
        ping = self.context.store.write(lambda _: None, kind="samples", rows=0)
        if ping.done() and self.context.store.health.queued:
            return False  # refused: its queue is full
        done, _ = await asyncio.wait([asyncio.wrap_future(ping)], timeout=within_s)
        for each in done:
            each.exception()
        return bool(done)

    def _status(self) -> str:
        """Return a line for ``systemctl status``."""
        health = self._supervisor.health()
        bad = [f"{name} {each.state} ({each.reason})" for name, each in health.items() if each.state != "ok"]
        store = self.context.store.health
        if store.state != "ok":
            bad.insert(0, f"store {store.state} ({store.reason})")
        return "; ".join(bad)[:400] if bad else f"{len(health)} parts run"


async def end_children() -> None:
    """End what parts left running: with its process group where it leads one, and for good after a second."""
    for number, wait_s in ((signal.SIGTERM, CHILD_S), (signal.SIGKILL, CHILD_S)):
        left = [int(pid) for pid in children()]
        if not left:
            return
        for pid in left:
            with contextlib.suppress(OSError):
                (os.killpg if os.getpgid(pid) == pid else os.kill)(pid, number)
        for _ in range(int(wait_s / 0.05)):
            for pid in left:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
            if not children():
                return
            await asyncio.sleep(0.05)


def main(settings: Settings, load: Callable[[], Settings], ready: Ready) -> None:
    """Run the daemon in this process, with its log on standard error."""
    log_format.begin()
    Service(settings, load, ready=ready).run()
