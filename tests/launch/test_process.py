"""Starting a command, passing its output through, ending it and everything that came from it."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from rocscope.errors import PermissionMissing, TargetError
from rocscope.launch.process import Ending, Target


@contextmanager
def pipe() -> Iterator[tuple[int, list[bytes]]]:
    """Give the writing end of a pipe and, after the block, what was written to it."""
    reader, writer = os.pipe()
    found: list[bytes] = []

    def read() -> None:
        while data := os.read(reader, 1 << 16):
            found.append(data)

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield writer, found
    finally:
        os.close(writer)
        thread.join()
        os.close(reader)


def launch(tmp_path: Path, *command: str, **more: object) -> Target:
    options: dict[str, object] = {"stdout_to": None, "stderr_to": None, **more}
    return Target(command, environment=dict(os.environ), logs=tmp_path, **options)  # type: ignore[arg-type]


def finish(target: Target, *, grace_s: float = 0.5, deadline_s: float = 20.0) -> Ending:
    return target.finish(grace_s=grace_s, deadline_s=deadline_s)


def python(tmp_path: Path, code: str, **more: object) -> Target:
    return launch(tmp_path, sys.executable, "-c", code, **more)


def wait_for(path: Path) -> None:
    end = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < end, f"{path} never came"
        time.sleep(0.01)


@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 7", 7), ("kill -SEGV $$", 139)])
def test_the_exit_code_is_the_commands_own(tmp_path: Path, script: str, code: int) -> None:
    assert finish(launch(tmp_path, "sh", "-c", script)).exit_code == code


def test_output_passes_through_byte_for_byte_and_is_saved(tmp_path: Path) -> None:
    code = (
        "import sys; b=bytes(range(256))*8192; sys.stdout.buffer.write(b); sys.stderr.buffer.write(b[::-1])"
    )
    with pipe() as (out, got_out), pipe() as (err, got_err):
        assert finish(python(tmp_path, code, stdout_to=out, stderr_to=err)).exit_code == 0
    expected = bytes(range(256)) * 8192
    assert b"".join(got_out) == expected == (tmp_path / "stdout.log").read_bytes()
    assert b"".join(got_err) == expected[::-1] == (tmp_path / "stderr.log").read_bytes()


def test_a_reader_that_went_away_does_not_disturb_the_command(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        target = python(tmp_path, "print('x' * 500_000)", stdout_to=writer)
        assert finish(target).exit_code == 0
    finally:
        os.close(writer)
    assert (tmp_path / "stdout.log").stat().st_size == 500_001


def test_a_full_disk_stops_the_copy_and_not_the_command(tmp_path: Path) -> None:
    (tmp_path / "stdout.log").symlink_to("/dev/full")
    with pipe() as (out, got):
        ending = finish(python(tmp_path, "print('y' * 200_000)", stdout_to=out))
    assert ending.exit_code == 0
    assert len(b"".join(got)) == 200_001
    assert any("not saved" in note for note in ending.notes)


def test_a_grandchild_that_keeps_the_pipe_open_is_not_waited_for(tmp_path: Path) -> None:
    started = time.monotonic()
    ending = finish(launch(tmp_path, "sh", "-c", "sleep 300 & echo done"))
    assert time.monotonic() - started < 10
    assert ending.exit_code == 0
    assert [each.name for each in ending.terminated] == ["sleep"]
    assert (tmp_path / "stdout.log").read_text() == "done\n"


def test_a_daemon_that_left_its_session_is_found_and_ended(tmp_path: Path) -> None:
    code = (
        "import os, time\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork(): os._exit(0)\n"
        f"    open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\n"
        "    time.sleep(300)\n"
        "os.wait()\n"
    )
    target = python(tmp_path, code)
    wait_for(tmp_path / "pid")
    ending = finish(target)
    pid = int((tmp_path / "pid").read_text())
    assert pid in [each.pid for each in ending.terminated]
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_a_command_that_ignores_sigterm_is_killed_at_the_deadline(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    target = launch(tmp_path, "sh", "-c", f"trap '' TERM; touch {ready}; while :; do sleep 0.1; done")
    wait_for(ready)
    target.signal(signal.SIGTERM)
    started = time.monotonic()
    ending = finish(target, deadline_s=1.0)
    assert time.monotonic() - started < 7
    assert ending.exit_code == 137
    assert target.pid in [each.pid for each in ending.killed]
    assert not ending.survived


def test_a_signal_reaches_the_command_alone(tmp_path: Path) -> None:
    heard, ready = tmp_path / "heard", tmp_path / "ready"
    child = f"import signal, time, sys; signal.signal(signal.SIGTERM, lambda *_: open({str(heard)!r}, 'w')); "
    child += f"open({str(ready)!r}, 'w'); time.sleep(1.5)"
    code = "import subprocess, sys, signal; signal.signal(signal.SIGTERM, lambda *_: None); "
    code += f"subprocess.Popen([sys.executable, '-c', {child!r}]).wait()"
    target = python(tmp_path, code)
    wait_for(ready)
    target.signal(signal.SIGTERM)
    assert finish(target).exit_code == 0
    assert not heard.exists()


def test_setting_kill_ends_the_waiting_at_once(tmp_path: Path) -> None:
    kill = threading.Event()
    kill.set()
    target = launch(tmp_path, "sleep", "300")
    started = time.monotonic()
    assert target.finish(grace_s=5, deadline_s=60, kill=kill).exit_code == 137
    assert time.monotonic() - started < 5


def test_a_command_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match=r"no-such-program: command not found") as caught:
        launch(tmp_path, "no-such-program")
    assert caught.value.hint


def test_a_script_with_a_missing_interpreter_is_told_apart(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    with pytest.raises(TargetError, match="interpreter does not exist"):
        launch(tmp_path, str(script))


def test_a_file_that_is_not_executable_is_a_matter_of_permission(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\n")
    with pytest.raises(PermissionMissing, match="permission denied"):
        launch(tmp_path, str(script))


def test_a_file_of_no_known_kind_is_an_error_of_the_target(tmp_path: Path) -> None:
    script = tmp_path / "program"
    script.write_bytes(b"\x00\x01not a program")
    script.chmod(0o755)
    with pytest.raises(TargetError, match=r"program: "):
        launch(tmp_path, str(script))


def test_the_tail_of_the_output_is_kept(tmp_path: Path) -> None:
    target = python(tmp_path, "for n in range(50_000): print('line', n)")
    finish(target)
    assert target.tail(2) == "line 49998\nline 49999"


def test_a_reader_that_never_reads_is_given_up_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rocscope.launch.process.READER_DEADLINE_S", 0.3)
    reader, writer = os.pipe()
    try:
        target = python(tmp_path, "import sys; sys.stdout.write('z' * 100_000)", stdout_to=writer)
        time.sleep(0.3)
        ending = finish(target)
        assert any("does not read" in note for note in ending.notes)
    finally:
        os.close(reader)  # lets the pump's thread go
        os.close(writer)


def test_a_log_that_cannot_be_made_is_told_before_the_launch(tmp_path: Path) -> None:
    (tmp_path / "stderr.log").mkdir()
    with pytest.raises(PermissionMissing, match=r"stderr\.log: Is a directory"):
        launch(tmp_path, "sleep", "60")


def test_a_slow_reader_of_a_non_blocking_pipe_gets_everything(tmp_path: Path) -> None:
    with pipe() as (out, got):
        os.set_blocking(out, False)
        assert finish(python(tmp_path, "print('w' * 900_000)", stdout_to=out)).exit_code == 0
    assert len(b"".join(got)) == 900_001
