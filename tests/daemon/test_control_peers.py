"""Who may use the control socket, by the kernel's own word, with real users."""

import json
import os
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

import pytest
from test_control import daemon

from rocscope.daemon import control_client
from rocscope.daemon.control_protocol import AskStatus

NOBODY = 65_534
ASK = """
import socket, sys
with socket.socket(socket.AF_UNIX) as connection:
    connection.settimeout(10)
    connection.connect(sys.argv[1])
    connection.sendall(b'{"command": "window", "force": true}\\n')
    print(connection.makefile().readline())
"""
python = shutil.which("python3", path="/usr/bin:/usr/local/bin")
root = pytest.mark.skipif(os.geteuid() != 0 or python is None, reason="needs root, to be another user")


@pytest.fixture
def place():
    """A folder that other users can reach."""
    made = Path(tempfile.mkdtemp(prefix="rocscope-", dir="/tmp"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


def asked_as(uid, path):
    words = [python, "-I", "-S", "-c", ASK, str(path)]
    return subprocess.run(
        words, user=uid, group=uid, extra_groups=[], cwd="/", capture_output=True, timeout=20
    )


@root
def test_another_user_does_not_reach_the_socket_and_is_refused_where_the_mode_is_opened(tmp_path, place):
    path = place / "control.sock"
    with daemon(tmp_path, control={"socket": path}):
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        assert b"PermissionError" in asked_as(NOBODY, path).stderr
        path.chmod(0o666)
        reply = json.loads(asked_as(NOBODY, path).stdout)
        assert reply["ok"] is False and "may not control the daemon" in reply["error"]
        assert control_client.ask(path, AskStatus())["windows"]["open"] is None
