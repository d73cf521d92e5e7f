"""Turns the columns of a Kineto trace into rows of a capture."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa

from rocscope.collectors.builder import CaptureBuilder
from rocscope.collectors.columns import MISSING, Columns, Ints, Mask, mapped, nullable, picked, texts
from rocscope.collectors.torch_trace_events import EventColumns
from rocscope.collectors.torch_trace_operators import GRAPH_LAUNCHES, link

_WORK_ITEM_LAUNCHES: Final = ("hipExtModuleLaunchKernel", "hipHccModuleLaunchKernel")
_WORK_ITEM_KERNELS: Final = ("Cijk_", "Custom_Cijk_")
_AXES: Final = ("x", "y", "z")


@dataclass(frozen=True)
class Devices:
    """Where a trace's rows belong in the capture."""

    gpus: dict[int, int]  # device number in the trace to GPU of the capture
    process: int
    processes: dict[int, int | None]  # pid to process; ``None`` is ``process``
    amd: bool
    shift_ns: int  # from the trace's times to the capture's clock


def add_rows(builder: CaptureBuilder, events: EventColumns, where: Devices, source: str) -> None:
    """Add the dispatches and spans of one trace to ``builder``."""
    names = pa.array(list(events.names), type=pa.string())
    spans = events.spans.finish()
    device = events.device.finish("correlation")
    host = _host_side(events, spans)
    if len(device["correlation"]):
        call, operator = link(device, host.calls, host.operators, host.replays)
        launched = {
            "grid": _grid(events, device, picked(host.calls["name"], call), amd=where.amd),
            "operator": picked(host.operators["name"], operator),
            "shape": picked(host.operators["shape"], operator),
        }
        _add_dispatches(builder, events, where, {**device, **launched}, names)
    _tell_lost_replays(builder, device["correlation"], host, source)
    if spans:
        _add_spans(builder, events, where, spans, names)


@dataclass(frozen=True)
class _HostSide:
    """The host spans that matter to the activities."""

    calls: Columns
    operators: Columns
    replays: Mask  # of the calls, those that replay a graph


def _host_side(events: EventColumns, spans: Columns) -> _HostSide:
    fields = ("name", "kind", "pid", "tid", "correlation", "external", "shape", "start", "duration")
    spans = {name: spans.get(name, np.zeros(0, dtype=np.int64)) for name in fields}
    is_call = spans["kind"] == events.names.get("api", -1)
    is_operator = spans["kind"] == events.names.get("operator", -1)
    calls = {name: values[is_call] for name, values in spans.items()}
    operators = {name: values[is_operator] for name, values in spans.items()}
    launches = [events.names[name] for name in GRAPH_LAUNCHES if name in events.names]
    return _HostSide(calls, operators, np.isin(calls["name"], launches))


def _add_dispatches(
    builder: CaptureBuilder, events: EventColumns, where: Devices, device: Columns, names: pa.Array
) -> None:
    start = device["start"] + where.shift_ns
    shapes, shape = _operator_shapes(events, device["shape"])
    columns: dict[str, Any] = {
        "pass": pa.scalar(builder.add_pass(), pa.int16()),
        "process": pa.scalar(where.process, pa.int32()),
        "gpu": pa.array(mapped(device["device"], where.gpus)),
        "stream": nullable(device["stream"]),
        "correlation_id": nullable(device["correlation"]),
        "kind": texts(device["kind"], names),
        "kernel": texts(device["name"], names),
        "start_ns": pa.array(start),
        "end_ns": pa.array(start + device["duration"]),
        "duration_ns": pa.array(device["duration"]),
        "count": pa.scalar(1, pa.int64()),
        "lds_bytes": nullable(device["shared_memory"]),
        "vgprs": nullable(np.where(device["registers"] > 0, device["registers"], MISSING)),
        "copied_bytes": nullable(device["bytes"]),
        "operator": texts(device["operator"], names),
        "operator_shapes": texts(shape, shapes),
    }
    for axis, letter in enumerate(_AXES):
        columns[f"grid_{letter}"] = nullable(device["grid"][:, axis])
        columns[f"workgroup_{letter}"] = nullable(device["block"][:, axis])
    builder.append("dispatches", len(start), **columns)


def _grid(events: EventColumns, device: Columns, call_name: Ints, *, amd: bool) -> Ints:
    """Return grids in work-items, MISSING where the trace has none; ``call_name`` is -1 where unknown.

    Kineto repeats what was given to the launching call: workgroups, except for HIP's calls for modules of
    the "Ext" kind, which take work-items. Without the call, the names of Tensile's kernels tell.
    """
    grid, block = device["grid"], device["block"]
    known = np.asarray(np.minimum(grid.min(axis=1), block.min(axis=1)) > 0)
    counted = np.zeros(len(grid), dtype=np.bool_)
    if amd:
        launches = [events.names[name] for name in _WORK_ITEM_LAUNCHES if name in events.names]
        tensile = [code for name, code in events.names.items() if str(name).startswith(_WORK_ITEM_KERNELS)]
        counted = np.isin(call_name, launches) | ((call_name < 0) & np.isin(device["name"], tensile))
    factor = np.where(counted[:, None], 1, block)
    return np.where(known[:, None], np.where(known[:, None], grid, 0) * factor, MISSING)


def _operator_shapes(events: EventColumns, shape: Ints) -> tuple[pa.Array, Ints]:
    """Return the distinct inputs of operators among ``shape``, and which each row has; -1 for none."""
    found: list[str] = []
    known = list(events.shapes)
    renamed = np.full(len(known) + 1, -1, dtype=np.int64)
    for code in np.unique(shape[shape >= 0]).tolist():
        text = _inputs(*known[code])
        if text:
            renamed[code] = len(found)
            found.append(text)
    return pa.array(found, type=pa.string()), renamed[shape]


def _inputs(dims: bytes, types: bytes, strides: bytes) -> str:
    """Return the inputs of an operator as JSON, or an empty text where the trace has no shapes."""
    if not dims or not types:
        return ""
    try:
        sizes, dtypes = json.loads(dims), json.loads(types)
        steps = json.loads(strides) if strides else None
    except (ValueError, RecursionError):  # what nobody decoded so far may still be no text
        return ""
    if not isinstance(sizes, list) or not isinstance(dtypes, list) or len(sizes) != len(dtypes) or not sizes:
        return ""
    inputs = [{"dims": size, "dtype": dtype} for size, dtype in zip(sizes, dtypes, strict=True)]
    if isinstance(steps, list) and len(steps) == len(inputs):
        for each, step in zip(inputs, steps, strict=True):
            if (stored := _stored(each["dims"], step)) is not None:
                each["stored"] = stored
    return json.dumps(inputs, separators=(",", ":"))


def _stored(dims: Any, strides: Any) -> int | None:
    """Return how many elements of a tensor lie in memory: along a stride of 0 it repeats one."""
    if not isinstance(dims, list) or not isinstance(strides, list) or len(dims) != len(strides):
        return None
    if not all(type(number) is int for number in (*dims, *strides)):
        return None
    own: list[int] = [size for size, step in zip(dims, strides, strict=True) if step or not size]
    return math.prod(own)


def _tell_lost_replays(builder: CaptureBuilder, correlations: Ints, host: _HostSide, source: str) -> None:
    """Say so if graphs were launched of which no activity was recorded."""
    launched = host.calls["correlation"][host.replays]
    lost = int((~np.isin(launched, correlations)).sum())
    if lost:
        builder.notice(
            "graph-replays-missing",
            f"{lost} of {len(launched)} graph launches left no kernel in {source}: "
            "its GPU time is incomplete (profile with --enforce-eager, or with rocprofv3)",
            source,
        )


def _add_spans(
    builder: CaptureBuilder, events: EventColumns, where: Devices, spans: Columns, names: pa.Array
) -> None:
    start = spans["start"] + where.shift_ns
    on_gpu = spans["kind"] == events.names.get("gpu_annotation", -1)
    gpu = np.where(on_gpu, mapped(spans["pid"], where.gpus), MISSING)
    process = {pid: where.process if own is None else own for pid, own in where.processes.items()}
    builder.append(
        "spans",
        len(start),
        process=pa.array(np.where(on_gpu, where.process, mapped(spans["pid"], process))),
        thread=nullable(np.where(on_gpu, MISSING, spans["tid"])),
        kind=texts(spans["kind"], names),
        name=texts(spans["name"], names),
        start_ns=pa.array(start),
        end_ns=pa.array(start + spans["duration"]),
        correlation_id=nullable(spans["correlation"]),
        gpu=nullable(gpu),
    )
