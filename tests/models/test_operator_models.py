"""Models whose size is in the operator's shapes or the launch: what they know, and what is unknown."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocscope.models.model import Dispatch, Estimate, Operand
from rocscope.models.registry import shape_models
from rocscope.models.served import ServedModel
from rocscope.taxonomy import classify

CONFIG: dict[str, Any] = {
    "model_type": "qwen3",
    "hidden_size": 4096,
    "intermediate_size": 12288,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "torch_dtype": "float16",
}
SERVED = ServedModel.load(CONFIG)
HALF, LONG = "c10::Half", "long int"
ROPE = "void vllm::rotary_embedding_kernel<c10::Half, c10::Half, true>(long const*)"
ACT = "void vllm::act_and_mul_kernel<c10::Half, __half2, true>(c10::Half*)"
CACHE = "reshape_and_cache_kernel_flash"
GATHER = "void at::native::vectorized_gather_kernel<16, long>(char*)"
CAT = "void at::native::(anonymous namespace)::CatArrayBatchedCopy<OpaqueType<2u>, unsigned int, 3, 64>(int)"
REDUCE = "void at::native::reduce_kernel<512, 1, at::native::ReduceOp<{}>>(int)"
ARGMAX, SUM = REDUCE.format("float, at::native::ArgMaxOps<float>"), REDUCE.format("float, sum_functor<float>")
SOFTMAX = "void at::native::(anonymous namespace)::cunn_SoftMaxForward<4, float, float, float, int>(int)"
NORM = "void at::native::(anonymous namespace)::vectorized_layer_norm_kernel<float, float, false>(int)"
ALL_REDUCE = "ncclDevKernel_AllReduce_Sum_f16_RING_LL(ncclDevKernelArgsStorage<4096ul>)"


def dispatch(name: str, groups=None, threads=128, operator=None, operands=(), *, parts=()) -> Dispatch:
    """Make a dispatch; ``groups`` is the grid in workgroups."""
    given = tuple(Operand(tuple(dims), dtype) for dims, dtype in operands)
    return Dispatch(
        raw_name=name,
        family=classify([name]).family[0],
        subfamily="",
        kind="kernel",
        grid=(groups[0] * threads, groups[1], groups[2]) if groups else None,
        grid_items=None,
        workgroup=(threads, 1, 1) if groups else None,
        operator=operator,
        operands=(Operand((), "", parts=parts), *given) if parts else given,
        copied_bytes=None,
        lds_bytes=None,
        gpu=None,
    )


def estimate(given: Dispatch, served: ServedModel | None = SERVED) -> Estimate | None:
    """Ask the models of sizes, and of single functors; other limits have their own tests."""
    models = [model for model in shape_models() if given.family in model.families]
    models = [model for model in models if not model.name.startswith("unsized-")]
    answers = (model.estimate(given, served) for model in models)
    return next((answer for answer in answers if answer is not None), None)


def rotated(tokens: int, query: int, key: int, rotary: int) -> list[Any]:
    return [((tokens,), LONG), ((tokens, query), HALF), ((tokens, key), HALF), ((4096, rotary), HALF)]


KNOWN = {  # what: (dispatch, bytes, FLOPs)
    "rope by the operator": (
        dispatch(ROPE, (300, 1, 1), 512, "_C::rotary_embedding", rotated(300, 4096, 1024, 128)),
        2 * 300 * 5120 * 2 + 300 * (128 * 2 + 8),
        3 * 300 * 5120,
    ),
    "rope of whole heads by the threads": (
        dispatch(ROPE, (300, 1, 1), 256, "_C::rotary_embedding", rotated(300, 512, 256, 64)),
        2 * 300 * 768 * 2 + 300 * (64 * 2 + 8),
        3 * 300 * 768,
    ),
    "rope by the launch": (
        dispatch(ROPE, (4, 1, 1), 512),
        2 * 4 * 5120 * 2 + 4 * (128 * 2 + 8),
        3 * 4 * 5120,
    ),
    "activation by the operator": (
        dispatch(ACT, (9, 1, 1), 1024, "_C::silu_and_mul", [((3, 3, 64), HALF), ((3, 3, 128), HALF)]),
        3 * 9 * 64 * 2,
        5 * 9 * 64,
    ),
    "activation by the launch": (dispatch(ACT, (4, 1, 1), 1024), 3 * 4 * 12288 * 2, 5 * 4 * 12288),
    "activation in Triton": (
        dispatch("silu_and_mul_kernel", (2, 12, 1)),
        3 * 2 * 12288 * 2,
        5 * 2 * 12288,
    ),
    "cache by the operator": (
        dispatch(CACHE, (5, 1, 1), 512, "vllm::unified_kv_cache_update", [((5, 2, 64), HALF)] * 2),
        4 * 5 * 128 * 2 + 8 * 5,
        0,
    ),
    "cache by the launch": (dispatch(CACHE, (5, 1, 1), 512), 4 * 5 * 1024 * 2 + 8 * 5, 0),
    "gather": (
        dispatch(
            GATHER,
            (300, 2, 1),
            256,
            "aten::gather",
            [((9000, 4096), HALF), ((300, 4096), LONG), ((300, 4096), HALF)],
        ),
        300 * (2 * 8192 + 8),
        0,
    ),
    "index": (
        dispatch(GATHER, (2, 2, 1), 256, "aten::index", [((301, 4096), HALF)]),
        2 * (2 * 8192 + 8),
        0,
    ),
    "elements": (
        dispatch(
            "void at::native::_scatter_gather_elementwise_kernel<128, 8>(int)",
            operator="aten::gather",
            operands=[((2, 149), LONG), ((2, 1), LONG)],
        ),
        2 * 24,
        0,
    ),
    "cat": (
        dispatch(CAT, operator="aten::cat", parts=((1, 32, 64), (1, 32, 32))),
        2 * (2048 + 1024) * 2,
        0,
    ),
    "argmax": (
        dispatch(ARGMAX, operator="aten::argmax", operands=[((4, 149), "float")]),
        4 * 149 * 4 + 4 * 8,
        4 * 149,
    ),
    "softmax": (
        dispatch(SOFTMAX, operator="aten::_softmax", operands=[((4, 100), "float")]),
        4 * 100 * 8,
        5 * 400,
    ),
    "sum": (dispatch(SUM, operator="aten::sum", operands=[((8, 5, 10), HALF)]), 800, 400),
    "layer norm": (
        dispatch(
            NORM,
            operator="aten::native_layer_norm",
            operands=[((6, 10), "float"), ((10,), "float"), ((10,), "float")],
        ),
        2 * 60 * 4 + 2 * 10 * 4 + 6 * 8,
        8 * 60,
    ),
}


@pytest.mark.parametrize("what", KNOWN)
def test_sizes_are_those_on_paper(what: str):
    given, size, flops = KNOWN[what]
    found = estimate(given)
    assert found and (found.bytes, found.flops) == (size, flops)
    assert found.source
    assert (found.flops_unit is None) == (flops == 0)


UNKNOWN = {
    "rope of what may be a part of each head": dispatch(
        ROPE, (300, 1, 1), 512, "_C::rotary_embedding", rotated(300, 4096, 1024, 64)
    ),
    "rope of another grid": dispatch(
        ROPE, (200, 1, 1), 512, "_C::rotary_embedding", rotated(300, 4096, 1000, 128)
    ),
    "rope of a smaller model": dispatch(ROPE, (4, 1, 1), 256),
    "activation of other widths": dispatch(ACT, (4, 1, 1), 256),
    "activation with another operator": dispatch("unary_op_kernel<relu>", (4, 1, 1), 256),
    "Triton activation of another width": dispatch("silu_and_mul_kernel", (2, 11, 1)),
    "latent cache": dispatch("concat_and_cache_mla_kernel", (4, 1, 1), 512),
    "cache of a wider model": dispatch(CACHE, (4, 1, 1), 2048),
    "argmax of nothing": dispatch(ARGMAX, operator="aten::argmax", operands=[((0, 149), "float")]),
    "top-k": dispatch("void at::native::sbtopk::gatherTopK<float>()", operator="aten::topk"),
    "softmax of another dtype": dispatch(SOFTMAX, operator="aten::_softmax", operands=[((4, 100), HALF)]),
    "sum without an operator": dispatch(SUM),
    "sum of integers": dispatch(SUM, operator="aten::sum", operands=[((4, 100), LONG)]),
    "layer norm in parts": dispatch("RowwiseMomentsCUDAKernel", operator="aten::native_layer_norm"),
    "layer norm of odd weights": dispatch(
        NORM, operator="aten::native_layer_norm", operands=[((6, 10), "float"), ((7,), "float")]
    ),
    "all-reduce on one GPU": dispatch(ALL_REDUCE, operator="record_param_comms", parts=((1, 4096),)),
}


@pytest.mark.parametrize("what", UNKNOWN)
def test_what_is_not_certain_is_unknown(what: str):
    assert estimate(UNKNOWN[what]) is None


def test_without_a_model_a_launch_tells_no_width():
    for each in (
        dispatch(ROPE, (4, 1, 1), 512),
        dispatch(ACT, (4, 1, 1), 1024),
        dispatch(CACHE, (5, 1, 1), 512),
    ):
        assert estimate(each, None) is None


def test_a_part_of_each_head_is_rotated_if_the_model_says_so():
    served = ServedModel.load(CONFIG | {"partial_rotary_factor": 0.5})
    given = dispatch(ROPE, (300, 1, 1), 512, "_C::rotary_embedding", rotated(300, 4096, 1024, 64))
    by_operator, by_launch = estimate(given, served), estimate(dispatch(ROPE, (300, 1, 1), 512), served)
    assert by_operator and by_operator.bytes == 2 * 300 * 2560 * 2 + 300 * (64 * 2 + 8)
    assert by_launch and by_launch.bytes == by_operator.bytes
    odd = ServedModel.load(CONFIG | {"partial_rotary_factor": "half"})
    assert estimate(dispatch(ROPE, (300, 1, 1), 512), odd) is None


def test_experts_have_activations_of_several_widths():
    served = ServedModel.load(
        CONFIG | {"model_type": "qwen3_moe", "num_experts": 8, "moe_intermediate_size": 768}
    )
    assert estimate(dispatch(ACT, (4, 1, 1), 1024), served) is None


# --------------------------------------------------------------------------------------------- over the link

TP2 = ServedModel.load(CONFIG, tp=2)
TP4 = ServedModel.load(CONFIG, tp=4)


@pytest.mark.parametrize(
    ("name", "served", "expected"),
    [
        (ALL_REDUCE, TP2, 8192),  # 2 * 1/2 of 8 KiB
        (ALL_REDUCE, TP4, 12288),
        ("ncclDevKernel_ReduceScatter_Sum_bf16_RING_LL(int)", TP4, 6144),
        ("ncclDevKernel_AllGather_RING_LL(int)", TP4, None),  # the dtype is not told
        ("ncclDevKernel_Generic_1(int)", TP4, None),  # RCCL runs every collective under this name
    ],
)
def test_collectives_count_what_one_gpu_sends(name: str, served: ServedModel, expected: float | None):
    found = estimate(dispatch(name, operator="record_param_comms", parts=((1, 4096),)), served)
    assert (found.bytes if found else None) == expected
    assert found is None or found.flops is None


@pytest.mark.parametrize(("stage", "expected"), [(1, 3 * 8192), (2, 12288)])
def test_vllms_own_all_reduce(stage: int, expected: float):
    name = f"void vllm::cross_device_reduce_{stage}stage<half, 4>(int)"
    given = dispatch(name, operator="_C_custom_ar::all_reduce", operands=[((1, 4096), HALF)])
    found = estimate(given, TP4)
    assert found and found.bytes == expected


# --------------------------------------------------------------------------------------- limits without sizes

LAMBDA = "(at::TensorIteratorBase&)::{lambda()#2}::operator()() const::{lambda()#8}::operator()() const::"
LIMITS = {
    "void at::native::vectorized_elementwise_kernel<8, at::native::FillFunctor<c10::Half> >(int)": 0,
    "void at::native::vectorized_elementwise_kernel<8, at::native::CUDAFunctor_add<c10::Half> >(int)": 1,
    "void at::native::elementwise_kernel<128, 4, gpu_kernel_impl_nocast<at::native::BinaryFunctor<c10::Half, "
    "c10::Half, c10::Half, at::native::binary_internal::MulFunctor<float> > > >(int)": 0.5,
    f"void at::native::elementwise_kernel<128, 4, gpu_kernel_impl_nocast<at::native::neg_kernel_cuda{LAMBDA}"
    "{lambda(float)#1}> >(int)": 0.25,
    f"void at::native::unrolled_elementwise_kernel<at::native::direct_copy_kernel_cuda{LAMBDA}"
    "{lambda(float)#1}>(int)": 0,
    CAT: 0,
    "void at::native::vectorized_elementwise_kernel<8, at::native::sigmoid_kernel_cuda>(int)": None,
    "void at::native::vectorized_elementwise_kernel<8, at::native::CUDAFunctor_add<complex> >(int)": None,
    "triton_poi_fused__to_copy_1": None,
}


@pytest.mark.parametrize("name", LIMITS)
def test_an_elementwise_kernel_has_a_limit_without_sizes(name: str):
    found = estimate(dispatch(name))
    assert (found.intensity_limit if found else None) == LIMITS[name]
    assert found is None or (found.bytes is None and found.flops is None and found.flops_unit)


def test_sizes_are_preferred_to_limits():
    given = dispatch(CAT, operator="aten::cat", parts=((4,),))
    found = estimate(given)
    assert found and found.bytes == 16 and found.intensity_limit is None


@given(
    st.sampled_from(sorted(KNOWN)),
    st.lists(st.tuples(st.lists(st.integers(0, 9), max_size=4), st.sampled_from([HALF, "float", LONG, ""]))),
)
def test_odd_operands_never_give_nonsense(what: str, shapes: list[tuple[list[int], str]]):
    """Operators come from recordings and are untrusted."""
    given = replace(KNOWN[what][0], operands=tuple(Operand(tuple(dims), dtype) for dims, dtype in shapes))
    for served in (SERVED, None):
        found = estimate(given, served)
        assert found is None or found.bytes is None or found.bytes > 0
        assert found is None or found.flops is None or found.flops >= 0
