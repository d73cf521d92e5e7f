"""Each shape model on its own: what it knows, and what it must leave unknown."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocscope.models.model import Dispatch, Estimate, Operand, ShapeModel
from rocscope.models.registry import shape_models
from rocscope.models.served import ServedModel
from rocscope.models.shapes import template_numbers

CONFIG: dict[str, Any] = {
    "model_type": "qwen3",
    "hidden_size": 4096,
    "intermediate_size": 12288,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "torch_dtype": "float16",
    "quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 128},
}
SERVED = ServedModel.load(CONFIG)
HALF, BF16, FLOAT, INT = "c10::Half", "c10::BFloat16", "float", "int"


def model(name: str) -> ShapeModel:
    return next(each for each in shape_models() if each.name == name)


def dispatch(
    raw_name: str = "k",
    groups: tuple[int, int, int] | None = None,
    workgroup: tuple[int, int, int] | None = None,
    **known: Any,
) -> Dispatch:
    """Make a dispatch; ``groups`` is the grid in workgroups."""
    grid = None
    if groups and workgroup:
        grid = groups[0] * workgroup[0], groups[1] * workgroup[1], groups[2] * workgroup[2]
    given: dict[str, Any] = {
        "family": "",
        "subfamily": "",
        "kind": "kernel",
        "grid_items": None,
        "operator": None,
        "operands": (),
        "copied_bytes": None,
        "lds_bytes": None,
        "gpu": None,
    }
    return Dispatch(raw_name=raw_name, grid=grid, workgroup=workgroup, **(given | known))


def operands(*shapes: tuple[tuple[int, ...], str]) -> tuple[Operand, ...]:
    return tuple(Operand(dims, dtype) for dims, dtype in shapes)


def test_every_model_says_what_it_is() -> None:
    names = [each.name for each in shape_models()]
    assert names == sorted(set(names))
    for each in shape_models():
        assert each.help
        assert each.families
        assert each.estimate(dispatch("stranger"), SERVED) is None
        assert each.estimate(dispatch("stranger"), None) is None


# ------------------------------------------------------------------ copies
@pytest.mark.parametrize(
    ("kind", "name", "size", "moved", "says"),
    [
        ("memcpy", "Memcpy DtoD (Device -> Device)", 1000, 2000, "read and written"),
        ("memcpy", "MEMORY_COPY_DEVICE_TO_DEVICE", 1000, 2000, "read and written"),
        ("memcpy", "Memcpy HtoD (Pinned -> Device)", 1000, 1000, "over the link"),
        ("memcpy", "CopyDeviceToHost", 1000, 1000, "over the link"),
        ("memcpy", "Memcpy PtoP (Device -> Device)", 1000, 1000, "over the link"),
        ("memset", "Memset (Device)", 1000, 1000, "written once"),
        ("memcpy", "mystery", 1000, None, ""),
        ("kernel", "__amd_rocclr_copyBuffer", None, None, ""),
        ("kernel", "__amd_rocclr_copyBuffer", 1000, None, ""),
        ("memcpy", "Memcpy DtoD (Device -> Device)", 0, None, ""),
    ],
)
def test_copies(kind: str, name: str, size: int | None, moved: int | None, says: str) -> None:
    found = model("copies").estimate(dispatch(name, kind=kind, copied_bytes=size), None)
    if moved is None:
        assert found is None
    else:
        assert found is not None
        assert (found.bytes, found.flops) == (moved, 0.0)
        assert says in found.source


# ------------------------------------------------------------------ elementwise
VECTORISED = "void at::native::vectorized_elementwise_kernel<4, X>(int)"
STRIDED = "void at::native::elementwise_kernel<128, 4, X>(int)"


@pytest.mark.parametrize(
    ("operator", "given", "moved", "flops"),
    [
        ("aten::add", operands(((8, 16), HALF), ((8, 16), HALF), ((), "Scalar")), 3 * 128 * 2, 128),
        ("aten::mul", operands(((8, 16), HALF), ((16,), HALF)), (128 + 16 + 128) * 2, 128),
        ("aten::mul_", operands(((8, 16), FLOAT), ((), FLOAT)), 2 * 128 * 4, 128),
        ("aten::silu", operands(((4,), BF16)), 16, 4),
        ("aten::copy_", operands(((8, 16), HALF), ((8, 16), FLOAT), ((), "Scalar")), 128 * 6, 0),
        ("aten::copy_", operands(((8, 16), HALF), ((16,), HALF), ((), "Scalar")), (128 + 16) * 2, 0),
        ("aten::fill_", operands(((8, 16), INT), ((), "Scalar")), 512, 0),
        ("aten::zero_", operands(((3,), "bool")), 3, 0),
        ("aten::add", operands(((8,), HALF), ((8,), FLOAT)), None, None),  # promoted
        ("aten::add", operands(((8,), INT), ((8,), INT)), None, None),  # integers have no FLOPs
        ("aten::mul", operands(((8, 3), HALF), ((8, 2), HALF)), None, None),
        ("aten::mul_", operands(((1,), HALF), ((8,), HALF)), None, None),
        ("aten::add", operands(((0, 4), HALF), ((0, 4), HALF)), None, None),
        ("aten::where", operands(((8,), HALF), ((8,), HALF)), None, None),
        ("mine::add", operands(((8,), HALF), ((8,), HALF)), None, None),
        ("aten::add", (), None, None),
        ("aten::fill_", operands(((), "Scalar"), ((4,), HALF)), None, None),
        ("aten::copy_", operands(((4,), HALF)), None, None),
        (None, operands(((8,), HALF)), None, None),
    ],
)
def test_elementwise(operator: str | None, given: tuple[Operand, ...], moved: Any, flops: Any) -> None:
    found = model("elementwise").estimate(dispatch(VECTORISED, operator=operator, operands=given), None)
    assert (found and found.bytes, found and found.flops) == (moved, flops)


def test_an_expanded_operand_counts_by_what_is_stored() -> None:
    whole = Operand((1024, 8, 4, 128), HALF, stored=1024 * 32 * 128)
    expanded = Operand((1024, 8, 4, 128), HALF, stored=1024 * 8 * 128)
    copy = model("elementwise").estimate(
        dispatch(STRIDED, operator="aten::copy_", operands=(whole, expanded)), None
    )
    assert copy is not None
    assert copy.bytes == 1024 * 32 * 128 * 2 * 1.25
    unknown = operands(((8,), HALF), ((8,), HALF))  # strides not recorded: it may be expanded
    assert (
        model("elementwise").estimate(dispatch(STRIDED, operator="aten::add", operands=unknown), None) is None
    )


def test_a_kernel_of_the_operator_that_is_not_elementwise_is_not_its_work() -> None:
    given = operands(((8,), HALF), ((8,), HALF))
    found = model("elementwise").estimate(
        dispatch("reduce_kernel", operator="aten::add", operands=given), None
    )
    assert found is None


# ------------------------------------------------------------------ norms
VLLM_NORM = "void vllm::rms_norm_kernel<c10::Half, 8, {}, true>(c10::Half*)"
FUSED = "std::enable_if<(((8)>(0)))&&a<b>::c, void>::type vllm::fused_add_rms_norm_kernel<{}, 8, true>(int)"


@pytest.mark.parametrize(
    ("name", "launch", "served", "length", "size"),
    [
        (VLLM_NORM.format(3), (128, 16), SERVED, 128, 2),  # a head a workgroup
        (VLLM_NORM.format(2), (4, 512), SERVED, 4096, 2),
        (VLLM_NORM.format(2), (901, 256), SERVED, 4096, 2),
        (FUSED.format("c10::BFloat16"), (300, 256), SERVED, 4096, 2),
        (FUSED.format("float"), (4, 1024), SERVED, 4096, 4),
        ("rms_norm_kernel", (64, 256), SERVED, 4096, 2),  # Triton, dtype of the served model
        ("rms_norm_kernel", (64, 64), SERVED, None, 2),  # the hidden size or a head
        (VLLM_NORM.format(2), (4, 96), SERVED, None, 2),
        (VLLM_NORM.format(2), (4, 512), None, None, 2),
        (VLLM_NORM.format(2), (4, 512), ServedModel.load(CONFIG | {"model_type": "deepseek_v3"}), None, 2),
        (VLLM_NORM.replace("c10::Half", "T1").format(2), (4, 512), SERVED, None, 2),
        ("_ZN4vllm15rms_norm_kernelIN3c104HalfELi8ELi2EEEvv", (4, 512), SERVED, None, 2),
    ],
)
def test_norms_from_the_launch(
    name: str, launch: tuple[int, int], served: ServedModel | None, length: int | None, size: int
) -> None:
    rows, threads = launch
    found = model("rmsnorm").estimate(dispatch(name, (rows, 1, 1), (threads, 1, 1)), served)
    if length is None:
        assert found is None
        return
    passes, work = (4, 5) if "fused" in name else (2, 4)
    assert found is not None
    assert found.bytes == (passes * rows * length + length) * size
    assert found.flops == work * rows * length
    assert found.problem_shape is not None
    assert (found.problem_shape["rows"], found.problem_shape["length"]) == (rows, length)


def test_norms_from_the_operator() -> None:
    given = operands(((301, 8, 128), HALF), ((301, 8, 128), HALF), ((128,), HALF), ((), "Scalar"))
    found = model("rmsnorm").estimate(
        dispatch(VLLM_NORM.format(3), operator="_C::rms_norm", operands=given), None
    )
    assert found is not None
    assert found.bytes == (2 * 301 * 8 * 128 + 128) * 2
    odd = operands(((301, 8, 128), HALF), ((301, 8, 128), HALF), ((64,), HALF))
    assert (
        model("rmsnorm").estimate(dispatch(VLLM_NORM.format(3), operator="_C::rms_norm", operands=odd), None)
        is None
    )


def test_a_grid_that_is_not_a_row_a_workgroup_is_unknown() -> None:
    assert model("rmsnorm").estimate(dispatch(VLLM_NORM.format(2), (4, 2, 1), (512, 1, 1)), SERVED) is None
    assert model("rmsnorm").estimate(dispatch(VLLM_NORM.format(2)), SERVED) is None


# ------------------------------------------------------------------ dense products
NVJET = "nvjet_sm90_hsh_64x8_64x16_4x1_v_bz_TNT"
TENSILE = "Cijk_Alik_Bljk_BBS_BH_Bias_HA_S_SAV_UserArgs_MT32x32x256_MI16x16x1_SN"


def product(name: str, operator: str, *shapes: tuple[tuple[int, ...], str]) -> Estimate | None:
    return model("gemm").estimate(dispatch(name, operator=operator, operands=operands(*shapes)), None)


@pytest.mark.parametrize(
    ("name", "operator", "shapes", "sizes", "unit"),
    [
        (NVJET, "aten::mm", [((3, 64), HALF), ((64, 10), HALF)], (1, 3, 10, 64), "matrix_fp16"),
        (
            TENSILE,
            "aten::addmm",
            [((10,), BF16), ((3, 64), BF16), ((64, 10), BF16)],
            (1, 3, 10, 64),
            "matrix_bf16",
        ),
        ("gemv2T", "aten::linear", [((2, 3, 64), HALF), ((10, 64), HALF)], (1, 6, 10, 64), None),
        (NVJET, "aten::bmm", [((5, 3, 64), HALF), ((5, 64, 10), HALF)], (5, 3, 10, 64), "matrix_fp16"),
        (NVJET, "aten::mm", [((3, 64), FLOAT), ((64, 10), FLOAT)], (1, 3, 10, 64), None),
    ],
)
def test_dense_products(
    name: str, operator: str, shapes: Any, sizes: tuple[int, int, int, int], unit: str | None
) -> None:
    found = product(name, operator, *shapes)
    batch, m, n, k = sizes
    size = 4 if shapes[0][1] == FLOAT else 2
    assert found is not None
    assert found.flops == 2 * batch * m * n * k
    assert found.bytes == batch * (m * k + k * n + m * n) * size
    assert found.flops_unit == unit
    assert found.problem_shape is not None
    assert [found.problem_shape[each] for each in "mnk"] == [m, n, k]
    assert found.problem_shape.get("batch", 1) == batch


@pytest.mark.parametrize(
    ("name", "operator", "shapes"),
    [
        ("void cublasLt::splitKreduce_kernel<32>(int)", "aten::mm", [((3, 64), HALF), ((64, 10), HALF)]),
        ("Cijk_S_GA_PostGSU8", "aten::mm", [((3, 64), HALF), ((64, 10), HALF)]),
        (NVJET, "aten::mm", [((3, 64), HALF), ((60, 10), HALF)]),
        (NVJET, "aten::mm", [((3, 64), HALF), ((64, 10), FLOAT)]),
        (NVJET, "aten::mm", [((3, 64), INT), ((64,), INT)]),
        (NVJET, "aten::mm", [((0, 64), HALF), ((64, 10), HALF)]),
        (NVJET, "aten::bmm", [((5, 3, 64), HALF), ((4, 64, 10), HALF)]),
        (NVJET, "aten::mm", [((3, 64), HALF)]),
        (NVJET, "mine::mm", [((3, 64), HALF), ((64, 10), HALF)]),
    ],
)
def test_dense_products_that_are_not_certain(name: str, operator: str, shapes: Any) -> None:
    assert product(name, operator, *shapes) is None


@given(st.integers(1, 10**5), st.integers(1, 10**5), st.integers(1, 10**5))
def test_a_product_moves_at_least_its_matrices(m: int, n: int, k: int) -> None:
    found = product(NVJET, "aten::mm", ((m, k), HALF), ((k, n), HALF))
    assert found is not None
    assert found.bytes is not None
    assert found.flops == 2.0 * m * n * k
    assert found.bytes >= 2 * max(m * k, k * n, m * n)


@pytest.mark.parametrize(
    ("name", "function", "numbers"),
    [
        ("void a::f<true, 4>(int)", "f", (1, 4)),
        ("void a::f<1, 8>(const int *)", "f", (1, 8)),
        ("_ZN1a1fILb1ELi4EEEvi", "f", (1, 4)),
        ("void f<c10::Half, 8, false>(int)", "f", (8, 0)),
        ("void f<", "f", ()),
        ("void f(int)", "f", ()),
        ("g", "f", ()),
    ],
)
def test_template_numbers(name: str, function: str, numbers: tuple[int, ...]) -> None:
    assert template_numbers(name, function) == numbers


GPTQ_INPUTS = [((300, 4096), HALF), ((1024, 6144), INT), ((32, 1536), INT), ((32, 6144), HALF)]


def test_the_dense_product_of_gptq_after_its_weights_were_written_out() -> None:
    found = product(NVJET, "_C::gptq_gemm", *GPTQ_INPUTS)
    assert found is not None
    assert found.flops == 2 * 300 * 6144 * 4096
    assert found.bytes == 2 * (300 * 4096 + 4096 * 6144 + 300 * 6144)
    assert found.flops_unit == "matrix_fp16"


@pytest.mark.parametrize(
    "shapes",
    [
        GPTQ_INPUTS[:3],
        [((300, 4096), BF16), *GPTQ_INPUTS[1:]],
        [*GPTQ_INPUTS[:3], ((32, 7), HALF)],
        [((0, 4096), HALF), *GPTQ_INPUTS[1:]],
    ],
)
def test_inputs_that_are_not_those_of_gptq(shapes: Any) -> None:
    assert product(NVJET, "_C::gptq_gemm", *shapes) is None
