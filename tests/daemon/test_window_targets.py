"""Whom a window is of: the server that was found and no other, its own files; and what a stop counts as."""

import asyncio
import os
import subprocess
import sys
import threading

import psutil
import pytest
from making import running, until
from test_windows import OPERATOR, rows, world

from rocscope.daemon import rivals
from rocscope.daemon.engine_source import EngineState
from rocscope.daemon.engines import Engine, started_ticks
from rocscope.daemon.windows import Windows


@pytest.fixture(autouse=True)
def no_rivals(monkeypatch):
    monkeypatch.setattr(rivals, "programs", lambda own=frozenset(): [])


def found(context, engine, traces, **more):
    """Have the engine be known by a process."""
    context.part("engines").states[engine.url] = EngineState(
        Engine(url=engine.url, traces=traces, **more), ok=True
    )


@pytest.fixture
def stranger():
    """A process that is no relation of ours."""
    told = subprocess.run(
        ["sh", "-c", "sleep 60 >/dev/null 2>&1 & echo $!"], stdout=subprocess.PIPE, check=True
    )
    process = psutil.Process(int(told.stdout))
    yield process
    process.kill()


@pytest.mark.slow
def test_a_server_that_is_another_by_now_is_not_profiled(tmp_path, examples, stranger):
    async def scenario():
        async with world(tmp_path, examples) as (context, engine, part), running(part):
            own = psutil.Process()
            traces = tmp_path / "traces"
            for pid, ticks in (
                (own.pid, started_ticks(own.pid) - 1),  # the number was used again
                (stranger.pid, started_ticks(stranger.pid)),  # another has taken the address
                (4_190_000, 1),  # it has ended
            ):
                found(context, engine, traces, pid=pid, started_ticks=ticks, uid=os.getuid())
                assert (await part.ask(OPERATOR)).id
                await part.finished()
                assert rows(context)[0].state == "failed"
                assert "has ended, or another has its address" in rows(context)[0].refusal
                part.resume()
                await asyncio.sleep(0.15)
            assert engine.starts == 0
            found(context, engine, traces, pid=own.pid, started_ticks=started_ticks(own.pid), uid=os.getuid())
            assert (await part.ask(OPERATOR)).id
            await part.finished()
            assert rows(context)[0].state == "analysing" and engine.starts == 1

    asyncio.run(scenario())


def test_of_a_servers_folder_its_own_files_alone_are_cleared_and_no_link_is_read(tmp_path, examples):
    secret = tmp_path / "secret"
    secret.write_text("a secret of the daemon's user")

    async def scenario():
        async with world(tmp_path, examples) as (context, engine, part), running(part):
            traces, own = tmp_path / "traces", psutil.Process()
            found(
                context,
                engine,
                traces,
                pid=own.pid,
                started_ticks=started_ticks(own.pid),
                uid=os.getuid() + 1,
            )
            assert (await part.ask(OPERATOR)).id
            await until(lambda: engine.profiling, "the profiler is on")
            (traces / "evil.pt.trace.json").symlink_to(secret)
            await part.finished()
            assert rows(context)[0].state == "analysing"
            assert len(list(traces.glob("rank0*.gz"))) == 1 and (traces / "evil.pt.trace.json").is_symlink()
            (_, capture, _) = context.part("analysis").given[0]
            kept = [path for path in capture.parent.rglob("*") if path.is_file()]
            assert kept and not any(b"a secret" in path.read_bytes() for path in kept)
            assert not list(capture.parent.rglob("*evil*"))

    asyncio.run(scenario())


def test_what_is_refused_again_and_again_is_kept_once_a_minute(tmp_path, examples):
    async def scenario():
        async with world(tmp_path, examples) as (context, _, part), running(part):
            context.part("engines").states.clear()
            for _ in range(5):
                assert (await part.ask(OPERATOR)).code == "engine"
            part.pause()
            for _ in range(5):
                assert (await part.ask(OPERATOR)).code == "paused"
            assert sorted(each.refusal.partition(":")[0] for each in rows(context)) == ["engine", "paused"]

    asyncio.run(scenario())


@pytest.mark.slow
def test_stops_in_the_midst_of_windows_open_no_breaker_after_a_restart(tmp_path, examples):
    async def scenario():
        given = {"profiles": {"kernel-trace": {"window_s": 9.0}}}
        async with world(tmp_path, examples, **given) as (context, engine, _):
            for _ in range(3):
                part = Windows(context)
                async with running(part):
                    assert (await part.ask(OPERATOR)).id
                    await until(lambda: engine.profiling, "the profiler is on")
                await asyncio.sleep(0.15)
            assert [each.state for each in rows(context)] == ["aborted"] * 3
            last = Windows(context)
            async with running(last):
                await until(last._recovered.is_set, "it knows of before")
                assert not last.budget.broken and last.budget.duty_frac() > 0

    asyncio.run(scenario())


def test_without_room_no_window_is_opened(tmp_path, examples):
    given = {"abort": {"min_available_memory_bytes": 2 << 30}}

    async def scenario():
        async with world(tmp_path, examples, **given) as (context, engine, part), running(part):
            for metric, value, what in (
                ("memory_available_bytes", 1e9, "memory"),
                ("disk_free_bytes", 0.0, "disk"),
            ):
                now = context.clock.monotonic_s()
                free = {"memory_available_bytes": 9e9, "disk_free_bytes": 9e9, metric: value}
                context.history.add_all(now, "host", "host", free)
                answer = await part.ask(OPERATOR)
                assert answer.code == "unfit" and what in answer.refusal
            assert engine.starts == 0 and part.current is None

    asyncio.run(scenario())


def test_room_is_known_between_two_readings_of_the_disk(tmp_path, examples):
    async def scenario():
        async with world(tmp_path, examples) as (context, engine, part), running(part):
            earlier = context.clock.monotonic_s() - 9.5  # it is read every ten seconds
            context.history.add_all(earlier, "host", "host", {"disk_free_bytes": 0.0})
            assert "disk" in (await part.ask(OPERATOR)).refusal
            assert engine.starts == 0

    asyncio.run(scenario())


def test_a_pause_outlasts_a_restart_and_a_resume_does_too(tmp_path, examples):
    async def scenario():
        async with world(tmp_path, examples) as (context, _, part):
            part.pause()  # before it knows of what was: it holds all the same
            async with running(part):
                assert (await part.ask(OPERATOR)).code == "paused"
            again = Windows(context)
            async with running(again):
                assert (await again.ask(OPERATOR)).code == "paused"
                again.pause(3600.0)
            third = Windows(context)
            async with running(third):
                answer = await third.ask(OPERATOR)
                assert answer.code == "paused" and 3500 < answer.retry_s <= 3600
                third.resume()
            last = Windows(context)
            async with running(last):
                assert (await last.ask(OPERATOR)).id
                await last.finished()

    asyncio.run(scenario())


def test_what_the_profiler_wrote_is_read_within_limits():
    """In a process of its own, whose limits it lowers."""
    code = """
import resource
from rocscope.daemon import window_child
window_child._limit(1 << 20)
for what in ("AS", "CPU", "FSIZE", "CORE"):
    assert resource.getrlimit(getattr(resource, f"RLIMIT_{what}"))[0] != resource.RLIM_INFINITY, what
try:
    bytearray(window_child.MEMORY_BYTES)
except MemoryError:
    print("held")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "held\n", done.stderr


def test_a_window_that_is_looked_into_when_the_daemon_stops_is_not_opened(tmp_path, examples, monkeypatch):
    looking, go_on = threading.Event(), threading.Event()

    def programs(own=frozenset()):
        looking.set()
        go_on.wait(20)
        return []

    monkeypatch.setattr(rivals, "programs", programs)

    async def scenario():
        async with world(tmp_path, examples) as (context, engine, part):
            async with running(part):
                asked = asyncio.create_task(part.ask(OPERATOR))
                assert await asyncio.to_thread(looking.wait, 20)
                await part.stop()
                go_on.set()
                answer = await asked
                assert answer.id is None and "stopping" in answer.refusal
            assert (
                [each.state for each in rows(context)] == ["skipped"]
                and engine.starts == 0
                and not part.budget.is_open
            )

    asyncio.run(scenario())


@pytest.mark.slow
def test_a_breaker_that_was_closed_by_hand_stays_closed_after_a_restart(tmp_path, examples):
    async def scenario():
        async with world(tmp_path, examples) as (context, engine, part):
            engine.refuse = True
            async with running(part):
                for _ in range(3):
                    assert (await part.ask(OPERATOR)).id
                    await part.finished()
                    await asyncio.sleep(0.15)
                assert part.budget.broken
            again = Windows(context)
            async with running(again):
                assert (await again.ask(OPERATOR)).code == "breaker"
                again.resume()
            last = Windows(context)
            async with running(last):
                await until(last._recovered.is_set, "it knows of before")
                assert last.budget.duty_frac() > 0 and not last.budget.broken

    asyncio.run(scenario())
