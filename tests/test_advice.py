"""Advice fits what it is for: every family, limiter and bound gets a text that does not contradict them."""

import itertools
import re
from typing import get_args

import pytest

from rocscope import advice, taxonomy
from rocscope.errors import InputError
from rocscope.findings import Bound, Limiter
from rocscope.rules import rules

FAMILIES = sorted(taxonomy.taxonomy().families)
LIMITERS = get_args(Limiter)
ALL = list(itertools.product(FAMILIES, LIMITERS, get_args(Bound)))
ONE_VENDOR = re.compile(
    r"(?i)cuda|cublas|cutlass|tensor core|nsight|\bncu\b|\bSMs?\b|thread block|\bcluster|ptx"
)
MATRIX = re.compile(r"(?i)matrix instruction|mfma|faster pipe")
ROOF_IS_NEAR = re.compile(r"(?i)(?<!neither )roofs? (is|are) near|near the (memory|arithmetic) roof")
NEAR = {"memory-bandwidth", "cache-bandwidth", "compute", "balanced"}


def told(family, limiter, bound, kernel="k"):
    return " ".join(advice.advise(family, limiter, kernel, bound))


def test_no_kernel_that_memory_bounds_is_to_use_matrix_instructions():
    for family, limiter, bound in ALL:
        text = told(family, limiter, bound).replace("Matrix instructions will not help", "")
        assert bound != "memory" or not MATRIX.search(text), (family, limiter)


def test_a_roof_is_said_to_be_near_only_where_it_limits():
    for family, limiter, bound in ALL:
        text = told(family, limiter, bound)
        assert limiter in NEAR or not ROOF_IS_NEAR.search(text), (family, limiter, text)
        assert limiter not in NEAR or "either roof is near" not in text, (family, limiter, text)


def test_what_limits_is_not_said_to_be_unknown_where_it_is_known():
    for family, limiter, bound in ALL:
        assert limiter == "unknown" or "not known" not in told(family, limiter, bound), (family, limiter)
    assert "what holds it back is not known" in told("ssm", "unknown", "memory")


def test_nothing_is_advised_that_one_vendor_alone_has():
    for entry in advice.entries():
        assert not ONE_VENDOR.search(entry.advice + entry.confirm_by), entry
    for rule in rules():
        assert not ONE_VENDOR.search(rule.page.do + rule.page.confirm + rule.message), rule.id


@pytest.mark.parametrize(
    ("family", "kernel", "part"),
    [
        ("gemm", "splitKreduce_kernel", "try fewer splits"),
        ("gemm", "Cijk_S_PostGSU8_VW4", "try fewer splits"),
        ("attention", "reduce_segments", "try fewer parts"),
        ("attention", "paged_attention_ll4mi_reduce_kernel", "try fewer parts"),
        ("attention", "paged_attention_decode_kernel", "Split the context"),
        ("gemm", "gemv_reduced", "Too few tiles"),
    ],
)
def test_kernels_that_add_up_parts_are_not_to_be_split_further(family, kernel, part):
    assert part in told(family, "parallelism", "memory", kernel)


def test_a_damaged_expression_is_refused():
    text = (
        '[[entry]]\nkernel = "("\nadvice = "long enough for a text"\nconfirm_by = "long enough for a text"\n'
    )
    with pytest.raises(InputError, match=r"advice\.toml: '\('"):
        advice.read(text)
