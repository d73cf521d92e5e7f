"""What a service tells systemd, by its notify protocol (sd_notify(3)): datagrams to a Unix socket."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import MutableMapping
from typing import Final

SOCKET: Final = "NOTIFY_SOCKET"
WATCHDOG: Final = ("WATCHDOG_USEC", "WATCHDOG_PID")


class Notify:
    """The way to the service manager; without one, nothing is sent.

    The variables are taken out of the environment: a child that inherited them could speak in our name.
    """

    def __init__(self, environment: MutableMapping[str, str] | None = None) -> None:
        taken = os.environ if environment is None else environment
        self._address = taken.pop(SOCKET, "")
        period, pid = (taken.pop(name, "") for name in WATCHDOG)
        ours = pid in ("", str(os.getpid()))
        self.watchdog_s = int(period) / 1e6 if ours and period.isdigit() and int(period) > 0 else None
        """How long systemd waits for a sign of life; ``None`` where it does not."""
        self._socket: socket.socket | None = None
        self._status = ""
        if self._address.startswith(("/", "@")):
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)

    def ready(self, status: str) -> None:
        """Say that the service is up, also after a reload."""
        self._status = status
        self._send("READY=1", f"STATUS={status}")

    def status(self, text: str) -> None:
        """Say in a line how the service does, for ``systemctl status``; only where it changed."""
        if text != self._status:
            self._status = text
            self._send(f"STATUS={text}")

    def alive(self) -> None:
        """Give a sign of life."""
        self._send("WATCHDOG=1")

    def reloading(self) -> None:
        """Say that the settings are read again; :meth:`ready` has to follow."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self, why: str) -> None:
        """Say that the service ends."""
        self._send("STOPPING=1", f"STATUS={why}")

    def close(self) -> None:
        """Let go of the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, *lines: str) -> None:
        if self._socket is None:
            return
        text = "\n".join(line.replace("\n", " ") for line in lines)
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            self._socket.sendto(text.encode("utf-8", "replace"), address)
        except OSError:
            return  # a manager that does not listen must not end the service
