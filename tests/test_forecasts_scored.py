import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocscope import pipeline, track_record
from rocscope.cli import run
from rocscope.comparison import forecasts, replaced
from rocscope.comparison.result import Comparison, Difference, Tier
from rocscope.config import AnalyzeOptions
from rocscope.errors import UsageError
from rocscope.findings import (
    Analysis,
    CaptureInfo,
    Gain,
    Integrity,
    KernelFinding,
    LostTime,
    Quantity,
    StepRank,
    StepTable,
    Target,
)
from rocscope.reports import contract

STRIDED = "kernel-gptq-w4a16-gemv-strided-kernel-b5c7f12a"


def row(name, base_s, new_s, **more):
    counts = {"base_calls": 10.0 if base_s else 0.0, "new_calls": 10.0 if new_s else 0.0}
    known = {"family": "gemm", "change_frac": None, "base_frac": None, "new_frac": None, **counts, **more}
    if base_s and new_s:
        known["change_frac"] = new_s / base_s - 1
    return Difference(name=name, base_s=base_s, new_s=new_s, **known)


def tier(base=1.0, new=0.8):
    return Tier(
        tier="step", metric="period_s", unit="s", base=base, new=new, change_frac=new / base - 1,
        low_frac=None, high_frac=None, verdict="better",
    )  # fmt: skip


def compared(rows=(), *, times_of="step", comparable=True, tiers=None, idle=None):
    return Comparison(
        comparable=comparable, why_not=[], base={}, new={}, tiers=[tier()] if tiers is None else tiers,
        families=[], kernels=list(rows), noise_floor_frac=0.005, times_of=times_of,
        gaps=[] if idle is None else [row("idle", 0.2, 0.1, family=None, verdict=idle)],
    )  # fmt: skip


def target(name="k", *, family="gemm", scope="kernel", regains="kernel", before=0.4, least=0.1, **more):
    gain = Gain(
        low_frac=0.05, mid_frac=0.1, high_frac=0.2, basis="made up", regains=regains,
        shares_of="latency" if regains == "kernel" else regains, before_frac=before, least_frac=least,
    )  # fmt: skip
    known = {"expected_gain": gain, "time_frac": before, **more}
    return Target(
        rank=1, id=f"{scope}-{name}", problem="made up", scope=scope, family=family,
        kernel=name if regains == "kernel" else None, headroom_s=None, confidence="low", evidence=[],
        advice="", confirm_by="", **known,
    )  # fmt: skip


def analysis(*, gaps=None, stalls=None, lost=()):
    info = CaptureInfo(
        id="x", profiler="none", profiler_version=None, provenance="synthetic", command=[], host=None,
        started_at=None, duration_s=None, passes=[],
    )  # fmt: skip
    rank = StepRank(
        label="GPU 0", gpu=0, rank=None, steps=5, kernel_s=0.5, busy_s=0.5, period_s=1.0, calls=1,
        gaps_s=gaps, stalls_s=stalls,
    )  # fmt: skip
    table = StepTable(
        phase="decode", sequences=1, found_by="", ranks=[rank], families=[], mean_s=0.5, spread_frac=None,
        kernels_of="GPU 0", kernels=[], reconciliation="",
    )  # fmt: skip
    return Analysis(
        capture=info, integrity=Integrity(labelled_time_frac=None, dispatches=1, dropped=[], warnings=[]),
        gpus=[], families=[], kernels=[], targets=[], step_table=table,
        lost_time=[LostTime(regains=kind, lost_s=lost_s, window_s=1.0) for kind, lost_s in lost],
    )  # fmt: skip


def kernel(name, *, size=None, time_s=1.0, exposed_s=1.0, family="gemm", basis="modelled"):
    return KernelFinding.model_construct(
        kernel=name, gpu=0, family=family, time_s=time_s, exposed_s=exposed_s, dispatches=10,
        bytes_per_dispatch=Quantity(value=size, basis=basis if size else None),
    )  # fmt: skip


def scored(rows, *targets, tried=(), base=None, new=None, **more):
    found = compared(rows, **more)
    return forecasts.score(targets, base or analysis(), new or analysis(), found, tried)


def test_the_strided_kernel_of_the_decoder_gave_a_third_of_the_step(examples):
    folder = examples / "h200_decoder"
    found = pipeline.compare(
        folder / "kineto_strided_graph.json.gz",
        folder / "kineto_fp16_graph.json.gz",
        model=folder / "w4_config.json",
    )
    each = {forecast.target_id: forecast for forecast in found.forecasts}
    strided = each[STRIDED]
    assert strided.actual_frac == pytest.approx(0.33, abs=0.01) and strided.hit is True
    assert strided.tried_by == "seen" and all("nvjet" in by or "splitK" in by for by in strided.replaced_by)
    assert strided.total_frac == pytest.approx(0.33, abs=0.01)  # measured without the profiler: 0.330
    assert "3.88 times the bytes" in strided.other_work and strided.realised_share_frac is None
    rest = [forecast for key, forecast in each.items() if key != STRIDED]
    assert rest and all(forecast.tried is False and forecast.hit is None for forecast in rest)
    assert any("1 tried, 1 hit" in note for note in found.notes)


def test_the_coalesced_kernel_gave_what_was_measured_without_the_profiler(examples):
    folder = examples / "h200_compare"
    found = pipeline.compare(folder / "decoder_strided_1.tar.gz", folder / "decoder_coalesced_1.tar.gz")
    strided = next(each for each in found.forecasts if each.target_id == STRIDED)
    # without the profiler the same change gave 47.2 %, and a share of 0.439: examples/h200_changes
    assert strided.actual_frac == pytest.approx(0.464, abs=0.005) and strided.hit is True
    assert strided.actual_low_frac < strided.actual_frac < strided.actual_high_frac
    assert strided.replaced_by == ["gptq_w4a16_gemv_kernel"] and strided.other_work is None
    after = 1 - strided.actual_frac / 0.779
    way = math.log(strided.least_frac / strided.before_frac)
    assert strided.realised_share_frac == pytest.approx(math.log(after) / way, rel=2e-3)
    assert strided.realised_share_frac == pytest.approx(0.439, abs=0.01)
    assert sum(bool(each.tried) for each in found.forecasts) == 1


def test_a_graph_takes_the_pauses_for_launches_away(examples):
    folder = examples / "h200_decoder"
    eager, graph = folder / "kineto_strided_eager.json.gz", folder / "kineto_strided_graph.json.gz"
    found = pipeline.compare(eager, graph, across=["mode"])
    gaps = next(each for each in found.forecasts if each.regains == "gaps")
    assert gaps.tried_by == "seen" and 0.97 < gaps.realised_share_frac < 1
    assert gaps.hit == (gaps.low_frac <= gaps.actual_frac <= gaps.high_frac) and gaps.hit is False
    # the median step became 12.1 % shorter, the mean 13.6 %, and nothing else of it changed
    assert gaps.actual_frac == pytest.approx(found.tiers[0].change_frac * -1, abs=0.025)


def test_the_same_recording_tries_nothing(examples):
    strided = examples / "h200_decoder" / "kineto_strided_graph.json.gz"
    found = pipeline.compare(strided, strided)
    assert found.forecasts and not any(each.tried for each in found.forecasts)
    assert any("none of base's" in note and "--tried" in note for note in found.notes)


def test_a_kernel_that_changed_is_scored_and_one_that_did_not_is_not():
    (each,) = scored(
        [row("k", 0.4, 0.3, verdict="better", step_low_frac=-0.12, step_high_frac=-0.08)], target()
    )
    assert each.actual_frac == pytest.approx(0.1) and each.hit is True
    assert (each.actual_low_frac, each.actual_high_frac) == pytest.approx((0.08, 0.12))
    assert each.realised_share_frac == pytest.approx(math.log(0.75) / math.log(0.25))
    (each,) = scored([row("k", 0.4, 0.3, verdict="no difference shown")], target())
    assert (each.tried, each.hit, each.realised_share_frac) == (False, None, None)
    assert each.basis.startswith("not tried, as far as seen")


def test_a_regression_misses():
    (each,) = scored([row("k", 0.4, 0.5, verdict="worse")], target())
    assert each.actual_frac == pytest.approx(-0.1) and each.hit is False and each.realised_share_frac < 0


def test_a_small_change_may_be_a_side_effect_unless_it_is_launched_otherwise():
    small = row("k", 0.4, 0.395, verdict="better")
    (each,) = scored([small], target())
    assert each.tried is False and "side effect" in each.basis
    grids = {"base": {"grid": [1]}, "new": {"grid": [2]}}
    (each,) = scored([small.model_copy(update={"launch_shape": grids})], target())
    assert each.tried is True and each.actual_frac == pytest.approx(0.005)
    (each,) = scored([small.model_copy(update={"launch_shape": {"grid": [1]}})], target())
    assert each.tried is False


def test_launch_shapes_of_one_kernel_are_scored_together_with_an_interval():
    rows = [
        row("k", 0.3, 0.2, verdict="better", step_low_frac=-0.12, step_high_frac=-0.08),
        row("k", 0.1, 0.1, verdict="no difference shown", step_low_frac=-0.01, step_high_frac=0.01),
    ]
    (each,) = scored(rows, target())
    assert each.actual_frac == pytest.approx(0.1)
    assert (each.actual_low_frac, each.actual_high_frac) == pytest.approx((0.07, 0.13))
    rows[1] = row("k", 0.1, 0.1, verdict="no difference shown")
    (each,) = scored(rows, target())
    assert each.actual_low_frac is None


def test_what_the_clock_did_was_not_tried():
    (each,) = scored([row("k", 0.4, 0.3, verdict="better", explained_by="the clock: so")], target())
    assert each.tried is False and "the clock" in each.basis


def test_what_the_user_says_was_tried_is_scored_whatever_is_seen():
    (each,) = scored([row("k", 0.4, 0.399, verdict="no difference shown")], target(), tried=["kernel-"])
    assert (each.tried, each.tried_by, each.hit) == (True, "said", False)
    with pytest.raises(UsageError, match="no forecast of base starts with it"):
        scored([], target(), tried=["nonsense"])
    with pytest.raises(UsageError):
        scored([], target(), tried=[""])


@given(
    st.lists(st.floats(0.01, 1), min_size=1, max_size=4), st.lists(st.floats(0.01, 1), min_size=1, max_size=4)
)
def test_what_replaces_several_kernels_is_shared_out_and_nothing_is_lost(gone, fresh):
    rows = [row(f"old{i}", each, None, match="base only") for i, each in enumerate(gone)]
    rows += [row(f"new{i}", None, each, match="new only") for i, each in enumerate(fresh)]
    steps = replaced.Steps(rows, analysis(), analysis(), 10.0)
    outcomes = [steps.of(f"old{i}", "gptq_gemm") for i in range(len(gone))]
    assert sum(each.after_s for each in outcomes) == pytest.approx(sum(fresh))
    assert sum(each.before_s for each in outcomes) == pytest.approx(sum(gone))
    assert all(sorted(each.by) == [f"new{i}" for i in range(len(fresh))] for each in outcomes)


def test_a_renamed_kernel_is_followed():
    renamed = row("old -> new", 0.4, 0.3, match="renamed", base_name="old", new_name="new", verdict="better")
    (each,) = scored([renamed], target("old"))
    assert each.actual_frac == pytest.approx(0.1) and each.replaced_by == ["new"]
    assert "was replaced by new" in each.basis


def test_a_kernel_that_left_some_of_its_work_to_another_is_charged_with_it():
    rows = [
        row("k", 0.4, 0.1, verdict="better", new_calls=5.0),
        row("fresh", None, 0.2, match="new only"),
        row("same", 0.1, 0.1, family="rmsnorm"),
        row("other", 0.1, 0.1, family="attention"),
    ]
    (each,) = scored(rows, target())
    assert each.actual_frac == pytest.approx(0.1) and each.replaced_by == ["fresh"]
    rows[1] = row("grown", 0.1, 0.3, verdict="worse", new_calls=20.0)
    (each,) = scored(rows, target())
    assert each.actual_frac == pytest.approx(0.1) and each.replaced_by == ["grown"]


def test_a_kernel_that_went_with_nothing_in_its_place_gave_all_unless_something_else_is_new():
    gone = row("k", 0.4, None, family="activation", match="base only")
    (each,) = scored([gone], target(family="activation"))
    assert each.actual_frac == pytest.approx(0.4) and "nothing in its place" in each.basis
    fused = row("fused", None, 0.2, match="new only")
    (each,) = scored([gone, fused], target(family="activation"))
    assert each.actual_frac is None and each.hit is None and "fused" in each.basis


def test_hidden_time_gives_nothing():
    hidden = analysis()
    hidden.kernels.append(kernel("k", exposed_s=0.25))
    part = replaced.Steps([row("k", 0.4, 0.2, verdict="better")], hidden, hidden, 1.0).of("k", "gemm")
    assert (part.before_s, part.after_s) == pytest.approx((0.1, 0.05))


@pytest.mark.parametrize(
    ("size", "basis", "family", "says"),
    [
        (1e6, "modelled", "gptq_gemm", None),
        (4e6, "modelled", "gptq_gemm", "4 times the bytes"),
        (4e6, "measured", "gptq_gemm", None),  # the same work may be done with more fetches
        (4e6, "measured", "gemm", "packed on one side only"),
        (None, None, "gptq_gemm", None),
    ],
)
def test_what_does_other_work_is_scored_and_teaches_nothing(size, basis, family, says):
    base, new = analysis(), analysis()
    base.kernels.append(kernel("old", size=1e6, family="gptq_gemm"))
    new.kernels.append(kernel("new", size=size, basis=basis, family=family))
    pair = row("old -> new", 0.4, 0.4 * 0.75, match="renamed", base_kernels=["old"], new_kernels=["new"])
    new.kernels[0].time_s = 0.75
    (each,) = scored([pair], target("old", family="gptq_gemm"), base=base, new=new)
    assert each.hit is True and each.actual_frac == pytest.approx(0.1)
    if says is None:
        assert each.other_work is None and each.realised_share_frac == pytest.approx(0.2075, abs=1e-3)
    else:
        assert says in each.other_work and says in each.basis and each.realised_share_frac is None


def test_what_lies_mostly_outside_of_the_steps_is_not_known_from_them():
    (each,) = scored([row("k", 0.3, 0.2, verdict="better")], target(before=0.4), tried=["kernel-k"])
    assert each.actual_frac is None and each.tried is True and "outside of the steps" in each.basis


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"times_of": "recording"}, "not of the steps"),
        ({"tiers": []}, "no steps in common"),
    ],
)
def test_where_times_are_of_no_common_step_nothing_is_scored(more, why):
    (each,) = scored([row("k", 0.4, 0.2, verdict="better")], target(), **more)
    assert (each.actual_frac, each.hit, each.tried) == (None, None, None) and why in each.basis


def test_what_is_in_no_step_or_names_no_kernel_is_not_scored():
    every = scored(
        [row("other", 0.4, 0.2, verdict="better")],
        target(),
        target("x", scope="configuration"),
        target("y", scope="family", before=0.3),
        target("z", regains=None),
        tried=["kernel-k"],
    )
    assert all(each.actual_frac is None and each.hit is None for each in every)
    assert every[0].tried is True and "in none of the steps" in every[0].basis
    assert "no kernel" in every[1].basis and "more or less" in every[2].basis
    assert "which time" in every[3].basis


def test_what_does_not_compare_is_not_scored():
    assert scored([row("k", 0.4, 0.2, verdict="better")], target(), comparable=False) == []


@pytest.mark.parametrize(("kind", "slot"), [("gaps", "gaps"), ("stalls", "stalls")])
def test_pauses_are_held_against_each_other_a_step(kind, slot):
    loss = target("p", scope="timeline", regains=kind, before=0.2, least=0.0)
    one, two = analysis(**{slot: 0.2}), analysis(**{slot: 0.1})
    (each,) = scored([], loss, base=one, new=two)
    assert each.actual_frac == pytest.approx(0.1) and each.realised_share_frac == pytest.approx(0.5)
    (each,) = scored([], loss, base=one, new=analysis(**{slot: 0.199}))
    assert each.tried is False and "no difference" in each.basis
    (each,) = scored([], loss, base=one, new=analysis())
    assert each.actual_frac is None and "not known" in each.basis
    (each,) = scored([], loss, base=analysis(**{slot: 0.0}), new=two)
    assert each.actual_frac is None


@pytest.mark.parametrize(
    ("idle", "tried"), [("better", True), ("no difference shown", False), ("worse", False)]
)
def test_pauses_that_the_idle_time_does_not_bear_out_were_not_tried(idle, tried):
    loss = target("p", scope="timeline", regains="gaps", before=0.2, least=0.0)
    (each,) = scored([], loss, base=analysis(gaps=0.2), new=analysis(gaps=0.1), idle=idle)
    assert each.tried is tried


@pytest.mark.parametrize("kind", ["waits", "clock"])
def test_waits_and_clocks_are_put_at_the_length_of_a_step(kind):
    loss = target("p", scope="timeline", regains=kind, before=0.3, least=0.0)
    one, two = analysis(lost=[(kind, 0.3)]), analysis(lost=[(kind, 0.1)])
    (each,) = scored([], loss, base=one, new=two)
    assert each.actual_frac == pytest.approx(0.3 - 0.1 * 0.8)
    (each,) = scored([], loss, base=one, new=analysis())
    assert each.actual_frac is None and each.hit is None


def test_the_forecast_that_was_stored_is_the_one_that_is_scored(examples, tmp_path):
    folder = examples / "h200_decoder"
    capture = pipeline.load(folder / "kineto_strided_graph.json.gz")
    told = pipeline.analyze(capture, model=folder / "w4_config.json")
    pipeline.write_reports(told, capture, tmp_path / "base", chosen=[contract.REPORT])
    path = tmp_path / "base" / "analysis.json"
    text = json.loads(path.read_text())
    mine = next(each for each in text["targets"] if each["id"] == STRIDED)
    mine["expected_gain"] |= {"low_frac": 0.4, "mid_frac": 0.5, "high_frac": 0.6}
    path.write_text(json.dumps(text, indent=1))
    new = folder / "kineto_fp16_graph.json.gz"
    found = pipeline.compare(tmp_path / "base", new)
    each = next(each for each in found.forecasts if each.target_id == STRIDED)
    assert each.low_frac == 0.4 and each.hit is False
    plain = AnalyzeOptions()
    for place in (tmp_path / "base", tmp_path / "base" / "capture"):
        stored = track_record.stored(place, capture, plain)
        assert next(each for each in stored if each.id == STRIDED).expected_gain.low_frac == 0.4
    assert track_record.stored(tmp_path / "base", capture, AnalyzeOptions(gpu="H200")) is None
    assert track_record.stored(tmp_path, capture, plain) is None
    assert track_record.stored(capture, capture, plain) is None
    other = pipeline.load(new)
    assert track_record.stored(tmp_path / "base", other, plain) is None
    path.write_text('{"schema_version": "1", "kernels": 3')
    assert track_record.stored(tmp_path / "base", capture, plain) is None


@pytest.mark.slow
def test_the_command_shows_forecasts_and_names_what_it_does_not_know(examples, capsys):
    folder = examples / "h200_decoder"
    words = ["compare", str(folder / "kineto_strided_graph.json.gz")]
    words += [str(folder / "kineto_fp16_graph.json.gz"), "--model", str(folder / "w4_config.json")]
    assert run([*words]) == 0
    shown = capsys.readouterr().out
    assert "Forecasts" in shown and "gptq_w4a16_gemv_strided_kernel" in shown and "hit" in shown
    assert max(len(line) for line in shown.splitlines()) <= 80
    assert run([*words, "--tried", "kernel-paged", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["forecasts"]
    paged = next(each for each in told if each["target_id"].startswith("kernel-paged"))
    assert (paged["tried_by"], paged["hit"]) == ("said", False)
    assert run([*words, "--tried", "nothing"]) == 2
    assert "no forecast of base starts with it" in capsys.readouterr().err
