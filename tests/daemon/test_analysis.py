"""Analyses of real recordings, end to end; children that hang, crash or eat; what a kill left."""

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest
from making import RealClock, make_context, running, told, until
from standin_engine import StandinEngine

from rocscope.daemon import analysis as module
from rocscope.daemon import comparable, result, rivals, spooled, store_windows
from rocscope.daemon.analysis import Analysis
from rocscope.daemon.engine_source import EngineState
from rocscope.daemon.engines import Engine
from rocscope.daemon.part import Health
from rocscope.daemon.settings import Settings
from rocscope.daemon.state_dir import StateDir
from rocscope.daemon.store import Store
from rocscope.daemon.wall_clock import WallClock
from rocscope.daemon.window_run import WindowRequest
from rocscope.daemon.windows import Windows

BAD = [sys.executable, str(Path(__file__).with_name("bad_child.py"))]
RECORDING = Path("h200_decoder") / "tp2_straggler_rank0.json.gz"


class Engines:
    def __init__(self, engine, traces):
        self.states = {engine.url: EngineState(Engine(url=engine.url, traces=traces), ok=True)}

    def health(self):
        return Health()


@contextlib.asynccontextmanager
async def world(tmp_path, **spool):
    settings = Settings.model_validate(
        {
            "state": {"folder": tmp_path / "state", "min_free_bytes": 1},
            "windows": {
                "min_gap_s": 0.1,
                "max_duty_frac": 1.0,
                "every_s": 86_400,
                "profiles": {
                    "kernel-trace": {"window_s": 0.2},
                    "kept": {"window_s": 0.2, "keep_capture": True},
                },
                "abort": {"min_available_memory_bytes": 1},
            },
            "spool": spool,
        }
    )
    with StateDir.claim(settings.state.folder) as folder:
        store = Store.open(folder, WallClock())
        try:
            context = make_context(settings, store=store, folder=folder)
            part = Analysis(context)
            context.parts = {"analysis": part}
            yield context, part
        finally:
            store.close()


def row(context, window_id):
    with context.store.read() as connection:
        return store_windows.get(connection, window_id)


async def dropped(context, window_id, recording, *, trigger="operator"):
    """Put a recording where the spool puts it, and its window into the ledger."""
    work = context.folder.work / window_id / spooled.FOLDER
    work.mkdir(parents=True)
    (work / recording.name).write_bytes(recording.read_bytes())
    now = context.clock.wall_s()
    await asyncio.wrap_future(
        context.store.write(lambda c: store_windows.create(c, window_id, trigger, now, state="analysing"))
    )


async def done(context, window_id="w1"):
    await until(lambda: row(context, window_id).state == "done", "the window is done")
    await until(lambda: not left(context), "nothing is left in the work folder")


def children():
    return [p for p in psutil.Process().children(recursive=True) if p.status() != psutil.STATUS_ZOMBIE]


def left(context):
    return [path.name for path in context.folder.work.iterdir() if path.name != "window.lock"]


def test_a_window_of_an_engine_is_analysed_and_comes_into_the_ledger(tmp_path, examples, monkeypatch):
    monkeypatch.setattr(rivals, "programs", lambda own=frozenset(): [])
    traces = tmp_path / "traces"
    traces.mkdir()

    async def scenario():
        async with (
            world(tmp_path) as (context, part),
            StandinEngine(traces, examples / RECORDING) as engine,
        ):
            windows = Windows(context)
            context.parts |= {"engines": Engines(engine, traces), "windows": windows}
            async with running(part), running(windows):

                async def serve():  # however long the window takes to open
                    while True:
                        now = context.clock.monotonic_s()
                        context.history.add_all(now, "t", f"engine:{engine.url}", {"requests_running": 4.0})
                        await asyncio.sleep(0.05)

                serving = asyncio.create_task(serve())
                answer = await windows.ask(WindowRequest("operator", "a test", profile="kept"))
                await windows.finished()
                await done(context, answer.id)
                serving.cancel()
            found = row(context, answer.id)
            assert found.key["engine"] == comparable.hidden(engine.url) and found.key["gpu"] == "H200"
            assert found.key["per"] == "step" and found.key["running"] == 4.0
            assert found.key_hash == comparable.key_hash(found.key)
            with context.store.read() as connection:
                families = {each.family: each for each in store_windows.families(connection, answer.id)}
            assert families["communication"].busy_s == pytest.approx(0.169, rel=0.01)
            assert families["attention"].step_s == pytest.approx(0.00513, rel=0.01)
            assert families["gemm"].bytes_basis == "modelled" and families["gptq_gemm"].bytes is None
            folder = context.folder.path / found.folder
            assert sorted(each.name for each in folder.iterdir()) == sorted(result.FILES)
            assert (context.folder.captures / answer.id / "manifest.json").is_file()
            table = pq.read_table(folder / "aggregates.parquet")
            assert set(table["window_id"].to_pylist()) == {answer.id}
            assert not left(context) and part.verdicts[-1].state == "done"

    asyncio.run(scenario())


def test_aggregates_hold_every_dispatch(tmp_path, examples):
    async def scenario():
        async with world(tmp_path) as (context, part):
            await dropped(context, "w1", examples / "h200_vllm_live" / "gptq4.tar.gz")
            async with running(part):
                await done(context)
            return (
                pq.read_table(
                    context.folder.path / row(context, "w1").folder / "aggregates.parquet"
                ).to_pylist(),
                row(context, "w1"),
            )

    rows, window = asyncio.run(scenario())
    assert window.key["model"] == "qwen3" and window.key["quantisation"] == "gptq 4 bit"
    assert window.key["sequences"] == 4 and window.key["mode"] == "graph" and window.key["driver"] is None
    for each in rows:
        assert each["n"] == each["timed"] == sum(each["log2_counts"])
        assert each["min_ns"] <= each["sum_ns"] / each["n"] <= each["max_ns"]
        assert 2 ** each["log2_first"] <= each["min_ns"] < 2 ** (each["log2_first"] + 1)
        assert each["sum_squares_ns2"] >= each["sum_ns"] ** 2 / each["n"] * (1 - 1e-9)
        assert (each["bytes"] is None) == (each["bytes_basis"] is None)
    keys = [(each["gpu"], each["raw_name"], *(each[f"{what}_{side}"] for what in ("grid", "workgroup")
             for side in "xyz")) for each in rows]  # fmt: skip
    assert len(set(keys)) == len(keys)
    assert sum(each["n"] for each in rows) == window.summary["integrity"]["dispatches"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "limits", "reason"),
    [
        ("hang", {"analysis_wall_s": 2}, "did not end within 2 s"),
        ("crash", {}, "SIGSEGV"),
        ("hungry", {"analysis_memory_bytes": 200 << 20}, "MemoryError"),
        ("busy", {"analysis_cpu_s": 1}, "more than 1 s of CPU time"),
        ("endless", {"max_unpacked_bytes": 20 << 20}, "that it may"),
        ("one-file", {"max_unpacked_bytes": 20 << 20}, "File too large"),
        ("talks", {"analysis_wall_s": 2}, "did not end within 2 s"),
        ("lies", {}, "the result is not as it should be"),
        ("link", {}, "is no file"),
        ("escapes", {}, "thread"),
    ],
)
def test_a_child_that_does_what_it_must_not_fails_its_window_alone(tmp_path, examples, how, limits, reason):
    async def scenario():
        async with world(tmp_path, **limits) as (context, part):
            await dropped(context, "w1", examples / RECORDING)
            part.command = [*BAD, how]
            async with running(part):
                await until(lambda: row(context, "w1").state == "failed", "it fails")
                await until(lambda: not left(context), "nothing is left")
                assert not children() and part.health().state == "ok"
            assert reason in row(context, "w1").refusal
            if how == "escapes":
                assert row(context, "w1").refusal == "thread"
            assert "w1 failed" in told(context)

    asyncio.run(scenario())


def test_stopping_kills_the_child_and_the_next_start_takes_the_window_up(tmp_path, examples):
    async def scenario():
        async with world(tmp_path) as (context, part):
            await dropped(context, "w1", examples / RECORDING)
            part.command = [*BAD, "hang"]
            began = context.folder.work / "w1" / "began"
            async with running(part):
                await until(began.exists, "the child is at work")
                assert len(children()) == 1
            assert not children() and row(context, "w1").state == "analysing"
            again = Analysis(context)
            async with running(again):
                await done(context)
            assert not left(context)

    asyncio.run(scenario())


def test_a_result_that_a_kill_left_in_its_place_is_committed_without_another_analysis(tmp_path, examples):
    async def scenario():
        async with world(tmp_path) as (context, part):
            await dropped(context, "w1", examples / RECORDING)
            await part._analysed(row(context, "w1"))
            place = context.folder.window_folder("w1", row(context, "w1").requested_at)
            module._place(context.folder.work / "w1" / "result", place)
            part.command = [*BAD, "crash"]  # would be seen
            async with running(part):
                await done(context)
            assert row(context, "w1").files == "kept" and not left(context)
            assert not store_twice(context)

    asyncio.run(scenario())


def store_twice(context):
    with context.store.read() as connection:
        found = connection.execute(
            "SELECT window_id, gpu, family, count(*) FROM window_families GROUP BY 1, 2, 3"
        )
        return [each for each in found if each[3] != 1]


def test_what_is_over_or_gone_leaves_nothing_in_the_work_folder(tmp_path, examples):
    async def scenario():
        async with world(tmp_path) as (context, part):
            now = RealClock().wall_s()

            def before(connection):
                store_windows.create(connection, "w-over", "schedule", now, state="failed")
                store_windows.create(connection, "w-gone", "schedule", now, state="analysing")
                store_windows.create(connection, "w-open", "schedule", now, state="open")

            await asyncio.wrap_future(context.store.write(before))
            for name in ("w-over", "w-open"):
                (context.folder.work / name / "capture").mkdir(parents=True)
            async with running(part):
                await until(lambda: row(context, "w-gone").state == "failed", "it fails")
                await until(lambda: left(context) == ["w-open"], "the rest is gone")
            assert "its recording is gone" in row(context, "w-gone").refusal

    asyncio.run(scenario())


@pytest.mark.slow
def test_a_store_that_cannot_be_written_keeps_the_result_back_until_it_can(tmp_path, examples, monkeypatch):
    monkeypatch.setattr(module, "LOOK_S", 0.2)

    async def scenario():
        from rocscope.errors import StoreError

        async with world(tmp_path) as (context, part):
            await dropped(context, "w1", examples / RECORDING)
            real, refused = part._write, []

            async def refuse(group):
                if len(refused) < 2:
                    refused.append(group)
                    raise StoreError("no space", "")
                return await real(group)

            monkeypatch.setattr(part, "_write", refuse)
            async with running(part):
                await until(lambda: part.health().state == "degraded", "it is said")
                assert "kept back: no space" in part.health().reason
                await done(context)
                await until(lambda: part.health().state == "ok", "all is well")
            assert not left(context)

    asyncio.run(scenario())


@pytest.mark.slow
def test_no_analysis_runs_while_a_window_is_open(tmp_path, examples, monkeypatch):
    monkeypatch.setattr(module, "OPEN_S", 0.05)

    class Open:
        current = object()

    async def scenario():
        async with world(tmp_path) as (context, part):
            await dropped(context, "w1", examples / RECORDING)
            context.parts["windows"] = Open()
            async with running(part):
                await until(lambda: part.current == "w1", "it is its turn")
                await asyncio.sleep(0.3)
                assert not children() and part.waiting == 1
                context.parts["windows"].current = None
                await done(context)

    asyncio.run(scenario())


def test_a_killed_daemon_takes_its_child_along(tmp_path, examples):
    """The kernel ends the child with its parent: asked of a parent of our own."""
    import subprocess

    code = f"""
import asyncio, sys
sys.path[:0] = {sys.path!r}
from pathlib import Path
from rocscope.daemon.child_process import Child
from rocscope.daemon.confinement import Limits
child = Child({[*BAD, "hang"]!r}, {{}}, Limits(memory_bytes=1 << 30, cpu_s=60, file_bytes=1 << 20),
              wall_s=600, folder=Path(sys.argv[1]), folder_bytes=1 << 20)
async def main():
    task = asyncio.create_task(child.run())
    while not Path(sys.argv[1], "began").exists():
        await asyncio.sleep(0.02)
    print(child.pid, flush=True)
    await task
asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE) as parent:
        pid = int(parent.stdout.readline())
        assert psutil.pid_exists(pid)
        os.kill(parent.pid, signal.SIGKILL)
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(pid).wait(10)
