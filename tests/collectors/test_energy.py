"""The energy of a GPU never falls: wraps are mended, what cannot be known is not told."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rocscope.collectors.energy import NARROW_POWER_W, EnergyMeter

TICK = 2**-16
S = 1_000_000_000


def test_mi100s_counter_wraps_after_65_kj_and_energy_goes_on() -> None:
    meter = EnergyMeter(32, TICK)
    before = meter.energy_j((1 << 32) - 19_000_000, 0)
    after = meter.energy_j(5_000_000, S)  # 290 W take 19 million ticks a second
    assert before is not None and after is not None
    assert abs(after - before - 24_000_000 * TICK) < 1e-6 and not meter.lost


@given(
    st.integers(0, (1 << 32) - 1),
    st.lists(st.tuples(st.floats(0, NARROW_POWER_W), st.floats(0.1, 60)), min_size=1, max_size=60),
)
def test_over_any_course_of_power_the_energy_is_its_integral(
    start: int, course: list[tuple[float, float]]
) -> None:
    meter = EnergyMeter(32, TICK)
    ticks, now = start, 0
    first = last = meter.energy_j(ticks, now)
    assert first is not None
    for watts, seconds in course:
        ticks += round(watts * seconds / TICK)
        now += round(seconds * S)
        found = meter.energy_j(ticks & 0xFFFFFFFF, now)
        assert found is not None and last is not None and found >= last
        last = found
    assert last is not None and abs((last - first) - (ticks - start) * TICK) < 1e-3


def test_a_counter_that_began_anew_is_no_wrap() -> None:
    meter = EnergyMeter(32, TICK)
    meter.energy_j(1 << 31, 0)
    assert meter.energy_j(100, S) is None  # as a wrap it would be 32 kJ in one second
    assert "anew" in meter.lost and meter.energy_j(200, 2 * S) is None


def test_a_wide_counter_does_not_wrap() -> None:
    meter = EnergyMeter(64, TICK)
    assert meter.energy_j(1 << 40, 0) == (1 << 40) * TICK
    assert meter.energy_j((1 << 40) + 65536, S) == (1 << 40) * TICK + 1
    assert meter.energy_j(65536, 2 * S) is None and "anew" in meter.lost


def test_a_gap_in_which_a_narrow_counter_may_wrap_unseen_ends_the_energy() -> None:
    meter = EnergyMeter(32, TICK)
    meter.energy_j(0, 0)
    assert meter.energy_j(10, 160 * S) is not None
    assert meter.energy_j(20, 400 * S) is None and "240 s" in meter.lost


def test_a_counter_that_jumps_is_not_believed() -> None:
    meter = EnergyMeter(64, TICK)
    meter.energy_j(0, 0)
    assert meter.energy_j(1 << 40, S) is None and "jumped" in meter.lost


def test_a_wide_counter_may_be_read_after_any_gap() -> None:
    meter = EnergyMeter(64, 1e-3)
    meter.energy_j(1000, 0)
    assert meter.energy_j(1_000_000_000, 3600 * S) == 1e6
