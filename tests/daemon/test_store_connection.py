"""Connections to the store's file: what an error means, and what is kept of a damaged one."""

import errno
import sqlite3
from contextlib import closing

import pytest
from daemon_clocks import NOON

from rocscope.daemon import store_connection, store_meta, store_schema
from rocscope.daemon.store import Store


def failed(code):
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    ("error", "meant"),
    [
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "full"),
        (OSError(errno.EFBIG, "File too large"), "full"),
        (OSError(errno.EROFS, "Read-only file system"), "read-only"),
        (OSError(errno.EIO, "Input/output error"), "failing"),
        (failed(sqlite3.SQLITE_FULL), "full"),
        (failed(sqlite3.SQLITE_IOERR_WRITE), "failing"),  # a trial finds nothing wrong
        (failed(sqlite3.SQLITE_CORRUPT_INDEX), "corrupt"),
        (failed(sqlite3.SQLITE_BUSY_SNAPSHOT), "failing"),
        (failed(sqlite3.SQLITE_CONSTRAINT_CHECK), None),
        (sqlite3.ProgrammingError("bound wrongly"), None),
        (ValueError("not ours"), None),
    ],
)
def test_what_an_error_means_for_the_store(state, error, meant):
    assert store_connection.trouble(error, state) == meant


def test_damaged_stores_of_one_second_do_not_meet(state):
    places = []
    for content in (b"one", b"two"):
        for beside in ("", "-wal"):
            state.database.with_name(f"store.sqlite{beside}").write_bytes(content)
        places.append(store_connection.set_aside(state, "it is no database", NOON))
    assert [place.read_bytes() for place in places] == [b"one", b"two"]
    assert [place.with_name(f"{place.name}-wal").read_bytes() for place in places] == [b"one", b"two"]
    assert places[0].with_suffix(".txt").read_text() == (
        "moved aside at 20270115T080000Z: it is no database\n"
    )


def test_a_log_whose_store_was_moved_aside_before_a_kill_is_kept(state):
    log = state.database.with_name("store.sqlite-wal")
    log.write_bytes(b"the only copy")
    with closing(store_connection.connect_writer(state)) as connection:
        store_schema.migrate(connection)
    (kept,) = state.aside.iterdir()
    assert kept.read_bytes() == b"the only copy"


def test_a_file_that_is_being_made_reads_as_an_empty_store(state):
    with (
        closing(store_connection.connect_writer(state)),
        closing(store_connection.connect_reader(state, 1.0)) as reader,
    ):
        assert reader.execute("SELECT count(*) FROM windows").fetchone() == (0,)
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            reader.execute("DELETE FROM windows")


def test_what_was_kept_of_the_clock_may_make_no_sense(state, hands):
    for text in ("no json", "[1, 2]", '{"since_boot_s": "x"}'):
        store = Store.open(state, hands.clock())
        store.write(lambda connection, text=text: store_meta.put(connection, "clock", text)).result(10)
        with store.read() as connection:
            assert isinstance(store_meta.clock(connection), dict)
        assert store.clock.trusted_wall_s() == NOON
        assert store.close()
