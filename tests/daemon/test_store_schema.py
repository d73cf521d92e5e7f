"""Versions of the store's tables: made, migrated, refused; a killed migration leaves the old or the new."""

import sqlite3
import subprocess
import sys
import time
from contextlib import closing

import pytest
from test_store import kept

from rocscope.daemon import store_schema
from rocscope.daemon.state_dir import StateDir
from rocscope.daemon.store import Store
from rocscope.errors import StoreError

CHAIN = (
    *store_schema.MIGRATIONS,
    ("ALTER TABLE events ADD COLUMN weight REAL", "UPDATE events SET weight = length(text)"),
    ("CREATE INDEX events_weight ON events (weight)",),
)


def closed(state, hands, **more):
    store = Store.open(state, hands.clock(), **more)
    assert store.close()


def test_versions_that_were_released_are_not_edited(golden):
    """A change of the tables is a new migration; this file shows what each version is."""
    for number in range(1, len(store_schema.MIGRATIONS) + 1):
        with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
            store_schema.migrate(connection, store_schema.MIGRATIONS[:number])
            made = connection.execute(
                "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY type DESC, name"
            ).fetchall()
        text = ";\n".join(" ".join(sql.split()) for (sql,) in made) + ";\n"
        golden(f"store_version_{number}.sql", text)


def test_an_older_store_is_migrated_and_that_is_said(state, hands):
    store = Store.open(state, hands.clock())
    store.event("window", "kept").result(10)
    assert store.close()
    store = Store.open(state, hands.clock(), chain=CHAIN, retry_s=0.05)
    store.write(lambda connection: None).result(10)
    with store.read() as connection:
        assert store_schema.version(connection) == len(CHAIN)
        assert connection.execute("SELECT weight FROM events WHERE text = 'kept'").fetchone() == (4.0,)
    assert kept(store) == ["kept", f"the store was brought from version 1 to {len(CHAIN)}"]
    assert store.close()


def test_a_newer_store_is_refused_and_left_as_it_is(state, hands):
    closed(state, hands, chain=CHAIN)
    before = state.database.read_bytes()
    with pytest.raises(StoreError, match="version 3, this rocscope knows up to 1") as refused:
        Store.open(state, hands.clock())
    assert "upgrade" in refused.value.hint and state.database.read_bytes() == before


def test_a_database_of_another_program_is_refused(state, hands):
    with closing(sqlite3.connect(state.database)) as other:
        other.execute("CREATE TABLE theirs (x)")
    with pytest.raises(StoreError, match="another program"):
        Store.open(state, hands.clock())


def test_a_migration_that_fails_leaves_the_old(state, hands):
    closed(state, hands)
    wrong = (*store_schema.MIGRATIONS, ("CREATE TABLE more (x)", "INSERT INTO nowhere VALUES (1)"))
    with pytest.raises(sqlite3.OperationalError, match="nowhere"):
        Store.open(state, hands.clock(), chain=wrong)
    store = Store.open(state, hands.clock())
    with store.read() as connection:
        assert store_schema.version(connection) == 1
        assert not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'more'").fetchall()
    assert store.close()


SLOW = f"""
import sys
sys.path[:0] = {sys.path!r}
from pathlib import Path
from daemon_clocks import Hands
from rocscope.daemon import store_schema
from rocscope.daemon.state_dir import StateDir
from rocscope.daemon.store import Store
rows = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60000) SELECT i FROM n"
more = ("CREATE TABLE more (x)", "INSERT INTO more " + rows, "CREATE INDEX more_x ON more (x)")
with StateDir.claim(Path(sys.argv[1])) as state:
    print("now", flush=True)
    Store.open(state, Hands().clock(), chain=(*store_schema.MIGRATIONS, more))
    print("done", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("after_s", [0.0, 0.01, 0.02, 0.04, 0.08, None])
def test_a_killed_migration_leaves_the_old_or_the_new(tmp_path, hands, after_s):
    place = tmp_path / "state"
    with StateDir.claim(place) as state:
        closed(state, hands)
    told = [sys.executable, "-c", SLOW, place]
    with subprocess.Popen(told, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline() == "now\n"
        if after_s is None:
            assert child.stdout.readline() == "done\n"
        time.sleep(after_s or 0)
        child.kill()
    with StateDir.claim(place) as state, closing(sqlite3.connect(state.database)) as connection:
        found = store_schema.version(connection)
        made = connection.execute("SELECT name FROM sqlite_master WHERE name LIKE 'more%'").fetchall()
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert (found, len(made)) == (2, 2) or (after_s is not None and (found, len(made)) == (1, 0))
        if found == 2:
            assert connection.execute("SELECT count(*) FROM more").fetchone() == (60_000,)
