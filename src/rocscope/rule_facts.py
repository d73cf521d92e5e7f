"""The facts that rules may compare: of a row of kernels, or of the recording; and how each is collected."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_MODEL: Final = "`rocscope analyze RECORDING --model config.json`"
_SHAPES: Final = (
    "operator shapes (torch profiler, record_shapes: `rocscope profile --profiler torch -- COMMAND`), or "
    f"{_MODEL}"
)
_GRIDS: Final = (
    "a profile with launch geometry: `rocscope profile --profiler rocprofv3 -- COMMAND`, or torch's profiler "
    "without graph replay"
)
_TABLE: Final = "from another tool, `rocscope analyze --table FILE.csv --gpu NAME`"
_REGISTERS: Final = (
    "a profile with register and LDS use: `rocscope profile --profiler rocprofv3 -- COMMAND`; or " + _TABLE
)
_LOG: Final = "the server's log beside the recording: `rocscope analyze RECORDING server.log`"
_NAMES: Final = "full kernel names: `rocscope profile -- COMMAND` keeps them, rocprofv3's -T cuts them"
_CLOCKS: Final = (
    "telemetry of the GPU while it works: `rocscope profile -- COMMAND` reads it, and a CSV of time_ns and "
    "clock_hz may lie beside a recording: `rocscope analyze RECORDING telemetry.csv`"
)
_TIMES: Final = "a profile with kernel times: `rocscope profile -- COMMAND`"


def counters(*names: str) -> str:
    """Return how counters of these names are collected and read; one run each, as few fit together."""
    return (
        f"counters, a run each ({', '.join(names)}): `rocprofv3 --pmc COUNTER -f csv -d DIR -- COMMAND`, "
        f"then `rocscope analyze RECORDING DIR`; or {_TABLE}"
    )


_BYTES: Final = counters("FETCH_SIZE", "WRITE_SIZE")


@dataclass(frozen=True)
class Fact:
    """Something a rule may ask for."""

    name: str
    of_row: bool  # of each row of kernels; else of the whole recording
    help: str
    collect_with: str


_ROW: Final = {
    "kernel": ("short name", _TIMES),
    "raw_name": ("name as recorded, with template arguments", _NAMES),
    "family": ("kernel family", _TIMES),
    "limiter": ("what holds it back now", f"{_SHAPES}; or {_BYTES}"),
    "bound": ("the roof above its intensity", _SHAPES),
    "dispatches": ("how often it ran", _TIMES),
    "mean_ns": ("mean time of a dispatch", _TIMES),
    "bytes": ("bytes a dispatch", _SHAPES),
    "intensity_flop_per_byte": ("FLOPs a byte", _SHAPES),
    "bandwidth_frac": ("share of the memory roof", _SHAPES),
    "arch": ("the GPU's architecture", "`rocscope analyze RECORDING --gpu NAME`"),
    "m": ("rows of the product", _SHAPES),
    "bits": ("bits of a packed weight", _MODEL),
    "tile_least": ("the shorter side of the output tile, from the kernel's name", _NAMES),
    "workgroups": ("workgroups a dispatch", _GRIDS),
    "workgroups_per_cu": ("workgroups a dispatch over the GPU's compute units", _GRIDS),
    "per_packed_product": (
        "dispatches of this kernel name over those of products with packed weights on its GPU",
        _TIMES,
    ),
    "bytes_over_16_bit": (
        "bytes of the dequantising kernel and of the product after it, over those of 16-bit weights: of the "
        "same N, K and M, or by the bits alone where sizes are not known",
        _SHAPES,
    ),
    "sector_share": (
        "32-byte sectors a global load over the work-items of a wave: 0.125 is 4 contiguous bytes each, 0.5 "
        "is 16, and 1 a sector for every work-item",
        f"a tool that counts sectors: {_TABLE}",
    ),
    "l2_over_memory": (
        "bytes through the L2 over the bytes of device memory",
        counters("FETCH_SIZE", "WRITE_SIZE", "TCC_REQ_sum"),
    ),
    "lds_conflict_frac": ("share of LDS cycles lost to bank conflicts", counters("LDSBankConflict")),
    "theoretical_occupancy_frac": ("waves that fit over the most there can be", _REGISTERS),
    "occupancy_limited_by": ("what bounds the waves that fit", _REGISTERS),
}
_RECORDING: Final = {
    "quantised": ("whether products with packed weights ran", _TIMES),
    "model.quant_method": ("how the weights are packed", _MODEL),
    "model.group_size": ("rows of K that share a scale", _MODEL),
    "telemetry.clock_frac": ("median clock while kernels ran, over the GPU's peak clock", _CLOCKS),
    "telemetry.busy_frac": ("share of the window in which that GPU worked", _CLOCKS),
}
_OPEN: Final = {
    "environment.": (
        "a variable of the run, empty where it was not set",
        "`rocscope profile -- COMMAND`, which keeps it",
    ),
    "log.": ("how many lines of the server's log say so", _LOG),
}


def fact_named(name: str) -> Fact:
    """Return the fact. Raises ``ValueError`` for one that is not known."""
    if name in _ROW:
        return Fact(name, True, *_ROW[name])
    if name in _RECORDING:
        return Fact(name, False, *_RECORDING[name])
    for prefix, told in _OPEN.items():
        if name.startswith(prefix) and re.fullmatch(r"[A-Za-z0-9_-]+", name.removeprefix(prefix)):
            return Fact(name, False, *told)
    raise ValueError(f"no fact is called {name}")
