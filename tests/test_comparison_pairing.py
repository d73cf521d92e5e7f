"""Kernels that were renamed are paired by what they do in a step; what is not certain is left alone.

Steps here are made by hand: nothing was recorded.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rocscope import pipeline
from synthetic_steps import annotated

DECODE = "execute_context_0(0)_generation_1(1)"
NORM, EMBED, SAMPLE = "rms_norm_kernel", "indexSelectSmallIndex", "_gumbel_sample_kernel"
LENGTHS = {NORM: 30_000, EMBED: 20_000, SAMPLE: 50_000}


def steps(*kernels, count=16, seed=0, length=200_000):
    """Decode steps of these kernels in this order, each with a little noise."""
    random = np.random.default_rng(seed)
    return annotated(
        [
            (DECODE, [(k, LENGTHS.get(k, length) * (1 + 0.002 * random.standard_normal())) for k in kernels])
            for _ in range(count + 1)
        ]
    )


def compared(base, new):
    found = pipeline.compare(steps(*base), steps(*new, seed=1))
    return {(*each.base_kernels, "->", *each.new_kernels): each for each in found.kernels}


def matches(base, new):
    return {names: each.match for names, each in compared(base, new).items()}


def test_one_kernel_of_a_family_at_one_place_took_the_place_of_the_other():
    base = (EMBED, NORM, "paged_attention_ll4mi_QKV_kernel", SAMPLE)
    new = (EMBED, NORM, "kernel_unified_attention_2d", SAMPLE)
    found = compared(base, new)
    pair = found["paged_attention_ll4mi_QKV_kernel", "->", "kernel_unified_attention_2d"]
    assert pair.match == "renamed" and pair.family == "attention"
    assert pair.role == f"attention between {NORM} and {SAMPLE}"
    assert pair.verdict == "no difference shown" and abs(pair.change_frac) < 0.01
    assert {each.match for names, each in found.items() if each is not pair} == {"same"}


def test_the_same_kernel_twice_is_not_its_neighbour():
    """A kernel that is in both sides is never given to another name, whatever else is at its place."""
    base = (EMBED, NORM, "act_and_mul_kernel", "silu_kernel", SAMPLE)
    new = (EMBED, NORM, "act_and_mul_kernel", "gelu_kernel", SAMPLE)
    found = matches(base, new)
    assert found["act_and_mul_kernel", "->", "act_and_mul_kernel"] == "same"
    assert found["silu_kernel", "->", "gelu_kernel"] == "renamed"


def test_of_several_candidates_none_is_guessed():
    base = (EMBED, NORM, "act_and_mul_kernel", "silu_kernel", SAMPLE)
    new = (EMBED, NORM, "gelu_kernel", "relu_kernel", SAMPLE)
    found = matches(base, new)
    assert found["act_and_mul_kernel", "->"] == found["silu_kernel", "->"] == "base only"
    assert found["->", "gelu_kernel"] == found["->", "relu_kernel"] == "new only"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("some_kernel", "another_kernel"),  # of no known family: they may do anything
        ("paged_attention_ll4mi_QKV_kernel", "silu_kernel"),  # of two families
    ],
)
def test_what_does_something_else_is_not_paired(first, second):
    found = compared((EMBED, NORM, first, SAMPLE), (EMBED, NORM, second, SAMPLE))
    assert found[first, "->"].match == "base only" and found["->", second].match == "new only"
    assert found[first, "->"].change_frac is None and found[first, "->"].new_s is None


def test_another_place_of_the_step_is_another_part_of_it():
    base = (EMBED, "silu_kernel", NORM, "fused_add_rms_norm_kernel", SAMPLE)
    new = (EMBED, NORM, "gelu_kernel", "fused_add_rms_norm_kernel", SAMPLE)
    found = matches(base, new)
    assert found["silu_kernel", "->"] == "base only" and found["->", "gelu_kernel"] == "new only"


def test_all_that_a_product_takes_is_one_thing():
    base = (EMBED, NORM, "Cijk_Alik_Bljk_HHS_BH_MT16x16x32", "splitKreduce_kernel", SAMPLE)
    new = (EMBED, NORM, "reconstruct_gptq_kernel", "gemm_half_q_half_gptq_8bit_kernel", SAMPLE)
    (pair,) = [each for each in compared(base, new).values() if each.match == "renamed"]
    assert set(pair.base_kernels) == set(base[2:4]) and set(pair.new_kernels) == set(new[2:4])
    assert pair.role == f"product between {NORM} and {SAMPLE}"
    assert pair.base_s == pytest.approx(400e-6, rel=0.01) and pair.base_calls == 2


_NAMES = st.lists(
    st.sampled_from(
        ["silu_kernel", "gelu_kernel", "some_kernel", "paged_attention_ll4mi_QKV_kernel",
         "Cijk_Alik_Bljk_HHS_BH_MT16x16x32", "gemm_half_q_half_gptq_8bit_kernel", NORM]
    ),
    max_size=6,
)  # fmt: skip


@pytest.mark.slow
@settings(max_examples=8, deadline=None)
@given(_NAMES, _NAMES)
def test_every_kernel_is_in_one_row_and_swapping_sides_swaps_rows(first, second):
    base, new = (EMBED, *first, SAMPLE), (EMBED, *second, SAMPLE)
    there = pipeline.compare(steps(*base, count=4), steps(*new, count=4, seed=1)).kernels
    back = pipeline.compare(steps(*new, count=4, seed=1), steps(*base, count=4)).kernels
    for names, side in ((base, "base"), (new, "new")):
        shown = [name for each in there for name in getattr(each, f"{side}_kernels")]
        assert set(shown) == set(names)
        calls = sum(getattr(each, f"{side}_calls") or 0 for each in there)
        assert calls == pytest.approx(len(names))
    assert sorted((each.base_kernels, each.new_kernels) for each in there) == sorted(
        (each.new_kernels, each.base_kernels) for each in back
    )
