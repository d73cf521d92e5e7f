"""After a live run: read what the profiler left, check it, add host samples and what is known of the run."""

from __future__ import annotations

import platform
from array import array
from itertools import accumulate
from pathlib import PurePath
from typing import TYPE_CHECKING

import pyarrow as pa

from rocscope import log_lines, selection, tables
from rocscope.capture import Capture, Clock, Manifest
from rocscope.collectors import card_ceilings, environment, live_load, server_log
from rocscope.collectors.live_outcome import ENDED_BY_US, Outcome, Progress, Recorded
from rocscope.errors import DataLost, RocscopeError
from rocscope.launch import vllm

if TYPE_CHECKING:
    from rocscope.collectors.sampling import Columns, Sampler
    from rocscope.config import ProfileOptions


def gather(outcome: Outcome, options: ProfileOptions, progress: Progress, say: Progress) -> Recorded:
    """Make the capture of a run that has ended. Raises only where a recording to replay cannot be read."""
    run = outcome.run
    ending = outcome.ending
    assert ending is not None  # noqa: S101  # a run that was executed has ended
    lost = run.backend.missing(run.request, outcome.seen)
    capture = _read(outcome, progress, lost)
    manifest = capture.manifest
    manifest.load = live_load.results(outcome, options) or manifest.load
    capture.samples = pa.concat_tables([capture.samples, live_load.requests(outcome, options)])
    for code, message in outcome.notices:
        capture.notice(code, message)
        say(message)
    for note in run.notes:
        capture.notice("launch", note)
    _describe(outcome, manifest, options)
    _synchronise(outcome, capture)
    card_ceilings.note(capture, outcome, options)
    if lost:
        manifest.partial = True
        message = "DATA LOST: " + "; ".join(lost)
        capture.notice("data-lost", message)
        say(message)
    if ending.killed or (outcome.interrupted and outcome.window_ns is None and run.request.server):
        manifest.partial = True
    logs = sorted(path for path in (options.out / "logs").iterdir() if path.stat().st_size)
    if run.backend.name != "replay":
        manifest.log_lines = log_lines.total(manifest.log_lines, server_log.count_files(logs))
    return Recorded(capture, _exit_code(outcome, lost), options.out, logs, lost, outcome.interrupted)


def _exit_code(outcome: Outcome, lost: list[str]) -> int:
    ending = outcome.ending
    assert ending is not None  # noqa: S101  # as in gather
    code = ending.exit_code
    if outcome.stopped_by_us and not outcome.interrupted:
        server = outcome.run.request.server is not None
        code = 0 if server or code in ENDED_BY_US else code
    elif outcome.stopped_by_us and outcome.run.request.server is not None:
        code = 0 if outcome.window_ns is not None else 130
    return code or (DataLost.exit_code if lost else 0)


def _read(outcome: Outcome, progress: Progress, lost: list[str]) -> Capture:
    """Read the profiler's files; where there are none or they are broken, an empty capture that says so."""
    run = outcome.run
    paths = run.backend.outputs(run.request)
    if run.backend.name == "none":
        capture = _empty(run.backend.name)
        capture.notice("no-device-data", "no device data was collected: the profiler was none")
        return capture
    if not paths:
        capture = _empty(run.backend.name)
        capture.notice("no-device-data", f"{run.backend.name} left no device data to read")
        return capture
    from rocscope.collectors import discovery

    progress(f"reading {len(paths)} files of {run.backend.name}")
    try:
        capture = discovery.load(paths, progress=progress, companions=False)
    except RocscopeError as error:
        if run.backend.name == "replay":
            raise
        capture = _empty(run.backend.name)
        capture.notice("unreadable", f"{error.message} ({error.hint})")
        lost.append(error.message)
    if run.backend.name == "replay":
        _replayed(capture, run.request.argument)
    else:
        capture.manifest.profiler = run.backend.name
        capture.manifest.profiler_version = run.request.found.version or capture.manifest.profiler_version
    return capture


def _replayed(capture: Capture, recording: str) -> None:
    """Say where the kernels come from, and leave out what the host did when they were recorded."""
    import pyarrow.compute as pc

    manifest = capture.manifest
    earlier = "" if manifest.provenance == "recorded" else f", itself {manifest.provenance}"
    was = f", recorded of {' '.join(manifest.command)}" if manifest.command else ""
    manifest.provenance_note = (
        f"{PurePath(recording).name}{earlier}{was}; the command was really launched and its host sampled"
    )
    manifest.provenance = "replayed"
    manifest.id = Manifest().id
    capture.samples = capture.samples.filter(
        pc.not_equal(capture.samples["source"].cast(pa.string()), "host")
    )


def _empty(profiler: str) -> Capture:
    return Capture(Manifest(profiler=profiler))


def _describe(outcome: Outcome, manifest: Manifest, options: ProfileOptions) -> None:
    """Say what was run, where and when. Tokens are never kept."""
    run = outcome.run
    ending = outcome.ending
    assert ending is not None  # noqa: S101  # as in gather
    manifest.command = list(environment.command(run.plan.shown or run.plan.command))
    manifest.host = platform.node()
    manifest.started_at = outcome.started_at
    manifest.duration_s = (outcome.ended_ns - outcome.began_ns) / 1e9
    manifest.exit_code = ending.exit_code
    manifest.environment = environment.allowed(run.environment)
    server = run.request.server
    if server is not None and run.backend.name != "replay":
        manifest.model = manifest.model or vllm.model_config(server.model)
        manifest.model_tp = manifest.model_tp or server.tensor_parallel
    if options.model is not None:  # what the user named is kept, so that the capture needs no second file
        manifest.model = vllm.model_config(str(options.model)) or manifest.model
        manifest.model_tp = options.tp or manifest.model_tp


def _synchronise(outcome: Outcome, capture: Capture) -> None:
    """Bring host samples into the recording's clock, and note its offset to wall time and the window."""
    manifest = capture.manifest
    span = _span(capture)
    shift: int | None = 0
    if outcome.run.backend.name == "replay":
        shift = span[0] - outcome.began_ns if span else 0
        capture.notice(
            "clocks-unrelated",
            "host samples and replayed kernels are of different runs: that they begin together is arranged",
        )
    elif span:
        run = (outcome.began_ns, outcome.ended_ns)
        domain = outcome.offsets.domain_of(*span, *run)
        told = None if domain else outcome.offsets.shift_to(manifest.clock.wall_offset_ns, *span, *run)
        shift = told if domain is None else outcome.offsets.to[domain]
        if domain is None and told is None:
            capture.notice(
                "clock-unknown",
                "the profiler's times lie outside the run in every clock of this machine: host samples keep "
                "the boot clock, and the part of the run that was asked for cannot be marked",
            )
        elif domain is not None:
            manifest.clock = Clock(
                domain=domain, wall_offset_ns=outcome.offsets.to["realtime"] - (shift or 0)
            )
    else:
        manifest.clock = Clock(domain="boottime", wall_offset_ns=outcome.offsets.to["realtime"])
    if outcome.window_ns is not None and shift is not None and outcome.run.backend.name != "replay":
        manifest.window_ns = (outcome.window_ns[0] + shift, outcome.window_ns[1] + shift)
    elif (
        outcome.run.request.server is None
        and outcome.run.backend.name != "replay"
        and (window := selection.stepped(capture))
    ):
        manifest.window_ns = window
        text = "the program annotates its steps: from the first to the last of them is what is analysed"
        capture.notice("steps-annotated", text)
    added = [_samples(_read_by(sampler, outcome, capture), shift or 0) for sampler in outcome.samplers]
    if added:
        before = [capture.samples] if len(capture.samples) else []
        capture.samples = pa.concat_tables([*before, *added]).unify_dictionaries().combine_chunks()


def _read_by(sampler: Sampler, outcome: Outcome, capture: Capture) -> Columns:
    """Return what a sampler read, the GPUs called as in the recording."""
    from rocscope.collectors.telemetry import TelemetrySampler

    if not isinstance(sampler, TelemetrySampler):
        return sampler.readings.columns()
    from rocscope.collectors import telemetry_match

    manifest = capture.manifest
    columns, notices = telemetry_match.relabel(
        sampler, manifest.gpus, outcome.run.environment, outcome.run.backend.name
    )
    for code, message in notices:
        capture.notice(code, message)
    return columns


def _span(capture: Capture) -> tuple[int, int] | None:
    """First start and last end of the dispatches, ns of the recording's clock; ``None`` without any."""
    if not capture.dispatches.num_rows:
        return None
    import pyarrow.compute as pc

    first, last = pc.min(capture.dispatches["start_ns"]).as_py(), pc.max(capture.dispatches["end_ns"]).as_py()
    return None if first is None or last is None else (first, last)


def _samples(columns: Columns, shift: int) -> pa.Table:
    """Make the table from a sampler's arrays as they lie in memory.

    ``pa.array`` would do too, but it imports pandas to look for its types, half a second for a short run.
    """
    return pa.Table.from_arrays(
        [
            _numbers(_shifted(columns.times, shift), pa.int64()),
            _dictionary(*columns.source),
            _dictionary(*columns.subject),
            _dictionary(*columns.metric),
            _numbers(columns.values, pa.float64()),
        ],
        schema=tables.SAMPLES,
    )


def _shifted(times: array[int], shift: int) -> array[int]:
    return times if not shift else array("q", (each + shift for each in times))


def _numbers(values: array[int] | array[float], kind: pa.DataType) -> pa.Array:
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(values)])


def _dictionary(index: array[int], names: list[str]) -> pa.Array:
    encoded = [name.encode("utf-8", "replace") for name in names]
    offsets = array("i", [0, *accumulate(map(len, encoded))])
    text = pa.Array.from_buffers(
        pa.string(), len(names), [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(encoded))]
    )
    return pa.DictionaryArray.from_arrays(_numbers(index, pa.int32()), text)
