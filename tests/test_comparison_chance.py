"""What chance makes is not claimed, and what was changed is found.

Figures here are made by seeded generators, or are steps drawn from a recording of an H200;
`benchmarks/bench_compare_aa.py` has the 500 draws.
"""

import numpy as np
import pytest
from drawn_steps import DrawnSteps, slowed

from rocscope import comparison, pipeline, student
from synthetic_steps import KERNELS, decode_steps, laid_out

DRAWS = 24
MOST = 4  # of 24 claims with at most a chance of 1 in 20: more come once in 170 times


@pytest.fixture(scope="module")
def analysis():
    """Of any recording: what is judged is read from the captures."""
    return pipeline.side(decode_steps(count=6)).analysis


def claims(found):
    rows = [*found.phases, *found.families, *found.kernels, *found.gaps]
    return [each.verdict for each in [*found.tiers, *rows] if each.verdict in ("better", "worse")]


def counted(draws, analysis, **how):
    """Return in how many of ``draws`` (pairs of captures or of lists of them) a difference is claimed."""

    def side(captures):
        captures = captures if isinstance(captures, list) else [captures]
        sides = [comparison.Side(capture=each, analysis=analysis) for each in captures]
        return sides[0].model_copy(update={"repeats": sides}) if len(sides) > 1 else sides[0]

    return sum(bool(claims(comparison.compare(side(a), side(b), **how))) for a, b in draws)


def test_steps_of_one_recording_dealt_to_two_sides_differ_in_nothing(examples):
    whole = pipeline.side(pipeline.load(examples / "h200_compare" / "fp16_c1_1.tar.gz"))
    pool = DrawnSteps(whole.capture)
    assert len(pool) >= 200
    random = np.random.default_rng(7)
    claimed, found = 0, {"attention": 0}
    for _ in range(6):
        order = random.permutation(len(pool))
        sides = [
            comparison.Side(capture=pool.capture(part), analysis=whole.analysis)
            for part in (order[:50], order[50:100])
        ]
        claimed += bool(claims(comparison.compare(*sides)))
        for family in found:
            slow = sides[1].model_copy(update={"capture": slowed(sides[1].capture, family, 0.03)})
            rows = comparison.compare(sides[0], slow).families
            found[family] += next(row.verdict == "worse" for row in rows if row.family == family)
    assert claimed <= 2
    assert min(found.values()) >= 5


@pytest.mark.parametrize(
    ("count", "noise"), [(5, "even"), (12, "even"), (12, "heavy"), (30, "heavy"), (12, "common")]
)
def test_noise_alone_is_no_difference(analysis, count, noise):
    random = np.random.default_rng([count, len(noise)])

    def made():
        return laid_out(of_noise(random, count, noise))

    assert counted([(made(), made()) for _ in range(DRAWS)], analysis) <= MOST


def of_noise(random, count, noise):
    """Return times of kernels, [steps, kernels], relative to their usual."""
    shape = (count, len(KERNELS))
    if noise == "heavy":
        return 1 + 0.01 * np.minimum(np.abs(random.standard_t(2.2, shape)), 30)
    if noise == "common":
        return 1 + 0.01 * random.standard_normal((count, 1)) + 0.003 * random.standard_normal(shape)
    return 1 + 0.01 * random.standard_normal(shape)


@pytest.mark.slow
@pytest.mark.parametrize("alike", [0.5, 0.9])
def test_steps_that_resemble_their_neighbours_count_for_fewer(analysis, alike):
    random = np.random.default_rng(int(100 * alike))

    def halves():
        wanders = np.zeros((120, len(KERNELS)))
        for step in range(1, 120):
            fresh = np.sqrt(1 - alike**2) * random.standard_normal(len(KERNELS))
            wanders[step] = alike * wanders[step - 1] + fresh
        return laid_out(1 + 0.01 * wanders[40:80]), laid_out(1 + 0.01 * wanders[80:])

    assert counted([halves() for _ in range(DRAWS)], analysis) <= MOST


@pytest.mark.slow
@pytest.mark.parametrize("drift", [0.03, 0.1])
def test_the_halves_of_a_recording_that_drifts_are_not_told_apart(analysis, drift):
    random = np.random.default_rng(int(1000 * drift))

    def halves():
        slow = 1 + drift * np.linspace(0, 1, 80)[:, None] + 0.004 * random.standard_normal((80, len(KERNELS)))
        return laid_out(slow[:40]), laid_out(slow[40:])

    assert counted([halves() for _ in range(DRAWS)], analysis) <= MOST


def runs(random, number, run_frac, factor=1.0):
    """Repeats that differ by a factor of their own, shared by all kernels, and of each kernel's own."""
    found = []
    for index in range(number):
        shared = run_frac * random.standard_normal()
        own = run_frac * random.standard_normal(len(KERNELS))
        steps = (1 + shared + own) * (1 + 0.004 * random.standard_normal((8, len(KERNELS))))
        found.append(laid_out(steps * factor, start_ns=10_000_000_000 * index))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("number", [2, 4])
def test_repeats_tell_how_far_runs_lie_apart(analysis, number):
    random = np.random.default_rng(number)
    draws = [(runs(random, number, 0.02), runs(random, number, 0.02)) for _ in range(DRAWS // 2)]
    assert counted(draws, analysis) <= MOST - 1
    singly = [(first[0], second[0]) for first, second in draws]
    assert counted(singly, analysis) > DRAWS // 4  # what steps alone say of runs that differ by 2 %


@pytest.mark.slow
def test_a_change_beyond_what_runs_differ_by_is_found_in_repeats(analysis):
    random = np.random.default_rng(3)
    draws = [(runs(random, 5, 0.005), runs(random, 5, 0.005, factor=1.05)) for _ in range(6)]
    assert counted(draws, analysis) >= 5


def test_a_coarse_timer_makes_no_difference_of_less_than_its_tick(analysis):
    """Every dispatch reads 30 or 31 ticks of 1 us each time; the kernels may take the same 30.5 us."""
    low, high = np.full((20, 1), 30_000), np.full((20, 1), 31_000)
    assert counted([(exact(low), exact(high))], analysis) == 0
    assert counted([(exact(low), exact(low + 8_000))], analysis) == 1


def exact(times_ns):
    return laid_out(times_ns / 30_000, kernels=(("embed", 30_000),), idle_ns=10_000, tick_ns=1_000)


def test_the_level_says_how_wide_intervals_are():
    base, new = (pipeline.side(decode_steps(count=20, seed=seed)) for seed in (1, 2))
    found = [comparison.compare(base, new, level=level).tiers[0] for level in (0.8, 0.95, 0.99)]
    widths = [each.high_frac - each.low_frac for each in found]
    assert widths == sorted(widths) and widths[0] < widths[2]


@pytest.mark.parametrize(
    ("degrees", "t", "chance"),
    [(1, 12.7062, 0.05), (2, 4.30265, 0.05), (10, 6.21105, 1e-4), (100, 3.39049, 1e-3), (1e6, 1.95996, 0.05)],
)
def test_students_t_is_that_of_the_tables(degrees, t, chance):
    assert student.value(chance, degrees) == pytest.approx(t, rel=1e-5)
    assert student.beyond(t, degrees) == pytest.approx(chance, rel=1e-4)
    assert student.value(1.0, degrees) == 0
