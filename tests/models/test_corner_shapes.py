"""Corners of the shape models where figures go wrong: ranks, zero points, windows, units."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocscope.models import gemm, gptq, moe, reconstruct, rmsnorm, w4a16
from rocscope.models.attention import MODEL as ATTENTION
from rocscope.models.attention import cached_element_bytes
from rocscope.models.model import Dispatch, Operand
from rocscope.models.served import Linear, ServedModel
from rocscope.models.served_attention import whole_experts

CONFIG: dict[str, Any] = {
    "model_type": "qwen3",
    "hidden_size": 4096,
    "intermediate_size": 12288,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 151936,
    "torch_dtype": "float16",
}
GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 128, "sym": True}
HALF, INT = "c10::Half", "int"


def served(tp: int = 1, **changes: Any) -> ServedModel:
    return ServedModel.load(CONFIG | changes, tp=tp)


def dispatch(
    name: str, groups: tuple[int, int, int] | None = None, threads: int = 128, **known: Any
) -> Dispatch:
    base = Dispatch(name, "", "", "kernel", None, None, None, None, (), None, None, None)
    if groups:
        grid = (groups[0] * threads, groups[1], groups[2])
        base = replace(base, grid=grid, workgroup=(threads, 1, 1))
    return replace(base, **known)


# ------------------------------------------------------------------------------------------ skinny products
@pytest.mark.parametrize(
    ("name", "operator", "unit"),
    [
        ("void LLGemm1_kernel<__half, 4>(int)", "_rocm_C::LLMM1", "vector_fp16"),
        ("void wvSplitK_hf_sml_<__half, 64, 2, 16, 8, 2, 1>(int)", "_rocm_C::wvSplitK", "vector_fp16"),
    ],
)
def test_skinny_products_by_their_operator(name: str, operator: str, unit: str) -> None:
    """The weights [N, K] come first, then the activations [M, K]."""
    given = (Operand((151936, 4096), HALF), Operand((1, 4096), HALF))
    found = gemm.MODEL.estimate(dispatch(name, operator=operator, operands=given), None)
    assert found and found.problem_shape and found.flops_unit == unit
    assert (found.problem_shape["m"], found.problem_shape["n"], found.problem_shape["k"]) == (1, 151936, 4096)
    assert found.bytes == 2 * (151936 * 4096 + 4096 + 151936)
    two = (given[0], Operand((2, 4096), HALF))
    assert (
        gemm.MODEL.estimate(dispatch(name, operator=operator, operands=two), None) is None
    )  # the name: one row


def test_who_told_the_rows_is_said() -> None:
    each = dispatch("void LLGemm1_kernel<__half, 4>(int)", layer=Linear("lm_head", 151936, 4096))
    found = gemm.MODEL.estimate(each, served())
    assert found and found.source.startswith("M=1 by the kernel's name, N=151936")
    blas = dispatch("nvjet_sm90_hsh_64x8_64x16_4x1_v_bz_TNT", layer=Linear("o_proj", 4096, 4096), layer_m=2)
    found = gemm.MODEL.estimate(blas, served())
    assert found and found.source.startswith("M=2 by the step's other launches, N=4096")


# ---------------------------------------------------------------------------- act-order over several ranks
def test_rows_split_over_ranks_keep_all_scales_with_act_order() -> None:
    """vLLM keeps the scales of all of K on each rank, as any group may be asked for, and leaves exllama."""
    ordered = GPTQ | {"desc_act": True}
    layer = Linear("down_proj", 4096, 3072)
    found = gptq.MODEL.estimate(
        dispatch("gemm_half_q_half_alt_4bit_kernel", layer=layer, layer_m=2),
        served(4, quantization_config=ordered),
    )
    assert found and found.problem_shape
    groups = 12288 // 128
    packed = 4096 * 3072 / 2 + groups * 4096 * 2.5
    assert found.bytes == packed + 2 * 2 * (3072 + 4096) + 4 * 3072
    written = reconstruct.MODEL.estimate(
        dispatch("void reconstruct_gptq_kernel<vllm::gptq::MatrixView_q4_row, 4>(int)", layer=layer),
        served(4, quantization_config=ordered),
    )
    assert written and written.bytes == packed + 2 * 4096 * 3072 + 4 * 3072
    column = Linear("gate_up_proj", 6144, 4096)  # K is whole: its scales too
    whole = gptq.MODEL.estimate(
        dispatch("gemm_half_q_half_alt_4bit_kernel", layer=column, layer_m=2),
        served(4, quantization_config=ordered),
    )
    assert whole and whole.bytes == 6144 * 4096 / 2 + 32 * 6144 * 2.5 + 4 * (4096 + 6144) + 4 * 4096


def test_without_exllama_the_order_is_always_read() -> None:
    layer = Linear("o_proj", 4096, 4096)
    found = gptq.MODEL.estimate(
        dispatch("gemm_half_q_half_alt_4bit_kernel", layer=layer, layer_m=1), served(quantization_config=GPTQ)
    )
    assert found and found.bytes == 4096 * 4096 / 2 + 32 * 4096 * 2.5 + 4 * 4096 + 4 * 4096


# ------------------------------------------------------------------------------------------- zero points
@pytest.mark.parametrize(
    ("config", "zeros"),
    [
        (GPTQ, 0),
        (GPTQ | {"sym": False}, 4),
        ({k: v for k, v in GPTQ.items() if k != "sym"}, 0),  # not told: the least there can be
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, 4),
        ({"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": False}, 0),
        (
            {"quant_method": "compressed-tensors", "config_groups": {
                "0": {"weights": {"num_bits": 4, "group_size": 128, "symmetric": False}}}},
            4,
        ),
        (
            {"quant_method": "compressed-tensors", "config_groups": {
                "0": {"weights": {"num_bits": 4, "group_size": 128, "symmetric": True}}}},
            0,
        ),
    ],
)  # fmt: skip
def test_symmetric_weights_have_no_zero_points_in_triton(config: dict[str, Any], zeros: int) -> None:
    layer = Linear("o_proj", 4096, 4096)
    each = dispatch("triton_w4a16_gemm_kernel", (1, 64, 1), 256, layer=layer, layer_m=1)
    found = w4a16.MODEL.estimate(each, served(quantization_config=config))
    assert found and found.bytes == 4096 * 4096 / 2 + 32 * 4096 * (2 + zeros / 8) + 4 * 4096


def test_one_group_for_all_of_k_is_said_as_k() -> None:
    layer = Linear("o_proj", 4096, 4096)
    each = dispatch("triton_w4a16_gemm_kernel", (1, 64, 1), 256, layer=layer, layer_m=1)
    found = w4a16.MODEL.estimate(each, served(quantization_config=GPTQ | {"group_size": -1}))
    assert found and found.problem_shape and found.problem_shape["group_size"] == 4096


def test_layers_quantised_each_in_its_own_way_are_not_taken_for_one() -> None:
    mixed = served(quantization_config=GPTQ | {"dynamic": {r"+:.*down_proj.*": {"bits": 8}}}).quantization
    assert mixed and (mixed.bits, mixed.groups(4096)) == (None, None)


# ------------------------------------------------------------------------------------------------ experts
EXPERTS = {
    "model_type": "qwen3_moe",
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "moe_intermediate_size": 768,
}


def test_experts_that_ranks_do_not_divide_are_unknown() -> None:
    assert served(2, **EXPERTS).layer("experts_down") == Linear("experts_down", 4096, 384)
    assert served(32, **EXPERTS | {"moe_intermediate_size": 1000}).layer("experts_down") is None


def test_whole_experts_on_each_rank_are_unknown() -> None:
    """Expert parallelism: which experts a rank holds, and for how many tokens, is not told."""
    model = replace(served(2, **EXPERTS), expert_parallel=True)
    assert model.layer("experts_gate_up") is None
    assert model.layer("router") == Linear("router", 128, 4096)
    assert whole_experts(["vllm", "serve", "m", "--enable-expert-parallel"]) and not whole_experts(["vllm"])


def test_the_expectation_of_experts_is_no_upper_bound_in_words() -> None:
    layer = Linear("experts_down", 4096, 768)
    found = moe.MODEL.estimate(dispatch("fused_moe_kernel", layer=layer, layer_m=4), served(**EXPERTS))
    assert found and "at most" not in found.source and "even" in found.source


# ---------------------------------------------------------------------------------------------- attention
def decode(sequences: float, context: float | None, tokens: float | None = None) -> dict[str, Any]:
    return {
        "step_tokens": tokens or sequences,
        "step_sequences": sequences,
        "step_context_tokens": context,
        "step_attended_pairs": context,
        "step_phase": "decode",
        "step_context_source": "the test",
    }


MIXED = {"sliding_window": 1024, "layer_types": ["sliding_attention", "full_attention"] * 18}
LIMIT = 2 * 32 / (8 * 2)  # heads that share a key-value head, by bytes of an element


def test_windows_of_some_layers_may_choose_the_kernel() -> None:
    """A recorded MI300X ran the 2D form for its layers with a window and the 3D form for the others."""
    model = served(**MIXED)
    for name in ("kernel_unified_attention_2d", "kernel_unified_attention_3d"):
        found = ATTENTION.estimate(dispatch(name, **decode(1, 4000)), model)
        assert found and (found.bytes, found.intensity_limit) == (None, LIMIT)
    merged = ATTENTION.estimate(dispatch("kernel_unified_attention", **decode(1, 4000)), model)
    assert merged and merged.bytes == 2512 * 8 * 128 * 4 + 4 * 4096


def test_a_decode_step_of_unknown_context_has_a_limit() -> None:
    one = ATTENTION.estimate(dispatch("kernel_unified_attention", **decode(4, None)), served())
    assert one and (one.bytes, one.intensity_limit) == (None, LIMIT)
    several = dispatch("kernel_unified_attention", **decode(4, None, tokens=8))  # drafts: rows share a read
    assert ATTENTION.estimate(several, served()) is None


@pytest.mark.parametrize(
    ("groups", "rows"),
    [((1, 8, 16), 3), ((4, 8, 1), 15), ((76, 8, 1), 303), ((4, 4, 1), None)],  # the last is of another model
)
def test_a_small_launch_limits_attention_without_a_step(
    groups: tuple[int, int, int], rows: int | None
) -> None:
    """The grid is tokens // 4 + sequences, with four heads on a key-value head: no more tokens fit."""
    found = ATTENTION.estimate(dispatch("kernel_unified_attention_2d", groups), served())
    assert (found and found.intensity_limit) == (rows and rows * LIMIT)
    assert found is None or (found.bytes is None and f"at most {rows} new tokens" in found.source)


def test_partial_results_of_paged_attention_v2() -> None:
    name = "void vllm::paged_attention_v2_{}kernel<__half, __half, 128, 16, 128, 0, false, 512>(float*)"
    main = ATTENTION.estimate(dispatch(name.format(""), **decode(2, 1200)), served())
    after = ATTENTION.estimate(dispatch(name.format("reduce_"), **decode(2, 1200)), served())
    parts = 2 * 32 * 2 * (128 * 2 + 8)
    assert main and main.bytes == 1200 * 8 * 128 * 4 + 2 * 2 * 8192 + parts
    assert after and after.bytes == parts + 2 * 8192
    first = ATTENTION.estimate(dispatch(name.replace("v2_{}", "v1_"), **decode(2, 1200)), served())
    assert first and first.bytes == 1200 * 8 * 128 * 4 + 2 * 2 * 8192


def test_the_kernels_word_on_the_cache_comes_first() -> None:
    eight_bits = served(quantization_config={"quant_method": "fp8", "kv_cache_scheme": {"num_bits": 8}})
    for text, size in (("(vllm::Fp8KVCacheDataType)0", 2), ("(vllm::Fp8KVCacheDataType)1", 1), ("int", 1)):
        each = dispatch(f"void vllm::reshape_and_cache_flash_kernel<__half, __half, {text}>(int)")
        assert cached_element_bytes(each, eight_bits, 2) == size


@pytest.mark.parametrize("model_type", ["llama", "granite", "internlm3"])
def test_a_window_of_a_model_that_has_no_switch_for_it_is_not_guessed(model_type: str) -> None:
    assert served(model_type=model_type, sliding_window=1024).sliding_layers is None
    assert served(sliding_window=1024).sliding_layers == 0  # qwen3: off by default


# -------------------------------------------------------------------------------------------------- words
def test_one_row_is_no_rows() -> None:
    each = dispatch("void vllm::rms_norm_kernel<c10::Half, 8, 2, true>(int)", (1, 1, 1), 512)
    found = rmsnorm.MODEL.estimate(each, served())
    assert found and found.source.startswith("1 row of 4096")


# -------------------------------------------------------------------------------------------- invariants
@given(
    tp=st.sampled_from([1, 2, 4, 8]),
    kv=st.sampled_from([1, 2, 4, 8]),
    vocabulary=st.integers(1000, 200_000),
    layer=st.sampled_from(["qkv_proj", "o_proj", "gate_up_proj", "down_proj"]),
)
def test_ranks_together_hold_the_whole(tp: int, kv: int, vocabulary: int, layer: str) -> None:
    """Slices sum to the layer, but for key-value heads that are repeated and for the padded vocabulary."""
    whole, part = served(1, num_key_value_heads=kv), served(tp, num_key_value_heads=kv)
    wanted, slice_ = whole.layer(layer), part.layer(layer)
    assert wanted and slice_
    repeated = 2 * 128 * (max(tp, kv) - kv) if layer == "qkv_proj" else 0
    split_n = layer in ("qkv_proj", "gate_up_proj")
    assert slice_.n * (tp if split_n else 1) == wanted.n + repeated
    assert slice_.k * (1 if split_n else tp) == wanted.k
    head = served(tp, vocab_size=vocabulary).lm_head
    assert head and vocabulary <= head.n * tp < vocabulary + 64
    assert part.rank_heads == (32 // tp, max(kv // tp, 1))


@given(
    m=st.integers(1, 7),
    layer=st.sampled_from(["qkv_proj", "o_proj", "gate_up_proj", "down_proj"]),
    bits=st.sampled_from([2, 3, 4, 8]),
    group=st.sampled_from([32, 64, 128, -1]),
)
def test_a_product_moves_at_least_its_weights_and_more_with_every_row(
    m: int, layer: str, bits: int, group: int
) -> None:
    model = served(quantization_config=GPTQ | {"bits": bits, "group_size": group})
    each = model.layer(layer)
    assert each
    name = f"void vllm::gptq::gemm_half_q_half_gptq_{bits}bit_kernel<true, {{}}>(int)"
    launch = (-(-each.n // 512), 1, -(-each.k // 128))
    one, more = (gptq.MODEL.estimate(dispatch(name.format(x), launch), model) for x in (m, m + 1))
    assert one and more and one.bytes and more.bytes
    assert one.flops == 2 * m * each.n * each.k
    assert one.bytes >= each.n * each.k * bits / 8
    assert more.bytes - one.bytes == 2 * (each.n + each.k)


# ---------------------------------------------------------------------------------------- Tensile's helpers
@pytest.mark.parametrize(
    "name",
    [
        "Cijk_B_GA",
        "Cijk_H_GB",
        "Cijk_HB",
        "Cijk_BBS_BH_GA",
        "Cijk_I8_GG_GA",
        "Cijk_D_GA",
        "Cijk_SB_PostGSU4_VW2",
    ],
)
def test_what_clears_or_adds_up_for_a_product_is_not_the_product(name: str) -> None:
    """Tensile clears the output of a split product, or scales it, by a kernel without a tile in its name."""
    given = (Operand((512, 4096), HALF), Operand((4096, 4096), HALF))
    assert gemm.MODEL.estimate(dispatch(name, operator="aten::mm", operands=given), None) is None
    product = "Cijk_Alik_Bljk_HHS_BH_MT64x64x32_MI16x16x16x1_SN_GSU4"
    assert gemm.MODEL.estimate(dispatch(product, operator="aten::mm", operands=given), None)
