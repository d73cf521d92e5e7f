"""Serving figures by load: what a change did at each level, and what is no more than noise."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocscope import load_samples, pipeline, selection, student, tables
from rocscope.capture import Capture, Manifest
from rocscope.cli import run
from rocscope.comparison import Comparison, serving_tiers
from rocscope.config import AnalyzeOptions
from rocscope.thresholds import thresholds
from synthetic_capture import capture, row

TOKENS = "output_tokens_per_s"


def loaded(*levels: dict[str, object], run: str = "beside", requests: object = None) -> Capture:
    """A capture of loads alone."""
    manifest = Manifest(load={"kind": "list", run: {"kind": "list", "levels": list(levels)}})
    made = Capture(manifest=manifest)
    parts = [
        tables.conform("samples", columns, rows)
        for index, each in enumerate(requests or [])
        for rows, columns in load_samples.columns(run, index, each)
    ]
    return replace(made, samples=pa.concat_tables(parts)) if parts else made


def level(concurrency: int, tokens: float, **more: object) -> dict[str, object]:
    return {"concurrency": concurrency, TOKENS: tokens, **more}


def verdicts(found: Comparison, metric: str = TOKENS) -> dict[str, str]:
    return {
        each.tier.removeprefix("concurrency "): each.verdict for each in found.tiers if each.metric == metric
    }


def test_a_gain_at_two_and_a_loss_at_six_both_show(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """MI100, GPTQ kernel with a fused dot instruction and larger blocks (field notes, A)."""
    base = [level(2, 52.90, mean_tpot_ms=37.17), level(6, 120.72, mean_tpot_ms=47.86)]
    new = [level(2, 56.25, mean_tpot_ms=34.48), level(6, 112.12, mean_tpot_ms=51.07)]
    for name, levels in (("base", base), ("new", new)):
        (tmp_path / f"{name}.load.json").write_text(json.dumps(levels))
    assert (
        run(
            [
                "compare",
                "--no-ledger",
                "--json",
                *(str(tmp_path / f"{each}.load.json") for each in ("base", "new")),
            ]
        )
        == 0
    )
    found = Comparison.model_validate_json(capsys.readouterr().out)
    assert found.comparable and not found.kernels
    assert verdicts(found) == {"2": "better", "6": "worse"} == verdicts(found, "tpot_s")
    gain = found.tiers[0]
    assert (gain.tier, gain.metric, gain.unit) == ("concurrency 2", TOKENS, "tokens/s")
    assert gain.change_frac == pytest.approx(0.0633, abs=1e-3)
    assert 0 < gain.low_frac < gain.change_frac < gain.high_frac
    assert "h200_compare" in gain.basis and "4 figures at once" in gain.basis
    tpot = next(each for each in found.tiers if each.metric == "tpot_s" and each.tier == "concurrency 6")
    assert tpot.change_frac == pytest.approx(51.07 / 47.86 - 1) and tpot.base == pytest.approx(0.04786)


def test_of_twelve_tiers_only_the_large_gains_show() -> None:
    """MI100, 8-bit: +3.3 % on average over twelve tiers (field notes, C); base figures are made up."""
    gains = {
        1: 0.008,
        2: 0.105,
        4: 0.036,
        8: 0.05,
        16: 0.07,
        **dict.fromkeys((32, 48, 64, 96, 128, 192, 256), 0.0),
    }
    base = loaded(*(level(each, 53.1 * each**0.7) for each in gains))
    new = loaded(*(level(each, 53.1 * each**0.7 * (1 + gain)) for each, gain in gains.items()))
    found = pipeline.compare(base, new)
    shown = {str(each): "better" if each in (2, 8, 16) else "no difference shown" for each in gains}
    assert verdicts(found) == shown  # 3.6 % at 4 could be noise in twelve single runs, as 0.8 % at 1
    assert np.mean([each.change_frac for each in found.tiers]) == pytest.approx(0.0224, abs=1e-3)


def test_quantised_is_faster_alone_and_slower_in_company(captures: Path) -> None:
    folder = captures / "h200_vllm"
    found = pipeline.compare(folder / "fp16_graph.kineto.json.gz", folder / "gptq8_graph.kineto.json.gz")
    by = {(each.tier, each.metric): each for each in found.tiers}
    alone, together = by["concurrency 1", TOKENS], by["concurrency 16", TOKENS]
    assert (alone.base, alone.new) == pytest.approx((168.86, 199.13), abs=0.01)
    assert (together.base, together.new) == pytest.approx((1977.3, 1044.6), abs=0.05)
    assert (alone.verdict, together.verdict) == ("better", "worse")
    assert by["concurrency 1", "latency_s"].verdict == "better"
    assert by["concurrency 16", "latency_s"].verdict == "worse"
    assert found.tiers[0].tier == "step" and found.comparable
    assert sum("taken along" in note for note in found.notes) == 2


@pytest.mark.parametrize(
    ("one", "other", "why"),
    [
        ({"input": 512}, {"input": 1024}, "512 against 1024 tokens in a request"),
        ({"output": 128}, {"output": 64}, "128 against 64 tokens out a request"),
        ({"requests": 48}, {"requests": 96}, "48 against 96 requests"),
        ({"input": 512}, {}, "tokens in a request are told of one side only"),
        ({"failed": 0}, {"failed": 3}, "3 requests failed in new"),
    ],
)
def test_only_like_is_compared_with_like(one: dict[str, object], other: dict[str, object], why: str) -> None:
    found = pipeline.compare(loaded(level(4, 100, **one)), loaded(level(4, 300, **other)))
    assert found.tiers == []
    assert f"concurrency 4 is not compared: {why}" in found.notes


def test_levels_of_one_side_only_and_of_several_lengths() -> None:
    long, short = {"input": 4096, "output": 64}, {"input": 128, "output": 64}
    base = loaded(level(1, 10), level(8, 100, **long), level(8, 200, **short))
    new = loaded(level(2, 10), level(8, 150, **short), level(8, 100, **long))
    found = pipeline.compare(base, new)
    assert {each.tier: each.change_frac for each in found.tiers} == pytest.approx(
        {"concurrency 8, 4096 in, 64 out": 0.0, "concurrency 8, 128 in, 64 out": -0.25}
    )
    assert "concurrency 1: in base only" in found.notes and "concurrency 2: in new only" in found.notes


def test_a_rate_of_arrivals_names_a_level() -> None:
    levels = {"rate_per_s": 2.0, TOKENS: 50.0}
    assert pipeline.compare(loaded(levels), loaded(levels)).tiers[0].tier == "2 requests/s"
    nothing = {TOKENS: 50.0}
    assert pipeline.compare(loaded(nothing), loaded(nothing)).tiers[0].tier == "no limit of concurrency"


def test_repeated_runs_give_their_own_noise() -> None:
    steady = [level(4, value) for value in (100.0, 100.1, 99.9, 100.0)]
    better = [level(4, value) for value in (102.0, 102.1, 101.9, 102.0)]
    (tier,) = pipeline.compare(loaded(*steady), loaded(*better)).tiers
    assert tier.verdict == "better" and tier.high_frac < 0.025
    assert "8 runs of 2 loads in these files" in tier.basis
    noisy = [level(4, value) for value in (100.0, 110.0, 92.0, 105.0)]
    (tier,) = pipeline.compare(loaded(*noisy), loaded(*better)).tiers
    assert tier.verdict == "no difference shown"


def test_a_level_that_differs_more_counts_with_its_own() -> None:
    steady = [level(each, each * value) for each in range(1, 8) for value in (100.0, 100.1, 99.9)]
    noisy = [level(9, value) for value in (900.0, 1000.0, 1100.0)]
    higher = [level(9, value) for value in (950.0, 1050.0, 1150.0)]
    found = pipeline.compare(loaded(*steady, *noisy), loaded(*steady, *higher))
    of_nine = next(each for each in found.tiers if each.tier == "concurrency 9")
    assert of_nine.verdict == "no difference shown" and "6 runs of this load" in of_nine.basis


def test_single_requests_widen_an_interval_and_give_percentiles() -> None:
    chance = np.random.default_rng(5)
    requests = [{"ttft_s": chance.gamma(4, 0.02, 60), "e2e_s": chance.gamma(9, 0.1, 60)}]
    told = level(4, 100.0)
    plain = level(4, 100.0, mean_e2el_ms=900.0)
    found = pipeline.compare(loaded(told, requests=requests), loaded(told, requests=requests))
    by = {each.metric: each for each in found.tiers}
    assert set(by) == {TOKENS, "ttft_s", "latency_s", "ttft_p99_s", "latency_p99_s"}
    sums = {each.metric: each for each in pipeline.compare(loaded(plain), loaded(plain)).tiers}
    assert by["latency_s"].high_frac > sums["latency_s"].high_frac > 0
    assert "bootstrap" in by["latency_s"].basis and "bootstrap" not in sums["latency_s"].basis
    assert by["latency_s"].base == pytest.approx(requests[0]["e2e_s"].mean())
    slower = [{name: values * 3 for name, values in requests[0].items()}]
    worse = {
        each.metric: each
        for each in pipeline.compare(loaded(told, requests=requests), loaded(told, requests=slower)).tiers
    }
    assert worse["latency_s"].verdict == "worse"
    assert worse["ttft_p99_s"].verdict == "worse"


def test_single_requests_stay_with_a_part_of_the_recording() -> None:
    requests = [{"ttft_s": [0.1, 0.2, 0.3]}]
    made = replace(
        loaded(level(4, 100.0), requests=requests), dispatches=capture([row("a", 0, 10)]).dispatches
    )
    made.manifest.passes = capture([row("a", 0, 10)]).manifest.passes
    found = selection.select(made, AnalyzeOptions(between_s=(0.0, 1.0)))
    assert load_samples.of(found.samples, "beside", 0)["ttft_s"].tolist() == [0.1, 0.2, 0.3]


def test_figures_without_known_noise_have_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    known = thresholds()
    fewer = {name: each for name, each in known.compare.serving_noise.items() if "p99" not in name}
    changed = known.model_copy(update={"compare": known.compare.model_copy(update={"serving_noise": fewer})})
    monkeypatch.setattr(serving_tiers, "thresholds", lambda: changed)
    one, other = level(4, 100.0, p99_ttft_ms=10.0), level(4, 100.0, p99_ttft_ms=90.0)
    tier = pipeline.compare(loaded(one), loaded(other)).tiers[-1]
    assert (tier.metric, tier.low_frac, tier.verdict) == ("ttft_p99_s", None, "no difference shown")
    requests = [{"ttft_s": np.linspace(0.01, 0.02, 30)}], [{"ttft_s": np.linspace(0.1, 0.2, 30)}]
    sides = [loaded(level(4, 100.0), requests=each) for each in requests]
    tier = pipeline.compare(*sides).tiers[-1]
    assert tier.metric == "ttft_p99_s" and tier.low_frac > 1  # single requests alone: an interval, no verdict
    assert tier.verdict == "no difference shown" and "no verdict" in tier.basis


def test_loads_with_and_without_a_profiler_are_not_mixed() -> None:
    found = pipeline.compare(loaded(level(4, 100), run="profiled"), loaded(level(4, 50), run="unprofiled"))
    assert found.tiers == [] and not found.comparable
    assert any("with the profiler on" in note for note in found.notes)
    (tier,) = pipeline.compare(loaded(level(4, 100), run="unprofiled"), loaded(level(4, 50))).tiers
    assert tier.verdict == "worse"
    (note,) = [
        each
        for each in pipeline.compare(loaded(level(4, 100)), Capture(manifest=Manifest())).notes
        if "load" in each
    ]
    assert note == "only base has the result of a load: no serving figures are compared"


def test_the_noise_is_what_recorded_runs_of_one_load_differed_by(examples: Path) -> None:
    folder, sets = examples / "h200_compare", []
    for model in ("fp16", "gptq8"):
        files = sorted((folder / "load").glob(f"{model}_*.json"))
        sets += list(zip(*(json.loads(each.read_text())["levels"] for each in files), strict=True))
        servers = [pipeline.load(folder / f"{model}_c1_{each}.tar.gz") for each in (1, 2, 3)]
        sets.append(tuple(each.manifest.load["unprofiled"]["levels"][0] for each in servers))

    def most(of: Callable[[dict[str, Any]], float]) -> float:
        return max(float(np.std([of(level) for level in levels], ddof=1)) for levels in sets)

    wanted = {
        TOKENS: most(lambda level: level["concurrency"] / level[TOKENS]),
        "latency_s": most(lambda level: level["e2e_s"]["mean"] * level["requests"] / level["output_tokens"]),
        "tpot_s": most(lambda level: level["tpot_s"]["mean"]),
        "ttft_s": most(lambda level: level["ttft_s"]["mean"]),
        "tpot_p99_s": most(lambda level: level["tpot_s"]["p99"]),
        "ttft_p99_s": most(lambda level: level["ttft_s"]["p99"]),
        "latency_p99_s": most(
            lambda level: level["e2e_s"]["p99"] * level["requests"] / level["output_tokens"]
        ),
    }
    noise = thresholds().compare.serving_noise
    assert {name: each.absolute_s for name, each in noise.items()} == {
        name: pytest.approx(value, rel=0.01) for name, value in wanted.items()
    }
    assert {each.freedom for each in noise.values()} == {sum(len(each) - 1 for each in sets)}
    slowest = sets[-2]  # 8-bit at sixteen
    share = np.std([level["tpot_s"]["mean"] for level in slowest], ddof=1) / slowest[0]["tpot_s"]["mean"]
    assert [each.frac for each in noise.values()] == [pytest.approx(share, rel=0.05)] * 7


def test_equal_servers_are_not_told_apart(examples: Path) -> None:
    """Three servers of one model each: two differ by 7 % in tokens a second, and nothing was changed."""
    for model in ("fp16", "gptq8"):
        made = [pipeline.load(examples / "h200_compare" / f"{model}_c1_{each}.tar.gz") for each in (1, 2, 3)]
        alone = [Capture(manifest=Manifest(load=each.manifest.load)) for each in made]
        for first, second in combinations(map(pipeline.side, alone), 2):
            found = serving_tiers.serving_tiers(first, second)
            assert [each.verdict for each in found] == ["no difference shown"] * 7


def test_recorded_repeats_of_both_models_tell_every_level_apart(examples: Path, tmp_path: Path) -> None:
    """8-bit against 16-bit on an H200, five runs of each level: faster at 1 and 2, slower from 4 on."""
    sides = []
    for model in ("fp16", "gptq8"):
        folder = tmp_path / model
        folder.mkdir()
        for path in sorted((examples / "h200_compare" / "load").glob(f"{model}_*.json")):
            shutil.copy(path, folder)
        sides.append(folder)
    found = pipeline.compare(*sides)
    assert verdicts(found) == {"1": "better", "2": "better", "4": "worse", "8": "worse", "16": "worse"}
    assert verdicts(found, "tpot_s") == verdicts(found)
    assert set(verdicts(found, "ttft_s").values()) == {"no difference shown"}
    assert "50 runs of 10 loads in these files" in " ".join(each.basis for each in found.tiers)


@pytest.mark.parametrize("model", ["fp16", "gptq8"])
def test_recorded_runs_of_one_server_are_told_apart_at_no_level(examples: Path, model: str) -> None:
    files = sorted((examples / "h200_compare" / "load").glob(f"{model}_*.json"))
    sides = [pipeline.side(pipeline.load(each)) for each in files]
    for first, second in combinations(sides, 2):
        found = serving_tiers.serving_tiers(first, second)
        assert len(found) == 35 and {each.verdict for each in found} == {"no difference shown"}


def test_equal_loads_are_seldom_told_apart() -> None:
    """Loads that differ by the noise alone: at most one comparison in twenty claims anything."""
    chance, noise = np.random.default_rng(11), thresholds().compare.serving_noise[TOKENS]
    claims, clients, side = 0, (1, 2, 4, 8, 16), pipeline.side(loaded(level(1, 1.0)))
    for _ in range(300):
        sides = []
        for _ in range(2):
            times = 0.008 * (1 + noise.frac * chance.normal(size=5)) + noise.absolute_s * chance.normal(
                size=5
            )
            levels = (level(each, each / time) for each, time in zip(clients, times, strict=True))
            sides.append(side.model_copy(update={"capture": loaded(*levels)}))
        found = serving_tiers.serving_tiers(*sides)
        claims += any(each.verdict != "no difference shown" for each in found)
    assert claims <= 0.05 * 300


@given(st.floats(0.001, 0.999), st.integers(1, 200))
def test_students_t_is_wider_than_the_normal_and_falls(chance: float, degrees: int) -> None:
    assert student.value(chance, degrees) >= student.value(chance, degrees + 1) * (1 - 1e-6)
    assert student.value(0.05, 10) == pytest.approx(2.228139, abs=1e-5)
    assert student.value(0.05, 1) == pytest.approx(12.7062, abs=1e-3)
