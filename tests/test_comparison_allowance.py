"""What two runs of one thing differ by is no difference; what is beyond it, or within one run, is."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocscope import pipeline
from rocscope.comparison import allowance
from rocscope.comparison.allowance import Allowance
from rocscope.comparison.judging import decided
from synthetic_capture import capture, row

EQUAL = [
    *itertools.combinations(("fp16_c1_1", "fp16_c1_2", "fp16_c1_3"), 2),
    *itertools.combinations(("gptq8_c1_1", "gptq8_c1_2", "gptq8_c1_3"), 2),
    ("decoder_strided_1", "decoder_strided_2"),
]


def archive(examples, name):
    return examples / "h200_compare" / f"{name}.tar.gz"


def claimed(found):
    rows = [*found.phases, *found.families, *found.kernels, *found.gaps]
    verdicts = [(each.tier, each.verdict) for each in found.tiers] + [
        (each.name, each.verdict) for each in rows
    ]
    return [name for name, verdict in verdicts if verdict in ("better", "worse")]


@pytest.mark.parametrize(
    ("base", "new"),
    [pytest.param(*each, marks=[] if each[1] == "gptq8_c1_2" else pytest.mark.slow) for each in EQUAL],
)
def test_servers_that_nothing_sets_apart_are_not_told_apart(examples, base, new):
    assert claimed(pipeline.compare(archive(examples, base), archive(examples, new))) == []


def test_a_change_beyond_what_runs_differ_by_is_shown_and_idle_time_widens_it(examples):
    found = pipeline.compare(archive(examples, "fp16_c1_1"), archive(examples, "gptq8_c1_1"))
    step = found.tiers[0]
    assert step.verdict == "better"
    # the 8-bit server waited 0.4 ms longer: without that it gained 12 %, with it 4 %
    assert step.low_frac < -0.11 and -0.04 < step.high_frac < 0
    assert any("may be this run's own" in note for note in found.notes)
    assert found.statistics.run_to_run_idle_s == pytest.approx(5e-4)
    idle = next(each for each in found.gaps if each.name == "idle")
    assert idle.verdict == "no difference shown" and idle.step_low_frac < 0 < idle.step_high_frac


def side(provenance="recorded", **manifest):
    made = capture([row("a", 0, 5), row("a", 10, 5)])
    made.manifest = made.manifest.model_copy(update={"provenance": provenance, **manifest})
    return pipeline.side(made)


def test_parts_of_one_recording_have_one_server_and_one_host():
    one = side(id="x")
    for other in (side(id="x"), side("synthetic", id="y")):
        assert allowance.between(one, other) == Allowance(frac=0.005)
    apart = allowance.between(one, side(id="y"))
    assert apart.launch_ns > apart.family_launch_ns > 0 and apart.idle_ns > 0


@pytest.mark.slow
def test_a_folder_of_repeats_needs_no_allowance(tmp_path, examples):
    for part, names in (("base", EQUAL[0]), ("new", EQUAL[1])):
        (tmp_path / part).mkdir()
        for name in names:
            (tmp_path / part / f"{name}.tar.gz").symlink_to(archive(examples, name))
    found = pipeline.compare(tmp_path / "base", tmp_path / "new")
    assert found.statistics.unit == "repeat" and found.statistics.run_to_run_launch_s is None


@given(
    base=st.floats(1e3, 1e7),
    busy_frac=st.floats(-0.5, 0.5),
    idle_ns=st.floats(-1e3, 1e3),
    error=st.floats(1, 1e4),
)
def test_what_is_said_holds_with_the_idle_time_and_without(base, busy_frac, idle_ns, error):
    new = base * (1 + busy_frac) + idle_ns
    if new <= 1 or new - idle_ns <= 1:
        return

    def found(value, **more):
        return decided(base, value, error, error, 3.0, allowance=0.005, **more)

    both, seen, without = found(new, idle_ns=idle_ns), found(new), found(new - idle_ns)
    assert both.change == seen.change
    if both.shown:
        assert seen.shown and without.shown and seen.verdict == without.verdict == both.verdict
    if None not in (both.low, both.high, without.low, seen.low):
        assert both.low <= min(seen.low, without.low) and both.high >= max(seen.high, without.high)
        assert both.low <= both.change <= both.high or not seen.shown


def test_more_launches_allow_more():
    allowed = Allowance(frac=0.01, launch_ns=500, family_launch_ns=200)
    assert allowed.of_launches(10, 100_000, family=False) == pytest.approx(0.01 + 0.05)
    assert allowed.of_launches(10, 100_000, family=True) == pytest.approx(0.01 + 0.02)
    assert allowed.of_launches(0, 0, family=True) == 0.01
    assert Allowance(idle_ns=5).of_idle(-7) == -5 and Allowance(idle_ns=5).of_idle(3) == 3
