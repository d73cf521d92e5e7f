"""What systemd is told, over a real datagram socket."""

import os
import socket
import time

import pytest

from rocscope.daemon.sd_notify import Notify


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path):
    """A socket as systemd's, and its name as systemd gives it."""
    name = str(tmp_path / "notify") if request.param == "path" else f"@rocscope-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(name.replace("@", "\0", 1) if name.startswith("@") else name)
        listening.settimeout(10)
        yield listening, name


def heard(listening):
    return listening.recv(4096).decode().split("\n")


def test_a_services_life(manager):
    listening, name = manager
    environment = {"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(os.getpid())}
    notify = Notify(environment)
    assert environment == {}, "children must not inherit the right to speak for us"
    assert notify.watchdog_s == 60
    notify.ready("8 parts run")
    assert heard(listening) == ["READY=1", "STATUS=8 parts run"]
    notify.status("8 parts run")  # nothing new: not sent
    notify.status("store full\nREADY=0")
    assert heard(listening) == ["STATUS=store full READY=0"]  # one line, whatever the text
    notify.alive()
    assert heard(listening) == ["WATCHDOG=1"]
    before = time.monotonic_ns() // 1000
    notify.reloading()
    first, second = heard(listening)
    assert first == "RELOADING=1"
    assert before <= int(second.removeprefix("MONOTONIC_USEC=")) <= time.monotonic_ns() // 1000
    notify.stopping("SIGTERM")
    assert heard(listening) == ["STOPPING=1", "STATUS=SIGTERM"]
    notify.close()
    notify.alive()  # after its end nothing is sent, and nothing fails


@pytest.mark.parametrize(
    "environment",
    [{}, {"NOTIFY_SOCKET": "vsock:2:1"}, {"NOTIFY_SOCKET": "/nonexistent/notify"}],
    ids=["none", "another-kind", "nobody-there"],
)
def test_without_a_manager_nothing_happens(environment):
    notify = Notify(environment)
    notify.ready("up")
    notify.alive()
    notify.close()
    notify.close()


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"WATCHDOG_USEC": "1000000"}, 1.0),
        ({"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}, None),  # another process's
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_whose_watchdog_it_is(environment, expected):
    assert Notify(environment).watchdog_s == expected
