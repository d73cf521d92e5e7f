"""Servers watched over real sockets: what they count is kept, what they do wrong costs readings alone."""

import asyncio

import pytest
from making import make_context, running, told, until
from standin_server import StandinServer

from rocscope.daemon import engine_source as module
from rocscope.daemon.engine_source import EngineSource
from rocscope.daemon.settings import Settings


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(module, "DISCOVER_S", 0.1)
    monkeypatch.setattr(module, "SLOWEST_S", 0.2)
    monkeypatch.setattr(module, "QUANTILES_EVERY_S", 0.1)
    monkeypatch.setattr(module, "PARSE_FRAC", 1.0)


def context(*urls, timeout_s=0.3):
    known = [{"url": url} for url in urls]
    return make_context(
        Settings.model_validate(
            {"engines": {"discover": False, "known": known, "scrape_timeout_s": timeout_s}}
        )
    )


def watched(test, timeout_s=0.3):
    """Run ``test(server, context, part, subject)`` beside a part that watches a server."""

    async def main():
        async with StandinServer() as server:
            made = context(server.url, timeout_s=timeout_s)
            part = EngineSource(made)
            async with running(part):
                await test(server, made, part, f"engine:{server.url}")

    asyncio.run(main())


def test_what_a_server_counts_is_kept_with_its_rates():
    async def test(server, made, part, subject):
        latest = made.history.latest
        await until(lambda: latest(subject, "generation_tokens_per_s"), "a rate")
        assert latest(subject, "requests_running") == 2.0
        assert latest(subject, "prompt_tokens_per_s") > 0 and latest(subject, "scrape_s") > 0
        await until(lambda: latest(subject, "requests_finished_per_s"), "requests that were finished")
        metrics = {metric for _, _, metric in made.history.series()}
        assert "tpot_s_bucket:0.05" in metrics and "queue_s_count" in metrics
        assert not any(metric.startswith("queue_s_bucket") for metric in metrics)
        state = part.states[server.url]
        assert state.ok and state.failed == 0 and state.engine.configured
        assert part.health().state == "ok"
        assert "accept-encoding: identity" in server.asked[0].lower()

    watched(test)


def test_quantiles_of_the_last_minute_come_with_it(monkeypatch):
    monkeypatch.setattr(module, "OVER_S", 1.0)

    async def test(server, made, part, subject):
        await until(lambda: made.history.latest(subject, "tpot_s_p99") is not None, "a quantile")
        assert 0.025 < made.history.latest(subject, "tpot_s_p99") <= 0.05
        assert made.history.latest(subject, "tpot_s_p50") < made.history.latest(subject, "tpot_s_p99", 60)

    watched(test)


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("hang", "no answer within 0.3 s"),
        ("drip", "no answer within 0.3 s"),
        ("garbage", "no metric of vLLM in the text"),
        ("empty", "no metric of vLLM in the text"),
        ("huge", "answers more than 2 MiB"),
        ("error", "HTTP 500"),
        ("reset", "does not answer"),
        ("no-http", "does not answer"),
    ],
)
def test_a_server_that_does_wrong_costs_readings_and_is_taken_back(mode, said):
    async def test(server, made, part, subject):
        await until(lambda: made.history.latest(subject, "requests_running"), "a reading")
        server.mode = mode
        await until(lambda: part.health().state == "degraded", "the fault to be noticed")
        await until(lambda: made.history.latest(subject, "requests_running", 0.2) is None, "it to vanish")
        assert said in told(made)
        server.mode = "serve"
        await until(lambda: part.states[server.url].ok, "the server to be taken back")
        assert part.health().state == "ok" and part.states[server.url].failed >= module.FAILURES

    watched(test)


def test_a_server_that_dies_and_comes_back_has_no_rate_across():
    async def test(server, made, part, subject):
        await until(lambda: made.history.latest(subject, "generation_tokens_per_s"), "a rate")
        await server.stop()
        await until(lambda: part.health().state == "degraded", "its end to be noticed")
        server.figures = {"started": 1_700_009_999.0}
        server.tokens = 0
        await server.start()
        await until(lambda: part.states[server.url].restarts == 1, "the restart to be noticed")
        assert "was started anew" in told(made)
        assert all(value >= 0 for _, value in made.history.points(subject, "generation_tokens_per_s"))
        assert made.history.rate(subject, "generation_tokens", 60) is None

    watched(test)


def test_totals_that_fell_are_a_restart_though_the_start_is_not_told():
    async def test(server, made, part, subject):
        await until(lambda: server.tokens > 50, "some readings")
        server.tokens = 0
        await until(lambda: part.states[server.url].restarts == 1, "the restart to be noticed")

    watched(test)


def test_older_servers_send_us_to_the_same_with_a_slash_and_nowhere_else():
    async def test(server, made, part, subject):
        server.mode = "redirect"
        await until(lambda: "GET /metrics/ " in "".join(server.asked), "the question with a slash")
        await until(lambda: made.history.latest(subject, "requests_running", 0.2), "a reading")

    watched(test)


def test_an_answer_is_not_unpacked():
    async def test(server, made, part, subject):
        server.mode = "packed"
        await until(lambda: made.history.latest(subject, "requests_running"), "the plain text to be read")

    watched(test)


def test_a_long_answer_is_read_without_holding_up_the_others(monkeypatch):
    from rocscope.daemon import scrape

    monkeypatch.setattr(scrape, "LOOP_BYTES", 10)

    async def test(server, made, part, subject):
        await until(lambda: made.history.latest(subject, "requests_running"), "a reading")

    watched(test)


def test_one_bad_server_does_not_touch_the_other():
    async def main():
        async with StandinServer() as good, StandinServer() as bad:
            bad.mode = "hang"
            made = context(good.url, bad.url)
            part = EngineSource(made)
            async with running(part):
                await until(lambda: part.states and part.states[bad.url].failures >= 3, "the fault")
                await until(lambda: part.states[good.url].scrapes > 15, "the other's readings")
                assert part.states[good.url].failed == 0
                assert made.history.latest(f"engine:{bad.url}", "requests_running") is None
            assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("watch ")]

    asyncio.run(main())


def test_a_server_no_longer_named_is_let_go():
    async def main():
        async with StandinServer() as server:
            made = context(server.url)
            part = EngineSource(made)
            async with running(part):
                await until(lambda: part.states and part.states[server.url].ok, "a reading")
                made.settings = context().settings
                await until(lambda: not part.states, "it to be let go")
                assert f"{server.url} is gone" in told(made)

    asyncio.run(main())


def test_a_fault_of_our_own_is_the_services_to_hear_of(monkeypatch):
    monkeypatch.setattr(module, "kept", lambda name: 1 / 0)

    async def main():
        async with StandinServer() as server:
            part = EngineSource(context(server.url))
            with pytest.raises(ZeroDivisionError):
                await asyncio.wait_for(part.run(), 20)

    asyncio.run(main())
