"""Evidence as a stranger reads it: nothing that is false of the row, and no plural of one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rocscope import pipeline
from rocscope.config import AnalyzeOptions
from rocscope.findings import KernelFinding


@pytest.fixture(scope="module")
def kernels(examples: Path) -> list[KernelFinding]:
    folder = examples / "h200_decoder"
    recording = pipeline.load(folder / "kineto_strided_eager.json.gz")
    options = AnalyzeOptions(model=str(folder / "w4_config.json"))
    return pipeline.analyze_capture(recording, options).kernels


@pytest.fixture(scope="module")
def bare(examples: Path) -> list[KernelFinding]:
    return pipeline.analyze_capture(
        pipeline.load(examples / "h200_decoder" / "kineto_strided_graph.json.gz")
    ).kernels


def test_one_is_singular(kernels: list[KernelFinding]) -> None:
    text = " ".join(sentence for kernel in kernels for sentence in kernel.evidence)
    assert "1 row of" in text
    assert not re.search(r"(?<![\d.])1 (rows|tokens|sequences|workgroups|groups|elements|heads)\b", text)


def test_what_moves_data_alone_has_no_intensity(bare: list[KernelFinding]) -> None:
    moved = [each for each in bare if each.kernel == "CatArrayBatchedCopy"]
    assert moved and moved[0].bound == "memory"
    assert any(sentence.startswith("does no arithmetic") for sentence in moved[0].evidence)
    assert not any("at most 0 FLOP" in sentence for kernel in bare for sentence in kernel.evidence)


def test_what_is_missing_is_missing(kernels: list[KernelFinding], bare: list[KernelFinding]) -> None:
    """An unknown limiter names what it lacks, and nothing that is there."""
    unknown = [
        (kernel, s) for kernel in [*kernels, *bare] for s in kernel.evidence if "limiter-not-enough" in s
    ]
    assert unknown
    for kernel, sentence in unknown:
        assert ("bytes" in sentence) == (kernel.bytes_per_dispatch.value is None), sentence
        assert ("FLOPs" in sentence) == (kernel.flops_per_dispatch.value is None), sentence


def test_collectives_are_held_against_the_link(examples: Path) -> None:
    folder = examples / "h200_decoder"
    options = AnalyzeOptions(model=str(folder / "w4_config.json"), tp=2)
    recording = pipeline.load(*[folder / f"tp2_straggler_rank{rank}.json.gz" for rank in (0, 1)])
    found = pipeline.analyze_capture(recording, options).kernels
    told = [each for each in found if "AllReduce" in each.kernel and each.bytes_per_dispatch.value]
    assert told
    for each in told:
        assert "of the 450 GB/s of the H200's link" in each.evidence[0], each.evidence
    copies = [
        each for each in found if each.family == "memcpy" and "[roofline-link]" in " ".join(each.evidence)
    ]
    assert not any("H200's link" in sentence for each in copies for sentence in each.evidence)  # to the host
