"""roofline.csv of Omniperf and rocprof-compute: what AMD's benchmark reached on the GPUs of the machine."""

from __future__ import annotations

import statistics
from functools import lru_cache
from pathlib import Path
from typing import Final

import pyarrow as pa

from rocscope import hardware
from rocscope.ceilings import CardCeilings, RecordedCeilings, not_ceilings
from rocscope.collectors import csv_rows, omniperf_system
from rocscope.collectors.builder import CaptureBuilder
from rocscope.collectors.omniperf_system import System
from rocscope.collectors.reader import Reader
from rocscope.collectors.source import Source
from rocscope.errors import RocscopeError

_COLUMNS: Final = frozenset({"hbmbw", "l2bw", "fp32flops"})
_GIGA: Final = 1e9  # bandwidths are in GB/s, rates in GFLOP/s
_BANDWIDTHS: Final = {"hbmbw": "bandwidth_bytes_per_s", "l2bw": "l2_bandwidth_bytes_per_s"}
_RATES: Final = {
    "fp16flops": "vector_fp16",
    "fp32flops": "vector_fp32",
    "fp64flops": "vector_fp64",
    "mfmaf8flops": "matrix_fp8",
    "mfmaf16flops": "matrix_fp16",
    "mfmabf16flops": "matrix_bf16",
    "mfmaf32flops": "matrix_fp32",
    "mfmai8ops": "matrix_int8",
}
_WANTED: Final = {name: pa.float64() for name in (*_BANDWIDTHS, *_RATES)}


def beside(source: Source, system: System) -> CardCeilings | None:
    """Return the ceilings that the roofline.csv beside ``source`` holds, ``None`` where there is none."""
    path = source.sibling("roofline.csv")
    if path is None:
        return None
    status = path.stat()
    return _parsed(path, system, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=64)
def _parsed(path: Path, system: System, _mtime: int, _size: int) -> CardCeilings | None:
    try:
        return parse(Source.open(path), system, CaptureBuilder())
    except RocscopeError:  # reading that file itself reports it
        return None


def parse(source: Source, system: System, builder: CaptureBuilder) -> CardCeilings | None:
    """Return the median of the machine's GPUs, which Omniperf takes to be alike.

    A table tells a GPU by another number than this file does. What the datasheet of the model forbids is
    refused, as of our own measurements.
    """
    rows = csv_rows.read(source, _WANTED, builder)
    found: dict[str, float] = {}
    for name in rows.column_names:
        values = [value for value in rows[name].to_pylist() if value and 0 < value < float("inf")]
        if values:
            found[name] = statistics.median(values) * _GIGA
    if not found:
        return None
    spec = hardware.identify(arch=system.arch, name=system.model, compute_units=system.compute_units)
    bandwidth = found.get("hbmbw")
    rates = {unit: found[name] for name, unit in _RATES.items() if name in found}
    refused = not_ceilings(spec, bandwidth, rates) if spec else []
    named = {each.figure for each in refused}
    return CardCeilings(
        measured_at=system.started_at or None,
        name=system.model,
        arch=system.arch,
        compute_units=system.compute_units,
        model=spec.name if spec else None,
        tool="AMD's roofline benchmark",
        bandwidth_bytes_per_s=None if "bandwidth_bytes_per_s" in named else bandwidth,
        bandwidth_of=f"the median of {rows.num_rows} GPUs" if rows.num_rows > 1 else "",
        l2_bandwidth_bytes_per_s=found.get("l2bw"),
        flops_per_s={unit: rate for unit, rate in rates.items() if unit not in named},
        refused=refused,
    )


def record(source: Source, system: System, gpu: int, builder: CaptureBuilder) -> None:
    """Give the GPU with that index the ceilings that lie beside its table."""
    found = beside(source, system)
    if found is None:
        return
    known = builder.manifest.setdefault("ceilings", [])
    if gpu not in {each.gpu for each in known}:
        known.append(RecordedCeilings(gpu=gpu, same_card=not found.bandwidth_of, ceilings=found))


class _RooflineReader:
    name = "omniperf-roofline"
    help = "roofline.csv of Omniperf or rocprof-compute: ceilings that AMD's benchmark measured on the GPUs"
    order = 12
    content = "description"

    def recognises(self, source: Source) -> bool:
        """Tell by the columns."""
        return set(csv_rows.header(source)) >= _COLUMNS

    def read(self, source: Source, builder: CaptureBuilder) -> None:
        """Say what of it cannot be used; the tables beside it, which know the GPU, take the rest."""
        system = omniperf_system.beside(source)
        found = parse(source, system or System(), builder)
        if found is None:
            builder.notice(
                "ceilings-missing", f"{source.name} has no figure that could be a ceiling", source.name
            )
        elif system is None:
            builder.notice(
                "ceilings-not-used",
                f"{source.name} holds measured ceilings, and no sysinfo.csv beside it says of which GPU",
                source.name,
            )
        for each in found.refused if found else []:
            builder.notice(
                "ceiling-refused",
                f"{source.name}: {each.figure} of {each.value:.3g} against {each.datasheet:.3g} by datasheet "
                f"is not used: {each.why}",
                source.name,
            )


READERS: list[Reader] = [_RooflineReader()]
