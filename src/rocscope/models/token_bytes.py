"""The least bytes of a decode step on one rank: every weight once, and the cache of the running requests.

Layers are those of :attr:`ServedModel.linears`, fused as vLLM runs them, and the head. Packed weights count
as in the shape models of their products: weights k*n*bits/8, scales 2*groups*n, zero points. Norms,
embeddings of the new tokens and activations are left out: they are less than a hundredth. With experts, those
of one token are read at least; the more sequences, the more of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from rocscope.models.served import Linear, ServedModel
from rocscope.models.served_quantization import Quantization
from rocscope.models.shapes import packed_gemm_bytes

_PACKED: Final = ("gptq", "awq", "awq_marlin", "gptq_marlin", "compressed-tensors")
_WITH_ZEROS: Final = ("gptq", "gptq_marlin")  # exllama's kernels read them, symmetric or not
_DENSE: Final = ("qkv_proj", "o_proj", "gate_up_proj", "down_proj")
_SHARED: Final = ("shared_expert.gate_up_proj", "shared_expert.down_proj")


@dataclass(frozen=True)
class WeightBytes:
    """Bytes of the weights that a rank reads in one step, and of what."""

    value: float
    source: str


def weights(served: ServedModel) -> WeightBytes | None:
    """Return the weights' bytes of one step of one rank, ``None`` where layers or packing are not known."""
    if not served.linears_complete or served.element_bytes is None or served.lm_head is None:
        return None
    sparse = bool(served.experts)
    if sparse and (served.experts_per_token is None or served.layer("experts_down") is None):
        return None
    layers = [(served.layer(name), 1.0) for name in (_DENSE[:2] if sparse else _DENSE)]
    if sparse:
        chosen = float(served.experts_per_token or 0)
        layers += [(served.layer("experts_gate_up"), chosen), (served.layer("experts_down"), chosen)]
        layers += [(layer, 1.0) for name in _SHARED if (layer := served.layer(name))]
    total = 0.0
    for layer, times in layers:
        size = None if layer is None else _layer_bytes(layer, served, served.quantization)
        if size is None:
            return None
        total += times * size
    if sparse and (router := served.layer("router")):
        total += router.n * router.k * served.element_bytes
    head_packing = served.quantization if served.quantization and served.quantization.lm_head else None
    head = _layer_bytes(served.lm_head, served, head_packing)
    if head is None:
        return None
    told = "linear layers and head"
    if sparse:
        told = f"attention's layers, {served.experts_per_token} experts a layer at least, and head"
    bits = served.quantization.bits if served.quantization else 8 * served.element_bytes
    split = f" of one of {served.tp} ranks" if served.tp > 1 else ""
    return WeightBytes(
        served.layers * total + head, f"weights of {told}{split}, {bits}-bit, each once a step"
    )


def _layer_bytes(layer: Linear, served: ServedModel, packing: Quantization | None) -> float | None:
    if packing is None:
        return float(layer.n * layer.k * (served.element_bytes or 0))
    if packing.method == "fp8":
        return float(layer.n * layer.k)
    groups = packing.groups(layer.k)
    if packing.method not in _PACKED or packing.bits is None or groups is None:
        return None
    zeros = packing.bits if packing.zero_points or packing.method in _WITH_ZEROS else 0
    return packed_gemm_bytes(0, layer.n, layer.k, packing.bits, groups, zero_bits=zeros)


def cache(served: ServedModel, tokens: float, sequences: float) -> float | None:
    """Return the bytes of keys and values that attention reads in one step of one rank.

    ``tokens`` is the sum over ``sequences`` of the tokens that lie in the cache. Layers with a window read no
    more than it. ``None`` where the cache's layout is not known.
    """
    if not served.linears_complete or served.element_bytes is None or served.sliding_layers is None:
        return None
    size = served.kv_cache_bits / 8 if served.kv_cache_bits else float(served.element_bytes)
    a_token = 2 * served.rank_heads[1] * served.head_dim * size
    windowed = served.sliding_layers if served.sliding_window else 0
    within = min(tokens, sequences * (served.sliding_window or 0)) if windowed else 0.0
    return a_token * ((served.layers - windowed) * tokens + windowed * within)
