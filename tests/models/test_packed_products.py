"""GPTQ and W4A16 products: shapes out of launches, and what must stay unknown."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from rocscope.models import gptq, reconstruct, w4a16
from rocscope.models.model import Dispatch, Estimate, Operand
from rocscope.models.served import ServedModel

CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "torch_dtype": "float16",
    "quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 128},
}
FUSED = "void vllm::gptq::gemm_half_q_half_gptq_{}bit_kernel<true, {}>(__half const*)"
RECONSTRUCT = "vllm::gptq::reconstruct_exllama_{}bit_kernel(unsigned int const*)"


def served(**changes: Any) -> ServedModel:
    return ServedModel.load(CONFIG | changes)


def quantised(**changes: Any) -> ServedModel:
    return served(quantization_config={**CONFIG["quantization_config"], **changes})


def dispatch(
    name: str,
    groups: tuple[int, int, int] | None,
    threads: int = 128,
    operator: str | None = None,
    operands: tuple[Operand, ...] = (),
) -> Dispatch:
    grid = (groups[0] * threads, groups[1], groups[2]) if groups else None
    return Dispatch(
        raw_name=name,
        family="gptq_gemm",
        subfamily="",
        kind="kernel",
        grid=grid,
        grid_items=None,
        workgroup=(threads, 1, 1),
        operator=operator,
        operands=operands,
        copied_bytes=None,
        lds_bytes=None,
        gpu=None,
    )


def fused_launch(m: int, n: int, k: int, bits: int, threads: int = 128) -> list[Dispatch]:
    """Launch as vLLM does: multiples of 8 rows, then the remainder."""
    counts = [(8, m // 8)] if m >= 8 else []
    counts += [(m % 8, 1)] if m % 8 else []
    return [
        dispatch(FUSED.format(bits, rows), (-(-n // (4 * threads)), blocks, -(-k // threads)), threads)
        for rows, blocks in counts
    ]


def estimate(each: Dispatch, model: ServedModel | None) -> Estimate | None:
    return gptq.MODEL.estimate(each, model)


@given(
    m=st.integers(1, 50),
    threads=st.sampled_from([128, 256]),
    bits=st.sampled_from([4, 8]),
    group_size=st.sampled_from([32, 128, -1]),
    layer=st.sampled_from(["qkv_proj", "o_proj", "gate_up_proj", "down_proj"]),
)
def test_the_launch_gives_the_shape_back(
    m: int, threads: int, bits: int, group_size: int, layer: str
) -> None:
    model = quantised(bits=bits, group_size=group_size)
    wanted = next(each for each in model.linears if each.name == layer)
    found = [estimate(each, model) for each in fused_launch(m, wanted.n, wanted.k, bits, threads)]
    shapes = [each.problem_shape for each in found if each and each.problem_shape]
    assert len(shapes) == len(found)
    assert sum(shape["m"] for shape in shapes) == m
    groups = wanted.k // group_size if group_size > 0 else 1
    for each, shape in zip(found, shapes, strict=True):
        assert each is not None
        assert (shape["n"], shape["k"], shape["bits"]) == (wanted.n, wanted.k, bits)
        assert shape["group_size"] == (group_size if group_size > 0 else wanted.k)
        assert each.flops == 2 * shape["m"] * wanted.n * wanted.k
        weights = wanted.k * wanted.n * bits / 8
        scales = groups * wanted.n * (2 + bits / 8)
        assert each.bytes == weights + scales + 2 * shape["m"] * (wanted.k + wanted.n)
        assert each.flops_unit == "vector_fp16"


def test_the_example_of_the_facts() -> None:
    """M=1, N=K=4096, 4 bit in groups of 128: 8,732,672 bytes, 33.6 MFLOP."""
    found = estimate(fused_launch(1, 4096, 4096, 4)[0], served())
    assert found is not None
    assert (found.bytes, found.flops) == (8_732_672, 33_554_432)


def test_act_order_costs_the_permutation() -> None:
    each = fused_launch(1, 4096, 4096, 4)[0]
    plain, ordered = estimate(each, served()), estimate(each, quantised(desc_act=True))
    assert plain is not None
    assert ordered is not None
    assert (ordered.bytes or 0) - (plain.bytes or 0) == 4 * 4096


@given(st.integers(1, 20_000), st.integers(1, 20_000))
def test_a_launch_that_fits_no_layer_or_two_stays_unknown(n: int, k: int) -> None:
    model = served()
    each = fused_launch(1, n, k, 4)[0]
    fits = {
        (x.n, x.k) for x in model.linears if -(-x.n // 512) == -(-n // 512) and -(-x.k // 128) == -(-k // 128)
    }
    assume(len(fits) != 1)
    assert estimate(each, model) is None


def test_two_layers_in_one_block_stay_unknown() -> None:
    model = served(num_attention_heads=32, num_key_value_heads=1, head_dim=60)
    assert {each.n for each in model.linears} >= {32 * 60 + 120, 32 * 60}  # 2040 and 1920: one block of 512
    assert estimate(fused_launch(1, 2040, 4096, 4)[0], model) is None


@pytest.mark.parametrize(
    "each",
    [
        dispatch("vllm::gptq::gemm_half_q_half_gptq_4bit_kernel(int)", (8, 1, 32)),  # template cut off
        dispatch(FUSED.format(4, 9), (8, 1, 32)),
        dispatch(FUSED.format(4, 0), (8, 1, 32)),
        dispatch(FUSED.format(4, 1), None),
        dispatch(FUSED.format(4, 1), (8, 1, 32), threads=64),
        dispatch(FUSED.format(8, 1), (8, 1, 32)),  # the served model has 4 bit
        dispatch("void gemm_half_q_half_alt_4bit_kernel<true, 1>(int)", (8, 1, 32)),
    ],
)
def test_fused_launches_that_do_not_tell(each: Dispatch) -> None:
    assert estimate(each, served()) is None


def test_without_or_with_another_kind_of_model() -> None:
    each = fused_launch(1, 4096, 4096, 4)[0]
    assert estimate(each, served()) is not None
    assert estimate(each, None) is None
    assert estimate(each, served(model_type="deepseek_v3")) is None
    assert estimate(each, served(quantization_config=None)) is None
    assert estimate(each, quantised(group_size=None)) is None


def gptq_operands(m: int, n: int, k: int, bits: int, groups: int, *, index: int = 0) -> tuple[Operand, ...]:
    pack = 32 // bits
    return (
        Operand((m, k), "c10::Half"),
        Operand((k // pack, n), "int"),
        Operand((groups, n // pack), "int"),
        Operand((groups, n), "c10::Half"),
        Operand((index,), "int"),
    )


def test_the_operator_tells_more_than_the_launch() -> None:
    given_operands = gptq_operands(3, 1000, 640, 8, 5, index=640)
    each = dispatch(FUSED.format(8, 3), (2, 1, 5), operator="_C::gptq_gemm", operands=given_operands)
    found = estimate(each, None)
    assert found is not None
    assert found.problem_shape == {"m": 3, "n": 1000, "k": 640, "dtype": "fp16", "group_size": 128, "bits": 8}
    assert found.bytes == 640 * 1000 + 5 * 1000 * 3 + 2 * 3 * 1640 + 4 * 640


@pytest.mark.parametrize(
    "wrong",
    [
        gptq_operands(3, 1000, 640, 4, 5),  # packed otherwise than the kernel says
        gptq_operands(3, 2000, 640, 8, 5),  # outside of the launch
        gptq_operands(3, 1000, 640, 8, 0),
        gptq_operands(3, 1000, 640, 8, 5)[:4],
        (Operand((3, 640), "c10::BFloat16"), *gptq_operands(3, 1000, 640, 8, 5)[1:]),
        (*gptq_operands(3, 1000, 640, 8, 5)[:3], Operand((5, 7), "c10::Half"), Operand((0,), "int")),
    ],
)
def test_an_operator_that_does_not_fit_the_launch(wrong: tuple[Operand, ...]) -> None:
    each = dispatch(FUSED.format(8, 3), (2, 1, 5), operator="_C::gptq_gemm", operands=wrong)
    assert estimate(each, None) is None


def test_weights_written_out() -> None:
    found = reconstruct.MODEL.estimate(dispatch(RECONSTRUCT.format(4), (48, 32, 1)), served())
    assert found is not None
    assert found.problem_shape == {"n": 6144, "k": 4096, "dtype": "fp16", "group_size": 128, "bits": 4}
    assert found.bytes == 6144 * 4096 / 2 + 32 * 6144 * 2.5 + 2 * 6144 * 4096
    assert found.flops == 2 * 6144 * 4096
    for other in (dispatch(RECONSTRUCT.format(4), (47, 32, 1)), dispatch(RECONSTRUCT.format(4), None)):
        assert reconstruct.MODEL.estimate(other, served()) is None


# ------------------------------------------------------------------ Triton
def w4a16_operands(m: int, n: int, k: int, groups: int, *, zeros: bool) -> tuple[Operand, ...]:
    dtype = "c10::BFloat16"
    shapes = [((m, k), dtype), ((k, n // 8), "int"), ((groups, n), dtype)]
    shapes += [((groups, n // 8), "int")] if zeros else []
    return tuple(Operand(dims, kind) for dims, kind in shapes)


@pytest.mark.parametrize(
    ("m", "groups"),
    [(1, (1, 64, 1)), (32, (1, 64, 1)), (33, (1, 64, 1)), (65, (1, 32, 1)), (300, (3, 32, 1))],
)
@pytest.mark.parametrize("zeros", [True, False])
def test_vllms_triton_product_from_its_operator(m: int, groups: tuple[int, int, int], zeros: bool) -> None:
    given_operands = w4a16_operands(m, 4096, 4096, 32, zeros=zeros)
    each = dispatch("triton_w4a16_gemm_kernel", groups, 256, "vllm::op", given_operands)
    found = w4a16.MODEL.estimate(each, None)
    assert found is not None
    assert found.problem_shape is not None
    assert (found.problem_shape["m"], found.problem_shape["group_size"]) == (m, 128)
    assert found.flops_unit == "matrix_bf16"
    assert found.bytes == 4096 * 2048 + 32 * 4096 * (2.5 if zeros else 2) + 4 * m * 4096


def test_vllms_triton_product_without_an_operator_is_unknown() -> None:
    assert w4a16.MODEL.estimate(dispatch("triton_w4a16_gemm_kernel", (1, 64, 1), 256), served()) is None
    other_grid = dispatch(
        "triton_w4a16_gemm_kernel", (1, 99, 1), 256, "vllm::op", w4a16_operands(1, 4096, 4096, 32, zeros=True)
    )
    assert w4a16.MODEL.estimate(other_grid, served()) is None
    assert w4a16.MODEL.estimate(dispatch("gptq_w4a16_gemm_kernel", (96, 1, 1)), served()) is None


def test_one_row_products_of_the_recorded_decoder() -> None:
    only = w4a16.MODEL.estimate(dispatch("gptq_w4a16_gemv_strided_kernel", (6144, 1, 1)), served())
    assert only is not None
    assert only.problem_shape is not None
    assert (only.problem_shape["m"], only.problem_shape["k"]) == (1, 4096)
    shared = dispatch("gptq_w4a16_gemv_strided_kernel", (4096, 1, 1))  # output and down projection
    assert w4a16.MODEL.estimate(shared, served()) is None
    assert w4a16.MODEL.estimate(shared, None) is None
    assert w4a16.MODEL.estimate(shared, quantised(bits=8)) is None
    assert (
        w4a16.MODEL.estimate(
            dispatch("gptq_w4a16_gemv_strided_kernel", (6144, 1, 1)), quantised(group_size=None)
        )
        is None
    )


@pytest.mark.parametrize(
    "wrong",
    [
        w4a16_operands(1, 4096, 4096, 32, zeros=True)[:2],
        (Operand((1, 4096), "float"), *w4a16_operands(1, 4096, 4096, 32, zeros=True)[1:]),
        (*w4a16_operands(1, 4096, 4096, 32, zeros=True)[:2], Operand((32,), "c10::BFloat16")),
        w4a16_operands(1, 4096, 4096, 0, zeros=True),
    ],
)
def test_a_triton_operator_of_another_kind(wrong: tuple[Operand, ...]) -> None:
    each = dispatch("triton_w4a16_gemm_kernel", (1, 64, 1), 256, "vllm::op", wrong)
    assert w4a16.MODEL.estimate(each, served()) is None
