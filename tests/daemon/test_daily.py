"""Daily reports: when they are due, made once, also when missed; what they say of a synthetic day."""

import asyncio
import time

import pytest
from making import make_context, running, told, until

from rocscope.daemon import daily, store_windows
from rocscope.daemon.daily import Daily
from rocscope.daemon.settings import Settings
from rocscope.daemon.store_samples import Bucket


@pytest.fixture
def berlin(monkeypatch):
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def local(text):
    return time.mktime(time.strptime(text, "%Y-%m-%d %H:%M"))


@pytest.mark.parametrize(
    ("now", "at", "wanted"),
    [
        ("2026-11-29 06:00", "06:00", "2026-11-29 06:00"),
        ("2026-11-29 05:59", "06:00", "2026-11-28 06:00"),
        ("2026-01-01 00:10", "23:50", "2025-12-31 23:50"),
        ("2026-03-29 12:00", "06:00", "2026-03-29 06:00"),  # clocks went forward in the night
        ("2026-03-30 01:00", "02:30", "2026-03-29 03:30"),  # there was no 02:30 that day
    ],
)
def test_a_report_is_due_at_a_local_time(berlin, now, at, wanted):
    assert daily.due(local(now), at) == local(wanted)


def test_a_time_that_comes_twice_is_due_once(berlin):
    first = daily.due(local("2026-10-25 12:00"), "02:30")
    moments = {daily.due(first + step * 600, "02:30") for step in range(40)}
    assert moments == {first}


def fill(store, at_s):
    def write(connection):
        store_windows.create(connection, "w1", "schedule", at_s, state="analysing", window_s=2.0)
        families = [
            {"gpu": "0", "family": "gemm", "busy_s": 3.0},
            {"gpu": "0", "family": "attention", "busy_s": 1.0},
        ]
        finding = {"id": "f1", "at": at_s, "kind": "regression", "confidence": "high",
                   "evidence": {"text": "regression: <b>gemm</b> | +10 %\x1b"}}  # fmt: skip
        store_windows.commit_window_result(
            connection, {"window_id": "w1", "families": families, "findings": [finding]}
        )

    store.write(write).result(10)
    ts = int(at_s) // 60 * 60
    store.add_samples(
        [Bucket("t", "gpu:0", "power_w", 60, ts + 60 * n, 60, 200.0, 100.0, 300.0) for n in range(60)]
        + [Bucket("e", "engine:x", "generation_tokens_per_s", 60, ts, 60, 50.0, 10.0, 90.0)]
    ).result(10)


def test_a_missed_report_is_made_at_the_start_once_and_says_what_was(state, store, hands):
    settings = Settings.model_validate({"state": {"folder": state.path}})
    clock = hands.clock()
    fill(store, daily.due(hands.wall_s, "06:00") - 7200)

    async def scenario():
        context = make_context(settings, store=store, folder=state, clock=clock)
        part = Daily(context)
        async with running(part):
            await until(lambda: "is in" in told(context), "it is made")
        made = sorted(path.name for path in state.reports.iterdir())
        again = Daily(context)
        again.command = ["/bin/false"]
        async with running(again):
            await asyncio.sleep(0.2)
        assert again.health().state == "ok" and sorted(path.name for path in state.reports.iterdir()) == made
        return made

    made = asyncio.run(scenario())
    assert [name.rpartition(".")[2] for name in made] == ["html", "md"]
    page, text = ((state.reports / name).read_text() for name in made)
    assert (
        "&lt;b&gt;gemm" in page and "<b>" not in page and "\x1b" not in page + text and "<script" not in page
    )
    assert "\\|" in text and "&lt;b&gt;" in text
    for figure in ("75.0%", "0.20 kWh", "50.0", "200 W", "23.00 h"):
        assert figure in page and figure in text, figure


def test_nothing_to_report_is_no_report_and_a_failure_is_said(state, store, hands):
    settings = Settings.model_validate({"state": {"folder": state.path}})

    async def scenario():
        context = make_context(settings, store=store, folder=state, clock=hands.clock())
        part = Daily(context)
        async with running(part):
            await until(lambda: part._over, "it looked")
        assert not list(state.reports.iterdir()) and part.health().state == "ok"
        broken = Daily(context)
        broken.command = ["/bin/false"]
        async with running(broken):
            await until(lambda: broken.health().state == "degraded", "it is said")
        assert "no daily report" in told(context)

    asyncio.run(scenario())
