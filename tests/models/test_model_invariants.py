"""What holds for every shape: more work never moves fewer bytes, and never fewer than the data."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from rocscope.models import attention, awq, gemm, kv_cache, moe, rmsnorm, rope, w4a16
from rocscope.models.attention_dense import MODEL as DENSE
from rocscope.models.model import Dispatch, Estimate, Operand, ShapeModel
from rocscope.models.served import Linear, ServedModel

CONFIG: dict[str, Any] = {
    "model_type": "qwen3",
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "num_hidden_layers": 4,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "vocab_size": 32000,
    "torch_dtype": "float16",
}
AWQ = {"quantization_config": {"quant_method": "awq", "bits": 4, "group_size": 128}}
EXPERTS = {
    "model_type": "qwen3_moe",
    "num_experts": 64,
    "num_experts_per_tok": 4,
    "moe_intermediate_size": 512,
}
HALF = "c10::Half"
size = st.integers(1, 40).map(lambda x: 64 * x)
rows = st.integers(1, 300)


def asked(model: ShapeModel, name: str, served: ServedModel | None, **known: Any) -> Estimate:
    groups = known.pop("groups", None)
    if groups:
        known |= {"grid": (groups[0] * 128, *groups[1:]), "workgroup": (128, 1, 1)}
    given: dict[str, Any] = {"grid": None, "workgroup": None, "operator": None, "operands": ()}
    given |= {"family": "", "subfamily": "", "kind": "kernel", "grid_items": None}
    given |= {"copied_bytes": None, "lds_bytes": None, "gpu": None}
    found = model.estimate(Dispatch(raw_name=name, **(given | known)), served)
    assert found is not None and found.bytes is not None
    return found


def decode(sequences: int, context: int) -> dict[str, Any]:
    step = {"step_tokens": float(sequences), "step_sequences": float(sequences), "step_phase": "decode"}
    return step | {"step_context_tokens": float(context), "step_attended_pairs": float(context)}


def grows(few: Estimate, many: Estimate) -> None:
    assert few.bytes is not None and many.bytes is not None
    assert many.bytes >= few.bytes > 0
    if few.flops is not None and many.flops is not None:
        assert many.flops >= few.flops


@given(m=rows, n=size, k=size)
def test_dense_products(m: int, n: int, k: int) -> None:
    def product(m: int, n: int, k: int) -> Estimate:
        given = (Operand((m, k), HALF), Operand((k, n), HALF))
        return asked(
            gemm.MODEL,
            "Cijk_Alik_Bljk_HHS_BH_MT64x64x32_MI16x16x16x1",
            None,
            operator="aten::mm",
            operands=given,
        )

    one = product(m, n, k)
    assert one.flops == 2 * m * n * k and one.bytes >= 2 * n * k and one.flops_unit == "matrix_fp16"
    for more in (product(m + 1, n, k), product(m, n + 8, k), product(m, n, k + 8)):
        grows(one, more)


@given(m=st.integers(1, 31), n=size, k=size, parts=st.sampled_from([1, 2, 4, 8, 16]))
def test_packed_products_in_triton(m: int, n: int, k: int, parts: int) -> None:
    served = ServedModel.load(CONFIG | AWQ)

    def fused(m: int, n: int, parts: int) -> Estimate:
        layer, groups = Linear("o_proj", n, k), (-(-m // 32) * -(-n // 32), parts, 1)
        return asked(awq.MODEL, "awq_gemm_kernel", served, layer=layer, layer_m=m, groups=groups)

    def repacked(m: int) -> Estimate:
        layer = Linear("o_proj", n, k)
        return asked(
            w4a16.MODEL,
            "triton_w4a16_gemm_kernel",
            served,
            layer=layer,
            layer_m=m,
            groups=(1, -(-n // 64), 1),
        )

    one = fused(m, n, parts)
    assert one.flops == 2 * m * n * k and one.bytes >= n * k / 2 + 2 * m * n * parts
    assert fused(m, n, 2 * parts).bytes - one.bytes == 2 * m * n * parts  # each part writes all of the output
    grows(one, fused(m + 1, n, parts))
    grows(one, fused(m, n + 64, parts))
    if parts == 1:
        assert repacked(m).bytes == one.bytes
    grows(repacked(m), repacked(m + 1))


@given(tokens=st.integers(1, 2000), bits=st.sampled_from([None, 4, 8]))
def test_experts(tokens: int, bits: int | None) -> None:
    packed = (
        {"quantization_config": {"quant_method": "gptq", "bits": bits, "group_size": 128}} if bits else {}
    )
    served = ServedModel.load(CONFIG | EXPERTS | packed)
    name = "fused_moe_kernel_gptq_awq" if bits else "fused_moe_kernel"
    layer = served.layer("experts_gate_up")
    one, more = (asked(moe.MODEL, name, served, layer=layer, layer_m=each) for each in (tokens, tokens + 1))
    grows(one, more)
    touched = moe.experts_touched(64, 4, tokens)
    assert touched + 1e-9 >= 4 and touched <= min(64, 4 * tokens) + 1e-9
    assert one.flops == 2 * tokens * 4 * 1024 * 2048


def read_and_segments(found: Estimate, name: str, sequences: int, heads: int) -> tuple[float, int]:
    """Take the partial results, and queries and output, off the bytes; what is left was read of the cache."""
    assert found.bytes is not None and found.flops is not None
    rows = sequences * heads
    context = found.flops / (4 * heads * 128) / sequences
    if name == "kernel_unified_attention_3d":
        tile = 16  # tokens; whole tiles to each of at most 16 segments, in 32 bits with a maximum and a sum
        parts = math.ceil(context / (math.ceil(context / (16 * tile)) * tile))
        return found.bytes - rows * parts * (128 + 2) * 4, parts
    if size := {"v2_kernel": 512, "ll4mi": 256}.get(
        next((k for k in ("v2_kernel", "ll4mi") if k in name), "")
    ):
        parts = math.ceil(context / size)
        return found.bytes - rows * parts * (128 * 2 + 8), parts
    return found.bytes, 1


@given(
    sequences=st.integers(1, 64),
    each=st.integers(1, 5000),
    tp=st.sampled_from([1, 2, 4, 8]),
    name=st.sampled_from(
        [
            *("kernel_unified_attention_2d", "kernel_unified_attention_3d", "kernel_paged_attention_2d"),
            "void vllm::paged_attention_v2_kernel<__half, __half, 128, 16, 128, 0, false, 512>(int)",
            "void paged_attention_ll4mi_QKV_mfma16_kernel<__half>(int)",
        ]
    ),
)
@example(sequences=1, each=256, tp=1, name="kernel_unified_attention_3d")
def test_attention(sequences: int, each: int, tp: int, name: str) -> None:
    served = ServedModel.load(CONFIG, tp=tp)
    context = sequences * each
    one = asked(attention.MODEL, name, served, **decode(sequences, context))
    heads, kv = served.rank_heads
    assert one.bytes >= context * kv * 128 * 4 + 2 * sequences * heads * 128 * 2
    assert one.flops == 4 * context * heads * 128
    assert one.flops / one.bytes <= heads / kv  # the limit for a cache of 2 B: 2 * heads / (kv * 2)
    more = asked(attention.MODEL, name, served, **decode(sequences, context + sequences))
    # What is read grows with the context. Partial results are as many as there are segments, and a context
    # of one token more may need fewer, longer ones (256 tokens are 16 of a tile, 257 nine of two): then all
    # bytes together may shrink.
    assert one.flops <= more.flops
    (before, parts), (after, later) = (
        read_and_segments(each, name, sequences, heads) for each in (one, more)
    )
    assert before < after
    if parts == later:
        grows(one, more)
    else:
        assert name == "kernel_unified_attention_3d" or later > parts
    whole = asked(attention.MODEL, name, ServedModel.load(CONFIG), **decode(sequences, context))
    assert whole.flops == tp * one.flops and tp * one.bytes >= whole.bytes * (1 - 1e-12)


@given(tokens=rows, tp=st.sampled_from([1, 2, 4]))
def test_kernels_with_a_workgroup_a_token(tokens: int, tp: int) -> None:
    served = ServedModel.load(CONFIG, tp=tp)

    def each(tokens: int) -> list[Estimate]:
        fused = "void vllm::fused_add_rms_norm_kernel<c10::Half, 8>(int)"
        cache = "void vllm::reshape_and_cache_flash_kernel<__half, __half, (vllm::Fp8KVCacheDataType)0>(int)"
        turned = "void vllm::rotary_embedding_kernel<c10::Half, true>(int)"
        threads = min(served.rank_heads[0] * 64, 512)
        grid, group = (tokens * threads, 1, 1), (threads, 1, 1)
        return [
            asked(rmsnorm.MODEL, fused, served, grid=(tokens * 256, 1, 1), workgroup=(256, 1, 1)),
            asked(kv_cache.MODEL, cache, served, groups=(tokens, 1, 1)),
            asked(rope.MODEL, turned, served, grid=grid, workgroup=group),
        ]

    for few, many in zip(each(tokens), each(tokens + 1), strict=True):
        grows(few, many)


@given(tokens=st.integers(1, 500), keys=st.integers(1, 500), heads=st.sampled_from([1, 2, 4]))
def test_attention_of_pytorch(tokens: int, keys: int, heads: int) -> None:
    def whole(tokens: int, keys: int) -> Estimate:
        shapes = ((2, 4, tokens, 64), (2, heads, keys, 64), (2, heads, keys, 64))
        given = tuple(Operand(dims, HALF) for dims in shapes)
        name, operator = "flash_fwd_kernel", "aten::_scaled_dot_product_flash_attention"
        return asked(DENSE, name, None, operator=operator, operands=given)

    one = whole(tokens, keys)
    assert one.bytes == 2 * 2 * 64 * (2 * 4 * tokens + 2 * heads * keys)
    grows(one, whole(tokens + 1, keys))
    grows(one, whole(tokens, keys + 1))
