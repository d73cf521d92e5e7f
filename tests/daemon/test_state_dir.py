"""The state folder: made tight, refused where it is not safe, one daemon at a time."""

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rocscope.daemon import state_dir
from rocscope.daemon.state_dir import FOLDERS, StateDir
from rocscope.daemon.store import Store
from rocscope.errors import DaemonRunning, StoreError


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_it_is_made_with_tight_modes(tmp_path):
    before = os.umask(0o022)
    try:
        with StateDir.claim(tmp_path / "a" / "state") as state:
            assert {mode(state.path), *(mode(state.path / name) for name in FOLDERS)} == {0o750}
            assert mode(state.spool) == 0o1770 and mode(state.path / "lock") == 0o600
            assert (state.path / "lock").read_text() == f"{os.getpid()}\n"
            (state.work / "made").write_text("")
            assert mode(state.work / "made") == 0o600
            assert state.free_bytes() > 0 and state.write_trouble() is None
            day = state.window_folder("w1", 1_800_000_000.0)
            assert day == state.path / "windows" / "date=2027-01-15" / "w1"
            places = (
                state.windows,
                state.captures,
                state.quarantine,
                state.reports,
                state.trash,
                state.aside,
            )
            assert all(place.is_dir() for place in places)
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(before)


def test_the_stores_files_are_its_owners_alone(state, store):
    store.event("window", "x").result(10)
    assert {mode(each) for each in state.path.glob("store.sqlite*")} == {0o600}


def test_modes_are_tightened_never_widened(tmp_path):
    place = tmp_path / "state"
    (place / "windows").mkdir(parents=True)
    (place / "captures").mkdir()
    place.chmod(0o775)
    (place / "windows").chmod(0o755)
    (place / "captures").chmod(0o700)
    with StateDir.claim(place) as state:
        assert [mode(each) for each in (place, state.windows, state.captures)] == [0o750, 0o750, 0o700]


def test_a_folder_that_is_not_safe_is_refused(tmp_path):
    place = tmp_path / "state"
    place.mkdir()
    place.chmod(0o777)
    with pytest.raises(StoreError, match="all users may write") as refused:
        StateDir.claim(place)
    assert "chmod o-w" in refused.value.hint
    place.chmod(0o750)
    tmp_path.chmod(0o777)
    with pytest.raises(StoreError, match="all users may replace"):
        StateDir.claim(place)
    tmp_path.chmod(0o1777)  # as /tmp is
    StateDir.claim(place).release()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_another_user_is_refused(tmp_path):
    place = tmp_path / "state"
    place.mkdir()
    os.chown(place, 12345, -1)
    with pytest.raises(StoreError, match="belongs to user 12345"):
        StateDir.claim(place)
    os.chown(place, 0, -1)
    link = tmp_path / "link"
    link.symlink_to(place)
    os.chown(link, 12345, -1, follow_symlinks=False)
    with pytest.raises(StoreError, match="a link that another user made"):
        StateDir.claim(link)


def test_links_in_it_are_refused(tmp_path, hands):
    place, elsewhere = tmp_path / "state", tmp_path / "elsewhere"
    StateDir.claim(place).release()
    elsewhere.mkdir()
    (place / "windows").rmdir()
    (place / "windows").symlink_to(elsewhere)
    with pytest.raises(StoreError, match="a link or no folder"):
        StateDir.claim(place)
    (place / "windows").unlink()
    (place / "windows").write_text("")
    with pytest.raises(StoreError, match="a link or no folder"):
        StateDir.claim(place)
    (place / "windows").unlink()
    (place / "lock").unlink()
    (place / "lock").symlink_to(elsewhere / "planted")
    with pytest.raises(StoreError, match="lock"):
        StateDir.claim(place)
    (place / "lock").unlink()
    for name in ("store.sqlite", "store.sqlite-wal"):
        with StateDir.claim(place) as state:
            (place / name).symlink_to(elsewhere / "planted")
            with pytest.raises(StoreError, match="a link"):
                Store.open(state, hands.clock())
            (place / name).unlink()
    assert not (elsewhere / "planted").exists()


def test_a_link_of_ones_own_to_another_disk_is_followed_once(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "state").symlink_to(tmp_path / "disk")
    with StateDir.claim(tmp_path / "state") as state:
        assert state.path == tmp_path / "disk"


def test_a_place_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="file"):
        StateDir.claim(tmp_path / "file" / "state")
    with pytest.raises(StoreError):
        StateDir.claim(Path("/proc/rocscope"))


def test_two_daemons_do_not_share_a_folder(tmp_path):
    with StateDir.claim(tmp_path / "state"):
        with pytest.raises(DaemonRunning, match=f"process {os.getpid()}") as refused:
            StateDir.claim(tmp_path / "state")
        assert refused.value.exit_code == 20 and "--state" in refused.value.hint
    state = StateDir.claim(tmp_path / "state")
    state.release()
    state.release()


def test_the_lock_of_a_killed_daemon_is_no_obstacle(tmp_path):
    code = (
        f"import sys, time; from pathlib import Path; from rocscope.daemon.state_dir import StateDir\n"
        f"held = StateDir.claim(Path({str(tmp_path / 'state')!r})); print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline() == "held\n"
        with pytest.raises(DaemonRunning, match=f"process {child.pid}"):
            StateDir.claim(tmp_path / "state")
        child.send_signal(signal.SIGKILL)
    with StateDir.claim(tmp_path / "state") as state:
        assert (state.path / "lock").read_text() == f"{os.getpid()}\n"


def test_a_lock_file_that_is_removed_meanwhile_is_taken_anew(tmp_path, monkeypatch):
    real, seen = state_dir._same, []

    def removed(path, descriptor):
        if not seen:
            path.unlink()
        seen.append(path)
        return real(path, descriptor)

    monkeypatch.setattr(state_dir, "_same", removed)
    with StateDir.claim(tmp_path / "state") as state:
        assert len(seen) == 2 and (state.path / "lock").exists()


def test_a_child_does_not_inherit_the_lock(tmp_path):
    state = StateDir.claim(tmp_path / "state")
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], close_fds=False) as child:
        state.release()
        time.sleep(0.05)
        StateDir.claim(tmp_path / "state").release()
        child.kill()
