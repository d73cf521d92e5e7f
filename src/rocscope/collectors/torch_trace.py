"""Reads PyTorch profiler (Kineto) traces: Chrome JSON, plain or gzipped, one file a rank.

GPU activities become dispatches with the operator that launched them, host events become spans. Times are
ns since the trace's base time, which the capture's clock adds to have Unix time.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
import numpy as np

from rocscope.capture import Clock
from rocscope.collectors.builder import CaptureBuilder
from rocscope.collectors.columns import MISSING
from rocscope.collectors.json_stream import JsonStream
from rocscope.collectors.source import Source
from rocscope.collectors.torch_trace_events import EVENTS, EXACT_EVENTS, EventColumns
from rocscope.collectors.torch_trace_rows import Devices, add_rows

_START: Final = re.compile(rb"\s*[\[{]")
_KEYS: Final = re.compile(
    rb'"(?:deviceProperties|distributedInfo|baseTimeNanoseconds|(?:roctracer|cupti)_version'
    rb'|record_shapes|with_stack|with_flops|profile_memory)"\s*:'
)
_CATEGORY: Final = re.compile(
    rb'"cat"\s*:\s*"(?:cpu_op|user_annotation|gpu_user_annotation|cuda_runtime|cuda_driver|gpu_memcpy'
    rb'|gpu_memset|kernel|python_function|ac2g|Operator|Kernel|Memcpy|Memset|Runtime)"'
)
_PROFILER_LABEL: Final = re.compile(rb'"labels"\s*:\s*"(?:CPU|GPU \d+)"')
_OTHER_TOOLS: Final = re.compile(
    rb'"rocprofiler-sdk-tool"|"(?:BeginNs|DurationNs)"\s*:|"otherData"\s*:\s*\{[^}]{0,400}rocscope'
)
_EMPTY_FIRST_EVENT: Final = re.compile(rb'\{\s*"traceEvents"\s*:\s*\[\s*\{\s*\}')
_FIRST_START: Final = re.compile(rb'"ts"\s*:\s*"?(\d+)\.\d')
_FLOAT_EXACT_US: Final = 1 << 43
_TENSOR_PARALLEL: Final = re.compile(r"VLLM::Worker_TP(\d+)$")


class _Device(msgspec.Struct, rename="camel"):
    id: int
    name: str = ""
    total_global_mem: int | None = None
    compute_major: int | None = None
    compute_minor: int | None = None
    warp_size: int | None = None
    num_sms: int | None = None


class _Distributed(msgspec.Struct):
    rank: int | None = None
    world_size: int | None = None


_TEXT: Final = msgspec.json.Decoder(str)
_NUMBER: Final = msgspec.json.Decoder(int | float | str)
_INTEGER: Final = msgspec.json.Decoder(int, strict=False)
_DEVICES: Final = msgspec.json.Decoder(list[_Device], strict=False)
_DISTRIBUTED: Final = msgspec.json.Decoder(_Distributed, strict=False)


@dataclass
class _Header:
    """What a trace says about itself, before or after its events."""

    devices: dict[int, _Device] = field(default_factory=dict)
    rank: int | None = None
    world_size: int | None = None
    host: str = ""
    base_ns: int | None = None
    tracer: str = ""
    amd: bool | None = None


class TorchTraceReader:
    """PyTorch profiler traces."""

    name = "torch-trace"
    help = "PyTorch profiler (Kineto) trace, .json or .json.gz"
    order = 50
    content = "dispatches"

    def recognises(self, source: Source) -> bool:
        """Tell by the keys and categories that only Kineto writes."""
        head = source.head.removeprefix(b"\xef\xbb\xbf")
        if not _START.match(head) or _OTHER_TOOLS.search(head) or _EMPTY_FIRST_EVENT.match(head):
            return False
        if head.lstrip()[:1] == b"[":
            return b'"ph"' in head and bool(_CATEGORY.search(head))
        if b'"traceEvents"' in head:
            return bool(_KEYS.search(head) or _CATEGORY.search(head) or _PROFILER_LABEL.search(head))
        return b'"schemaVersion"' in head and bool(_KEYS.search(head))

    def read(self, source: Source, builder: CaptureBuilder) -> None:
        """Add the trace's GPU activities and host events; see :class:`rocscope.collectors.reader.Reader`."""
        events, header = EventColumns(), _Header()
        with source.local(salvage=True) as path, JsonStream.open(path, source.name) as text:
            if text.peek() == b"[":
                _read_events(text, events)
            else:
                for key in text.members():
                    if key == "traceEvents" and text.peek() == b"[":
                        _read_events(text, events)
                    else:
                        _read_header(text, key, header)
            damage, unreadable = text.damage, text.unreadable
        _add(source, builder, events, header)
        for reason, count in events.dropped.items():
            builder.drop(reason, count, source.name)
        builder.drop("malformed rows", unreadable, source.name)
        if damage:
            message = f"{source.name} is {damage}; the events before it were used"
            builder.notice("truncated-file", message, source.name)


READERS: Final = (TorchTraceReader(),)


def _read_events(text: JsonStream, events: EventColumns) -> None:
    first = _FIRST_START.search(text.text, text.position, text.position + (1 << 16))
    exact = first is not None and int(first.group(1)) >= _FLOAT_EXACT_US
    decoder: msgspec.json.Decoder[Any] = EXACT_EVENTS if exact else EVENTS
    for batch in text.batches(decoder):
        events.add(batch)


def _read_header(text: JsonStream, key: str, header: _Header) -> None:
    before = text.unreadable  # a value of another type than usual is no lost event
    if key == "deviceProperties":
        header.devices |= {device.id: device for device in text.decode(_DEVICES) or ()}
    elif key == "distributedInfo":
        found = text.decode(_DISTRIBUTED)
        if found:
            header.rank, header.world_size = found.rank, found.world_size
    elif key == "baseTimeNanoseconds":
        header.base_ns = text.decode(_INTEGER)
    elif key == "host_name":
        header.host = text.decode(_TEXT) or ""
    elif key in ("roctracer_version", "rocprofiler_version", "rocprofiler-sdk_version", "cupti_version"):
        header.tracer = f"{key.removesuffix('_version')} {text.decode(_NUMBER)}"
    if key.startswith(("roctracer", "rocprofiler", "hip_")):
        header.amd = True
    elif key.startswith(("cupti", "cuda_")):
        header.amd = False
    text.unreadable = before


def _add(source: Source, builder: CaptureBuilder, events: EventColumns, header: _Header) -> None:
    """Put devices, process, clock and rows of one trace into ``builder``."""
    device = events.device.finish("device", "start")
    spans = events.spans.finish("pid", "start")
    pid = _main_pid(events, spans["pid"])
    name = events.process_names.get(pid, "")
    tensor_rank = _TENSOR_PARALLEL.match(name)
    rank = header.rank if header.rank is not None or not tensor_rank else int(tensor_rank.group(1))
    if tensor_rank and header.world_size and header.world_size > 1:
        builder.manifest.setdefault("model_tp", header.world_size)
    if header.world_size:
        builder.manifest.setdefault("world_size", header.world_size)
    process = builder.process(pid, host=header.host, name=name, rank=rank)
    amd = _is_amd(header, events)
    gpus = {}
    for number in np.unique(device["device"]).tolist():
        known = header.devices.get(number)
        owner = f"pid {pid}" if rank is None else f"rank {rank}"
        gpus[number] = builder.gpu(
            "" if number == MISSING else f"device {number}",
            host=header.host,
            key=f"{owner} device {number}",
            arch=_arch(known, amd) if known else "",
            name=known.name if known else "",
            compute_units=(known.num_sms or None) if known else None,
            wave_size=(known.warp_size or None) if known else None,
            memory_bytes=(known.total_global_mem or None) if known else None,
        )
    shift = _clock(builder, header.base_ns)
    processes = {
        other: process if other == pid else _process(builder, other, header.host, events)
        for other in np.unique(spans["pid"]).tolist()
    }
    add_rows(
        builder,
        events,
        Devices(gpus=gpus, process=process, processes=processes, amd=amd, shift_ns=shift),
        source.name,
    )
    builder.manifest.setdefault("profiler", "torch")
    if header.tracer and builder.manifest["profiler"] == "torch":
        builder.manifest.setdefault("profiler_version", header.tracer)
    if header.host:
        builder.manifest.setdefault("host", header.host)
    starts = [rows["start"].min() for rows in (device, spans) if len(rows["start"])]
    if header.base_ns is not None and starts:
        began = datetime.fromtimestamp((header.base_ns + int(min(starts))) / 1e9, UTC)
        builder.manifest.setdefault("started_at", began.isoformat(timespec="milliseconds"))
    if events.session_us:
        session_s = events.session_us / 1e6
        builder.manifest["duration_s"] = max(session_s, builder.manifest.get("duration_s") or 0.0)


def _main_pid(events: EventColumns, span_pids: Any) -> int:
    """Return the process that was profiled: the one labelled CPU, else the one of most host events."""
    labelled = events.cpu_pids & set(events.process_names) or events.cpu_pids
    if len(labelled) == 1:
        return next(iter(labelled))
    pids, counts = np.unique(span_pids[span_pids > 0], return_counts=True)
    return int(pids[counts.argmax()]) if len(pids) else 0


def _process(builder: CaptureBuilder, pid: int, host: str, events: EventColumns) -> int | None:
    """Register another process of the trace; ``None`` for what is none (devices, -1 of the profiler)."""
    if pid <= 0 or pid not in events.cpu_pids:
        return None
    return builder.process(pid, host=host, name=events.process_names.get(pid, ""))


def _clock(builder: CaptureBuilder, base_ns: int | None) -> int:
    """Return what to add to this trace's times to have them on the capture's clock."""
    if base_ns is None:
        return 0
    clock = builder.manifest.setdefault("clock", Clock(domain="realtime", wall_offset_ns=base_ns))
    return base_ns - clock.wall_offset_ns if clock.wall_offset_ns is not None else 0


def _is_amd(header: _Header, events: EventColumns) -> bool:
    if header.amd is not None:
        return header.amd
    if any("amd" in device.name.lower() for device in header.devices.values()):
        return True
    return any(name.startswith("hip") for name in events.names)


def _arch(device: _Device, amd: bool) -> str:
    """Return the architecture where compute capability tells it, else an empty text.

    AMD's 9.0 is gfx906, gfx908 or gfx90a; there the number of compute units decides, as none of the
    others comes with as many (MI100 120; MI210 and MI250 104, MI250X 110 a die).
    """
    major, minor = device.compute_major, device.compute_minor
    if major is None or minor is None:
        return ""
    if not amd:
        return f"sm_{major}{minor}"
    if (major, minor) == (9, 0):
        return {120: "gfx908", 104: "gfx90a", 110: "gfx90a"}.get(device.num_sms or 0, "")
    return {(9, 4): "gfx942", (9, 5): "gfx950"}.get((major, minor), "")
