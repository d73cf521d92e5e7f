"""Which architecture the GPUs of this machine are, as the kernel driver says: no ROCm is needed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from rocscope.errors import UsageError

TOPOLOGY: Final = Path("/sys/class/kfd/kfd/topology/nodes")
_VERSION: Final = re.compile(r"^gfx_target_version\s+(\d+)", re.MULTILINE)


def of_machine(topology: Path = TOPOLOGY) -> list[str]:
    """Return the architectures of this machine, each once: ``["gfx908"]``; none without AMD's driver."""
    found: dict[str, None] = {}
    for node in sorted(topology.glob("*/properties")):
        try:
            match = _VERSION.search(node.read_text(encoding="utf-8", errors="replace"))
        except OSError:
            continue
        if match and int(match[1]):
            found[name(int(match[1]))] = None
    return list(found)


def name(version: int) -> str:
    """Return ``gfx90a`` for 90010: major, minor and stepping, the last in hexadecimal."""
    return f"gfx{version // 10000}{version // 100 % 100:x}{version % 100:x}"


def choose(gpu: str | None, topology: Path = TOPOLOGY) -> str:
    """Return the architecture to plan counters for: of ``--gpu``, else of this machine.

    Raises :class:`UsageError` where neither tells, and :class:`rocscope.errors.UnknownGpu`.
    """
    if gpu:
        from rocscope.hardware import by_name

        return by_name(gpu).arch
    found = of_machine(topology)
    if len(found) == 1:
        return found[0]
    what = f"GPUs of several kinds are here ({', '.join(found)})" if found else "no AMD GPU is found here"
    raise UsageError(f"--counters: {what}, and the limits of counters differ", "name the GPU with --gpu")
