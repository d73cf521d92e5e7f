"""Planning a live run: which profiler, which exact command, what to set, what to refuse."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, Final

from rocscope.collectors.backend import Absent, Backend, Found, Plan, Request, backends
from rocscope.config import ProfileOptions
from rocscope.errors import (
    InputError,
    NotFound,
    PermissionMissing,
    ProfilerMissing,
    RocscopeError,
    UsageError,
)
from rocscope.launch import hidden, vllm

STDOUT_LOG: Final = "logs/stdout.log"
STDERR_LOG: Final = "logs/stderr.log"
PROFILER_PROGRAMS: Final = (
    "rocprof",
    "rocprofv2",
    "rocprofv3",
    "rocprof-compute",
    "rocprof-sys-run",
    "omniperf",
    "omnitrace",
    "nsys",
    "ncu",
    "rocscope",
)
PROFILER_VARIABLES: Final = ("LD_PRELOAD", "ROCP_TOOL_LIBRARIES", "HSA_TOOLS_LIB")
PROFILER_LIBRARY: Final = re.compile(r"rocprof|roctracer|omnitrace|omniperf|cupti|nsys|ToolsInjection", re.I)


@dataclass(frozen=True)
class Run:
    """Everything that is decided before the launch."""

    backend: Backend
    request: Request
    plan: Plan
    added: dict[str, str]  # environment variables that are not in ours
    notes: tuple[str, ...]

    @property
    def environment(self) -> dict[str, str]:
        """The whole environment of the command."""
        return {**self.request.environment, **self.added}

    def dry(self, options: ProfileOptions) -> dict[str, Any]:
        """Return what ``profile --dry-run --json`` prints (DESIGN, section 6)."""
        written = [str(path) for path in self.plan.files]
        found = [
            self.request.raw,
            options.out / STDOUT_LOG,
            options.out / STDERR_LOG,
            options.out / "capture",
        ]
        passes: list[dict[str, Any]] = [{"counters": [], "launches": self.plan.launches}]
        return {
            "command": list(self.plan.command),
            "environment": self.added,
            "files": written + [str(path) for path in found],
            "contents": {str(path): text for path, text in self.plan.files.items()},
            "profiler": self.backend.name,
            "profiler_version": self.request.found.version or None,
            "passes": [] if self.backend.name == "none" else passes,
            "estimated_s": options.duration_s,  # of recording; how long a command runs is not known before
            "notes": list(self.notes),
        }


def plan_run(
    command: Sequence[str],
    options: ProfileOptions,
    *,
    environment: Mapping[str, str] | None = None,
    dry: bool = False,
) -> Run:
    """Decide how to profile ``command``; a dry run may name a profiler that is not on this machine.

    Raises :class:`UsageError`, :class:`ProfilerMissing`, :class:`PermissionMissing` and
    :class:`InputError`, each with the next step.
    """
    if not command:
        raise UsageError(
            "no command to profile", "write it after --, e.g. rocscope profile -- vllm serve MODEL"
        )
    if options.gpu:
        from rocscope.hardware import by_name

        by_name(options.gpu)  # a wrong name is said now, not after the run
    given = dict(os.environ if environment is None else environment)
    server = vllm.detect(command, given.get("PATH"))
    version = server.version(given) if server else None
    backend, argument, found, notes = _choose(options, given, server, version, dry=dry)
    _refuse_two(command, given, backend)
    if options.load and server is None:
        raise UsageError("--load needs a server to send its requests to", "leave --load out")
    adjusted = tuple(command)
    added: dict[str, str] = {}
    if server is not None:
        arguments, added, more = server.ending_in_order(version, given, options.shutdown_timeout_s)
        adjusted = (*adjusted, *arguments)
        notes += more
    elif vllm.hidden(command):
        notes.append(
            "a shell starts vLLM here: its shutdown cannot be adjusted and its readiness is not waited for; "
            "write `rocscope profile -- vllm serve …` instead"
        )
    request = Request(
        command=adjusted,
        environment=given,
        raw=options.out.absolute() / "raw",
        found=found,
        server=server,
        server_version=version,
        argument=argument,
        kernels=options.kernels,
        dispatches=options.dispatches,
    )
    plan = backend.plan(request)
    return Run(backend, request, plan, {**added, **plan.environment}, (*notes, *plan.notes))


def _choose(
    options: ProfileOptions,
    environment: Mapping[str, str],
    server: vllm.Server | None,
    version: str | None,
    *,
    dry: bool,
) -> tuple[Backend, str, Found, list[str]]:
    name, colon, argument = options.profiler.partition(":")
    known = backends()
    if name == "auto" and not colon:
        return _search(options, environment, server, version, dry=dry)
    if name not in known or (colon and not known[name].takes):
        raise UsageError(
            f"--profiler {options.profiler}: no such profiler",
            f"choose auto, {', '.join(sorted(known))} (replay as replay:CAPTURE)",
        )
    found = known[name].find(environment, argument)
    if isinstance(found, Found):
        return known[name], argument, found, []
    if dry and name != "replay":
        return known[name], argument, Found(name), [f"on this machine {found.reason}"]
    raise _error(name, found, argument)


def _search(
    options: ProfileOptions,
    environment: Mapping[str, str],
    server: vllm.Server | None,
    version: str | None,
    *,
    dry: bool,
) -> tuple[Backend, str, Found, list[str]]:
    known = backends()
    reasons: list[Absent] = []
    notes: list[str] = []
    for backend in known.values():
        if backend.order is None:
            continue
        found = backend.find(environment, "")
        if isinstance(found, Found):
            return backend, "", found, notes + [absent.reason for absent in reasons if absent.forbidden]
        reasons.append(found)
    if dry and options.gpu:
        from rocscope.hardware import by_name

        if by_name(options.gpu).vendor == "amd":
            return known["rocprofv3"], "", Found("rocprofv3"), [f"on this machine {reasons[0].reason}"]
    if server is not None and vllm.release(version) is not None:
        notes.append("no rocprof on this machine: PyTorch's profiler inside vLLM is used")
        return known["torch"], "", Found("torch"), notes
    forbidden = [each for each in reasons if each.forbidden]
    if forbidden:
        raise _error("auto", forbidden[0])
    raise ProfilerMissing(
        f"no profiler on this machine ({'; '.join(each.reason for each in reasons)})",
        "install ROCm's rocprofiler-sdk (rocprofv3), or choose --profiler torch (a PyTorch program), none or "
        "replay:CAPTURE",
    )


def _error(name: str, absent: Absent, argument: str = "") -> RocscopeError:
    if absent.forbidden:
        return PermissionMissing(absent.reason, absent.hint)
    if name == "replay":
        return (NotFound if argument else InputError)(absent.reason, absent.hint)
    return ProfilerMissing(absent.reason, absent.hint)


def _refuse_two(command: Sequence[str], environment: Mapping[str, str], backend: Backend) -> None:
    """Two profilers in one process take each other's callbacks, or crash it."""
    if backend.name in ("none", "replay"):
        return
    program = PurePath(command[0]).name
    if program in PROFILER_PROGRAMS:
        raise UsageError(
            f"the command is itself a profiler ({program}), and two in one process spoil each other",
            "give only what is to be profiled, or --profiler none",
        )
    for variable in PROFILER_VARIABLES:
        match = PROFILER_LIBRARY.search(environment.get(variable, ""))
        if match:
            raise UsageError(
                f"{variable} already loads a profiler ({environment[variable]})",
                f"unset {variable}, or choose --profiler none",
            )
    if backend.injects and any(word.startswith("--profiler-config") for word in command):
        raise UsageError(
            f"the command starts vLLM's own profiler, and {backend.name} would be a second one",
            "leave out --profiler-config, or choose --profiler none",
        )
    if backend.name != "torch" and environment.get("VLLM_TORCH_PROFILER_DIR"):
        raise UsageError(
            f"VLLM_TORCH_PROFILER_DIR starts vLLM's own profiler, and {backend.name} would be a second one",
            "unset it, or choose --profiler torch",
        )


def prepare(run: Run, out: Path) -> None:
    """Make the folders and write the files of a run.

    Raises :class:`UsageError` if ``out`` is in use and :class:`PermissionMissing` if it cannot be written.
    """
    try:
        if out.is_dir() and _holds_something(out):
            raise UsageError(f"{out} is not empty", "name a new folder with --out")
        for folder in (run.request.raw, out / "logs", *run.plan.folders):
            folder.mkdir(parents=True, exist_ok=True)
        for path, text in run.plan.files.items():
            path.write_text(text, encoding="utf-8")
        hidden.make(run.plan.links)
    except PermissionError as error:
        raise PermissionMissing(
            f"{error.filename}: permission denied", "name a folder of yours with --out"
        ) from error
    except OSError as error:
        raise PermissionMissing(
            f"{error.filename or out}: {error.strerror}", "name another folder with --out"
        ) from error


def _holds_something(out: Path) -> bool:
    """Whether anything is in ``out`` but the logs and empty folders of a launch that failed."""
    if any(entry.name not in ("raw", "logs") for entry in out.iterdir()):
        return True
    return any(path.is_file() for path in (out / "raw").rglob("*"))
