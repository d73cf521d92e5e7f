"""Attention over a key-value cache, whose size follows from the context of the engine step.

Bytes, each datum once: keys and values ``context * kv_heads * head_dim * 2 * b_cache`` (the query heads of a
group share a read), queries and output ``2 * tokens * heads * head_dim * b``, and the partial results of a
kernel that splits the context. FLOPs: ``4 * pairs * heads * head_dim``, a multiply and an add each for the
scores and the weighted sum; ``pairs`` are (new token, token it attends to), which for a prompt alone is the
causal half of its square. Softmax is not counted.

Kernels and grids: vLLM v1/attention/ops/triton_unified_attention.py (grid (tokens // BLOCK_Q + sequences,
kv_heads[, segments]); the 3D form leaves 32-bit partials that ``reduce_segments`` adds up, grid (tokens,
heads)), chunked_prefill_paged_decode.py, csrc/attention/attention_kernels.cuh (v2: partitions of 512 tokens),
csrc/rocm/attention.cu (of 256), and the own kernels of the recorded decoder and of examples/triton_decoder:
split, it has 16 segments along the grid's z, each of which leaves 32-bit partials.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, Final

from rocscope.kernel_names import short_name
from rocscope.models.model import Dispatch, Estimate
from rocscope.models.served import ServedModel
from rocscope.models.shapes import ELEMENT_BYTES, SERVED_DTYPES, counted, dtype_of, tensors, workgroups

_UNIFIED: Final = re.compile(r"^kernel_unified_attention(_2d|_3d)?$")
_FORMS: Final = re.compile(r"^kernel_unified_attention_[23]d$|reduce")
_REDUCE: Final = re.compile(r"^(kernel_)?reduce_segments$|^paged_attention_(ll4mi|v2|decode)_reduce_kernel$")
_SPLIT: Final = "paged_attention_decode_split_kernel"
_SPLIT_REDUCE: Final = "paged_attention_decode_reduce_kernel"
_DECODE: Final = re.compile(
    r"^(kernel_paged_attention_2d|paged_attention_v[12]_kernel|paged_attention_decode_(?:split_)?kernel"
    r"|paged_attention_ll4mi_QKV_\w+_kernel)$"
)
_FLASH: Final = re.compile(r"^(flash_fwd(_splitkv)?_kernel|FlashAttnFwdSm90|FmhaFwd\w*)$")
_WRAPPED: Final = re.compile(r"FlashAttnFwdSm\d+|FmhaFwd(?!\w{0,40}(?:Combine|AppendKV))\w{0,40}Kernel")
_VECTOR: Final = re.compile(r"^paged_attention_v[12]_kernel$")  # multiply with 32-bit FMA
_OPERATORS: Final = ("vllm::unified_attention_with_output", "vllm::unified_attention")
_TILE: Final = 16  # tokens that the unified kernel reads at a time when it decodes
_SEGMENTS: Final = 16  # at most
_BLOCK_M: Final = 16  # rows of a workgroup: query heads of a group times tokens
_PARTITIONS: Final = (  # tokens: csrc/rocm/attention.cu, csrc/attention/paged_attention_v2.cu
    (re.compile(r"^paged_attention_ll4mi_(QKV|reduce)"), 256),
    (re.compile(r"^paged_attention_v2_"), 512),
)
_PLAIN_CACHE: Final = re.compile(r"Fp8KVCacheDataType\)?\s*0|Fp8KVCacheDataTypeE0E")
_FP8: Final = re.compile(r"Fp8KVCacheDataType\)?\s*[12]|Fp8KVCacheDataTypeE[12]E|fp8_e[45]m[23]")


@dataclass(frozen=True)
class Heads:
    """Heads of one rank, and the dtypes of activations and cache."""

    query: int
    kv: int
    width: int
    dtype: str
    cache_bytes: float
    how: str

    @property
    def element_bytes(self) -> int:
        """Bytes of an activation."""
        return ELEMENT_BYTES[self.dtype]


class AttentionModel:
    """Attention of a whole engine step in one dispatch a layer.

    Where the context is not known but the kernel only decodes, the intensity has a limit that holds at any
    context: ``2 * heads / (kv_heads * b_cache)`` FLOPs a byte.
    """

    name = "attention"
    help = (
        "attention over a paged cache: context of the engine step, heads of the operator or the served model"
    )
    families = ("attention",)

    def estimate(self, dispatch: Dispatch, served: ServedModel | None) -> Estimate | None:
        """Return bytes and FLOPs where heads and context are known."""
        name = short_name(dispatch.raw_name)
        heads = _heads(dispatch, served)
        if heads is None:
            return None
        if _REDUCE.match(name):
            return _reduced(dispatch, served, heads, name)
        unified, decodes = _UNIFIED.match(name), _DECODE.match(name)
        whole = unified or _FLASH.match(name) or _WRAPPED.search(dispatch.raw_name)
        if not whole and not decodes:
            return None
        # other kernels than the unified one may do the prompts and the decodes of a step apart
        if not _launch_fits(dispatch, heads) if unified else dispatch.step_phase == "mixed":
            return None
        unit = "vector_fp32" if _VECTOR.match(name) else f"matrix_{heads.dtype}"
        if decodes and dispatch.step_phase != "decode":
            return _limit(heads, unit) if dispatch.step_phase is None else None
        return _whole(dispatch, served, heads, unit, name)


def _whole(
    dispatch: Dispatch, served: ServedModel | None, heads: Heads, unit: str, name: str
) -> Estimate | None:
    tokens, sequences = dispatch.step_tokens, dispatch.step_sequences
    window = _windowed(dispatch, served)
    if window is None or tokens is None or sequences is None:
        decodes = dispatch.step_phase == "decode" and tokens is not None and tokens == sequences
        decodes |= dispatch.step_phase in (None, "decode") and _DECODE.match(name) is not None
        rows = 1 if decodes else _most_rows(dispatch, heads) if _UNIFIED.match(name) else None
        return None if rows is None else _limit(heads, unit, rows)
    context, pairs, says = window
    size = context * heads.kv * heads.width * 2 * heads.cache_bytes
    size += 2 * tokens * heads.query * heads.width * heads.element_bytes
    size += _partials(dispatch, heads, name, tokens, context / sequences)
    return Estimate(
        bytes=size,
        flops=None if pairs is None else 4.0 * pairs * heads.query * heads.width,
        flops_unit=None if pairs is None else unit,
        problem_shape=_shape(heads, tokens, sequences, context),
        source=f"{counted(tokens, 'new token')} of {counted(sequences, 'sequence')} over "
        f"{counted(context, 'token')} of context{_averaged(tokens, sequences)} "
        f"({dispatch.step_context_source}{says}), {counted(heads.query, 'head')}, "
        f"{counted(heads.kv, 'key-value head')} of {heads.width} {heads.dtype} ({heads.how}); cache, queries "
        "and output once each",
    )


def _averaged(tokens: float, sequences: float) -> str:
    """Say that figures are means, where they are no whole numbers."""
    return "" if tokens == round(tokens) and sequences == round(sequences) else " on average"


def _shape(heads: Heads, tokens: float, sequences: float, context: float) -> dict[str, Any]:
    return {
        "tokens": round(tokens, 2),
        "sequences": round(sequences, 2),
        "context_tokens": round(context, 1),
        "heads": heads.query,
        "kv_heads": heads.kv,
        "head_dim": heads.width,
        "dtype": heads.dtype,
    }


def _limit(heads: Heads, unit: str, rows: int = 1) -> Estimate:
    """Return the limit where no sequence has more than ``rows`` new tokens."""
    limit = 2.0 * rows * heads.query / (heads.kv * heads.cache_bytes)
    launched = "" if rows == 1 else f", at most {rows} new tokens by the launch"
    return Estimate(
        flops_unit=unit,
        intensity_limit=limit,
        source=f"whatever the context, which is not known: {counted(heads.query, 'query head')} on "
        f"{counted(heads.kv, 'key-value head')}, {heads.cache_bytes:g} B an element ({heads.how}){launched}",
    )


def _windowed(dispatch: Dispatch, served: ServedModel | None) -> tuple[float, float | None, str] | None:
    """Return context and pairs as far as the layers' windows reach, averaged over the layers."""
    context, pairs = dispatch.step_context_tokens, dispatch.step_attended_pairs
    if context is None:
        return None
    if served is None or served.sliding_window is None or served.sliding_layers == 0:
        return context, pairs, ""
    window, sequences = served.sliding_window, dispatch.step_sequences
    if context <= window:  # no sequence is longer than their sum
        return context, pairs, ""
    if served.sliding_layers is None or sequences != 1 or dispatch.step_phase != "decode":
        return None
    # the forms apart may be those of the layers with a window and of the others, each with its own context
    if served.sliding_layers != served.layers and _FORMS.match(short_name(dispatch.raw_name)):
        return None
    share = served.sliding_layers / served.layers
    inside = share * window + (1 - share) * context
    return inside, inside, f", {served.sliding_layers} of {served.layers} layers to a window of {window}"


def _launch_fits(dispatch: Dispatch, heads: Heads) -> bool:
    """Whether the grid of the unified kernel is that of this step; a graph may be padded."""
    grid = workgroups(dispatch)
    if grid is None:
        return dispatch.grid is None  # not recorded: nothing contradicts
    if grid[1] != heads.kv:
        return False
    if dispatch.step_tokens is None or dispatch.step_sequences is None:
        return True
    return dispatch.step_tokens // _block_q(heads) + dispatch.step_sequences <= grid[0] + 1


def _block_q(heads: Heads) -> int:
    """Return the tokens of a workgroup of the unified kernel."""
    group = heads.query // heads.kv
    rows = _BLOCK_M if group <= _BLOCK_M else 1 << (group - 1).bit_length()
    return rows // group


def _most_rows(dispatch: Dispatch, heads: Heads) -> int | None:
    """Return how many new tokens a launch of the unified kernel can have, of one sequence at least."""
    grid = workgroups(dispatch)
    return None if grid is None else max(1, grid[0] * _block_q(heads) - 1)


def _partials(dispatch: Dispatch, heads: Heads, name: str, tokens: float, context: float) -> float:
    """Return the bytes of partial results that the kernel leaves for another one."""
    grid = workgroups(dispatch)
    if name == "kernel_unified_attention_3d" or (_UNIFIED.match(name) and grid and grid[2] > 1):
        most = grid[2] if grid and grid[2] > 1 else _SEGMENTS
        return tokens * heads.query * _segments(most, context) * (heads.width + 2) * 4
    if name == _SPLIT:
        return tokens * heads.query * (grid[2] if grid else _SEGMENTS) * (heads.width + 2) * 4
    if partition := _partition(name):
        parts = math.ceil(context / partition)
        return tokens * heads.query * parts * (heads.width * heads.element_bytes + 8)
    return 0.0


def _partition(name: str) -> int | None:
    """Return the tokens of a part of the context, for kernels that always split it so."""
    return next((size for pattern, size in _PARTITIONS if pattern.search(name)), None)


def _segments(most: int, context: float) -> int:
    """Return into how many parts the unified kernel splits a context: whole tiles to ``most`` segments."""
    each = math.ceil(context / (most * _TILE)) * _TILE
    return min(most, math.ceil(context / each))


def _reduced(dispatch: Dispatch, served: ServedModel | None, heads: Heads, name: str) -> Estimate | None:
    """The partial results of a split context read, the output written."""
    window, tokens, sequences = _windowed(dispatch, served), dispatch.step_tokens, dispatch.step_sequences
    if window is None or tokens is None or not sequences or dispatch.step_phase != "decode":
        return None
    context, grid = window[0] / sequences, workgroups(dispatch)
    if name == _SPLIT_REDUCE or name.endswith("reduce_segments"):
        parts = _SEGMENTS if name == _SPLIT_REDUCE else _segments(_SEGMENTS, context)
        each = (heads.width + 2) * 4
        if grid is not None and (grid[1] != heads.query or grid[0] + 0.5 < tokens):
            return None
    else:
        parts, each = (
            math.ceil(context / (_partition(name) or context)),
            heads.width * heads.element_bytes + 8,
        )
    rows = tokens * heads.query
    return Estimate(
        bytes=rows * (parts * each + heads.width * heads.element_bytes),
        flops=2.0 * rows * parts * heads.width,
        flops_unit="vector_fp32",
        problem_shape=_shape(heads, tokens, sequences, window[0]),
        source=f"partial results of {counted(parts, 'part')} of the mean context of {context:.5g} tokens "
        f"({dispatch.step_context_source}) for {counted(tokens, 'token')}{_averaged(tokens, sequences)} and "
        f"{counted(heads.query, 'head')} of {heads.width}, and the output, once each",
    )


def _heads(dispatch: Dispatch, served: ServedModel | None) -> Heads | None:
    """Return the heads by the operator's queries and keys, else by the served model."""
    given = tensors(dispatch)
    if dispatch.operator in _OPERATORS and len(given) >= 3:
        query, key = given[0], given[1]
        dtype = dtype_of(query)
        if dtype and len(query.dims) == len(key.dims) == 3 and query.dims[2] == key.dims[2] and key.dims[1]:
            size = cached_element_bytes(dispatch, served, ELEMENT_BYTES[dtype])
            heads = Heads(
                query.dims[1], key.dims[1], query.dims[2], dtype, size, f"shapes of {dispatch.operator}"
            )
            return heads if heads.query % heads.kv == 0 and heads.width else None
    if served is None or served.model_type.startswith("deepseek"):  # latent attention has other caches
        return None
    served_dtype = SERVED_DTYPES.get((served.dtype or "").removeprefix("torch."))
    if served_dtype is None:
        return None
    query_heads, kv_heads = served.rank_heads
    size = cached_element_bytes(dispatch, served, ELEMENT_BYTES[served_dtype])
    return Heads(query_heads, kv_heads, served.head_dim, served_dtype, size, "the served model")


def cached_element_bytes(dispatch: Dispatch, served: ServedModel | None, activation: int) -> float:
    """Bytes of a cached element: FP8 where the kernel or the configuration says so, else as activations."""
    if _FP8.search(dispatch.raw_name):
        return 1.0
    if _PLAIN_CACHE.search(dispatch.raw_name):
        return float(activation)
    if served is not None and served.kv_cache_bits is not None:
        return served.kv_cache_bits / 8
    return float(activation)


MODEL = AttentionModel()
