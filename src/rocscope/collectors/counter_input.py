"""What AMD's profilers are told about counters, each in its own words: input files, definitions, names."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from rocscope import counter_data
from rocscope.counter_plan import CounterPass, needs_definition

ROTATE_EVERY: Final = 101
"""Launches between groups that rotate. A prime: a model repeats its kernels step by step, and a divisor of a
step's length would show each kernel the same group for ever."""


@dataclass(frozen=True)
class Counting:
    """What one launch is to count."""

    arch: str
    passes: tuple[CounterPass, ...]  # several: by turns in this one launch
    kernels: str = ""  # regular expression of the kernels to count; "": all
    dispatches: tuple[int, int] | None = None  # first and last, as the profiler numbers them

    @property
    def defined(self) -> bool:
        """Whether the profiler has to be told of a counter."""
        return any(each.defined for each in self.passes)

    @property
    def narrowed(self) -> bool:
        """Whether some dispatches are not counted, on purpose."""
        return bool(self.kernels) or self.dispatches is not None


def groups_json(counting: Counting) -> str:
    """Return the input of rocprofv3 that takes the passes by turns."""
    job = {
        "pmc_groups": [list(each.counters) for each in counting.passes],
        "pmc_group_interval": ROTATE_EVERY,
    }
    return json.dumps({"jobs": [job]}, indent=1) + "\n"


def definitions_yaml(counting: Counting, tool: str, version: str) -> str:
    """Return counter definitions for rocprofv3's ``--extra-counters``: those that it lacks, and no others."""
    data = counter_data.of(counting.arch)
    lines = ["rocprofiler-sdk:", "  counters-schema-version: 1", "  counters:"]
    for name in _counters(counting):
        if not needs_definition(name, data, tool, version):
            continue
        block = data.block_of[name]
        lines += [
            f"    - name: {name}",
            f"      description: {name}",
            "      properties: []",
            "      definitions:",
            f"        - architectures: [{data.arch}]",
            f"          block: {block}",
            f"          event: {data.block[block].events[name]}",
        ]
    return "\n".join(lines) + "\n"


def metrics_xml(counting: Counting) -> str:
    """Return definitions for ``-m`` of rocprof and rocprofv2, which replace their own: all that is asked for.

    Their own lack sums of most blocks. ``""`` where the numbers of the events are not known here.
    """
    data = counter_data.of(counting.arch)
    if not all(name in data.block[data.block_of[name]].events for name in _counters(counting)):
        return ""
    lines = [f"<{data.arch}>"]
    for name in _counters(counting):
        block = data.block_of[name]
        event, units = data.block[block].events[name], data.block[block].instances
        lines.append(f'  <metric name="{name}" block={block} event={event} descr="{name}"></metric>')
        if units:
            what = f'name="{name}_sum" expr=sum({name},{units}) descr="{name} of all {block}"'
            lines.append(f"  <metric {what}></metric>")
    return "\n".join([*lines, f"</{data.arch}>"]) + "\n"


def pmc_text(counting: Counting) -> str:
    """Return the input of rocprof and rocprofv2: one ``pmc`` line, since each would be a run of its own.

    A command that ends only when told to would hang at the second.
    """
    (only,) = counting.passes
    span = "{}:{}".format(*counting.dispatches) if counting.dispatches else ""
    names = " ".join(summed(only.counters, counting.arch))
    return f"pmc: {names}\n\nrange: {span}\ngpu:\nkernel: {counting.kernels}\n"


def summed(counters: Iterable[str], arch: str) -> list[str]:
    """Return the names by which rocprof adds up all units of a block; rocprofv3 does so unasked."""
    data = counter_data.of(arch)
    return [f"{name}_sum" if data.block[data.block_of[name]].instances else name for name in counters]


def _counters(counting: Counting) -> list[str]:
    return [name for each in counting.passes for name in each.counters]
