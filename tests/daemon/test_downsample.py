"""Readings of a second become spans of ten and sixty seconds in the store, and nothing is invented."""

import asyncio
import math
import time

import pytest
from daemon_clocks import NOON
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from making import make_context, running, until

from rocscope.daemon import downsample as module
from rocscope.daemon import store_samples
from rocscope.daemon.downsample import Downsample, Spans
from rocscope.daemon.wall_clock import WallClock

READINGS = st.lists(st.one_of(st.none(), st.floats(-1e12, 1e12)), min_size=1, max_size=150)


def filled(hands, readings):
    """Read one value a second from NOON on, or none; return a context and the spans it gave."""
    made = make_context(clock=hands.clock(), hz=1)
    spans, buckets = Spans(made), []
    for number, value in enumerate(readings):
        if value is not None:
            made.history.add(made.clock.monotonic_s(), "host", "host", "cpu_frac", value)
        hands.pass_s(1)
        if (number + 1) % 10 == 0:
            end = int(made.clock.wall_s())
            buckets += spans.of(end - 10, made.clock.wall_s() - made.clock.monotonic_s())
    return buckets + spans.rest()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(READINGS)
def test_a_span_holds_what_was_read_in_it(readings):
    from daemon_clocks import Hands

    whole = readings[: len(readings) // 10 * 10]
    buckets = filled(Hands(), readings)
    for res_s in (10, 60):
        found = {each.ts: each for each in buckets if each.res_s == res_s}
        for start in range(0, len(whole), res_s):
            values = [value for value in whole[start : start + res_s] if value is not None]
            ts = int(NOON) + start
            if not values:
                assert ts not in found
                continue
            each = found.pop(ts)
            assert each.n == len(values) and each.low == min(values) and each.high == max(values)
            mean = math.fsum(values) / len(values)
            assert each.mean == pytest.approx(mean, rel=1e-9, abs=1e-6 * max(map(abs, values)))
            assert each.low <= each.mean <= each.high
        assert not found


@pytest.mark.parametrize(
    ("metric", "kept"),
    [
        ("power_w", True),
        ("generation_tokens_per_s", True),
        ("tpot_s_p99", True),
        ("ecc_uncorrectable", True),
        ("memory_available_bytes", True),
        ("generation_tokens", False),
        ("tpot_s_bucket:0.05", False),
        ("requests_finished:length", False),
        ("tpot_s_count", False),
        ("server_started_s", False),
        ("energy_j", False),
        ("cpu_s", False),
    ],
)
def test_gauges_and_rates_are_kept_and_totals_are_not(metric, kept):
    assert module.kept(metric) is kept


class Fast:
    """A clock that runs a hundred times as fast, and can be set."""

    def __init__(self):
        self.began, self.set_s = time.monotonic(), 0.0

    def elapsed(self):
        return (time.monotonic() - self.began) * 100

    def clock(self):
        return WallClock(
            wall=lambda: NOON + self.elapsed() + self.set_s,
            monotonic=lambda: 1000 + self.elapsed(),
            since_boot=lambda: 1000 + self.elapsed(),
            boot_id="b",
        )


def test_the_part_writes_into_the_store_also_when_the_wall_is_set(store, monkeypatch):
    monkeypatch.setattr(module, "LOOK_S", 0.005)
    fast = Fast()

    def drawn(since, until_s):
        with store.read() as connection:
            return store_samples.draw(connection, "host", "cpu_frac", since, until_s).points

    async def main():
        made = make_context(clock=fast.clock(), store=store, hz=1)

        async def read():
            while True:
                made.history.add(made.clock.monotonic_s(), "host", "host", "cpu_frac", 0.5)
                await asyncio.sleep(0.005)

        reading = asyncio.create_task(read())
        async with running(Downsample(made)):
            await until(lambda: len(drawn(NOON, NOON + 3600)) >= 3, "spans")
            fast.set_s = 86_400.0
            await until(lambda: len(drawn(NOON + 86_400, NOON + 90_000)) >= 2, "spans after a leap")
            fast.set_s = -86_400.0
            await until(lambda: len(drawn(NOON - 86_400, NOON - 80_000)) >= 2, "spans after a leap back")
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        assert all(point.mean == 0.5 for point in drawn(NOON - 86_400, NOON + 90_000))

    asyncio.run(main())
    store.event("end", "flushed").result(10)
    with store.read() as connection:  # what there was of a minute is written at the end
        found = connection.execute("SELECT count(*) FROM samples_new WHERE res_s = 60").fetchone()
    assert found[0] >= 1
