"""Things dropped into the spool: taken once, analysed or refused, whatever they are, whoever still writes."""

import asyncio
import contextlib
import gzip
import io
import json
import os
import socket
import tarfile
from collections import Counter

import pytest
from making import make_context, running, told, until

from rocscope.daemon import drops, intake, spooled, store_spool, store_windows
from rocscope.daemon import spool as module
from rocscope.daemon.analysis import Analysis
from rocscope.daemon.quarantine import Quarantine
from rocscope.daemon.settings import Settings
from rocscope.daemon.spool import Spool
from rocscope.daemon.state_dir import StateDir
from rocscope.daemon.store import Store
from rocscope.daemon.wall_clock import WallClock

SETTLE_S = 0.2


@contextlib.asynccontextmanager
async def world(tmp_path, **given):
    settings = Settings.model_validate(
        {
            "state": {"folder": tmp_path / "state", "min_free_bytes": 1},
            "spool": {"settle_s": SETTLE_S, "max_file_bytes": 50 << 20, "max_unpacked_bytes": 1 << 30}
            | given,
        }
    )
    with StateDir.claim(settings.state.folder) as folder:
        store = Store.open(folder, WallClock())
        try:
            context = make_context(settings, store=store, folder=folder)
            context.parts = {"analysis": Analysis(context)}
            context.parts["spool"] = Spool(context)
            yield context
        finally:
            store.close()


@contextlib.asynccontextmanager
async def at_work(context):
    async with running(context.parts["analysis"]), running(context.parts["spool"]):
        yield


def rows(context):
    with context.store.read() as connection:
        return store_spool.latest(connection, 10_000)


def windows(context):
    with context.store.read() as connection:
        return store_windows.listing(connection, 10_000)


def reasons(context):
    return [json.loads(path.read_text()) for path in context.folder.quarantine.glob("*/reason.json")]


def settled(context, count):
    found = rows(context)
    return len(found) == count and all(each.state in store_spool.FINAL_STATES for each in found)


@pytest.fixture(scope="module")
def recording(examples):
    return (examples / "h200_decoder" / "tp2_straggler_rank0.json.gz").read_bytes()


def test_a_recording_is_taken_analysed_and_becomes_a_window_whatever_the_watcher_tells(tmp_path, recording):
    async def scenario(watches):
        async with world(tmp_path / str(watches), scan_s=0.3 if not watches else 3600) as context:
            context.parts["spool"].watches = watches
            async with at_work(context):
                await asyncio.sleep(0.6)
                (context.folder.spool / "trace.json.gz").write_bytes(recording)
                await until(lambda: settled(context, 1), "it is done")
                await until(lambda: not list(context.folder.work.iterdir()), "nothing is left")
            (row,), (window,) = rows(context), windows(context)
            assert (row.state, row.name, row.size) == ("done", "trace.json.gz", len(recording))
            assert (window.id, window.trigger, window.state) == (row.window_id, "spool", "done")
            assert not list(context.folder.spool.iterdir()) and window.key["gpu"] == "H200"

    asyncio.run(scenario(True))
    asyncio.run(scenario(False))


def test_writers_that_are_not_done_are_waited_for(tmp_path, recording):
    async def scenario():
        async with world(tmp_path) as context, at_work(context):
            folder = context.folder.spool
            with (folder / "open.json.gz").open("wb") as stream:
                stream.write(recording)
                stream.flush()
                (folder / "copied.json.gz.part").write_bytes(recording)
                await asyncio.sleep(SETTLE_S * 6)
                assert not rows(context)
            await until(lambda: rows(context), "the closed one is taken")
            assert rows(context)[0].name == "open.json.gz"
            (folder / "copied.json.gz.part").rename(folder / "copied.json.gz")
            await until(lambda: "the same content" in told(context), "the second is known")
            assert [path.name for path in folder.iterdir()] == []

    asyncio.run(scenario())


def test_a_file_that_grows_is_not_taken(tmp_path):
    async def scenario():
        async with world(tmp_path) as context, at_work(context):
            path = context.folder.spool / "slow.csv"
            for number in range(12):
                with path.open("a") as stream:
                    stream.write(f"{number}\n")
                await asyncio.sleep(SETTLE_S / 2)
                assert not rows(context)
            await until(lambda: settled(context, 1), "it is refused at last")
            assert rows(context)[0].state == "quarantined"

    asyncio.run(scenario())


def special(folder, outside):
    """Drop what has no content, or another's."""
    for number in range(100):
        (folder / f"link{number}").symlink_to(outside if number % 2 else "nowhere")
    for number in range(60):
        os.mkfifo(folder / f"pipe{number}")
    for number in range(30):
        (folder / f"run{number}").mkdir()
        (folder / f"run{number}" / "trace.json").symlink_to(outside)
    for number in range(20):
        (folder / f"hard{number}").hardlink_to(outside)


def sockets(folder, monkeypatch):
    monkeypatch.chdir(folder)  # a socket's path is short
    for number in range(10):
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(f"socket{number}")


def named(folder):
    """Drop what has hostile names."""
    for number in range(100):
        evil = ("new\nline", "esc\x1b[31m", "bidi\u202egnp", "zero\u200bwidth")[number % 4]
        (folder / f"{number}{evil}.json").write_bytes(b"{}")
    for number in range(10):
        with open(os.fsencode(folder) + b"/bad\xff%d" % number, "wb") as stream:  # noqa: PTH123
            stream.write(b"x")


def sized(folder):
    for number in range(100):
        (folder / f"empty{number}.csv").touch()
    for number in range(20):
        with (folder / f"huge{number}").open("wb") as stream:
            stream.truncate(60 << 20)
    for number in range(20):
        (folder / f"unfinished{number}.tmp").write_bytes(b"{}")


def contents(folder, recording):
    """Drop what has to be opened to be known; six contents under 31 names."""
    for number in range(20):
        (folder / f"trace{number}.json.gz").write_bytes(recording)
    bomb = gzip.compress(bytes(64 << 20))
    for number in range(4):
        (folder / f"bomb{number}.json.gz").write_bytes(bomb)
        (folder / f"cut{number}.json.gz").write_bytes(recording[: len(recording) // 2])
    (folder / "evil...json").write_text("no JSON")
    head = '"Name","Calls","TotalDurationNs","AverageNs","Percentage"'
    (folder / "nan.stats.csv").write_text(f'{head}\n"k",NaN,NaN,NaN,NaN\n')
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name in ("../../../escaped", "/tmp/escaped", "capture/manifest.json"):
            tar.addfile(tarfile.TarInfo(name))
    (folder / "share.tar.gz").write_bytes(packed.getvalue())


@pytest.mark.slow
def test_five_hundred_drops_most_of_them_bad_stop_nothing(tmp_path, recording, monkeypatch):
    outside = tmp_path / "secret"
    outside.write_text("secret")
    count = 450 + 6  # refused at sight, and contents

    async def scenario():
        async with world(tmp_path, scan_s=0.5) as context:
            folder = context.folder.spool
            special(folder, outside)
            sockets(folder, monkeypatch)
            named(folder)
            sized(folder)
            contents(folder, recording)
            assert sum(1 for _ in folder.iterdir()) >= 500
            async with at_work(context):
                await until(lambda: settled(context, count), "all are settled", 100)
                await until(lambda: not list(context.folder.work.iterdir()), "nothing is left")
                await until(lambda: len(list(context.folder.spool.iterdir())) == 40, "known ones are gone")
                assert all(part.health().state == "ok" for part in context.parts.values())
            by_name = {row.name: row for row in rows(context)}
            states = Counter(row.state for row in rows(context))
            assert states["done"] == 1 and states["quarantined"] == count - 1
            assert context.part("spool").counts == {"taken": 6, "known": 25, "refused": 450}
            codes = Counter(each["code"] for each in reasons(context))
            assert codes == {"special": 170, "special-inside": 30, "empty": 100, "name": 110, "linked": 20,
                             "too-large": 20, "unusable": 5}  # fmt: skip
            assert "unpacks to more than" in by_name["bomb0.json.gz"].reason
            assert "cut short" in by_name["cut0.json.gz"].reason
            assert by_name["evil...json"].reason == "evil...json: not a format this tool reads"
            assert "no row has Calls" in by_name["nan.stats.csv"].reason
            assert "\\x1b" in "".join(by_name) and not any("\x1b" in name or "\n" in name for name in by_name)
            left = {path.name.rstrip("0123456789") for path in context.folder.spool.iterdir()}
            assert {name.split("0")[0].rstrip("123456789.tmp") for name in left} <= {"huge", "unfinished"}
            assert outside.read_text() == "secret" and not (tmp_path / "escaped").exists()
            assert len([w for w in windows(context) if w.state == "done"]) == 1
            for each in reasons(context):
                assert each["name"].isprintable() and each["reason"].isprintable()

    asyncio.run(scenario())


def test_what_failed_lies_in_quarantine_with_its_reason_and_the_oldest_make_room(tmp_path):
    async def scenario():
        async with world(tmp_path, quarantine_max_bytes=40_000) as context, at_work(context):
            for number in range(3):
                (context.folder.spool / f"x{number}.json").write_bytes(bytes([48 + number]) * 15_000)
                await until(lambda n=number: settled(context, n + 1), "it is refused")
                await until(lambda: not list(context.folder.work.iterdir()), "nothing is left")
            kept = sorted(context.folder.quarantine.iterdir())
            assert len(kept) == 1 and (kept[-1] / "content").read_bytes() == b"2" * 15_000
            told = json.loads((kept[-1] / "reason.json").read_text())
            assert told["name"] == "x2.json" and "not a format" in told["reason"]
            (row,) = [each for each in rows(context) if each.name == "x0.json"]
            assert row.state == "quarantined" and row.done_at is not None

    asyncio.run(scenario())


def test_a_quarantine_that_a_kill_cut_short_is_finished(tmp_path):
    folder = tmp_path / "quarantine"
    folder.mkdir()
    quarantine = Quarantine(folder, 1 << 20)
    quarantine.open()
    (tmp_path / "one").write_text("one")
    kept = quarantine.keep("a" * 64, "one", "empty", "why", size=3, at_s=1.8e9, content=tmp_path / "one")
    assert (kept / "content").read_text() == "one"
    kept.rename(folder / ".aaaaaaaaaaaa.tmp")
    (folder / ".bbbbbbbbbbbb.tmp").mkdir()
    again = Quarantine(folder, 1 << 20)
    again.open()
    assert again.find("a" * 64) == kept and [path.name for path in folder.iterdir()] == [kept.name]
    (tmp_path / "two").write_text("two")
    assert again.keep("a" * 64, "two", "x", "y", size=3, at_s=1.8e9, content=tmp_path / "two") == kept
    assert not (tmp_path / "two").exists() and (kept / "content").read_text() == "one"


def test_what_belongs_to_another_is_copied_and_what_it_became_meanwhile_is_refused(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "a").write_text("a")
    (folder / "inner").mkdir()
    (folder / "inner" / "b").write_text("bb")
    seen = drops.look(folder, 1 << 20)
    assert seen.own and seen.size == 3 and seen.refusal is None
    theirs = drops.Drop(**{**vars(seen), "own": False})
    copy = intake.take(theirs, tmp_path / "taken", 1 << 20)
    assert folder.is_dir() and (copy / "inner" / "b").read_text() == "bb"
    assert intake.identity(copy) == intake.identity(folder)
    with pytest.raises(module.InputError, match="grew"):
        intake.take(theirs, tmp_path / "again", 2)
    assert not (tmp_path / "again" / "run").exists()
    (folder / "inner" / "b").unlink()
    (folder / "inner" / "b").symlink_to("/etc/passwd")
    with pytest.raises(module.InputError, match="link"):
        intake.take(theirs, tmp_path / "third", 1 << 20)
    (folder / "inner" / "b").unlink()
    os.mkfifo(folder / "inner" / "b")
    with pytest.raises(module.InputError, match="no file"):
        intake.take(theirs, tmp_path / "fourth", 1 << 20)


def test_contents_are_told_apart_by_all_that_is_in_them(tmp_path):
    made = []
    for number, files in enumerate(({"a": "x"}, {"b": "x"}, {"a": "y"}, {"a": "x", "b": ""}, {"a": ""})):
        folder = tmp_path / str(number)
        folder.mkdir()
        for name, text in files.items():
            (folder / name).write_text(text)
        made.append(intake.identity(folder))
    made.append(intake.identity(tmp_path / "0" / "a"))
    assert len(set(made)) == len(made)
    assert intake.identity(tmp_path / "0" / "a") == intake.identity(tmp_path / "1" / "b")


def test_a_writer_is_seen_by_the_lease_and_by_its_open_file(tmp_path):
    (path := tmp_path / "f").write_text("x")
    drop = drops.look(path, 100)
    assert not intake.written_to(drop) and not intake._seen_open(path)
    with path.open("a"):
        assert intake.written_to(drop) and intake._leased(path) and intake._seen_open(path)
        assert intake._seen_open(tmp_path)
    with path.open():
        assert not intake.written_to(drop) and not intake._seen_open(path)
    assert intake._leased(tmp_path / "gone") is None


@pytest.mark.parametrize("mark", ["taken", "renamed", "accepted"])
def test_what_a_kill_left_in_the_midst_of_taking_is_taken_up(tmp_path, recording, mark):
    async def scenario():
        async with world(tmp_path) as context:
            work = context.folder.work / "in-0123456789ab"
            (work / spooled.FOLDER).mkdir(parents=True)
            content = work / spooled.FOLDER / "trace.json.gz"
            content.write_bytes(recording)
            spool_id, size = intake.identity(content)
            if mark != "taken":
                work.rename(context.folder.work / spooled.window_id(spool_id))
            if mark == "accepted":
                await asyncio.wrap_future(
                    context.store.write(
                        lambda c: spooled.accept(c, spool_id, name="trace.json.gz", size=size, at_s=1.8e9)
                    )
                )
            (context.folder.spool / "again.json.gz").write_bytes(recording)
            async with at_work(context):
                await until(lambda: settled(context, 1), "it is done")
                await until(lambda: not list(context.folder.work.iterdir()), "nothing is left")
                await until(lambda: not list(context.folder.spool.iterdir()), "the other is known")
            assert [each.state for each in windows(context)] == ["done"]

    asyncio.run(scenario())


def test_a_verdict_that_a_kill_left_half_told_is_told(tmp_path):
    async def scenario():
        async with world(tmp_path) as context:
            places = []
            for number in range(2):
                work = context.folder.work / f"in-{number}"
                (work / spooled.FOLDER).mkdir(parents=True)
                (work / spooled.FOLDER / f"f{number}").write_bytes(b"%d" % number)
                spool_id, size = intake.identity(work / spooled.FOLDER / f"f{number}")
                place = context.folder.work / spooled.window_id(spool_id)
                work.rename(place)
                places.append(place)

                def note(connection, spool_id=spool_id, size=size, name=f"f{number}", window=place.name):
                    spooled.accept(connection, spool_id, name=name, size=size, at_s=1.8e9)
                    store_windows.set_state(connection, window, "failed", refusal="it was bad")

                await asyncio.wrap_future(context.store.write(note))
            intake.remove(places[1])  # its content had gone into quarantine already
            async with at_work(context):
                await until(lambda: settled(context, 2), "both are told")
                await until(lambda: not list(context.folder.work.iterdir()), "nothing is left")
            assert {each.reason for each in rows(context)} == {"it was bad"}
            assert Counter(each["content"] for each in reasons(context)) == {"content": 1, None: 1}

    asyncio.run(scenario())


def test_nothing_is_taken_while_the_analysis_is_behind_or_there_is_no_room(tmp_path, recording, monkeypatch):
    class Full:
        async def make_room(self, need_bytes):
            return False

    async def scenario():
        async with world(tmp_path) as context:
            (context.folder.spool / "trace.json.gz").write_bytes(recording)
            context.parts["housekeeping"] = Full()
            async with at_work(context):
                await until(lambda: "there is no room" in told(context), "it is said")
                assert not rows(context) and (context.folder.spool / "trace.json.gz").exists()
                del context.parts["housekeeping"]
                for name in ("a", "b", "c"):
                    context.parts["analysis"].dropped(name)
                await until(lambda: settled(context, 1), "it is taken")

    asyncio.run(scenario())


def test_a_folder_that_is_taken_away_is_made_anew(tmp_path, recording):
    async def scenario():
        async with world(tmp_path, scan_s=0.3) as context, at_work(context):
            await asyncio.sleep(0.3)
            context.folder.spool.rmdir()
            await until(context.folder.spool.is_dir, "it is there again")
            (context.folder.spool / "trace.json.gz").write_bytes(recording)
            await until(lambda: settled(context, 1), "it is done")

    asyncio.run(scenario())
