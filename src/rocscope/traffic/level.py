"""One level of a load, whatever names its figures have: ours, vLLM's benchmark's, or those of a plain list.

A plain list is what scripts around a server commonly leave: a JSON list of objects with ``concurrency``,
``output_tokens_per_s`` and what else was measured. Latencies may be called ``mean_ttft_ms``, ``tpot_s``,
``p99_e2el_ms``, ``mean_latency_s``: a point, a latency and a unit, the mean where no point is named.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

NUMBERS: Final[Mapping[str, tuple[str, ...]]] = {
    "concurrency": ("concurrency", "max_concurrency"),
    "rate_per_s": ("rate_per_s", "request_rate"),
    "requests": ("requests", "completed"),
    "failed": ("failed",),
    "duration_s": ("duration_s", "wall_s", "duration"),
    "prompt_tokens": ("prompt_tokens", "total_input_tokens"),
    "output_tokens": ("output_tokens", "total_output_tokens"),
    "output_tokens_per_s": ("output_tokens_per_s", "output_throughput"),
    "requests_per_s": ("requests_per_s", "request_throughput"),
    "prompt_length": ("prompt_length", "input", "input_len"),  # tokens of a request, on average
    "output_length": ("output_length", "output", "output_len"),
}
SPREADS: Final[Mapping[str, tuple[str, ...]]] = {
    "ttft_s": ("ttft",),
    "tpot_s": ("tpot",),
    "itl_s": ("itl",),
    "e2e_s": ("e2e", "e2el", "latency"),
}
POINTS: Final[Mapping[str, tuple[str, ...]]] = {
    "mean": ("mean_", ""),
    "p50": ("median_", "p50_"),
    "p90": ("p90_",),
    "p99": ("p99_",),
}
_UNITS: Final = {"_s": 1.0, "_ms": 1e-3}
RATES: Final = NUMBERS["output_tokens_per_s"]


def read(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return a level: numbers alone under the names of :data:`NUMBERS` and :data:`SPREADS`.

    A spread has ``mean``, ``p50``, ``p90``, ``p99`` in seconds, or is ``None``. What is not told, or is no
    number, is ``None``; tokens, their rate and the lengths of requests are filled in where they follow.
    """
    found: dict[str, Any] = {name: _first(raw, names) for name, names in NUMBERS.items()}
    for name, words in SPREADS.items():
        given = raw.get(name)
        points = given if isinstance(given, Mapping) else {}
        spread = {
            at: number(points.get(at)) if points else _point(raw, prefixes, words)
            for at, prefixes in POINTS.items()
        }
        found[name] = spread if any(value is not None for value in spread.values()) else None
    _complete(found)
    return found


def number(value: object) -> float | int | None:
    """Return a number of JSON, ``None`` for anything else, infinity and NaN among it."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if abs(value) < 1e18 else None  # neither infinity nor NaN is below


def _first(raw: Mapping[str, Any], names: tuple[str, ...]) -> float | int | None:
    return next((value for name in names if (value := number(raw.get(name))) is not None), None)


def _point(raw: Mapping[str, Any], prefixes: tuple[str, ...], words: tuple[str, ...]) -> float | None:
    for prefix in prefixes:
        for word in words:
            for unit, scale in _UNITS.items():
                value = number(raw.get(f"{prefix}{word}{unit}"))
                if value is not None:
                    return value * scale
    return None


def _complete(level: dict[str, Any]) -> None:
    seconds, requests = (
        level[name] if (level[name] or 0) > 0 else None for name in ("duration_s", "requests")
    )
    if level["output_tokens"] is None and seconds and level["output_tokens_per_s"] is not None:
        level["output_tokens"] = round(level["output_tokens_per_s"] * seconds, 3)
    if level["output_tokens_per_s"] is None and seconds and level["output_tokens"] is not None:
        level["output_tokens_per_s"] = level["output_tokens"] / seconds
    for length, total in (("prompt_length", "prompt_tokens"), ("output_length", "output_tokens")):
        if level[length] is None and requests and level[total] is not None:
            level[length] = level[total] / requests
