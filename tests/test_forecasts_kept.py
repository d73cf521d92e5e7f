import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocscope import comparison, forecast_choice, forecast_ledger, pipeline, track_record
from rocscope.capture import Manifest, Source
from rocscope.config import AnalyzeOptions
from rocscope.errors import InputError
from rocscope.forecast_coverage import coverage, wilson
from rocscope.forecast_ledger import read, write
from rocscope.thresholds import thresholds
from synthetic_capture import capture, row
from test_forecast_ledger import entry

STRIDED = "kernel-gptq-w4a16-gemv-strided-kernel-b5c7f12a"


EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
W4 = EXAMPLES / "h200_decoder" / "w4_config.json"


@pytest.fixture(scope="module")
def pair():
    names = ("strided", "coalesced")
    made = [pipeline.load(EXAMPLES / "h200_compare" / f"decoder_{name}_1.tar.gz") for name in names]
    sides = [pipeline.side(each) for each in made]
    return [comparison.compare(*sides), *sides]


def keep(pair, found=None):
    return track_record.keep(found or pair[0], *pair[1:], options=AnalyzeOptions(), version="0.1.0")


def altered(side, **manifest):
    """Return a side whose recording's manifest says otherwise."""
    other = side.capture.manifest.model_copy(update=manifest)
    return side.model_copy(update={"capture": replace(side.capture, manifest=other)})


def test_a_comparison_enters_what_it_scored_once(pair, own_ledger):
    for _ in range(2):
        assert keep(pair) == ["1 scored forecast is kept in the ledger (`rocscope forecasts`)"]
    (kept,) = read(own_ledger)
    assert (kept.target, kept.limiter, kept.shares_of, kept.gpu) == (STRIDED, "latency", "latency", "H200")
    assert kept.hit and kept.actual_frac == pytest.approx(0.464, abs=0.005) and kept.family == "gptq_gemm"
    assert kept.provenance == "recorded" and kept.replaced_by == ("gptq_w4a16_gemv_kernel",)


@pytest.mark.slow
def test_what_is_read_twice_is_one_recording(own_ledger):
    names = [EXAMPLES / "h200_decoder" / f"kineto_{name}_graph.json.gz" for name in ("strided", "fp16")]
    for _ in range(2):  # a trace that is read again has another id
        found = pipeline.compare(*names, model=W4, keep=True)
    (kept,) = read(own_ledger)
    assert kept.hit and kept.other_work and not kept.counts
    assert any("as other work is done now, later forecasts do not learn" in note for note in found.notes)
    assert not pipeline.compare(*names, model=W4).notes[-1].startswith("1 scored forecast is kept")


@pytest.mark.slow
def test_a_forecast_does_not_know_what_came_of_it_but_others_do(pair, own_ledger):
    keep(pair)
    base = pair[1].capture
    assert pipeline.analyze(base).targets == pair[1].analysis.targets
    eager = EXAMPLES / "h200_decoder" / "kineto_strided_eager.json.gz"
    plain, learnt, named = (
        next(
            each.expected_gain
            for each in pipeline.analyze(eager, model=W4, forecasts=choice).targets
            if each.id == STRIDED
        )
        for choice in ("none", "auto", str(own_ledger))
    )
    assert learnt.mid_frac > plain.mid_frac and "from 1 scored change of the ledger" in learnt.basis
    assert named == learnt


def test_synthetic_recordings_are_kept_apart_and_teach_nothing(pair, own_ledger):
    (note,) = keep([pair[0], altered(pair[1], provenance="synthetic"), pair[2]])
    assert "as the recordings are synthetic, later forecasts do not learn" in note
    (kept,) = read(own_ledger)
    assert kept.provenance == "synthetic" and coverage([kept]) == []
    past = forecast_choice.history([kept])
    assert past.shares("latency", prior := prior_shares()) is prior


def prior_shares():
    return thresholds().gain["latency"]


def test_what_does_not_compare_or_is_the_same_is_not_entered(pair, own_ledger):
    found, base, new = pair
    assert keep([found, base, base]) == [] and not own_ledger.exists()
    assert keep(pair, found.model_copy(update={"comparable": False})) == [] and not own_ledger.exists()
    untried = [each.model_copy(update={"hit": None}) for each in found.forecasts]
    assert keep(pair, found.model_copy(update={"forecasts": untried})) == [] and not own_ledger.exists()
    assert keep([found, base, base.model_copy(update={"repeats": [base, new]})]) == []


@pytest.mark.parametrize("fault", ["corrupt", "unwritable", "newer"])
def test_a_ledger_that_cannot_be_used_costs_a_note(pair, own_ledger, monkeypatch, fault):
    own_ledger.parent.mkdir()
    if fault == "corrupt":
        own_ledger.write_bytes(b"SQLite format 3\x00" + b"?" * 5000)
    elif fault == "newer":
        write(own_ledger, [entry()])
        monkeypatch.setattr(forecast_ledger, "_MAKE", ())
    else:
        monkeypatch.setenv("ROCSCOPE_FORECASTS", "/dev/null/forecasts.sqlite")
    (note,) = keep(pair)
    assert note.startswith("scored forecasts are not kept: ") and note.endswith(")")
    manifest = pair[1].capture.manifest
    past, warned = forecast_choice.apply(manifest, "auto")
    assert past.shares("latency", prior := prior_shares()) is prior
    codes = [each.code for each in warned]
    assert codes == (["forecasts-unusable"] if fault != "unwritable" else [])  # there is none to be read
    with pytest.raises(InputError):
        forecast_choice.apply(manifest, os.environ["ROCSCOPE_FORECASTS"])


def test_an_analysis_says_that_the_ledger_cannot_be_used(own_ledger):
    own_ledger.parent.mkdir()
    own_ledger.write_bytes(b"SQLite format 3\x00" + b"?" * 5000)
    found = pipeline.analyze(capture([row("k", 0, 10_000)]))
    assert "forecasts-unusable" in [each.code for each in found.integrity.warnings]


def test_a_recording_is_known_by_its_data_and_what_was_selected():
    one = Manifest(sources=[Source(path="a", format="f", size_bytes=1, sha256="1")])
    same = Manifest(sources=[Source(path="b", format="f", size_bytes=1, sha256="1")])
    assert forecast_choice.recording_id(one) == forecast_choice.recording_id(same) != one.id
    unknown = Manifest(sources=[Source(path="b", format="f", size_bytes=1)])
    assert forecast_choice.recording_id(unknown) == unknown.id
    part = forecast_choice.recordings_id([one, same, unknown], AnalyzeOptions(steps=(1, 5)))
    ids = sorted([forecast_choice.recording_id(one), unknown.id])
    assert part == f"{ids[0]}+{ids[1]}/steps=(1, 5)"
    for each in ids:
        past = forecast_choice.history([entry(base=part)], each)
        assert past.shares("latency", prior := prior_shares()) is prior
    assert forecast_choice.history([entry(base=part)], "another").shares("latency", prior) is not prior


def test_coverage_counts_hits_by_limiter_and_says_where_the_others_lie():
    entries = [entry("a"), entry("b", hit=False, actual_frac=0.3), entry("c", hit=False, actual_frac=0.0)]
    entries += [entry("d", limiter=None, shares_of="gaps", regains="gaps", mid_frac=0.1, actual_frac=0.15)]
    entries += [
        entry("e", provenance="synthetic", hit=False),
        entry("f", other_work="4 times the bytes", hit=False),
    ]
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
