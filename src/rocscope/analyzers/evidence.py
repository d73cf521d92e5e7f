"""The sentences under a label: figures, where they come from, and the rule that used them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rocscope.hardware import GpuSpec
from rocscope.thresholds import thresholds
from rocscope.wording import amount, digits, duration, percent

if TYPE_CHECKING:
    import pandas as pd

Row = dict[Any, Any]


def sentences(frame: pd.DataFrame, specs: dict[int, GpuSpec | None]) -> list[list[str]]:
    """Return the evidence of each row."""
    return [_of(row, specs.get(row["gpu"])) for row in frame.to_dict("records")]


def _of(row: Row, spec: GpuSpec | None) -> list[str]:
    if spec is None:
        return [
            "the GPU is not known, so there is no roof to hold this kernel against; name it with --gpu "
            "[roofline-unknown-gpu]"
        ]
    parts = [_moved(row, spec), _worked(row, spec), _bound(row), _limiter(row, spec)]
    return [part for part in parts if part]


def _moved(row: Row, spec: GpuSpec) -> str:
    if np.isnan(row["bytes"]):
        return ""
    text = f"moves {amount(row['bytes'], 'B')} a dispatch ({_origin(row, 'bytes')})"
    if not row["mean_ns"] > 0:
        why = "it was not timed" if np.isnan(row["mean_ns"]) else "its times read 0, so no rate can be told"
        return f"{text}; {why} [roofline-memory]"
    text += f" in {duration(row['mean_ns'])} mean"
    if row["over_the_link"]:
        rate = amount(row["bytes"] / row["mean_ns"] * 1e9, "B/s")
        return f"{text}: {rate} over a link, not held against device memory [roofline-link]"
    if row["flagged"]:
        return (
            f"{text}: {row['flagged']}, more than the {spec.name} can do: a cache served part of it, or the "
            "byte or FLOP count is too high; no label is given [above-ceiling]"
        )
    if np.isnan(row["bandwidth_frac"]):
        return f"{text} [roofline-memory]"
    rate = amount(row["achieved_bandwidth_bytes_per_s"], "B/s")
    peak = amount(row["peak_bandwidth"], "B/s")
    return (
        f"{text}: {rate}, {percent(row['bandwidth_frac'])} of the {peak} of the {spec.name} datasheet "
        "[roofline-memory]"
    )


def _worked(row: Row, spec: GpuSpec) -> str:
    if np.isnan(row["flops"]) or row["flops"] == 0 or np.isnan(row["compute_frac"]):
        return ""
    return (
        f"does {amount(row['flops'], 'FLOP')} a dispatch ({_origin_of_flops(row)}): "
        f"{percent(row['compute_frac'])} of the {amount(row['peak_flops'], 'FLOP/s')} {row['flops_unit']} "
        f"of the {spec.name} datasheet [roofline-compute]"
    )


def _origin(row: Row, what: str) -> str:
    basis, source = row.get(f"{what}_basis"), row.get(f"{what}_source")
    return (
        ": ".join(str(part) for part in (basis, source) if isinstance(part, str) and part) or "basis unknown"
    )


def _origin_of_flops(row: Row) -> str:
    """What bytes and FLOPs both come from is said once."""
    told, before = (_origin(row, what) for what in ("flops", "bytes"))
    return "from the same" if told == before else told


def _bound(row: Row) -> str:
    intensity, ridge = row["intensity_flop_per_byte"], row["ridge_flop_per_byte"]
    if row["bound"] != "unknown" and row["flops"] == 0:
        return "does no arithmetic worth counting, so the memory roof lies above it [bound-copy]"
    if row["bound"] != "unknown":
        side = "below" if row["bound"] == "memory" else "above"
        return (
            f"intensity {digits(intensity)} FLOP/B is {side} the ridge of {digits(ridge)} FLOP/B "
            f"({row['flops_unit']} peak over memory bandwidth), so the {row['bound']} roof lies above it "
            "[bound-ridge]"
        )
    if row["flagged"] or row["over_the_link"]:
        return ""
    missing = [name for name, value in (("bytes", row["bytes"]), ("FLOPs", row["flops"])) if np.isnan(value)]
    if missing:
        return f"bound unknown: no {' and no '.join(missing)} for this launch shape [bound-unknown]"
    unit = row["flops_unit"] or "its arithmetic unit"
    return f"bound unknown: the peak of {unit} is not known [bound-unknown]"


def _limiter(row: Row, spec: GpuSpec) -> str:
    line = percent(thresholds().verdict.roof_frac.value)
    count = row["workgroups"]
    groups = f"{digits(count)} workgroup{'' if count == 1 else 's'} on {spec.compute_units} compute units"
    floor = spec.launch_floor_s
    texts = {
        "limiter-link": "waits for and moves data over a link between devices or to the host",
        "limiter-balanced": f"at or above {line} of both roofs, its shares within 10 points of each other",
        "limiter-memory-roof": f"at or above {line} of the memory roof",
        "limiter-compute-roof": f"at or above {line} of the arithmetic roof",
        "limiter-launch-floor": f"its mean of {duration(row['mean_ns'])} is at the launch floor of "
        f"{duration(floor.value * 1e9) if floor else ''} of the {spec.name}",
        "limiter-few-workgroups": f"{groups}: too few to keep all busy; below {line} of both roofs",
        "limiter-starved": f"{groups} can reach {line} of neither roof, whatever they do",
        "limiter-below-all-roofs": f"below {line} of both roofs with enough workgroups "
        "(no counters: issue stalls, cache traffic and occupancy were not seen)",
        "limiter-not-enough-known": "limiter unknown: without bytes, FLOPs and peaks no roof is ruled out",
    }
    text = texts.get(row["limiter_rule"], "")
    if row["limiter_rule"] == "limiter-below-all-roofs" and np.isnan(row["workgroups"]):
        text = f"below {line} of both roofs; the launch shape was not recorded"
    near = max(row["bandwidth_frac"], row["compute_frac"]) if row["bound"] != "unknown" else np.nan
    if abs(near - thresholds().verdict.roof_frac.value) < thresholds().verdict.near_line_frac.value:
        text += f"; at {percent(near)} this is near the line"
    return f"{text} [{row['limiter_rule']}]" if text else ""
