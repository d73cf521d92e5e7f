"""Integration of power and of energy counters: against closed forms, and properties of any series."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocscope.analyzers.gpu_samples import Meter, Series, Telemetry
from rocscope.collectors.energy import EnergyMeter
from synthetic_capture import capture, row
from synthetic_samples import sampled, series

S = 1_000_000_000
EPOCH = 1_795_210_208_000_000_000  # of Unix time: differences must stay exact


def meter(points):
    times, values = zip(*points, strict=True)
    return Meter.of_power(Series(np.array(times, np.int64), np.array(values, float)))


def used(found, first, last):
    joules, seconds = found.between(np.array([first]), np.array([last]))
    return float(joules[0]), float(seconds[0])


def test_a_ramp_has_the_area_below_it_at_any_cut():
    ramp = meter([(EPOCH + i * S, 100.0 * i) for i in range(6)])  # 100 t W: 50 t^2 J
    assert used(ramp, EPOCH, EPOCH + 5 * S) == pytest.approx((1250.0, 5.0))
    assert used(ramp, EPOCH + S // 2, EPOCH + 5 * S // 2) == pytest.approx((50 * (2.5**2 - 0.5**2), 2.0))


def test_the_ends_are_held_for_one_period_and_no_longer():
    flat = meter([(EPOCH + i * S, 200.0) for i in range(5)])
    assert used(flat, EPOCH - 10 * S, EPOCH) == pytest.approx((200.0, 1.0))
    assert used(flat, EPOCH + 4 * S, EPOCH + 100 * S) == pytest.approx((200.0, 1.0))
    assert used(flat, EPOCH + 50 * S, EPOCH + 60 * S) == pytest.approx((0.0, 0.0))


def test_across_a_gap_nothing_is_made_up_and_a_counter_counts_on():
    times = [0, 1, 2, 3, 20, 21, 22]
    gap = meter([(EPOCH + t * S, 300.0) for t in times])
    assert used(gap, EPOCH, EPOCH + 22 * S) == pytest.approx((300.0 * 5, 5.0))
    assert used(gap, EPOCH + 5 * S, EPOCH + 15 * S) == pytest.approx((0.0, 0.0))
    counted = Series(np.array([EPOCH + t * S for t in times]), np.array([300.0 * t for t in times]))
    assert used(Meter.of_counter(counted), EPOCH, EPOCH + 22 * S) == pytest.approx((6600.0, 22.0))


def test_a_counter_that_falls_or_stands_still_is_no_meter():
    at = np.arange(4) * S
    assert Meter.of_counter(Series(at, np.array([1.0, 5.0, 2.0, 3.0]))) is None
    assert Meter.of_counter(Series(at, np.full(4, 7.0))) is None
    assert Meter.of_counter(Series(at[:1], np.ones(1))) is None


powers = st.lists(st.tuples(st.integers(1, 2000), st.floats(0, 1000)), min_size=2, max_size=40)


@given(powers, st.lists(st.integers(-5_000, 90_000), min_size=3, max_size=3))
def test_parts_add_up_and_energy_stays_within_least_and_most_power(points, cuts):
    times = EPOCH + np.cumsum([step for step, _ in points]) * 1_000_000
    values = np.array([value for _, value in points])
    found = Meter.of_power(Series(times, values))
    a, b, c = (int(times[0]) + cut * 1_000_000 for cut in sorted(cuts))
    whole, seconds = used(found, a, c)
    parts = [used(found, a, b), used(found, b, c)]
    assert sum(part[0] for part in parts) == pytest.approx(whole, abs=1e-6)
    assert sum(part[1] for part in parts) == pytest.approx(seconds, abs=1e-9)
    assert -1e-6 <= seconds <= (c - a) * 1e-9 + 1e-9
    assert values.min() * seconds - 1e-6 <= whole <= values.max() * seconds + 1e-6


@given(
    watts=st.lists(st.floats(20, 400), min_size=5, max_size=60),
    start=st.integers(0, 2**32 - 1),
)
def test_a_wrapping_counter_and_its_power_give_the_same_energy(watts, start):
    """MI100's counter has 32 bits of 15.26 uJ: about 65.5 kJ; readings 30 s apart wrap every few minutes."""
    joules = np.concatenate(([0.0], np.cumsum(np.array(watts) * 30.0)))
    times = EPOCH + np.arange(len(joules)) * 30 * S
    tick = 2**-16
    wraps = EnergyMeter(32, tick)
    read = [
        wraps.energy_j((start + round(each / tick)) % 2**32, int(at))
        for each, at in zip(joules, times, strict=True)
    ]
    found = Meter.of_counter(Series(times, np.array(read, float)))
    total, seconds = used(found, int(times[0]), int(times[-1]))
    assert (total, seconds) == pytest.approx((joules[-1], 30.0 * len(watts)), abs=0.01)


def test_readings_by_gpu_phase_and_card():
    made = sampled(
        capture([row("k", 0, 10)]),
        series("power_w", [(2, 5), (1, 4), (1, 9), (3, float("nan"))]),
        series("marked", [(1, 1), (4, 1)], subject="phase:c1"),
        series("power_w", [(1, 1)], subject="device:0000:c1:00.0"),
        series("power_w", [(1, 1)], subject="gpu:1x"),
        series("power_w", [(1, float("inf"))], subject="gpu:2"),
    )
    found = Telemetry.read(made)
    assert list(found.gpus) == [0] and found.phases == {"c1": (1_000_000, 4_000_000)}
    assert found.unmatched == ("0000:c1:00.0",) and found.unrelated is None
    power = found.gpus[0].get("power_w")
    assert power.times.tolist() == [1_000_000, 2_000_000] and power.values.tolist() == [4.0, 5.0]
    made.notice("clock-unknown", "times of another clock")
    assert Telemetry.read(made).unrelated == "times of another clock"
    made.manifest.provenance = "replayed"
    assert "replayed" in Telemetry.read(made).unrelated
