"""Products of experts (mixture of experts), placed by the order of a step.

Bytes depend on how many experts are touched, which no launch tells. One token touches exactly k of E. For T
tokens the model gives the expectation of even and independent routing, E * (1 - (1 - k / E)^T), and says so:
real routing is less even and touches fewer. FLOPs are exact: each token is multiplied with k experts.

Sources: vLLM model_executor/layers/fused_moe/fused_moe.py (``fused_moe_kernel``, 16-bit weights, and
``fused_moe_kernel_gptq_awq``, packed ones, both ``tl.dot``), csrc/moe/moe_wna16.cu (packed, 16-bit FMA).
"""

from __future__ import annotations

from typing import Final

from rocscope.kernel_names import short_name
from rocscope.models.model import Dispatch, Estimate
from rocscope.models.served import Linear, ServedModel
from rocscope.models.shapes import SERVED_DTYPES, by_place, counted, gemm_shape

_DENSE: Final = "fused_moe_kernel"
_PACKED: Final = {"fused_moe_kernel_gptq_awq": "matrix", "moe_wna16_gemm_kernel": "vector"}
_UP, _DOWN = "experts_gate_up", "experts_down"


class MoeModel:
    """Weights of the experts touched, activations in and out once; 2*T*k*N*K operations."""

    name = "moe"
    help = "products of experts: experts touched by even routing, shapes from the served model"
    families = ("moe",)

    def estimate(self, dispatch: Dispatch, served: ServedModel | None) -> Estimate | None:
        """Return shape, bytes and FLOPs of a product whose place in the step is known."""
        name, layer, tokens = short_name(dispatch.raw_name), dispatch.layer, dispatch.layer_m
        if served is None or layer is None or tokens is None or layer.name not in (_UP, _DOWN):
            return None
        dtype = SERVED_DTYPES.get(served.dtype or "")
        experts, chosen = served.experts, served.experts_per_token
        if dtype not in ("fp16", "bf16") or not experts or not chosen or chosen > experts:
            return None
        weights = _weights(served, layer, packed=name in _PACKED)
        if weights is None or (name != _DENSE and name not in _PACKED):
            return None
        size, bits = weights
        touched = experts_touched(experts, chosen, tokens)
        n, k = layer.n, layer.k
        rows_in = tokens if layer.name == _UP else tokens * chosen
        unit = _PACKED.get(name, "matrix")
        shape = gemm_shape(tokens * chosen, n, k, dtype, bits=bits)
        if bits and served.quantization:
            shape["group_size"] = served.quantization.group_rows(k)
        exact = tokens == 1 or chosen == experts
        how = "exactly" if exact else "on average if routing is even; uneven routing touches fewer"
        return Estimate(
            bytes=touched * size + 2.0 * rows_in * k + 2.0 * tokens * chosen * n,
            flops=2.0 * tokens * chosen * n * k,
            flops_unit=f"{unit}_{dtype}" if (unit, dtype) != ("vector", "bf16") else None,
            problem_shape=shape | {"experts": experts, "experts_per_token": chosen, "tokens": tokens},
            source=f"{counted(tokens, 'token')} to {chosen} of {experts} experts, N={n}, K={k} "
            f"({by_place(layer)}): "
            f"weights of {touched:.4g} experts, {how}; activations once",
        )


def experts_touched(experts: int, chosen: int, tokens: int) -> float:
    """Return how many experts ``tokens`` touch that choose ``chosen`` each, evenly and independently."""
    return experts * (1.0 - (1.0 - chosen / experts) ** tokens)


def _weights(served: ServedModel, layer: Linear, *, packed: bool) -> tuple[float, int | None] | None:
    """Return bytes of one expert's weights and their bits (``None`` for 16-bit ones)."""
    if not packed:
        return (2.0 * layer.n * layer.k, None) if served.quantization is None else None
    quantization = served.quantization
    groups = quantization.groups(layer.k) if quantization else None
    if quantization is None or groups is None or quantization.bits not in (4, 8):
        return None
    bits = quantization.bits
    zeros = groups * layer.n * bits / 8 if quantization.zero_points else 0.0
    return layer.n * layer.k * bits / 8 + 2.0 * groups * layer.n + zeros, bits


MODEL = MoeModel()
