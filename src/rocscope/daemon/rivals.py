"""Other profilers on this node: the hardware takes one at a time, so that a window waits for them.

Looked for just before a window: programs by name, and AMD's metrics exporter where its profiling fields are
on. What is ours (the window's own process) does not count.
"""

from __future__ import annotations

import contextlib
import re
from pathlib import PurePath
from typing import Final

import psutil

EXPORTER: Final = "http://127.0.0.1:5000/metrics"  # AMD's device-metrics-exporter, its default port
EXPORTER_TIMEOUT_S: Final = 1.0
EXPORTER_MAX_BYTES: Final = 4 << 20
PROFILING_FIELD: Final = "gpu_prof_"  # its fields that need the profiling hardware
PROGRAMS: Final = frozenset(
    {
        *(
            "rocprof",
            "rocprofv2",
            "rocprofv3",
            "rocprofv3-attach",
            "rocprof-compute",
            "omniperf",
            "omnitrace",
        ),
        *("rocprof-sys-run", "rocprof-sys-sample", "rocprof-sys-instrument", "rocpctl", "rocprofv3-avail"),
        *("ncu", "nsys", "nv-nsight-cu-cli"),
    }
)
_INTERPRETERS: Final = re.compile(r"(?:python[\d.]*|bash|sh|perl)")


def programs(own: frozenset[int] = frozenset()) -> list[str]:
    """Return the profilers that run, each as ``name (process 123)``; ``own`` are pids that do not count."""
    found = []
    for process in psutil.process_iter(["pid", "cmdline"]):
        if process.pid in own:
            continue
        name = _profiler(process.info["cmdline"] or [])
        if name is not None:
            found.append(f"{name} (process {process.pid})")
    return sorted(found)


def _profiler(words: list[str]) -> str | None:
    """Return the profiler that a command line runs, also through an interpreter; else ``None``."""
    for index, word in enumerate(words[:3]):
        name = PurePath(word).name
        if name in PROGRAMS:
            return name
        if index == 0 and not _INTERPRETERS.fullmatch(name):
            return None
        if index and not word.startswith("-"):
            return None
    return None


async def exporter(url: str = EXPORTER) -> str | None:
    """Tell whether AMD's exporter reads profiling counters; ``None`` where it does not, or there is none."""
    import httpx

    with contextlib.suppress(httpx.HTTPError, OSError):
        async with (
            httpx.AsyncClient(timeout=EXPORTER_TIMEOUT_S, trust_env=False) as client,
            client.stream("GET", url) as answer,
        ):
            read, rest = 0, b""
            async for piece in answer.aiter_bytes():
                read += len(piece)
                if read > EXPORTER_MAX_BYTES:
                    return None
                if re.search(rb"^(?:[a-z]+_)?" + PROFILING_FIELD.encode(), rest + piece, re.MULTILINE):
                    return "device-metrics-exporter reads gpu_prof_ counters: switch them off to profile"
                rest = piece[-256:]
    return None
