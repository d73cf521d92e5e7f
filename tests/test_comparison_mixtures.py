"""Phases are compared at the same batches, and steps at one length of context: a mix is nobody's doing.

Steps here are made by hand: nothing was recorded.
"""

import numpy as np
import pytest

from rocscope import pipeline
from synthetic_steps import annotated

ATTENTION = "paged_attention_ll4mi_QKV_kernel"
PREFILL = "execute_context_1(300)_generation_0(0)"


def decode(sequences):
    return f"execute_context_0(0)_generation_{sequences}({sequences})"


def at_context(tokens):
    """A decode step of one request whose cache holds ``tokens``, in the detailed form."""
    return f"execute_0_context_0(sq0sk0sqsq0sqsk0)_generation_1(sq1sk{tokens}sqsq1sqsk{tokens})"


def mixed_steps(counts, factor=1.0, seed=0):
    """Decode steps, ``counts`` of each number of sequences; a sequence takes 100 µs."""
    random = np.random.default_rng(seed)
    told = []
    for sequences, count in counts.items():
        told += [
            (decode(sequences), [("some_kernel", 1e5 * sequences * factor * (1 + 0.002 * noise))])
            for noise in random.standard_normal(count + 1)
        ]
    return annotated(told)


def phase(found, name="decode"):
    return next(each for each in found.phases if each.name == name)


def test_more_large_batches_are_no_slower_phase():
    """The mean step of new is 42 % longer, and each batch takes what it took."""
    found = pipeline.compare(mixed_steps({1: 40, 4: 10}), mixed_steps({1: 20, 4: 30}, seed=1))
    row = phase(found)
    assert row.verdict == "no difference shown" and abs(row.change_frac) < 0.005
    assert "decode is compared at the same batches: 1 sequence, 4 sequences" in found.notes
    found = pipeline.compare(mixed_steps({1: 12, 3: 4}), mixed_steps({1: 12}, seed=1))
    told = "decode is compared at the same batches: 1 sequence; 1 other batch is in one recording only"
    assert told in found.notes
    found = pipeline.compare(mixed_steps({1: 12}), mixed_steps({1: 12}, seed=1))
    assert not any("same batches" in note for note in found.notes)


def test_a_phase_is_its_batches_weighed_alike_on_both_sides():
    """Of 20 and 10 steps, the fewer of either side: 2 * 0.1 ms + 1 * 0.4 ms, over 3."""
    base, new = mixed_steps({1: 40, 4: 10}), mixed_steps({1: 20, 4: 30}, factor=1.1, seed=1)
    row = phase(pipeline.compare(base, new))
    assert row.base_s == pytest.approx(0.202e-3, rel=0.01)
    assert row.verdict == "worse" and row.low_frac <= row.change_frac <= row.high_frac
    assert row.change_frac == pytest.approx(0.099, abs=0.003)  # idle time does not grow with the kernels


def test_a_phase_without_a_common_batch_is_shown_and_not_judged():
    other = mixed_steps({2: 20})
    found = pipeline.compare(mixed_steps({1: 20}), other)
    row = phase(found)
    assert row.verdict is None and row.change_frac is None and row.base_s and row.new_s
    assert any("decode: no step of one batch is in both recordings" in note for note in found.notes)


def test_a_phase_of_one_side_alone_is_told():
    found = pipeline.compare(
        mixed_steps({1: 20}),
        annotated([(PREFILL, [("some_kernel", 9e5)])] * 3 + [(decode(1), [("some_kernel", 1e5)])] * 20),
    )
    row = phase(found, "prefill")
    assert row.base_s is None and row.new_s > 0 and row.verdict is None


def growing(start, count=40, *, factor=1.0, seed=0):
    """Decode steps whose attention takes 50 ns a token in the cache beside 100 µs for all else."""
    random = np.random.default_rng(seed)
    return annotated(
        [
            (
                at_context(tokens),
                [
                    ("some_kernel", 1e5 * factor * (1 + 0.001 * random.standard_normal())),
                    (
                        ATTENTION,
                        50.0 * tokens * (1 + 0.001 * random.standard_normal()),
                    ),
                ],
            )
            for tokens in range(start, start + 20 * (count + 1), 20)
        ]
    )


def kernel(found, name):
    return next(each for each in found.kernels if name in each.base_kernels)


def test_a_longer_context_is_no_slower_attention():
    """New's caches hold 200 tokens more, which alone takes 10 µs a step."""
    found = pipeline.compare(growing(1000), growing(1200, seed=1))
    attention = kernel(found, ATTENTION)
    assert attention.verdict == "no difference shown" and abs(attention.change_frac) < 0.005
    assert attention.base_s == pytest.approx(50e-9 * 1500, rel=0.01)  # at the mean of both
    assert found.tiers[0].verdict == "no difference shown"
    assert "steps are compared at 1,490 tokens in the cache" in found.notes


def test_what_changed_beside_a_longer_context_is_found():
    found = pipeline.compare(growing(1000), growing(1200, factor=1.05, seed=1))
    assert kernel(found, "some_kernel").verdict == "worse"
    assert kernel(found, "some_kernel").change_frac == pytest.approx(0.05, abs=0.003)
    assert kernel(found, ATTENTION).verdict == "no difference shown"


def test_contexts_that_do_not_overlap_are_not_extrapolated_and_it_is_said():
    found = pipeline.compare(growing(1000), growing(4000, seed=1))
    assert kernel(found, ATTENTION).verdict == "worse"
    (note,) = [each for each in found.notes if "is not compared at one length" in each]
    assert note.startswith("1,390 tokens lay in the cache of base's steps and 4,390 of new's")
