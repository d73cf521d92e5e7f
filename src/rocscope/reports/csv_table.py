"""``kernels.csv``: a row for each kernel and launch shape, units in the column names, figures unrounded."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable
from operator import attrgetter
from typing import Final

from rocscope.findings import Analysis, KernelFinding
from rocscope.untrusted import spreadsheet

Cell = str | int | float | None
_PLAIN: Final = (  # columns that are fields of KernelFinding, with its units
    "dispatches", "time_s", "time_frac", "mean_ns", "p50_ns", "p99_ns"
)  # fmt: skip


def _axis(field: str, axis: int) -> Callable[[KernelFinding], Cell]:
    def read(kernel: KernelFinding) -> Cell:
        extent: list[int | None] = getattr(kernel.launch_shape, field)
        return extent[axis] if axis < len(extent) else None

    return read


def _problem(kernel: KernelFinding) -> Cell:
    return json.dumps(kernel.problem_shape) if kernel.problem_shape else None


COLUMNS: Final[dict[str, Callable[[KernelFinding], Cell]]] = {
    **{name: attrgetter(name) for name in ("kernel", "raw_name", "family", "gpu")},
    **{
        f"{field}_{letter}": _axis(field, axis)
        for field in ("grid", "workgroup")
        for axis, letter in enumerate("xyz")
    },
    "problem_shape": _problem,
    **{name: attrgetter(name) for name in _PLAIN},
    "bytes_per_dispatch": attrgetter("bytes_per_dispatch.value"),
    "bytes_basis": attrgetter("bytes_per_dispatch.basis"),
    "flops_per_dispatch": attrgetter("flops_per_dispatch.value"),
    "flops_basis": attrgetter("flops_per_dispatch.basis"),
    **{
        name: attrgetter(name)
        for name in (
            "achieved_bandwidth_bytes_per_s",
            "bandwidth_frac",
            "compute_frac",
            "intensity_flop_per_byte",
            "ridge_flop_per_byte",
        )
    },
    "theoretical_occupancy_frac": attrgetter("occupancy.theoretical_frac"),
    "achieved_occupancy_frac": attrgetter("occupancy.achieved_frac"),
    "occupancy_limited_by": attrgetter("occupancy.limited_by"),
    **{
        name: attrgetter(name)
        for name in ("bound", "limiter", "confidence", "headroom_s", "exposed_s", "case")
    },
    "evidence": lambda kernel: "; ".join(kernel.evidence),
}


class _CsvTable:
    name = "csv"
    help = "one row for each kernel and launch shape, for a spreadsheet"
    filename = "kernels.csv"

    def render(self, analysis: Analysis) -> str:
        """Return the table; unknown is an empty cell, formulas in names are neutralised."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow([*COLUMNS, "provenance"])
        for kernel in analysis.kernels:
            row = [_cell(read(kernel)) for read in COLUMNS.values()]
            writer.writerow([*row, spreadsheet(analysis.capture.provenance)])
        return out.getvalue()


def _cell(value: Cell) -> Cell:
    if isinstance(value, str):
        return spreadsheet(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


REPORT = _CsvTable()
