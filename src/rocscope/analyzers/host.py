"""What the host's processes used over the window, and what our own sampling cost."""

from __future__ import annotations

import re
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from rocscope.analyzers.gpu_samples import Series, names, pick
from rocscope.capture import Capture
from rocscope.study import Study

_PROCESS: Final = re.compile(r"process:(\d{1,10}):(.*)", re.DOTALL)
_SOURCE: Final = "host"
_OURS: Final = "rocscope"
_COSTS: Final = {"host_sampler": "sampler_cpu_s", "gpu_telemetry": "telemetry_cpu_s"}
_MOST_PROCESSES: Final = 50  # by CPU time; a server of eight GPUs has about thirty
_BUSY: Final = 0.9  # of a core: such a process does nothing but compute


class Host:
    """Puts a summary of each process and the cost of sampling into ``telemetry``; no columns."""

    name = "host"
    help = "CPU, memory, threads and I/O of each process, and what sampling cost"
    needs = ("gpu", "wall_ns")
    adds = ()

    def run(self, study: Study) -> None:
        """Do nothing where the host was not sampled."""
        found = summary(study.capture)
        if found is not None:
            study.telemetry["host"] = found


def summary(capture: Capture) -> dict[str, Any] | None:
    """Return figures of the host over all of its samples; ``None`` where there are none."""
    samples = capture.samples
    rows = pick(samples, "source", _SOURCE)
    ours = pick(samples, "subject", _OURS)
    if not rows.num_rows and not ours.num_rows:
        return None
    machine = _figures(pick(rows, "subject", _SOURCE))
    processes = [_process(rows, subject) for subject in names(rows, "subject") if _PROCESS.match(subject)]
    processes.sort(key=lambda each: (-(each["cpu_s"] or 0.0), each["pid"]))
    return {
        "cpu_frac": machine.get("cpu_frac"),
        "memory_used_bytes": machine.get("memory_used_bytes"),
        "memory_available_bytes": machine.get("memory_available_bytes"),
        "processes": processes[:_MOST_PROCESSES],
        "processes_left_out": max(0, len(processes) - _MOST_PROCESSES),
        "sampling_cost": _cost(ours),
        "basis": "measured",
        "source": "samples of the operating system's counters; cpu_frac of a process is of one core",
    }


def launchers(capture: Capture) -> dict[int, str]:
    """Return, by GPU, the subject of the process that launched its kernels, where one did and was sampled."""
    pids = {each.process: each.pid for each in capture.manifest.processes}
    table = capture.dispatches.group_by(["gpu", "process"]).aggregate([])
    found: dict[int, set[int]] = {}
    for gpu, process in zip(table["gpu"].to_pylist(), table["process"].to_pylist(), strict=True):
        found.setdefault(gpu, set()).add(pids.get(process, 0))
    rows = pick(capture.samples, "source", _SOURCE)
    subjects = {
        int(match[1]): subject
        for subject in names(rows, "subject")
        if (match := _PROCESS.match(subject)) is not None
    }
    return {
        gpu: subjects[next(iter(own))]
        for gpu, own in found.items()
        if len(own) == 1 and next(iter(own)) in subjects
    }


def series(rows: pa.Table, metric: str) -> Series | None:
    """Return one metric of rows of one subject; ``None`` where it was not sampled."""
    mine = pick(rows, "metric", metric).sort_by("time_ns")
    if not mine.num_rows:
        return None
    return Series(mine["time_ns"].to_numpy(), mine["value"].to_numpy())


def _figures(rows: pa.Table) -> dict[str, dict[str, float]]:
    """Return mean and most of each metric of one subject."""
    table = (
        rows.select(["metric", "value"]).group_by("metric").aggregate([("value", "mean"), ("value", "max")])
    )
    return {
        str(metric): {"mean": mean, "most": most}
        for metric, mean, most in zip(
            table["metric"].cast(pa.string()).to_pylist(),
            table["value_mean"].to_pylist(),
            table["value_max"].to_pylist(),
            strict=True,
        )
    }


def _process(rows: pa.Table, subject: str) -> dict[str, Any]:
    match = _PROCESS.match(subject)
    assert match is not None  # noqa: S101  # chosen so
    mine = pick(rows, "subject", subject)
    told = _figures(mine)
    cpu = series(mine, "cpu_frac")
    busy = float((cpu.values >= _BUSY).mean()) if cpu else None
    return {
        "pid": int(match[1]),
        "name": match[2],
        "samples": pc.count_distinct(mine["time_ns"]).as_py(),
        "cpu_frac": told.get("cpu_frac"),
        "cpu_s": _cpu_s(cpu),
        "full_core_frac": busy,  # share of its readings at nine tenths of a core or more
        "rss_bytes": told.get("rss_bytes"),
        "threads": told.get("threads"),
        "io_read_bytes": _grown(mine, "io_read_bytes"),
        "io_write_bytes": _grown(mine, "io_write_bytes"),
    }


def _cpu_s(cpu: Series | None) -> float | None:
    """Add up CPU time: a reading is the share of a core since the one before it."""
    if cpu is None or len(cpu.times) < 2:
        return None
    return float((cpu.values[1:] * (cpu.times[1:] - cpu.times[:-1])).sum()) * 1e-9


def _grown(rows: pa.Table, metric: str) -> float | None:
    found = series(rows, metric)
    if found is None or len(found.times) < 2:
        return None
    grown = float(found.values[-1] - found.values[0])
    return grown if grown >= 0 else None


def _cost(rows: pa.Table) -> dict[str, Any]:
    """Return CPU seconds of each sampler and its share of one core."""
    told: dict[str, Any] = {}
    for name, metric in _COSTS.items():
        found = series(rows, metric)
        used = _grown(rows, metric)
        span = float(found.times[-1] - found.times[0]) * 1e-9 if found else 0.0
        told[name] = {"cpu_s": used, "core_frac": used / span if used is not None and span > 0 else None}
    return told


ANALYZER = Host()
