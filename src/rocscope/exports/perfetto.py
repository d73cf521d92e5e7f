"""A trace for ui.perfetto.dev (Chrome's JSON): GPU queues, host threads and telemetry on one time axis."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import IO, Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from rocscope import garbage
from rocscope.capture import Capture, unrelated
from rocscope.errors import InputError
from rocscope.exports import enriched, lanes, trace_counters, trace_labels, trace_rows
from rocscope.exports.target import replacing
from rocscope.findings import Analysis
from rocscope.thresholds import thresholds

GZIP_LEVEL: Final = 5
_TELEMETRY_PID: Final = 1
_FIRST_GPU_PID: Final = 2
_STEPS: Final = "steps by phase"
_FAMILIES: Final = "families"
_ANNOTATIONS: Final = "annotations"
_FIRST_TRACKS: Final = (_STEPS, _FAMILIES, _ANNOTATIONS)  # of a GPU, above its queues
_STEP_FIGURES: Final = ("context_requests", "context_tokens", "generation_requests", "generation_tokens")


class _Perfetto:
    name = "perfetto"
    help = "a trace for ui.perfetto.dev; gzipped where the name ends in .gz"
    folder = False

    def write(self, capture: Capture, target: Path, analysis: Analysis | None = None) -> list[Path]:
        """Write the trace of all rows with times, kernels with what ``analysis`` says of each.

        Raises :class:`InputError` where no row has times.
        """
        with (
            garbage.resting(),
            replacing(target) as temporary,
            _opened(temporary, zipped=target.suffix == ".gz") as stream,
        ):
            trace = _Trace(capture, analysis)
            stream.write('{"displayTimeUnit":"ns","otherData":')
            stream.write(json.dumps(trace.about))
            stream.write(',"traceEvents":[\n')
            for number, lines in enumerate(trace.events()):
                stream.write((",\n" if number else "") + ",\n".join(lines))
            stream.write("\n]}\n")
        return [target]


@contextmanager
def _opened(path: Path, *, zipped: bool) -> Iterator[IO[str]]:
    """Open for text; a gzip has neither name nor time in it: of one capture always the same bytes."""
    if not zipped:
        with path.open("w", encoding="utf-8") as stream:
            yield stream
        return
    with (
        path.open("wb") as raw,
        gzip.GzipFile("", "wb", GZIP_LEVEL, raw, mtime=0) as packed,
        TextIOWrapper(packed, encoding="utf-8") as stream,
    ):
        yield stream


class _Trace:
    """Numbers the tracks of a capture and gives its events, in batches of encoded lines."""

    def __init__(self, capture: Capture, analysis: Analysis | None) -> None:
        self._capture = capture
        self._heads = trace_rows.Heads(trace_labels.by_key(analysis))
        self._worked: dict[int, list[trace_rows.Runs]] = {}
        self._families: dict[str, int] = {}
        self._apart = unrelated(capture.manifest)
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
            "labelled_time_frac": analysis.integrity.labelled_time_frac if analysis else None,
            "samples_not_set_against_kernels": self._apart,
        }

    def events(self) -> Iterator[list[str]]:
        """Give the encoded events: names first, then rows."""
        yield self._process_names()
        yield from self._dispatches()
        yield from self._family_runs()
        yield from self._steps()
        yield from self._spans()
        yield from trace_counters.events(self._capture, self._counted_by, self._us)

    def _process_names(self) -> list[str]:
        manifest = self._capture.manifest
        gpus = {gpu.gpu: gpu for gpu in manifest.gpus}
        processes = {process.process: process for process in manifest.processes}
        named = "telemetry, by a clock that is not the kernels'" if self._apart else "telemetry"
        lines = [_meta("process_name", _TELEMETRY_PID, 0, name=named)]
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
            first = _FIRST_TRACKS.index(name) if name in _FIRST_TRACKS else len(_FIRST_TRACKS)
            lines.append(_meta("thread_sort_index", pid, self._tracks[key], sort_index=first))
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
        lines: list[str] = []
        heads, of_row = self._heads.of(batch)
        self._note(batch, [each.family for each in heads], of_row)
        get = {name: batch.column(name).to_pylist() for name in lanes.COLUMNS}
        own, tracks = trace_rows.own(batch), {}
        for i, which in enumerate(zip(get["gpu"], get["queue"], get["stream"], lane, strict=True)):
            if which not in tracks:
                gpu, queue, stream, beside = which
                name = queue if queue is not None else stream
                label = f"queue {'unknown' if name is None else name}" + (
                    f" ({beside + 1})" if beside else ""
                )
                pid = self._gpu_pid[gpu]
                tracks[which] = f'{{"ph":"X","pid":{pid},"tid":{self._track(pid, label, lines)},'
            when = self._when(get["start_ns"][i], get["end_ns"][i])
            lines.append(f"{tracks[which]}{when},{heads[of_row[i]].text}{own[i]}}}}}")
        return lines

    def _note(self, batch: pa.RecordBatch, families: list[str], of_row: list[int]) -> None:
        """Keep when each GPU worked for which family; numbers alone, however long the names are."""
        import numpy as np

        codes = np.array([self._families.setdefault(each, len(self._families)) for each in families])
        family = codes[np.asarray(of_row)]
        gpus, start, end = (
            batch.column(name).to_numpy(zero_copy_only=False) for name in ("gpu", "start_ns", "end_ns")
        )
        for gpu in np.unique(gpus):
            mine = gpus == gpu
            self._worked.setdefault(int(gpu), []).append((family[mine], start[mine], end[mine]))

    def _family_runs(self) -> Iterator[list[str]]:
        """Give each GPU's runs of one family: slices are coloured by their name, so one colour a family."""
        import numpy as np

        names = [json.dumps(name) for name in self._families]
        pause = round(thresholds().timeline.launch_gap_s.value * 1e9)
        for gpu, parts in sorted(self._worked.items()):
            family, start, end = (np.concatenate(each) for each in zip(*parts, strict=True))
            found = trace_rows.runs((family, start, end), pause)
            lines: list[str] = []
            pid = self._gpu_pid[gpu]
            tid = self._track(pid, _FAMILIES, lines)
            for which, first, last in zip(*(each.tolist() for each in found), strict=True):
                lines.append(
                    f'{{"ph":"X","pid":{pid},"tid":{tid},{self._when(first, last)},"name":{names[which]},'
                    f'"cat":{names[which]}}}'
                )
            yield lines
        self._worked.clear()

    def _steps(self) -> Iterator[list[str]]:
        """Give the annotated steps of each GPU, named after their phase."""
        from rocscope import steps

        found = steps.annotated(self._capture)
        found = found[found["gpu"].isin(list(self._gpu_pid))]
        for gpu, mine in found.groupby("gpu"):
            lines: list[str] = []
            starts, ends = mine["start_ns"].tolist(), mine["end_ns"].tolist()
            beside = lanes.nested(starts, ends)
            for at, row in enumerate(mine.to_dict("records")):
                label = _STEPS if row["on_gpu"] else f"{_STEPS}, as the host has them"
                pid = self._gpu_pid[int(str(gpu))]
                tid = self._track(pid, f"{label} ({beside[at] + 1})" if beside[at] else label, lines)
                args = {"step": row["name"]}
                args |= {name: int(row[name]) for name in _STEP_FIGURES if row[name] is not None}
                lines.append(
                    f'{{"ph":"X","pid":{pid},"tid":{tid},{self._when(starts[at], ends[at])},'
                    f'"name":{json.dumps(row["phase"])},"cat":"step","args":{json.dumps(args)}}}'
                )
            yield lines

    def _spans(self) -> Iterator[list[str]]:
        lane = lanes.of_spans(self._capture.spans, set(self._gpu_pid))
        row = 0
        for batch in enriched.batches(self._capture, "spans"):
            get = {c: batch.column(c).to_pylist() for c in ("process", "thread", "gpu", "start_ns", "end_ns")}
            name, kind = _encoded(batch.column("name")), _encoded(batch.column("kind"))
            lines: list[str] = []
            for i in range(batch.num_rows):
                gpu = get["gpu"][i]
                if kind[i] == '"gpu_annotation"' and gpu in self._gpu_pid:
                    pid, label = self._gpu_pid[gpu], _ANNOTATIONS
                else:
                    thread = get["thread"][i]
                    pid = self._process_pid[get["process"][i]]
                    label = f"thread {'unknown' if thread is None else thread}"
                label += f" ({lane[row + i] + 1})" if lane[row + i] else ""
                lines.append(
                    f'{{"ph":"X","pid":{pid},"tid":{self._track(pid, label, lines)},"name":{name[i]},'
                    f'"cat":{kind[i]},{self._when(get["start_ns"][i], get["end_ns"][i])}}}'
                )
            row += batch.num_rows
            if lines:
                yield lines

    def _counted_by(self, gpu: int | None) -> int:
        """Return the process under which a GPU's sensors are shown: its own where their clock is the same."""
        return _TELEMETRY_PID if gpu is None or self._apart else self._gpu_pid.get(gpu, _TELEMETRY_PID)

    def _us(self, time_ns: int) -> str:
        """Write a time in µs from the start, exactly: ns as three decimals."""
        whole, rest = divmod(time_ns - self._start_ns, 1000)
        return f"{whole}.{rest:03d}"

    def _when(self, start_ns: int, end_ns: int) -> str:
        whole, rest = divmod(max(end_ns - start_ns, 0), 1000)
        return f'"ts":{self._us(start_ns)},"dur":{whole}.{rest:03d}'


def _encoded(column: pa.DictionaryArray) -> list[str]:
    """Return each cell as JSON, encoded once a dictionary entry."""
    words = [json.dumps(word) for word in column.dictionary.to_pylist()]
    return ["null" if at is None else words[at] for at in column.indices.to_pylist()]


def _distinct(table: pa.Table, column: str) -> set[int]:
    return set(pc.unique(table[column]).to_pylist())


def _meta(kind: str, pid: int, tid: int, **args: object) -> str:
    return json.dumps({"ph": "M", "name": kind, "pid": pid, "tid": tid, "args": args})


EXPORT = _Perfetto()
