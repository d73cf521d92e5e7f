"""A store on a disk that is full, read-only or damaged: it goes on, says so, and comes back."""

import sqlite3
import subprocess
import sys
import time
from contextlib import closing, contextmanager

import pytest
from test_store import bucket, kept

from rocscope.daemon import store_connection
from rocscope.daemon.state_dir import StateDir
from rocscope.daemon.store import Store
from rocscope.errors import StoreError

DISK_BYTES = 8 << 20


@pytest.fixture
def disk(tmp_path):
    """A file system of 8 MB in memory."""
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=0700", "tmpfs", place], capture_output=True
    )
    if made.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {made.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


@contextmanager
def opened(place, hands):
    with StateDir.claim(place / "state") as folder:
        store = Store.open(folder, hands.clock(), retry_s=0.05)
        yield folder, store
        assert store.close()


def until(seen, what):
    for _ in range(600):
        if seen():
            return
        time.sleep(0.05)
    raise AssertionError(what)


def fill(place):
    """Fill the disk to the last block."""
    with (place / "filler").open("wb", buffering=0) as stream:
        try:
            while True:
                stream.write(bytes(4096))
        except OSError:
            return


def refused(store):
    """Write until a write is refused; return the numbers of those that were not."""
    accepted = []
    for number in range(5000):
        try:
            store.event("window", f"{number} {'x' * 400}").result(10)
        except StoreError as error:
            return accepted, error
        accepted.append(number)
    raise AssertionError("nothing was refused")


def test_a_full_disk_is_said_and_left_when_space_returns(disk, hands):
    with opened(disk, hands) as (_, store):
        fill(disk)
        accepted, error = refused(store)
        assert store.health.state == "full" and "no space" in error.message and error.hint
        assert isinstance(store.add_samples([bucket()] * 3).exception(10), StoreError)
        assert store.health.dropped_samples == 3 and store.health.failed_writes >= 1
        assert [
            int(text.split()[0]) for text in kept(store)
        ] == accepted  # reads go on, nothing is half there
        hands.pass_s(33)
        (disk / "filler").unlink()
        until(lambda: store.health.state == "ok", "it tries by itself")
        until(lambda: len(kept(store)) > len(accepted), "the event is written")
        assert "can be written again, after 33 s: no space" in kept(store)[-1]
        store.event("window", "after").result(10)
    with opened(disk, hands) as (_, store):
        assert kept(store)[-1] == "after"


def test_a_disk_that_is_full_at_the_start_is_no_obstacle(disk, hands):
    with opened(disk, hands) as (folder, store):
        store.event("window", "before").result(10)
        (folder.path / "lock").unlink()
    fill(disk)
    with opened(disk, hands) as (_, store):
        assert kept(store) == ["before"]
        refused(store)
        assert store.health.state == "full"


def test_a_store_that_cannot_be_made_yet_reads_as_an_empty_one(disk, hands):
    with StateDir.claim(disk / "state") as folder:
        fill(disk)
        store = Store.open(folder, hands.clock(), retry_s=0.05)
        assert store.health.state == "full" and kept(store) == []
        (disk / "filler").unlink()
        until(lambda: store.health.state == "ok", "it is made when it can be")
        store.event("window", "after").result(10)
        assert kept(store)[-1] == "after"
        assert store.close()


def remount(place, how):
    subprocess.run(["mount", "-o", f"remount,{how}", place], check=True)


@pytest.fixture
def failing_disk(tmp_path):
    """A file system that goes read-only when told that its device failed, whatever files are open."""
    image, place = tmp_path / "image", tmp_path / "failing"
    place.mkdir()
    with image.open("wb") as stream:
        stream.truncate(16 << 20)
    script = f"mkfs.ext4 -q -F {image} && mount -o loop,errors=remount-ro {image} {place}"
    made = subprocess.run(["sh", "-c", script], capture_output=True)
    if made.returncode:
        pytest.skip(f"no file system can be made on a file here: {made.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def test_a_disk_that_turns_read_only_is_read_on(failing_disk, hands):
    with opened(failing_disk, hands) as (_, store):
        store.event("window", "before").result(10)
        remount(failing_disk, "abort")
        error = store.event("window", "no").exception(10)
        assert isinstance(error, StoreError) and store.health.state == "read-only"
        assert kept(store) == ["before"]
        assert isinstance(store.event("window", "no").exception(10), StoreError)


@pytest.mark.parametrize("clean", [True, False])
def test_a_start_on_a_read_only_disk_reads(disk, hands, clean):
    with StateDir.claim(disk / "state") as folder:
        store = Store.open(folder, hands.clock())
        store.event("window", "before").result(10)
        if clean:
            assert store.close()
        else:  # as a kill leaves it, with a log
            left = {each.name: each.read_bytes() for each in folder.path.glob("store.sqlite*")}
            assert store.close()
            for name, content in left.items():
                (folder.path / name).write_bytes(content)
    remount(disk, "ro")
    with opened(disk, hands) as (_, store):
        assert store.health.state == "read-only" and kept(store) == ["before"]
        assert isinstance(store.event("window", "no").exception(10), StoreError)
        remount(disk, "rw")
        until(lambda: store.health.state == "ok", "it tries by itself")


def test_a_limit_on_the_size_of_files_counts_as_full(tmp_path):
    """As a quota does: SQLite tells an error of input or output, the store finds out which."""
    code = f"""
import resource, sys
sys.path[:0] = {sys.path!r}
from pathlib import Path
from daemon_clocks import Hands
from test_store_faults import opened, refused
with opened(Path({str(tmp_path)!r}), Hands()) as (_, store):
    store.event("window", "before").result(10)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
    accepted, error = refused(store)
    print(len(accepted) > 10, store.health.state, error.message)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    store.event("window", "after").result(10)
    print(store.health.state)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.startswith("True full no space") and done.stdout.endswith("\nok\n"), done


def damage(path, at, how_much=4096):
    with path.open("r+b") as stream:
        stream.seek(at)
        stream.write(b"\xa5" * how_much)


def aside(folder):
    return sorted(each.name for each in folder.aside.iterdir())


@pytest.mark.parametrize("at", [0, 4096 * 5], ids=["header", "page"])
def test_a_store_found_damaged_at_the_start_is_moved_aside(tmp_path, hands, at):
    with opened(tmp_path, hands) as (folder, store):
        for number in range(300):
            store.event("window", f"{number} {'x' * 400}").result(10)
    size = folder.database.stat().st_size
    damage(folder.database, at, 4096 * 30)
    (folder.path / "store.sqlite-wal").write_bytes(
        b"left by a kill"
    )  # the end was not clean: it is read through
    with opened(tmp_path, hands) as (folder, store):
        store.event("window", "new").result(10)
        assert store.health.state == "ok" and "was damaged" in kept(store)[0] and kept(store)[-1] == "new"
        names = aside(folder)
        moved = folder.aside / next(name for name in names if name.endswith(".sqlite"))
        assert moved.stat().st_size == size
        assert "moved aside" in moved.with_suffix(".txt").read_text()


def test_damage_that_a_reader_meets_is_verified_and_moved_aside(tmp_path, hands):
    with opened(tmp_path, hands) as (folder, store):
        for number in range(300):
            store.event("window", f"{number} {'x' * 400}").result(10)
    with opened(tmp_path, hands) as (folder, store):
        store.event("window", "one more").result(10)
        damage(folder.database, 4096 * 20, 4096 * 40)
        with pytest.raises(StoreError, match="cannot be read"):
            kept(store)
        until(lambda: any(name.endswith(".sqlite") for name in aside(folder)), "the writer looks")
        until(lambda: "was damaged" in (kept(store) or [""])[0], "it is said")
        store.event("window", "new").result(10)
        assert kept(store)[-1] == "new"


def test_a_disk_that_damages_again_and_again_is_said(tmp_path, hands, monkeypatch):
    monkeypatch.setattr(store_connection, "MOST_ASIDE", 1)
    for _ in range(2):
        with opened(tmp_path, hands) as (folder, store):
            state = store.health
        damage(folder.database, 0)
    assert state.state == "ok"
    with opened(tmp_path, hands) as (folder, store):
        assert store.health.state == "failing" and "damaged ones lie in" in store.health.reason
        assert isinstance(store.event("window", "no").exception(10), StoreError)
        assert len([name for name in aside(folder) if name.endswith(".sqlite")]) == 1


def test_a_program_that_holds_the_file_is_waited_for_and_said(tmp_path, hands, monkeypatch):
    monkeypatch.setattr(store_connection, "BUSY_S", 0.05)
    with opened(tmp_path, hands) as (folder, store):
        store.event("window", "before").result(10)
        with closing(sqlite3.connect(folder.database, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            assert isinstance(store.event("window", "no").exception(10), StoreError)
            assert store.health.state == "failing" and "locked" in store.health.reason
            assert kept(store) == ["before"]
        until(lambda: store.health.state == "ok", "it tries by itself")


def test_a_store_that_is_taken_away_is_begun_anew(tmp_path, hands):
    with opened(tmp_path, hands) as (folder, store):
        store.event("window", "before").result(10)
        for each in folder.path.glob("store.sqlite*"):
            each.unlink()
        store.event("window", "after").result(10)
        assert "taken away" in kept(store)[-1] and kept(store)[0] == "after" and store.health.state == "ok"
