"""``results.json`` of rocprof v1: a Chrome trace with the CSV's columns in ``args``.

``ts`` and ``dur`` are microseconds cut to integers (a kernel of 0.8 us has ``dur`` 0), so that times are
taken from ``args``, in ns. The first event is empty, flow events have other types, and a run that was cut
short leaves neither the opening nor the closing of the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

import msgspec
import pyarrow as pa

from rocscope.collectors.builder import CaptureBuilder
from rocscope.collectors.json_stream import JsonStream
from rocscope.collectors.rocminfo import parse_tail
from rocscope.collectors.rocprof_columns import COUNTER, Layout
from rocscope.collectors.rocprof_ops import ApiRows, OpRows
from rocscope.collectors.rocprof_rows import DispatchRows
from rocscope.collectors.rocprof_text import TEXT_COLUMNS, numbers
from rocscope.collectors.rocprof_v1_csv import TOOL
from rocscope.collectors.source import Source

_OPENING: Final = re.compile(r'\s*\{\s*"traceEvents"\s*:\s*\[\s*(?:\{\s*\}|,)')
_HEADLESS: Final = re.compile(r'\s*,\s*\{\s*"(?:args|ph|ts)"\s*:')
_LANES: Final = (("GPU Barriers", "barrier"), ("GPU", "kernel"), ("COPY", "copy"), ("Markers", "annotation"))


class Event(msgspec.Struct, gc=False):
    """What is wanted of one event; flow events and metadata have other fields."""

    ph: Any = None
    name: Any = None
    pid: Any = None
    args: dict[str, Any] | None = None


_EVENTS: Final = msgspec.json.Decoder(list[Event])
_RAW: Final = msgspec.json.Decoder(msgspec.Raw)


class RocprofV1JsonReader:
    """Dispatches, copies and calls of rocprof v1."""

    name = "rocprof-v1-json"
    help = "results.json (Chrome trace) of rocprof v1, also where its opening or closing is missing"
    order = 52
    content = "dispatches"

    def recognises(self, source: Source) -> bool:
        """Tell by the empty first event, the missing opening, or the names of its arguments."""
        head = source.text_head
        if _OPENING.match(head) or _HEADLESS.match(head):
            return True
        return '"traceEvents"' in head and '"gpu-id"' in head and '"BeginNs"' in head

    def read(self, source: Source, builder: CaptureBuilder) -> None:
        """Add dispatches, copies and host calls; mend what is missing and say so.

        Raises :class:`rocscope.errors.InputError` where there are no events at all.
        """
        builder.manifest.setdefault("profiler", "rocprof")
        events = _Events(source.name, builder)
        with source.local(salvage=True) as path, JsonStream.open(path, source.name) as stream:
            headless = stream.peek() == b","
            if headless:
                for batch in stream.elements(_EVENTS):
                    events.add(batch)
            else:
                for key in stream.members():
                    if key == "traceEvents":
                        for batch in stream.batches(_EVENTS):
                            events.add(batch)
                    elif key == "otherData" and (raw := stream.decode(_RAW)) is not None:
                        events.describe(bytes(raw).decode("utf-8", "replace"))
            damage, unreadable = stream.damage, stream.unreadable
        builder.drop("malformed-event", unreadable, source.name)
        if headless or damage:
            what = "does not begin as a trace" if headless else ""
            why = " and ".join(each for each in (what, damage or "") if each)
            builder.notice("malformed-json", f"{source.name}: {why}; what can be read is used", source.name)
        events.commit()


class _Events:
    """Sorts events into dispatches, device operations and host calls."""

    def __init__(self, name: str, builder: CaptureBuilder) -> None:
        self._name = name
        self._builder = builder
        self._lanes: dict[Any, str] = {"1": "copy"}
        self._dispatches: dict[tuple[str, ...], DispatchRows] = {}
        self._operations: dict[str, OpRows] = {}
        self._calls: dict[str, ApiRows] = {}
        self._untimed = 0

    def add(self, events: Iterable[Event]) -> None:
        """Take a batch of events; what is neither an operation nor a call is passed over."""
        kernels: list[dict[str, Any]] = []
        others: dict[str, list[dict[str, Any]]] = {}
        for event in events:
            args = event.args
            if event.ph == "M" and event.name == "process_name" and args is not None:
                self._name_lane(event.pid, str(args.get("name", "")))
            if event.ph != "X":
                continue
            if args is None or "BeginNs" not in args or "EndNs" not in args:
                self._untimed += 1
            elif "KernelName" in args and "gpu-id" in args:
                kernels.append(args)
            else:
                args["Name"] = event.name
                others.setdefault(self._lanes.get(str(event.pid), "api"), []).append(args)
        if kernels:
            self._add_kernels(kernels)
        for lane, rows in others.items():
            self._add_others(lane, rows)

    def describe(self, other_data: str) -> None:
        """Tell what the file's end says of the GPUs that were used."""
        agents = {agent.node: agent for agent in parse_tail(other_data)}
        used = {node for rows in self._dispatches.values() for node in rows.nodes}
        for node in sorted(used & set(agents)):
            self._builder.gpu(str(node), **agents[node].properties())

    def commit(self) -> None:
        """Hand all over to the builder."""
        self._builder.drop("event-without-times", self._untimed, self._name)
        for dispatches in self._dispatches.values():
            dispatches.commit()
        if any(dispatches.rows for dispatches in self._dispatches.values()):
            self._operations.pop("kernel", None)  # the same kernels, without their launch shape
        for operations in self._operations.values():
            operations.commit()
        for calls in self._calls.values():
            calls.commit()
        if not self._dispatches and not self._operations:
            self._builder.notice("no-dispatches", f"{self._name} holds no dispatches", self._name)

    def _name_lane(self, pid: Any, label: str) -> None:
        lane = next((lane for start, lane in _LANES if label.startswith(start)), "api")
        self._lanes[str(pid)] = lane

    def _add_kernels(self, events: list[dict[str, Any]]) -> None:
        cells = list(dict.fromkeys(key for args in events for key in args))
        layout = Layout.of(cells)
        rows = self._dispatches.get(layout.counters)
        if rows is None:
            rows = DispatchRows(self._name, self._builder, counters=layout.counters, tool=TOOL)
            self._dispatches[layout.counters] = rows
        rows.add(_table(events, dict(zip(layout.names, cells, strict=True))))

    def _add_others(self, lane: str, events: list[dict[str, Any]]) -> None:
        if lane in ("api", "annotation"):
            if lane not in self._calls:
                self._calls[lane] = ApiRows(self._name, self._builder, kind=lane)
            roles = {"name": "Name", "begin": "BeginNs", "end": "EndNs", "pid": "pid", "thread": "tid"}
            self._calls[lane].add(_table(events, roles))
            return
        if lane not in self._operations:
            self._operations[lane] = OpRows(self._name, self._builder, lane=lane)
        roles = {"kernel": "Name", "begin": "BeginNs", "end": "EndNs", "pid": "pid", "device": "dev-id"}
        self._operations[lane].add(_table(events, roles | {"queue": "queue-id", "stream": "stream-id"}))


def _table(events: list[dict[str, Any]], columns: dict[str, str]) -> pa.Table:
    """Return the arguments of events as columns: internal name to the key of the argument."""
    found: dict[str, pa.Array] = {}
    for name, key in columns.items():
        if name.startswith("unused:"):
            continue
        texts = pa.array([None if (v := e.get(key)) is None else str(v) for e in events], pa.string())
        if name not in TEXT_COLUMNS:
            texts, _ = numbers(texts, real=name.startswith(COUNTER))
        found[name] = texts
    return pa.table(found)


READERS = (RocprofV1JsonReader(),)
