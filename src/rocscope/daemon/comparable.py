"""Which windows may be held against each other, and what differs where they may not.

Some parts of a window's key have to be equal: the model, how it is served, on what. What is not known of one
window does not match what is known of another. Other parts have to be alike: the load and the context, on
which the time of a step depends. The clock is no part of it: what it explains is told apart afterwards.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any, Final

EQUAL: Final = {
    "model": "model", "model_hash": "sizes or quantisation of the model", "model_name": "name of the model",
    "dtype": "dtype", "quantisation": "quantisation", "tp": "tensor-parallel size", "engine": "server",
    "engine_version": "engine version", "mode": "eager or graph", "gpu": "GPU", "gpus": "number of GPUs",
    "driver": "driver", "power_cap_w": "power cap", "profiler": "profiler", "per": "what times are of",
}  # fmt: skip
"""Parts that have to be equal, as they are called."""
ALIKE: Final = {  # by how much they may differ
    "sequences": 0.25,
    "running": 0.5,  # where a step's sequences are known, those count
    "prompt_share": 0.1,  # of all tokens, not relative
}
CONTEXT: Final = 0.2  # of attention alone
_NAMES: Final = {
    "sequences": "sequences of a step",
    "running": "requests running",
    "prompt_share": "share of prompt tokens",
    "context_tokens": "context of a sequence",
}
_CONCURRENCY_RATIO: Final = 1.5
_CLOCK_BAND_HZ: Final = 50e6

Key = Mapping[str, Any]


def key_hash(key: Key) -> str:
    """Return one short text for all windows whose equal parts are equal."""
    text = json.dumps([key.get(name) for name in EQUAL], separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def hidden(text: str | None) -> str | None:
    """Return what stands for a name in a key: names may be private, and are only held for equal."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12] if text else None


def unfit(key: Key) -> str | None:
    """Return why a window can be compared with none, ``None`` where it can."""
    if key.get("model_hash") is None and key.get("model_name") is None:
        return "the model is not known"
    if key.get("gpu") is None:
        return "the GPU is not known"
    if key.get("per") is None:
        return "neither steps nor tokens are known"
    if _load(key) is None:
        return "the load is not known"
    return None


def differences(key: Key, other: Key) -> list[str]:
    """Return which of the parts that have to be equal are not, in words; empty where all are."""
    return [
        f"{name}: {_said(part, key.get(part))}, {_said(part, other.get(part))} before"
        for part, name in EQUAL.items()
        if key.get(part) != other.get(part)
    ]


def unlike(key: Key, other: Key, within: float = 1.0) -> list[str]:
    """Return which of the parts that have to be alike are not, in words.

    ``within`` stretches what they may differ by.
    """
    load = _load(key)
    wanted = [load] if load is not None else ["sequences", "running"]
    if key.get("per") == "token":  # a step's time is of decode alone
        wanted.append("prompt_share")
    return [
        f"{_NAMES[part]}: {_said(part, key.get(part))}, {_said(part, other.get(part))} before"
        for part in wanted
        if not _alike(part, key.get(part), other.get(part), ALIKE[part] * within)
    ]


def same_context(key: Key, other: Key) -> bool:
    """Tell whether sequences were as long, for kernels that read all of them."""
    mine, theirs = key.get("context_tokens"), other.get("context_tokens")
    return mine is not None and theirs is not None and _alike("context_tokens", mine, theirs, CONTEXT)


def load(key: Key) -> float | None:
    """Return how many sequences a step was for, as far as that is known."""
    part = _load(key)
    return None if part is None else float(key[part])


def _load(key: Key) -> str | None:
    return next((part for part in ("sequences", "running") if (key.get(part) or 0) > 0), None)


def _alike(part: str, mine: float | None, theirs: float | None, allowed: float) -> bool:
    if mine is None or theirs is None:
        return mine is theirs
    if part == "prompt_share":
        return abs(mine - theirs) <= allowed
    if mine <= 0 or theirs <= 0:
        return mine == theirs
    return abs(math.log(mine / theirs)) <= math.log1p(allowed) + 1e-9


def _said(part: str, value: Any) -> str:
    if value is None:
        return "not known"
    if part in ("model_hash", "model_name", "engine"):
        return str(value)[:6]
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def concurrency_band(value: float | None) -> str | None:
    """Return the band of a number of sequences, such as ``8-11``, for people to read."""
    if value is None or value <= 0:
        return None
    step = math.floor(math.log(max(1.0, value)) / math.log(_CONCURRENCY_RATIO) + 1e-9)
    low, high = (math.ceil(_CONCURRENCY_RATIO ** (step + more) - 1e-9) for more in (0, 1))
    return f"{low}" if high - 1 <= low else f"{low}-{high - 1}"


def clock_band(value_hz: float | None) -> str | None:
    """Return the band of a clock, such as ``1450-1500 MHz``, for people to read."""
    if value_hz is None or value_hz <= 0:
        return None
    low = math.floor(value_hz / _CLOCK_BAND_HZ) * _CLOCK_BAND_HZ
    return f"{low / 1e6:.0f}-{(low + _CLOCK_BAND_HZ) / 1e6:.0f} MHz"
