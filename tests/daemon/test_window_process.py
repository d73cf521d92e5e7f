"""A window's process that misbehaves: read to its end, told little of us, and left behind by nobody."""

import asyncio
import gc
import os
from pathlib import Path

import psutil
import pytest
from making import running, until
from test_windows import OPERATOR, rows, world

from rocscope.daemon import rivals, window_process, window_run
from rocscope.daemon.engine_source import EngineState
from rocscope.daemon.engines import Engine
from rocscope.daemon.window_process import WindowProcess


@pytest.fixture(autouse=True)
def bad_child(monkeypatch):
    """Our own modules are found, and a bad one stands for the window's."""
    here = [str(Path(__file__).parent), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, here)))
    monkeypatch.setattr(window_process, "CHILD", "bad_window")
    monkeypatch.setattr(rivals, "programs", lambda own=frozenset(): [])


def followed(tmp_path, how, before=None):
    async def scenario():
        moments = []
        process = WindowProcess({"engine": how}, tmp_path / "log", moments.append)
        await process.start()
        if before is not None:
            await before(process)
        return await asyncio.wait_for(process.follow(), 20), moments, process

    return asyncio.run(scenario())


def test_a_line_that_is_too_long_is_left_out_and_the_rest_is_read(tmp_path):
    outcome, moments, process = followed(tmp_path, "long")
    assert outcome == {"done": "/capture", "bytes": 3} and moments == ["starting", "stopped"]
    assert process.stopped


def test_one_that_talks_without_end_is_ended_and_seen_as_gone(tmp_path):
    async def end(process):
        async def later():
            await asyncio.sleep(0.5)
            await process.kill()

        process.later = asyncio.create_task(later())

    outcome, moments, process = followed(tmp_path, "endless", end)
    assert "SIGTERM" in outcome["failed"] and moments == ["starting"] and not process.stopped
    assert not psutil.pid_exists(process.pid)


def test_it_is_told_nothing_of_credentials_and_inherits_no_file(tmp_path, monkeypatch):
    for name in ("NOTIFY_SOCKET", "CREDENTIALS_DIRECTORY", "HF_TOKEN", "LISTEN_FDS"):
        monkeypatch.setenv(name, "/secret")
    with (tmp_path / "mine").open("w") as mine:
        os.set_inheritable(mine.fileno(), True)
        outcome, _, _ = followed(tmp_path, "looks")
    assert "PYTHONPATH" in outcome["environment"]
    assert not {"NOTIFY_SOCKET", "CREDENTIALS_DIRECTORY", "HF_TOKEN", "LISTEN_FDS"} & set(
        outcome["environment"]
    )
    assert outcome["descriptors"] == [0, 1, 2]
    assert outcome["leads"] and outcome["program"]


def engine_of(context, how):
    """Have the engine that is up name what its window's process does."""
    context.part("engines").states.clear()
    context.part("engines").states[how] = EngineState(Engine(url=f"http://127.0.0.1:1/{how}"), ok=True)


def test_what_left_its_group_and_holds_its_output_keeps_no_window_open(tmp_path, examples, monkeypatch):
    monkeypatch.setattr(window_run, "SLACK_S", 0.5)
    monkeypatch.setattr(window_process, "KILL_S", 0.3)
    monkeypatch.setattr(window_run, "KILL_S", 0.3)

    async def scenario():
        async with world(tmp_path, examples, gather_timeout_s=0.5) as (context, _, part):
            async with running(part):
                engine_of(context, "leaves")
                assert (await part.ask(OPERATOR)).id
                await asyncio.wait_for(part.finished(), 6)
                assert part.current is None and not part.budget.is_open
            assert rows(context)[0].state == "failed" and "did not end" in rows(context)[0].refusal

    asyncio.run(scenario())


def test_what_it_writes_into_its_log_counts_too(tmp_path, examples):
    async def scenario():
        async with world(tmp_path, examples, max_window_bytes=200_000) as (context, _, part):
            async with running(part):
                engine_of(context, "noisy")
                assert (await part.ask(OPERATOR)).id
                await until(lambda: part.current.abort_reason, "it is aborted")
                await part.current.kill()
                await part.finished()
            assert rows(context)[0].state == "aborted" and "that it may" in rows(context)[0].abort
            assert not list((tmp_path / "state" / "work").glob("*.log"))

    asyncio.run(scenario())
    gc.collect()  # our ends of its pipes are closed, or there is a warning
