import pytest

from rocscope import pipeline
from rocscope.analyzers import runner
from rocscope.analyzers.families import ANALYZER as FAMILIES
from rocscope.analyzers.integrity import ANALYZER as INTEGRITY
from rocscope.analyzers.launch_gaps import ANALYZER as LAUNCH_GAPS
from rocscope.analyzers.ranks import ANALYZER as RANKS
from rocscope.analyzers.timeline import ANALYZER
from synthetic_capture import capture, row, study


def run(made, **options):
    checked = study(made, **options)
    runner.run(checked, [ANALYZER, INTEGRITY, RANKS, LAUNCH_GAPS])
    return checked


def test_busy_is_the_union_and_idle_the_rest():
    checked = run(capture([row("a", 0, 600), row("b", 500, 300), row("a", 900, 100)]))
    gpu = checked.gpus[0]
    assert gpu.wall_s == pytest.approx(1e-6) and gpu.busy_s == pytest.approx(0.9e-6)
    assert gpu.idle_s == pytest.approx(0.1e-6) and gpu.busy_frac == pytest.approx(0.9)
    assert (gpu.model, gpu.arch, gpu.peak_bandwidth_bytes_per_s) == ("Paper", "gfx000", 1e12)
    assert gpu.achievable_source == "made up for tests"
    assert checked.kernels["wall_ns"].tolist() == [1000, 1000]


def test_the_window_that_was_asked_for_is_the_wall():
    rows = [row("a", 100, 50)]
    assert run(capture(rows, window_ns=(0, 1000))).gpus[0].wall_s == pytest.approx(1e-6)
    assert run(capture(rows, window_ns=(120, 1000))).gpus[0].wall_s == pytest.approx(50e-9)
    assert run(capture(rows, window_ns=(0, 1000)), steps=(0, 1)).gpus[0].wall_s == pytest.approx(50e-9)


def test_a_part_between_two_times_is_idle_where_nothing_ran_in_it():
    rows = [row("a", at, 100) for at in (0, 1000, 1900)]
    gpu = pipeline.analyze(capture(rows), between_s=(0.5e-6, 1.5e-6)).gpus[0]
    assert gpu.wall_s == pytest.approx(1e-6) and gpu.idle_s == pytest.approx(0.9e-6)
    gpu = pipeline.analyze(capture(rows), between_s=(1e-6, 9.0)).gpus[0]  # no longer than was recorded
    assert gpu.wall_s == pytest.approx(1e-6) and gpu.busy_s == pytest.approx(0.2e-6)


def test_an_extent_over_ranks_is_no_window():
    rows = [row("a", 0, 100), row("a", 10**9, 100, gpu=1, process=1)]
    checked = run(capture(rows, ranks=2, window_ns=(0, 10**9 + 100)))
    assert [gpu.wall_s for gpu in checked.gpus] == pytest.approx([1e-7, 1e-7])
    assert [gpu.rank for gpu in checked.gpus] == [0, 1]


def test_no_idle_time_is_claimed_where_kernels_are_missing():
    made = capture([row("a", 0, 100), row("a", 900, 100)], partial=True)
    checked = run(made)
    assert checked.gpus[0].busy_s == pytest.approx(200e-9)
    assert checked.gpus[0].idle_s is None and checked.gpus[0].busy_frac is None
    assert "idle-withheld" in {each.code for each in checked.warnings} and not checked.targets


def test_totals_alone_have_no_timeline():
    checked = run(capture([row("a", None, 100, count=4)]))
    assert checked.gpus[0].wall_s is None and checked.gpus[0].busy_frac is None and not checked.targets


def test_launch_gaps_become_a_target_and_long_pauses_do_not():
    # 10 kernels of 1 us, 9 pauses of 1 us, then 1 ms of nothing and a last kernel: 9 us of 1.02 ms
    rows = [row("a", 2000 * i, 1000) for i in range(10)]
    checked = run(capture(rows))
    target = checked.targets[0]
    assert target.time_frac == pytest.approx(9 / 19) and target.headroom_s == pytest.approx(9e-6)
    assert target.expected_gain.low_frac < target.expected_gain.mid_frac < target.expected_gain.high_frac
    assert target.expected_gain.high_frac < target.time_frac
    assert "9 pauses of at most 100 µs between kernels add up to 9 µs" in target.evidence[0]
    assert not run(capture([*rows, row("a", 1_019_000, 1000)])).targets
    assert "one longer pause takes" in run(capture([*rows, row("a", 150_000, 1000)])).targets[0].evidence[1]


def test_two_runs_in_one_recording_are_not_idle_between():
    checked = run(capture([row("a", 0, 100), row("a", 10**12, 100)]))
    assert checked.gpus[0].idle_s is None and checked.gpus[0].busy_s == pytest.approx(200e-9)
    assert [each.code for each in checked.warnings] == ["one-long-pause"]


def test_gaps_are_those_of_the_gpu_that_loses_most():
    rows = [row("a", 2000 * i, 1000) for i in range(10)]
    rows += [row("a", 0, 19_000, gpu=1, process=1)]
    target = run(capture(rows, ranks=2)).targets[0]
    assert target.time_frac == pytest.approx(9 / 19) and target.headroom_s == pytest.approx(9e-6)
    assert target.problem.startswith("GPU 0 is idle for 47.4 % of the window")
    assert "on GPU 0, which loses most" in target.evidence[0]


def test_gaps_of_a_gpu_that_waits_for_a_late_one_are_no_target():
    """GPU 0 launches with pauses and then waits in the collective for GPU 1, which has none."""
    rows = [row("mm", 2000 * i, 1000) for i in range(10)]
    rows += [row("mm", 2000 * i, 2000, gpu=1, process=1) for i in range(20)]
    rows += [row("allreduce", 20_000, 20_100), row("allreduce", 40_000, 100, gpu=1, process=1)]
    families = {"allreduce": "communication", "mm": "gemm"}
    assert not [each for each in run(capture(rows, ranks=2), families=families).targets if "gaps" in each.id]
    late = [{**each, "gpu": 1 - each["gpu"], "process": 1 - each["process"]} for each in rows]
    assert not [each for each in run(capture(late, ranks=2), families=families).targets if "gaps" in each.id]


def test_gaps_of_the_late_gpu_are_a_target():
    rows = [row("mm", 0, 10_000), row("allreduce", 10_000, 30_100)]
    rows += [row("mm", 2000 * i, 1000, gpu=1, process=1) for i in range(20)]
    rows += [row("allreduce", 40_000, 100, gpu=1, process=1)]
    families = {"allreduce": "communication", "mm": "gemm"}
    target = next(
        each for each in run(capture(rows, ranks=2), families=families).targets if "gaps" in each.id
    )
    assert target.problem.startswith("GPU 1 is idle for 49.9 % of the window")
    assert "on GPU 1, which the others wait for," in target.evidence[0]
    assert "the two gains do not add up" in target.evidence[-1]


def test_counters_make_the_gpu_wait_so_that_no_idle_time_is_claimed():
    rows = [row("a", 3000 * i, 1000) for i in range(20)]
    checked = run(capture(rows, passes=[{"counters": ("X",), "perturbed": True}]))
    assert checked.gpus[0].idle_s is None and not checked.targets
    assert "counters were on" in {w.code: w.message for w in checked.warnings}["idle-withheld"]


def test_back_to_back_kernels_leave_no_gaps():
    assert not run(capture([row("a", 1000 * i, 1000) for i in range(5)])).targets


def test_an_unknown_gpu_has_a_timeline_and_no_peaks():
    gpu = run(capture([row("a", 0, 10)]), spec=None).gpus[0]
    assert gpu.busy_s == pytest.approx(1e-8) and gpu.peak_bandwidth_bytes_per_s is None
    assert gpu.model == "Paper" and gpu.peak_flops_per_s == {}


def families(rows, models, names):
    checked = study(capture(rows), models, families=names)
    runner.run(checked, [each for each in runner.analyzers() if each.name != "families"])
    FAMILIES.run(checked)
    return {each.family: each for each in checked.families}


def test_a_family_of_one_mind_has_its_verdict():
    rows = [row("near", 0, 9_000), row("far", 9_000, 1_000, grid_x=256)]
    models = {"near": {"bytes": 7.2e6, "flops": 0.0}}
    found = families(rows, models, {"near": "gemm", "far": "gemm"})["gemm"]
    assert (found.bound, found.limiter) == ("memory", "memory-bandwidth")
    assert found.time_frac == 1 and found.modelled_time_frac == pytest.approx(0.9)
    assert found.bytes == 7.2e6 and found.achieved_bandwidth_bytes_per_s == pytest.approx(0.8e12)
    assert found.bandwidth_frac == pytest.approx(0.8)
    assert [each["time_frac"] for each in found.split] == pytest.approx([0.9, 0.1])


def test_a_family_of_two_minds_has_none_and_lists_both():
    rows = [row("near", 0, 10_000), row("far", 10_000, 10_000)]
    models = {"near": {"bytes": 8e6, "flops": 0.0}, "far": {"bytes": 1e6, "flops": 0.0}}
    found = families(rows, models, {})["elementwise"]
    assert (found.bound, found.limiter) == ("memory", "unknown")
    assert {each["limiter"] for each in found.split} == {"memory-bandwidth", "latency"}


def test_a_part_of_a_family_does_not_pass_for_the_whole():
    rows = [row("known", 0, 6_000), row("dark", 6_000, 4_000)]
    found = families(rows, {"known": {"bytes": 4.8e6, "flops": 0.0}}, {})["elementwise"]
    assert found.modelled_time_frac == pytest.approx(0.6) and found.bytes is None
    assert found.achieved_bandwidth_bytes_per_s is None and found.bandwidth_frac is None


def test_dispatches_without_times_do_not_speed_up_their_family():
    rows = [row("k", 0, 10_000), row("k", None, None)]
    found = families(rows, {"k": {"bytes": 5e6, "flops": 0.0}}, {})["elementwise"]
    assert found.dispatches == 2 and found.bytes == 1e7
    assert found.achieved_bandwidth_bytes_per_s == pytest.approx(0.5e12)
    assert found.bandwidth_frac == pytest.approx(0.5)


def test_copies_to_the_host_do_not_hide_behind_a_few_within_the_device():
    names = {"Memcpy HtoD (Pageable -> Device)": 9_000, "Memcpy DtoD (Device -> Device)": 1_000}
    rows = [row(name, 10_000 * i, time, kind="memcpy") for i, (name, time) in enumerate(names.items())]
    models = {name: {"bytes": 8e5, "flops": 0.0} for name in names}
    found = families(rows, models, dict.fromkeys(names, "memcpy"))
    assert found["memcpy"].bytes == 1.6e6 and found["memcpy"].bandwidth_frac is None


def test_a_family_without_times_or_bytes_says_so():
    found = families([row("k", None, None)], {}, {})["elementwise"]
    assert found.time_s is None and found.time_frac is None and found.bytes is None
    assert found.bound == "unknown" and found.modelled_time_frac is None
