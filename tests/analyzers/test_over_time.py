import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocscope import intervals, pipeline
from rocscope.analyzers import over_time, runner
from rocscope.analyzers.integrity import ANALYZER as INTEGRITY
from rocscope.analyzers.over_time import ANALYZER
from synthetic_capture import capture, row, study
from synthetic_samples import MS, sampled, series

FAMILY = {"a": "gemm", "b": "attention", "c": "rmsnorm"}
ROWS = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 5000), st.integers(0, 400), st.integers(0, 2)),
    min_size=1,
    max_size=40,
)


def timeline(made, **options):
    checked = study(made, families=FAMILY, **options)
    runner.run(checked, [ANALYZER, INTEGRITY])
    return checked.timeline


def step(name, start, duration, gpu=0):
    at = {"start_ns": start, "end_ns": start + duration}
    return {"process": gpu, "kind": "gpu_annotation", "name": name, "gpu": gpu, **at}


def span(name, start, duration, kind="api", process=0):
    at = {"start_ns": start, "end_ns": start + duration}
    return {"process": process, "thread": 1, "kind": kind, "name": name, **at}


DECODE, PREFILL = "execute_context_0(0)_generation_4(4)", "execute_context_1(100)_generation_0(0)"


@given(ROWS)
def test_busy_shares_are_shares_that_add_up(drawn):
    marks = [("a", at, 0, gpu) for at in (0, 2700, 5400) for gpu in range(3)]  # one clock, no long pause
    rows = [*drawn, *marks]
    made = capture([row(name, start, length, gpu=gpu) for name, start, length, gpu in rows], ranks=3)
    found = timeline(made)
    assert found.span_s == pytest.approx(5400e-9) and not found.notes
    for lane in found.lanes:
        busy = np.array(lane.busy_frac)
        families = np.array([each.busy_frac for each in lane.families]).reshape(-1, len(busy))
        assert len(busy) * found.bin_s == pytest.approx(found.span_s)
        assert busy.min() >= 0 and busy.max() <= 1 and (families >= 0).all()
        assert families.sum(axis=0) == pytest.approx(busy, abs=1e-5)
        mine = np.array([(start, start + length) for _, start, length, gpu in rows if gpu == lane.gpu])
        union = intervals.union_ns(mine[:, 0], mine[:, 1])
        assert busy.sum() * found.bin_s == pytest.approx(union * 1e-9, abs=1e-6 * found.span_s)


def test_families_that_run_at_once_share_the_time():
    # 1000 ns, of which b runs in the second half beside a
    found = timeline(capture([row("a", 0, 1000), row("b", 500, 500)]))
    lane = found.lanes[0]
    assert lane.busy_frac == [1.0] * 40 and lane.label == "GPU 0"
    shares = {each.family: each.busy_frac for each in lane.families}
    assert shares["gemm"] == [1.0] * 20 + [0.5] * 20 and shares["attention"] == [0.0] * 20 + [0.5] * 20
    assert [each.family for each in lane.families] == ["gemm", "attention"]


def test_bins_are_few_for_few_dispatches_and_bounded_for_many():
    assert len(timeline(capture([row("a", 7, 10**9)])).lanes[0].busy_frac) == 20
    assert len(timeline(capture([row("a", 7, 3)])).lanes[0].busy_frac) == 3
    many = [row("a", 100 * at, 50) for at in range(1000)]
    assert len(timeline(capture(many)).lanes[0].busy_frac) == over_time.MOST_BINS
    ranks = [row("a", 100 * at, 50, gpu=gpu, process=gpu) for gpu in range(64) for at in range(20)]
    found = timeline(capture(ranks, ranks=64))
    assert len(found.lanes) == 64 and len(found.lanes[0].busy_frac) == 75


@pytest.mark.parametrize("rows", [[], [row("a", None, 100)], [row("a", 5, 0)]])
def test_without_times_there_is_no_timeline(rows):
    assert pipeline.analyze(capture(rows)).timeline is None


def test_the_axis_is_the_window_that_was_asked_for():
    found = pipeline.analyze(capture([row("a", 100, 50)], window_ns=(0, 1000))).timeline
    assert found.span_s == pytest.approx(1e-6)
    assert sum(found.lanes[0].busy_frac) * found.bin_s == pytest.approx(50e-9)
    ends = [(each.start_s, each.duration_s, each.during) for each in found.gaps]
    assert ends == [
        (pytest.approx(150e-9), pytest.approx(850e-9), "after the last kernel"),
        (0.0, pytest.approx(100e-9), "before the first kernel"),
    ]


def test_ranks_of_other_clocks_begin_together():
    rows = [row("a", 0, 1000), row("b", 2000, 1000)]
    rows += [row("b", 7 * 10**15, 500, gpu=1, process=1), row("b", 7 * 10**15 + 1500, 500, gpu=1, process=1)]
    made = sampled(capture(rows, ranks=2), series("power_w", [(at * 1e-4, 200) for at in range(9)]))
    found = timeline(made)
    assert found.span_s == pytest.approx(3e-6) and [each.label for each in found.lanes] == [
        "rank 0",
        "rank 1",
    ]
    assert found.lanes[1].busy_frac[0] == 1.0
    assert sorted((each.gpu, round(each.start_s * 1e9)) for each in found.gaps) == [(0, 1000), (1, 500)]
    assert "different clocks" in found.notes[0]
    assert found.series == [] and "not on this axis: the GPUs have different clocks" in found.notes[1]


def test_gpus_that_work_in_turn_are_shown_in_turn():
    rows = [row("a", 0, 1000), row("a", 2000, 1000, gpu=1)]
    made = capture(rows)
    made.manifest.gpus.append(made.manifest.gpus[0].model_copy(update={"gpu": 1}))
    found = timeline(made)
    assert found.span_s == pytest.approx(3e-6) and not found.notes
    assert found.lanes[1].busy_frac[0] == 0.0 and found.lanes[1].busy_frac[-1] == 1.0


def test_of_two_runs_in_one_recording_the_longer_is_shown():
    rows = [row("a", 0, 100), row("a", 10**12, 300), row("b", 10**12 + 400, 100)]
    found = timeline(capture(rows))
    assert found.span_s == pytest.approx(500e-9)
    assert [each.duration_s for each in found.gaps] == [pytest.approx(100e-9)]
    assert found.notes == [
        "a pause is nearly all of the 1,000 s that were recorded: the run with most time in kernels is "
        "shown, 80 % of it"
    ]


def test_pauses_are_the_longest_and_the_rest_is_counted():
    rows, at = [], 0
    for each in range(61):
        rows.append(row("a", at, 100))
        at += 100 + 10 * (each + 1)
    found = timeline(capture(rows))
    assert len(found.gaps) == 50 and found.gaps[0].duration_s == pytest.approx(600e-9)
    assert [each.duration_s for each in found.gaps] == sorted(
        (g.duration_s for g in found.gaps), reverse=True
    )
    assert found.gaps_left_out == 10 and found.gaps_left_out_s == pytest.approx(550e-9)
    assert {each.during for each in found.gaps} == {"waiting for launches"}


def test_what_the_host_did_in_a_pause_is_told():
    rows = [row("a", at * MS, MS // 2) for at in (0, 10, 14, 20)]
    spans = [
        span("forward", 0, 30 * MS, kind="operator"),  # over half of the axis: tells nothing
        span("hipStreamSynchronize", 0, 11 * MS),
        span("poll", MS, 9 * MS, kind="operator"),  # covers less than nine tenths of the first pause
        span("tokenize", 10 * MS, 2 * MS, kind="operator"),
        span("other process", 14 * MS, 6 * MS, process=1),
    ]
    found = timeline(capture(rows, spans=spans))
    told = {round(each.start_s, 4): each.during for each in found.gaps}
    assert told == {0.0005: "host in poll", 0.0105: "host in tokenize for 42.9 % of it", 0.0145: None}


def test_a_pause_without_requests_is_said_to_be_one():
    rows = [row("a", at * MS, MS // 2) for at in (0, 10, 20)]
    readings = [(at, 0 if 1 < at < 10 else 3) for at in range(0, 20, 2)]
    made = sampled(
        capture(rows),
        series("requests_running", readings, "server"),
        series("requests_waiting", [(at, 0) for at, _ in readings], "server"),
    )
    found = timeline(made)
    told = {round(each.start_s, 4): each.during for each in found.gaps}
    assert told == {0.0005: "no request was running or waiting", 0.0105: None}
    assert [each.name for each in found.series] == ["requests running", "requests waiting"]


def test_no_pauses_are_told_where_kernels_are_missing():
    found = timeline(capture([row("a", 0, 100), row("a", 900, 100)], partial=True))
    assert found.gaps == [] and "pauses are not told" in found.notes[0]
    counted = capture([row("a", 0, 9), row("a", 99, 9)], passes=[{"counters": ("X",), "perturbed": True}])
    assert "counters were on" in timeline(counted).notes[0]


def test_successive_steps_of_a_phase_are_one_stretch():
    steps = [step(PREFILL, 0, 900), *(step(DECODE, 1000 * at, 900) for at in (1, 2, 3))]
    steps += [step(DECODE, 20_000, 900), step(PREFILL, 21_000, 900)]
    rows = [row("a", 1000 * at, 800) for at in (0, 1, 2, 3, 20, 21)]
    found = timeline(capture(rows, spans=steps))
    told = [(each.name, each.gpu, each.steps, round(each.start_s * 1e9)) for each in found.spans]
    assert told == [
        ("prefill", 0, 1, 0),
        ("decode", 0, 3, 1000),
        ("decode", 0, 1, 20_000),
        ("prefill", 0, 1, 21_000),
    ]
    assert found.spans[1].end_s == pytest.approx(4e-6)  # to what the next step usually leaves
    assert found.gaps[0].duration_s == pytest.approx(16_200e-9)


def test_ranks_that_run_the_same_steps_are_told_once():
    rows = [row("a", 1000 * at, 800, gpu=gpu, process=gpu) for gpu in (0, 1) for at in range(3)]
    steps = [step(DECODE, 1000 * at, 900, gpu) for gpu in (0, 1) for at in range(3)]
    found = timeline(capture(rows, ranks=2, spans=steps))
    assert [(each.gpu, each.steps) for each in found.spans] == [(None, 3)]
    other = timeline(capture(rows, ranks=2, spans=[*steps[:-1], step(PREFILL, 2000, 900, 1)]))
    assert [each.gpu for each in other.spans] == [0, 1, 1]


def test_very_many_stretches_become_few_that_name_all_their_phases():
    steps = [step((DECODE, PREFILL)[at % 2], 1000 * at, 900) for at in range(1000)]
    found = timeline(capture([row("a", 1000 * at, 800) for at in range(1000)], spans=steps))
    assert len(found.spans) == 200 and {each.name for each in found.spans} == {"decode and prefill"}
    assert sum(each.steps for each in found.spans) == 1000


def test_sensors_are_points_of_bins_with_nulls_where_none_was_read():
    rows = [row("a", at * 10 * MS, 9 * MS) for at in range(31)]  # 309 ms in 600 bins
    readings = [(at * 0.1, 100 + at % 2) for at in range(1000)]  # ten a ms, until 100 ms
    readings += [(200 + at * 0.1, 300) for at in range(100)]
    found = timeline(sampled(capture(rows), series("power_w", readings)))
    power = found.series[0]
    assert (power.name, power.unit, power.gpu, power.source) == ("power", "W", 0, "amdsmi: power_w")
    assert len(power.time_s) == len(power.value) <= over_time.MOST_BINS
    steps = np.diff(power.time_s)
    assert steps == pytest.approx(np.full(len(steps), found.bin_s))
    value = np.array([np.nan if each is None else each for each in power.value])
    at = np.array(power.time_s)
    assert np.nanmax(value[at < 0.1]) <= 101 and np.isnan(value[(at > 0.101) & (at < 0.199)]).all()
    assert value[-1] == 300


def test_readings_more_seldom_than_bins_are_points_themselves():
    rows = [row("a", at * 10 * MS, 9 * MS) for at in range(31)]
    readings = [(at, 1e9 + at) for at in range(-100, 400, 20) if not 100 < at < 200]
    found = timeline(sampled(capture(rows), series("clock_hz", readings)))
    clock = found.series[0]
    inside = [at for at, _ in readings if 0 <= at <= 309]
    assert [at for at, value in zip(clock.time_s, clock.value, strict=True) if value is not None] == (
        pytest.approx([at / 1000 for at in inside])
    )
    assert [round(at, 3) for at, v in zip(clock.time_s, clock.value, strict=True) if v is None] == [0.15]
    assert clock.value[0] == 1e9


def test_tokens_a_second_come_from_totals_and_not_across_a_restart():
    rows = [row("a", at * 10 * MS, 9 * MS) for at in range(31)]
    made = [(0, 0), (50, 100), (100, 300), (150, 5), (200, 105)]
    found = timeline(sampled(capture(rows), series("generation_tokens", made, "server")))
    rate = next(each for each in found.series if each.name == "tokens generated")
    assert rate.unit == "tokens/s" and rate.gpu is None
    told = [(at, value) for at, value in zip(rate.time_s, rate.value, strict=True) if value is not None]
    assert told == [(0.025, 2000), (0.075, 4000), (0.175, 2000)]


def test_throttling_is_told_by_reason():
    rows = [row("a", at * 10 * MS, 9 * MS) for at in range(31)]
    power = [(at, 50 <= at < 100 or 200 <= at < 220) for at in range(0, 300, 10)]
    general = [(at, True) for at in range(0, 300, 10)]
    readings = series("throttled_power", power), series("throttled", general)
    found = timeline(sampled(capture(rows), *readings))
    told = [(each.kind, each.name, each.gpu, each.start_s, each.end_s) for each in found.spans]
    assert told == [
        ("throttled", "power", 0, pytest.approx(0.05), pytest.approx(0.1)),
        ("throttled", "power", 0, pytest.approx(0.2), pytest.approx(0.22)),
    ]
    found = timeline(sampled(capture(rows), readings[1]))
    assert [(each.name, round(each.end_s, 2)) for each in found.spans] == [("reason not told", 0.3)]


def test_readings_of_another_clock_are_not_on_the_axis():
    made = sampled(capture([row("a", 0, MS)]), series("power_w", [(0, 1), (1, 2)]))
    made.notice("clocks-unrelated", "the samples have a clock of their own")
    found = timeline(made)
    assert found.series == [] and found.notes == [
        "what was sampled is not on this axis: the samples have a clock of their own"
    ]


def test_a_recorded_decode(captures):
    found = pipeline.analyze(captures / "h200" / "kineto_fp16_graph.json.gz")
    lane = found.timeline.lanes[0]
    mean = sum(lane.busy_frac) / len(lane.busy_frac)
    assert mean == pytest.approx(found.gpus[0].busy_frac, abs=1e-4)
    assert [each.during for each in found.timeline.gaps[:5]] == ["host in cudaGraphLaunch"] * 5


def test_a_recorded_server_with_its_sensors(captures):
    folder = captures / "h200_vllm"
    found = pipeline.analyze(
        folder / "fp16_graph.kineto.json.gz", folder / "fp16_graph.telemetry.csv"
    ).timeline
    assert [each.name for each in found.spans] == ["prefill", "mixed", "decode"] * 2
    assert {each.name for each in found.series} == {"power", "clock", "memory clock", "temperature"}
    assert "in a prefill step, waiting for launches, host in aten::mm" in {each.during for each in found.gaps}
