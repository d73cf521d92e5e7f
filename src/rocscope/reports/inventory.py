"""What is inside a capture, before any analysis: for ``rocscope capture info``."""

from __future__ import annotations

from typing import Any

from rocscope.capture import Capture
from rocscope.reports import figures
from rocscope.untrusted import visible


def inventory(capture: Capture) -> dict[str, Any]:
    """Return what a capture holds, fit for JSON. Unknown is ``None``."""
    manifest = capture.manifest
    rows = {name: table.num_rows for name, table in capture.tables().items()}
    return {
        **manifest.model_dump(
            mode="json", exclude={"environment", "model", "gpus", "processes", "passes", "sources", "notices"}
        ),
        "rows": rows,
        "time_range_s": _range_s(capture),
        "kernels": len(_names(capture)),
        "model_known": manifest.model is not None,
        "environment": sorted(manifest.environment),
        "gpus": [gpu.model_dump(mode="json") for gpu in manifest.gpus],
        "processes": [process.model_dump(mode="json") for process in manifest.processes],
        "passes": [each.model_dump(mode="json") for each in manifest.passes],
        "sources": [source.model_dump(mode="json") for source in manifest.sources],
        "notices": [notice.model_dump(mode="json") for notice in manifest.notices],
    }


def _range_s(capture: Capture) -> float | None:
    """Return the time from the first start to the last end of a dispatch, s."""
    import pyarrow.compute as pc

    first = pc.min(capture.dispatches["start_ns"]).as_py()
    last = pc.max(capture.dispatches["end_ns"]).as_py()
    return None if first is None or last is None else (last - first) / 1e9


def _names(capture: Capture) -> list[str]:
    import pyarrow.compute as pc

    return [str(name) for name in pc.unique(capture.dispatches["kernel"]).to_pylist()]


def text(found: dict[str, Any]) -> str:
    """Write an :func:`inventory` for a terminal; text of the recording cannot act on it."""
    note = f" ({found['provenance_note']})" if found["provenance_note"] else ""
    lines = [
        f"capture     {found['id']}{', partial' if found['partial'] else ''}",
        f"device side {found['provenance']}{note}",
        f"profiler    {found['profiler']} {found['profiler_version']}".rstrip(),
        f"command     {' '.join(found['command']) or figures.UNKNOWN}",
        f"host        {found['host'] or figures.UNKNOWN}",
        f"started     {found['started_at'] or figures.UNKNOWN}",
        f"dispatches  over {figures.seconds(found['time_range_s'])}, {figures.count(found['kernels'])} names",
        "rows        " + ", ".join(f"{figures.count(n)} {name}" for name, n in found["rows"].items()),
    ]
    for gpu in found["gpus"]:
        words = (gpu["name"] or "unknown model", gpu["arch"], gpu["agent"], gpu["host"])
        lines.append(f"GPU {gpu['gpu']:<8}" + ", ".join(word for word in words if word))
    for process in found["processes"]:
        rank = "" if process["rank"] is None else f", rank {process['rank']}"
        lines.append(f"process {process['process']:<4}{process['name'] or 'pid'} {process['pid']}{rank}")
    for each in found["passes"]:
        kind = "perturbed, times not used" if each["perturbed"] else "clean"
        counters = f"{len(each['counters'])} counters" if each["counters"] else "no counters"
        lines.append(f"pass {each['index']:<7}{kind}, {counters} {each['note']}".rstrip())
    lines += [
        f"file        {source['path']} ({source['format']}, {figures.size_bytes(source['size_bytes'])})"
        for source in found["sources"]
    ]
    lines += [f"left out    {figures.count(drop['count'])}: {drop['reason']}" for drop in found["dropped"]]
    lines += [f"notice      {notice['code']}: {notice['message']}" for notice in found["notices"]]
    return "".join(f"{figures.ordinary_spaces(visible(line))}\n" for line in lines)
