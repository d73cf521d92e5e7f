"""Waves resident against those possible, of the kernels that took most time."""

from __future__ import annotations

from typing import Final

from rocscope.findings import Analysis, KernelFinding

MAX_ROWS: Final = 12


def rows(analysis: Analysis) -> list[KernelFinding]:
    """Return the longest kernels whose occupancy is known, in theory or as reached."""
    known = [
        kernel
        for kernel in analysis.kernels
        if kernel.occupancy.theoretical_frac is not None or kernel.occupancy.achieved_frac is not None
    ]
    return sorted(known, key=lambda kernel: -(kernel.time_s or 0.0))[:MAX_ROWS]


def achieved(analysis: Analysis) -> bool:
    """Return whether any of them has a figure from counters."""
    return any(kernel.occupancy.achieved_frac is not None for kernel in rows(analysis))
