"""What is kept how long: by age on the trusted clock, by number, and never above the bytes allowed."""

import os
import subprocess
import threading

import pytest
from daemon_clocks import NOON
from test_store import bucket

from rocscope.daemon import (
    store_aging,
    store_events,
    store_findings,
    store_samples,
    store_spool,
    store_windows,
)
from rocscope.daemon.disk_use import Trash, tree_bytes
from rocscope.daemon.retention import AGES_S, Limits, Retention
from rocscope.daemon.store import Store
from rocscope.daemon.wall_clock import HOLD_S

DAY_S = 86_400.0
MB = 1 << 20


@pytest.fixture
def keep(state):
    """Limits that a test changes."""
    return {
        "max_bytes": 100 * MB,
        "min_free_bytes": 1,
        "keep_samples_s": {10: 6 * 3600.0, 60: 14 * DAY_S},
        "keep_windows_s": 90 * DAY_S,
        "keep_captures": 3,
        "keep_events": 100,
        "keep_reports": 2,
        "quarantine_bytes": MB,
        "reports": state.reports,
    }


@pytest.fixture
def retention(store, keep):
    return Retention(store, lambda: Limits(**keep))


def filled(path, size=1000, age_s=0.0):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    os.utime(path, (NOON - age_s, NOON - age_s))
    return path


def window(store, name, at_s, size=1000, *, capture=None, finding=False):
    """A window that is done, with its result's folder."""
    folder = store.folder.window_folder(name, at_s)
    filled(folder / "aggregates.parquet", size)
    found = [{"id": f"f-{name}", "at": at_s, "kind": "slower"}] if finding else []
    result = {"window_id": name, "capture_id": capture, "findings": found,
              "families": [{"gpu": "0", "family": "gemm", "busy_s": 1.0}]}  # fmt: skip

    def write(connection):
        store_windows.create(connection, name, "schedule", at_s)
        store_windows.commit_window_result(
            connection, result, folder=str(folder.relative_to(store.folder.path))
        )

    store.write(write).result(10)
    return folder


def rows(store, sql):
    with store.read() as connection:
        return connection.execute(sql).fetchall()


def names(folder):
    return sorted(each.name for each in folder.iterdir())


def test_samples_go_by_their_age(store, hands, retention):
    ticks = [int(NOON) - age for age in (0, 3600, 5 * 3600, 7 * 3600, 20 * 86_400)]
    for metric in ("a", "b"):
        store.add_samples(
            [bucket(ts=ts // 60 * 60, res_s=res, metric=metric) for ts in ticks for res in (10, 60)]
        )
    store.write(store_samples.settle).result(10)
    store.add_samples([bucket(ts=int(NOON) - 30 * 86_400, metric="gone")]).result(10)
    retention.collect()
    assert rows(store, "SELECT res_s, count(*) FROM samples GROUP BY 1") == [(10, 6), (60, 8)]
    assert rows(store, "SELECT metric FROM series ORDER BY 1") == [("a",), ("b",)]
    hands.pass_s(AGES_S + HOLD_S)
    retention.collect()
    assert rows(store, "SELECT res_s, count(*) FROM samples GROUP BY 1") == [(60, 8)]


def test_many_samples_are_deleted_a_little_at_a_time(store, retention, monkeypatch):
    monkeypatch.setattr(store_aging, "BUCKETS_AT_ONCE", 10)
    monkeypatch.setattr(store_aging, "SERIES_AT_ONCE", 2)
    old = int(NOON) - 30 * 86_400
    for metric in "abcde":
        store.add_samples([bucket(ts=old + 60 * n, res_s=60, metric=metric) for n in range(95)])
    store.write(store_samples.settle).result(10)
    retention.collect()
    assert rows(store, "SELECT count(*) FROM samples") == [(0,)]


def test_results_of_windows_go_by_age_and_their_rows_stay_for_a_while(store, hands, retention):
    old = window(store, "old", NOON - 91 * DAY_S, finding=True)
    new = window(store, "new", NOON - 80 * DAY_S)
    orphan_old = filled(store.folder.window_folder("x", NOON - 95 * DAY_S) / "result.json").parent
    orphan_new = filled(store.folder.window_folder("y", NOON - DAY_S) / "result.json").parent
    store.write(
        lambda c: store_windows.create(c, "skip", "schedule", NOON - 95 * DAY_S, state="skipped")
    ).result()
    store.write(lambda c: store_windows.create(c, "busy", "schedule", NOON - 200 * DAY_S)).result(10)
    done = retention.collect()
    assert done.deleted["windows"] == 2 and done.used_bytes == store.health.bytes
    assert [each.exists() for each in (old, orphan_old, new, orphan_new)] == [False, False, True, True]
    assert rows(store, "SELECT id, state, files FROM windows ORDER BY id") == [
        ("busy", "planned", "none"),
        ("new", "done", "kept"),
        ("old", "done", "deleted"),
        ("skip", "skipped", "none"),
    ]
    assert rows(store, "SELECT window_id FROM window_families") == [("new",)]
    assert rows(store, "SELECT count(*) FROM findings") == [(0,)]
    hands.pass_s(95 * DAY_S)
    retention.collect()
    hands.pass_s(AGES_S)
    retention.collect()  # the days' empty folders
    assert rows(store, "SELECT id FROM windows") == [("busy",), ("new",)]
    assert names(store.folder.windows) == []


def test_a_year_ahead_deletes_nothing_before_it_has_lasted(store, hands, retention):
    folder = window(store, "w", NOON - DAY_S)
    store.add_samples([bucket(ts=int(NOON) - 3600, res_s=60)]).result(10)
    store.clock.wall_s()
    hands.wall_s += 366 * DAY_S
    for _ in range(23):
        hands.pass_s(3600)
        retention.collect()
    assert folder.exists() and rows(store, "SELECT count(*) FROM samples_new") == [(1,)]
    hands.pass_s(3 * 3600)
    retention.collect()
    assert not folder.exists() and rows(store, "SELECT count(*) FROM samples_new") == [(0,)]


def test_a_year_back_deletes_nothing_and_what_was_dated_ahead_goes_at_last(store, hands, retention):
    store.add_samples([bucket(ts=int(NOON) + 300 * 86_400, res_s=60)]).result(10)  # by a clock that was wrong
    store.clock.wall_s()
    hands.wall_s -= 366 * DAY_S
    store.add_samples([bucket(ts=int(NOON) - 366 * 86_400, res_s=60)]).result(10)
    retention.collect()
    hands.wall_s += 366 * DAY_S
    store.clock.wall_s()
    retention.collect()
    assert rows(store, "SELECT count(*) FROM samples_new WHERE ts < 1800000000") == [(1,)]
    hands.pass_s(HOLD_S + AGES_S)
    retention.collect()
    assert rows(store, "SELECT count(*) FROM samples_new") == [(0,)]


def test_captures_reports_quarantine_and_events_go_by_number(store, state, retention):
    for number in range(6):
        filled(state.captures / f"c{number}", age_s=600 - number)
    window(store, "w", NOON, capture="c0", finding=True)
    for day in range(1, 6):
        filled(state.reports / f"rocscope-2027-01-0{day}.html")
        filled(state.reports / f"rocscope-2027-01-0{day}.md")
    filled(state.reports / "notes-2020-01-01.txt")
    for number in range(4):
        filled(state.quarantine / f"q{number}", size=MB // 2, age_s=600 - number)
    store.write(lambda c: store_events.add_all(c, [(NOON, "window", str(n)) for n in range(150)])).result(10)
    store.write(lambda c: store_spool.take(c, "s", name="n", size=1, seen_at=NOON)).result(10)
    retention.collect()
    assert names(state.captures) == ["c0", "c3", "c4", "c5"]
    assert names(state.reports) == ["notes-2020-01-01.txt", *(
        f"rocscope-2027-01-0{day}.{kind}" for day in (4, 5) for kind in ("html", "md"))]  # fmt: skip
    assert names(state.quarantine) == ["q2", "q3"]
    assert rows(store, "SELECT count(*), min(text) FROM events WHERE kind = 'window'")[0][0] == 100
    store.write(lambda c: store_findings.set_state(c, "f-w", "resolved")).result(10)
    retention.collect()
    assert names(state.captures) == ["c3", "c4", "c5"]


def test_what_children_left_behind_goes_after_a_day(store, state, retention, hands):
    store.write(lambda c: store_windows.create(c, "busy", "schedule", NOON)).result(10)
    for name in ("busy/capture/x", "dead/capture/x", "new/capture/x"):
        filled(state.work / name)
    for name in ("busy.log", "dead.log", "window.lock"):
        filled(state.work / name, age_s=2 * DAY_S)
    for name, age_s in (("busy", 2 * DAY_S), ("dead", 2 * DAY_S), ("new", 0)):
        os.utime(state.work / name, (NOON - age_s, NOON - age_s))
    retention.collect()
    assert names(state.work) == ["busy", "busy.log", "new", "window.lock"]


def test_above_the_bytes_the_least_missed_goes_first(store, state, retention, keep):
    for age in range(4):
        window(
            store,
            f"w{age}",
            NOON - age * DAY_S,
            size=MB,
            capture="pinned" if age == 0 else None,
            finding=age == 0,
        )
        store.add_samples([bucket(ts=int(NOON) - age * 86_400, res_s=60)]).result(10)
    filled(state.captures / "free", MB)
    filled(state.captures / "pinned", MB)
    filled(state.quarantine / "bad", MB // 2)
    filled(state.reports / "rocscope-2027-01-01.html", MB)
    filled(state.reports / "rocscope-2027-01-02.html", MB)
    filled(state.spool / "not-ours", 50 * MB)
    used = retention.collect().used_bytes
    went = []
    seen = {"captures/free", "captures/pinned", "quarantine/bad", "reports/rocscope-2027-01-01.html",
            "reports/rocscope-2027-01-02.html", "w0", "w1", "w2", "w3"}  # fmt: skip
    while seen and keep["max_bytes"] > MB // 4:
        keep["max_bytes"] = min(used, keep["max_bytes"]) - 1
        used = retention.collect().used_bytes
        assert used <= keep["max_bytes"]
        there = {f"{f.name}/{n}" for f in (state.captures, state.quarantine, state.reports) for n in names(f)}
        there |= {entry.path.name for day in retention._results.days().values() for entry in day}
        went += sorted(seen - there)
        seen &= there
        if seen == {"reports/rocscope-2027-01-02.html"}:
            break
    assert went == ["captures/free", "quarantine/bad", "reports/rocscope-2027-01-01.html", "captures/pinned",
                    "w3", "w2", "w1", "w0"]  # fmt: skip
    assert (state.spool / "not-ours").exists()
    assert rows(store, "SELECT count(*) FROM samples_new") == [(0,)]
    assert rows(store, "SELECT DISTINCT state, files FROM windows") == [("done", "deleted")]


def test_samples_above_the_bytes_give_their_space_back(store, state, retention, keep):
    for day in range(5, 0, -1):
        start = int(NOON) // 86_400 * 86_400 - day * 86_400
        for metric in ("a", "b", "c", "d"):
            store.add_samples(
                [bucket(ts=start + 60 * n, res_s=60, metric=metric, mean=n / 7) for n in range(1440)]
            ).result(10)
    store.write(store_samples.settle).result(10)
    store.checkpoint().result(10)
    before = retention.collect().used_bytes
    keep["max_bytes"] = before - 300_000
    done = retention.collect()
    store.checkpoint().result(10)
    assert done.deleted["days of samples"] in (2, 3) and "days of samples" in done.said[0]
    assert done.used_bytes <= keep["max_bytes"]
    assert state.database.stat().st_size < before - 300_000
    kept = rows(
        store, "SELECT min(ts), max(ts) FROM (SELECT ts FROM samples UNION ALL SELECT ts FROM samples_new)"
    )
    assert kept[0][0] % 86_400 == 0 and kept[0][1] == start + 1439 * 60  # whole days, the newest is there


def test_the_folder_stays_below_its_bytes_when_fed_faster_than_collected(store, state, keep, retention):
    keep["max_bytes"], keep["keep_captures"] = 4 * MB, 1000
    size, highest, refused, stop = 300_000, 0, 0, threading.Event()

    def rounds():
        while not stop.is_set():
            retention.collect()

    collector = threading.Thread(target=rounds)
    collector.start()
    try:
        for number in range(60):
            if retention.make_room(size):
                filled(state.captures / f"c{number}", size)
            else:
                refused += 1
            highest = max(highest, retention.used_bytes())
    finally:
        stop.set()
        collector.join()
    assert refused == 0 and highest <= keep["max_bytes"] + size + 4096
    assert len(names(state.captures)) >= 8 and "c59" in names(state.captures)
    assert not retention.make_room(3 * MB)  # more than half of all
    keep["min_free_bytes"] = 1 << 60
    assert not retention.make_room(1)


def test_no_history_is_deleted_for_what_cannot_be(store, state, keep, retention):
    folder = window(store, "w", NOON)
    filled(state.aside / "store-1.sqlite", 3 * MB)
    keep["max_bytes"] = 2 * MB
    done = retention.collect()
    assert folder.exists() and "lie in aside and work" in done.said[0] and done.used_bytes > keep["max_bytes"]


def test_links_are_deleted_as_themselves(store, state, retention, keep, tmp_path):
    keep["keep_captures"] = 0
    outside = filled(tmp_path / "outside" / "precious", MB)
    (state.captures / "link").symlink_to(outside.parent)
    (state.captures / "real").mkdir()
    (state.captures / "real" / "inner").symlink_to(outside.parent)
    (state.windows / "date=2020-01-01").symlink_to(outside.parent)
    (state.quarantine / "file").symlink_to(outside)
    keep["quarantine_bytes"] = 1
    assert tree_bytes(state.captures) < MB
    retention.collect()
    assert outside.exists() and names(state.captures) == [] and names(state.quarantine) == []
    state.reports.rmdir()
    state.reports.symlink_to(outside.parent)
    filled(outside.parent / "rocscope-2020-01-01.html")
    keep["keep_reports"] = 0
    retention.collect()
    assert len(names(outside.parent)) == 2


def test_what_a_kill_left_in_the_trash_goes_and_the_ledger_is_told(store, state, retention):
    folder = window(store, "w", NOON)
    folder.rename(state.trash / "1-1")  # killed between the rename and the note
    filled(state.trash / "1-2" / "half", MB)
    retention.collect()
    assert names(state.trash) == [] and rows(store, "SELECT state, files FROM windows") == [
        ("done", "deleted")
    ]


@pytest.fixture
def immutable(state):
    """A capture's folder in which a file cannot be deleted, not even by root."""
    place = filled(state.captures / "c1" / "held").parent
    filled(place / "free")
    if subprocess.run(["chattr", "+i", place / "held"], capture_output=True).returncode:
        pytest.skip("files cannot be made immutable here")
    yield place
    held = next(state.path.glob("*/*/held"))
    subprocess.run(["chattr", "-i", held], check=True)


def test_what_cannot_be_deleted_is_said_once_and_stops_nothing(immutable, state, retention, keep):
    keep["keep_captures"] = 0
    filled(state.captures / "c2")
    done = retention.collect()
    assert done.stuck == 1 and "held cannot be deleted" in done.said[0] and names(state.captures) == []
    assert retention.collect().said == []
    assert [each.name for each in state.trash.glob("*/*")] == ["held"]


def test_what_cannot_be_moved_is_left_where_it_is(state, retention, keep, monkeypatch):
    keep["keep_captures"] = 0
    for name in ("c1", "c2"):
        filled(state.captures / name)
    real = Trash.discard

    def refuse(self, path):
        return (
            PermissionError(1, "Operation not permitted", str(path))
            if path.name == "c1"
            else real(self, path)
        )

    monkeypatch.setattr(Trash, "discard", refuse)
    done = retention.collect()
    assert names(state.captures) == ["c1"] and done.said == [
        f"{state.captures / 'c1'} cannot be deleted: Operation not permitted"
    ]
    keep["max_bytes"] = 1
    assert retention.collect().stuck == 1  # and it ends


def test_retention_goes_on_with_files_where_the_store_cannot_be_written(state, hands, keep):
    store = Store.open(state, hands.clock())
    filled(state.captures / "c1", MB)
    window(store, "w1", NOON - 100 * DAY_S, MB)
    assert store.close()
    keep["max_bytes"], keep["keep_captures"] = MB // 2, 0
    retention = Retention(store, lambda: Limits(**keep))
    done = retention.collect()
    assert done.deleted == {"captures": 1, "windows": 1} and names(state.captures) == []
