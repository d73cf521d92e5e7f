"""Ranks, seconds and steps: what stays, what goes, and what is said when nothing is left."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocscope.capture import Capture
from rocscope.collectors.builder import CaptureBuilder
from rocscope.config import AnalyzeOptions
from rocscope.errors import InputError
from rocscope.selection import select, stepped


def build(
    starts: dict[int, list[int]],
    steps: list[tuple[int, str, str, int, int]] = (),  # type: ignore[assignment]
    ranks: dict[int, int] | None = None,
) -> CaptureBuilder:
    """A synthetic capture: dispatches of 10 ns by process, and steps (process, kind, name, start, end)."""
    builder = CaptureBuilder()
    index = builder.add_pass()
    for process, times in starts.items():
        builder.process(1000 + process, name="worker", rank=(ranks or {}).get(process))
        gpu = builder.gpu(f"Agent {process}")
        builder.append(
            "dispatches",
            len(times),
            **scalars(index, process, gpu),
            dispatch_id=pa.array(range(len(times))),
            start_ns=pa.array(times),
            end_ns=pa.array([each + 10 for each in times]),
            duration_ns=pa.array([10] * len(times)),
        )
    for process, kind, name, start, end in steps:
        builder.append(
            "spans",
            1,
            process=pa.scalar(process, pa.int32()),
            kind=pa.scalar(kind),
            name=pa.scalar(name),
            start_ns=pa.scalar(start, pa.int64()),
            end_ns=pa.scalar(end, pa.int64()),
        )
    return builder


def scalars(index: int, process: int, gpu: int) -> dict[str, Any]:
    return {
        "pass": pa.scalar(index, pa.int16()),
        "process": pa.scalar(process, pa.int32()),
        "gpu": pa.scalar(gpu, pa.int32()),
        "kind": pa.scalar("kernel"),
        "kernel": pa.scalar("k"),
        "count": pa.scalar(1, pa.int64()),
    }


def starts(capture: Capture) -> list[int | None]:
    return list(capture.dispatches["start_ns"].to_pylist())


def notices(capture: Capture) -> list[str]:
    return [each.message for each in capture.manifest.notices if each.code == "selection"]


def test_nothing_asked_is_the_capture_itself() -> None:
    capture = build({0: [5]}).build()
    assert select(capture, AnalyzeOptions()) is capture


def test_ranks() -> None:
    builder = build(
        {0: [5], 1: [6], 2: [7]}, [(1, "api", "x", 0, 9), (2, "api", "y", 0, 9)], {0: 0, 1: 1, 2: 2}
    )
    capture = builder.build()
    found = select(capture, AnalyzeOptions(ranks=(1,)))
    assert starts(found) == [6]
    assert found.spans["name"].to_pylist() == ["x"]
    assert notices(found) == ["only rank 1 is analysed"]
    assert starts(capture) == [5, 6, 7]
    assert notices(capture) == []  # the original is untouched
    with pytest.raises(InputError, match="no rank 9") as error:
        select(capture, AnalyzeOptions(ranks=(1, 9)))
    assert "0, 1, 2" in error.value.hint


def test_ranks_that_are_not_recorded() -> None:
    with pytest.raises(InputError, match="no ranks are recorded") as error:
        select(build({0: [5]}).build(), AnalyzeOptions(ranks=(0,)))
    assert "1000 worker" in error.value.hint


def test_between() -> None:
    second = 10**9
    builder = build({0: [100, 100 + second, 100 + 2 * second]})
    for time in (50, 100 + second, 100 + 5 * second):
        builder.append(
            "samples",
            1,
            time_ns=pa.scalar(time, pa.int64()),
            source=pa.scalar("host"),
            subject=pa.scalar("gpu:0"),
            metric=pa.scalar("power_w"),
            value=pa.scalar(1.0),
        )
    capture = builder.build()
    found = select(capture, AnalyzeOptions(between_s=(0.5, 1.5)))
    assert starts(found) == [100 + second]
    assert found.manifest.window_ns == (100 + second // 2, 100 + second * 3 // 2)
    assert found.manifest.duration_s == 1.0
    assert found.samples["time_ns"].to_pylist() == [100 + second]
    assert notices(found) == ["only 0.5 to 1.5 s is analysed (dispatches run from 0 to 2 s)"]
    assert starts(select(capture, AnalyzeOptions(between_s=(1, float("inf"))))) == starts(capture)[1:]
    with pytest.raises(InputError, match="no GPU kernel") as error:
        select(capture, AnalyzeOptions(between_s=(5, 6)))
    assert "0 to 2 s" in error.value.hint


def test_between_needs_times() -> None:
    builder = CaptureBuilder()
    builder.process(1)
    builder.gpu("0")
    builder.append("dispatches", 1, **scalars(builder.add_pass(), 0, 0))
    with pytest.raises(InputError, match="no times"):
        select(builder.build(), AnalyzeOptions(between_s=(0, 1)))


def test_counters_of_another_pass_stay_and_of_this_one_follow() -> None:
    builder = build({0: [0, 10**9]})
    counted = builder.add_pass(("A",), perturbed=True)
    builder.append(
        "dispatches", 1, **scalars(counted, 0, 0), dispatch_id=pa.array([0]), start_ns=pa.array([7 * 10**12])
    )
    for index in (0, counted):
        builder.append(
            "counters",
            2 if index == 0 else 1,
            **{
                name: value
                for name, value in scalars(index, 0, 0).items()
                if name in ("pass", "process", "gpu")
            },
            dispatch_id=pa.array([0, 1] if index == 0 else [0]),
            counter=pa.scalar("A"),
            value=pa.array([1.0, 2.0] if index == 0 else [3.0]),
        )
    found = select(builder.build(), AnalyzeOptions(between_s=(0.5, 2)))
    assert starts(found) == [10**9, 7 * 10**12]
    assert found.counters["value"].to_pylist() == [2.0, 3.0]
    with pytest.raises(InputError, match="no GPU kernel"):  # the counted pass alone is not a selection
        select(builder.build(), AnalyzeOptions(between_s=(3, 4)))


STEPS = [(0, "annotation", "execute_context_0(0)_generation_1(1)", 100 * i, 100 * i + 50) for i in range(4)]


def test_steps() -> None:
    capture = build({0: [0, 60, 110, 160, 210, 310]}, STEPS).build()
    found = select(capture, AnalyzeOptions(steps=(1, 3)))
    assert starts(found) == [110, 210]
    assert found.manifest.window_ns == (100, 250)
    assert found.spans["start_ns"].to_pylist() == [100, 200]
    assert notices(found) == ["only steps 1 to 2 are analysed"]
    assert starts(select(capture, AnalyzeOptions(steps=(3, 99)))) == [310]
    with pytest.raises(InputError, match="none of the steps") as error:
        select(capture, AnalyzeOptions(steps=(7, 9)))
    assert error.value.hint == "steps are 0 to 3"


def test_steps_are_counted_by_process() -> None:
    steps = [*STEPS, *((1, kind, name, start + 7, end + 7) for _, kind, name, start, end in STEPS)]
    capture = build({0: [110, 155], 1: [102, 155]}, steps).build()
    assert starts(select(capture, AnalyzeOptions(steps=(1, 2)))) == [110, 155]  # 155 is in process 1's step


def test_what_the_gpu_did_comes_before_what_the_host_launched() -> None:
    gpu = [(0, "gpu_annotation", name, start + 40, end + 40) for _, _, name, start, end in STEPS]
    twice = [(p, k, n, s + 5, e + 5) for p, k, n, s, e in gpu]  # once more, on another stream
    outer = [(0, "annotation", "ProfilerStep#3", 0, 400), (0, "annotation", "other", 0, 1)]
    capture = build({0: [110, 145, 192, 210]}, [*STEPS, *gpu, *twice, *outer]).build()
    assert starts(select(capture, AnalyzeOptions(steps=(1, 2)))) == [145, 192]
    plain = build({0: [110]}, outer).build()
    assert starts(select(plain, AnalyzeOptions(steps=(0, 1)))) == [110]


def test_the_window_of_the_steps_leaves_set_up_out() -> None:
    capture = build({0: [0, 110, 9999]}, STEPS).build()
    assert stepped(capture) == (0, 350)
    gpu = [(0, "gpu_annotation", name, start + 40, end + 40) for _, _, name, start, end in STEPS]
    assert stepped(build({0: [0]}, [*STEPS, *gpu]).build()) == (40, 390)  # what the GPU did comes first
    assert stepped(build({0: [0]}, STEPS[:2]).build()) is None  # two steps may be anything
    assert stepped(build({0: [0]}, []).build()) is None


def test_no_steps() -> None:
    with pytest.raises(InputError, match="no step annotations"):
        select(build({0: [1]}, [(0, "annotation", "forward", 0, 9)]).build(), AnalyzeOptions(steps=(0, 1)))
    with pytest.raises(InputError, match="no GPU kernel"):
        select(build({0: [9999]}, STEPS).build(), AnalyzeOptions(steps=(0, 1)))


@given(
    st.lists(st.integers(0, 1000), min_size=1, max_size=40),
    st.lists(st.tuples(st.integers(0, 900), st.integers(1, 100)), min_size=1, max_size=12),
)
def test_a_dispatch_stays_if_and_only_if_it_starts_in_a_step(
    times: list[int], spans: list[tuple[int, int]]
) -> None:
    steps = [
        (0, "annotation", f"execute_{i}", start, start + length) for i, (start, length) in enumerate(spans)
    ]
    expected = [t for t in times if any(start <= t < start + length for start, length in spans)]
    capture = build({0: times}, steps).build()
    try:
        assert starts(select(capture, AnalyzeOptions(steps=(0, 99)))) == expected
    except InputError:
        assert expected == []
