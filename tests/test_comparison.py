import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rocscope import pipeline
from synthetic_capture import capture, row

DECODE = "execute_context_0(0)_generation_2(2)"


def replay(lengths, names="abc", **more):
    """Steps of the given lengths, each a kernel a name; the last kernel takes what is left."""
    rows, start = [], 0
    for length in lengths:
        part = length // (2 * len(names))
        for i, name in enumerate(names):
            last = i == len(names) - 1
            rows.append(row(name, start + i * part, length - i * part - 10 if last else part))
        start += length
    return capture(rows, **more)


def steps(lengths):
    """Annotated steps after a prefill, with nothing that repeats as a sequence."""
    spans, rows, start = [], [row("prefill", 0, 5_000)], 10_000
    for i, length in enumerate(lengths):
        spans.append(
            {
                "process": 0,
                "kind": "gpu_annotation",
                "name": DECODE,
                "start_ns": start,
                "end_ns": start + length - 5,
                "gpu": 0,
            }
        )
        rows += [row(f"k{i}", start, length - 10)]
        start += length
    return capture(rows, spans=spans)


def test_a_shorter_period_is_better_and_a_longer_one_worse():
    slow, fast = replay([9000, 9010, 8990, 9000, 9005, 9000]), replay([6000, 6010, 5990, 6000, 6005, 6000])
    found = pipeline.compare(slow, fast)
    tier = found.tiers[0]
    assert (tier.tier, tier.metric, tier.unit, tier.verdict) == ("step", "period_s", "s", "better")
    assert tier.change_frac == pytest.approx(6e-6 / 9e-6 - 1, abs=1e-3)
    assert tier.low_frac <= tier.change_frac <= tier.high_frac < 0
    assert found.comparable and found.times_of == "step" and 0 <= found.noise_floor_frac < 0.01
    assert pipeline.compare(fast, slow).tiers[0].verdict == "worse"
    assert {each.name for each in found.kernels} == {"a", "b", "c"}
    assert found.kernels[0].name == "c"  # it takes what is left, and changes most
    assert found.kernels[0].base_s == pytest.approx(6e-6, rel=0.01)


def test_a_recording_against_itself_shows_no_difference():
    made = replay([9000, 9010, 8990, 9000, 9005, 9000])
    found = pipeline.compare(made, made)
    assert found.tiers[0].verdict == "no difference shown" and found.tiers[0].change_frac == 0
    assert all(each.change_frac == 0 for each in found.kernels)


@pytest.mark.parametrize(("periods", "verdict"), [(3, "no difference shown"), (4, "better")])
def test_too_few_periods_are_no_ground_for_a_verdict(periods, verdict):
    tier = pipeline.compare(replay([9000] * (periods + 1)), replay([6000] * (periods + 1))).tiers[0]
    assert tier.verdict == verdict and tier.change_frac == pytest.approx(-1 / 3, abs=1e-3)
    assert ("no verdict from fewer than 4" in tier.basis) == (periods < 4)


def test_a_change_within_the_noise_is_not_shown():
    noisy = replay([9000, 9600, 8500, 9100, 8700, 9000])
    other = replay([8990, 9500, 8600, 9200, 8650, 9000])
    assert pipeline.compare(noisy, other).tiers[0].verdict == "no difference shown"


def test_annotated_steps_of_one_kind_are_compared():
    found = pipeline.compare(steps([2000] * 5), steps([1500] * 5))
    assert found.tiers[0].change_frac == pytest.approx(-0.25)
    assert DECODE in found.tiers[0].basis and found.times_of == "step"
    assert [each.name for each in found.phases] == ["decode"]
    assert found.phases[0].change_frac == pytest.approx(-0.25, abs=0.01)


def test_without_steps_there_is_no_tier_and_it_is_said():
    found = pipeline.compare(capture([row("a", 0, 10)]), capture([row("a", 0, 20)]))
    assert found.tiers == [] and found.noise_floor_frac is None
    assert any("no steps in common" in note for note in found.notes)
    assert found.kernels[0].change_frac == 1


def test_what_is_in_one_recording_only_has_no_change():
    found = pipeline.compare(capture([row("a", 0, 10)]), capture([row("b", 0, 20)]))
    assert {(each.name, each.change_frac) for each in found.kernels} == {("a", None), ("b", None)}


def test_what_cannot_be_compared_is_not_judged():
    base = replay(
        [9000] * 6,
        model={
            "model_type": "qwen3",
            "hidden_size": 4096,
            "num_hidden_layers": 36,
            "num_attention_heads": 32,
        },
    )
    other = replay(
        [6000] * 6,
        model={
            "model_type": "qwen3",
            "hidden_size": 2048,
            "num_hidden_layers": 36,
            "num_attention_heads": 32,
        },
        model_tp=2,
    )
    other.manifest.gpus[0] = other.manifest.gpus[0].model_copy(update={"name": "MI100", "arch": "gfx908"})
    found = pipeline.compare(base, other)
    assert not found.comparable and found.tiers[0].verdict == "no difference shown"
    assert any(why.startswith("GPU: ") for why in found.why_not)
    assert "model: hidden_size is 4096 against 2048" in found.why_not
    assert pipeline.compare(base, capture([])).why_not[-1] == "new holds no GPU kernels"


lengths_ns = st.lists(st.integers(9_000, 10_900), min_size=5, max_size=12)


@pytest.mark.slow
@settings(max_examples=12)
@given(lengths_ns, st.sampled_from([0.5, 0.8, 1.25, 2.0]))
def test_scaling_all_times_is_found_and_repeats(lengths, factor):
    base, new = replay(lengths), replay([round(each * factor) for each in lengths])
    found = pipeline.compare(base, new)
    tier = found.tiers[0]
    assert found == pipeline.compare(base, new)
    assert tier.change_frac == pytest.approx(factor - 1, abs=1e-3)
    assert tier.low_frac - 1e-3 <= factor - 1 <= tier.high_frac + 1e-3


@pytest.mark.slow
@settings(max_examples=12)
@given(lengths_ns, lengths_ns)
def test_swapping_the_sides_mirrors_what_is_said(first, second):
    there, back = (
        pipeline.compare(replay(first), replay(second)),
        pipeline.compare(replay(second), replay(first)),
    )
    opposite = {
        "better": "worse",
        "worse": "better",
        "no difference shown": "no difference shown",
        None: None,
    }
    for one, other in [*zip(there.tiers, back.tiers, strict=True), *pairs(there.kernels, back.kernels)]:
        assert opposite[one.verdict] == other.verdict
        assert (1 + one.change_frac) * (1 + other.change_frac) == pytest.approx(1)
        if one.low_frac is not None and other.high_frac is not None and other.high_frac > -1:
            assert 1 + one.low_frac == pytest.approx(1 / (1 + other.high_frac), abs=1e-6)


def pairs(one, other):
    named = {each.name: each for each in other}
    return [(each, named[each.name]) for each in one]


@settings(max_examples=12)
@given(lengths_ns)
def test_a_recording_against_itself_shows_nothing_whatever_its_steps(lengths):
    made = replay(lengths)
    found = pipeline.compare(made, made)
    assert {each.verdict for each in [*found.tiers, *found.kernels, *found.families]} == {
        "no difference shown"
    }
    assert all(each.low_frac is None or each.low_frac <= 0 <= each.high_frac for each in found.kernels)


@pytest.mark.slow
@settings(max_examples=12)
@given(lengths_ns, lengths_ns)
def test_parts_of_a_change_add_up_to_it(first, second):
    found = pipeline.compare(replay(first), replay(second, "abd"))
    parts = sum(each.step_frac for each in [*found.kernels, *found.gaps])
    assert parts == pytest.approx(found.tiers[0].change_frac, abs=1e-9)
    assert sum(each.step_frac for each in [*found.families, *found.gaps]) == pytest.approx(parts, abs=1e-9)


def test_the_strided_decoder_against_sixteen_bit_weights(examples):
    # measured without the profiler: 16.15 ms against 10.82 ms a step, -33.0 %
    folder = examples / "h200_decoder"
    found = pipeline.compare(folder / "kineto_strided_graph.json.gz", folder / "kineto_fp16_graph.json.gz")
    tier = found.tiers[0]
    assert found.comparable and tier.verdict == "better"
    assert tier.change_frac == pytest.approx(10.81524 / 16.152038 - 1, abs=0.02)
    assert tier.low_frac < 10.81524 / 16.152038 - 1 < tier.high_frac
    times = {each.name: (each.base_s, each.new_s) for each in found.families}
    assert times["gptq_gemm"][0] == pytest.approx(58.86e-3 / 6, rel=0.01) and times["gptq_gemm"][1] is None
    assert times["attention"][0] == pytest.approx(times["attention"][1], rel=0.02)
