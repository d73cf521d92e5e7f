"""Waiting for a server: ready, never ready, dead at once, port taken, given up."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rocscope.errors import PortTaken, TargetDied, TargetNotReady
from rocscope.launch.process import Target
from rocscope.launch.readiness import Address, check_free, wait_until_ready

SERVER = """
import http.server, sys, time
status, port, delay = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
time.sleep(delay)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(status); self.end_headers()
    def log_message(self, *_): pass
print("listening soon", flush=True)
http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def run(tmp_path: Path) -> Iterator[list[Target]]:
    targets: list[Target] = []
    yield targets
    for target in targets:
        target.finish(grace_s=0, deadline_s=0)


def start(targets: list[Target], tmp_path: Path, *command: str) -> Target:
    target = Target(command, environment=dict(os.environ), logs=tmp_path, stdout_to=None, stderr_to=None)
    targets.append(target)
    return target


def wait(target: Target, port: int, timeout_s: float = 20, stopped: bool = False) -> bool:
    return wait_until_ready(
        target,
        Address("127.0.0.1", port),
        timeout_s=timeout_s,
        stopped=lambda: stopped,
        progress=lambda _: None,
    )


def test_a_server_that_comes_up_is_waited_for(run: list[Target], tmp_path: Path, port: int) -> None:
    assert wait(start(run, tmp_path, sys.executable, "-c", SERVER, "200", str(port), "0.3"), port)


def test_a_server_that_never_says_ok_is_named_with_its_last_answer(
    run: list[Target], tmp_path: Path, port: int
) -> None:
    target = start(run, tmp_path, sys.executable, "-c", SERVER, "503", str(port), "0")
    with pytest.raises(TargetNotReady, match=r"HTTP 503.*\n.*listening soon") as caught:
        wait(target, port, timeout_s=2)
    assert "--ready-timeout" in caught.value.hint


def test_a_server_that_dies_is_shown_with_its_last_words(
    run: list[Target], tmp_path: Path, port: int
) -> None:
    target = start(run, tmp_path, "sh", "-c", "echo out of memory >&2; exit 3")
    with pytest.raises(TargetDied, match=r"code 3 .*\n.*out of memory"):
        wait(target, port)


def test_giving_up_is_no_error(run: list[Target], tmp_path: Path, port: int) -> None:
    assert not wait(start(run, tmp_path, "sleep", "60"), port, stopped=True)


def test_a_port_that_is_taken_is_told_before_the_launch() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortTaken, match=f"port {port} on 127.0.0.1 is taken") as caught:
            check_free(Address("127.0.0.1", port))
        assert "--port" in caught.value.hint
    check_free(Address("127.0.0.1", port))


def test_a_unix_socket_is_asked_too(run: list[Target], tmp_path: Path) -> None:
    path = tmp_path / "socket"
    code = SERVER.replace(
        'http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()',
        "import socketserver\n"
        "class Unix(socketserver.UnixStreamServer):\n"
        "    def get_request(self):\n"
        "        request, _ = super().get_request()\n"
        "        return request, ('local', 0)\n"
        f"Unix({str(path)!r}, Handler).serve_forever()",
    )
    target = start(run, tmp_path, sys.executable, "-c", code, "200", "0", "0")
    address = Address("127.0.0.1", 0, socket_path=str(path))
    assert wait_until_ready(target, address, timeout_s=20, stopped=lambda: False, progress=lambda _: None)
