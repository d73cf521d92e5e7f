"""Rows of the kernels table in a page: what each shows, sorts by and is found by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from rocscope.findings import Analysis, KernelFinding
from rocscope.reports import summary
from rocscope.reports.charts.shares import labels
from rocscope.untrusted import visible

MAX_KERNELS: Final = 400  # rows; beyond these a page is slow and nobody reads on
MAX_SENTENCE: Final = 600  # characters of a sentence of evidence
MAX_SENTENCES: Final = 12


@dataclass(frozen=True)
class KernelRow:
    """A kernel, and the attributes by which the page's script sorts and finds it."""

    it: KernelFinding
    id: str
    place: str  # "GPU 0" or "rank 0"
    keys: dict[str, str]  # unknown is ""
    find: str


def by_time(analysis: Analysis) -> list[KernelFinding]:
    """Return the kernels, longest first."""
    return sorted(analysis.kernels, key=lambda kernel: -(kernel.time_s or 0.0))


def rows(analysis: Analysis) -> list[KernelRow]:
    """Return the longest kernels as rows."""
    places = labels(analysis)
    return [
        _row(kernel, index, places.get(kernel.gpu, f"GPU {kernel.gpu}"))
        for index, kernel in enumerate(by_time(analysis)[:MAX_KERNELS])
    ]


def _row(kernel: KernelFinding, index: int, place: str) -> KernelRow:
    """Return a kernel with what its row sorts by; unknown sorts last, never as 0."""
    keys = {
        "time": kernel.time_s,
        "mean": kernel.mean_ns,
        "count": kernel.dispatches,
        "bandwidth": kernel.bandwidth_frac,
        "headroom": kernel.headroom_s,
    }
    return KernelRow(
        kernel,
        f"kernel-{index}",
        place,
        {key: "" if value is None else repr(float(value)) for key, value in keys.items()},
        visible(f"{kernel.raw_name[:600]} {kernel.kernel[:200]} {summary.shape(kernel)[:200]}").lower(),
    )


def choices(shown: list[KernelRow]) -> dict[str, list[str]]:
    """Return what the table can be filtered by: only what occurs, and only where there is a choice."""
    found = {
        "family": sorted({row.it.family for row in shown}),
        "bound": sorted({str(row.it.bound) for row in shown}),
        "limiter": sorted({str(row.it.limiter) for row in shown}),
        "gpu": sorted({row.place for row in shown}, key=lambda place: (len(place), place)),
    }
    return {key: values for key, values in found.items() if key != "gpu" or len(values) > 1}


def left_out(analysis: Analysis) -> dict[str, Any] | None:
    """Return how many kernels have no row, and their share of kernel time."""
    rest = by_time(analysis)[MAX_KERNELS:]
    if not rest:
        return None
    shares = [kernel.time_frac for kernel in rest if kernel.time_frac is not None]
    return {"count": len(rest), "time_frac": sum(shares) if shares else None}
