"""One launched command: started in its own session, its output passed through, ended in order."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from rocscope.errors import PermissionMissing, TargetError
from rocscope.launch.streams import Pump
from rocscope.launch.tree import MARK, Seen, Tree

POLL_S: Final = 0.2
KILL_DEADLINE_S: Final = 5.0
READER_DEADLINE_S: Final = 30.0


@dataclass
class Ending:
    """How the processes of a command went."""

    exit_code: int  # of the command itself, 128+n for a signal
    terminated: list[Seen] = field(default_factory=list)  # stray processes that had to be told to end
    killed: list[Seen] = field(default_factory=list)  # needed SIGKILL: their data may be cut
    survived: list[Seen] = field(default_factory=list)  # beyond our power
    notes: list[str] = field(default_factory=list)


class Target:
    """The command under profile and all processes that come from it."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        logs: Path,
        name: str = "",
        stdout_to: int | None = 1,
        stderr_to: int | None = 2,
    ) -> None:
        """Start ``command``; ``logs`` gets ``[name-]stdout.log`` and ``[name-]stderr.log``.

        Raises :class:`TargetError` where the command does not exist and :class:`PermissionMissing` where
        it may not be run.
        """
        self.command = tuple(command)
        mark = uuid.uuid4().hex
        prefix = f"{name}-" if name else ""
        with contextlib.ExitStack() as writers:  # closed here once the command has its own copies
            out_writer, self._out = _piped(writers, stdout_to, logs / f"{prefix}stdout.log")
            err_writer, self._err = _piped(writers, stderr_to, logs / f"{prefix}stderr.log")
            try:
                self._popen = subprocess.Popen(
                    self.command,
                    env={**environment, MARK: mark},
                    stdout=out_writer,
                    stderr=err_writer,
                    start_new_session=True,
                )
            except OSError as error:
                raise _launch_error(self.command, error) from error
        self.pid = self._popen.pid
        self.started = time.monotonic()
        self.tree = Tree(self.pid, mark)
        self.tree.refresh()
        self.changed = threading.Event()  # set when the command ends, and by whoever wants `wait` to return
        self._waiter = threading.Thread(target=self._wait_for_end, name=f"wait-{self.pid}", daemon=True)
        self._waiter.start()

    def _wait_for_end(self) -> None:
        self._popen.wait()
        self.changed.set()

    @property
    def running(self) -> bool:
        """Whether the command itself still runs; processes it left behind do not count."""
        return self._popen.returncode is None

    @property
    def exit_code(self) -> int | None:
        """The command's exit code, 128+n where signal n ended it, ``None`` while it runs."""
        code = self._popen.returncode
        return None if code is None else 128 - code if code < 0 else code

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the command itself and to nothing else."""
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                self._popen.send_signal(number)

    def wait(self, timeout_s: float | None) -> bool:
        """Wait until the command ends, ``changed`` is set or the time is up; tell whether it ended."""
        self.changed.wait(timeout_s)
        return not self.running

    def tail(self, lines: int = 20) -> str:
        """Return the last lines of the command's output, stderr after stdout."""
        for pump in (self._out, self._err):
            pump.join(0.2 if not self.running else 0)
        return "\n".join(text for text in (self._out.tail(lines), self._err.tail(lines)) if text)

    def finish(self, *, grace_s: float, deadline_s: float, kill: threading.Event | None = None) -> Ending:
        """Wait for the command and all its processes; leave none running.

        The command has ``deadline_s`` to end. Processes it leaves behind have ``grace_s`` to end by
        themselves, then are told to with SIGTERM; what still runs at ``deadline_s`` is killed. ``kill``,
        once set, ends the waiting. Returns within ``deadline_s`` plus the few seconds that killing takes.
        """
        end = time.monotonic() + deadline_s
        ending = Ending(exit_code=0)
        self._until(end, kill, lambda: not self.running)
        self.tree.sweep()
        if not self.running:
            self._until(min(end, time.monotonic() + grace_s), kill, lambda: not self.tree.alive())
            ending.terminated = self.tree.alive()
            if ending.terminated:
                self.tree.signal(signal.SIGTERM)
                self._until(end, kill, lambda: not self.tree.alive())
        self._kill(ending)
        self._waiter.join(KILL_DEADLINE_S)
        for pump in (self._out, self._err):
            if not pump.stop(READER_DEADLINE_S):
                ending.notes.append("the end of the output was not passed on: its reader does not read")
            if pump.log_error:
                ending.notes.append(pump.log_error)
        code = self.exit_code
        ending.exit_code = 128 + signal.SIGKILL if code is None else code
        return ending

    def _until(self, end: float, kill: threading.Event | None, done: Callable[[], bool]) -> None:
        """Wait until ``done``, refreshing the tree now and then so that no process goes unseen."""
        pause = 0.005
        while not done() and not (kill and kill.is_set()):
            left = end - time.monotonic()
            if left <= 0:
                return
            self.changed.clear()
            if self.running:
                self.changed.wait(min(left, POLL_S))
            else:
                time.sleep(min(left, pause))
                pause = min(pause * 2, POLL_S)
            self.tree.refresh()

    def _kill(self, ending: Ending) -> None:
        """Kill what is left, again and again for a while, since a dying process may have forked."""
        end = time.monotonic() + KILL_DEADLINE_S
        while time.monotonic() < end:
            self.tree.sweep()
            alive = self.tree.alive()
            if not alive:
                return
            ending.killed += [each for each in alive if each not in ending.killed]
            self.tree.signal(signal.SIGKILL)
            time.sleep(0.05)
        ending.survived = self.tree.alive()


def _piped(writers: contextlib.ExitStack, forward_to: int | None, log: Path) -> tuple[int, Pump]:
    reader, writer = os.pipe()
    writers.callback(os.close, writer)
    try:
        return writer, Pump(reader, forward_to, log)
    except OSError as error:
        os.close(reader)
        raise PermissionMissing(f"{log}: {error.strerror}", "name another folder for the output") from error


def check_program(program: str, environment: Mapping[str, str]) -> None:
    """Find out before a profiler runs that it would have nothing to run.

    Raises :class:`TargetError` where there is no such program and :class:`PermissionMissing` where it may
    not be run, as :class:`Target` does for the program that it starts itself.
    """
    if shutil.which(program, path=environment.get("PATH", os.defpath)) is not None:
        return
    if Path(program).is_dir():
        raise PermissionMissing(f"{program} is a folder", "name a program in it")
    if os.sep in program and Path(program).exists():
        raise _launch_error((program,), PermissionError())
    raise TargetError(f"{program}: command not found", "check the spelling and PATH")


def _launch_error(command: Sequence[str], error: OSError) -> TargetError | PermissionMissing:
    program = command[0]
    if isinstance(error, FileNotFoundError):
        if Path(program).exists():
            return TargetError(
                f"{program}: its interpreter does not exist", "look at the script's first line"
            )
        return TargetError(f"{program}: command not found", "check the spelling and PATH")
    if isinstance(error, PermissionError):
        return PermissionMissing(f"{program}: permission denied", "make it executable: chmod +x")
    return TargetError(f"{program}: {error.strerror}", "run the command by itself first")
