import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocscope import forecast_ledger
from rocscope.errors import DamagedInput, InputError, NotFound, PermissionMissing, RocscopeError, UsageError
from rocscope.forecast_ledger import Entry, place, read, remove, write


def entry(target="kernel-k", **more):
    known = {
        "base": "before", "new": "after", "target": target, "low_frac": 0.05, "mid_frac": 0.1,
        "high_frac": 0.2, "actual_frac": 0.12, "hit": True, "tried_by": "seen", "provenance": "recorded",
        "shares_of": "latency", "realised_share_frac": 0.4, "limiter": "latency", "gpu": "MI100",
        "recorded_at": "2026-11-20T10:00:00+00:00", "rocscope_version": "0.1.0",
    }  # fmt: skip
    return Entry.model_validate(known | more)


def test_the_place_is_the_variable_else_the_users_data_folder():
    assert place({"ROCSCOPE_FORECASTS": "/a/b.sqlite"}) == Path("/a/b.sqlite")
    assert place({"XDG_DATA_HOME": "/data", "HOME": "/h"}) == Path("/data/rocscope/forecasts.sqlite")
    assert place({"XDG_DATA_HOME": "relative", "HOME": "/h"}) == Path(
        "/h/.local/share/rocscope/forecasts.sqlite"
    )


def test_what_is_entered_is_read_back_newest_first_and_once(tmp_path):
    path = tmp_path / "deep" / "l.sqlite"
    old, new = entry("kernel-a"), entry("kernel-b", recorded_at="2026-11-21T10:00:00+00:00")
    assert write(path, [old, new]) == 2 and write(path, [old, new]) == 2
    assert read(path) == [new, old]
    again = entry("kernel-a", hit=False, actual_frac=0.5)
    write(path, [again])
    assert read(path) == [new, again]
    earlier = entry("kernel-a", recorded_at="2026-11-19T10:00:00+00:00")
    assert write(path, [earlier], keep_newer=True) == 0 and read(path) == [new, again]
    assert remove(path, [old]) == 1 and read(path) == [new]
    assert remove(tmp_path / "none.sqlite", [old]) == 0 and not (tmp_path / "none.sqlite").exists()


@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20), unique=True, max_size=8
    ),
    st.floats(-10, 1),
)
def test_the_json_form_reads_back_as_it_was(names, gain):
    entries = [entry(name, actual_frac=gain, kernel=name) for name in names]
    path = Path(os.environ["ROCSCOPE_FORECASTS"]).with_suffix(".json")
    path.parent.mkdir(exist_ok=True)
    path.write_text(forecast_ledger.to_json(entries), encoding="utf-8")
    assert sorted(read(path), key=lambda each: each.target) == sorted(entries, key=lambda each: each.target)


@pytest.mark.parametrize(
    ("content", "error", "why"),
    [
        (b"not a ledger at all", DamagedInput, "neither a ledger"),
        (b"SQLite format 3\x00" + b"\xff" * 4096, DamagedInput, "damaged"),
        (b'{"kind": "something else"}', InputError, "holds no forecasts"),
        (b'{"kind": "rocscope-forecasts", "schema_version": "9", "forecasts": []}', InputError, "not ours"),
        (b'{"kind": "rocscope-forecasts", "schema_version": "1", "forecasts": [{}]}', DamagedInput, "base"),
        (b'{"kind": "rocscope-forecasts", "schema_version": "1", "forecasts": [7]}', DamagedInput, "0"),
        (b"[" * 100_000, DamagedInput, "neither a ledger"),
    ],
)
def test_what_is_no_ledger_is_told_as_what_it_is(tmp_path, content, error, why):
    path = tmp_path / "l"
    path.write_bytes(content)
    with pytest.raises(error, match=why):
        read(path)
    assert path.read_bytes() == content


def test_an_empty_file_is_an_empty_ledger(tmp_path):
    path = tmp_path / "l.sqlite"
    path.touch()
    assert read(path) == []
    assert write(path, [entry()]) == 1 and len(read(path)) == 1


def test_what_is_missing_a_folder_or_too_large_is_refused(tmp_path, monkeypatch):
    with pytest.raises(NotFound, match="no such ledger"):
        read(tmp_path / "none")
    with pytest.raises(UsageError, match="is no file"):
        write(tmp_path, [entry()])
    os.mkfifo(tmp_path / "pipe")  # it would be waited for
    with pytest.raises(UsageError, match="is no file"):
        read(tmp_path / "pipe")
    (tmp_path / "big.json").write_text(forecast_ledger.to_json([entry()]))
    monkeypatch.setattr(forecast_ledger, "MOST_BYTES", 10)
    with pytest.raises(InputError, match="too large"):
        read(tmp_path / "big.json")


def test_another_programs_database_is_left_alone(tmp_path):
    path = tmp_path / "theirs.sqlite"
    with sqlite3.connect(path) as theirs:
        theirs.execute("CREATE TABLE forecast (x)")
    theirs.close()
    before = path.read_bytes()
    for act in (lambda: write(path, [entry()]), lambda: read(path)):
        with pytest.raises(InputError, match="no ledger of forecasts"):
            act()
    assert path.read_bytes() == before


def test_rows_that_are_no_forecasts_are_damage(tmp_path):
    path = tmp_path / "l.sqlite"
    write(path, [entry()])
    for text in ("{", '{"base": 1}', "[" * 100_000):
        with sqlite3.connect(path) as ledger:
            ledger.execute("UPDATE forecast SET entry = ?", (text,))
        ledger.close()
        with pytest.raises(DamagedInput):
            read(path)


def test_a_ledger_of_an_earlier_schema_is_brought_up_to_date_and_a_later_one_left_alone(
    tmp_path, monkeypatch
):
    path = tmp_path / "l.sqlite"
    write(path, [entry("kernel-a")])
    first = forecast_ledger._MAKE
    monkeypatch.setattr(
        forecast_ledger, "_MAKE", (*first, "ALTER TABLE forecast ADD COLUMN more TEXT; nonsense")
    )
    with pytest.raises(RocscopeError):
        write(path, [entry("kernel-b")])
    monkeypatch.setattr(forecast_ledger, "_MAKE", first)
    assert [each.target for each in read(path)] == ["kernel-a"]  # nothing of it was done
    more = "CREATE TABLE more (x); UPDATE forecast SET recorded_at = '2026-01-01T00:00:00+00:00'"
    monkeypatch.setattr(forecast_ledger, "_MAKE", (*first, more))
    assert [each.target for each in read(path)] == ["kernel-a"]  # to read needs no write
    write(path, [entry("kernel-b")])
    assert {each.target for each in read(path)} == {"kernel-a", "kernel-b"}
    monkeypatch.setattr(forecast_ledger, "_MAKE", first)
    content = path.read_bytes()
    for act in (lambda: read(path), lambda: write(path, [entry("kernel-c")])):
        with pytest.raises(InputError, match="newer rocscope"):
            act()
    assert path.read_bytes() == content


def test_writers_wait_for_each_other_and_none_is_lost(tmp_path):
    path = tmp_path / "l.sqlite"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda at: write(path, [entry(f"kernel-{at}")]), range(40)))
    assert len(read(path)) == 40


@pytest.mark.parametrize("which", range(10))
def test_writers_that_find_no_ledger_make_one_together(tmp_path, which):
    path = tmp_path / f"{which}.sqlite"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda at: write(path, [entry(f"kernel-{at}")]), range(8)))
    assert len(read(path)) == 8


def test_a_writer_that_never_ends_is_not_waited_for_for_ever(tmp_path, monkeypatch):
    path = tmp_path / "l.sqlite"
    write(path, [entry()])
    monkeypatch.setattr(forecast_ledger, "WAIT_S", 0.05)
    with sqlite3.connect(path, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(InputError, match="another process has been writing"):
            write(path, [entry("kernel-b")])
        assert len(read(path)) == 1  # readers need not wait
        other.execute("ROLLBACK")
    other.close()
    assert write(path, [entry("kernel-b")]) == 1


def run_python(code, *arguments, **more):
    words = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    return subprocess.Popen(words, cwd=Path(__file__).parent, stdout=subprocess.PIPE, text=True, **more)


WRITER = """
    import sys
    from pathlib import Path
    from test_forecast_ledger import entry
    from rocscope import forecast_ledger
    for at in range(100_000):
        forecast_ledger.write(Path(sys.argv[1]), [entry(f"kernel-{at}-{i}") for i in range(50)])
        print(at, flush=True)
"""


def test_a_writer_that_is_killed_leaves_whole_entries(tmp_path):
    path = tmp_path / "l.sqlite"
    writer = run_python(WRITER, path)
    try:
        for _ in range(3):
            assert writer.stdout.readline()
        time.sleep(0.005)
    finally:
        writer.send_signal(signal.SIGKILL)
        rest = [int(line) for line in writer.stdout.read().split()]
        writer.wait()
        writer.stdout.close()
    found = read(path)
    assert len(found) % 50 == 0 and len(found) >= 50 * (max([2, *rest]) + 1)
    assert write(path, [entry()]) == 1 and len(read(path)) == len(found) + 1


def test_a_full_disk_leaves_what_was_there(tmp_path):
    path = tmp_path / "l.sqlite"
    write(path, [entry()])
    code = """
        import resource, sys
        from pathlib import Path
        from test_forecast_ledger import entry
        from rocscope import forecast_ledger
        from rocscope.errors import RocscopeError
        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))
        try:
            forecast_ledger.write(Path(sys.argv[1]), [entry(f"k-{i}", basis="x" * 900) for i in range(200)])
        except RocscopeError as error:
            print(type(error).__name__, error.message)
    """
    writer = run_python(code, path)
    told, _ = writer.communicate(timeout=60)
    assert "InputError" in told and str(path) in told
    assert read(path) == [entry()]


def test_where_nothing_can_be_written_the_error_names_the_place():
    for path in (Path("/proc/forecasts.sqlite"), Path("/dev/null/forecasts.sqlite")):
        with pytest.raises(PermissionMissing, match=r"forecasts\.sqlite|/dev/null"):
            write(path, [entry()])


def test_a_ledger_that_was_left_cleanly_is_read_also_where_nothing_can_be_written(tmp_path, monkeypatch):
    path = tmp_path / "l.sqlite"
    write(path, [entry()])
    connect = sqlite3.connect

    class Refusing(sqlite3.Connection):
        def execute(self, *_):
            raise sqlite3.OperationalError("unable to open database file")

    monkeypatch.setattr(
        forecast_ledger.sqlite3,
        "connect",
        lambda name, **more: connect(name, **more, **({"factory": Refusing} if "mode=ro" in name else {})),
    )
    assert read(path) == [entry()]
