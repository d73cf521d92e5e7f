"""Runs the PyTorch profiler inside a vLLM server, through its own start and stop requests."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from rocscope.collectors.backend import WORKER, Absent, Base, Found, Plan, Request
from rocscope.errors import ProfilerMissing, TargetError, UsageError
from rocscope.launch.tree import Seen
from rocscope.launch.vllm import PROFILER_CONFIG_SINCE, release

START_DEADLINE_S: Final = 120.0
STOP_DEADLINE_S: Final = 1800.0  # minutes for a large model, by vLLM's documentation
STEP_SHAPES_SINCE: Final = (0, 32)
RPC_VARIABLE: Final = "VLLM_RPC_TIMEOUT"
RPC_VARIABLE_UNTIL: Final = (0, 32)  # gone from envs.py there; before, stop_profile needs it raised


class Torch(Base):
    """Traces of all ranks, with operators, shapes and step annotations."""

    name = "torch"
    help = "PyTorch's profiler inside vLLM: kernels, operators and steps of every rank"
    injects = False

    def find(self, environment: Mapping[str, str], argument: str) -> Found | Absent:
        """It is part of vLLM; whether this vLLM has it is seen when planning."""
        return Found("torch")

    def plan(self, request: Request) -> Plan:
        """Use ``--profiler-config`` for vLLM 0.13 and newer, environment variables before, never both."""
        if request.server is None:
            raise UsageError(
                "--profiler torch works with a vLLM server only",
                "profile `vllm serve …`, or choose another --profiler",
            )
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
        """Compare the number of traces with the number of workers."""
        workers = sum(each.name.startswith(WORKER) for each in seen)
        expected = max(workers, (request.server and request.server.tensor_parallel) or 1)
        found = len(self.outputs(request))
        return [f"{found} of {expected} ranks left a trace"] if found < expected else []


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
