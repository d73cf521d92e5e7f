"""Clocks, cycles and throttling of captures made by hand, with a clock that drops where it is told to."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocscope.analyzers.cycles import nearby
from rocscope.analyzers.gpu_samples import Series
from synthetic_capture import capture, row
from synthetic_samples import MS, analysed, gpu, sampled, series

GHZ = 1e9  # the peak of the card on paper


def every(step_ms, count, value):
    return [(i * step_ms, value(i) if callable(value) else value) for i in range(count)]


def kernels(slow=1.0, seconds=4):
    """Kernels of 10 ms, in the second half ``slow`` times as long, none waiting for another."""
    found, at = [], 0
    while at < seconds * 1000 * MS:
        length = round(10 * MS * (slow if at >= seconds * 500 * MS else 1.0))
        found.append(row("k", at, length))
        at += length
    return found


def drop(low=0.8, count=81):
    """From the peak to ``low`` of it half way through 4 s, read every 50 ms."""
    return series("clock_hz", every(50, count, lambda i: GHZ * (low if i > 40 else 1.0)))


def reasons(**shares):
    parts = [series("throttled", every(50, 81, lambda i: float(i > 40)))]
    parts += [series(f"throttled_{name}", every(50, 81, value)) for name, value in shares.items()]
    return [each for part in parts for each in part]


def throttle(found):
    return [each for each in found.targets if each.id.startswith(("timeline-clock", "timeline-power"))]


def test_a_drop_that_kernels_follow_is_said_and_forecast():
    power = series("power_w", every(50, 81, 289.0)) + series("power_cap_w", [(0, 290.0)])
    made = sampled(capture(kernels(1.25)), drop(), reasons(power=lambda i: float(i > 40), thermal=0.0), power)
    found = analysed(made)
    target = throttle(found)[0]
    assert (
        target.id.startswith("timeline-power-cap")
        and "the power limit holds the clock down" in target.problem
    )
    told = gpu(found)["slowdown_by_clock"]
    assert told["slower_frac"] == pytest.approx(0.25, abs=0.01)
    assert told["slower_if_same_cycles_frac"] == pytest.approx(0.25, abs=0.01)
    assert told["share_frac"] == pytest.approx(1.0, abs=0.03)
    assert any("the clock explains the slowdown" in line for line in target.evidence)
    missing = 1 - gpu(found)["clock_hz"]["mean"] / GHZ
    assert missing == pytest.approx(0.1, abs=0.01)
    assert target.expected_gain.mid_frac == pytest.approx(missing, rel=0.05)
    assert target.expected_gain.low_frac < target.expected_gain.mid_frac and target.confidence == "high"
    assert any("289 W at work of 290 W allowed" in line for line in target.evidence)
    assert not any(each.id.startswith("rule-clock-below-peak") for each in found.targets)
    assert gpu(found)["throttled_frac"]["power"] == pytest.approx(0.5, abs=0.02)
    assert gpu(found)["at_cap_frac"] == 1.0


def test_a_drop_that_kernels_do_not_follow_gains_nothing():
    made = sampled(capture(kernels(1.0)), drop(), reasons(thermal=lambda i: float(i > 40)))
    found = analysed(made)
    assert gpu(found)["slowdown_by_clock"]["verdict"] == "they hardly follow the clock"
    target = throttle(found)[0]
    assert target.id.startswith("timeline-clock-throttling") and target.expected_gain.mid_frac == 0
    assert "temperature holds the clock down" in target.problem


def test_at_the_cap_without_reasons_told_the_cap_is_named():
    power = series("power_w", every(50, 81, 288.0)) + series("power_cap_w", [(0, 290.0)])
    target = throttle(analysed(sampled(capture(kernels(1.25)), drop(), power)))[0]
    assert target.evidence[1].startswith("power lies at its cap of 290 W in 100 % of the readings")


def test_without_a_reason_the_rule_alone_speaks_and_a_flag_alone_is_no_reason():
    silent = analysed(sampled(capture(kernels(1.25)), drop(0.7)))
    assert throttle(silent) == []
    low = analysed(sampled(capture(kernels()), series("clock_hz", every(50, 81, 0.7 * GHZ))))
    assert any(each.id.startswith("rule-clock-below-peak") for each in low.targets) and throttle(low) == []
    falls = sampled(capture(kernels(2.0)), series("clock_hz", every(50, 81, lambda i: GHZ / (1 + (i > 38)))))
    ruled = [each for each in analysed(falls).targets if each.id.startswith("rule-clock-below-peak")]
    assert any("the clock explains the slowdown" in line for line in ruled[0].evidence)
    flagged = analysed(sampled(capture(kernels(1.25)), drop(), reasons()))
    assert "for a reason that it does not tell" in throttle(flagged)[0].problem
    assert throttle(flagged)[0].expected_gain.low_frac > 0


def test_a_clean_run_is_silent():
    clean = sampled(
        capture(kernels()),
        series("clock_hz", every(50, 81, GHZ)),
        series("throttled", every(50, 81, 0.0)),
        series("ecc_correctable", [(0, 3.0), (4000, 3.0)]),
        series("power_w", every(50, 81, 200.0)),
    )
    found = analysed(clean)
    assert throttle(found) == [] and gpu(found)["slowdown_by_clock"] is None
    assert not any("clock-below-peak" in each.id for each in found.targets)
    assert not any(each.code.startswith(("ecc", "energy")) for each in found.warnings)
    assert gpu(found)["ecc"] == {"correctable": {"total": 3.0, "grown": 0.0}}


def test_throttled_but_at_the_peak_is_no_target():
    made = sampled(
        capture(kernels()), series("clock_hz", every(50, 81, 0.98 * GHZ)), reasons(power=lambda _: 1.0)
    )
    assert throttle(analysed(made)) == []


def test_clocks_of_an_idle_gpu_do_not_count():
    """100 ms of work, 900 ms of pause, four times: the clock falls in the pauses."""
    rows = [row("k", (i * 1000 + j * 10) * MS, 10 * MS) for i in range(4) for j in range(10)]
    clocks = series("clock_hz", every(20, 200, lambda i: GHZ if i % 50 < 5 else 0.1 * GHZ))
    found = analysed(sampled(capture(rows), clocks))
    assert gpu(found)["clock_hz"]["mean"] == GHZ and gpu(found)["clock_hz"]["lowest"] == GHZ
    assert gpu(found)["clock_hz"]["peak"] == GHZ


def test_the_worse_of_two_gpus_is_the_target():
    rows = kernels() + [{**each, "gpu": 1, "process": 1} for each in kernels()]
    made = sampled(
        capture(rows, ranks=2),
        series("clock_hz", every(50, 81, 0.9 * GHZ)),
        series("clock_hz", every(50, 81, 0.8 * GHZ), subject="gpu:1"),
        reasons(thermal=lambda _: 1.0),
        series("throttled_thermal", every(50, 81, 1.0), subject="gpu:1"),
    )
    assert [each.problem.split(":")[0] for each in throttle(analysed(made))] == ["GPU 1"]


def test_memory_errors_are_a_warning_only_where_they_grow():
    errors = series("ecc_uncorrectable", [(0, 1.0), (4000, 3.0)]) + series(
        "ecc_correctable", [(0, 5.0), (9, 6.0)]
    )
    found = analysed(sampled(capture(kernels()), errors))
    assert [
        (each.code, "2 uncorrectable" in each.message) for each in found.warnings if "ecc" in each.code
    ] == [
        ("ecc-correctable", False),
        ("ecc-uncorrectable", True),
    ]


def test_other_sensors_and_totals():
    made = sampled(
        capture(kernels()),
        series("temperature_hotspot_c", [(0, 60.0), (10, 91.0)]),
        series("vram_total_bytes", [(0, 32e9)]),
        series("xgmi_read_bytes", [(0, 100.0), (3000, 700.0)]),
        series("xgmi_write_bytes", [(0, 100.0), (3000, 7.0)]),
    )
    entry = gpu(analysed(made))
    assert entry["temperature_hotspot_c"] == {"mean": 75.5, "most": 91.0}
    assert entry["temperature_edge_c"] is None and entry["clock_hz"] is None
    assert entry["vram_total_bytes"] == 32e9
    assert entry["xgmi_read_bytes"] == 600.0 and entry["xgmi_write_bytes"] is None


def test_cycles_stand_beside_seconds():
    found = analysed(sampled(capture(kernels()), series("clock_hz", every(50, 81, 0.5 * GHZ))))
    kernel = found.kernels.iloc[0]
    assert kernel["mean_cycles"] == pytest.approx(0.5 * GHZ * 0.010)
    assert kernel["mean_clock_hz"] == pytest.approx(0.5 * GHZ)
    assert "5 Mcycles a dispatch at 500 MHz [cycles]" in kernel["evidence"]
    assert "mean_cycles" in kernel["measures_source"]
    half = sampled(capture(kernels()), series("clock_hz", every(50, 40, 0.5 * GHZ)))
    assert np.isnan(analysed(half).kernels.iloc[0]["mean_cycles"])
    few = sampled(capture(kernels()), series("clock_hz", every(1000, 4, 0.5 * GHZ)))
    assert np.isnan(analysed(few).kernels.iloc[0]["mean_cycles"])


@given(
    st.lists(st.tuples(st.integers(1, 100), st.floats(1e8, 2e9)), min_size=2, max_size=20),
    st.lists(st.integers(-200, 2500), min_size=1, max_size=10),
)
def test_a_clock_is_between_its_neighbours_or_not_known(points, at):
    base = 1_795_210_208_000_000_000
    times = base + np.cumsum([step for step, _ in points]) * MS
    values = np.array([value for _, value in points])
    asked = base + np.array(at) * MS
    for time, value in zip(asked, nearby(Series(times, values), asked), strict=True):
        low, high = times[times <= time], times[times >= time]
        if np.isnan(value):
            continue
        around = [values[len(low) - 1]] if len(low) else []
        around += [values[len(times) - len(high)]] if len(high) else []
        assert min(around) * (1 - 1e-9) <= value <= max(around) * (1 + 1e-9)
