"""Short names out of every way in which tools write a kernel's name."""

from __future__ import annotations

import gzip
import json
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocscope.kernel_names import LONGEST, clean, short_name


@pytest.mark.parametrize(
    ("raw", "short"),
    [
        ("vecCopy(double*, double*, double*, int, int) [clone .kd]", "vecCopy"),
        ("vecCopy(double*, double*, double*, int, int) (.kd)", "vecCopy"),
        ("attn_fwd.kd", "attn_fwd"),
        ("awq_gemm_kernel", "awq_gemm_kernel"),
        ("__amd_rocclr_copyBuffer.kd", "__amd_rocclr_copyBuffer"),
        ("Memcpy DtoD (Device -> Device)", "Memcpy DtoD (Device -> Device)"),
        ("<barrier packet>", "<barrier packet>"),
        (
            "void at::native::vectorized_elementwise_kernel<4, at::native::FillFunctor<int> >(int)",
            "vectorized_elementwise_kernel",
        ),
        (
            "void at::native::(anonymous namespace)::cunn_SoftMaxForward<4, float>(float*)",
            "cunn_SoftMaxForward",
        ),
        (
            "void native::<unnamed>::cunn_SoftMaxForward<8, c10::Half>(T4 *, const T2 *, int)",
            "cunn_SoftMaxForward",
        ),
        (
            "void (anonymous namespace)::elementwise_kernel_with_index<int>(int)",
            "elementwise_kernel_with_index",
        ),
        # a comparison inside the return type, as clang and as Nsight Compute write it
        (
            "std::enable_if<(((8)>(0)))&&vllm::has<c10::Half>::exists, void>::type vllm::fused_add<int>(int)",
            "fused_add",
        ),
        (
            "std::enable_if<T2>0&&vllm::has<T1>::exists, void>::type vllm::fused_add<c10::Half, 8>(T1 *)",
            "fused_add",
        ),
        # functions and lambdas as template arguments
        (
            "void cpy_scalar<&(void cpy_1_scalar<float, float>(char const*, char*))>(char const*)",
            "cpy_scalar",
        ),
        ("void f<g(at::T&)::{lambda()#1}::operator()() const::{lambda(int)#2}>(int)", "f"),
        ("auto ns::kernel<int>(int) -> decltype(f<3>())", "kernel"),
        # cut off in the middle
        (
            "void paged_attention_ll4mi_QKV_mfma16_kernel<0, __hip_bfloat16, (vllm::Fp8",
            "paged_attention_ll4mi_QKV_mfma16_kernel",
        ),
        ("void rocprim::detail::radix_sort_kernel<rocprim::", "radix_sort_kernel"),
        # mangled
        ("_Z23ncclDevKernel_Generic_124ncclDevKernelArgsStorageILm4096EE.kd", "ncclDevKernel_Generic_1"),
        ("_ZN7ck_tile6kentryILi1ENS_12Rmsnorm2dFwdINS_8sequenceIJLi1ELi3072EEEEEEEvT0_", "kentry"),
        (
            "_ZN2at6native12_GLOBAL__N_124krn_partials_per_segmentIlEEvPT_PKS3_PKll.kd",
            "krn_partials_per_segment",
        ),
        (
            "_ZN12_GLOBAL__N_129elementwise_kernel_with_indexIiZN2at6arangeERKNS1_6TensorEEUllE_EEvT_",
            "elementwise_kernel_with_index",
        ),
        ("_ZN3abc6HolderILNS_4kindE3ELb1EE3runIfEEvv", "run"),
        ("_ZN7rocprim6detail5fooXYE", "fooXY"),
        ("_ZNK3abc3runEv", "run"),
        ("", ""),
        ("_Z", "_Z"),
        ("(((", "((("),
    ],
)
def test_the_functions_own_name_is_found(raw: str, short: str) -> None:
    assert short_name(raw) == short


def test_mangled_and_demangled_names_of_one_recording_agree(captures: Path) -> None:
    path = captures / "rocprofv3" / "tracelens_908" / "908_results.json.gz"
    tool = json.loads(gzip.decompress(path.read_bytes()))["rocprofiler-sdk-tool"][0]
    pairs = [
        (symbol["kernel_name"], symbol["formatted_kernel_name"])
        for symbol in tool["kernel_symbols"]
        if symbol["kernel_name"].startswith("_Z")
    ]
    assert len(pairs) > 500
    differ = [(m, d) for m, d in pairs if short_name(m) != short_name(d)]
    assert not differ, f"{len(differ)} of {len(pairs)}: {differ[:3]}"


@given(st.text(max_size=300))
def test_any_text_has_a_short_name(text: str) -> None:
    short = short_name(text)
    assert len(short) <= len(text)
    assert bool(short) == bool(clean(text))


@given(st.text(alphabet="_ZN0123456789INELSTXJUDF<>()[]{}:, abc.kd", max_size=400))
def test_near_names_have_a_short_name(text: str) -> None:
    assert isinstance(short_name("_ZN" + text), str)
    assert isinstance(short_name("void " + text), str)


@pytest.mark.parametrize(
    "hostile",
    [
        "<" * 200_000,
        "a<" * 100_000,
        "_ZN" + "I" * 200_000,
        "_ZN1aI" + "Li1E" * 50_000,
        "_ZN" + "9" * 200_000,
        "_Z" + "S_" * 100_000,
        "f" + ".kd" * 60_000,
        "f" + " [clone .x]" * 20_000,
        "(anonymous namespace)::" * 10_000,
        "void " + "a::" * 60_000 + "b(",
        "x" * 500_000,
    ],
)
def test_hostile_names_take_no_time(hostile: str) -> None:
    begin = time.process_time()
    assert len(short_name(hostile)) <= LONGEST
    assert time.process_time() - begin < 0.2
