import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocscope import forecast_choice, forecast_ledger, pipeline, track_record
from rocscope.capture import Manifest, Source
from rocscope.config import AnalyzeOptions
from rocscope.errors import InputError
from rocscope.forecast_coverage import coverage, wilson
from rocscope.forecast_ledger import read, write
from rocscope.thresholds import thresholds
from test_forecast_ledger import entry

STRIDED = "kernel-gptq-w4a16-gemv-strided-kernel-b5c7f12a"


@pytest.fixture(scope="module")
def pair():
    folder = Path(__file__).resolve().parent.parent / "examples" / "h200_decoder"
    made = [pipeline.load(folder / f"kineto_{name}_graph.json.gz") for name in ("strided", "fp16")]
    return [*made, folder / "w4_config.json"]


def test_a_comparison_enters_what_it_scored_once(pair, own_ledger):
    base, new, model = pair
    for _ in range(2):
        found = pipeline.compare(base, new, model=model, keep=True)
        assert any("1 scored forecast is kept in the ledger" in note for note in found.notes)
    (kept,) = read(own_ledger)
    assert (kept.target, kept.limiter, kept.shares_of, kept.gpu) == (STRIDED, "latency", "latency", "H200")
    assert kept.hit and kept.actual_frac == pytest.approx(0.33, abs=0.01) and kept.family == "gptq_gemm"
    assert kept.provenance == "recorded" and len(kept.replaced_by) == 4
    assert pipeline.compare(base, new, model=model).notes[-1].startswith("of base's forecasts")
    again = pipeline.load(
        Path(str(model)).parent / "kineto_strided_graph.json.gz"
    )  # another id, the same data
    pipeline.compare(again, new, model=model, keep=True)
    assert len(read(own_ledger)) == 1


def test_a_forecast_does_not_know_what_came_of_it_but_others_do(pair, own_ledger):
    base, new, model = pair
    before = pipeline.analyze(base, model=model)
    pipeline.compare(base, new, model=model, keep=True)
    assert pipeline.analyze(base, model=model).targets == before.targets
    eager = model.parent / "kineto_strided_eager.json.gz"
    plain, learnt = (
        next(
            each.expected_gain
            for each in pipeline.analyze(eager, model=model, forecasts=choice).targets
            if each.id == STRIDED
        )
        for choice in ("none", "auto")
    )
    assert learnt.mid_frac > plain.mid_frac and "from 1 scored change of the ledger" in learnt.basis
    named = pipeline.analyze(eager, model=model, forecasts=str(own_ledger))
    assert next(each.expected_gain for each in named.targets if each.id == STRIDED) == learnt


def test_synthetic_recordings_are_kept_apart_and_teach_nothing(pair, own_ledger):
    base, new, model = pair
    made = pipeline.Capture(**{**vars(base), "manifest": base.manifest.model_copy(deep=True)})
    made.manifest.provenance = "synthetic"
    found = pipeline.compare(made, new, model=model, keep=True)
    assert any(
        "as the recordings are synthetic, later forecasts do not learn" in note for note in found.notes
    )
    (kept,) = read(own_ledger)
    assert kept.provenance == "synthetic" and coverage([kept]) == []
    past = forecast_choice.history([kept])
    assert past.shares("latency", prior := prior_shares()) is prior


def prior_shares():
    return thresholds().gain["latency"]


def test_what_does_not_compare_or_is_the_same_is_not_entered(pair, own_ledger):
    base, new, model = pair
    found = pipeline.compare(base, base, model=model, keep=True, tried=["kernel-"])
    assert any(each.hit is not None for each in found.forecasts) and not own_ledger.exists()
    other = pipeline.Capture(**{**vars(new), "manifest": new.manifest.model_copy(deep=True)})
    other.manifest.gpus = [
        gpu.model_copy(update={"arch": "gfx908", "name": "MI100"}) for gpu in other.manifest.gpus
    ]
    found = pipeline.compare(base, other, model=model, keep=True)
    assert not found.comparable and found.forecasts == [] and not own_ledger.exists()


@pytest.mark.parametrize("fault", ["corrupt", "unwritable", "newer"])
def test_a_ledger_that_cannot_be_used_costs_a_note(pair, own_ledger, monkeypatch, fault):
    base, new, model = pair
    own_ledger.parent.mkdir()
    if fault == "corrupt":
        own_ledger.write_bytes(b"SQLite format 3\x00" + b"?" * 5000)
    elif fault == "newer":
        write(own_ledger, [entry()])
        monkeypatch.setattr(forecast_ledger, "_MAKE", ())
    else:
        monkeypatch.setenv("ROCSCOPE_FORECASTS", "/dev/null/forecasts.sqlite")
    found = pipeline.compare(base, new, model=model, keep=True)
    assert any(note.startswith("scored forecasts are not kept: ") for note in found.notes)
    assert next(each for each in found.forecasts if each.target_id == STRIDED).hit is True
    warned = [each.code for each in pipeline.analyze(base, model=model).integrity.warnings]
    assert ("forecasts-unusable" in warned) == (fault != "unwritable")  # there is none to be read
    with pytest.raises(InputError):
        pipeline.analyze(base, model=model, forecasts=os.environ["ROCSCOPE_FORECASTS"])


def test_a_recording_is_known_by_its_data_and_what_was_selected():
    one = Manifest(sources=[Source(path="a", format="f", size_bytes=1, sha256="1")])
    same = Manifest(sources=[Source(path="b", format="f", size_bytes=1, sha256="1")])
    assert forecast_choice.recording_id(one) == forecast_choice.recording_id(same) != one.id
    unknown = Manifest(sources=[Source(path="b", format="f", size_bytes=1)])
    assert forecast_choice.recording_id(unknown) == unknown.id
    part = forecast_choice.recording_id(one, AnalyzeOptions(steps=(1, 5)))
    assert part == f"{forecast_choice.recording_id(one)}/steps=(1, 5)"
    past = forecast_choice.history([entry(base=part)], forecast_choice.recording_id(one))
    assert past.shares("latency", prior := prior_shares()) is prior


def test_coverage_counts_hits_by_limiter_and_says_where_the_others_lie():
    entries = [entry("a"), entry("b", hit=False, actual_frac=0.3), entry("c", hit=False, actual_frac=0.0)]
    entries += [entry("d", limiter=None, shares_of="gaps", regains="gaps", mid_frac=0.1, actual_frac=0.15)]
    entries += [entry("e", provenance="synthetic", hit=False)]
    latency, gaps, every = coverage(entries)
    assert (latency.kind, latency.scored, latency.hits, latency.below, latency.above) == (
        "latency",
        3,
        1,
        1,
        1,
    )
    assert latency.bias_frac == pytest.approx((0.02 + 0.2 - 0.1) / 3)
    assert (gaps.kind, gaps.hit_frac) == ("gaps", 1.0) and gaps.bias_frac == pytest.approx(0.05)
    assert (every.kind, every.scored, every.hits) == ("all", 4, 2)


@pytest.mark.parametrize(  # Brown, Cai and DasGupta 2001 give the formula; worked out by hand
    ("hits", "scored", "low", "high"), [(0, 10, 0.0, 0.2775), (5, 10, 0.2366, 0.7634), (4, 5, 0.3755, 0.9638)]
)
def test_the_interval_of_a_share_is_wilsons(hits, scored, low, high):
    assert wilson(hits, scored) == pytest.approx((low, high), abs=1e-4)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilsons_interval_holds_the_share(pair):
    hits, scored = pair
    low, high = wilson(hits, scored)
    assert 0 <= low <= hits / scored <= high <= 1 and low < high


def test_the_changes_made_live_can_be_imported(examples):
    entries = read(examples / "h200_changes" / "ledger.json")
    assert len(entries) == 5 and sum(each.hit for each in entries) == 4
    measured = json.loads((examples / "h200_changes" / "measured.json").read_text())
    assert {each.new.split()[0] for each in entries} == set(measured)
    by_kernel = {each.kernel: each.realised_share_frac for each in entries}
    assert by_kernel["gptq_w4a16_gemv_strided_kernel"] == pytest.approx(0.439, abs=0.002)
    assert by_kernel[None] is None  # launch gaps were defined anew after it


def test_text_that_is_half_a_character_or_endless_is_cut():
    assert track_record._text("a\ud800b" + "x" * 9000) == "a?b" + "x" * 3997
