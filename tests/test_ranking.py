from pathlib import Path

import pytest

from rocscope import advice, pipeline, ranking, thresholds, wording
from rocscope.analyzers import runner
from rocscope.errors import InputError
from synthetic_capture import capture, row, study


def rank(rows, models, ranks=1, **more):
    checked = study(capture(rows, ranks=ranks), models, **more)
    runner.run(checked)
    return ranking.rank(checked.kernels, checked.targets)


EXAMPLES = Path(__file__).resolve().parent.parent / "examples" / "h200_decoder"
SENTENCE = "long enough for a sentence"
SLOW = {"bytes": 1e6, "flops": 0.0}  # 1.25 us at the 0.8 TB/s that are reached


def test_gain_follows_from_share_distance_to_the_roofline_and_limiter():
    # half of the window at 12.5 of 100 us: 1/8 of the roofline, latency limited: 0.05, 0.3, 0.75 of the way
    rows = [row("k", 0, 100_000), row("rest", 100_000, 100_000)]
    targets, _ = rank(rows, {"k": {"bytes": 1e7, "flops": 0.0}})
    target = targets[0]
    assert (target.rank, target.kernel, target.scope) == (1, "k", "kernel")
    assert target.time_frac == 0.5 and target.headroom_s == pytest.approx(8.75e-5)
    gain = target.expected_gain
    assert gain.low_frac == pytest.approx(0.5 * (1 - 0.125**0.05))
    assert gain.mid_frac == pytest.approx(0.5 * (1 - 0.125**0.30))
    assert gain.high_frac == pytest.approx(0.5 * (1 - 0.125**0.75))
    assert gain.mid_frac < 0.6 * target.headroom_s / 200e-6  # well below the headroom
    assert "12.5 % of the roofline at achievable ceilings" in gain.basis and "field notes" in gain.basis
    assert target.problem == "k takes 50 % of the window (one launch shape): memory bound, limited by latency"


def test_no_kernel_is_expected_to_run_shorter_than_a_kernel_can():
    # 1.25 us by the roofline, 4 us by the launch floor of this GPU, 1 us by the shortest kernel seen
    rows = [row("k", 0, 10_000), row("rest", 10_000, 10_000)]
    gain = rank(rows, {"k": SLOW})[0][0].expected_gain
    assert gain.high_frac == pytest.approx(0.5 * (1 - 0.4**0.75))
    gain = rank([*rows, row("short", 20_000, 2_000)], {"k": SLOW})[0][0].expected_gain
    assert gain.high_frac == pytest.approx(10 / 22 * (1 - 0.2**0.75))


def test_the_gptq_kernel_of_the_field_notes_is_forecast_below_fifteen_percent():
    # section B and C: 59.9 % of the step; on average at 0.58 of the achievable bandwidth; +3.3 % came of it
    rows = [row("gptq", 0, 5_990), row("rest", 5_990, 4_010)]
    gain = rank(rows, {"gptq": {"bytes": 0.58 * 5.99e-6 * 0.8e12, "flops": 0.0}})[0][0].expected_gain
    assert gain.mid_frac < 0.15 and gain.low_frac < 0.033 < gain.high_frac


def test_launch_shapes_of_one_kernel_are_one_target():
    rows = [row("k", 0, 10_000), row("k", 10_000, 30_000, grid_x=102400), row("j", 40_000, 60_000)]
    targets, _ = rank(rows, {"k": SLOW, "j": SLOW})
    assert [each.kernel for each in targets] == ["j", "k"]
    assert [shape.grid[0] for shape in targets[1].launch_shapes] == [102400, 51200]
    assert "2 launch shapes" in targets[1].problem
    assert targets[1].evidence[0].startswith("grid 102400 x 1 x 1, 1 dispatches: moves 1 MB")


def test_time_hidden_behind_other_work_gives_no_gain():
    rows = [
        row("hidden", 0, 10_000),
        row("cover", 0, 10_000),
        row("part", 10_000, 10_000),
        row("x", 15_000, 5_000),
    ]
    targets, _ = rank(rows, {"hidden": SLOW, "part": SLOW})
    assert [each.kernel for each in targets] == ["part"]
    assert targets[0].time_frac == pytest.approx(0.25)
    assert "50 % of its time is hidden behind other kernels" in targets[0].evidence[-1]


def test_kernels_of_unknown_bound_are_named_but_no_target():
    targets, missing = rank([row("k", 0, 10_000), row("big", 10_000, 30_000)], {"k": SLOW})
    assert [each.kernel for each in targets] == ["k"]
    assert missing[0].rule == "target-unknown-bound" and "big (elementwise), 75 %" in missing[0].missing
    assert "of big counters, a run each (FETCH_SIZE, WRITE_SIZE)" in missing[0].collect_with
    assert rank([row("k", 0, 10_000)], {"k": SLOW})[1] == []


def test_a_shape_of_unknown_bound_is_said_beside_the_known_ones():
    checked = study(capture([row("k", 0, 10_000), row("k", 10_000, 10_000, grid_y=2)]), {"k": SLOW})
    checked.kernels.loc[checked.kernels["grid_y"] == 2, "flops"] = float("nan")
    runner.run(checked)
    target = ranking.rank(checked.kernels)[0][0]
    assert "10 µs more of this kernel has no known bound" in target.evidence[-1]
    assert len(target.launch_shapes) == 1


def test_gains_too_small_to_confirm_and_kernels_at_the_roof_are_no_targets():
    rows = [row("tiny", 0, 10_000), row("full", 10_000, 20_000_000)]
    assert rank(rows, {"tiny": SLOW, "full": {"bytes": 1.6e10, "flops": 0.0}})[0] == []


def test_order_and_ids_do_not_depend_on_chance():
    rows = [row(name, 100_000 * i, 100_000) for i, name in enumerate("dbca")]
    models = {name: {"bytes": 1e7, "flops": 0.0} for name in "abcd"}
    first, again = rank(rows, models)[0], rank(list(reversed(rows)), models)[0]
    assert [each.id for each in first] == [each.id for each in again]
    assert [each.rank for each in first] == [1, 2, 3, 4] and len({each.id for each in first}) == 4
    assert ranking.identifier("kernel", "void A<b>(c)", "gemm") == ranking.identifier(
        "kernel", "void A<b>(c)", "gemm"
    )
    assert ranking.identifier("kernel", "k", "ab").startswith("kernel-k-")
    assert ranking.identifier("kernel", "k", "ab") != ranking.identifier("kernel", "ka", "b")


def four_ranks(own):
    """Each rank runs `k` for 10 of its 40 us, and `own[rank]` of the rest."""
    rows = []
    for gpu, rest in enumerate(own):
        where = {"gpu": gpu, "process": gpu}
        rows += [row("k", 0, 10_000, **where), row("rest", 10_000, rest, **where)]
        rows.append(row("rest", 39_000, 1_000, **where))
    return rows


def test_shares_of_ranks_that_work_side_by_side_do_not_add_up():
    one = rank(four_ranks([29_000]), {"k": SLOW})[0][0]
    four = rank(four_ranks([29_000] * 4), {"k": SLOW}, ranks=4)[0][0]
    assert four.time_frac == one.time_frac == 0.25
    assert four.expected_gain.mid_frac == pytest.approx(one.expected_gain.mid_frac)
    assert four.headroom_s == pytest.approx(one.headroom_s) and four.gpu == 0 and one.gpu is None
    assert "25 % of the window is exposed time of this kernel on GPU 0" in four.expected_gain.basis


def test_a_gpu_that_does_little_does_not_dilute_the_shares():
    idle = [row("x", at, 10, gpu=1, process=1) for at in (0, 39_990)]
    target = rank([*four_ranks([29_000]), *idle], {"k": SLOW}, ranks=2)[0][0]
    assert target.kernel == "k" and target.time_frac == 0.25
    assert target.expected_gain.high_frac < target.time_frac


def test_without_windows_shares_are_of_the_kernel_time_of_one_gpu():
    totals = [{**each, "start_ns": None, "end_ns": None} for each in four_ranks([29_000] * 4)]
    assert rank(totals, {"k": SLOW}, ranks=4)[0][0].time_frac == 0.25


def test_a_pause_between_two_runs_is_no_part_of_the_window():
    rows = [row("k", 0, 10_000), row("rest", 10_000, 10_000), row("rest", 10**12, 20_000)]
    assert rank(rows, {"k": SLOW})[0][0].time_frac == 0.25


def test_confidence_is_that_of_most_of_the_headroom():
    rows = [row("k", 0, 10_000), row("k", 10_000, 40_000, grid_y=2)]
    checked = study(capture(rows), {"k": SLOW})
    runner.run(checked)
    for levels, expected in (
        (("high", "low"), "low"),
        (("low", "high"), "high"),
        (("low", "medium"), "medium"),
    ):
        checked.kernels["confidence"] = checked.kernels["grid_y"].map(
            dict(zip((1.0, 2.0), levels, strict=True))
        )
        assert ranking.rank(checked.kernels)[0][0].confidence == expected


def test_nothing_to_rank():
    assert rank([], {}) == ([], [])
    assert rank([row("k", None, None)], {"k": SLOW})[0] == []


@pytest.mark.parametrize(
    ("family", "limiter", "part"),
    [
        ("gptq_gemm", "latency", "access pattern of name first"),
        ("gptq_gemm", "memory-bandwidth", "fewer bytes is what is left"),
        ("gptq_gemm", "launch", "as short as a kernel can be"),
        ("gptq_gemm", "compute", "arithmetic roof is near"),
        ("gemm", "launch", "as short as a kernel can be"),
        ("gemm", "balanced", "Both roofs are near"),
        ("ssm", "latency", "Neither roof is near"),
        ("ssm", "parallelism", "Launch enough workgroups"),
        ("ssm", "unknown", "Collect counters"),
    ],
)
def test_the_most_specific_advice_wins(family, limiter, part):
    assert part in advice.advise(family, limiter, "name")[0]
    assert "{kernel}" not in "".join(advice.advise(family, limiter, "name"))


@pytest.mark.parametrize(
    "text",
    [
        "[[entry]",
        '[[entry]]\nadvice = "short"',
        f'[[entry]]\nfamily = "gemm"\nadvice = "{SENTENCE}"\nconfirm_by = "{SENTENCE}"',
    ],
)
def test_damaged_advice_is_refused(text):
    with pytest.raises(InputError, match=r"advice\.toml"):
        advice.read(text)


@pytest.mark.parametrize("text", ["x =", "[verdict]"])
def test_damaged_thresholds_are_refused(text):
    with pytest.raises(InputError, match=r"thresholds\.toml"):
        thresholds.read("thresholds.toml", text)


def test_shares_that_fall_are_refused():
    with pytest.raises(ValueError, match="must not fall"):
        thresholds.Shares(low=0.5, mid=0.1, high=0.9, source="made up for tests")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (wording.digits(0.0123456), "0.0123"),
        (wording.digits(0.00001234), "0.0000123"),
        (wording.digits(1234567), "1,230,000"),
        (wording.digits(0), "0"),
        (wording.amount(8_732_672, "B"), "8.73 MB"),
        (wording.amount(1.2288e12, "B/s"), "1.23 TB/s"),
        (wording.amount(0.5, "B"), "0.5 B"),
        (wording.amount(999_900, "B"), "1 MB"),
        (wording.duration(45_400), "45.4 µs"),
        (wording.duration(950), "950 ns"),
        (wording.duration(2.5e9), "2.5 s"),
        (wording.percent(0.157), "15.7 %"),
    ],
)
def test_figures_have_three_digits_and_a_unit(text, expected):
    assert text == expected


def test_targets_without_a_forecast_come_last():
    rows = [row("k", 0, 100_000), row("few", 100_000, 100_000, grid_x=256)]
    targets, _ = rank(rows, {"k": {"bytes": 1e7, "flops": 0.0}})  # what "few" moves is not known at all
    gains = [each.expected_gain is None for each in targets]
    assert gains == sorted(gains) and gains[-1]
    assert [each.rank for each in targets] == list(range(1, len(targets) + 1))


def test_work_on_a_gpu_that_waits_for_another_gains_nothing():
    checked = study(capture(four_ranks([29_000, 29_000]), ranks=2), {"k": SLOW})
    runner.run(checked)
    both = ranking.rank(checked.kernels)[0]
    checked.kernels["critical"] = checked.kernels["gpu"] == 1
    late = ranking.rank(checked.kernels)[0]
    checked.kernels.loc[checked.kernels["gpu"] == 1, "bound"] = "unknown"
    assert both and late and "on GPU" not in late[0].expected_gain.basis
    assert ranking.rank(checked.kernels)[0] == []


def test_a_kernel_that_starves_for_workgroups_is_a_target_though_its_size_is_unknown():
    # decode attention of one sequence: at most 4 FLOP a byte, but how many bytes is not recorded
    found = pipeline.analyze(
        EXAMPLES / "kineto_strided_graph.json.gz", model=EXAMPLES / "w4_config.json"
    ).targets
    first, second = found[:2]
    assert first.kernel == "gptq_w4a16_gemv_strided_kernel"
    assert first.expected_gain.high_frac - first.expected_gain.low_frac <= 0.5
    assert second.kernel == "paged_attention_decode_kernel"
    assert "limited by parallelism" in second.problem and "8 workgroups on 132" in " ".join(second.evidence)
    gain, share = second.expected_gain, 8 / 132
    assert gain.mid_frac == pytest.approx(second.time_frac * (1 - share**0.30), rel=1e-6)
    assert "spread over all compute units" in gain.basis
    assert sum(each.kernel == second.kernel for each in found) == 1


def test_what_is_known_of_a_kernel_is_told_in_its_target():
    rows = [row("few", 0, 100_000, grid_x=256), row("rest", 100_000, 100_000)]
    targets, _ = rank(rows, {"few": {"bytes": 1e6, "flops": 0.0}})
    told = [each for each in targets if each.kernel == "few"]
    assert len(told) == 1 and told[0].expected_gain is not None
    assert any("[rule-grid-smaller-than-the-gpu]" in each for each in told[0].evidence)
    assert "Split the work over more workgroups" in told[0].advice and " Also: " in told[0].confirm_by
