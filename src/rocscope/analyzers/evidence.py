"""The sentences under a label: figures, where they come from, and the rule that used them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from rocscope import columns, garbage
from rocscope.hardware import GpuSpec
from rocscope.thresholds import thresholds
from rocscope.wording import amount, digits, duration, percent

if TYPE_CHECKING:
    import pandas as pd

Row = dict[Any, Any]


def sentences(frame: pd.DataFrame, specs: dict[int, GpuSpec | None]) -> list[list[str]]:
    """Return the evidence of each row."""
    with garbage.resting():
        return [_of(row, specs.get(row["gpu"])) for row in columns.records(frame)]


def _of(row: Row, spec: GpuSpec | None) -> list[str]:
    if spec is None:
        return [
            "the GPU is not known, so there is no roof to hold this kernel against; name it with --gpu "
            "[roofline-unknown-gpu]"
        ]
    parts = [_moved(row, spec), _worked(row, spec), _counted(row, spec), _bound(row), _limiter(row, spec)]
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
        return f"{text}: {_over_link(row, spec)} [roofline-link]"
    if row["flagged"]:
        return (
            f"{text}: {row['flagged']}, more than the {spec.name} can do: a cache served part of it, or the "
            "byte or FLOP count is too high; no label is given [above-ceiling]"
        )
    if np.isnan(row["bandwidth_frac"]):
        return f"{text} [roofline-memory]"
    rate = amount(row["achieved_bandwidth_bytes_per_s"], "B/s")
    peak = amount(row["peak_bandwidth"], "B/s")
    warm = ", were all of it from memory" if row["limiter_rule"] == "limiter-in-cache" else ""
    return (
        f"{text}: {rate}, {percent(row['bandwidth_frac'])} of the {peak} of the {spec.name} datasheet{warm} "
        "[roofline-memory]"
    )


def _over_link(row: Row, spec: GpuSpec) -> str:
    """Say the rate over a link; a collective's is held against the links to other GPUs."""
    rate = row["bytes"] / row["mean_ns"] * 1e9
    peak = spec.datasheet.link_bandwidth_bytes_per_s
    if row["family"] != "communication" or peak is None:
        return f"{amount(rate, 'B/s')} over a link, not held against device memory"
    ceiling = thresholds().verdict.above_ceiling_frac.value * peak.value
    over = ", more than the link can do: the byte count is too high" if rate > ceiling else ""
    share = f"{percent(rate / peak.value)} of the {amount(peak.value, 'B/s')} of the {spec.name}'s link"
    return f"{amount(rate, 'B/s')}, {share}s to other GPUs in one direction{over}"


def _worked(row: Row, spec: GpuSpec) -> str:
    if np.isnan(row["flops"]) or row["flops"] == 0 or np.isnan(row["compute_frac"]):
        return ""
    why = "as its matrix pipes were busy" if str(row["flops_unit"]).startswith("matrix") else "the least"
    untold = "" if row["unit_told"] else f" (which pipe does them is not known: taken as this, {why})"
    return (
        f"does {amount(row['flops'], 'FLOP')} a dispatch ({_origin_of_flops(row)}): "
        f"{percent(row['compute_frac'])} of the {amount(row['peak_flops'], 'FLOP/s')} {row['flops_unit']} "
        f"of the {spec.name} datasheet{untold} [roofline-compute]"
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


_COUNTED = (  # column, what it is, share of what
    ("l2_hit_frac", "L2 hits", ""),
    ("issue_active_frac", "schedulers issue", "of the cycles with work"),
    ("mfma_busy_frac", "matrix pipes busy", ""),
    ("valu_busy_frac", "VALU busy", ""),
    ("salu_busy_frac", "SALU busy", ""),
    ("mem_unit_busy_frac", "memory unit busy", ""),
    ("mem_unit_stalled_frac", "memory unit stalled", ""),
    ("lds_conflict_frac", "LDS conflicts", ""),
    ("achieved_occupancy_frac", "occupancy", "achieved"),
    ("theoretical_occupancy_frac", "occupancy", "possible"),
)


def _caches(row: Row, spec: GpuSpec) -> list[str]:
    """Say what went through the caches, of what they can do."""
    told = []
    l2, verdict = spec.datasheet.l2_bandwidth_bytes_per_s, thresholds().verdict
    if l2 and not np.isnan(row["l2_frac"]):
        told.append(f"L2 traffic {percent(row['l2_frac'])} of {amount(l2.value, 'B/s')}")
    if not np.isnan(row["l1_frac"]):
        what = "global loads" if np.isnan(row["l1_bytes"]) else "L1 traffic"
        peak = verdict.cu_bytes_per_clock.value * spec.compute_units * spec.clock_hz.value
        told.append(f"{what} {percent(row['l1_frac'])} of the L1s' {amount(peak, 'B/s')}")
    if row["global_load_requests"] > 0 and not np.isnan(row["global_load_sectors"]):
        sectors = row["global_load_sectors"] / row["global_load_requests"]
        told.append(f"{digits(sectors)} sectors of 32 B a global load request")
    return told


def _counted(row: Row, spec: GpuSpec) -> str:
    """Say what counters told beside bytes; nothing where none did."""
    told = _caches(row, spec) + [
        f"{what} {percent(row[name])}{f' {whole}' if whole else ''}"
        for name, what, whole in _COUNTED
        if name != "theoretical_occupancy_frac" and not np.isnan(row[name])
    ]
    if not told:
        return ""
    possible = row["theoretical_occupancy_frac"]
    told += [] if np.isnan(possible) else [f"occupancy {percent(possible)} possible"]
    return f"counters: {', '.join(told)} [counters]"


def _bound(row: Row) -> str:
    rule = row["bound_rule"]
    texts: dict[str, Callable[[], str]] = {  # of the one that holds the figures are written
        "bound-copy": lambda: "does no arithmetic worth counting, so the memory roof lies above it",
        "bound-cache": lambda: (
            "its device memory traffic alone would make it compute bound, but its data may have "
            "been in the L2, and of the traffic that the L2 served the L2's roof is the lower one"
        ),
        "bound-pipes-idle": lambda: (
            f"its pipes can have done {percent(_busiest(row))} of an arithmetic peak at most "
            f"({_busy(row)}), less than the {percent(row['bandwidth_frac'])} of the memory bandwidth, so the "
            "memory roof is the nearer one whatever its FLOPs"
        ),
        "bound-pipes-busy": lambda: (
            f"its matrix pipes were busy {percent(row['matrix_frac'])} of the time, more than the "
            f"{percent(row['bandwidth_frac'])} of the memory bandwidth, so the compute roof lies above it"
        ),
        "bound-limit": lambda: (
            f"at most {digits(row['intensity_limit'])} FLOP/B "
            f"({row.get('intensity_limit_source')}), below the ridge, so the memory roof lies above it"
            if row["intensity_limit"]
            else f"does no arithmetic ({row.get('intensity_limit_source')}), so the memory roof lies above it"
        ),
    }
    if rule in texts:
        return f"{texts[rule]()} [{rule}]"
    intensity, ridge = row["intensity_flop_per_byte"], row["ridge_flop_per_byte"]
    if row["bound"] != "unknown":
        side = "below" if row["bound"] == "memory" else "above"
        return (
            f"intensity {digits(intensity)} FLOP/B is {side} the ridge of {digits(ridge)} FLOP/B "
            f"({row['flops_unit']} peak over memory bandwidth), so the {row['bound']} roof lies above it "
            "[bound-ridge]"
        )
    if row["flagged"] or row["over_the_link"]:
        return ""
    if missing := _missing(row):
        return f"bound unknown: no {' and no '.join(missing)} for this launch shape [bound-unknown]"
    unit = row["flops_unit"] or "its arithmetic unit"
    if not np.isnan(ridge):
        return (
            "bound unknown: more data may have moved within the L2 than memory saw, or other pipes may do "
            "the arithmetic than those it was held against [bound-unknown]"
        )
    return f"bound unknown: the peak of {unit} is not known [bound-unknown]"


def _missing(row: Row) -> list[str]:
    return [name for name, value in (("bytes", row["bytes"]), ("FLOPs", row["flops"])) if np.isnan(value)]


def _lacking(row: Row) -> str:
    if missing := _missing(row):
        return f"{' and '.join(missing)} are not known"
    return "its time or the peaks that it is held against are not known"


_BELOW = (
    "limiter-few-workgroups",
    "limiter-low-occupancy",
    "limiter-part-of-a-wave",
    "limiter-below-all-roofs",
)


def _warm(row: Row) -> str:
    """Say why a rate beyond 60 % of the memory roof is not held against it."""
    least, size = row["from_memory_frac"], amount(row["cache_size_bytes"], "B")
    part = "all of it" if least <= 0 else "so much of it that memory may have moved no more than "
    part += "" if least <= 0 else f"{percent(least)} of its peak"
    return (
        f"limiter unknown: its bytes are modelled, and the caches, which hold {size}, may have served {part} "
        "where the kernel before wrote it or the last dispatch read it; counters of device memory would tell"
    )


def _resident(row: Row) -> str:
    achieved = row["achieved_occupancy_frac"]
    measured = not np.isnan(achieved)
    return percent(achieved if measured else row["theoretical_occupancy_frac"]) + (
        " on average" if measured else " at most"
    )


def _busy(row: Row) -> str:
    """Say which counters bound its arithmetic."""
    vector = "issue slots" if np.isnan(row["valu_busy_frac"]) else "vector ALUs"
    return vector if np.isnan(row["matrix_high_frac"]) else f"{vector} and matrix pipes"


def _busiest(row: Row) -> float:
    return float(np.fmax(row["matrix_high_frac"], row["vector_high_frac"]))


def _data_roof(row: Row) -> str:
    """Name the nearest of the roofs that data goes through."""
    roofs = (
        ("bandwidth_frac", "of the memory roof"),
        ("l2_frac", "of the L2's bandwidth"),
        ("l2_lookup_frac", "of the L2's look-ups, were each of one sector"),
        ("l1_frac", "of the L1s' bandwidth"),
    )
    return _nearest(row, roofs)


def _work_roof(row: Row) -> str:
    """Name the nearest of the roofs that arithmetic goes through."""
    counted = not np.isnan(row["valu_busy_frac"])
    issue = percent(row["issue_active_frac"])
    slots = (
        f"of its time in issue slots ({issue} of the cycles with work; launch, drain, idle units taken off)"
    )
    roofs = (
        ("compute_frac", f"of the {row['flops_unit']} peak"),
        ("matrix_frac", "of its time in the matrix pipes"),
        ("vector_frac", "of its time in the vector ALUs" if counted else slots),
    )
    return _nearest(row, roofs)


def _any_roof(row: Row) -> str:
    data = np.fmax(row["bandwidth_frac"], row["cache_frac"])
    return _work_roof(row) if np.isnan(data) or row["work_frac"] > data else _data_roof(row)


def _uncounted(row: Row) -> str:
    """Say what a label below all roofs rests on that nobody counted."""
    if row["bytes_basis"] != "measured":
        return ""
    writes = "; writes were not counted" if np.isnan(row["write_bytes"]) else ""
    pipes = np.isnan(row["matrix_frac"]) and np.isnan(row["compute_frac"]) and np.isnan(row["valu_busy_frac"])
    return writes + ("; matrix pipes were not counted and its FLOPs are not known" if pipes else "")


def _nearest(row: Row, roofs: tuple[tuple[str, str], ...]) -> str:
    known = [(row[name], text) for name, text in roofs if not np.isnan(row[name])]
    share, text = max(known, default=(np.nan, "of a roof"))
    return f"{percent(share)} {text}"


def _limiter(row: Row, spec: GpuSpec) -> str:
    line = percent(thresholds().verdict.roof_frac.value)
    count = row["workgroups"]
    groups = f"{digits(count)} workgroup{'' if count == 1 else 's'} on {spec.compute_units} compute units"
    floor = spec.launch_floor_s
    texts: dict[str, Callable[[], str]] = {  # of the one that holds the figures are written
        "limiter-link": lambda: "waits for and moves data over a link between devices or to the host",
        "limiter-balanced": lambda: (
            f"at {_data_roof(row)} and {_work_roof(row)}: both at or above {line} and within "
            f"{digits(thresholds().verdict.balanced_frac.value * 100)} points of each other"
        ),
        "limiter-memory-roof": lambda: (
            f"at {percent(row['bandwidth_frac'])} of the memory roof, at or above {line}"
        ),
        "limiter-in-cache": lambda: _warm(row),
        "limiter-uneven-times": lambda: (
            f"its {digits(row['dispatches'])} dispatches took from {duration(row['min_ns'])} to "
            f"{duration(row['max_ns'])}, the longest likely with the cost of first use: the mean is of "
            "neither"
        ),
        "limiter-cache-roof": lambda: (
            f"at {_data_roof(row)}, at or above {line}, and below {line} of memory's"
        ),
        "limiter-scattered-loads": lambda: (
            f"at {_data_roof(row)}, at or above {line}: likely, as look-ups were not "
            "counted, but nearly every lane loads a sector of its own"
        ),
        "limiter-compute-roof": lambda: f"at {_work_roof(row)}, at or above {line}",
        "limiter-launch-floor": lambda: (
            f"its mean of {duration(row['mean_ns'])} is at the launch floor of "
            f"{duration(floor.value * 1e9) if floor else ''} of the {spec.name}"
        ),
        "limiter-few-workgroups": lambda: f"{groups}: too few to keep all busy; below {line} of both roofs",
        "limiter-starved": lambda: f"{groups} can reach {line} of neither roof, whatever they do",
        "limiter-low-occupancy": lambda: (
            f"below {line} of all roofs, and {_resident(row)} of the waves that a "
            "compute unit can hold: too few to hide the latency of memory"
        ),
        "limiter-part-of-a-wave": lambda: (
            f"{digits(count)} workgroups fill {percent(row['waves_per_cu'])} of the "
            f"places there are for them at the same time; below {line} of all roofs"
        ),
        "limiter-below-all-roofs": lambda: (
            f"below {line} of both roofs with enough workgroups "
            "(no counters: issue stalls, cache traffic and occupancy were not seen)"
        ),
        "limiter-not-enough-known": lambda: f"limiter unknown: {_lacking(row)}, so no roof is ruled out",
    }
    text = texts[row["limiter_rule"]]() if row["limiter_rule"] in texts else ""
    below = row["limiter_rule"] == "limiter-below-all-roofs"
    if below and _counted(row, spec):
        text = f"below {line} of all roofs that were counted, the nearest at {_any_roof(row)}"
    elif below and np.isnan(row["workgroups"]):
        text = f"below {line} of both roofs; the launch shape was not recorded"
    if row["limiter_rule"] in _BELOW:
        text += _uncounted(row)
    near = row["nearest_frac"] if row["limiter"] != "unknown" else np.nan
    if abs(near - thresholds().verdict.roof_frac.value) < thresholds().verdict.near_line_frac.value:
        text += f"; at {percent(near)} this is near the line"
    return f"{text} [{row['limiter_rule']}]" if text else ""
