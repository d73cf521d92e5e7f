"""Passing a command's output through, byte for byte, while keeping a copy."""

from __future__ import annotations

import os
import select
import threading
from collections import deque
from pathlib import Path
from typing import Final

CHUNK: Final = 1 << 16
MAX_LOG_BYTES: Final = 1 << 30
TAIL_BYTES: Final = 1 << 14
END_OF_FILE_S: Final = 0.05  # it comes at once unless somebody holds the pipe open


class Pump:
    """A thread that copies one pipe to a descriptor of ours and to a log file.

    It ends at end of file, or soon after ``stop``: a pipe that a stray process keeps open is not waited
    for. A reader of ours that went away, or a full disk, stops only the copy it concerns.
    """

    def __init__(self, source: int, forward_to: int | None, log: Path) -> None:
        self._source = source
        self._forward_to = forward_to
        self._log = log.open("wb", buffering=0)
        self._logged = 0
        self._tail: deque[bytes] = deque()
        self._tail_bytes = 0
        self._stop_reader, self._stop_writer = os.pipe()
        self._stopped = False
        self.log_error = ""
        self._thread = threading.Thread(target=self._run, name=f"pump-{log.name}", daemon=True)
        self._thread.start()

    def tail(self, lines: int = 20) -> str:
        """Return the last lines of output as text."""
        text = b"".join(self._tail).decode("utf-8", "replace")
        return "\n".join(text.splitlines()[-lines:])

    def stop(self, deadline_s: float) -> bool:
        """Take what is in the pipe already, end, and tell whether that was done within ``deadline_s``.

        A thread that hangs in a write to a reader of ours is left behind; it ends with our process.
        """
        self.join(END_OF_FILE_S)
        if not self._stopped:
            self._stopped = True
            os.close(self._stop_writer)  # wakes the thread if it waits
        return self.join(deadline_s)

    def join(self, deadline_s: float) -> bool:
        """Wait for end of file for at most ``deadline_s``; tell whether it came."""
        self._thread.join(deadline_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._copy()
        finally:
            os.close(self._source)
            os.close(self._stop_reader)
            self._log.close()

    def _copy(self) -> None:
        poll = select.poll()  # not select(), which fails where a process has many files open
        for descriptor in (self._source, self._stop_reader):
            poll.register(descriptor, select.POLLIN)
        while True:
            ready = {descriptor for descriptor, _ in poll.poll()}
            if self._source not in ready:  # told to stop, and nothing left that was written before
                return
            data = os.read(self._source, CHUNK)
            if not data:
                return
            self._keep(data)
            self._forward(data)
            if self._stop_reader in ready and len(data) < CHUNK:
                return

    def _keep(self, data: bytes) -> None:
        self._tail.append(data)
        self._tail_bytes += len(data)
        while self._tail_bytes - len(self._tail[0]) > TAIL_BYTES:
            self._tail_bytes -= len(self._tail.popleft())
        if self.log_error:
            return
        try:
            view = memoryview(data)
            while view:
                view = view[self._log.write(view) :]
        except OSError as error:
            self.log_error = f"{self._log.name}: {error.strerror}; the rest of the output was not saved"
            return
        self._logged += len(data)
        if self._logged > MAX_LOG_BYTES:
            self.log_error = f"{self._log.name}: cut at {self._logged} bytes"

    def _forward(self, data: bytes) -> None:
        if self._forward_to is None:
            return
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._forward_to, view) :]
            except BlockingIOError:  # somebody made it non-blocking: wait until it takes more
                waiting = select.poll()
                waiting.register(self._forward_to, select.POLLOUT)
                waiting.poll()
            except OSError:  # closed by whoever read it; the command is not to notice
                self._forward_to = None
                return
