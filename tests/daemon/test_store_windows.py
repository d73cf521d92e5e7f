"""The ledger of windows, findings and spool: states that are final stay, lists are in order."""

import pytest
from daemon_clocks import NOON

from rocscope.daemon import store_findings, store_spool, store_windows


@pytest.fixture
def ledger(store):
    """Run a function of the connection as a write."""
    return lambda group: store.write(group).result(10)


def test_a_window_goes_through_its_states(ledger, store):
    assert ledger(lambda c: store_windows.create(c, "w1", "schedule", NOON, engine="e", reason="due"))
    assert not ledger(lambda c: store_windows.create(c, "w1", "operator", NOON + 1))
    assert ledger(lambda c: store_windows.set_state(c, "w1", "open", started_at=NOON + 1, window_s=2.0))
    assert ledger(lambda c: store_windows.set_state(c, "w1", "aborted", abort="p99", overhead={"p99": 1.2}))
    assert not ledger(lambda c: store_windows.set_state(c, "w1", "done"))
    assert not ledger(lambda c: store_windows.set_state(c, "none", "done"))
    assert ledger(lambda c: store_windows.note(c, "w1", bytes=10))
    with store.read() as connection:
        row = store_windows.get(connection, "w1")
        assert (row.state, row.trigger, row.abort, row.overhead, row.bytes) == (
            "aborted", "schedule", "p99", {"p99": 1.2}, 10)  # fmt: skip
        assert store_windows.get(connection, "none") is None


def test_what_cannot_be_is_refused(ledger):
    for name in ("../w", "", "a" * 200, "-x", "a/b"):
        with pytest.raises(ValueError, match="cannot be a window's id"):
            ledger(lambda c, name=name: store_windows.create(c, name, "schedule", NOON))
    with pytest.raises(ValueError, match="no state of a window"):
        ledger(lambda c: store_windows.set_state(c, "w1", "lost"))
    with pytest.raises(ValueError, match="no such columns of a window: x"):
        ledger(lambda c: store_windows.note(c, "w1", x=1))
    with pytest.raises(ValueError, match="no window w9"):
        ledger(lambda c: store_windows.commit_window_result(c, {"window_id": "w9"}))
    with pytest.raises(ValueError, match="no state of a finding"):
        ledger(lambda c: store_findings.set_state(c, "f", "lost"))
    with pytest.raises(ValueError, match="no such columns of the spool: x"):
        ledger(lambda c: store_spool.set_state(c, "s", "done", x=1))


def test_windows_are_listed_newest_first_and_unfinished_oldest_first(ledger, store):
    for number, state in enumerate(("done", "planned", "failed", "analysing")):
        ledger(lambda c, n=number, s=state: store_windows.create(c, f"w{n}", "schedule", NOON + n, state=s))
    with store.read() as connection:
        listed = [row.id for row in store_windows.listing(connection)]
        assert listed == ["w3", "w2", "w1", "w0"]
        assert [row.id for row in store_windows.listing(connection, 1, before_s=NOON + 3)] == ["w2"]
        assert [row.id for row in store_windows.listing(connection, since_s=NOON + 2)] == ["w3", "w2"]
        assert [row.id for row in store_windows.listing(connection, states=("done", "failed"))] == [
            "w2",
            "w0",
        ]
        assert [row.id for row in store_windows.unfinished(connection)] == ["w1", "w3"]


def test_equal_keys_are_compared_whatever_their_order(ledger, store):
    assert store_windows.key_hash({"a": 1, "b": None}) == store_windows.key_hash({"b": None, "a": 1})
    assert store_windows.key_hash({"a": 1}) != store_windows.key_hash({"a": 2})
    for number in range(3):
        result = {
            "window_id": f"w{number}",
            "key": {"tp": 1 if number else 2},
            "phases": ["x" * 70_000],
            "targets": [1],
            "families": [{"gpu": "0", "family": "gemm", "busy_s": 1.0 + number}],
        }
        ledger(lambda c, n=number: store_windows.create(c, f"w{n}", "schedule", NOON + n))
        ledger(lambda c, r=result: store_windows.commit_window_result(c, r))
    result = {"window_id": "w3", "targets": ["x" * 70_000]}
    ledger(lambda c: store_windows.create(c, "w3", "schedule", NOON + 3))
    ledger(lambda c: store_windows.commit_window_result(c, result))
    with store.read() as connection:
        wanted = store_windows.key_hash({"tp": 1})
        same = [row for row in store_windows.listing(connection)[::-1] if row.key_hash == wanted]
        assert [row.id for row in same] == ["w1", "w2"]
        assert same[0].summary == {"targets": [1], "cut": True}  # what is large stays in the result's folder
        assert store_windows.get(connection, "w3").summary == {"cut": True}
        assert store_windows.families_over_time(connection, NOON, NOON + 2) == [
            ("w0", NOON, "gemm", 1.0), ("w1", NOON + 1, "gemm", 2.0)]  # fmt: skip


def test_findings_are_kept_once_and_pin_what_they_point_to(ledger, store):
    ledger(lambda c: store_windows.create(c, "w1", "schedule", NOON, capture_id="c1"))
    found = [{"id": f"f{n}", "at": NOON + n, "kind": "slower", "evidence": {"n": n}} for n in range(3)]
    assert ledger(lambda c: store_findings.add(c, found, window_id="w1")) == 3
    assert ledger(lambda c: store_findings.add(c, [{**found[0], "kind": "other"}])) == 0
    assert ledger(lambda c: store_findings.set_state(c, "f0", "resolved"))
    assert not ledger(lambda c: store_findings.set_state(c, "none", "resolved"))
    with store.read() as connection:
        newest = store_findings.latest(connection)
        assert [row.id for row in newest] == ["f2", "f1", "f0"] and newest[0].evidence == {"n": 2}
        assert [row.id for row in store_findings.latest(connection, since_s=NOON + 1, before_s=NOON + 2)] == [
            "f1"
        ]
        assert [row.id for row in store_findings.latest(connection, state="resolved", window_id="w1")] == [
            "f0"
        ]
        assert store_findings.counts(connection) == {"open": 2, "resolved": 1}
        assert store_findings.get(connection, "f0").kind == "slower"
        assert store_findings.get(connection, "none") is None
        assert store_findings.pinned(connection) == {"w1", "c1"}


def test_a_spooled_file_is_taken_once(ledger, store):
    assert ledger(lambda c: store_spool.take(c, "s1", name="a", size=1, seen_at=NOON)) is None
    assert ledger(lambda c: store_spool.take(c, "s1", name="b", size=1, seen_at=NOON)) == "taken"
    assert ledger(lambda c: store_spool.take(c, "s2", name="c", size=2, seen_at=NOON + 1)) is None
    assert ledger(lambda c: store_spool.set_state(c, "s1", "done", done_at=NOON + 2, window_id="w1"))
    assert not ledger(lambda c: store_spool.set_state(c, "s1", "failed"))
    with store.read() as connection:
        assert (
            store_spool.get(connection, "s1").window_id == "w1" and store_spool.get(connection, "s9") is None
        )
        assert [row.id for row in store_spool.unfinished(connection)] == ["s2"]
        assert [row.id for row in store_spool.latest(connection)] == ["s2", "s1"]
        assert [row.id for row in store_spool.latest(connection, states=("done",))] == ["s1"]
        assert sorted(each.state for each in store_spool.latest(connection)) == ["done", "taken"]
