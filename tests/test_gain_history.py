import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocscope import ranking
from rocscope.analyzers import runner
from rocscope.gain_history import LEVELS, GainHistory, Realised, combined
from rocscope.thresholds import Shares, thresholds
from synthetic_capture import capture, row, study

PRIORS = st.lists(st.floats(0, 1), min_size=3, max_size=3).map(lambda three: tuple(sorted(three)))
SHARES = st.lists(st.floats(-3, 3), min_size=1, max_size=30)
LATENCY = (0.05, 0.3, 0.75)


def shares(prior):
    return Shares(low=prior[0], mid=prior[1], high=prior[2], source="made up for tests")


def history(values, name="latency"):
    return GainHistory(Realised(name, value, f"target {at}") for at, value in enumerate(values))


def told(found):
    return found.low, found.mid, found.high


@given(PRIORS)
def test_without_changes_of_that_name_the_prior_is_returned_itself(prior):
    kept = shares(prior)
    assert GainHistory().shares("latency", kept) is kept
    assert history([0.5], "gaps").shares("latency", kept) is kept


@given(PRIORS, SHARES)
def test_the_shares_stay_in_order_and_within_all_of_the_way(prior, values):
    low, mid, high = told(history(values).shares("latency", shares(prior)))
    assert 0 <= low <= mid <= high <= 1


@given(PRIORS, SHARES, st.randoms())
def test_the_order_of_changes_does_not_matter(prior, values, random):
    mixed = list(values)
    random.shuffle(mixed)
    first, second = (history(each).shares("latency", shares(prior)) for each in (values, mixed))
    assert told(first) == pytest.approx(told(second), abs=1e-9)


@given(PRIORS, st.lists(st.floats(0, 1), max_size=20), st.floats(0, 1))
def test_a_change_moves_the_middle_towards_what_it_realised(prior, values, share):
    before = history(values).shares("latency", shares(prior)).mid
    after = history([*values, share]).shares("latency", shares(prior)).mid
    assert min(before, share) - 1e-6 <= after <= max(before, share) + 1e-6


@given(PRIORS, st.floats(0.05, 0.95))
def test_many_changes_at_one_share_outweigh_the_prior_but_never_leave_a_point(prior, share):
    low, mid, high = told(history([share] * 300).shares("latency", shares(prior)))
    assert mid == pytest.approx(share, abs=0.01)
    assert low < share < high and high - low > thresholds().forecasts.spread_frac.value


@given(st.lists(st.floats(0.3, 0.5), min_size=10, max_size=40), st.sampled_from([-5.0, 0.0, 1.0, 40.0]))
def test_one_change_far_out_moves_little(values, outlier):
    before = told(history(values).shares("latency", shares(LATENCY)))
    after = told(history([*values, outlier]).shares("latency", shares(LATENCY)))
    assert after[1] == pytest.approx(before[1], abs=0.05)
    assert after[0] > 0 and after[2] < 0.95


def test_one_change_alone_does_not_set_low_or_high():
    low, mid, high = told(history([1.0]).shares("latency", shares(LATENCY)))
    assert low == pytest.approx(0.05, abs=0.02) and 0.3 < mid < 0.4 and 0.75 < high < 0.97
    low, mid, high = told(history([-1.0]).shares("latency", shares(LATENCY)))
    assert 0.01 < low < 0.05 and 0.2 < mid < 0.3 and 0.7 < high <= 0.75


def test_changes_of_one_target_on_one_gpu_weigh_less_than_as_many_of_others():
    same = GainHistory(Realised("latency", 0.9, "one target") for _ in range(9))
    others = history([0.9] * 9)
    three = history([0.9] * 3)
    mids = [each.shares("latency", shares(LATENCY)).mid for each in (same, others, three)]
    assert mids[0] == pytest.approx(mids[2]) and mids[0] < mids[1]


def drawn(prior, random, size):
    """Draw shares from what a prior says."""
    return np.interp(random.random(size), [0.0, *LEVELS, 1.0], [0.0, *prior, 1.0])


@pytest.mark.parametrize("scored", [1, 5, 20, 80])
def test_intervals_cover_what_changes_give_at_the_stated_rate_where_the_prior_is_right(scored):
    random = np.random.default_rng(scored)
    hits = 0
    for _ in range(400):
        low, _, high = combined(LATENCY, drawn(LATENCY, random, scored), np.ones(scored))
        hits += np.mean((low <= (new := drawn(LATENCY, random, 50))) & (new <= high))
    assert hits / 400 == pytest.approx(0.8, abs=0.02)


@pytest.mark.parametrize(
    ("draw", "alone"),
    [
        (lambda random, size: random.beta(2, 3, size), 0.93),
        (lambda random, size: 0.75 + 0.2 * random.random(size), 0.0),  # the prior takes this for rare
        (lambda random, size: np.where(random.random(size) < 0.5, 0.0, 0.6), 0.5),  # nothing, or a lot
        (lambda random, size: random.normal(0.4, 0.02, size), 1.0),
    ],
)
def test_intervals_come_to_cover_what_changes_give_where_the_prior_is_wrong(draw, alone):
    random = np.random.default_rng(7)
    rates = {}
    for scored in (0, 60):
        hits = []
        for _ in range(200):
            low, _, high = combined(LATENCY, draw(random, scored), np.ones(scored))
            new = np.clip(draw(random, 50), 0, 1)
            hits.append(np.mean((low <= new) & (new <= high)))
        rates[scored] = float(np.mean(hits))
    assert rates[60] >= 0.79
    assert rates[0] == pytest.approx(alone, abs=0.03)


def test_the_ledger_is_named_where_a_forecast_learned_from_it():
    found = history([0.4, 0.5]).shares("latency", shares(LATENCY))
    assert found.source.startswith("from 2 scored changes of the ledger of forecasts and the prior: made up")
    assert history([0.4]).shares("latency", shares(LATENCY)).source.startswith("from 1 scored change of")


def test_a_prior_weighs_so_much_that_one_change_sets_no_percentile():
    assert 1 / (thresholds().forecasts.prior_changes.value + 1) < LEVELS[0]


def test_each_forecast_learns_from_changes_of_its_own_kind():
    rows = [row("k", 0, 100_000), row("rest", 100_000, 100_000)]
    checked = study(capture(rows), {"k": {"bytes": 1e7, "flops": 0.0}})
    runner.run(checked)
    plain, learnt, unmoved = (
        ranking.rank(checked.kernels, (), past)[0][0].expected_gain
        for past in (GainHistory(), history([0.9] * 30), history([0.9] * 30, "roof"))
    )
    assert unmoved == plain and "ledger" not in plain.basis
    assert learnt.mid_frac == pytest.approx(0.5 * (1 - 0.125**0.85), abs=0.02)
    assert "from 30 scored changes of the ledger of forecasts and the prior" in learnt.basis
    assert learnt.shares_of == "latency" and learnt.before_frac == pytest.approx(0.5)
    assert learnt.least_frac == pytest.approx(0.5 * 0.125)


@pytest.mark.parametrize(("name", "slug"), [("gaps", "launch-gaps"), ("stalls", "host-stalls")])
def test_lost_time_learns_too(name, slug):
    pause = 50_000 if name == "gaps" else 5_000_000
    rows = [row("k", at * (10_000 + pause), 10_000) for at in range(20)]
    mids = []
    for past in (GainHistory(), history([1.0] * 50, name)):
        checked = study(capture(rows))
        checked.gains = past
        runner.run(checked)
        target = next(each for each in checked.targets if slug in each.id)
        mids.append(target.expected_gain.mid_frac / target.expected_gain.before_frac)
    assert mids[0] == pytest.approx(thresholds().gain[name].mid) and mids[1] > 0.9
