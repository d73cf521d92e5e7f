"""The served model: sizes out of its ``config.json``, and the linear layers that one rank runs.

Field names are those of Hugging Face configurations, which vLLM reads. Layer shapes follow vLLM's layers:
query, key and value in one product, gate and up in one, columns split over the tensor-parallel ranks except
for the output and down projections, which are split along K.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from rocscope.errors import InputError
from rocscope.models.served_attention import attention_fields
from rocscope.models.served_quantization import Quantization, quantization, validated

DTYPE_BYTES: Final = {"float16": 2, "half": 2, "bfloat16": 2, "float32": 4, "float": 4}
_VOCABULARY_PADDING: Final = 64  # vLLM pads the vocabulary to a multiple of this
_LARGEST_CONFIG_BYTES: Final = 16 << 20
_STANDARD: Final = frozenset(
    (
        *("llama", "mistral", "mixtral", "qwen2", "qwen3", "qwen2_moe", "qwen3_moe", "gemma", "gemma2"),
        *("gemma3_text", "phi3", "granite", "olmo", "exaone4", "seed_oss", "smollm3", "internlm3"),
    )
)
"""Model types whose linear layers are those of ``linears`` and no others."""
_NORMED_QK: Final = frozenset(("qwen3", "qwen3_moe", "gemma3_text", "exaone4"))
"""Model types that norm queries and keys, a head at a time."""


class _Config(BaseModel):
    """The fields of ``config.json`` that are read; it has many more, hence not ``extra="forbid"``."""

    model_config = ConfigDict(extra="ignore")

    model_type: str = ""
    hidden_size: int = Field(gt=0)
    intermediate_size: int | None = Field(default=None, gt=0)
    num_hidden_layers: int = Field(gt=0)
    num_attention_heads: int = Field(gt=0)
    num_key_value_heads: int | None = Field(default=None, gt=0)
    head_dim: int | None = Field(default=None, gt=0)
    vocab_size: int | None = Field(default=None, gt=0)
    dtype: str | None = Field(default=None, validation_alias=AliasChoices("dtype", "torch_dtype"))
    num_experts: int | None = Field(
        default=None,
        gt=0,
        validation_alias=AliasChoices("num_experts", "num_local_experts", "n_routed_experts"),
    )
    num_experts_per_tok: int | None = Field(default=None, gt=0)
    moe_intermediate_size: int | None = Field(default=None, gt=0)
    shared_expert_intermediate_size: int | None = Field(default=None, ge=0)
    quantization_config: dict[str, Any] | None = None


@dataclass(frozen=True)
class Linear:
    """One linear layer on one rank: [M, K] times [K, N]."""

    name: str
    n: int
    k: int


@dataclass(frozen=True)
class ServedModel:
    """What is served, on one of ``tp`` ranks. Sizes are those of the whole model, ``linears`` of a rank."""

    model_type: str
    hidden_size: int
    intermediate_size: int | None
    heads: int
    kv_heads: int
    head_dim: int
    layers: int
    vocab_size: int | None
    dtype: str | None  # "float16"; None where the configuration does not say
    quantization: Quantization | None
    experts: int | None = None
    experts_per_token: int | None = None
    moe_intermediate_size: int | None = None
    shared_expert_intermediate_size: int | None = None
    tp: int = 1
    sliding_window: int | None = None  # tokens that some layers attend to at most
    sliding_layers: int | None = 0  # how many do; None where that is not told
    rotary_dim: int | None = None  # of a head
    kv_cache_bits: int | None = None  # of an element of the cache, where it is not that of an activation
    expert_parallel: bool = False  # ranks hold whole experts, which ones is not told

    @classmethod
    def load(cls, source: Path | str | dict[str, Any], tp: int | None = 1) -> ServedModel:
        """Read a ``config.json``, the folder that holds it, or its content.

        ``tp`` is the tensor-parallel size; 1 where it is not known (a launch of other ranks then fits no
        layer). Raises :class:`InputError` that names file and field.
        """
        data, where = _read(source)
        inner = data.get("text_config")
        if isinstance(inner, dict):  # a multimodal model: its language part, quantised as the whole is
            outer = {key: data.get(key) for key in ("quantization_config", "dtype", "torch_dtype")}
            data = {**{key: value for key, value in outer.items() if value is not None}, **inner}
        config = validated(_Config, data, where)
        kv_heads = config.num_key_value_heads or config.num_attention_heads
        if config.head_dim is None and config.hidden_size % config.num_attention_heads:
            raise InputError(
                f"{where}: hidden_size is no multiple of num_attention_heads, and head_dim is absent"
            )
        found = cls(
            model_type=config.model_type,
            hidden_size=config.hidden_size,
            intermediate_size=config.intermediate_size,
            heads=config.num_attention_heads,
            kv_heads=kv_heads,
            head_dim=config.head_dim or config.hidden_size // config.num_attention_heads,
            layers=config.num_hidden_layers,
            vocab_size=config.vocab_size,
            dtype=config.dtype,
            quantization=quantization(config.quantization_config, where),
            experts=config.num_experts,
            experts_per_token=config.num_experts_per_tok,
            moe_intermediate_size=config.moe_intermediate_size,
            shared_expert_intermediate_size=config.shared_expert_intermediate_size or None,
            tp=1 if tp is None else tp,
            **attention_fields(
                data,
                config.num_hidden_layers,
                config.head_dim or config.hidden_size // config.num_attention_heads,
            ),
        )
        found._check_split(where)
        return found

    def _check_split(self, where: str) -> None:
        sizes = {
            "num_attention_heads": self.heads,
            "intermediate_size": self.intermediate_size,
            "num_key_value_heads": self.kv_heads if self.kv_heads > self.tp else None,
        }
        hint = "give the tensor-parallel size with --tp"
        if self.tp < 1:
            raise InputError(f"{where}: cannot be split over {self.tp} ranks", hint)
        uneven = [name for name, size in sizes.items() if size is not None and size % self.tp]
        if uneven:
            raise InputError(f"{where}: {', '.join(uneven)} cannot be split over {self.tp} ranks", hint)

    @property
    def element_bytes(self) -> int | None:
        """Bytes of an activation: 2 for float16 and bfloat16; ``None`` where the dtype is not known."""
        return DTYPE_BYTES.get((self.dtype or "").removeprefix("torch."))

    @property
    def linears_complete(self) -> bool:
        """Whether ``linears`` holds every dense layer of the model.

        Only then does a launch that fits just one of them tell its shape. False for kinds of model whose
        layers are not known here (multi-head latent attention, linear attention, state-space models).
        """
        return self.model_type in _STANDARD

    @property
    def norms_heads(self) -> bool:
        """Whether queries and keys are normed, a head at a time."""
        return self.model_type in _NORMED_QK

    @cached_property
    def linears(self) -> tuple[Linear, ...]:
        """The linear layers of one rank, fused as vLLM runs them and also apart, without the head."""
        hidden, width = self.hidden_size, self.head_dim
        q = self.heads // self.tp * width
        kv = max(self.kv_heads // self.tp, 1) * width
        found = [
            Linear("qkv_proj", q + 2 * kv, hidden),
            Linear("o_proj", hidden, q),
            Linear("q_proj", q, hidden),
            Linear("k_proj", kv, hidden),
            Linear("v_proj", kv, hidden),
        ]
        dense = self.intermediate_size if not self.experts or self.moe_intermediate_size else None
        for prefix, size in (("", dense), ("shared_expert.", self.shared_expert_intermediate_size)):
            if size and not size % self.tp:
                part = size // self.tp
                found += [
                    Linear(f"{prefix}gate_up_proj", 2 * part, hidden),
                    Linear(f"{prefix}down_proj", hidden, part),
                    Linear(f"{prefix}gate_proj", part, hidden),
                    Linear(f"{prefix}up_proj", part, hidden),
                ]
        return tuple(found)

    @property
    def lm_head(self) -> Linear | None:
        """The head on one rank; its vocabulary is padded before it is split."""
        if self.vocab_size is None:
            return None
        padded = -(-self.vocab_size // _VOCABULARY_PADDING) * _VOCABULARY_PADDING
        return Linear("lm_head", padded // self.tp, self.hidden_size)

    @property
    def rank_heads(self) -> tuple[int, int]:
        """Query heads and key-value heads of one rank; key-value heads are repeated, not below one."""
        return self.heads // self.tp, max(self.kv_heads // self.tp, 1)

    def layer(self, name: str) -> Linear | None:
        """Return the layer called ``name`` (or "name/other", of one shape): a linear, the head, the experts.

        ``router`` chooses experts; ``experts_gate_up`` and ``experts_down`` are the products of one expert,
        ``None`` where ranks hold whole experts or do not divide them evenly.
        """
        wanted, experts = name.partition("/")[0], []
        if self.experts and (size := self.moe_intermediate_size or self.intermediate_size):
            part = size // self.tp
            experts = [Linear("router", self.experts, self.hidden_size)]
            if not self.expert_parallel and not size % self.tp:
                experts += [
                    Linear("experts_gate_up", 2 * part, self.hidden_size),
                    Linear("experts_down", self.hidden_size, part),
                ]
        head = [self.lm_head] if self.lm_head else []
        return next((each for each in (*self.linears, *head, *experts) if each.name == wanted), None)


def _read(source: Path | str | dict[str, Any]) -> tuple[dict[str, Any], str]:
    if isinstance(source, dict):
        return source, "model configuration"
    path = Path(source)
    path = path / "config.json" if path.is_dir() else path
    try:
        if path.stat().st_size > _LARGEST_CONFIG_BYTES:
            raise InputError(
                f"{path}: too large for a config.json", "name the model's config.json with --model"
            )
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"{path}: {error}", "name the model's config.json, or its folder, with --model"
        ) from error
    if not isinstance(data, dict):
        raise InputError(f"{path}: not a JSON object", "name the model's config.json with --model")
    return data, str(path)
