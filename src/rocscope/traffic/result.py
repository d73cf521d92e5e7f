"""What a load measured, in one form: of the built-in generator, and of vLLM's benchmark."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from rocscope.errors import InputError
from rocscope.traffic import level

MAX_BYTES: Final = 512 << 20
KINDS: Final = ("builtin", "bench-serve", "list", "command")
RUNS: Final = ("profiled", "unprofiled", "beside")  # the last lay beside a recording: neither is told


def read(path: Path) -> dict[str, Any]:
    """Read a result file into ``{"kind", "levels": [...]}``: numbers alone, ``None`` for what is not known.

    A level is as :func:`rocscope.traffic.level.read` gives it. Raises :class:`InputError` naming the file.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path}: over {MAX_BYTES >> 20} MiB, no result of a load", "check the file")
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: no result of a load ({error})", "see the load's log") from error
    kind, levels = raw_levels(raw, str(path))
    return {"kind": kind, "levels": [level.read(each) for each in levels]}


def raw_levels(raw: object, name: str) -> tuple[str, list[dict[str, Any]]]:
    """Return whose result a JSON value is, and its levels as they stand there.

    Raises :class:`InputError` that says ``name`` where it is nobody's.
    """
    if isinstance(raw, dict) and raw.get("kind") == "builtin" and isinstance(raw.get("levels"), list):
        return "builtin", [each for each in raw["levels"] if isinstance(each, dict)]
    if isinstance(raw, dict) and "output_throughput" in raw:
        return "bench-serve", [raw]
    rows = [each for each in (raw if isinstance(raw, list) else [raw]) if isinstance(each, dict)]
    found = [each for each in rows if level.read(each)["output_tokens_per_s"] is not None]
    if not found:
        raise InputError(
            f"{name}: no result of a load, of our generator, of vllm bench serve or a list of levels",
            "check the file; a list has objects with concurrency and output_tokens_per_s",
        )
    return "list", found


def numbers(measured: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a manifest says of a load as numbers under known names alone: a capture is untrusted."""
    kind = measured.get("kind")
    kept: dict[str, Any] = {"kind": kind if kind in KINDS else "command"}
    for name in RUNS:
        found = measured.get(name)
        levels = found.get("levels") if isinstance(found, Mapping) else None
        if not isinstance(found, Mapping) or not isinstance(levels, list):
            kept[name] = None
            continue
        source = found.get("kind")
        kept[name] = {
            "kind": source if source in KINDS else "command",
            "levels": [level.read(each) for each in levels if isinstance(each, dict)],
        }
    return kept


def tokens_per_s(result: Mapping[str, Any]) -> float | None:
    """Output tokens a second over all levels together; ``None`` where one of them is not known."""
    levels = result["levels"]
    tokens = [each["output_tokens"] for each in levels]
    seconds = [each["duration_s"] for each in levels]
    if not levels or None in tokens or None in seconds or sum(seconds) <= 0:
        return None
    return float(sum(tokens) / sum(seconds))


def told(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an analysis says of a manifest's load: ``load`` and ``profiling_overhead``."""
    measured = numbers(recorded)  # a capture may come from anywhere
    return {
        "load": {**measured, "basis": "measured", "source": "the clients' clock"},
        "profiling_overhead": overhead(measured),
    }


def overhead(measured: Mapping[str, Any]) -> dict[str, Any]:
    """Compare the same load with and without the profiler; say why where that was not measured.

    ``overhead_frac`` is the share of the tokens a second that the profiler took, negative where it was
    faster with it, which is noise.
    """
    rates = {
        name: tokens_per_s(measured[name]) if measured[name] else None for name in ("profiled", "unprofiled")
    }
    given: dict[str, Any] = {f"{name}_tokens_per_s": rate for name, rate in rates.items()}
    profiled, unprofiled = rates["profiled"], rates["unprofiled"]
    if profiled is None or not unprofiled:
        if measured.get("beside") and profiled is None and unprofiled is None:
            why = "the load's result lay beside the recording and does not say whether a profiler was on"
        elif measured["kind"] == "command":
            why = "the load was a command, which does not say how fast it was (--load builtin does)"
        elif measured["profiled"] is None:
            why = "no profiler was on"
        elif measured["unprofiled"] is None:
            why = "the profiler was on from launch on, or --no-overhead was given"
        else:
            why = "one of the two runs of the load left no token count"
        return {**given, "overhead_frac": None, "basis": None, "why_not": f"not measured: {why}"}
    return {**given, "overhead_frac": 1 - profiled / unprofiled, "basis": "measured", "why_not": None}
