"""What a process that reads foreign files is held to: not much, not for long, and nothing outside of files.

Memory, CPU time and the size of a file are limited by the kernel; a filter of system calls (seccomp) keeps it
from sockets, from other programs and from other processes, and Landlock from writing outside of its folder.
Called in the child, before it reads anything.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import resource
import signal
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict

from rocscope.daemon import write_lock

PR_SET_PDEATHSIG: Final = 1
PR_SET_SECCOMP: Final = 22
PR_SET_NO_NEW_PRIVS: Final = 38
_SECCOMP_MODE_FILTER: Final = 2
NICE: Final = 19
OPEN_FILES: Final = 256
HARD_CPU_S: Final = 5  # from the signal that can be caught to the one that cannot
_CLONE_THREAD: Final = 0x0001_0000

# instructions of classic BPF, as linux/filter.h and linux/seccomp.h have them
_LOAD: Final = 0x20  # a word of seccomp_data
_EQUAL, _AT_LEAST, _ANY_BIT = 0x15, 0x35, 0x45
_RETURN: Final = 0x06
_ALLOW: Final = 0x7FFF_0000
_REFUSE: Final = 0x0005_0000  # with an errno
_NUMBER, _ARCH, _ARGUMENT = 0, 4, 16  # offsets in seccomp_data, of little-endian machines
_X32: Final = 0x4000_0000

# numbers of system calls by machine: those refused, and those that need a look at an argument
_REFUSED: Final = {
    "x86_64": {
        "socket": 41, "connect": 42, "bind": 49, "listen": 50, "fork": 57, "vfork": 58, "execve": 59,
        "kill": 62, "ptrace": 101, "setpgid": 109, "setsid": 112, "mount": 165, "tkill": 200,
        "unshare": 272, "setns": 308, "process_vm_readv": 310, "process_vm_writev": 311, "execveat": 322,
        "pidfd_send_signal": 424, "io_uring_setup": 425, "rt_sigqueueinfo": 129, "rt_tgsigqueueinfo": 297,
        "socketpair": 53, "pidfd_open": 434, "pidfd_getfd": 438, "process_madvise": 440,
    },
    "aarch64": {
        "mount": 40, "unshare": 97, "ptrace": 117, "kill": 129, "tkill": 130, "setpgid": 154, "setsid": 157,
        "socket": 198, "bind": 200, "listen": 201, "connect": 203, "execve": 221, "setns": 268,
        "process_vm_readv": 270, "process_vm_writev": 271, "execveat": 281, "pidfd_send_signal": 424,
        "io_uring_setup": 425, "rt_sigqueueinfo": 138, "rt_tgsigqueueinfo": 240, "socketpair": 199,
        "pidfd_open": 434, "pidfd_getfd": 438, "process_madvise": 440,
    },
}  # fmt: skip
_CLONE: Final = {"x86_64": 56, "aarch64": 220}
_TGKILL: Final = {"x86_64": 234, "aarch64": 131}
_PRLIMIT: Final = {"x86_64": 302, "aarch64": 261}  # whose limits: 0, our own
_CLONE3: Final = 435
_AUDIT: Final = {"x86_64": 0xC000_003E, "aarch64": 0xC000_00B7}


class Limits(BaseModel):
    """What one child may take."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    memory_bytes: int  # of address space
    cpu_s: int
    file_bytes: int  # of any one file that it writes


def confine(limits: Limits, parent: int, *, writes: Sequence[Path] | None = None) -> bool:
    """Hold this process to ``limits`` and have it end with ``parent``; ``False`` where that is gone already.

    It is kept from sockets, other programs and other processes; with ``writes`` also from writing anywhere
    but below these folders.
    """
    os.umask(0o077)
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        return False
    os.setpriority(os.PRIO_PROCESS, 0, NICE)
    for what, soft, hard in (
        (resource.RLIMIT_AS, limits.memory_bytes, limits.memory_bytes),
        (resource.RLIMIT_CPU, limits.cpu_s, limits.cpu_s + HARD_CPU_S),
        (resource.RLIMIT_FSIZE, limits.file_bytes, limits.file_bytes),
        (resource.RLIMIT_NOFILE, OPEN_FILES, OPEN_FILES),
        (resource.RLIMIT_CORE, 0, 0),
    ):
        most = resource.getrlimit(what)[1]
        resource.setrlimit(
            what, (soft, hard) if most == resource.RLIM_INFINITY else (min(soft, most), min(hard, most))
        )
    if writes is not None:
        write_lock.allow_writes(writes)
    filter_calls()
    return True


def filter_calls() -> bool:
    """Refuse system calls that reading files does not need; ``False`` where this machine has no such filter.

    They fail with EPERM. Threads may be started, other processes may not; a signal may be sent to nobody
    but this process.
    """
    machine = platform.machine()
    if machine not in _REFUSED:
        return False
    program = _program(machine, os.getpid())
    packed = b"".join(struct.pack("<HBBI", *each) for each in program)
    code = ctypes.create_string_buffer(packed, len(packed))
    head = struct.pack("@HxxxxxxP", len(program), ctypes.addressof(code))
    told = ctypes.create_string_buffer(head, len(head))
    return _prctl(PR_SET_NO_NEW_PRIVS, 1) and _prctl(
        PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(told)
    )


def _program(machine: str, pid: int) -> list[tuple[int, int, int, int]]:
    """Return the filter: (code, jump if true, jump if false, operand); each block returns or goes on."""
    refuse, absent = _REFUSE | errno.EPERM, _REFUSE | errno.ENOSYS
    found = [
        (_LOAD, 0, 0, _ARCH),
        (_EQUAL, 1, 0, _AUDIT[machine]),
        (_RETURN, 0, 0, refuse),  # calls of another architecture
        (_LOAD, 0, 0, _NUMBER),
    ]
    if machine == "x86_64":
        found += [(_AT_LEAST, 0, 1, _X32), (_RETURN, 0, 0, refuse)]
    for number in _REFUSED[machine].values():
        found += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, refuse)]
    # the C library then calls clone, whose flags can be seen
    found += [(_EQUAL, 0, 1, _CLONE3), (_RETURN, 0, 0, absent)]
    for number, code, operand in (
        (_CLONE[machine], _ANY_BIT, _CLONE_THREAD),
        (_TGKILL[machine], _EQUAL, pid),
        (_PRLIMIT[machine], _EQUAL, 0),
    ):
        found += [
            (_EQUAL, 0, 4, number),
            (_LOAD, 0, 0, _ARGUMENT),
            (code, 0, 1, operand),
            (_RETURN, 0, 0, _ALLOW),
            (_RETURN, 0, 0, refuse),
        ]
    return [*found, (_RETURN, 0, 0, _ALLOW)]


def _prctl(what: int, value: int, more: int = 0) -> bool:
    call = ctypes.CDLL(None, use_errno=True).prctl
    return (
        int(call(what, ctypes.c_ulong(value), ctypes.c_ulong(more), ctypes.c_ulong(0), ctypes.c_ulong(0)))
        == 0
    )
