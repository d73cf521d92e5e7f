import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocscope.findings import Gain, LaunchShape
from rocscope.reports import figures


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.01264, "12.6 ms"), (45.4e-6, "45.4 µs"), (999.6e-9, "1.00 µs"), (0, "0 s"), (125.0, "125 s"),
     (2.4e-9, "2.40 ns"), (4e-12, "0.00400 ns"), (1234567.0, "1,230,000 s"), (-0.5, "−500 ms")],
)  # fmt: skip
def test_seconds_have_three_digits_and_a_unit(value: float, expected: str) -> None:
    assert figures.ordinary_spaces(figures.seconds(value)) == expected


@pytest.mark.parametrize(
    ("frac", "expected"),
    [(0.59878, "59.9 %"), (1.0, "100 %"), (0.0004, "0.04 %"), (0.00001, "<0.01 %"), (0.0, "0 %"),
     (0.062, "6.20 %"), (0.9996, "100 %"), (-0.071, "−7.10 %")],
)  # fmt: skip
def test_percent(frac: float, expected: str) -> None:
    assert figures.ordinary_spaces(figures.percent(frac)) == expected


@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf])
def test_unknown_is_a_dash_and_never_a_zero(value: float | None) -> None:
    functions = [
        figures.seconds, figures.nanoseconds, figures.size_bytes, figures.rate_bytes, figures.rate_flops,
        figures.operations, figures.intensity, figures.percent, figures.count,
    ]  # fmt: skip
    assert {function(value) for function in functions} == {figures.UNKNOWN}


def test_rates_and_sizes_are_decimal() -> None:
    shown = [
        figures.rate_bytes(1228.8e9),
        figures.rate_flops(46.1e12),
        figures.size_bytes(19.6e6),
        figures.operations(36_700_160),
        figures.intensity(1.87244),
        figures.nanoseconds(39276.5),
        figures.count(43915),
    ]
    expected = ["1.23 TB/s", "46.1 TFLOP/s", "19.6 MB", "36.7 MFLOP", "1.87 FLOP/B", "39.3 µs", "43,915"]
    assert [figures.ordinary_spaces(text) for text in shown] == expected


def test_gain_says_its_interval() -> None:
    gain = Gain(low_frac=0.012, mid_frac=0.049, high_frac=0.098, basis="x")
    assert figures.ordinary_spaces(figures.gain(gain)) == "4.90 % (1.20 % to 9.80 %)"
    assert figures.gain(None) == figures.UNKNOWN


def test_launch_says_only_what_is_known() -> None:
    shape = LaunchShape(grid=[7168, None, None], workgroup=[None, None, None])
    assert figures.launch(shape) == "grid 7168, workgroup –"


@given(st.floats(min_value=1e-9, max_value=1e15))
def test_a_written_number_is_within_half_a_percent(value: float) -> None:
    written, _, unit = figures.ordinary_spaces(figures.rate_bytes(value)).partition(" ")
    scale = {"B/s": 1.0, "kB/s": 1e3, "MB/s": 1e6, "GB/s": 1e9, "TB/s": 1e12, "PB/s": 1e15}[unit]
    assert float(written.replace(",", "")) * scale == pytest.approx(value, rel=0.0051)


@given(st.floats(min_value=1e-6, max_value=9e14))
def test_three_significant_digits(value: float) -> None:
    assert float(figures.significant(value).replace(",", "")) == pytest.approx(
        float(f"{value:.2e}"), rel=1e-9
    )
