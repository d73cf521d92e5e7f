"""The store through its door: transactions, readers beside the writer, bounds, closing, opening again."""

import sqlite3
import threading

import pytest
from daemon_clocks import NOON

from rocscope.daemon import store as store_module
from rocscope.daemon import store_events, store_samples, store_windows
from rocscope.daemon.store import Store
from rocscope.daemon.store_samples import Bucket
from rocscope.errors import StoreError


def kept(store):
    with store.read() as connection:
        return [each.text for each in store_events.latest(connection, 10_000)][::-1]


def bucket(ts=1_800_000_000, n=10, mean=0.5, res_s=10, metric="cpu_frac"):
    return Bucket("host", "host", metric, res_s, ts, n, mean, mean - 0.1, mean + 0.1)


def test_what_was_accepted_is_there_after_closing(state, hands):
    first = Store.open(state, hands.clock())
    first.event("window", "one").result(10)
    assert first.add_samples([bucket(), bucket(ts=1_800_000_010)]).result(10) == 2
    last = first.event("window", "two")  # closing writes what is queued
    assert first.close() and first.close()
    assert last.done()
    again = Store.open(state, hands.clock())
    assert kept(again) == ["one", "two"]
    with again.read() as connection:
        drawn = store_samples.draw(connection, "host", "cpu_frac", NOON - 60, NOON + 60)
        assert [point.ts for point in drawn.points] == [1_800_000_000, 1_800_000_010]
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA auto_vacuum").fetchone() == (2,)
    assert again.close()
    with pytest.raises(StoreError, match="closed"):
        again.event("window", "three").result(10)


def test_a_write_that_fails_leaves_nothing(store):
    def half(connection):
        store_events.add(connection, 1.0, "window", "half")
        raise LookupError("no")

    with pytest.raises(LookupError):
        store.write(half).result(10)
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        store.write(lambda connection: connection.execute("INSERT INTO nowhere VALUES (1)")).result(10)
    with pytest.raises(RuntimeError, match="ended the transaction"):
        store.write(lambda connection: connection.execute("COMMIT")).result(10)
    store.event("window", "whole").result(10)
    assert kept(store) == ["whole"] and store.health.state == "ok"


def test_readers_see_one_state_while_something_is_written(store):
    inside, go = threading.Event(), threading.Event()

    def slow(connection):
        store_events.add(connection, 1.0, "window", "first")
        inside.set()
        go.wait(10)
        store_events.add(connection, 1.0, "window", "second")

    done = store.write(slow)
    assert inside.wait(10)
    assert kept(store) == []  # not blocked, and nothing half-written seen
    with store.read() as connection:
        before = store_events.latest(connection)
        go.set()
        done.result(10)
        assert store_events.latest(connection) == before
    assert kept(store) == ["first", "second"]


def test_readers_cannot_write(store):
    with pytest.raises(StoreError), store.read() as connection:
        store_events.add(connection, 1.0, "window", "no")
    assert store.health.state == "ok"


def test_a_query_without_end_is_interrupted(store):
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    with pytest.raises(StoreError, match="took too long"), store.read(deadline_s=0.05) as connection:
        connection.execute(endless).fetchone()


def test_the_queue_is_bounded_and_what_is_refused_is_told(store):
    go = threading.Event()
    store.write(lambda connection: go.wait(10))
    samples = [store.add_samples([bucket(), bucket()]) for _ in range(store_module.SAMPLES_QUEUE + 5)]
    ledger = [store.event("window", str(number)) for number in range(store_module.QUEUE + 5)]
    assert store.health.dropped_samples >= 10 and store.health.failed_writes >= 5
    go.set()
    refused = [each for each in samples if each.exception(30) is not None]
    assert 5 <= len(refused) <= 6 and 2 * len(refused) == store.health.dropped_samples
    accepted = [each for each in ledger if each.exception(30) is None]
    assert len(kept(store)) == len(accepted) == len(ledger) - store.health.failed_writes


def test_a_disk_that_does_not_answer_is_said(store, hands):
    inside, go = threading.Event(), threading.Event()
    store.write(lambda connection: (inside.set(), go.wait(10)))
    assert inside.wait(10)
    hands.pass_s(31)
    assert store.health.state == "failing" and "31 s" in store.health.reason
    go.set()
    store.event("window", "on").result(10)
    assert store.health.state == "ok"


def test_a_write_that_nobody_waits_for_any_more_is_left_out(store):
    go = threading.Event()
    store.write(lambda connection: go.wait(10))
    given_up = store.event("window", "never")
    assert given_up.cancel()
    go.set()
    store.event("window", "then").result(10)
    assert kept(store) == ["then"]


def test_a_window_is_taken_once(store):
    result = {
        "window_id": "w1",
        "capture_id": "c1",
        "key": {"model": "m", "tp": 2},
        "families": [{"gpu": "0", "family": "gemm", "busy_s": 1.5, "bytes": 10}],
        "findings": [{"id": "f1", "at": NOON, "kind": "slower", "evidence": ["3 %"]}],
        "targets": [{"rank": 1}],
    }
    store.write(lambda c: store_windows.create(c, "w1", "operator", NOON, boot_id="b")).result(10)
    taken = [
        store.write(lambda c: store_windows.commit_window_result(c, result, folder="windows/x/w1")).result(10)
        for _ in range(2)
    ]
    assert taken == [True, False]
    with store.read() as connection:
        assert store_windows.unfinished(connection) == []
        window = store_windows.get(connection, "w1")
        assert (window.state, window.files, window.summary) == ("done", "kept", {"targets": [{"rank": 1}]})
        assert [each.family for each in store_windows.families(connection, "w1")] == ["gemm"]
        assert store_windows.listing(connection) == [window]
