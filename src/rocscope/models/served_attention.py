"""What a ``config.json`` says of attention beside its heads: windows, rotated dimensions, cache dtype.

And what a command line overrides: the cache's dtype, and how experts are split over ranks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypedDict

_ALL_LAYERS: Final = frozenset(("mistral", "mixtral", "phi3"))
"""Model types without ``layer_types`` whose every layer attends to a window where one is given."""
_NOT_MIXED: Final = frozenset(("qwen2", "qwen3", "qwen2_moe", "qwen3_moe"))
"""Model types whose window is off unless ``use_sliding_window`` says otherwise."""


class AttentionFields(TypedDict):
    """Fields of :class:`rocscope.models.served.ServedModel`."""

    sliding_window: int | None
    sliding_layers: int | None
    rotary_dim: int | None
    kv_cache_bits: int | None


def attention_fields(data: dict[str, Any], layers: int, head_dim: int) -> AttentionFields:
    """Read the fields out of a configuration; what has another type than it should is taken as absent.

    ``sliding_layers`` is how many of ``layers`` attend to ``sliding_window`` tokens only, ``None`` where that
    is not told. ``kv_cache_bits`` is ``None`` where the cache holds the activations' dtype as far as known.
    """
    window = _count(data.get("sliding_window"))
    sliding: int | None = 0
    if window is not None:
        sliding = _sliding_layers(data, layers)
    return AttentionFields(
        sliding_window=window if sliding != 0 else None,
        sliding_layers=sliding,
        rotary_dim=_rotary_dim(data, head_dim),
        kv_cache_bits=_cache_bits(data.get("quantization_config")),
    )


def _sliding_layers(data: dict[str, Any], layers: int) -> int | None:
    kinds, model_type = data.get("layer_types"), data.get("model_type")
    if data.get("use_sliding_window") is False:
        return 0
    if isinstance(kinds, list) and len(kinds) == layers:
        return sum(1 for kind in kinds if kind == "sliding_attention")
    if model_type in _ALL_LAYERS:
        return layers
    if model_type in _NOT_MIXED and "use_sliding_window" not in data:
        return 0
    return None


def _rotary_dim(data: dict[str, Any], head_dim: int) -> int | None:
    part = data.get("partial_rotary_factor", data.get("rotary_pct", 1.0))
    if isinstance(part, bool) or not isinstance(part, int | float) or not 0 < part <= 1:
        return None
    return int(head_dim * part)


def _cache_bits(quantization: Any) -> int | None:
    scheme = quantization.get("kv_cache_scheme") if isinstance(quantization, dict) else None
    return _count(scheme.get("num_bits")) if isinstance(scheme, dict) else None


def cache_bits(command: Sequence[str]) -> int | None:
    """Return the bits of an element of the cache that a ``vllm serve`` command line asks for, if it does."""
    for at, word in enumerate(command):
        name, given, value = word.partition("=")
        if name in ("--kv-cache-dtype", "--kv_cache_dtype"):
            value = value if given else next(iter(command[at + 1 : at + 2]), "")
            return 8 if value.startswith("fp8") else 16 if value in ("bfloat16", "float16") else None
    return None


def whole_experts(command: Sequence[str]) -> bool:
    """Return whether a ``vllm serve`` command line asks for expert parallelism: ranks hold whole experts."""
    return any(word in ("--enable-expert-parallel", "--enable_expert_parallel", "-ep") for word in command)


def _count(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if value > 0 else None
