"""Readings over time: what a sampler is, and the typed columns it fills."""

from __future__ import annotations

import threading
from array import array
from typing import Final, Protocol, runtime_checkable

MAX_ROWS: Final = 20_000_000
STOP_DEADLINE_S: Final = 3.0


class _Names:
    """Text to index, in the order of first use."""

    def __init__(self) -> None:
        self.index: dict[str, int] = {}

    def __call__(self, text: str) -> int:
        return self.index.setdefault(text, len(self.index))


class Readings:
    """Rows of the table ``samples`` in typed arrays; safe to fill in one thread and read in another."""

    def __init__(self) -> None:
        self._times, self._values = array("q"), array("d")
        self._sources, self._subjects, self._metrics = array("i"), array("i"), array("i")
        self._source, self._subject, self._metric = _Names(), _Names(), _Names()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._times)

    def add(self, time_ns: int, source: str, subject: str, metric: str, value: float) -> None:
        """Add one reading; ``time_ns`` of :func:`rocscope.launch.clocks.now_ns`. Beyond MAX_ROWS, none."""
        with self._lock:
            if len(self._times) >= MAX_ROWS:
                return
            self._times.append(time_ns)
            self._sources.append(self._source(source))
            self._subjects.append(self._subject(subject))
            self._metrics.append(self._metric(metric))
            self._values.append(value)

    def columns(self) -> Columns:
        """Return a copy of what was read so far."""
        with self._lock:
            return Columns(
                self._times[:],
                (self._sources[:], list(self._source.index)),
                (self._subjects[:], list(self._subject.index)),
                (self._metrics[:], list(self._metric.index)),
                self._values[:],
            )

    def drain(self) -> Columns:
        """Return what was read since the last time, and forget it: of a sampler that never ends."""
        with self._lock:
            taken = Columns(
                self._times,
                (self._sources, list(self._source.index)),
                (self._subjects, list(self._subject.index)),
                (self._metrics, list(self._metric.index)),
                self._values,
            )
            self._times, self._values = array("q"), array("d")
            self._sources, self._subjects, self._metrics = array("i"), array("i"), array("i")
            return taken


class Columns:
    """Readings by column: each text as its indices and the texts they point to."""

    def __init__(
        self,
        times: array[int],
        source: tuple[array[int], list[str]],
        subject: tuple[array[int], list[str]],
        metric: tuple[array[int], list[str]],
        values: array[float],
    ) -> None:
        self.times, self.source, self.subject, self.metric, self.values = (
            times,
            source,
            subject,
            metric,
            values,
        )


@runtime_checkable
class Sampler(Protocol):
    """Reads something at a rate, in a thread or process of its own, from its making until it is stopped."""

    name: str  # of a notice about it: "host sampler"
    readings: Readings
    notices: list[tuple[str, str]]  # (code, message) that the user has to see, complete after stop()

    def stop(self) -> bool:
        """End sampling; tell whether it ended before the deadline. What was read can be used either way."""
        ...
