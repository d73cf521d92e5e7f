"""A child that does what none should, after it was confined as the real one is; its last word says how."""

import ctypes
import json
import os
import sys
import time
from pathlib import Path

from rocscope.daemon import write_lock
from rocscope.daemon.confinement import Limits, confine
from rocscope.daemon.result import FILES


def main(how, parent):
    orders = json.loads(sys.stdin.buffer.readline())
    assert confine(Limits.model_validate(orders["limits"]), parent, writes=[Path.cwd()])
    work = Path(orders.get("result") or "./result").parent
    WAYS[how](work, work / "result")


def hang(work, result):
    (work / "began").write_text("")
    time.sleep(600)


def crash(work, result):
    ctypes.string_at(0)


def hungry(work, result):
    kept = []
    try:
        while True:
            kept.append(bytearray(16 << 20))
    except MemoryError:
        kept.clear()
        raise


def busy(work, result):
    while True:
        pass


def endless(work, result):
    for number in range(1 << 30):
        (work / f"part{number}").write_bytes(bytes(1 << 20))
        time.sleep(0.005)


def one_file(work, result):
    with (work / "big").open("wb") as stream:
        while True:
            stream.write(bytes(1 << 20))


def talks(work, result):
    while True:
        print("x" * 4096, flush=True)


def lies(work, result):
    result.mkdir()
    for name in FILES:
        (result / name).write_text('{"window_id": "another"}')
    print(json.dumps({"done": True}))


def link(work, result):
    result.mkdir()
    for name in FILES:
        (result / name).symlink_to("/etc/passwd")
    print(json.dumps({"done": True}))


def escapes(work, result):
    print(json.dumps({"failed": ", ".join(tried())}))
    sys.exit(1)


def outside():
    """Give attempts on what lies outside of the window's folder."""
    return (
        ("file elsewhere", lambda: Path("../escaped").write_text("")),
        ("link elsewhere", lambda: Path("../escaped").symlink_to("/")),
        ("change elsewhere", lambda: os.truncate("../../store.sqlite", 0)),
        ("removal elsewhere", Path("../../lock").unlink),
        ("the daemon's memory", lambda: Path(f"/proc/{os.getppid()}/mem").open("rb").close()),
    )


def tried():
    """Try what is forbidden; return what was possible."""
    import resource
    import signal
    import socket
    import subprocess
    import threading

    def forked():
        if os.fork() == 0:
            os._exit(0)

    def libc(code):
        if code:
            raise OSError(ctypes.get_errno(), "refused")

    possible = []
    for name, attempt in (
        ("socket", socket.socket),
        ("unix socket", lambda: socket.socket(socket.AF_UNIX)),
        ("program", lambda: subprocess.run(["/bin/true"])),
        ("fork", forked),
        ("signal", lambda: os.kill(os.getppid(), 0)),
        ("own session", os.setsid),
        ("queued signal", lambda: libc(ctypes.CDLL(None, use_errno=True).sigqueue(os.getppid(), 0, None))),
        ("process as a file", lambda: os.pidfd_open(os.getppid())),
        ("pair of sockets", socket.socketpair),
        ("the parent's limits", lambda: resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE)),
        *(outside() if write_lock.version() >= 1 else ()),
        ("limit", lambda: resource.setrlimit(9, (1 << 40, 1 << 40))),
    ):
        try:
            attempt()
            possible.append(name)
        except (OSError, ValueError):
            pass
    thread = threading.Thread(target=lambda: possible.append("thread"))
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    return possible


WAYS = {
    "hang": hang,
    "crash": crash,
    "hungry": hungry,
    "busy": busy,
    "endless": endless,
    "one-file": one_file,
    "talks": talks,
    "lies": lies,
    "link": link,
    "escapes": escapes,
}

if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
