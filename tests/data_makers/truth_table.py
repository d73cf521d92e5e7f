"""Kernels measured with Nsight Compute as a table that rocscope reads, without that tool's own verdicts."""

from __future__ import annotations

import ast
import hashlib
from pathlib import Path

import pandas as pd

RENAMED = {
    "dram_read_bytes": "read_bytes",
    "dram_write_bytes": "write_bytes",
    "l2_bytes": "l2_bytes",
    "registers_per_thread": "vgprs",
    "waves_per_sm": "waves_per_cu",
    "case_flops": "flops",
    "global_load_requests": "global_load_requests",
    "global_load_sectors": "global_load_sectors",
}
SHARES = {
    "l2_hit_pct": "l2_hit_frac",
    "l1_hit_pct": "l1_hit_frac",
    "issue_active_pct": "issue_active_frac",
    "achieved_occupancy_pct": "achieved_occupancy_frac",
    "tensor_pipe_active_pct": "mfma_busy_frac",
    "theoretical_occupancy_pct": "theoretical_occupancy_frac",
}
LATENCY = frozenset({"latency", "occupancy", "parallelism", "launch"})
BANDWIDTH = frozenset({"memory-bandwidth", "cache-bandwidth"})
NEAR = 3.0  # points from 60, within which either side is accepted


def table(truth: pd.DataFrame, *, hashed: bool = False) -> pd.DataFrame:
    """Return the rows of a ``kernel_truth.csv`` under the names of a table; ``case`` is the row's number."""
    made = pd.DataFrame({"case": [f"row {row}" for row in range(len(truth))]})
    names = truth["kernel_name"]
    made["kernel"] = [hashlib.sha256(name.encode()).hexdigest()[:16] for name in names] if hashed else names
    made["duration_ns"] = truth["duration_ns"]
    grids, blocks = (truth[name].map(ast.literal_eval) for name in ("grid", "block"))
    for place, axis in enumerate("xyz"):
        made[f"workgroup_{axis}"] = [block[place] for block in blocks]
        made[f"grid_{axis}"] = [grid[place] * block[place] for grid, block in zip(grids, blocks, strict=True)]
    for old, new in RENAMED.items():
        if old in truth:
            made[new] = truth[old]
    for old, new in SHARES.items():
        made[new] = truth[old] / 100
    return made


def read(path: Path) -> pd.DataFrame:
    """Return the truth, with its verdicts."""
    return pd.read_csv(path)


def agrees(truth: pd.Series, limiter: str) -> bool:
    """Whether ``limiter`` is what Nsight Compute's rule says, or the other side where it is near its line."""
    verdict, memory, compute = truth["counter_verdict"], truth["memory_sol_pct"], truth["compute_sol_pct"]
    if abs(max(memory, compute) - 60) <= NEAR and limiter in LATENCY:
        return True
    if verdict == "latency":
        if limiter in LATENCY:
            return True
        if abs(max(memory, compute) - 60) > NEAR:
            return False
        return limiter == ("compute" if compute >= memory else "memory-bandwidth")
    accepted = {"memory": BANDWIDTH, "compute": {"compute"}, "balanced": {*BANDWIDTH, "compute", "balanced"}}
    return limiter in accepted[verdict]
