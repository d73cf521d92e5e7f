"""What a load measured, in one form: of the built-in generator, and of vLLM's benchmark."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from rocscope.errors import InputError

MAX_BYTES: Final = 512 << 20
KINDS: Final = ("builtin", "bench-serve", "command")
_NUMBERS: Final = (
    "concurrency",
    "rate_per_s",
    "requests",
    "failed",
    "duration_s",
    "prompt_tokens",
    "output_tokens",
    "output_tokens_per_s",
    "requests_per_s",
)
_SPREADS: Final = ("ttft_s", "tpot_s", "itl_s", "e2e_s")
_BENCH: Final = {
    "concurrency": "max_concurrency",
    "requests": "completed",
    "failed": "failed",
    "duration_s": "duration",
    "prompt_tokens": "total_input_tokens",
    "output_tokens": "total_output_tokens",
    "output_tokens_per_s": "output_throughput",
    "requests_per_s": "request_throughput",
}
_BENCH_SPREADS: Final = {"ttft_s": "ttft", "tpot_s": "tpot", "itl_s": "itl", "e2e_s": "e2el"}  # in ms there
_POINTS: Final = {"mean": "mean_", "p50": "median_", "p90": "p90_", "p99": "p99_"}


def read(path: Path) -> dict[str, Any]:
    """Read a result file into ``{"kind", "levels": [...]}``: numbers alone, ``None`` for what is not known.

    A level has ``concurrency``, ``requests``, ``failed``, ``duration_s``, tokens and rates, and ``ttft_s``,
    ``tpot_s``, ``itl_s``, ``e2e_s``, each with ``mean``, ``p50``, ``p90``, ``p99`` in seconds or ``None``.
    Raises :class:`InputError` that names the file.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path}: over {MAX_BYTES >> 20} MiB, no result of a load", "check the file")
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: no result of a load ({error})", "see the load's log") from error
    if not isinstance(raw, dict):
        raise InputError(f"{path}: no result of a load, but a JSON {type(raw).__name__}", "check the file")
    if raw.get("kind") == "builtin" and isinstance(raw.get("levels"), list):
        return {
            "kind": "builtin",
            "levels": [_level(each) for each in raw["levels"] if isinstance(each, dict)],
        }
    if "output_throughput" in raw:
        return {"kind": "bench-serve", "levels": [_bench(raw)]}
    raise InputError(f"{path}: neither of our generator nor of vllm bench serve", "check the file")


def numbers(measured: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a manifest says of a load as numbers under known names alone: a capture is untrusted."""
    kind = measured.get("kind")
    kept: dict[str, Any] = {"kind": kind if kind in KINDS else "command"}
    for name in ("profiled", "unprofiled"):
        found = measured.get(name)
        levels = found.get("levels") if isinstance(found, Mapping) else None
        if not isinstance(found, Mapping) or not isinstance(levels, list):
            kept[name] = None
            continue
        source = found.get("kind")
        kept[name] = {
            "kind": source if source in KINDS else "command",
            "levels": [_level(each) for each in levels if isinstance(each, dict)],
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
        if measured["kind"] == "command":
            why = "the load was a command, which does not say how fast it was (--load builtin does)"
        elif measured["profiled"] is None:
            why = "no profiler was on"
        elif measured["unprofiled"] is None:
            why = "the profiler was on from launch on, or --no-overhead was given"
        else:
            why = "one of the two runs of the load left no token count"
        return {**given, "overhead_frac": None, "basis": None, "why_not": f"not measured: {why}"}
    return {**given, "overhead_frac": 1 - profiled / unprofiled, "basis": "measured", "why_not": None}


def _level(raw: dict[str, Any]) -> dict[str, Any]:
    level: dict[str, Any] = {name: _number(raw.get(name)) for name in _NUMBERS}
    for name in _SPREADS:
        given = raw.get(name)
        level[name] = {at: _number(given.get(at)) for at in _POINTS} if isinstance(given, dict) else None
    return level


def _bench(raw: dict[str, Any]) -> dict[str, Any]:
    level: dict[str, Any] = {name: _number(raw.get(_BENCH.get(name, ""))) for name in _NUMBERS}
    rate = raw.get("request_rate")  # the text "inf" where all are sent at once
    level["rate_per_s"] = _number(rate)
    for name, word in _BENCH_SPREADS.items():
        points = {at: _number(raw.get(f"{prefix}{word}_ms")) for at, prefix in _POINTS.items()}
        known = {at: None if value is None else value / 1e3 for at, value in points.items()}
        level[name] = known if any(value is not None for value in known.values()) else None
    return level


def _number(value: object) -> float | int | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if abs(value) < 1e18 else None  # neither infinity nor NaN is below
