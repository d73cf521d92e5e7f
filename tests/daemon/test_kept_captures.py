"""What is kept of a window holds nothing of the server's command, machine or folders."""

import asyncio

from making import running
from test_analysis import RECORDING, done, row, world

from rocscope import pipeline
from rocscope.daemon import store_windows

SECRET = "Zq19-leak77"


def contents(folder):
    """Return everything that is written there, tables too, as one text."""
    import pyarrow.parquet as pq

    said = ""
    for path in folder.rglob("*"):
        if path.is_file():
            table = path.suffix == ".parquet"
            said += str(pq.read_table(path).to_pylist()) if table else path.read_text("utf-8", "replace")
    return said


def test_a_kept_capture_and_a_result_have_no_command_and_no_host(tmp_path, examples):
    async def scenario():
        async with world(tmp_path) as (context, part):
            capture = pipeline.load(examples / RECORDING)
            told = {"command": ["vllm", "serve", f"/home/{SECRET}/m", "--api-key", SECRET]}
            capture.manifest = capture.manifest.model_copy(update=told)
            place = capture.save(context.folder.work / "w1" / "capture")
            assert SECRET in contents(place)  # the search finds it
            now = context.clock.wall_s()

            def group(connection):
                store_windows.create(connection, "w1", "operator", now, state="analysing")

            await asyncio.wrap_future(context.store.write(group))
            await part.window("w1", place, keep=True)  # before it looks by itself for what was left
            async with running(part):
                await done(context)
            kept = context.folder.captures / "w1"
            assert (kept / "manifest.json").is_file() and row(context, "w1").folder
            assert SECRET not in contents(kept) + contents(context.folder.windows)

    asyncio.run(scenario())
