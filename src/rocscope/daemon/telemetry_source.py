"""GPU telemetry, all the time: the sensors are read by a process of their own, see ``docs/telemetry.md``."""

from __future__ import annotations

import asyncio
import logging
import os
from typing import TYPE_CHECKING, ClassVar, Final

from rocscope.collectors.telemetry import TelemetrySampler
from rocscope.collectors.telemetry_sources import sources
from rocscope.daemon.part import Health, Part
from rocscope.launch.clocks import now_ns

if TYPE_CHECKING:
    from rocscope.collectors.gpu_device import Device
    from rocscope.collectors.sampling import Columns
    from rocscope.daemon.context import Context

SOURCE: Final = "telemetry"
SUBJECT: Final = "gpu:"
OWN: Final = "daemon:telemetry"
OWN_SOURCE: Final = "daemon"
NO_GPU_S: Final = 300.0  # between looks for a GPU where there is none: a driver may be loaded later
REFUSED_S: Final = 60.0  # between trials where no way of reading worked
SILENT_S: Final = 15.0


class TelemetrySource(Part):
    """Takes the readings of a telemetry process into the history, under ``gpu:<PCI address>``."""

    name = "telemetry"
    sections: ClassVar[tuple[str, ...]] = ("sampling",)

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.cpu_s: float | None = None  # of the process, so far
        self._sampler: TelemetrySampler | None = None
        self._stopping = asyncio.Event()
        self._said = "looking for GPUs"
        self._last_s = context.clock.monotonic_s()
        self._present = False
        self._cpu_before_s = 0.0

    @property
    def devices(self) -> list[Device]:
        """The GPUs that are read; none before the first reading."""
        return self._sampler.devices if self._sampler and self._sampler.source else []

    @property
    def way(self) -> str:
        """By which library or files they are read, ``""`` where they are not."""
        return self._sampler.source.label if self._sampler and self._sampler.source else ""

    async def run(self) -> None:
        """Read until told to stop; where nothing can be read, look again from time to time."""
        choice = self.context.settings.sampling.telemetry
        while not self._stopping.is_set():
            ways = await asyncio.to_thread(sources, choice, os.environ)
            if not ways:
                self._present = False
                self._said = "none wanted" if choice == "none" else "no GPU on this node"
                await self._pause(NO_GPU_S)
                continue
            self._present = True
            hz = self.context.pace.hz
            self._sampler = TelemetrySampler(ways, hz)
            try:
                await self._take(self._sampler, hz)
            finally:
                await self._end()
            if not self._stopping.is_set() and hz == self.context.pace.hz:
                await self._pause(REFUSED_S)

    async def _take(self, sampler: TelemetrySampler, hz: float) -> None:
        """Take readings while the sampler has a way to read, and the rate stays."""
        known = ""
        self._last_s = self.context.clock.monotonic_s()
        while not self._stopping.is_set() and sampler.trying and self.context.pace.hz == hz:
            self._keep(sampler.readings.drain())
            if sampler.source is not None and (way := f"{len(sampler.devices)} through {self.way}") != known:
                known = way
                self.context.events.note("telemetry", f"GPUs are read: {way}")
            await self._pause(1 / hz)

    async def _end(self) -> None:
        """End the sampler, and tell what it had to say where it ended by itself."""
        sampler, self._sampler = self._sampler, None
        if sampler is None:
            return
        by_itself = not sampler.trying
        await asyncio.to_thread(sampler.stop)
        self._cpu_before_s, self.cpu_s = self.cpu_s or 0.0, self.cpu_s
        self._said = "; ".join(text for _, text in sampler.notices) or "not read"
        if by_itself:
            self.context.events.note("telemetry", self._said, logging.WARNING)

    def _keep(self, columns: Columns) -> None:
        """Put readings into the history, those of one moment and subject together."""
        behind_s = now_ns() * 1e-9 - self.context.clock.monotonic_s()  # grows while the node is suspended
        groups: dict[tuple[int, int], dict[str, float]] = {}
        (subject, subjects), (metric, metrics) = columns.subject, columns.metric
        for at, whose, what, value in zip(columns.times, subject, metric, columns.values, strict=True):
            groups.setdefault((at, whose), {})[metrics[what]] = value
        add = self.context.history.add_all
        for (at, whose), values in groups.items():
            at_s = at * 1e-9 - behind_s
            text = subjects[whose]
            if text.startswith("device:"):
                add(at_s, SOURCE, SUBJECT + text.removeprefix("device:"), values)
                self._last_s = max(self._last_s, at_s)
            else:
                add(at_s, OWN_SOURCE, OWN, values)
                if (cpu_s := values.get("telemetry_cpu_s")) is not None:
                    self.cpu_s = self._cpu_before_s + cpu_s

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            pass

    async def stop(self) -> None:
        """End the process and the thread that reads it."""
        self._stopping.set()
        await self._end()

    def health(self) -> Health:
        """Not having a GPU is no fault; having one and not reading it is."""
        if not self._present:
            return Health("ok", self._said)
        silent_s = self.context.clock.monotonic_s() - self._last_s
        if silent_s > SILENT_S:
            return Health("failing", f"no reading for {silent_s:.0f} s ({self._said})")
        return Health("ok", f"{len(self.devices)} GPUs through {self.way}" if self.way else "starting")


PART: Final = TelemetrySource
