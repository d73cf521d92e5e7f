"""Runs rocprof-compute, or Omniperf as it was called before ROCm 6.3: all counters, a launch for each set.

It runs the command again for each of its 15 to 25 sets, joins its words with spaces and splits them anew,
sees the kernels of one process, and takes any program called ``rocscope`` for one of AMD's: from 3.0 on its
options for that clash with its own, so that it does not start while one is on PATH.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from rocscope.collectors import gpu_arch
from rocscope.collectors.backend import (
    Absent,
    Base,
    Found,
    Plan,
    Request,
    describe,
    find_program,
    gpu_processes,
)
from rocscope.errors import ProfilerMissing, UsageError
from rocscope.launch import hidden, locales
from rocscope.launch.tree import Seen

PROGRAMS: Final = ("rocprof-compute", "omniperf")
OURS: Final = "rocscope"
NAME: Final = "rocscope"  # of the workload; it allows neither - nor .
FOLDER: Final = "rocprof-compute"
SCRIPT: Final = "command.sh"
PROFILER: Final = "ROCPROF"  # by which the user, or we, choose what it runs
LOCALE: Final = "en_US.UTF-8"
ANY_UTF8_SINCE: Final = (3, 1)  # before, it ends where the locale en_US.UTF-8 is missing
ROCPROFV3_SINCE: Final = (3, 1)  # its default from then on
SDK_SINCE: Final = (3, 3)  # it calls the library itself, with the counters of MI100 that were missing
IN_PROCESS: Final = "VLLM_ENABLE_V1_MULTIPROCESSING"
NO_ROOF: Final = "no-roof"
_BLOCK: Final = re.compile(r"[A-Za-z0-9_]{1,24}(\.\d{1,2}){0,2}")
_PLAIN: Final = re.compile(r"[\w@%+=:,./-]+", re.ASCII)
_NOT_PLAIN: Final = re.compile(r"[\\^$.|?*+()\[\]{}\s,%&'\"`]")
_TABLE: Final = re.compile(r"(SQ_\w+|pmc_perf(_\w+)?|timestamps)\.csv|[\w.-]+\.db")
_LOG_BYTES: Final = 16 << 20


class RocprofCompute(Base):
    """Every counter that AMD's own analysis uses, and on MI200 and MI300 the ceilings of the card."""

    name = "rocprof-compute"
    help = "AMD's rocprof-compute or Omniperf: all counters of a command that it runs many times"
    takes = "what it is to count (SQ,TCC or 2,16.1), and no-roof"

    def find(self, environment: Mapping[str, str], argument: str) -> Found | Absent:
        """Look for ``rocprof-compute``, then for ``omniperf``, out of whose sight we keep ourselves."""
        absent: list[Absent] = []
        with tempfile.TemporaryDirectory(prefix="rocscope-") as folder:
            path, links = hidden.without(OURS, environment, Path(folder))
            hidden.make(links)
            for name in PROGRAMS:
                found = find_program(name, environment, asked_in={**environment, "PATH": path})
                if isinstance(found, Found):
                    return found
                absent.append(found)
        there = [each for each in absent if "is not installed" not in each.reason]
        hint = "install ROCm's rocprofiler-compute and its Python packages, or choose another --profiler"
        return there[0] if there else Absent(f"{PROGRAMS[0]} is not installed", hint)

    def plan(self, request: Request) -> Plan:
        """Compose the command. The command under profile goes into a script, and is told its own PATH.

        Raises :class:`UsageError` for what would never end or not be understood, and
        :class:`ProfilerMissing` where it could not run.
        """
        _refuse(request)
        raw = request.raw.resolve()
        folder = raw / FOLDER
        if ".." in str(folder) or not _PLAIN.fullmatch(str(folder)):
            raise UsageError(
                f"--out: {folder} has characters that {self.name} does not take in a path",
                "name a folder of letters, digits, - and _ with --out",
            )
        added, links, notes = _surroundings(request, raw)
        words = [request.found.path, "profile", "-n", NAME, "-p", str(folder), *_filters(request)]
        notes = [
            "rocprof-compute runs the command 15 to 25 times, from start to end (23 on MI100): it has to end "
            "by itself, and to do the same each time",
            "rocprof-compute sees the kernels of one process, so those of vLLM's worker processes are missing"
            + (f"; {IN_PROCESS}=0 keeps a script's vLLM in its own" if IN_PROCESS in added else ""),
            *notes,
        ]
        script = _script(request, added)
        return Plan(
            command=(*words, "--", "/bin/sh", str(raw / SCRIPT)),
            environment=added,
            files={raw / SCRIPT: script},
            folders=(folder,),
            links=links,
            launches=None,
            shown=(*words, "--", *request.command),
            notes=tuple(notes),
        )

    def progress(self, request: Request) -> str:
        """Say which of its runs it is at, by its log and the input files of the runs."""
        folder = request.raw / FOLDER
        total = sum(1 for _ in folder.rglob("perfmon/*.txt"))
        begun = sum(_log(path).count("Current input file") for path in folder.rglob("log.txt"))
        return f"pass {min(begun, total)} of {total}: " if total and begun else ""

    def outputs(self, request: Request) -> list[Path]:
        """Return its workload folder, which may be a partial one."""
        folder = request.raw / FOLDER
        return [folder] if _tables(folder) else []

    def missing(self, request: Request, seen: Sequence[Seen]) -> list[str]:
        """Tell which runs left no table, and when no table has a kernel though a GPU was used."""
        folder = request.raw / FOLDER
        tables = _tables(folder)
        said = _last_error(folder)
        if not tables:
            return [f"{self.name} left no table{said}"]
        lost = []
        stems = {path.stem for path in tables}
        joined = "pmc_perf" in stems  # of the tables of the runs, which are deleted then
        inputs = {path.stem for path in folder.rglob("perfmon/*.txt")}
        cut = {each for each in inputs - stems if not (joined and each.startswith("pmc_perf"))}
        if cut:
            lost.append(f"{len(cut)} of {len(inputs)} runs left no table: {_some(sorted(cut))}{said}")
        used = gpu_processes(seen)
        narrowed = request.kernels or request.dispatches
        if used and not narrowed and not any(_has_rows(path) for path in tables):
            lost.append(
                f"no kernel was recorded, though {describe(used[0])} used a GPU: {self.name} sees one process"
            )
        return lost


def _refuse(request: Request) -> None:
    if request.server is not None:
        raise UsageError(
            "rocprof-compute runs its command 15 to 25 times and waits for each to end: a server does not "
            "end, and its kernels run in processes that it does not see",
            "use --profiler auto --counters standard --load builtin (each pass a launch of its own), or "
            "profile a script that calls vllm.LLM and ends",
        )
    if request.kernels and _NOT_PLAIN.search(request.kernels):
        raise UsageError(
            f"--kernels {request.kernels}: rocprof-compute chooses kernels by a part of their name alone",
            "give a part of the name without special characters",
        )


def _filters(request: Request) -> list[str]:
    """Return the options that narrow what is recorded."""
    words: list[str] = []
    blocks = [each.strip() for each in request.argument.split(",") if each.strip()]
    if NO_ROOF in blocks:
        words.append("--no-roof")
    blocks = [each for each in blocks if each != NO_ROOF]
    for block in blocks:
        if not _BLOCK.fullmatch(block):
            raise UsageError(
                f"--profiler rocprof-compute:{request.argument}: {block!r} is neither a block nor a table",
                "name blocks (SQ,TCC), tables of its --list-metrics (2,16.1) or no-roof, with commas",
            )
    if blocks:
        words += ["-b", *blocks]
    if request.kernels:
        words += ["-k", request.kernels]
    if request.dispatches:
        words += ["-d", "{}:{}".format(*request.dispatches)]
    return words


def _surroundings(request: Request, raw: Path) -> tuple[dict[str, str], dict[Path, Path], list[str]]:
    """Return what to set for rocprof-compute itself, the links to make for it, and what to tell."""
    environment, version = request.environment, _version(request.found.version)
    added: dict[str, str] = {}
    given: list[str] = []
    links: dict[Path, Path] = {}
    if any(hidden.holding(OURS, environment)):
        added["PATH"], links = hidden.without(OURS, environment, raw / "path")
        given.append("a PATH that this program is kept off, as it takes one called rocscope for AMD's")
    if IN_PROCESS not in environment:
        added[IN_PROCESS] = "0"
    if not locales.is_utf8(environment):
        added["LC_ALL"] = "C.UTF-8"
    if (not version or version < ANY_UTF8_SINCE) and not locales.exists(LOCALE):
        links |= (found := locales.stand_in(LOCALE, raw / "locale"))
        if found:
            added["LOCPATH"] = str(raw / "locale")
            given.append(f"C.UTF-8 for the locale {LOCALE}, which it insists on and which is missing")
        elif version:
            raise ProfilerMissing(
                f"rocprof-compute {request.found.version} ends at once without the locale {LOCALE}",
                f"apt-get install locales && locale-gen {LOCALE}, or use rocprof-compute 3.1 or newer",
            )
    if PROFILER not in environment and (chosen := _profiler(version, environment)):
        added[PROFILER] = chosen
        given.append(f"{chosen} to run ({PROFILER} chooses another)")
    return added, links, [f"rocprof-compute is given {'; '.join(given)}"] if given else []


def _profiler(version: tuple[int, ...], environment: Mapping[str, str]) -> str:
    """Return the rocprof that rocprof-compute is to run, ``""`` where it knows best.

    On MI100 rocprofv3 lacked the counters that add up a level until rocprof-compute 3.3.
    """
    if not version or version >= SDK_SINCE:
        return ""
    first = version < ROCPROFV3_SINCE or gpu_arch.of_machine() == ["gfx908"]
    names = (
        ("rocprof",) if version < ROCPROFV3_SINCE else ("rocprof", "rocprofv3") if first else ("rocprofv3",)
    )
    folders = [environment.get("PATH", os.defpath), f"{environment.get('ROCM_PATH', '/opt/rocm')}/bin"]
    paths = (shutil.which(name, path=os.pathsep.join(folders)) for name in names)
    return next((path for path in paths if path), "")


def _script(request: Request, added: Mapping[str, str]) -> str:
    """Return the script that runs the command, its words kept whole, in the surroundings it was given."""
    lines = ["#!/bin/sh", "# The command under profile, as rocprof-compute would split its words anew."]
    for name in added:
        if name in (PROFILER, IN_PROCESS):
            continue
        if name in request.environment:
            lines.append(f"{name}={shlex.quote(request.environment[name])}; export {name}")
        else:
            lines.append(f"unset {name}")
    return "\n".join([*lines, f"exec {shlex.join(request.command)}"]) + "\n"


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:2] if part.isdigit())


def _log(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return stream.read(_LOG_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""


def _tables(folder: Path) -> list[Path]:
    """Return what holds kernels: tables, or the databases that newer versions may leave in their place."""
    found = [path for path in folder.rglob("*") if _TABLE.fullmatch(path.name)]
    return sorted(path for path in found if path.is_file() and path.stat().st_size)


def _last_error(folder: Path) -> str:
    """Return the last error in its log, for a message."""
    lines = [line.strip() for path in sorted(folder.rglob("log.txt")) for line in _log(path).splitlines()]
    errors = [line for line in lines if re.match(r"(ERROR|\[ERROR\]|.*\berror\()", line)]
    return f"; its log says: {errors[-1][:300]}" if errors else ""


def _has_rows(path: Path) -> bool:
    with path.open("rb") as stream:
        stream.readline(4 << 20)
        return bool(stream.readline(1 << 16).strip())


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more


BACKEND = RocprofCompute()
