import pytest

from rocscope.analyzers import runner
from synthetic_capture import capture, row, study


def run(rows, ranks=2, **more):
    checked = study(capture(rows, ranks=ranks), families={"allreduce": "communication", "mm": "gemm"}, **more)
    runner.run(checked)
    return [each for each in checked.targets if each.family == "communication"]


def steps(gpu, own, wait, count=1, labels=True):
    """Own work of `count` kernels, then a collective until all are there."""
    rows = [row("mm", i * own // count, own // count, gpu=gpu, process=gpu) for i in range(count)]
    return [*rows, row("allreduce", own, wait, gpu=gpu, process=gpu)]


def test_the_rank_that_never_waits_is_late():
    target = run([*steps(0, 4000, 6000), *steps(1, 8000, 2000, count=4)])[0]
    assert target.problem.startswith("rank 1 is late: another rank waits 40 % of the window")
    assert target.headroom_s == pytest.approx(4e-6)
    assert target.expected_gain.high_frac == pytest.approx(0.4)
    assert "more kernel time of its own: 8 µs against 4 µs elsewhere" in target.evidence[1]
    assert "mm: 4 µs more there, 4 dispatches against 1 elsewhere" in target.evidence[2]


def test_a_rank_may_be_held_up_by_its_host():
    rows = [*steps(0, 4000, 6000), *steps(1, 4000, 1000)]
    rows[-1] |= {"start_ns": 9000, "end_ns": 10000}
    assert "by its host" in run(rows)[0].evidence[1]


def test_a_rank_that_was_recorded_for_longer_has_not_waited():
    longer = [
        {**each, "start_ns": each["start_ns"] + 10**5 * i, "end_ns": each["end_ns"] + 10**5 * i}
        for i in range(5)
        for each in steps(0, 8000, 2000)
    ]
    assert run([*longer, *steps(1, 8000, 2000)]) == []


def test_even_ranks_and_single_gpus_have_no_straggler():
    assert run([*steps(0, 8000, 2000), *steps(1, 7990, 2010)]) == []
    assert run(steps(0, 4000, 6000), ranks=1) == []
    assert run([row("mm", 0, 10), row("mm", 0, 99, gpu=1, process=1)]) == []
    assert run([row("allreduce", 0, 0), row("allreduce", 0, 0, gpu=1, process=1)]) == []


def test_totals_alone_are_compared_too():
    rows = [
        {**each, "start_ns": None, "end_ns": None} for each in [*steps(0, 4000, 6000), *steps(1, 8000, 2000)]
    ]
    assert run(rows)[0].time_frac == pytest.approx(0.4)


def test_gpus_without_ranks_are_named_by_number():
    made = capture([*steps(0, 4000, 6000), *steps(1, 8000, 2000)], ranks=2)
    made.manifest.processes[:] = [each.model_copy(update={"rank": None}) for each in made.manifest.processes]
    checked = study(made, families={"allreduce": "communication", "mm": "gemm"})
    runner.run(checked)
    assert any(each.problem.startswith("GPU 1 is late") for each in checked.targets)
