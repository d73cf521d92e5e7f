"""SYNTHETIC truth of known kernels on an MI100, and the table by which the stand-in profilers play them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "h200_known_kernels"
DEVICE = {
    "index": 0,
    "count": 1,
    "name": "AMD Instinct MI100 of alice",
    "arch": "gfx908:sramecc+:xnack-",
    "compute_units": 120,
    "memory_bytes": 34_342_961_152,
    "wave_size": 64,
}
LAUNCHES, TIMED = 6, 4
EVENT_US = {  # made up, below the datasheet's rates
    "fma": 1700,
    "copy": 540,
    "matrix": 1900,
    "w4a16": 400,
    "attention": 310,
    "rmsnorm": 150,
    "empty": 4,
    "library_copy": 545,
    "library_matrix": 1100,
}
NAMES = {
    "library_copy": "void at::native::vectorized_elementwise_kernel<4, at::native::neg_kernel_cuda>(int)",
    "library_matrix": "Cijk_Ailk_Bljk_HHS_BH_MT128x128x32_SE",
}


def truth() -> dict[str, Any]:
    """Return what the program would print: sizes as on an H200, launches of an MI100, times made up."""
    told: dict[str, Any] = json.loads((EXAMPLE / "plain.json").read_text())
    told["device"] = dict(DEVICE)
    told["software"] = {"torch": "2.7.1+rocm6.3", "runtime": "6.3.42134-a9a80e791", "triton": "3.3.1"}
    told["energy"] = None
    for kernel in told["kernels"]:
        kernel |= {"launches": LAUNCHES, "timed_launches": TIMED}
        kernel["event_ns"] = EVENT_US[kernel["case"]] * 1e3
        kernel["event_least_ns"] = kernel["event_most_ns"] = kernel["event_ns"]
        if kernel["workgroup"]:
            kernel["workgroup"] = [64 if kernel["case"] == "empty" else 256, 1, 1]
    return told


def table(told: dict[str, Any], **faults: dict[str, Any]) -> str:
    """Return the stand-ins' table; ``faults`` name a case and what of it is read wrongly."""
    lines = []
    for kernel in told["kernels"]:
        case = kernel["case"]
        programs, workgroup = kernel["programs"] or [4096, 1, 1], kernel["workgroup"] or [256, 1, 1]
        row = {
            "name": NAMES.get(case, f"rocscope_known_{case}"),
            "workgroup": workgroup[0],
            **{axis: programs[at] * workgroup[at] for at, axis in enumerate("xyz")},
            "mean_ns": int(kernel["event_ns"]),
            "launches": kernel["launches"],
            "read": kernel["read_least_bytes"] or 64,
            "written": kernel["write_least_bytes"] or 64,
            "valu": (kernel["flops"] or 0) / 128 if kernel["flops_unit"] == "vector_fp32" else 0,
        }
        row |= faults.get(case, {})
        lines.append("\t".join(str(value) for value in row.values()))
    return "\n".join(lines) + "\n"
