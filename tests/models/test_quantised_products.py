"""Products of experts, GPTQ without exllama, 8-bit activations, skinny products, launches without shapes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocscope import metrics
from rocscope.models import fits, gemm, gptq, moe, quantize, reconstruct, sequence, skinny
from rocscope.models.apply import apply
from rocscope.models.model import Dispatch, Operand
from rocscope.models.served import Linear, ServedModel
from rocscope.taxonomy import classify
from synthetic_capture import SPEC, capture, row

CONFIG: dict[str, Any] = {
    "model_type": "mixtral",
    "hidden_size": 1024,
    "intermediate_size": 2048,
    "num_hidden_layers": 2,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
    "vocab_size": 32000,
    "torch_dtype": "float16",
}
GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 128}
LAYER = Linear("o_proj", 1024, 4096)


def served(**changes: Any) -> ServedModel:
    return ServedModel.load(CONFIG | changes)


def dispatch(name: str, **known: Any) -> Dispatch:
    base = Dispatch(name, "", "", "kernel", None, None, None, None, (), None, None, None)
    return replace(base, **known)


def half(*dims: int) -> Operand:
    return Operand(dims, "c10::Half")


def words(*dims: int) -> Operand:
    return Operand(dims, "int")


# --------------------------------------------------------------------------------------------- experts
def test_packed_experts_of_one_token() -> None:
    model = served(quantization_config=GPTQ)
    layer = model.layer("experts_down")
    assert layer == Linear("experts_down", 1024, 2048)
    found = moe.MODEL.estimate(dispatch("fused_moe_kernel_gptq_awq", layer=layer, layer_m=1), model)
    assert found and found.flops_unit == "matrix_fp16" and found.problem_shape
    assert found.bytes == 2 * (1024 * 2048 / 2 + 2 * 16 * 1024) + 2 * 2 * 2048 + 2 * 2 * 1024
    assert (found.problem_shape["m"], found.problem_shape["bits"]) == (2, 4)
    awq = served(quantization_config=GPTQ | {"quant_method": "awq"})
    zeros = moe.MODEL.estimate(dispatch("moe_wna16_gemm_kernel", layer=layer, layer_m=1), awq)
    assert zeros and zeros.bytes == found.bytes + 2 * 16 * 1024 / 2 and zeros.flops_unit == "vector_fp16"


@given(experts=st.integers(2, 256), share=st.floats(0.01, 1), tokens=st.integers(1, 4096))
def test_experts_touched_are_no_more_than_there_are(experts: int, share: float, tokens: int) -> None:
    chosen = max(1, int(experts * share))
    touched = moe.experts_touched(experts, chosen, tokens)
    assert chosen - 1e-6 <= touched <= min(experts, chosen * tokens) + 1e-6


@pytest.mark.parametrize(
    ("name", "model", "known"),
    [
        ("fused_moe_kernel", served(), {}),  # no place
        ("fused_moe_kernel", served(), {"layer": LAYER, "layer_m": 1}),  # not a product of experts
        ("fused_moe_kernel", served(quantization_config=GPTQ), {"layer": "experts_down", "layer_m": 1}),
        ("fused_moe_kernel_gptq_awq", served(), {"layer": "experts_down", "layer_m": 1}),
        ("fused_moe_kernel", served(torch_dtype="float32"), {"layer": "experts_down", "layer_m": 1}),
        ("moe_align_block_size_kernel", served(), {"layer": "experts_down", "layer_m": 1}),
        ("fused_moe_kernel", served(), {"layer": "experts_down"}),  # no tokens
    ],
)
def test_experts_that_are_not_certain(name: str, model: ServedModel, known: dict[str, Any]) -> None:
    if isinstance(known.get("layer"), str):
        known = known | {"layer": model.layer(known["layer"])}
    assert moe.MODEL.estimate(dispatch(name, **known), model) is None


# -------------------------------------------------------------------------------- GPTQ without exllama
def operands(m: int, n: int, k: int, bits: int, groups: int) -> tuple[Operand, ...]:
    zeros = words(groups, n * bits // 32)
    return half(m, k), words(k * bits // 32, n), zeros, half(groups, n), words(k)


def test_act_order_without_exllama_from_its_operator() -> None:
    known = {"operator": "_C::gptq_gemm", "operands": operands(5, 1024, 4096, 4, 32)}
    name = "vllm::gptq::gemm_half_q_half_alt_4bit_kernel(__half2 const*, unsigned int const*)"
    found = gptq.MODEL.estimate(dispatch(name, **known), None)
    weights = 1024 * 4096 / 2 + 32 * 1024 * 2.5
    assert found and found.bytes == weights + 2 * 5 * (4096 + 1024) + 4 * 4096
    assert found.problem_shape and found.problem_shape["m"] == 5 and found.flops_unit == "vector_fp16"
    plain = "void vllm::gptq::reconstruct_gptq_kernel<vllm::gptq::MatrixView_q4_row, 4>(unsigned int const*)"
    written = reconstruct.MODEL.estimate(dispatch(plain, **known), None)
    assert written and written.bytes == weights + 2 * 1024 * 4096 + 4 * 4096
    three = "vllm::gptq::reconstruct_gptq_3bit_kernel(unsigned int const*)"
    assert reconstruct.MODEL.estimate(dispatch(three, **known), None) is None  # the words are of 4 bits
    assert gptq.MODEL.estimate(dispatch(name), served(quantization_config=GPTQ)) is None


# ------------------------------------------------------------------------------------ 8-bit activations
def test_activations_to_eight_bit() -> None:
    out, scales = Operand((16, 512), "c10::Float8_e4m3fnuz"), Operand((16, 1), "float")
    known: dict[str, Any] = {"operator": "_C::dynamic_per_token_scaled_fp8_quant"}
    name = "void vllm::dynamic_per_token_scaled_fp8_quant_kernel_strided<c10::Half>(int)"
    made = dispatch(name, operands=(out, half(16, 512), scales), **known)
    found = quantize.MODEL.estimate(made, None)
    assert found and found.bytes == 16 * 512 * 3 + 16 * 4 and found.flops == 2 * 16 * 512
    for wrong in (
        replace(made, operator=None),
        replace(made, raw_name="void vllm::segmented_max_reduction<float>(float*)"),
        replace(made, operands=made.operands[:2]),
        replace(made, operands=(half(16, 512), *made.operands[1:])),
        replace(made, operands=(Operand((16, 256), out.dtype), *made.operands[1:])),
    ):
        assert quantize.MODEL.estimate(wrong, None) is None


# --------------------------------------------------------------------------------------- skinny, dense
@pytest.mark.parametrize(
    ("arch", "unit"), [("gfx90a", "vector_fp32"), ("gfx942", "matrix_bf16"), (None, None)]
)
def test_the_pipe_of_skinny_products_in_bfloat16(arch: str | None, unit: str | None) -> None:
    name = "void wvSplitK_hf_sml_<__hip_bfloat16, 64, 2, 16, 8, 2, 3>(int, int)"
    gpu = SPEC.model_copy(update={"arch": arch}) if arch else None
    made = dispatch(name, gpu=gpu, layer=LAYER, layer_m=3)
    found = gemm.MODEL.estimate(made, served(torch_dtype="bfloat16"))
    assert found and found.flops_unit == unit and found.flops == 2 * 3 * 1024 * 4096
    assert gemm.MODEL.estimate(made, served()) is None  # the name says another dtype than the model
    assert gemm.MODEL.estimate(replace(made, layer_m=2), served(torch_dtype="bfloat16")) is None
    assert gemm.MODEL.estimate(replace(made, raw_name="matmul_kernel"), served()) is None
    assert gemm.MODEL.estimate(replace(made, raw_name="void splitKreduce_kernel<32>()"), served()) is None


def test_the_launch_of_one_row_products_tells_columns_and_bounds_of_k() -> None:
    made = dispatch(
        "void LLGemm1_kernel<__half, 4>(float4 const*)", grid=(256 * 512, 1, 1), workgroup=(512, 1, 1)
    )
    assert skinny.ranges(made) == (range(1024, 1028), range(3585, 4097))
    assert fits.fits(made, LAYER, 1, served()) and not fits.fits(made, Linear("x", 1032, 4096), 1, served())
    assert skinny.unit(made, "fp16") == "vector_fp16" and skinny.unit(made, "bf16") is None
    assert skinny.ranges(dispatch("void LLGemm1_kernel<__half, 4>(float4 const*)")) is None


@pytest.mark.parametrize(
    ("name", "groups", "fit"),
    [
        ("Cijk_Alik_Bljk_HHS_BH_MT128x16x32_SN_GSU2", 16, True),
        ("Cijk_Alik_Bljk_HHS_BH_MT128x16x32_SN_GSU2", 8, False),
        ("Cijk_Alik_Bljk_HHS_BH_UserArgs_MT128x16x32_SN_GSU0", 24, True),  # split as it was called
        ("Cijk_Alik_Bljk_HHS_BH_MT128x16x32_SN_SK3", 120, True),  # stream-K: a workgroup a CU
        ("nvjet_sm90_hsh_128x8_64x12_4x1_v_bz_TNT", 8, True),
        ("nvjet_sm90_hsh_128x8_64x12_4x1_v_bz_TNT", 600, False),
        ("nvjet_sm90_hsh_128x8_64x12_4x1_v_bz_splitK_TNT", 24, True),
        ("void rocblas_gemvn_kernel<64, 4>(int)", 77, True),
    ],
)
def test_tiles_against_the_launch(name: str, groups: int, fit: bool) -> None:
    made = dispatch(name, grid=(groups * 256, 1, 1), workgroup=(256, 1, 1))
    assert fits.fits(made, LAYER, 3, served()) == fit


# ----------------------------------------------------------------------------------- no launch shapes
@pytest.mark.parametrize("m", [1, 7, 8])
def test_a_graph_replay_without_grids_has_the_rows_of_its_names(m: int) -> None:
    fused = f"void vllm::gptq::gemm_half_q_half_gptq_4bit_kernel<true, {m}>(__half const*)"
    model = served(model_type="llama", num_local_experts=None, quantization_config=GPTQ)
    layer = [fused, "kernel_unified_attention_2d", fused, fused, "act_and_mul_kernel", fused]
    names = [*layer * 2, "void LLGemm1_kernel<__half, 4>(float4 const*)"] * 2
    empty: dict[str, Any] = {f"{what}_{axis}": None for what in ("grid", "workgroup") for axis in "xyz"}
    made = capture([row(name, 10 * at, 9, **empty) for at, name in enumerate(names)])
    classes = classify(metrics.kernel_names(made))
    placed = sequence.place(metrics.timing(made).rows, classes, model)
    assert placed is not None
    found = apply(metrics.group(made, classes, placed), {}, model)
    products = found[found.family == "gptq_gemm"]
    assert set(products.layer) == {"qkv_proj", "o_proj", "gate_up_proj", "down_proj"}
    assert products.bytes.notna().all() == (m < 8)  # multiples of eight rows: how many is in no name
    if m < 8:
        assert {shape["m"] for shape in products.problem_shape} == {m}
    assert found.bytes[found.family == "gemm"].notna().all()  # the head: one row by its kernel
