import pytest

import rocscope
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


def test_the_gain_of_a_late_rank_is_what_its_extra_work_takes():
    # rank 1 runs four kernels of 1 us with pauses of 1 us instead of one: 3 us of kernels, 3 us of pauses
    late = [row("mm", 2000 * i, 1000, gpu=1, process=1) for i in range(4)]
    rows = [
        *(row("mm", 0, 1000), row("allreduce", 1000, 9000)),
        *(*late, row("allreduce", 8000, 2000, gpu=1, process=1)),
    ]
    gain = run(rows)[0].expected_gain
    assert gain.low_frac == pytest.approx(0.3 + 0.5 * 0.3)
    assert gain.high_frac == pytest.approx(0.3 + 0.3)
    assert "extra kernels take 30 % of the window" in gain.basis


def test_only_the_late_rank_decides():
    checked = study(
        capture([*steps(0, 4000, 6000), *steps(1, 8000, 2000, count=4)], ranks=2),
        families={"allreduce": "communication", "mm": "gemm"},
    )
    runner.run(checked)
    frame = checked.kernels
    assert frame.groupby("gpu")["critical"].all().to_dict() == {0: False, 1: True}
    even = study(
        capture([*steps(0, 8000, 2000), *steps(1, 7990, 2010)], ranks=2),
        families={"allreduce": "communication"},
    )
    runner.run(even)
    assert even.kernels["critical"].all()


def test_the_recorded_straggler_is_named_with_what_it_does_more(examples):
    """Rank 1 repeats its down projection eight times; the all-reduce of rank 0 is waiting, not work."""
    folder = examples / "h200_decoder"
    names = [folder / f"tp2_straggler_rank{rank}.json.gz" for rank in (0, 1)]
    analysis = rocscope.analyze(*names, model=folder / "w4_config.json", tp=2)
    first = analysis.targets[0]
    assert first.problem.startswith("rank 1 is late") and first.family == "communication"
    told = " ".join(first.evidence)
    assert "gptq_w4a16_gemv_kernel" in told and "1584 dispatches against 576 elsewhere" in told
    gain = first.expected_gain
    # 3024 of its 5656 dispatches are repeats, and the run is held up by launching them
    assert 0.2 < gain.low_frac < gain.mid_frac < gain.high_frac < 0.6
    assert gain.high_frac - gain.low_frac <= 0.25
    for target in analysis.targets:
        if target.scope == "kernel":
            assert target.family != "communication"
            assert "on GPU 0" not in (target.expected_gain.basis if target.expected_gain else "")
    collectives = [each for each in analysis.kernels if each.family == "communication"]
    assert {each.limiter for each in collectives} == {"communication"}
    assert all(each.headroom_s is None for each in collectives)
