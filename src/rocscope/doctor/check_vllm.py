"""Which vLLM, and what it allows: its profiler, an end in order, steps in the trace."""

from __future__ import annotations

from rocscope.collectors.run_torch import STEP_SHAPES_SINCE
from rocscope.doctor.check import Base, Finding
from rocscope.doctor.machine import ASK_S, Machine
from rocscope.launch.vllm import (
    PROFILER_CONFIG_SINCE,
    SHUTDOWN_FLAG,
    SHUTDOWN_FLAG_SINCE,
    SHUTDOWN_VARIABLE,
    SHUTDOWN_VARIABLE_SINCE,
    release,
)

_OLDEST = (0, 9)


class Vllm(Base):
    """The vLLM of ``--python``, else of PATH. It is not imported."""

    name = "vllm"
    title = "vLLM"
    help = "vLLM's version and what it allows: torch profiler, shutdown, step annotations"
    order = 70
    deadline_s = 3 * ASK_S + 1

    def run(self, machine: Machine) -> Finding:
        """Hold its version against what is known of each."""
        python = machine.target
        if python is None:
            said = f"{machine.python} does not run" if machine.python else "no Python that runs was found"
            return self.warn(said, advice="name the Python that has vLLM with --python PY")
        details: dict[str, object] = {
            "python": python.executable,
            "python_version": python.version,
            "version": python.vllm,
            "torch": python.torch,
            "triton": python.triton,
        }
        if python.vllm is None:
            return self.warn(
                f"not in {python.executable}",
                advice="name the Python that has it with --python PY; other programs can be profiled without",
                details=details,
            )
        known = release(python.vllm)
        if known is None:
            return self.unknown(
                f"{python.vllm} in {python.executable}: no release, so what it allows is not known",
                details=details,
            )
        flag = known >= SHUTDOWN_FLAG_SINCE
        variable = known >= SHUTDOWN_VARIABLE_SINCE
        details |= {
            "torch_profiler": "--profiler-config"
            if known >= PROFILER_CONFIG_SINCE
            else "VLLM_TORCH_PROFILER_DIR",
            "shutdown_flag": SHUTDOWN_FLAG if flag else None,
            "shutdown_variable": SHUTDOWN_VARIABLE if variable else None,
            "detailed_step_annotations": known >= STEP_SHAPES_SINCE,
        }
        parts = [f"{python.vllm} ({python.executable})", f"profiler by {details['torch_profiler']}"]
        parts.append("ends in order" if flag and variable else "kills slow workers")
        parts.append(
            "steps with lengths" if details["detailed_step_annotations"] else "steps without lengths"
        )
        seen = "; ".join(parts)
        if known < _OLDEST:
            return self.warn(seen, advice="older than 0.9, with which nothing was tried", details=details)
        if not (flag and variable):
            return self.warn(
                seen,
                advice="before 0.24 workers have 5 s to write their profile: keep the window short "
                "(--duration 10), or use --profiler torch",
                details=details,
            )
        return self.ok(seen, details=details)


CHECKS = (Vllm(),)
