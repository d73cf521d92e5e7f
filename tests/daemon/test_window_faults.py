"""Servers and daemons that end in the midst of a window: no profiler stays on, the window alone is lost."""

import asyncio
import gzip
import json
import sys

import psutil
import pytest
from making import running, until
from standin_engine import StandinEngine
from test_windows import OPERATOR, children, rows, world

from rocscope.daemon import rivals
from rocscope.daemon.engine_source import EngineState
from rocscope.daemon.engines import Engine

PARENT = """
import asyncio, json, sys
sys.path[:0] = json.loads(sys.argv[2])
from pathlib import Path
from rocscope.daemon.window_process import WindowProcess
orders = json.loads(sys.argv[1])

async def main():
    process = WindowProcess(orders, Path(orders["out"]).with_name("log"), lambda moment: None)
    await process.start()
    print(process.pid, flush=True)
    await process.follow()

asyncio.run(main())
"""


@pytest.fixture(autouse=True)
def no_rivals(monkeypatch):
    monkeypatch.setattr(rivals, "programs", lambda own=frozenset(): [])


def test_a_daemon_killed_outright_in_a_window_leaves_no_profiler_on(tmp_path, examples):
    traces = tmp_path / "traces"
    traces.mkdir()

    async def scenario():
        recording = examples / "h200_decoder" / "tp2_straggler_rank0.json.gz"
        async with StandinEngine(traces, recording) as engine:
            orders = {"engine": engine.url, "window_s": 60.0, "way": "torch", "out": str(tmp_path / "out"),
                      "lock": str(tmp_path / "lock"), "traces": str(traces)}  # fmt: skip
            parent = await asyncio.create_subprocess_exec(
                sys.executable, "-c", PARENT, json.dumps(orders), json.dumps(sys.path),
                stdout=asyncio.subprocess.PIPE,
            )  # fmt: skip
            child = psutil.Process(int(await parent.stdout.readline()))
            await until(lambda: engine.profiling, "the profiler is on")
            parent.kill()
            await parent.wait()
            await until(lambda: not engine.profiling, "it is off again")
            assert engine.stops == 1
            await until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, "it ends")

    asyncio.run(scenario())


def test_a_server_that_dies_in_a_window_costs_the_window_alone(tmp_path, examples):
    async def scenario():
        async with world(tmp_path, examples, profiles={"kernel-trace": {"window_s": 9.0}}) as made:
            context, engine, part = made
            async with running(part):
                assert (await part.ask(OPERATOR)).id
                await until(lambda: engine.profiling, "the profiler is on")
                await engine.__aexit__()
                part.current.abort("a test")  # not nine seconds long
                await part.finished()
                assert part.current is None and not children() and not part.budget.is_open
                assert rows(context)[0].state == "aborted" and not context.part("analysis").given
                assert not [each for each in part.context.settings.state.folder.glob("work/*")
                            if each.name != "window.lock"]  # fmt: skip
                engine.profiling = False
                again = StandinEngine(engine.traces, engine.recording)
                async with again:
                    states = context.part("engines").states
                    states.clear()
                    states[again.url] = EngineState(Engine(again.url, traces=engine.traces), ok=True)
                    await asyncio.sleep(0.2)
                    assert (await part.ask(OPERATOR)).id
                    await until(lambda: again.profiling, "the next server is profiled")

    asyncio.run(scenario())


@pytest.mark.slow
@pytest.mark.parametrize(
    "body", [b"no trace", gzip.compress(b'{"traceEvents": [', mtime=0)[:-4]], ids=["no-trace", "cut-short"]
)
def test_a_server_whose_trace_is_garbage_costs_the_window_alone(tmp_path, examples, body):
    garbage = tmp_path / "garbage"
    garbage.write_bytes(body)

    async def scenario():
        async with world(tmp_path, examples) as (context, engine, part), running(part):
            engine.recording = garbage
            assert (await part.ask(OPERATOR)).id
            await part.finished()
            row = rows(context)[0]
            assert row.state == "failed" and row.refusal and not context.part("analysis").given
            assert not engine.profiling and not list((tmp_path / "traces").iterdir())
            engine.recording = examples / "h200_decoder" / "tp2_straggler_rank0.json.gz"
            await asyncio.sleep(0.2)
            assert (await part.ask(OPERATOR)).id
            await part.finished()
            assert rows(context)[0].state == "analysing"

    asyncio.run(scenario())
