"""How much of a real vLLM's kernel time has bytes and FLOPs with a basis, and what is left."""

from __future__ import annotations

from pathlib import Path

import pytest

from rocscope import pipeline


@pytest.mark.captures
@pytest.mark.parametrize(
    ("name", "config", "least"),
    [
        ("fp16_graph.kineto.json.gz", "fp16_config.json", 0.98),
        ("gptq8_graph.kineto.json.gz", "gptq8_config.json", 0.97),
    ],
)
def test_bytes_and_flops_of_nearly_all_kernel_time(
    captures: Path, name: str, config: str, least: float
) -> None:
    folder = captures / "h200_vllm"
    analysis = pipeline.analyze(folder / name, model=folder / config)
    kernels, covered = analysis.kernels, analysis.integrity
    total = sum(each.time_s or 0.0 for each in kernels)
    known = [each for each in kernels if each.bytes_per_dispatch.basis and each.flops_per_dispatch.basis]
    assert all(each.bytes_per_dispatch.value is not None for each in known)
    assert sum(each.time_s or 0.0 for each in known) / total >= least
    # a bound by the most FLOPs a byte of a kind of kernel, told by its name, is not among these
    strict, limit = covered.bound_with_bytes_time_frac, covered.bound_by_limit_time_frac
    assert strict is not None and limit is not None and covered.labelled_time_frac is not None
    assert strict >= least and limit < 0.02
    assert strict + limit + (covered.bound_by_pipes_time_frac or 0.0) == pytest.approx(
        covered.labelled_time_frac
    )
    # that one kind of kernel is left: prefill and decode in one step, whose context is in no annotation
    left = {each.kernel: (each.time_s or 0.0) / total for each in kernels if each not in known}
    print({kernel: round(share, 4) for kernel, share in left.items()})
    assert max((share for kernel, share in left.items() if "elementwise" not in kernel), default=0) < 0.012
    products = [each for each in kernels if each.family in ("gemm", "gptq_gemm", "dequant")]
    assert all(each in known and each.bound != "unknown" for each in products)


@pytest.mark.parametrize(
    ("name", "config"),
    [("kineto_strided_graph", "w4"), ("kineto_fp16_graph", "fp16"), ("kineto_strided_eager", "w4")],
)
def test_every_product_of_the_decoder_has_a_bound(examples: Path, name: str, config: str) -> None:
    folder = examples / "h200_decoder"
    found = pipeline.analyze(folder / f"{name}.json.gz", model=folder / f"{config}_config.json")
    products = [each for each in found.kernels if each.family in ("gemm", "gptq_gemm")]
    assert products and all(each.bound != "unknown" for each in products)
    assert all(each.bandwidth_frac is None or each.bandwidth_frac < 1.05 for each in products)
    if name == "kineto_strided_graph":
        strided = [each for each in products if each.kernel == "gptq_w4a16_gemv_strided_kernel"]
        assert {(each.problem_shape or {}).get("k") for each in strided} == {4096, 12288}
        assert {(each.bound, each.limiter == "memory-bandwidth") for each in strided} == {("memory", False)}
        assert found.targets[0].kernel == "gptq_w4a16_gemv_strided_kernel"


@pytest.mark.captures
@pytest.mark.parametrize(
    ("name", "config", "least"),
    [
        ("torch_traces/vllm_decode_full_graph_execution", None, 0.03),  # no grids, no config: names and steps
        ("h200/kineto_fp16_graph", "fp16", 0.44),  # the context of attention is in no recording of these
        ("h200/kineto_strided_graph", "w4", 0.63),
        ("h200/kineto_strided_eager", "w4", 0.81),
    ],
)
def test_both_shares_are_stated_where_sizes_are_not_recorded(
    captures: Path, name: str, config: str | None, least: float
) -> None:
    model = captures / "h200" / f"{config}_config.json" if config else None
    covered = pipeline.analyze(captures / f"{name}.json.gz", model=model).integrity
    strict, limit = covered.bound_with_bytes_time_frac, covered.bound_by_limit_time_frac
    assert strict is not None and limit is not None
    print(f"{name}: {strict:.1%} by bytes and FLOPs, {limit:.1%} by a limit of FLOPs a byte")
    assert strict >= least and strict + limit == pytest.approx(covered.labelled_time_frac)


@pytest.mark.captures
@pytest.mark.parametrize(
    ("name", "config", "least"),
    [("strided_graph", "w4", 0.95), ("fp16_graph", "fp16", 0.93), ("strided_eager", "w4", 0.99)],
)
def test_a_given_context_sizes_the_attention_of_the_decoder(
    captures: Path, name: str, config: str, least: float
) -> None:
    folder = captures / "h200"
    found = pipeline.analyze(
        folder / f"kineto_{name}.json.gz", model=folder / f"{config}_config.json", context=2048
    )
    strict = found.integrity.bound_with_bytes_time_frac
    assert strict is not None and strict >= least
