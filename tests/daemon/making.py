"""What tests of parts are given: a context of their own, and a way to run a part until something is so."""

import asyncio
import contextlib
import time

from rocscope.daemon.context import Context, Facts
from rocscope.daemon.events import Events
from rocscope.daemon.history import History
from rocscope.daemon.pace import Pace
from rocscope.daemon.settings import Settings


class RealClock:
    def wall_s(self):
        return time.time()

    def monotonic_s(self):
        return time.monotonic()


def make_context(settings=None, *, hz=20.0, folder=None, store=None, clock=None, max_cpu_frac=1.0):
    settings, clock = settings or Settings(), clock or RealClock()
    return Context(
        settings=settings,
        clock=clock,
        folder=folder,
        store=store,
        history=History(clock, hz=hz, span_s=60),
        pace=Pace(hz, max_cpu_frac),
        events=Events(clock),
        facts=Facts("0", "node", 1, clock.wall_s(), clock.monotonic_s()),
    )


async def until(condition, what, timeout_s=30.0):
    """Wait until something is so."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, f"never: {what}"
        await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def running(part):
    """Run a part; at the end it is stopped, and must end without a fault."""
    task = asyncio.create_task(part.run())
    try:
        yield task
    finally:
        await part.stop()
        await asyncio.wait_for(task, 20)


def told(context):
    return "\n".join(event.text for event in context.events.recent)
