"""Readings of GPU sensors in a CSV file beside a recording: power, clocks, utilisation over time.

Columns are found by name: ``time_ns`` (or ``time_s``), our own metrics (``power_w``, ``clock_hz``, ...) and
what loops over NVML commonly write (``power_mw``, ``gpu_util`` in percent, ``sm_mhz``, ``mem_mhz``,
``temp_c``). ``gpu`` is the index of the GPU, ``phase`` marks parts of the time. Times are Unix time, and are
set against the recording only where that tells its own offset to it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rocscope.capture import Clock
from rocscope.collectors import csv_rows
from rocscope.collectors.builder import CaptureBuilder
from rocscope.collectors.source import Source
from rocscope.errors import InputError
from rocscope.tables import TEXT

SOURCE: Final = "file"
_UNIX_NS: Final = 10**18  # September 2001: smaller times count from something else
_TIMES: Final = {"timens": 1, "times": 1_000_000_000}  # to ns
_OURS: Final = (
    *("power_w", "power_cap_w", "energy_j", "clock_hz", "memory_clock_hz", "soc_clock_hz", "busy_frac"),
    *("memory_busy_frac", "temperature_hotspot_c", "temperature_edge_c", "temperature_memory_c"),
    *("vram_used_bytes", "vram_total_bytes", "throttled", "throttled_power", "throttled_thermal"),
    *("throttle_status", "fan_rpm", "pcie_bytes_per_s", "xgmi_read_bytes", "xgmi_write_bytes"),
    *("ecc_correctable", "ecc_uncorrectable", "pcie_link_width", "pcie_max_link_width"),
)
_METRICS: Final[Mapping[str, tuple[str, float]]] = {
    **{csv_rows.normalise(name): (name, 1.0) for name in _OURS},
    "powermw": ("power_w", 1e-3),
    "powercapmw": ("power_cap_w", 1e-3),
    "gpuutil": ("busy_frac", 1e-2),
    "memutil": ("memory_busy_frac", 1e-2),
    "smmhz": ("clock_hz", 1e6),
    "memmhz": ("memory_clock_hz", 1e6),
    "tempc": ("temperature_edge_c", 1.0),
}
_TELLING: Final = frozenset({"power_w", "clock_hz", "energy_j"})  # one of them makes a file one of telemetry
_MOST_PHASES: Final = 100
_LONGEST_PHASE: Final = 64
_UNFIT: Final = re.compile(r"[^\w .:+-]")


class TelemetryCsv:
    """One file, of one GPU or with a column ``gpu``."""

    name = "telemetry-csv"
    help = "CSV of GPU sensors over time: time_ns and power_w or power_mw, clock_hz or sm_mhz, ..."
    order = 96  # after the recording, whose clock and GPUs it needs
    content = "description"
    companion = True

    def recognises(self, source: Source) -> bool:
        """Its header names a time, and power, energy or a clock of the GPU."""
        names = csv_rows.header(source)
        told = {_METRICS[name][0] for name in names if name in _METRICS}
        return any(name in _TIMES for name in names) and bool(told & _TELLING)

    def read(self, source: Source, builder: CaptureBuilder) -> None:
        """Add a sample for each reading. Raises :class:`InputError` where no row has a time and a value."""
        time_name = next(name for name in csv_rows.header(source) if name in _TIMES)
        table = csv_rows.read(source, _types(time_name), builder)
        times, good = _times(table[time_name], _TIMES[time_name])
        builder.drop("telemetry rows without a time", int((~good).sum()), source.name)
        table, times = table.filter(pa.array(good)), times[good]
        if not len(times):
            raise InputError(f"{source.name}: no row has a time", f"the column {time_name} holds no numbers")
        shift, why = _shift(builder, times)
        if why:
            builder.notice("telemetry-unaligned", f"{source.name}: {why}", source.name)
        gpus = _gpus(table, builder, source)
        added = sum(_add(builder, name, table, times + shift, gpus) for name in table.column_names)
        if not added:
            raise InputError(f"{source.name}: no reading is a number", "check the columns' values")
        if "phase" in table.column_names:
            _mark(builder, table["phase"], times + shift, source)


def _types(time_name: str) -> dict[str, pa.DataType]:
    time = pa.int64() if time_name == "timens" else pa.float64()
    return {time_name: time, "gpu": pa.int64(), "phase": TEXT, **dict.fromkeys(_METRICS, pa.float64())}


def _times(column: pa.ChunkedArray, scale: int) -> tuple[np.ndarray, np.ndarray]:
    """Return times in ns, and which of them are any."""
    if scale == 1:
        good = column.is_valid().to_numpy(zero_copy_only=False)
        return pc.fill_null(column, 0).to_numpy(), good
    seconds = pc.fill_null(column, np.nan).to_numpy()
    good = np.isfinite(seconds) & (np.abs(seconds) < 9e9)
    return np.rint(np.where(good, seconds, 0.0) * scale).astype(np.int64), good


def _shift(builder: CaptureBuilder, times: np.ndarray) -> tuple[int, str]:
    """Return what brings the times into the recording's clock, or why nothing does."""
    if (times < _UNIX_NS).any():
        return 0, "its times count from no known moment, so that they cannot be set against kernels"
    clock = builder.manifest.get("clock")
    if isinstance(clock, Clock) and clock.wall_offset_ns is not None:
        return -clock.wall_offset_ns, ""
    if not builder.rows("dispatches"):
        return 0, ""
    return (
        0,
        "the recording does not tell its times in Unix time, so that readings cannot be set against kernels",
    )


def _gpus(table: pa.Table, builder: CaptureBuilder, source: Source) -> dict[str, np.ndarray]:
    """Return the subject of each row's GPU, as which rows are of it."""
    known = builder.gpu_count
    if "gpu" not in table.column_names:
        if known > 1:
            text = f"{source.name} does not say of which of {known} GPUs it is: no column gpu"
            builder.notice("telemetry-unmatched", text, source.name)
        return {"gpu:0" if known <= 1 else "device:unnamed": np.ones(table.num_rows, bool)}
    index = pc.fill_null(table["gpu"], -1).to_numpy()
    lost = int(((index < 0) | (index > 9999)).sum())
    builder.drop("telemetry rows without a GPU", lost, source.name)
    return {f"gpu:{each}": index == each for each in np.unique(index).tolist() if 0 <= each <= 9999}


def _add(
    builder: CaptureBuilder, name: str, table: pa.Table, times: np.ndarray, gpus: dict[str, np.ndarray]
) -> int:
    if name not in _METRICS:
        return 0
    metric, scale = _METRICS[name]
    values = pc.fill_null(table[name], np.nan).to_numpy() * scale
    count = 0
    for subject, mine in gpus.items():
        rows = mine & np.isfinite(values)
        count += _append(builder, times[rows], subject, metric, values[rows])
    return count


def _append(builder: CaptureBuilder, times: np.ndarray, subject: str, metric: str, values: np.ndarray) -> int:
    builder.append(
        "samples",
        len(times),
        time_ns=pa.array(times),
        source=pa.scalar(SOURCE),
        subject=pa.scalar(subject),
        metric=pa.scalar(metric),
        value=pa.array(values),
    )
    return len(times)


def _mark(builder: CaptureBuilder, column: pa.ChunkedArray, times: np.ndarray, source: Source) -> None:
    """Keep when each phase was, as readings of a subject of its own."""
    texts = column.cast(pa.string())
    phases = [each for each in pc.unique(texts).to_pylist() if each and each.strip()]
    if len(phases) > _MOST_PHASES:
        text = f"{source.name}: {len(phases)} different phases are none; the column is not used"
        builder.notice("telemetry-phases", text, source.name)
        return
    for phase in phases:
        mine = pc.fill_null(pc.equal(texts, phase), False).to_numpy(zero_copy_only=False)
        name = _UNFIT.sub("?", phase.strip())[:_LONGEST_PHASE]
        _append(builder, times[mine], f"phase:{name}", "marked", np.ones(int(mine.sum())))


READERS = (TelemetryCsv(),)
