"""GPU telemetry of a run: a process of its own reads the sensors, a thread here takes what it sends."""

from __future__ import annotations

import contextlib
import json
import math
import os
import select
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from rocscope.collectors.energy import EnergyMeter
from rocscope.collectors.gpu_device import Device
from rocscope.collectors.sampling import STOP_DEADLINE_S, Readings
from rocscope.collectors.telemetry_sources import Choice, TelemetrySource, sources
from rocscope.launch.clocks import now_ns

CHILD: Final = "rocscope.collectors.telemetry_child"
MAX_LINE_BYTES: Final = 4 << 20  # of one tick: some hundred GPUs
_ANSWER_S: Final = 2.0  # a run that is shorter may well end before the first reading
_EMPTY_TICKS: Final = 3  # so many without one reading: this source cannot read here


@dataclass(frozen=True)
class Deadlines:
    """How long the telemetry process may take before it is taken to hang, and to come back, in seconds."""

    start_s: float = 20.0
    silent_s: float = 5.0
    stop_s: float = 1.0
    first_backoff_s: float = 1.0
    last_backoff_s: float = 30.0


@dataclass(frozen=True)
class _End:
    """Why a telemetry process ended."""

    how: Literal["stopped", "refused", "reset", "hung", "died", "empty"]
    text: str = ""


class TelemetrySampler:
    """Reads all GPUs ``hz`` times a second through the first of ``ways`` that works.

    A process that hangs or crashes is ended and started again, ever later while that does not help; the
    readings of that time are missing. One that never gave a reading makes way for the next source.
    Subjects are ``device:<PCI address>`` until they are matched to the GPUs of a recording.
    """

    name = "GPU telemetry"

    def __init__(self, ways: Sequence[TelemetrySource], hz: float, limits: Deadlines | None = None) -> None:
        self.readings = Readings()
        self.notices: list[tuple[str, str]] = []
        self.devices: list[Device] = []  # as found first, by the source that was used
        self.source: TelemetrySource | None = None  # that gave readings
        self.by_order = True  # whether the command sees GPUs as we do, so that it counts them as we would
        self._ways = ways
        self._hz = hz
        self._limits = limits or Deadlines()
        self._version = ""
        self._refused: list[str] = []
        self._troubles: Counter[str] = Counter()
        self._failures: Counter[str] = Counter()
        self._meters: dict[str, EnergyMeter] = {}
        self._present: list[Device] = []  # of the process that runs now
        self._ticks = 0
        self._empty = 0
        self._missed = 0
        self._last_tick: float | None = None
        self._cpu_s = self._cpu_before_s = 0.0
        self._process: subprocess.Popen[bytes] | None = None
        self._stage = "start"
        self._started = time.monotonic()
        self._wake, self._waker = os.pipe()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="gpu-telemetry", daemon=True)
        self._thread.start()

    @property
    def trying(self) -> bool:
        """Whether there is a source left to try, or one in use."""
        return self._thread.is_alive()

    def stop(self) -> bool:
        """End sampling; tell whether the thread ended before the deadline."""
        asked = time.monotonic()
        self._stopping.set()
        os.write(self._waker, b".")
        self._thread.join(STOP_DEADLINE_S)
        self._note(asked)
        if self._thread.is_alive():
            return False
        os.close(self._wake)
        os.close(self._waker)
        return True

    def _run(self) -> None:
        try:
            for way in self._ways:
                if self._use(way):
                    return
        except Exception as error:  # noqa: BLE001  # whatever it is, it must be said and not end the run
            self._troubles[f"it ended early ({type(error).__name__}: {error})"] += 1

    def _use(self, way: TelemetrySource) -> bool:
        """Read through one source until told to stop; ``False`` if it cannot be used here."""
        pause = self._limits.first_backoff_s
        while True:
            began = time.monotonic()
            end = self._serve(way)
            if end.how == "stopped":
                return True
            if self.source is None:
                self._refused.append(f"{way.label}: {end.text}")
                return False
            self._troubles[end.text] += 1
            if time.monotonic() - began > 2 * self._limits.last_backoff_s:
                pause = self._limits.first_backoff_s
            if self._stopping.wait(pause):
                return True
            pause = min(2 * pause, self._limits.last_backoff_s)

    def _serve(self, way: TelemetrySource) -> _End:
        """Start a process for ``way``, take what it sends, leave nothing of it running."""
        if self._stopping.is_set():
            return _End("stopped")
        reader, writer = os.pipe()
        try:
            try:
                self._process = self._start(way, writer)
            finally:
                os.close(writer)
            self._stage, self._empty, self._present = "start", 0, []
            end = self._listen(way, reader)
            code = self._finish(self._process, end)
            self._cpu_before_s, self._cpu_s = self._cpu_before_s + self._cpu_s, 0.0
            if end.how == "died":
                return _End("died", f"the process crashed ({_ending(code)}) {_where(self._stage)}")
            return end
        except OSError as error:
            return _End("refused", f"no process could be started: {error.strerror}")
        finally:
            os.close(reader)

    def _start(self, way: TelemetrySource, writer: int) -> subprocess.Popen[bytes]:
        """Start the process. Its output goes nowhere: libraries print; its input tells it when to end."""
        arguments = [way.name, way.where, repr(self._hz), str(writer), str(os.getpid())]
        return subprocess.Popen(
            [sys.executable, "-P", "-m", CHILD, *arguments],
            env={**os.environ, **dict(way.environment)},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[writer],
            start_new_session=True,  # a user's Ctrl-C is ours to handle
        )

    def _listen(self, way: TelemetrySource, reader: int) -> _End:
        """Take messages until there is a reason to end; each has a deadline."""
        deadline = time.monotonic() + self._limits.start_s
        pending = b""
        poller = select.poll()  # select() takes no descriptor beyond 1023
        poller.register(reader, select.POLLIN | select.POLLHUP)
        poller.register(self._wake, select.POLLIN)
        while True:
            left = deadline - time.monotonic()
            ready = [descriptor for descriptor, _ in poller.poll(max(0.0, left * 1000))]
            if self._wake in ready:
                return _End("stopped")
            if not ready:
                return _End("hung", f"it did not answer for {self._patience():g} s {_where(self._stage)}")
            data = os.read(reader, 65_536)
            if not data:
                return _End("died")
            pending += data
            *lines, pending = pending.split(b"\n")
            if len(pending) > MAX_LINE_BYTES:
                return _End("hung", "it sent what cannot be read")
            for line in lines:
                try:
                    end = self._take(way, line)
                except (ValueError, KeyError, IndexError, TypeError) as error:
                    return _End("hung", f"it sent what cannot be read ({type(error).__name__})")
                if end is not None:
                    return end
                deadline = time.monotonic() + self._patience()

    def _patience(self) -> float:
        if self._stage != "read":
            return self._limits.start_s
        return max(self._limits.silent_s, 3 / self._hz)

    def _take(self, way: TelemetrySource, line: bytes) -> _End | None:
        """Take one message; say why to end if it is a reason to."""
        message: dict[str, Any] = json.loads(line)
        if "rows" in message:
            return self._take_rows(way, message)
        if "stage" in message:
            self._stage = message["stage"]
        elif "ready" in message:
            self._stage, self._version = "read", message["version"]
            self._present = [Device(*each) for each in message["ready"]]
            self.devices = self.devices if self.source else self._present
        elif "energy" in message:
            place = self._present[message["energy"]].bdf
            self._meters.setdefault(place, EnergyMeter(message["bits"], message["tick_j"]))
        elif "failed" in message:
            return _End("refused", message["text"])
        elif "reset" in message:
            return _End("reset", "the GPU was reset")
        return None

    def _take_rows(self, way: TelemetrySource, message: dict[str, Any]) -> _End | None:
        rows, failures = message["rows"], message["failures"]
        self._failures.update(failures)
        if not rows:
            self._empty += 1
            if self._empty >= _EMPTY_TICKS:
                return _End("empty", next(iter(failures), "it gave no reading"))
            return None
        self._empty = 0
        self.source = way
        self._count_tick()
        add, source = self.readings.add, way.name
        for index, at, values, ticks in rows:
            place = self._present[index].bdf
            subject = f"device:{place}"
            for metric, value in values.items():
                if math.isfinite(value):
                    add(at, source, subject, metric, value)
            if ticks is not None and (joules := self._meters[place].energy_j(ticks, at)) is not None:
                add(at, source, subject, "energy_j", joules)
        self._cpu_s = message["cpu_s"]
        at = now_ns()
        add(at, source, "rocscope", "telemetry_read_s", message["took_s"])
        cpu = self._cpu_before_s + self._cpu_s + time.thread_time()
        add(at, source, "rocscope", "telemetry_cpu_s", cpu)
        return None

    def _count_tick(self) -> None:
        now = time.monotonic()
        if self._last_tick is not None:
            self._missed += max(0, round((now - self._last_tick) * self._hz) - 1)
        self._last_tick = now
        self._ticks += 1

    def _finish(self, process: subprocess.Popen[bytes], end: _End) -> int | None:
        """End the process: by the end of its input, else by force; return its exit code.

        One that hangs is not waited for, nor one that is still importing: it holds nothing yet. Another may
        hold a lock of the driver's library that all its users share.
        """
        assert process.stdin is not None  # noqa: S101  # it was asked for
        with contextlib.suppress(OSError):
            process.stdin.close()
        if end.how != "hung" and not (end.how == "stopped" and self._stage in ("start", "import")):
            with contextlib.suppress(subprocess.TimeoutExpired):
                return process.wait(self._limits.stop_s)
        process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(self._limits.stop_s)
        self._troubles["its process could not be ended even with SIGKILL: the driver holds it"] += 1
        return None

    def _note(self, asked: float) -> None:
        """Say what was used, what was not and why, and what was missing when we were ``asked`` to stop."""
        refused = "; ".join(self._refused)
        if self.source is None:
            waited_s = asked - self._started
            why = [*self._refused, *self._troubles]
            if len(why) < len(self._ways) and waited_s > _ANSWER_S + 1 / self._hz:
                late = f"{self._ways[len(why)].label} did not answer in {waited_s:.1f} s"
                why.append(f"{late} {_where(self._stage)}")
            if self._troubles or len(self._refused) == len(self._ways) or len(why) > len(self._refused):
                self.notices.append(("telemetry-missing", f"no GPU telemetry ({'; '.join(why)})"))
            return
        count = len(self.devices)
        gpus = "1 GPU" if count == 1 else f"{count} GPUs"
        said = f"GPU telemetry: {gpus} at {self._hz:g} Hz through {self.source.label} ({self._version})"
        self.notices.append(("telemetry", f"{said}; not used: {refused}" if refused else said))
        silent_s = asked - (self._last_tick or asked)
        if round(silent_s * self._hz) > 1:
            self._missed += round(silent_s * self._hz) - 1
            self._troubles[f"it did not answer in the last {silent_s:.1f} s"] += 1
        for text, times in self._troubles.items():
            again = f" ({times} times)" if times > 1 else ""
            self.notices.append(
                ("telemetry-gaps", f"GPU telemetry has gaps: {text}{again}; readings missed: {self._missed}")
            )
        for text, times in self._failures.items():
            self.notices.append(("telemetry-gaps", f"{times} readings of a GPU gave nothing: {text}"))
        for place, meter in self._meters.items():
            if meter.lost:
                text = f"the energy of GPU {place} is known only in part: {meter.lost}"
                self.notices.append(("energy-unknown", text))


def start(choice: Choice, hz: float, environment: Mapping[str, str]) -> TelemetrySampler | None:
    """Begin to sample; ``None`` where it is not wanted, and where ``auto`` finds no GPU."""
    ways = sources(choice, environment)
    return TelemetrySampler(ways, hz) if ways else None


def _where(stage: str) -> str:
    known = {"import": "while it was loaded", "init": "while it was started", "read": "while it was read"}
    return known.get(stage, "at its start")


def _ending(code: int | None) -> str:
    return f"signal {-code}" if code is not None and code < 0 else f"code {code}"
