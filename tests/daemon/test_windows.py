"""Windows against a stand-in engine whose traces are real: opened, refused, aborted, killed, recovered."""

import asyncio
import contextlib
import json
import os
import signal
from pathlib import Path

import psutil
import pytest
from making import RealClock, make_context, running, until
from standin_engine import StandinEngine

from rocscope.daemon import rivals, store_windows, window_run
from rocscope.daemon.engine_source import EngineState
from rocscope.daemon.engines import Engine
from rocscope.daemon.settings import Settings
from rocscope.daemon.state_dir import StateDir
from rocscope.daemon.store import Store
from rocscope.daemon.wall_clock import WallClock
from rocscope.daemon.window_run import WindowRequest
from rocscope.daemon.windows import Windows

OPERATOR = WindowRequest("operator", "a test")


class Engines:
    def __init__(self, engine, traces):
        found = Engine(url=engine.url, traces=traces)
        self.states = {engine.url: EngineState(found, ok=True)}

    def health(self):
        from rocscope.daemon.part import Health

        return Health()


class Analysis:
    """Takes what windows hand on."""

    def __init__(self):
        self.given = []

    async def window(self, window_id, capture, *, keep):
        self.given.append((window_id, capture, keep))


@contextlib.asynccontextmanager
async def world(tmp_path, examples, **windows):
    """A store, a stand-in engine and the part that is tried, not yet running."""
    traces = tmp_path / "traces"
    traces.mkdir(exist_ok=True)
    settings = Settings.model_validate(
        {
            "state": {"folder": tmp_path / "state", "min_free_bytes": 1},
            "windows": {
                "min_gap_s": 0.1,
                "max_duty_frac": 1.0,
                "every_s": 86_400,
                "profiles": {"kernel-trace": {"window_s": 0.2}},
                "abort": {"min_available_memory_bytes": 1},
                **windows,
            },
        }
    )
    recording = examples / "h200_decoder" / "tp2_straggler_rank0.json.gz"
    with StateDir.claim(settings.state.folder) as folder:
        store = Store.open(folder, WallClock())
        try:
            async with StandinEngine(traces, recording) as engine:
                context = make_context(settings, store=store)
                parts = {"engines": Engines(engine, traces), "analysis": Analysis()}
                context.parts = parts
                part = Windows(context)
                parts["windows"] = part
                yield context, engine, part
        finally:
            store.close()


def rows(context):
    with context.store.read() as connection:
        return store_windows.listing(connection)


@pytest.fixture(autouse=True)
def no_rivals(monkeypatch):
    """What else runs on the machine of the tests is no matter."""
    monkeypatch.setattr(rivals, "programs", lambda own=frozenset(): [])


def test_a_window_is_profiled_kept_in_the_ledger_and_handed_on(tmp_path, examples):
    async def scenario():
        async with world(tmp_path, examples) as (context, engine, part), running(part):
            answer = await part.ask(OPERATOR)
            assert answer.id and not answer.refusal
            second = await part.ask(OPERATOR)
            assert second.id is None and second.code == "open"
            await part.finished()
            (window_id, capture, keep) = context.part("analysis").given[0]
            assert window_id == answer.id and (capture / "manifest.json").is_file() and keep is False
            assert (engine.starts, engine.stops, engine.profiling) == (1, 1, False)
            assert not list((tmp_path / "traces").iterdir())  # what the engine wrote for us is gone
            row = next(each for each in rows(context) if each.id == answer.id)
            assert (row.state, row.way, row.engine) == ("analysing", "torch", engine.url)
            assert row.bytes > 0 and row.started_at <= row.ended_at and row.window_s >= 0.2
            assert [each.state for each in rows(context) if each.id != answer.id] == ["skipped"]
            assert part.current is None and part.budget.duty_frac() > 0

    asyncio.run(scenario())


@pytest.mark.slow
def test_the_schedule_opens_windows_by_itself(tmp_path, examples):
    async def scenario():
        async with world(tmp_path, examples, every_s=1.0) as (context, engine, part), running(part):
            await until(lambda: engine.stops >= 1 and part.current is None, "a scheduled window")
        assert any(row.trigger == "schedule" for row in rows(context))

    asyncio.run(scenario())


def test_no_engine_or_another_profiler_means_no_window(tmp_path, examples, monkeypatch):
    async def scenario():
        async with world(tmp_path, examples) as (context, engine, part), running(part):
            monkeypatch.setattr(rivals, "programs", lambda own=frozenset(): ["rocprofv3 (process 7)"])
            answer = await part.ask(OPERATOR)
            assert answer.code == "unfit" and "rocprofv3" in answer.refusal
            monkeypatch.undo()
            monkeypatch.setattr(rivals, "programs", lambda own=frozenset(): [])
            assert (await part.ask(WindowRequest("webhook", "x", engine="http://nowhere"))).code == "engine"
            assert (await part.ask(WindowRequest("webhook", "x", profile="rm -rf"))).code == "profile"
            context.part("engines").states.clear()
            assert (await part.ask(OPERATOR)).code == "engine"
            assert engine.starts == 0 and part.current is None and not part.budget.is_open

    asyncio.run(scenario())


def test_harm_ends_a_window_at_once_and_its_data_are_thrown_away(tmp_path, examples):
    async def scenario():
        async with world(tmp_path, examples, profiles={"kernel-trace": {"window_s": 9.0}}) as made:
            context, engine, part = made
            async with running(part):
                answer = await part.ask(OPERATOR)
                await until(lambda: engine.profiling, "the profiler is on")
                now = context.clock.monotonic_s
                while part.current is not None:
                    context.history.add(now(), "t", "gpu:0", "throttled", 1.0)
                    await asyncio.sleep(0.1)
                await part.finished()
            row = rows(context)[0]
            assert row.id == answer.id and row.state == "aborted" and "throttled: gpu:0" in row.abort
            assert not engine.profiling and row.window_s < 8
            assert not context.part("analysis").given
            assert not [p for p in (tmp_path / "state" / "work").iterdir() if p.name != "window.lock"]

    asyncio.run(scenario())


@pytest.mark.slow
def test_an_engine_that_refuses_or_leaves_nothing_fails_the_window_and_thrice_opens_the_breaker(
    tmp_path, examples, monkeypatch
):
    monkeypatch.setattr("rocscope.collectors.attach_torch.SETTLE_S", 1.0)

    async def scenario():
        async with world(tmp_path, examples) as (context, engine, part), running(part):
            engine.refuse = True
            for _ in range(3):
                assert (await part.ask(OPERATOR)).id
                await part.finished()
                await asyncio.sleep(0.15)
            refused = await part.ask(OPERATOR)
            assert refused.code == "breaker" and part.health().state == "degraded"
            assert "404" in part.health().reason
            failed = [row for row in rows(context) if row.state == "failed"]
            assert len(failed) == 3 and all("404" in row.refusal for row in failed)
            part.resume()
            engine.refuse = False
            assert (await part.ask(OPERATOR)).id
            await part.finished()
            assert rows(context)[0].state == "analysing"

    asyncio.run(scenario())


@pytest.mark.slow
def test_an_engine_that_hangs_in_stop_is_left_after_the_deadline_and_asked_again_before_the_next(
    tmp_path, examples, monkeypatch
):
    monkeypatch.setattr(window_run, "SLACK_S", 6.0)

    async def scenario():
        async with world(tmp_path, examples, gather_timeout_s=1) as (context, engine, part), running(part):
            engine.stuck = True
            await part.ask(OPERATOR)
            await part.finished()
            row = rows(context)[0]
            assert row.state == "failed" and "did not end within" in row.refusal
            assert engine.profiling  # it is stuck, and nobody could help that
            assert not children()
            engine.stuck = False
            await asyncio.sleep(0.2)
            await part.ask(OPERATOR)
            await part.finished()
            assert engine.stops >= 2 and not engine.profiling
            assert rows(context)[0].state == "analysing"

    asyncio.run(scenario())


def children():
    return [
        p
        for p in psutil.Process().children(recursive=True)
        if "window_child" in " ".join(p.cmdline()) and p.status() != psutil.STATUS_ZOMBIE
    ]


def test_stopping_the_daemon_in_a_window_leaves_no_profiler_on(tmp_path, examples):
    async def scenario():
        async with world(tmp_path, examples, profiles={"kernel-trace": {"window_s": 9.0}}) as made:
            context, engine, part = made
            async with running(part):
                await part.ask(OPERATOR)
                await until(lambda: engine.profiling, "the profiler is on")
            assert not engine.profiling and not children()
            row = rows(context)[0]
            assert row.state == "aborted" and "the daemon is stopping" in row.abort

    asyncio.run(scenario())


@pytest.mark.slow
def test_a_killed_window_process_is_told_and_its_profiler_stopped_before_the_next(tmp_path, examples):
    async def scenario():
        async with world(tmp_path, examples, profiles={"kernel-trace": {"window_s": 5.0}}) as made:
            context, engine, part = made
            async with running(part):
                await part.ask(OPERATOR)
                await until(lambda: engine.profiling, "the profiler is on")
                os.kill(children()[0].pid, signal.SIGKILL)
                await part.finished()
                assert rows(context)[0].state == "failed" and "SIGKILL" in rows(context)[0].refusal
                assert engine.profiling
                await asyncio.sleep(0.2)
                stops = engine.stops
                await part.ask(WindowRequest("operator", "again", window_s=0.2))
                await until(lambda: engine.stops > stops, "the old profiler is stopped first")
                await part.finished()
                assert rows(context)[0].state == "analysing"

    asyncio.run(scenario())


@pytest.mark.slow
def test_a_window_that_writes_too_much_is_aborted(tmp_path, examples):
    async def scenario():
        async with world(tmp_path, examples, max_window_bytes=1000) as (context, engine, part), running(part):
            engine.slow_stop_s = 0.0
            await part.ask(WindowRequest("operator", "x", window_s=1.0))
            await until(lambda: part.current is not None and part.current.moment == "started", "it is open")
            (part.current.out / "big").write_bytes(b"x" * 5000)
            await part.finished()
            assert rows(context)[0].state == "aborted" and "bytes" in rows(context)[0].abort

    asyncio.run(scenario())


@pytest.mark.slow
def test_what_a_kill_of_the_daemon_left_is_taken_up_or_ended(tmp_path, examples):
    async def scenario():
        async with world(tmp_path, examples) as (context, engine, part):
            now = RealClock().wall_s()

            def before(connection):
                for name, state in (("w-open", "open"), ("w-whole", "gathering"), ("w-planned", "planned")):
                    store_windows.create(
                        connection, name, "schedule", now - 60, state=state, engine=engine.url, window_s=2.0,
                        started_at=None if state == "planned" else now - 50,
                    )  # fmt: skip
                store_windows.create(connection, "w-done", "schedule", now - 500, state="done", window_s=3.0,
                                     started_at=now - 500, ended_at=now - 497, bytes=10)  # fmt: skip

            await asyncio.wrap_future(context.store.write(before))
            whole = tmp_path / "state" / "work" / "w-whole" / "capture"
            whole.mkdir(parents=True)
            (whole / "manifest.json").write_text("{}")
            engine.profiling = True
            async with running(part):
                await until(
                    lambda: {row.id: row.state for row in rows(context)}["w-open"] == "failed", "ended"
                )
                states = {row.id: row.state for row in rows(context)}
                assert states == {
                    "w-open": "failed",
                    "w-whole": "analysing",
                    "w-planned": "failed",
                    "w-done": "done",
                }
                assert part.budget.duty_frac() * 3600 == pytest.approx(7, abs=0.5)  # 2 + 2 + 3 s
                await part.ask(OPERATOR)
                await part.finished()
                assert engine.stops == 2 and rows(context)[0].state == "analysing"

    asyncio.run(scenario())


@pytest.mark.slow
def test_a_threshold_asks_for_a_window_of_the_engine_it_is_about(tmp_path, examples):
    async def scenario():
        async with world(tmp_path, examples) as (context, engine, part):
            trigger = {"name": "slow", "metric": "requests_waiting", "above": 3, "for_s": 1.0}
            context.settings = Settings.model_validate(
                {**context.settings.model_dump(), "triggers": [trigger]}
            )
            async with running(part):
                for _ in range(60):
                    at = context.clock.monotonic_s()
                    context.history.add(at, "t", f"engine:{engine.url}", "requests_waiting", 9.0)
                    await asyncio.sleep(0.05)
                    if rows(context):
                        break
                await until(lambda: context.part("analysis").given, "it is handed on")
            (row,) = rows(context)
            assert row.trigger == "threshold" and "requests_waiting" in row.reason

    asyncio.run(scenario())


def test_profilers_are_told_by_their_program():
    assert rivals._profiler(["/opt/rocm/bin/rocprofv3", "--", "x"]) == "rocprofv3"
    assert (
        rivals._profiler(["python3", "-u", "/opt/rocm/bin/rocprof-compute", "profile"]) == "rocprof-compute"
    )
    assert rivals._profiler(["vim", "rocprof"]) is None
    assert rivals._profiler(["python3", "app.py", "rocprof"]) is None
    assert rivals._profiler([]) is None


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b"gpu_prof_grbm_gui_active 3\n", True),
        (b"x 1\namd_gpu_prof_sq_waves 3\n", True),
        (b"gpu_power 3\n", False),
    ],
)
def test_the_exporter_is_a_rival_where_its_profiling_fields_are_on(body, found):
    async def scenario():
        async def serve(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            assert bool(await rivals.exporter(f"http://127.0.0.1:{port}/metrics")) is found
        assert await rivals.exporter(f"http://127.0.0.1:{port}/metrics") is None

    asyncio.run(scenario())


@pytest.mark.slow
def test_the_capture_of_a_window_is_what_profile_makes(tmp_path, examples):
    async def scenario():
        async with world(tmp_path, examples) as (context, _, part), running(part):
            await part.ask(OPERATOR)
            await part.finished()
            return context.part("analysis").given[0][1]

    manifest = json.loads((Path(asyncio.run(scenario())) / "manifest.json").read_text())
    assert manifest["profiler"] == "torch" and manifest["provenance"] == "recorded"
