"""The control socket: who may ask, what may be asked, and what the commands print."""

import asyncio
import contextlib
import json
import os
import socket
import stat
import threading

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from making import make_context, running, told, until

from rocscope.cli import cli, run
from rocscope.daemon import control, control_client
from rocscope.daemon.context import Reloaded
from rocscope.daemon.control import Control, Peer, may
from rocscope.daemon.control_protocol import AskStatus, AskWindow
from rocscope.daemon.settings import Settings
from rocscope.daemon.state_dir import StateDir
from rocscope.daemon.store import Store
from rocscope.daemon.wall_clock import WallClock
from rocscope.daemon.windows import Windows
from rocscope.errors import DaemonNotRunning


@contextlib.contextmanager
def daemon(tmp_path, **more):
    """Run store, windows and control socket in a thread of their own; give the context."""
    given = {"state": {"folder": tmp_path / "s"}, "windows": {"every_s": 86_400}, **more}
    settings = Settings.model_validate(given)
    ready, ended, box = threading.Event(), [], {}

    async def serve():
        with StateDir.claim(settings.state.folder) as folder:
            store = Store.open(folder, WallClock())
            context = make_context(settings, store=store)

            async def reload():
                return Reloaded(changed=("windows.every_s",), needs_restart=("http.listen",))

            context.reload = reload
            part, windows = Control(context), Windows(context)
            context.parts = {"windows": windows, "control": part}
            box.update(context=context, stop=asyncio.Event(), loop=asyncio.get_running_loop())
            async with running(windows), running(part):
                await until(lambda: part.listening, "the socket is there")
                ready.set()
                await box["stop"].wait()
            store.close()

    def work():
        try:
            asyncio.run(serve())
        except BaseException as error:  # noqa: BLE001
            ended.append(error)
            ready.set()

    thread = threading.Thread(target=work)
    thread.start()
    assert ready.wait(20) and not ended, ended
    try:
        yield box["context"]
    finally:
        box["loop"].call_soon_threadsafe(box["stop"].set)
        thread.join(20)
    assert not ended, ended


def invoke(context, *words):
    return CliRunner().invoke(cli, [*words, "--state", str(context.settings.state.folder)])


def send(context, raw):
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(str(context.settings.control_socket))
        connection.sendall(raw)
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_WR)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    return json.loads(answer)


def test_commands_reach_the_daemon_and_say_what_came_of_it(tmp_path):
    with daemon(tmp_path) as context:
        path = context.settings.control_socket
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        status = invoke(context, "status")
        assert status.exit_code == 0, status.output
        assert "on node" in status.output and "windows" in status.output and "servers: none" in status.output
        found = json.loads(invoke(context, "status", "--json").output)
        assert found["windows"]["paused"] is False and found["store"]["state"] == "ok"
        assert "for 7200 s" in invoke(context, "pause", "2h").output
        assert json.loads(invoke(context, "status", "--json").output)["windows"]["paused"] is True
        assert "paused" in invoke(context, "status").output
        assert invoke(context, "resume").exit_code == 0
        assert "until" in invoke(context, "pause").output
        assert json.loads(invoke(context, "resume", "--json").output) == {}
        reloaded = invoke(context, "reload").output
        assert "windows.every_s" in reloaded and "after a restart: http.listen" in reloaded
        assert "by " in told(context)


def test_a_refusal_is_an_error_with_what_to_do_next(tmp_path, capsys):
    with daemon(tmp_path) as context:
        state = str(context.settings.state.folder)
        assert run(["window", "--state", state]) == 1
        said = capsys.readouterr().err
        assert "no engine is up" in said and "next:" in said
        assert run(["window", "--profile", "x; rm -rf /", "--state", state]) == 1
        assert "no profile" in capsys.readouterr().err
        assert run(["window", "--seconds", "soon", "--state", state]) == 2
        assert "write for example 90s" in capsys.readouterr().err


def test_a_store_that_takes_nothing_is_no_silence(tmp_path):
    with daemon(tmp_path) as context:
        assert context.store.close()
        with pytest.raises(control_client.Refused, match="no engine is up"):
            control_client.ask(context.settings.control_socket, AskWindow())
        assert control_client.ask(context.settings.control_socket, AskStatus())["windows"]["open"] is None


def test_without_a_daemon_that_is_said(tmp_path, capsys):
    assert run(["status", "--state", str(tmp_path)]) == DaemonNotRunning.exit_code
    assert "rocscope daemon" in capsys.readouterr().err
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "control.sock"))
    assert run(["status", "--state", str(tmp_path)]) == DaemonNotRunning.exit_code


@pytest.mark.parametrize(
    "raw",
    [
        b"\n", b"{}\n", b"null\n", b'{"command": "exec", "argv": ["id"]}\n', b"\xff\xfe\n", b"status",
        b'{"command": "window", "path": "/etc/shadow"}\n', b'{"command": "window", "window_s": "2"}\n',
        b'{"command": "pause", "for_s": -1}\n', b'{"command": "pause", "for_s": 1e999}\n',
        b'{"command": "window", "engine": "' + b"x" * 400 + b'"}\n', b"x" * 200_000 + b"\n",
        b"[" * 5000 + b"\n",
    ],
)  # fmt: skip
def test_what_is_no_question_gets_an_error_and_the_next_is_answered(tmp_path, raw):
    with daemon(tmp_path) as context:
        try:
            reply = send(context, raw)
        except OSError:
            reply = {"ok": False, "error": "closed"}
        assert reply["ok"] is False and reply["error"]
        assert control_client.ask(context.settings.control_socket, AskStatus())["node"] == "node"


@given(st.binary(max_size=300))
def test_no_bytes_break_it(shared_daemon, raw):
    with contextlib.suppress(OSError, ValueError):
        send(shared_daemon, raw + b"\n")
    assert control_client.ask(shared_daemon.settings.control_socket, AskStatus())["pid"] == 1


@pytest.fixture(scope="module")
def shared_daemon(tmp_path_factory):
    with daemon(tmp_path_factory.mktemp("control")) as context:
        yield context


def test_who_is_silent_is_let_go_and_keeps_nobody_out(tmp_path, monkeypatch):
    monkeypatch.setattr(control, "QUESTION_S", 0.5)
    with daemon(tmp_path) as context:
        path = str(context.settings.control_socket)
        silent = [socket.socket(socket.AF_UNIX) for _ in range(6)]
        for each in silent:
            each.connect(path)
        assert control_client.ask(context.settings.control_socket, AskStatus())
        silent[0].settimeout(10)
        assert b"no question came" in silent[0].recv(4096)
        for each in silent:
            each.close()


def test_only_root_the_own_user_and_the_group_may(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 4242)
    assert may(Peer(1, 0, 0), "nogroup") and may(Peer(1, 4242, 5), "nogroup")
    assert not may(Peer(1, 777, 777), "no-such-group")
    import grp

    group = grp.getgrgid(0)
    assert may(Peer(1, 777, 0), group.gr_name) and not may(Peer(1, 777, 777), group.gr_name)


def test_a_stranger_is_refused_and_only_root_may_force(tmp_path, monkeypatch):
    with daemon(tmp_path) as context:
        monkeypatch.setattr(control, "peer_of", lambda connection: Peer(1, 777, 777))
        with pytest.raises(control_client.Refused, match="may not control"):
            control_client.ask(context.settings.control_socket, AskStatus())
        monkeypatch.setattr(control, "may", lambda peer, group: True)
        with pytest.raises(control_client.Refused, match="only root"):
            control_client.ask(context.settings.control_socket, AskWindow(force=True))
        assert "was refused" in told(context)


def test_a_socket_of_a_killed_daemon_is_replaced_and_a_file_is_not(tmp_path):
    (tmp_path / "s").mkdir(mode=0o750)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "s" / "control.sock"))
    with daemon(tmp_path) as context:
        assert control_client.ask(context.settings.control_socket, AskStatus())
    assert not (tmp_path / "s" / "control.sock").exists()
    (tmp_path / "s" / "control.sock").write_text("precious")
    with pytest.raises(OSError, match="no socket"):
        control._listen(tmp_path / "s" / "control.sock", Settings())
    assert (tmp_path / "s" / "control.sock").read_text() == "precious"


def test_a_garbled_answer_is_no_traceback(tmp_path):
    path = tmp_path / "x.sock"

    def answer(listening):
        connection, _ = listening.accept()
        with connection:
            connection.recv(1000)
            connection.sendall(b"hello\n")

    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        thread = threading.Thread(target=answer, args=(listening,))
        thread.start()
        with pytest.raises(DaemonNotRunning, match="JSON"):
            control_client.ask(path, AskStatus())
        thread.join()
