"""A trace for ui.perfetto.dev (Chrome's JSON): GPU queues, host threads and telemetry on one time axis."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from rocscope.capture import Capture
from rocscope.errors import InputError
from rocscope.exports import enriched, lanes
from rocscope.exports.target import replacing

GZIP_LEVEL: Final = 5
_TELEMETRY_PID: Final = 1
_FIRST_GPU_PID: Final = 2


class _Perfetto:
    name = "perfetto"
    help = "a trace for ui.perfetto.dev; gzipped where the name ends in .gz"
    folder = False

    def write(self, capture: Capture, target: Path) -> list[Path]:
        """Write the trace of all rows with times. Raises :class:`InputError` where no row has any."""
        trace = _Trace(capture)
        with replacing(target) as temporary, _opened(temporary, zipped=target.suffix == ".gz") as stream:
            stream.write('{"displayTimeUnit":"ns","otherData":')
            stream.write(json.dumps(trace.about))
            stream.write(',"traceEvents":[\n')
            for number, lines in enumerate(trace.events()):
                stream.write((",\n" if number else "") + ",\n".join(lines))
            stream.write("\n]}\n")
        return [target]


def _opened(path: Path, *, zipped: bool) -> IO[str]:
    if zipped:
        return gzip.open(path, "wt", compresslevel=GZIP_LEVEL, encoding="utf-8")
    return path.open("w", encoding="utf-8")


class _Trace:
    """Numbers the tracks of a capture and gives its events, in batches of encoded lines."""

    def __init__(self, capture: Capture) -> None:
        self._capture = capture
        manifest = capture.manifest
        clean = [each.index for each in manifest.passes if not each.perturbed]
        self._passes = clean or [each.index for each in manifest.passes]
        firsts = [
            pc.min(capture.tables()[name][column]).as_py()
            for name, column in (("dispatches", "start_ns"), ("spans", "start_ns"), ("samples", "time_ns"))
        ]
        known = [first for first in firsts if first is not None]
        if not known:
            raise InputError(
                "the capture has no times, only totals: there is no timeline to draw",
                "collect a trace (rocscope profile), or export csv",
            )
        self._start_ns: int = min(known)
        gpus = sorted({gpu.gpu for gpu in manifest.gpus} | _distinct(capture.dispatches, "gpu"))
        self._gpu_pid = {gpu: _FIRST_GPU_PID + at for at, gpu in enumerate(gpus)}
        processes = sorted({p.process for p in manifest.processes} | _distinct(capture.spans, "process"))
        self._process_pid = {process: _FIRST_GPU_PID + len(gpus) + at for at, process in enumerate(processes)}
        self._tracks: dict[tuple[int, str], int] = {}
        self.about: dict[str, Any] = {
            "made_by": "rocscope",
            "capture": manifest.id,
            "provenance": manifest.provenance,
            "provenance_note": manifest.provenance_note,
            "start_ns": self._start_ns,
            "wall_offset_ns": manifest.clock.wall_offset_ns,
            "passes_shown": self._passes,
        }

    def events(self) -> Iterator[list[str]]:
        """Give the encoded events: names first, then rows."""
        yield self._process_names()
        yield from self._dispatches()
        yield from self._spans()
        yield from self._samples()

    def _process_names(self) -> list[str]:
        manifest = self._capture.manifest
        gpus = {gpu.gpu: gpu for gpu in manifest.gpus}
        processes = {process.process: process for process in manifest.processes}
        lines = [_meta("process_name", _TELEMETRY_PID, 0, name="telemetry")]
        lines.append(_meta("process_sort_index", _TELEMETRY_PID, 0, sort_index=10**6))
        for index, pid in self._gpu_pid.items():
            gpu = gpus.get(index)
            words = [
                f"GPU {index}",
                gpu.name if gpu else "",
                gpu.arch if gpu else "",
                gpu.host if gpu else "",
            ]
            lines.append(_meta("process_name", pid, 0, name=" ".join(word for word in words if word)))
            lines.append(_meta("process_sort_index", pid, 0, sort_index=pid))
        for index, pid in self._process_pid.items():
            process = processes.get(index)
            name = f"process {index}"
            if process is not None:
                rank = "" if process.rank is None else f" rank {process.rank}"
                name = f"{process.name or 'process'} {process.pid}{rank} {process.host}".strip()
            lines.append(_meta("process_name", pid, 0, name=name))
            lines.append(_meta("process_sort_index", pid, 0, sort_index=pid))
        return lines

    def _track(self, pid: int, name: str, lines: list[str]) -> int:
        """Return the number of a track, named on first use."""
        key = (pid, name)
        if key not in self._tracks:
            self._tracks[key] = len(self._tracks) + 1
            lines.append(_meta("thread_name", pid, self._tracks[key], name=name))
        return self._tracks[key]

    def _dispatches(self) -> Iterator[list[str]]:
        table = self._capture.dispatches
        shown = pc.and_(pc.is_valid(table["start_ns"]), pc.is_valid(table["end_ns"]))
        if self._passes:
            shown = pc.and_(shown, pc.is_in(table["pass"], pa.array(self._passes, table["pass"].type)))
        lane = lanes.assign(table.select(lanes.COLUMNS).filter(shown))
        row = at = 0
        for batch in enriched.batches(self._capture, "dispatches"):  # filtered here: a copy of all is large
            kept = batch.filter(shown.slice(row, batch.num_rows).combine_chunks())
            row += batch.num_rows
            if kept.num_rows:
                yield self._dispatch_lines(kept, lane[at : at + kept.num_rows].tolist())
                at += kept.num_rows

    def _dispatch_lines(self, batch: pa.RecordBatch, lane: list[int]) -> list[str]:
        get = {name: batch.column(name).to_pylist() for name in _NUMBERS}
        name, raw = _encoded(batch.column("kernel_short")), _encoded(batch.column("kernel"))
        family, kind = _encoded(batch.column("family")), _encoded(batch.column("kind"))
        operator = _encoded(batch.column("operator"))
        lines: list[str] = []
        for i in range(batch.num_rows):
            pid = self._gpu_pid[get["gpu"][i]]
            queue = get["queue"][i] if get["queue"][i] is not None else get["stream"][i]
            label = f"queue {'unknown' if queue is None else queue}" + (
                f" ({lane[i] + 1})" if lane[i] else ""
            )
            numbers = ",".join(f'"{key}":{get[key][i]}' for key in _NUMBERS[5:] if get[key][i] is not None)
            args = f'"kernel":{raw[i]},"family":{family[i]},"kind":{kind[i]},"operator":{operator[i]}'
            lines.append(
                f'{{"ph":"X","pid":{pid},"tid":{self._track(pid, label, lines)},"name":{name[i]},'
                f'"cat":{family[i]},{self._when(get["start_ns"][i], get["end_ns"][i])},'
                f'"args":{{{args}{"," if numbers else ""}{numbers}}}}}'
            )
        return lines

    def _spans(self) -> Iterator[list[str]]:
        for batch in enriched.batches(self._capture, "spans"):
            get = {c: batch.column(c).to_pylist() for c in ("process", "thread", "gpu", "start_ns", "end_ns")}
            name, kind = _encoded(batch.column("name")), _encoded(batch.column("kind"))
            lines: list[str] = []
            for i in range(batch.num_rows):
                gpu = get["gpu"][i]
                if kind[i] == '"gpu_annotation"' and gpu in self._gpu_pid:
                    pid, label = self._gpu_pid[gpu], "annotations"
                else:
                    thread = get["thread"][i]
                    pid = self._process_pid[get["process"][i]]
                    label = f"thread {'unknown' if thread is None else thread}"
                lines.append(
                    f'{{"ph":"X","pid":{pid},"tid":{self._track(pid, label, lines)},"name":{name[i]},'
                    f'"cat":{kind[i]},{self._when(get["start_ns"][i], get["end_ns"][i])}}}'
                )
            if lines:
                yield lines

    def _samples(self) -> Iterator[list[str]]:
        for batch in enriched.batches(self._capture, "samples"):
            get = {c: batch.column(c).to_pylist() for c in ("time_ns", "subject", "metric", "value")}
            rows = zip(get["time_ns"], get["subject"], get["metric"], get["value"], strict=True)
            lines = [
                f'{{"ph":"C","pid":{_TELEMETRY_PID},"name":{json.dumps(f"{subject} {metric}")},'
                f'"ts":{self._us(time_ns)},"args":{{"value":{value!r}}}}}'
                for time_ns, subject, metric, value in rows
                if value is not None and math.isfinite(value)
            ]
            if lines:
                yield lines

    def _us(self, time_ns: int) -> str:
        """Write a time in µs from the start, exactly: ns as three decimals."""
        whole, rest = divmod(time_ns - self._start_ns, 1000)
        return f"{whole}.{rest:03d}"

    def _when(self, start_ns: int, end_ns: int) -> str:
        whole, rest = divmod(max(end_ns - start_ns, 0), 1000)
        return f'"ts":{self._us(start_ns)},"dur":{whole}.{rest:03d}'


_NUMBERS: Final = (
    "gpu", "queue", "stream", "start_ns", "end_ns",  # where and when; the others are shown as they are
    "process", "dispatch_id", "correlation_id", "count", "grid_x", "grid_y", "grid_z",
    "workgroup_x", "workgroup_y", "workgroup_z", "lds_bytes", "scratch_bytes", "vgprs", "agprs", "sgprs",
    "copied_bytes",
)  # fmt: skip


def _encoded(column: pa.DictionaryArray) -> list[str]:
    """Return each cell as JSON, encoded once a dictionary entry."""
    words = [json.dumps(word) for word in column.dictionary.to_pylist()]
    return ["null" if at is None else words[at] for at in column.indices.to_pylist()]


def _distinct(table: pa.Table, column: str) -> set[int]:
    return set(pc.unique(table[column]).to_pylist())


def _meta(kind: str, pid: int, tid: int, **args: object) -> str:
    return json.dumps({"ph": "M", "name": kind, "pid": pid, "tid": tid, "args": args})


EXPORT = _Perfetto()
