"""The captures of a real vLLM that the project carries: made by one command, shared, analysed anywhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from rocscope import pipeline


@pytest.mark.parametrize(("name", "bits"), [("gptq8", 8), ("gptq4", 4)])
def test_a_served_gptq_model_is_labelled_nearly_whole(examples: Path, name: str, bits: int) -> None:
    analysis = pipeline.analyze(examples / "h200_vllm_live" / f"{name}.tar.gz")
    assert analysis.capture.provenance == "recorded" and analysis.gpus[0].model == "H200"
    labelled = analysis.integrity.labelled_time_frac
    assert labelled is not None and labelled > 0.95
    fused = [k for k in analysis.kernels if k.kernel == f"gemm_half_q_half_gptq_{bits}bit_kernel"]
    shapes = {(k.problem_shape["n"], k.problem_shape["k"]) for k in fused if k.problem_shape}
    assert shapes == {(6144, 4096), (4096, 4096), (24576, 4096), (4096, 12288)}
    assert {k.problem_shape["bits"] for k in fused if k.problem_shape} == {bits}
    assert all(k.bound == "memory" for k in fused)
    assert {phase.phase for phase in analysis.phases} >= {"prefill", "decode"}
