"""A real daemon in a process of its own, on a node made of a synthetic tree of GPUs' files."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time

import psutil
from synthetic_sysfs import MI100, card, table


class DaemonProcess:
    """Started by :meth:`start`; talks to a notify socket as systemd's. ``log`` is its standard error."""

    def __init__(self, folder, *, gpus=1, before=()):
        self.folder, self.config = folder, folder / "rocscope.toml"
        self.before = before  # words in front of the command
        self.log_path, self.state = folder / "log", folder / "state"
        self.config.write_text(
            f"[state]\nfolder = '{self.state}'\n[http]\nlisten = '127.0.0.1:0'\n"
            "[engines]\ndiscover = false\n[sampling]\ntelemetry = 'sysfs'\nhz = 2\n"
        )
        for index in range(gpus):
            card(folder / "sys", index, blob=table(3, MI100), node=index + 1)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(folder / "notify"))
        self.socket.settimeout(60)
        self.process = None

    def start(self, *options, wait=True, watchdog_s=None):
        environment = {
            **os.environ,
            "ROCSCOPE_SYSFS": str(self.folder / "sys"),
            "NOTIFY_SOCKET": str(self.folder / "notify"),
        }
        self._let_go()
        if watchdog_s:
            environment["WATCHDOG_USEC"] = str(int(watchdog_s * 1e6))
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *self.before,
                    sys.executable,
                    "-m",
                    "rocscope",
                    "daemon",
                    "--config",
                    str(self.config),
                    *options,
                ],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        if wait:
            self.hear("READY=1")
        return self

    def hear(self, wanted):
        """Return the message of the daemon that has this line; those before are dropped."""
        end = time.monotonic() + 60
        while time.monotonic() < end:
            message = self.socket.recv(4096).decode().split("\n")
            if wanted in message:
                return message
        raise AssertionError(f"never heard {wanted}: {self.log}")

    @property
    def log(self):
        return self.log_path.read_text() if self.log_path.exists() else ""

    def children(self):
        return psutil.Process(self.process.pid).children(recursive=True)

    def until(self, condition, what, timeout_s=30.0):
        end = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < end, f"never: {what}\n{self.log}"
            time.sleep(0.02)

    def until_logged(self, text):
        self.until(lambda: text in self.log, text)

    def end(self, number=signal.SIGTERM):
        """Signal it; return its exit code."""
        self.process.send_signal(number)
        return self.process.wait(30)

    def close(self):
        self._let_go()
        self.socket.close()

    def _let_go(self):
        """Forget the process before, which has ended or does now."""
        if self.process is not None:
            with contextlib.suppress(OSError):
                self.process.kill()
            self.process.wait(10)
            self.process.stdout.close()
