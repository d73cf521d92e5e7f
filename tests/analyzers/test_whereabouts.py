"""Queues whose GPU or rank is not known are said beside those whose is. Captures here are synthetic."""

from __future__ import annotations

from rocscope import pipeline
from rocscope.capture import Capture, Gpu, Process
from synthetic_capture import capture, row


def codes(made: Capture) -> dict[str, str]:
    found = pipeline.analyze_capture(made).integrity.warnings
    return {each.code: each.message for each in found if each.code.startswith("dispatches-without-")}


def two() -> Capture:
    rows = [row("k", 100 * at, 75, gpu=at % 2, process=at % 2, stream=7 + at % 2) for at in range(8)]
    return capture(rows, ranks=2)


def test_ranks_and_gpus_that_are_known_say_nothing() -> None:
    assert codes(two()) == {}
    assert codes(capture([row("k", 0, 10, stream=1)])) == {}  # one process without a rank is no rank's lack


def test_a_queue_of_no_known_rank() -> None:
    made = two()
    made.manifest.processes[1] = Process(process=1, pid=101)
    told = codes(made)
    assert set(told) == {"dispatches-without-rank"}
    assert "4 dispatches (50 % of kernel time, streams or queues 8)" in told["dispatches-without-rank"]


def test_a_queue_of_no_known_gpu() -> None:
    made = two()
    made.manifest.gpus[1] = Gpu(gpu=1, agent="")
    assert set(codes(made)) == {"dispatches-without-gpu"}
    made.manifest.gpus[1] = Gpu(gpu=1, agent="not recorded")
    assert set(codes(made)) == {"dispatches-without-gpu"}
