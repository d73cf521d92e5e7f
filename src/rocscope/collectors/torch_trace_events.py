"""Events of a Kineto trace as columns: what is kept of each, gathered chunk by chunk."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from rocscope.collectors.columns import MISSING, Codes, Ints, Rows, ints, triples

Floats = npt.NDArray[np.float64]

_NO_SHAPE: Final = (MISSING, MISSING, MISSING)
_NO_RAW: Final = msgspec.Raw()
_MOST_US: Final = 9e15  # the largest time whose nanoseconds fit 64 bits

DEVICE_KINDS: Final = {
    "kernel": "kernel",
    "gpu_memcpy": "memcpy",
    "gpu_memset": "memset",
    "Kernel": "kernel",  # before PyTorch 1.12
    "Memcpy": "memcpy",
    "Memset": "memset",
}
SPAN_KINDS: Final = {
    "cpu_op": "operator",
    "user_annotation": "annotation",
    "gpu_user_annotation": "gpu_annotation",
    "cuda_runtime": "api",
    "cuda_driver": "api",
    "overhead": "overhead",
    "Operator": "operator",
    "Runtime": "api",
}


class EventArgs(
    msgspec.Struct,
    gc=False,
    rename={
        "external": "External id",
        "external_old": "external id",
        "registers": "registers per thread",
        "shared_memory": "shared memory",
        "dims": "Input Dims",
        "types": "Input type",
        "strides": "Input Strides",
    },
):
    """The arguments of an event that are used."""

    external: int | None = MISSING
    external_old: int | None = MISSING
    correlation: int | None = MISSING
    device: int | str | None = MISSING
    stream: int | str | None = MISSING
    grid: tuple[int, int, int] | None = None
    block: tuple[int, int, int] | None = None
    registers: int | None = MISSING
    shared_memory: int | None = MISSING
    bytes: int | None = MISSING
    dims: msgspec.Raw = _NO_RAW
    types: msgspec.Raw = _NO_RAW
    strides: msgspec.Raw = _NO_RAW
    name: str | None = None  # of process_name
    labels: str | None = None  # of process_labels


class Event(msgspec.Struct, gc=False):
    """One element of ``traceEvents``."""

    cat: str | None = None
    name: str | None = None
    ph: str | None = None
    pid: int | str | None = MISSING
    tid: int | str | None = MISSING
    ts: float | None = None  # us
    dur: float | None = None  # us
    args: EventArgs | None = None


class ExactEvent(Event, gc=False):
    """An event whose start has more digits than a float keeps (us since 1970, with a fraction)."""

    ts: Decimal | None = None  # type: ignore[assignment]  # another type for the same field


EVENTS: Final = msgspec.json.Decoder(list[Event], strict=False)
EXACT_EVENTS: Final = msgspec.json.Decoder(list[ExactEvent], strict=False)
_NO_ARGS: Final = EventArgs()


class EventColumns:
    """What a trace's events say: device rows, host spans, processes; bad rows are counted by reason."""

    def __init__(self) -> None:
        self.device = Rows()
        self.spans = Rows()
        self.names = Codes()
        self.shapes = Codes()  # (dims, types, strides) as JSON texts
        self.process_names: dict[int, str] = {}
        self.cpu_pids: set[int] = set()
        self.session_us = 0.0  # longest profiler session
        self.dropped: dict[str, int] = {}
        self._route: dict[str | None, tuple[Callable[[list[Any], str], None], str]] = {
            **{cat: (self._add_device, kind) for cat, kind in DEVICE_KINDS.items()},
            **{cat: (self._add_spans, kind) for cat, kind in SPAN_KINDS.items()},
            "Trace": (self._add_session, ""),
            None: (self._add_metadata, ""),
            "": (self._add_metadata, ""),
        }

    def add(self, events: list[Any]) -> None:
        """Take a chunk of events. Flow arrows and Python frames are left out."""
        groups: dict[str | None, list[Any]] = {cat: [] for cat in self._route}
        rest: list[Any] = []
        for event in events:
            groups.get(event.cat, rest).append(event)
        for cat, group in groups.items():
            if group:
                handle, kind = self._route[cat]
                handle(group, kind)

    def _add_device(self, events: list[Any], kind: str) -> None:
        args = [event.args or _NO_ARGS for event in events]
        device = ints([a.device for a in args])
        owner = ints([event.pid for event in events])  # the device again, where args are missing
        shared = {
            "name": self.names.of([event.name or "" for event in events]),
            "device": np.where(device == MISSING, owner, device),
            "stream": ints([a.stream for a in args]),
            "correlation": ints([a.correlation for a in args]),
            "external": _external(args),
            "registers": ints([a.registers for a in args]),
            "shared_memory": ints([a.shared_memory for a in args]),
            "bytes": ints([a.bytes for a in args]),
            "grid": triples([a.grid or _NO_SHAPE for a in args]),
            "block": triples([a.block or _NO_SHAPE for a in args]),
            "kind": np.full(len(events), self.names[kind], dtype=np.int64),
        }
        self._append(self.device, events, "", shared)

    def _add_spans(self, events: list[Any], kind: str) -> None:
        args = [event.args or _NO_ARGS for event in events]
        shared = {
            "name": self.names.of([event.name or "" for event in events]),
            "kind": np.full(len(events), self.names[kind], dtype=np.int64),
            "pid": ints([event.pid for event in events]),
            "tid": ints([event.tid for event in events]),
            "correlation": ints([a.correlation for a in args]),
            "external": _external(args),
        }
        if kind == "operator":
            inputs = [(bytes(a.dims), bytes(a.types), bytes(a.strides)) for a in args]
            shared["shape"] = self.shapes.of(inputs)
        else:
            shared["shape"] = np.full(len(events), -1, dtype=np.int64)
        self._append(self.spans, events, "host events: ", shared)

    def _add_session(self, events: list[Any], _kind: str) -> None:
        self.session_us = max([self.session_us, *(event.dur for event in events if event.dur)])

    def _add_metadata(self, events: list[Any], _kind: str) -> None:
        for event in events:
            args = event.args or _NO_ARGS
            if event.ph != "M" or not isinstance(event.pid, int):
                continue
            if event.name == "process_name" and args.name:
                self.process_names[event.pid] = args.name
            elif event.name == "process_labels" and args.labels == "CPU":
                self.cpu_pids.add(event.pid)

    def _append(self, rows: Rows, events: list[Any], what: str, columns: dict[str, Any]) -> None:
        start_us, exact = _starts(events)
        duration_us = np.array([event.dur for event in events], dtype=np.float64)  # None becomes nan
        timed = (np.abs(start_us) < _MOST_US) & (np.abs(duration_us) < _MOST_US)
        good = timed & (duration_us >= 0)
        self._drop(f"{what}unreadable times", int((~timed).sum()))
        self._drop(f"{what}ends before it starts", int((timed & ~good).sum()))
        columns["start"] = exact if exact is not None else _nanoseconds(np.where(timed, start_us, 0.0))
        columns["duration"] = np.rint(np.where(good, duration_us, 0.0) * 1000).astype(np.int64)
        if not good.all():
            columns = {name: values[good] for name, values in columns.items()}
        rows.append(**columns)

    def _drop(self, reason: str, count: int) -> None:
        if count:
            self.dropped[reason] = self.dropped.get(reason, 0) + count


def _starts(events: list[Any]) -> tuple[Floats, Ints | None]:
    """Return starts in us, and in whole ns where they came as decimals."""
    starts = [event.ts for event in events]
    us = np.array(starts, dtype=np.float64)
    if not any(isinstance(start, Decimal) for start in starts):
        return us, None
    usable = (np.abs(us) < _MOST_US).tolist()
    ns = [round(start * 1000) if good else 0 for start, good in zip(starts, usable, strict=True)]
    return us, np.array(ns, dtype=np.int64)


def _nanoseconds(us: Floats) -> Ints:
    """Return ``us`` in whole ns; exact for three decimals below 2**43 us (a float is off by < 0.5 ns)."""
    whole = np.floor(us)
    return whole.astype(np.int64) * 1000 + np.rint((us - whole) * 1000).astype(np.int64)


def _external(args: list[EventArgs]) -> Ints:
    """Return the ids of the operators that launched; Kineto's 0 is none."""
    new = ints([a.external for a in args])
    old = ints([a.external_old for a in args])
    found = np.where(new == MISSING, old, new)
    return np.where(found == 0, MISSING, found)
