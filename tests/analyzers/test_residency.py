"""Modelled bytes that a cache may have served are held against no memory roof. Captures are synthetic."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from rocscope import pipeline
from rocscope.analyzers import runner
from synthetic_capture import SPEC, capture, row, study

SHAPE = {"m": 1, "n": 500, "k": 800, "dtype": "fp16", "group_size": None, "bits": 16}  # 800 kB of weights


def product(others: float, *, basis: str = "modelled", repeats: int = 4, **shape: Any) -> pd.Series:
    """A product that reads 0.8 MB in 1 µs (80 % of the memory roof), ``others`` bytes moved in between."""
    rows, now = [], 0
    for _ in range(repeats):
        rows += [row("product", now, 1_000), row("other", now + 1_000, 90_000)]
        now += 91_000
    made = study(
        capture(rows),
        {"product": {"bytes": 8e5, "flops": 8e5}, "other": {"bytes": others, "flops": 0.0}},
        families={"product": "gemm"},
    )
    frame = made.kernels
    mine = frame["raw_name"] == "product"
    frame["problem_shape"] = pd.Series([{**SHAPE, **shape} if own else None for own in mine], dtype=object)
    frame.loc[mine, "bytes_basis"] = basis
    runner.run(made)
    return made.kernels[made.kernels["raw_name"] == "product"].iloc[0]


def test_weights_that_stay_in_the_l2_between_two_dispatches() -> None:
    found = product(others=1e6)  # the L2 holds 1 MB, and its own weights are 0.8 MB
    assert (found["limiter"], found["confidence"]) == ("unknown", "low")
    assert found["bound"] == "memory"  # by intensity, wherever its bytes come from
    text = " ".join(found["evidence"])
    assert "80 % of the 1 TB/s of the Paper datasheet, were all of it from memory" in text
    assert "the caches, which hold 1 MB, may have served all of it" in text and "[limiter-in-cache]" in text


def test_weights_pushed_out_by_what_ran_in_between() -> None:
    found = product(others=3e6)
    assert (found["limiter"], found["limiter_rule"]) == ("memory-bandwidth", "limiter-memory-roof")
    assert product(others=3e6, bits=4)["limiter"] == "unknown"  # most of its bytes are no weights then


def test_measured_bytes_are_what_memory_moved() -> None:
    assert product(others=0.0, basis="measured")["limiter"] == "memory-bandwidth"


def test_far_from_the_roof_it_matters_not_where_bytes_come_from() -> None:
    made = study(capture([row("k", 0, 10_000)]), {"k": {"bytes": 9e5, "flops": 0.0}}, spec=SPEC)
    runner.run(made)
    assert made.kernels["limiter"].iloc[0] == "latency"


@pytest.mark.captures
@pytest.mark.parametrize("name", ["fp16", "gptq8"])
def test_a_real_vllm_keeps_its_labels_but_of_what_the_kernel_before_wrote(captures: Path, name: str) -> None:
    folder = captures / "h200_vllm"
    found = pipeline.analyze(folder / f"{name}_graph.kineto.json.gz", model=folder / f"{name}_config.json")
    warm = [each for each in found.kernels if "[limiter-in-cache]" in each.evidence[-1]]
    # activations and norms of a prompt; weights of one layer fit the L2 of 60 MB, but all of a step do not
    assert {"activation", "rmsnorm"} <= {each.family for each in warm}
    assert not {each.family for each in warm} & {"gemm", "gptq_gemm", "attention", "dequant"}
    assert sum(each.time_frac or 0.0 for each in warm) < 0.01
    fits = [
        each
        for each in found.kernels
        if each.limiter == "memory-bandwidth" and (each.bytes_per_dispatch.value or 0.0) < 60e6
    ]
    assert {each.family for each in fits} <= {"gemm", "gptq_gemm", "dequant", "attention"}
