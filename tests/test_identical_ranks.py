"""One trace given as several identical ranks says what it says of one: ranks work at the same time."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rocscope import pipeline, ranking
from rocscope.analyzers import runner
from rocscope.capture import Capture
from rocscope.config import AnalyzeOptions
from rocscope.findings import Target
from synthetic_capture import capture, row, study


def as_ranks(one: Capture, count: int) -> Capture:
    """The recording of a single process and GPU, repeated as ``count`` ranks that do the same."""
    manifest = one.manifest.model_copy(deep=True)
    (gpu,), process = manifest.gpus, manifest.processes[0]
    manifest.gpus = [gpu.model_copy(update={"gpu": at, "agent": f"device {at}"}) for at in range(count)]
    manifest.processes = [process.model_copy(update={"process": at, "rank": at}) for at in range(count)]
    manifest.world_size = manifest.model_tp = None

    def moved(table: pa.Table, at: int) -> pa.Table:
        for name in ("process", "gpu"):
            index = table.schema.get_field_index(name)
            field = table.schema.field(index)
            value = pc.if_else(table[name].is_valid(), pa.scalar(at, field.type), pa.scalar(None, field.type))
            table = table.set_column(index, field, value)
        return table

    return Capture(
        manifest=manifest,
        dispatches=pa.concat_tables([moved(one.dispatches, at) for at in range(count)]),
        counters=one.counters,
        spans=pa.concat_tables([moved(one.spans, at) for at in range(count)]),
        samples=one.samples,
    )


def said(targets: list[Target]) -> list[tuple[Any, ...]]:
    return [
        (
            *(
                each.id,
                re.sub(r"^GPU \d+", "the GPU", each.problem),
                each.time_frac,
                each.headroom_s,
                each.confidence,
            ),
            each.expected_gain
            and each.expected_gain.model_dump(include={"low_frac", "mid_frac", "high_frac"}),
            [shape.model_dump() for shape in each.launch_shapes],
        )
        for each in targets
    ]


@pytest.mark.parametrize("count", [2, 4])
def test_a_recorded_rank_repeated(examples: Path, count: int) -> None:
    folder = examples / "h200_decoder"
    config = folder / "w4_config.json"
    recorded = pipeline.load(folder / "tp2_straggler_rank0.json.gz")
    alone = pipeline.analyze_capture(as_ranks(recorded, 1), AnalyzeOptions(model=config, tp=2))
    ranks = pipeline.analyze_capture(as_ranks(recorded, count), AnalyzeOptions(model=config, tp=2))
    kernels = [each for each in alone.targets if each.scope == "kernel" and each.headroom_s]
    assert len(kernels) > 1 and all(each.gpu is None for each in alone.targets)
    assert said(ranks.targets) == said(alone.targets)
    assert {each.gpu for each in ranks.targets if each.scope == "kernel" and each.headroom_s} == {0}


_KERNELS = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(1_000, 90_000), st.sampled_from([25_600, 51_200])),
    min_size=1,
    max_size=12,
)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(kernels=_KERNELS, count=st.integers(2, 8))
def test_any_rank_repeated(kernels: list[tuple[str, int, int]], count: int) -> None:
    def targets(ranks: int) -> list[Target]:
        rows, now = [], 0
        for name, duration, grid in kernels:
            rows += [row(name, now, duration, grid_x=grid, gpu=at, process=at) for at in range(ranks)]
            now += duration + 500
        checked = study(capture(rows, ranks=ranks), {n: {"bytes": 1e6, "flops": 0.0} for n in "ab"})
        runner.run(checked)
        return ranking.rank(checked.kernels, checked.targets)[0]

    one, several = targets(1), targets(count)
    # the window of each GPU and its rows are the same figures; sums over other numbers of rows round apart
    for mine, theirs in zip(said(one), said(several), strict=True):
        assert (*mine[:2], *mine[4:5], *mine[6:]) == (*theirs[:2], *theirs[4:5], *theirs[6:])
        assert mine[2:4] == pytest.approx(theirs[2:4], rel=1e-12)
        assert mine[5] == pytest.approx(theirs[5], rel=1e-12)


def test_of_ranks_that_differ_the_one_that_gains_most_is_said() -> None:
    rows = [row("k", 0, 10_000, gpu=0), row("rest", 10_000, 30_000, gpu=0)]
    rows += [row("k", 0, 30_000, gpu=1, process=1), row("rest", 30_000, 10_000, gpu=1, process=1)]
    checked = study(capture(rows, ranks=2), {"k": {"bytes": 1e6, "flops": 0.0}})
    runner.run(checked)
    target = ranking.rank(checked.kernels, checked.targets)[0][0]
    assert (target.kernel, target.gpu, target.time_frac) == ("k", 1, 0.75)
    assert target.headroom_s == pytest.approx(30e-6 - 1e6 / 0.8e12)  # of GPU 1 alone
    assert target.expected_gain and "on GPU 1, which gains most" in target.expected_gain.basis
    assert "one launch shape" in target.problem and len(target.evidence) == 3
