"""What a profiler backend is, and the list of all of them."""

from __future__ import annotations

import importlib
import os
import pkgutil
import re
import shutil
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Final, Protocol, runtime_checkable

from rocscope.collectors.counter_input import Counting
from rocscope.launch.ask import ask
from rocscope.launch.tree import Seen
from rocscope.launch.vllm import Server

VERSION_DEADLINE_S: Final = 20.0
PATIENCE_S: Final[ContextVar[float | None]] = ContextVar("patience_s", default=None)
"""How long a thread that cannot wait for VERSION_DEADLINE_S waits for a program's version."""

WORKER: Final = "VLLM::Worker"  # the kernel cuts names at 15 characters: these are prefixes
ENGINE: Final = "VLLM::EngineCor"


@dataclass(frozen=True)
class Found:
    """A usable profiler."""

    path: str
    version: str = ""


@dataclass(frozen=True)
class Absent:
    """Why a profiler cannot be used, and what to do about it."""

    reason: str
    hint: str = ""
    forbidden: bool = False  # it is there, but may not be run


@dataclass(frozen=True)
class Request:
    """What is to be profiled."""

    command: tuple[str, ...]  # with what vLLM needs to end in order
    environment: Mapping[str, str]
    raw: Path  # folder for the profiler's files, absolute
    found: Found
    server: Server | None = None
    server_version: str | None = None
    argument: str = ""  # after the colon of --profiler NAME:ARGUMENT
    kernels: str = ""  # those to count, for a profiler that counts unasked; "": all
    dispatches: tuple[int, int] | None = None  # likewise
    counting: Counting | None = None  # hardware counters of this launch; None: times alone


@dataclass(frozen=True)
class Plan:
    """How it is done."""

    command: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)  # additions
    files: dict[Path, str] = field(default_factory=dict)  # to be written before the launch
    folders: tuple[Path, ...] = ()  # to be made before the launch
    links: dict[Path, Path] = field(default_factory=dict)  # to be made before the launch: place to target
    launches: int | None = 1  # how often the profiler runs the command; None: it decides
    shown: tuple[str, ...] = ()  # the command as a capture is to tell it, where `command` hides part of it
    notes: tuple[str, ...] = ()


@runtime_checkable
class Backend(Protocol):
    """Runs one profiler. A module of this package exports it as ``BACKEND``."""

    name: str  # as --profiler knows it
    help: str
    order: int | None  # place in the search of --profiler auto; None: only by name or as a last resort
    counts: bool  # can take hardware counters
    injects: bool  # loads itself into the processes, so that there must be no other
    in_place: bool  # the profiler becomes the command (exec), so that signals go to its pid
    on_demand: bool  # records in a server only from start() to stop()
    takes: str  # what may stand behind its name and a colon; "": nothing

    def find(self, environment: Mapping[str, str], argument: str) -> Found | Absent:
        """Look for the profiler and try whether it runs."""
        ...

    def plan(self, request: Request) -> Plan:
        """Say what to run. Raises ``RocscopeError`` where this profiler cannot do it."""
        ...

    def start(self, request: Request) -> None:
        """Begin recording in a server that is ready, where the profiler has to be told."""
        ...

    def stop(self, request: Request) -> None:
        """End recording in a server, before it is told to end."""
        ...

    def progress(self, request: Request) -> str:
        """Say how far it is, as ``pass 3 of 23: ``; ``""`` where it runs the command once."""
        ...

    def outputs(self, request: Request) -> list[Path]:
        """Return the files to read."""
        ...

    def missing(self, request: Request, seen: Sequence[Seen]) -> list[str]:
        """Say which GPU processes left no output."""
        ...


class Base:
    """What most backends have in common."""

    order: int | None = None
    counts = False
    injects = True
    in_place = True
    on_demand = False
    takes = ""

    def start(self, request: Request) -> None:
        """Record from launch on: nothing to do."""

    def stop(self, request: Request) -> None:
        """Record until the processes end: nothing to do."""

    def progress(self, request: Request) -> str:
        """Run the command once: nothing to say."""
        return ""

    def missing(self, request: Request, seen: Sequence[Seen]) -> list[str]:
        """Miss nothing."""
        return []


@cache
def backends() -> dict[str, Backend]:
    """Return every backend by name, those of ``--profiler auto`` first."""
    import rocscope.collectors as package

    found: list[Backend] = []
    for module in pkgutil.iter_modules(package.__path__):
        if module.name.startswith("run_"):
            found.append(importlib.import_module(f"{package.__name__}.{module.name}").BACKEND)
    found.sort(key=lambda each: (each.order is None, each.order or 0, each.name))
    return {each.name: each for each in found}


def find_program(
    name: str, environment: Mapping[str, str], *, asked_in: Mapping[str, str] | None = None
) -> Found | Absent:
    """Find ``name`` on PATH or in ROCm's folders and ask it for its version, which older ones refuse.

    ``asked_in`` is the environment to ask it in, where that is another.
    """
    folders = [*environment.get("PATH", os.defpath).split(os.pathsep)]
    if environment.get("ROCM_PATH"):
        folders.append(f"{environment['ROCM_PATH']}/bin")
    folders.append("/opt/rocm/bin")
    path = shutil.which(name, path=os.pathsep.join(folders))
    if path is None:
        for folder in folders:
            if (Path(folder) / name).is_file():
                where = Path(folder) / name
                return Absent(f"{where} is not executable", f"chmod +x {where}", forbidden=True)
        return Absent(f"{name} is not installed", "install ROCm's profiler, or choose another --profiler")
    return _try(path, environment if asked_in is None else asked_in)


def _try(path: str, environment: Mapping[str, str]) -> Found | Absent:
    patience_s = PATIENCE_S.get() or VERSION_DEADLINE_S
    try:
        answer = ask([path, "--version"], environment=environment, timeout_s=patience_s)
    except OSError as error:
        return Absent(f"{path}: {error.strerror}", "reinstall ROCm's profiler")
    if answer is None:
        return Absent(f"{path} --version did not answer in {patience_s:g} s", "run it by hand")
    text = answer.stdout + answer.stderr
    match = re.search(r"\bversion:?\s*v?(\d+(?:\.\d+)+)", text)
    if match:
        return Found(path, match[1])
    if answer.exit_code == 0 or re.search(r"\busage\b|unrecognized|invalid option|Wrong option", text, re.I):
        return Found(path)
    last = text.strip().splitlines()[-1:] or ["no output"]
    return Absent(f"{path} does not run: {last[0]}", "reinstall ROCm's profiler, or choose another one")


def gpu_processes(seen: Sequence[Seen]) -> list[Seen]:
    """Return the processes that must have launched kernels.

    vLLM launches them in its workers, and in the engine core where there are none; any other process is
    known by the GPU device that it held open.
    """
    workers = [each for each in seen if each.name.startswith(WORKER)]
    engines = [each for each in seen if each.name.startswith(ENGINE)]
    by_name = workers or engines
    return [each for each in seen if each in by_name or (each.uses_gpu and not by_name)]


def describe(process: Seen) -> str:
    """Name a process for a message."""
    return f"{process.name or 'process'} (pid {process.pid})"
