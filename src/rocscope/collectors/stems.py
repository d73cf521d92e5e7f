"""Which files of a folder belong to one run: by the part of their names that they share.

``results.csv``, ``results.db``, ``results.json`` and ``results.stats.csv`` share ``results``;
``123_kernel_trace.csv``, ``123_results.db`` and ``123_kernel_stats.csv`` share ``123``.
"""

from __future__ import annotations

import re
from typing import Final

_WHAT: Final = "|".join(
    (
        "agent_info",
        "counter_collection",
        "results",
        *(
            f"{what}_(?:trace|stats)"
            for what in (
                "kernel",
                "memory_copy",
                "memory_allocation",
                "scratch_memory",
                "domain",
                "(?:hip|hip_runtime|hip_compiler|hip_compile|hsa|marker|rccl|rocdecode|rocjpeg|ompt)(?:_api)?",
            )
        ),
        "pc_sampling_(?:host_trap|stochastic)",
    )
)
_AFTER: Final = re.compile(rf"(?:^|_)({_WHAT})$")  # 123_kernel_trace
_BEFORE: Final = re.compile(r"^(?:results|(?:hip_api|hsa_api|roctx|hcc_ops|async_copy|pcs)_trace)_(\d+)$")
_ENDINGS: Final = (".gz", ".csv", ".json", ".db", ".sqlite", ".txt")
_TOTALS: Final = (".stats", ".hip_stats", ".hsa_stats", ".copy_stats", ".sysinfo")


def split(file_name: str) -> tuple[str, str]:
    """Return what a run's files share of their names, and what this one says it holds (or ``""``)."""
    name = file_name
    for ending in (*_ENDINGS, *_TOTALS):
        name = name.removesuffix(ending)
    if found := _BEFORE.match(name):
        return found[1], name[: -len(found[1]) - 1]
    found = _AFTER.search(name)
    if found is None or name == "results":
        return name, ""
    return name[: found.start()], found[1]
