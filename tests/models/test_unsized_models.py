"""Limits of FLOPs a byte where sizes are not recorded, and how far real recordings get a bound."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rocscope import pipeline
from rocscope.config import AnalyzeOptions
from rocscope.models.model import Dispatch, Estimate
from rocscope.models.registry import shape_models
from rocscope.taxonomy import classify

EXPERTS = "_matmul_ogs_NNT_bf16xbf16xmxfp4_16x128x256x1_swiglu"
TENSILE = "Cijk_Alik_Bljk_BBS_BH_Bias_HA_S_SAV_UserArgs_MT32x32x256_MI16x16x1_SN"
CK = "_ZN7ck_tile6kentryILi1ENS_12Rmsnorm2dFwdINS_27Rmsnorm2dFwdPipelineProblemI{}DF16bfEEEEvDp"
REDUCE = "void at::native::reduce_kernel<512, 1, at::native::ReduceOp"
SOFTMAX = "void at::native::(anonymous namespace)::cunn_SoftMaxForward<4, {}, at::native::Epilogue>(float*)"
STEP: dict[str, Any] = {
    "step_tokens": 30.0,
    "step_rows_limit": 32.0,
    "step_phase": "decode",
    "step_context_source": "the test",
}


def estimate(name: str, **step: Any) -> Estimate | None:
    family = classify([name]).family[0]
    given = Dispatch(
        raw_name=name,
        family=family,
        subfamily="",
        kind="kernel",
        grid=None,
        grid_items=None,
        workgroup=None,
        operator=None,
        operands=(),
        copied_bytes=None,
        lds_bytes=None,
        gpu=None,
        **step,
    )
    answers = (model.estimate(given, None) for model in shape_models() if family in model.families)
    return next((answer for answer in answers if answer is not None), None)


@pytest.mark.parametrize(
    ("name", "limit", "unit"),
    [
        (EXPERTS, 2 * 32 / (4.25 / 8), "matrix_bf16"),
        (EXPERTS.replace("xmxfp4", "xbf16"), 32, "matrix_bf16"),
        (TENSILE, 32, "matrix_bf16"),
        (TENSILE.replace("BBS_BH", "HHS_BH"), 32, "matrix_fp16"),
        (TENSILE.replace("_MI16x16x1", ""), None, None),  # not on matrix pipes: which unit is not told
        (TENSILE.replace("BBS_BH", "SB"), None, None),
        (EXPERTS.replace("xmxfp4", "xint3"), None, None),
    ],
)
def test_a_weight_serves_no_more_rows_than_the_step_has(name: str, limit: float | None, unit: str | None):
    found = estimate(name, **STEP)
    assert ((found.intensity_limit, found.flops_unit) if found else (None, None)) == (limit, unit)


@pytest.mark.parametrize(
    "step", [{}, {"step_phase": "mixed"}, {"step_phase": None}, {"step_rows_limit": None}]
)
def test_without_a_decode_step_products_have_no_limit(step: dict[str, Any]):
    known = STEP | step if step else {}
    assert estimate(EXPERTS, **known) is None
    assert estimate(TENSILE, **known) is None


@pytest.mark.parametrize(
    ("name", "limit"),
    [
        ("void vllm::rms_norm_kernel<c10::Half, 8, 2, true>(int)", 1.0),
        ("void vllm::fused_add_rms_norm_kernel<c10::BFloat16, 8, true>(int)", 5 / 8),
        ("void vllm::rotary_embedding_kernel<float, true>(int)", 3 / 8),
        ("void vllm::act_and_mul_kernel<c10::BFloat16, true>(int)", 5 / 6),
        ("void vllm::reshape_and_cache_flash_kernel<__half, __half, 0>(int)", 0),
        (SOFTMAX.format("float, float, float"), 5 / 8),
        (SOFTMAX.format("c10::Half, float, float"), 5 / 6),
        (SOFTMAX.format("mystery, float, float"), None),
        (REDUCE + "<float, at::native::ArgMaxOps<float>, int> >(int)", 0.5),
        (REDUCE + "<c10::Half, at::native::MeanOps<float> > >(int)", 1),
        (REDUCE + "<float, at::native::WelfordOps<float> > >(int)", None),
        ("__amd_rocclr_fillBufferAligned", 0),
        ("__amd_rocclr_copyBuffer", None),  # maybe over a link
        (CK.format("DF16b"), 1.25),
        (CK.format("f"), None),
        ("triton_poi_fused__to_copy_1", 0),
        ("triton_poi_fused_constant_pad_nd_0", 0),
        ("triton_poi_fused__to_copy_mul_1", None),
        ("void vllm::rotary_embedding_kernel<mystery, true>(int)", None),
    ],
)
def test_layers_have_a_limit_by_their_name(name: str, limit: float | None):
    found = estimate(name)
    assert (found.intensity_limit if found else None) == limit
    assert found is None or (found.bytes is None and found.flops is None)


@pytest.mark.captures
@pytest.mark.parametrize(
    ("recording", "config", "sized", "bound"),
    [  # least shares of kernel time: with bytes and FLOPs of known basis, with a bound
        ("h200_vllm/gptq8_graph.kineto.json.gz", "h200_vllm/gptq8_config.json", 0.97, 0.98),
        ("h200/kineto_strided_graph.json.gz", "h200/w4_config.json", 0.63, 0.99),
        ("h200/kineto_fp16_graph.json.gz", "h200/fp16_config.json", 0.44, 0.99),
        ("h200/kineto_strided_eager.json.gz", "h200/w4_config.json", 0.81, 0.99),
        ("torch_traces/vllm_decode_full_graph_execution.json.gz", None, 0.03, 0.85),
    ],
)
def test_shares_of_kernel_time_that_are_known(
    captures: Path, recording: str, config: str | None, sized: float, bound: float
):
    options = AnalyzeOptions(model=str(captures / config) if config else None)
    analysis = pipeline.analyze_capture(pipeline.load(captures / recording), options)
    total = sum(kernel.time_s or 0 for kernel in analysis.kernels)
    known = sum(
        kernel.time_s or 0
        for kernel in analysis.kernels
        if kernel.bytes_per_dispatch.basis and kernel.flops_per_dispatch.basis
    )
    labelled = sum(k.time_s or 0 for k in analysis.kernels if k.bound != "unknown")
    assert known >= sized * total
    assert labelled >= bound * total
    assert "above-ceiling" not in {warned.code for warned in analysis.integrity.warnings}
