"""Runs the PyTorch profiler inside a vLLM server, through its own start and stop requests, or in any program.

A program is not changed: ``data/torch_hook`` lies first on its PYTHONPATH, and each of its processes that
uses the GPU through PyTorch writes a trace as it ends.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import rocscope.data
from rocscope.collectors.backend import (
    WORKER,
    Absent,
    Base,
    Found,
    Plan,
    Request,
    describe,
    gpu_processes,
)
from rocscope.errors import ProfilerMissing, TargetError, UsageError
from rocscope.launch.tree import Seen
from rocscope.launch.vllm import PROFILER_CONFIG_SINCE, release

START_DEADLINE_S: Final = 120.0
STOP_DEADLINE_S: Final = 1800.0  # minutes for a large model, by vLLM's documentation
STEP_SHAPES_SINCE: Final = (0, 32)
RPC_VARIABLE: Final = "VLLM_RPC_TIMEOUT"
RPC_VARIABLE_UNTIL: Final = (0, 32)  # gone from envs.py there; before, stop_profile needs it raised
HOOK: Final = Path(rocscope.data.__file__).parent / "torch_hook"
FOLDER_VARIABLE: Final = "ROCSCOPE_TORCH_FOLDER"
DELAY_VARIABLE: Final = "ROCSCOPE_TORCH_DELAY_S"
WINDOW_VARIABLE: Final = "ROCSCOPE_TORCH_WINDOW_S"
WINDOW_S: Final = "120"  # a model is loaded and compiled by then; events of so long still fit in memory
_MOST_REASON: Final = 400  # characters
_OF_PROCESS: Final = re.compile(r"(\d+)\.(?:recording|failed|(?:\d+\.)?pt\.trace\.json\.gz)")


class Torch(Base):
    """Traces of all ranks, with operators, shapes and step annotations."""

    name = "torch"
    help = "PyTorch's profiler inside vLLM or a PyTorch program: kernels, operators and steps of every rank"
    injects = False
    on_demand = True

    def find(self, environment: Mapping[str, str], argument: str) -> Found | Absent:
        """It is part of PyTorch; whether this vLLM has it is seen when planning."""
        return Found("torch")

    def plan(self, request: Request) -> Plan:
        """Use ``--profiler-config`` for vLLM 0.13 and newer, environment variables before, never both."""
        if request.server is None:
            return _plan_program(request)
        if any(name.startswith("--profiler-config") for name in request.server.options):
            raise UsageError(
                "the command has --profiler-config, and --profiler torch sets it too", "leave it to rocscope"
            )
        known = release(request.server_version)
        if known is None:
            raise ProfilerMissing(
                f"vLLM's version is {request.server_version or 'unknown'}, so how to start its profiler is "
                "not known",
                "install a released vLLM, or choose another --profiler",
            )
        folder = request.raw / "torch"
        environment = {}
        if known < RPC_VARIABLE_UNTIL and RPC_VARIABLE not in request.environment:
            environment[RPC_VARIABLE] = str(int(STOP_DEADLINE_S * 1000))  # milliseconds
        if known < PROFILER_CONFIG_SINCE:
            environment |= {
                "VLLM_TORCH_PROFILER_DIR": str(folder),
                "VLLM_TORCH_PROFILER_RECORD_SHAPES": "1",
                "VLLM_TORCH_PROFILER_WITH_STACK": "0",
            }
            return Plan(request.command, environment, folders=(folder,))
        config: dict[str, object] = {
            "profiler": "torch",
            "torch_profiler_dir": str(folder),
            "torch_profiler_record_shapes": True,
            "torch_profiler_with_stack": False,
        }
        if known >= STEP_SHAPES_SINCE:
            config["detailed_trace_annotation"] = True
        return Plan(
            (*request.command, "--profiler-config", json.dumps(config)), environment, folders=(folder,)
        )

    def start(self, request: Request) -> None:
        """POST /start_profile. Raises :class:`TargetError`."""
        _post(request, "/start_profile", START_DEADLINE_S)

    def stop(self, request: Request) -> None:
        """POST /stop_profile, which answers when every rank has written. Raises :class:`TargetError`."""
        _post(request, "/stop_profile", STOP_DEADLINE_S)

    def outputs(self, request: Request) -> list[Path]:
        """Return the traces of the ranks; the server's own trace has no kernels and is left out."""
        return sorted(
            path
            for pattern in ("*.pt.trace.json", "*.pt.trace.json.gz")
            for path in (request.raw / "torch").rglob(pattern)
            if "async_llm" not in path.name and path.stat().st_size
        )

    def missing(self, request: Request, seen: Sequence[Seen]) -> list[str]:
        """Compare the traces with the workers of a server, or with what a program's processes began."""
        if request.server is None:
            return _missing_of_program(request, seen)
        workers = sum(each.name.startswith(WORKER) for each in seen)
        expected = max(workers, request.server.tensor_parallel or 1)
        found = len(self.outputs(request))
        return [f"{found} of {expected} ranks left a trace"] if found < expected else []


def _plan_program(request: Request) -> Plan:
    folder = request.raw / "torch"
    paths = [str(HOOK), *filter(None, [request.environment.get("PYTHONPATH")])]
    window = request.environment.get(WINDOW_VARIABLE) or WINDOW_S
    return Plan(
        request.command,
        {
            "PYTHONPATH": os.pathsep.join(paths),
            FOLDER_VARIABLE: str(folder),
            WINDOW_VARIABLE: window,
        },
        folders=(folder,),
        notes=(
            f"PyTorch's profiler records each process for {window} s from its first use of the GPU "
            f"({WINDOW_VARIABLE}; {DELAY_VARIABLE} begins later); it slows the program down",
        ),
    )


def _missing_of_program(request: Request, seen: Sequence[Seen]) -> list[str]:
    """Say which processes began to record and left no trace, or which used a GPU unseen if none did.

    Not each process that holds a GPU's device is meant: asking for the number of GPUs opens it too.
    """
    found: dict[int, dict[str, Path]] = {}
    for path in sorted((request.raw / "torch").iterdir()):
        if match := _OF_PROCESS.fullmatch(path.name):
            found.setdefault(int(match[1]), {})[path.suffix] = path
    names = {each.pid: describe(each) for each in seen}
    texts = []
    for pid, files in found.items():
        name = names.get(pid, f"process {pid}")
        if ".failed" in files:
            reason = files[".failed"].read_text(encoding="utf-8", errors="replace")[:_MOST_REASON]
            texts.append(f"{name} was not recorded: {reason}")
        elif ".recording" in files:
            texts.append(f"{name} was ended before it could write its trace")
    if found:
        return texts
    return [f"{describe(each)} used a GPU and left no trace" for each in gpu_processes(seen)]


def _post(request: Request, route: str, deadline_s: float) -> None:
    import httpx

    assert request.server is not None  # noqa: S101  # plan() refuses anything else
    address = request.server.address
    try:
        with address.client(deadline_s) as client:
            answer = client.post(route)
    except httpx.HTTPError as error:
        raise TargetError(
            f"POST {address}{route}: {str(error) or type(error).__name__}", "see the server's output in logs/"
        ) from error
    if answer.status_code != 200:
        raise TargetError(
            f"POST {address}{route}: HTTP {answer.status_code} {answer.text[:200]}",
            "this server has no profiler: see its output in logs/",
        )


BACKEND = Torch()
