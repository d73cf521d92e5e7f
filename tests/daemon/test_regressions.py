"""Windows against their past, with synthetic times: a step is found, noise, clocks and traffic are not."""

import math
import random
from types import SimpleNamespace

import numpy as np
import pytest

from rocscope import student
from rocscope.daemon import comparable, levels, regressions, store_findings, store_windows
from rocscope.daemon.settings import Regressions

EVERY_S = 900.0
GIVEN = Regressions()
SHARES = {"gptq_gemm": 0.6, "attention": 0.2, "rmsnorm": 0.1, "communication": 0.1}
KEY = {
    "model_hash": "m",
    "gpu": "MI100",
    "per": "step",
    "sequences": 8.0,
    "clock_hz": 1.5e9,
    "context_tokens": 900.0,
}


class World:
    """A store to which synthetic windows come, one each quarter of an hour."""

    def __init__(self, store, seed=1):
        self.store, self.chance, self.count, self.found, self.told = store, random.Random(seed), 0, [], []

    def window(self, noise=0.01, key=(), **factors):
        key = {**KEY, **dict(key)}
        at_s = 1.8e9 + EVERY_S * self.count
        self.count += 1
        families = [
            {"gpu": "0", "family": family, "busy_s": 1.0, "tokens": None, "dispatches": 1,
             "step_s": 0.01 * share * factors.get(family, 1.0) * math.exp(self.chance.gauss(0, noise))}
            for family, share in SHARES.items()
        ]  # fmt: skip
        name = f"w{self.count:05}"
        result = {"window_id": name, "capture_id": name, "key": key, "families": families,
                  "key_hash": comparable.key_hash(key)}  # fmt: skip
        row = SimpleNamespace(id=name, requested_at=at_s, trigger="schedule")
        with self.store.read() as connection:
            judged = regressions.judge(connection, row, result, GIVEN, EVERY_S)

        def write(connection):
            store_windows.create(connection, name, "schedule", at_s, state="analysing")
            whole = {**result, "findings": judged.findings, "comparison": judged.told}
            return regressions.commit(
                connection, judged.findings, lambda: store_windows.commit_window_result(connection, whole)
            )

        assert self.store.write(write).result(10)
        self.found += [(self.count, each) for each in judged.findings]
        self.told.append(judged.told)

    def windows(self, count, **more):
        for _ in range(count):
            self.window(**more)


def test_a_step_in_one_family_is_found_within_a_few_windows_named_and_told_once(store):
    world = World(store)
    world.windows(40)
    assert not world.found
    world.windows(20, gptq_gemm=1.10)
    ((at, found),) = world.found
    assert found["kind"] == "regression" and found["family"] == "gptq_gemm" and at <= 40 + 6
    assert found["low_frac"] <= 0.10 <= found["high_frac"] and found["size_frac"] == pytest.approx(
        0.1, abs=0.02
    )
    assert found["evidence"]["after"]["windows"] >= 3 and found["evidence"]["windows"][-1]["load"] == 8.0
    world.windows(6)
    (_, back) = world.found[1]
    assert (
        back["kind"] == "recovered" and back["evidence"]["resolves"] == found["id"] and len(world.found) == 2
    )
    with store.read() as connection:
        assert store_findings.get(connection, found["id"]).state == "resolved"


def test_one_window_that_differs_is_watched_and_no_finding(store):
    world = World(store)
    world.windows(40)
    world.window(rmsnorm=1.3)
    assert (
        world.told[-1]["watch"][0]["family"] == "rmsnorm" and world.told[-1]["watch"][0]["change_frac"] > 0.2
    )
    world.windows(20)
    assert not world.found


def test_what_follows_the_clock_is_the_clocks_and_what_exceeds_it_is_not(store):
    world = World(store)
    world.windows(40)
    world.windows(12, key={"clock_hz": 1.5e9 / 1.1}, gptq_gemm=1.1)
    assert not world.found
    assert "as the clock went from 1500 to 1364 MHz" in world.told[-1]["by_clock"][0]["text"]
    world.windows(12, key={"clock_hz": 1.5e9 / 1.1}, gptq_gemm=1.1 * 1.2)
    assert [each["family"] for _, each in world.found] == ["gptq_gemm"]


def test_other_traffic_or_another_model_is_not_compared_and_that_is_said(store):
    world = World(store)
    world.windows(40)
    world.windows(8, key={"sequences": 16.0}, gptq_gemm=1.3, attention=2.0)
    assert not world.found
    world.window(key={"context_tokens": 4000.0}, attention=4.0)
    world.window(key={"context_tokens": None}, attention=4.0)
    assert "attention is not judged: the length of contexts is not known" in world.told[-1]["why_not"]
    world.window(key={"model_hash": "n"}, gptq_gemm=3.0)
    assert world.told[-1]["why_not"] == ["not comparable: sizes or quantisation of the model: n, m before"]
    world.window(key={"model_hash": None})
    assert world.told[-1]["why_not"] == ["the model is not known"]
    assert not world.found


@pytest.mark.slow
def test_a_year_of_noise_gives_no_more_false_alarms_than_set():
    """Four families for a year, each with its day, its drift and outliers; one alarm a week is allowed."""
    chance = random.Random(7)
    weeks, a_week = 52, int(7 * 86_400 / EVERY_S)
    alarms, families = 0, 4
    share = GIVEN.false_alarms_per_week * EVERY_S / regressions.WEEK_S / families
    for _ in range(families):
        values, drift = [], 0.0
        for window in range(0, weeks * a_week, 8):  # a year in seconds
            drift = 0.98 * drift + chance.gauss(0, 0.004)
            day = 0.01 * math.sin(2 * math.pi * window / 96)
            outlier = chance.random() < 0.01
            values.append(drift + day + chance.gauss(0, 0.01) + (0.2 if outlier else 0.0))
            del values[:-80]
            if levels.look(values, share, math.log1p(GIVEN.least_change_frac), 6).kind == "shift":
                alarms += 1
                values.clear()
    assert alarms <= weeks / 8 * GIVEN.false_alarms_per_week


@pytest.mark.parametrize("degrees", [1.0, 2.5, 7.0, 30.0, 200.0])
@pytest.mark.parametrize("value", [0.3, 2.0, 9.0])
def test_students_t_is_the_integral_of_its_density(value, degrees):
    # with t = sqrt(degrees) * tan(a) the density is cos(a) ** (degrees - 1) but for a factor
    nodes, weights = np.polynomial.legendre.leggauss(400)

    def integral(low):
        half = (math.pi / 2 - low) / 2
        root = np.sqrt(2 * half) * (nodes + 1) / 2  # its square: a power of few degrees is steep at 0
        return (weights * np.sin(root**2) ** (degrees - 1) * 2 * root).sum() * np.sqrt(2 * half) / 2

    chance = integral(math.atan(value / math.sqrt(degrees))) / integral(0.0)
    assert student.beyond(value, degrees) == pytest.approx(chance, rel=1e-6)
    assert student.value(chance, degrees) == pytest.approx(value, rel=1e-5)


def test_bands_and_differences_are_in_words():
    assert [comparable.concurrency_band(n) for n in (None, 0, 1, 8, 12, 40)] == [
        None,
        None,
        "1",
        "8-11",
        "12-17",
        "39-57",
    ]
    assert comparable.clock_band(1.502e9) == "1500-1550 MHz" and comparable.clock_band(None) is None
    assert comparable.differences({"dtype": "float16"}, {}) == ["dtype: float16, not known before"]
    assert comparable.key_hash({"tp": 2, "clock_hz": 1.0}) == comparable.key_hash({"tp": 2, "clock_hz": 2.0})
    assert comparable.key_hash({"tp": 2}) != comparable.key_hash({"tp": None})
    assert comparable.unfit({"model_hash": "m", "gpu": "x", "per": "token"}) == "the load is not known"
    key = {"per": "token", "running": 4.0, "prompt_share": 0.5}
    assert comparable.unlike(key, {**key, "prompt_share": 0.8}) and not comparable.unlike(key, dict(key))
    assert comparable.hidden(None) is None
