"""Every error a user can meet, each with its exit code and the next step to take.

    RocscopeError
    ├── UsageError            2   the command line does not make sense
    ├── InputError            3   a file or capture cannot be used
    │   ├── NoKernels         4   it was read, and holds no GPU kernels
    │   ├── NotFound         13
    │   ├── EmptyInput       14
    │   ├── DamagedInput     15   cut short or overwritten, with nothing left to use
    │   └── UnknownFormat    16   no reader knows it
    ├── UnknownGpu            5
    ├── ProfilerMissing       6   no profiler, or not the one that was asked for
    ├── PermissionMissing     7   a device, file or counter is out of reach
    ├── TargetError           8   the command could not be run to its end
    │   ├── TargetNotReady    9
    │   ├── TargetDied       10
    │   └── PortTaken        17
    ├── DataLost             11   a GPU process left no output
    ├── RegressionFound      12   `compare --fail-on-regression`
    ├── CheckFailed          18   `doctor --validate`: something read is not what must be true
    ├── NotJudged            19   `compare --fail-on-regression` could not tell
    ├── DaemonRunning        20   another daemon has this state folder
    ├── DaemonNotRunning     21   no daemon answers on the control socket
    └── StoreError           22   the daemon's state folder or store cannot be used

The library raises; only ``cli.main`` prints and exits. Exit codes of the target program itself are
passed through by ``profile``; a target's code is never one of ours by accident, because ours are
printed with the message.
"""

from __future__ import annotations

from typing import ClassVar


class RocscopeError(Exception):
    """Base of all errors that end a command; ``message`` says what, ``hint`` says what to do next."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(RocscopeError):
    """Options or arguments that contradict each other or are out of range."""

    exit_code = 2


class InputError(RocscopeError):
    """A recording, capture, table or config that cannot be used; names file, line or field."""

    exit_code = 3


class NotFound(InputError):
    """No file or folder of that name."""

    exit_code = 13


class EmptyInput(InputError):
    """A file without content, or a folder without a file."""

    exit_code = 14


class DamagedInput(InputError):
    """A file that was cut short or overwritten, with nothing left that can be used."""

    exit_code = 15


class UnknownFormat(InputError):
    """No reader recognises the content of a file."""

    exit_code = 16


class NoKernels(InputError):
    """Everything was readable, and no GPU kernel is in it."""

    exit_code = 4


class UnknownGpu(RocscopeError):
    """The GPU is not in the table, and no ``--gpu`` says which it is."""

    exit_code = 5


class ProfilerMissing(RocscopeError):
    """No usable profiler on this machine, or not the one asked for."""

    exit_code = 6


class PermissionMissing(RocscopeError):
    """The system refuses what a profiler or sampler needs."""

    exit_code = 7


class TargetError(RocscopeError):
    """The command under profile could not be launched or run to its end."""

    exit_code = 8


class TargetNotReady(TargetError):
    """The server did not answer its health check before the deadline."""

    exit_code = 9


class TargetDied(TargetError):
    """The command ended before profiling began."""

    exit_code = 10


class PortTaken(TargetError):
    """Another program listens where the server would."""

    exit_code = 17


class DataLost(RocscopeError):
    """A process that used the GPU left no profiler output."""

    exit_code = 11


class RegressionFound(RocscopeError):
    """``compare --fail-on-regression`` found one."""

    exit_code = 12


class NotJudged(RocscopeError):
    """``compare --fail-on-regression`` could not tell: not comparable, nothing judged, or too much noise."""

    exit_code = 19


class CheckFailed(RocscopeError):
    """``doctor --validate`` read something that is not what must be true."""

    exit_code = 18


class DaemonRunning(RocscopeError):
    """Another daemon uses the same state folder."""

    exit_code = 20


class DaemonNotRunning(RocscopeError):
    """No daemon answers on the control socket."""

    exit_code = 21


class StoreError(RocscopeError):
    """The daemon's state folder or store cannot be used: now, or not at all."""

    exit_code = 22
