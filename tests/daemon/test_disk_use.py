"""What lies in a folder, measured and deleted: links as themselves, each result once, no half of anything."""

import os
import subprocess
from datetime import date, timedelta

import pytest

from rocscope.daemon import disk_use
from rocscope.daemon.disk_use import BLOCK_BYTES, Results, Trash, entries, tree_bytes


@pytest.fixture
def trash(tmp_path):
    (tmp_path / "trash").mkdir()
    yield Trash(tmp_path / "trash")
    subprocess.run(["rm", "-rf", tmp_path / "trash"], check=True)


def test_entries_are_measured_in_blocks_oldest_first(tmp_path):
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    (tmp_path / "folder" / "inner" / "file").write_bytes(b"x" * 5000)
    (tmp_path / "file").write_bytes(b"x")
    os.utime(tmp_path / "file", (1, 1))
    found = entries(tmp_path)
    assert [entry.path.name for entry in found] == ["file", "folder"]
    assert found[0].bytes == BLOCK_BYTES and found[1].bytes == tree_bytes(tmp_path / "folder")
    assert found[1].bytes >= 2 * BLOCK_BYTES
    assert (
        entries(tmp_path / "file") == [] == entries(tmp_path / "none") and tree_bytes(tmp_path / "none") == 0
    )


def test_folders_without_end_are_measured_and_their_end_is_said(tmp_path, trash):
    deep = tmp_path / "deep"
    deep.mkdir()
    at = os.open(deep, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d", dir_fd=at)
        inner = os.open("d", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = inner
    os.close(at)
    assert tree_bytes(deep) > 0
    assert trash.discard(deep) is None and not deep.exists()
    assert [error.strerror for error in trash.empty()] in (["folders too deep in one another"], [])


def test_what_is_on_another_file_system_is_deleted_where_it_is(tmp_path, trash, monkeypatch):
    def elsewhere(self, target):
        raise OSError(18, "Invalid cross-device link", str(self))

    (tmp_path / "file").write_bytes(b"x")
    assert trash.discard(tmp_path / "none") is None
    with monkeypatch.context() as patched:
        patched.setattr(disk_use.Path, "rename", elsewhere)
        assert trash.discard(tmp_path / "file") is None and not (tmp_path / "file").exists()


def test_each_result_is_measured_once(tmp_path, monkeypatch):
    days = [date(2027, 1, 1) + timedelta(days=n) for n in range(20)]
    for day in days:
        for number in range(50):
            (tmp_path / f"date={day}" / f"w{number}").mkdir(parents=True)
    (tmp_path / "date=2027-13-01").mkdir()
    (tmp_path / "other").mkdir()
    results, seen, real = Results(tmp_path), [], disk_use._tree_bytes
    monkeypatch.setattr(disk_use, "_tree_bytes", lambda *given: seen.append(given) or real(*given))
    assert {day: len(found) for day, found in results.days().items()} == dict.fromkeys(days, 50)
    assert len(seen) == 1000
    (tmp_path / f"date={days[0]}" / "w0").rmdir()
    (tmp_path / f"date={days[0]}" / "new").mkdir()
    assert len(results.days()[days[0]]) == 50 and len(seen) == 1001
