"""Energy, power and clocks of SYNTHETIC readings."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest
import synthetic_known as synthetic

from rocscope import tables
from rocscope.capture import Capture, Manifest
from rocscope.validation.checks_power import power
from rocscope.validation.truth import Truth, parse

S = 1_000_000_000


def truth(*, window: bool = True) -> Truth:
    told = synthetic.truth()
    told["energy"] = {"start_boottime_ns": 100 * S, "end_boottime_ns": 108 * S} if window else None
    return parse(json.dumps(told), "synthetic")


def capture(**series: float) -> Capture:
    """Readings five times a second; ``energy_w`` is the power by which energy rises."""
    rows: list[tuple[int, str, float]] = []
    for tick in range(60):
        at = 98 * S + tick * S // 5
        for metric, value in series.items():
            name, number = ("energy_j", value * tick / 5) if metric == "energy_w" else (metric, value)
            rows.append((at, name, number))
    columns = {
        "time_ns": pa.array([row[0] for row in rows], pa.int64()),
        "source": pa.scalar("amdsmi"),
        "subject": pa.scalar("gpu:0"),
        "metric": pa.array([row[1] for row in rows], pa.string()),
        "value": pa.array([row[2] for row in rows], pa.float64()),
    }
    return Capture(Manifest(), samples=tables.conform("samples", columns, len(rows)))


RIGHT = {"power_w": 250.0, "energy_w": 255.0, "power_cap_w": 290.0, "clock_hz": 1.5e9}


@pytest.mark.parametrize(
    ("changed", "failing"),
    [
        ({}, set()),
        ({"energy_w": 300.0}, {"energy"}),  # a wrong tick of the meter
        ({"energy_w": 0.0}, {"energy"}),
        ({"power_w": 330.0, "energy_w": 330.0}, {"power"}),
        ({"clock_hz": 1.9e9}, {"clock"}),
        ({"clock_hz": 1.0}, {"clock"}),
    ],
)
def test_readings_are_held_against_each_other(changed: dict[str, float], failing: set[str]) -> None:
    verdicts = list(power(capture(**(RIGHT | changed)), truth(), "no profiler"))
    assert {each.check for each in verdicts if each.status == "fail"} == failing
    assert len(verdicts) == 3


def test_figures_are_shown() -> None:
    energy = next(power(capture(**RIGHT), truth(), "no profiler"))
    assert energy.expected == "1600.0 J +- 10 % = 250.0 W x 6.40 s" and energy.seen == "1632.0 J"


@pytest.mark.parametrize("missing", ["power_w", "energy_w", "power_cap_w", "clock_hz"])
def test_what_a_card_does_not_tell_is_not_applicable(missing: str) -> None:
    told = {name: value for name, value in RIGHT.items() if name != missing}
    statuses = {each.status for each in power(capture(**told), truth(), "no profiler")}
    assert statuses == {"pass", "not applicable"}


def test_without_readings_or_load_nothing_is_claimed() -> None:
    silent = Capture(Manifest())
    silent.notice("telemetry-missing", "no GPU telemetry (no permission)")
    verdicts = list(power(silent, truth(), "no profiler"))
    assert {each.status for each in verdicts} == {"not run"} and "no permission" in verdicts[0].detail
    assert {each.status for each in power(capture(**RIGHT), truth(window=False), "x")} == {"not run"}
