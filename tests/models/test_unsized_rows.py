"""Packed and skinny products of layers that are not known: their names and launches tell rows and bits."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocscope.models.model import Dispatch, Estimate
from rocscope.models.registry import shape_models
from rocscope.models.served import ServedModel
from rocscope.models.shapes import packed_gemm_bytes
from rocscope.taxonomy import classify

FUSED = "void vllm::gptq::gemm_half_q_half_gptq_{}bit_kernel<true, {}>(__half const*)"
RECONSTRUCT = "void vllm::gptq::reconstruct_gptq_kernel<vllm::gptq::MatrixView_q4_row, 4>(int)"
ALTERNATIVE = "vllm::gptq::gemm_half_q_half_alt_{}bit_kernel(__half2 const*)"
HYBRID = {  # a kind of model whose layers are not all known: linear attention beside full attention
    "model_type": "qwen3_next",
    "hidden_size": 5120,
    "intermediate_size": 17408,
    "num_hidden_layers": 64,
    "num_attention_heads": 24,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "torch_dtype": "float16",
    "quantization_config": {"quant_method": "gptq", "bits": 8, "group_size": 128},
}
STEP: dict[str, Any] = {
    "step_tokens": 30.0,
    "step_rows_limit": 32.0,
    "step_phase": "decode",
    "step_context_source": "the test",
}


def estimate(
    name: str, groups: tuple[int, int, int] | None = None, threads: int = 128, **step: Any
) -> Estimate | None:
    family = classify([name]).family[0]
    given = Dispatch(
        raw_name=name,
        family=family,
        subfamily="",
        kind="kernel",
        grid=(groups[0] * threads, groups[1], groups[2]) if groups else None,
        grid_items=None,
        workgroup=(threads, 1, 1) if groups else None,
        operator=None,
        operands=(),
        copied_bytes=None,
        lds_bytes=None,
        gpu=None,
        **step,
    )
    models = [model for model in shape_models() if family in model.families]
    answers = (model.estimate(given, ServedModel.load(HYBRID, tp=4)) for model in models)
    return next((answer for answer in answers if answer is not None), None)


@pytest.mark.parametrize(
    ("name", "groups", "limit", "unit"),
    [
        (FUSED.format(8, 1), (7, 1, 40), 2, "vector_fp16"),  # qkv of the field notes
        (FUSED.format(8, 1), None, 2, "vector_fp16"),  # as in graph replays on ROCm
        (FUSED.format(4, 8), (7, 3, 40), 2 * 24 * 2, "vector_fp16"),
        (FUSED.format(3, 2), (7, 1, 40), 2 * 2 * 8 / 3, "vector_fp16"),
        (FUSED.format(8, 8), None, None, None),  # how many times eight rows is not told
        (FUSED.format(8, 9), (7, 1, 40), None, None),
        (ALTERNATIVE.format(4), None, 2 * 8 * 2, "vector_fp16"),  # called for eight rows at most
        ("vllm::gptq::reconstruct_exllama_8bit_kernel(unsigned int const*)", None, 2 / 3, "vector_fp16"),
        (RECONSTRUCT, None, 0.8, "vector_fp16"),
        ("awq_dequantize_kernel", None, 0.8, "vector_fp16"),
        ("void LLGemm1_kernel<__half, 4>(__half const*)", None, 1, "vector_fp16"),
        ("void LLGemm1_kernel<c10::BFloat16, 4>(int)", None, 1, None),
        ("void wvSplitK_hf_sml_<__half, 64, 2, 16, 8, 2, 4>(int)", None, 4, "vector_fp16"),
        ("void wvSplitK_hf_sml_<__half, 64, 2", None, None, None),  # cut off
    ],
)  # fmt: skip
def test_rows_and_bits_limit_the_intensity(name: str, groups: Any, limit: float | None, unit: str | None):
    found = estimate(name, groups)
    assert ((found.intensity_limit, found.flops_unit) if found else (None, None)) == (
        None if limit is None else pytest.approx(limit),
        unit,
    )
    assert found is None or (found.bytes is None and found.flops is None and found.source)


@pytest.mark.parametrize(
    ("name", "limit", "unit"),
    [
        (FUSED.format(4, 8), 2 * 32 * 2, "vector_fp16"),
        ("awq_gemm_kernel", 2 * 32 * 2, None),  # activations of 16 bit, which is not told
        ("triton_w4a16_gemm_kernel", 2 * 32 * 2, None),
        ("nvjet_sm90_hsh_256x8_64x6_4x1_v_bz_TNT", 32, "matrix_fp16"),
    ],
)
def test_a_decode_step_limits_the_rows(name: str, limit: float, unit: str | None):
    found = estimate(name, **STEP)
    assert found and (found.intensity_limit, found.flops_unit) == (limit, unit)
    assert estimate(name, **STEP | {"step_phase": "prefill"}) is None


@given(
    m=st.integers(1, 50),
    n=st.integers(1, 4096).map(lambda x: 8 * x),
    k=st.integers(1, 512).map(lambda x: 32 * x),
    bits=st.sampled_from([2, 3, 4, 8]),
)
def test_no_product_does_more_a_byte_than_its_limit(m: int, n: int, k: int, bits: int):
    rows, count = (8, m // 8) if m >= 8 else (m, 1)
    found = estimate(FUSED.format(bits, rows), (-(-n // 512), count, -(-k // 128)))
    assert found and found.intensity_limit
    size = packed_gemm_bytes(rows * count, n, k, bits, groups=-(-k // 128))
    assert 2 * rows * count * n * k / size <= found.intensity_limit


LLAMA = "void mul_mat_vec_q<(ggml_type){}, {}, false, false>(void const*, void const*, int const*)"
VLLM = "void mul_mat_vec_q<__half, 32, 4, block_q4_0, 2, &vec_dot_q4_0_q8_1>(void const*)"


@pytest.mark.parametrize(
    ("name", "groups", "limit"),
    [
        (LLAMA.format(12, 1), (8192, 1, 1), 16 / 4.5),  # q4_K
        (LLAMA.format(14, 4), (8192, 1, 1), 4 * 16 / 6.5625),
        (LLAMA.format(8, 1), (8192, 1, 1), 16 / 8.5),
        (LLAMA.format(12, 1), (8192, 4, 1), None),  # a matrix for several channels
        (LLAMA.format(12, 1), (8192, 1, 4), None),
        (LLAMA.format(12, 1), None, None),  # as in rocprof v1, where only products are known
        (LLAMA.format(99, 1), (8192, 1, 1), None),
        (VLLM, (4096, 1, 1), 16 / 4.5),
        (VLLM, (4096, 5, 1), 5 * 16 / 4.5),
        (VLLM.replace("q4_0, 2", "tq9, 2"), (4096, 1, 1), None),
        ("void mul_mat_q<(ggml_type)12, 64, false>(char const*)", (8, 1, 1), None),
    ],
)
def test_packed_blocks_limit_the_intensity(name: str, groups: Any, limit: float | None):
    found = estimate(name, groups, threads=32)
    assert (found and found.intensity_limit) == (limit and pytest.approx(limit))
