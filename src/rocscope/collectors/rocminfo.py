"""GPUs as ``rocminfo`` describes them: ``results.sysinfo.txt``, or the tail of rocprof v1's JSON.

rocprof v1 and v2 call a device by its KFD node, the ``Node`` of an agent; the agent's own number is one more.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rocscope.collectors.builder import CaptureBuilder
from rocscope.collectors.source import GZIP_MAGIC, Source

MAX_DUMP_BYTES: Final = 4 << 20  # a node of eight GPUs writes 0.1 MB
MAX_TRACE_BYTES: Final = 256 << 20  # of a JSON whose tail describes devices

_ARCH: Final = re.compile(r"gfx[0-9a-f]{3,5}$")
_FIRST_NUMBER: Final = re.compile(r"\d{1,15}")
_AGENT: Final = re.compile(r"^Agent\s*(\d{1,4})\s*$")
_TAIL: Final = re.compile(r'"Agent(\d{1,4})\.([^"\\]{1,200})"\s*:\s*"([^"\\]{0,400})"')


@dataclass(frozen=True)
class Agent:
    """One GPU of a ``rocminfo`` dump."""

    node: int
    arch: str
    name: str
    compute_units: int | None
    wave_size: int | None
    memory_bytes: int | None

    def properties(self) -> dict[str, Any]:
        """Return the fields of :class:`rocscope.capture.Gpu` that are known."""
        return {
            "arch": self.arch,
            "name": self.name,
            "compute_units": self.compute_units,
            "wave_size": self.wave_size,
            "memory_bytes": self.memory_bytes,
        }


def parse_text(text: str) -> list[Agent]:
    """Return the GPUs of what ``rocminfo`` printed; CPUs and incomplete agents are left out."""
    agents: list[dict[str, str]] = []
    segment = ""
    for line in text.splitlines():
        if _AGENT.match(line):
            agents.append({})
            continue
        key, colon, value = line.partition(":")
        if not agents or not colon:
            continue
        key, value = key.strip().replace(" ", ""), value.strip()
        if key == "Segment":
            segment = value.replace(" ", "")
        elif key == "Size" and segment.startswith("GLOBAL"):
            agents[-1].setdefault("Memory", value)
        else:
            agents[-1].setdefault(key, value)  # the first Name is the agent's, later ones its ISAs'
    return _gpus(agents)


def parse_tail(text: str) -> list[Agent]:
    """Return the GPUs of the ``otherData`` that ends a JSON of rocprof v1, where all blanks are taken out."""
    agents: dict[str, dict[str, str]] = {}
    for number, path, value in _TAIL.findall(text):
        known = agents.setdefault(number, {})
        if path.endswith(".Pool1.Size"):
            known.setdefault("Memory", value)
        elif path.count(".") == 0 or path.startswith("MemoryProperties.Wavefront"):
            known.setdefault(path.rpartition(".")[2], value)
    return _gpus(agents.values())


def _gpus(agents: Iterable[dict[str, str]]) -> list[Agent]:
    found = []
    for known in agents:
        node = _number(known.get("Node"))
        arch = known.get("Name", "")
        if node is None or known.get("DeviceType") != "GPU" or not _ARCH.match(arch):
            continue
        memory_kb = _number(known.get("Memory"))
        found.append(
            Agent(
                node=node,
                arch=arch,
                name=known.get("MarketingName", "")[:200],
                compute_units=_number(known.get("ComputeUnit")),
                wave_size=_number(known.get("WavefrontSize")),
                memory_bytes=memory_kb * 1024 if memory_kb else None,
            )
        )
    return found


def _number(value: str | None) -> int | None:
    found = _FIRST_NUMBER.match(value or "")
    return int(found.group()) if found else None


def describe(agents: Iterable[Agent], builder: CaptureBuilder) -> None:
    """Tell ``builder`` what is known of each GPU."""
    for agent in agents:
        builder.gpu(str(agent.node), **agent.properties())


def describe_unnumbered(agent_name: str, agents: list[Agent], builder: CaptureBuilder) -> int:
    """Register a device whose node was not recorded; return its index.

    Its properties are those that all GPUs of the machine share; with one GPU, it is that one.
    """
    if len(agents) == 1:
        return builder.gpu(str(agents[0].node), **agents[0].properties())
    shared: dict[str, Any] = {}
    if agents:
        first, *others = [agent.properties() for agent in agents]
        shared = {key: value for key, value in first.items() if all(o[key] == value for o in others)}
    return builder.gpu(agent_name, **shared)


def agents_beside(source: Source) -> list[Agent]:
    """Return the GPUs that a file beside ``source`` describes.

    That is the sysinfo of its run, else the only sysinfo in the folder, else the end of the run's JSON.
    """
    stem = source.path.name.split(".", 1)[0]
    dumps = sorted(source.path.parent.glob("*.sysinfo.txt*"))
    own = [path for path in dumps if path.name.split(".", 1)[0] == stem]
    for path in own or (dumps if len(dumps) == 1 else []):
        if agents := parse_text(_inflated(path, MAX_DUMP_BYTES)):
            return agents
    for suffix in (".json", ".json.gz"):
        if trace := source.sibling(stem + suffix):
            text = _inflated(trace, MAX_TRACE_BYTES, tail=True)
            return parse_tail(text.rpartition('"otherData"')[2])
    return []


def _inflated(path: Path, limit: int, *, tail: bool = False) -> str:
    """Return the text of a file, or its last 4 MiB; nothing of a file that cannot be read."""
    try:
        if not path.is_file():  # a pipe of that name would be waited for
            return ""
        with path.open("rb") as stream:
            compressed = stream.read(2) == GZIP_MAGIC
            if tail and not compressed:
                stream.seek(max(0, path.stat().st_size - MAX_DUMP_BYTES))
            else:
                stream.seek(0)
            if not compressed:
                return stream.read(limit).decode("utf-8", "replace")
            with gzip.open(stream, "rb") as inflated:
                kept = b""
                read = 0
                while read < limit and (part := inflated.read(1 << 20)):
                    read += len(part)
                    kept = (kept + part)[-MAX_DUMP_BYTES:]
                return kept.decode("utf-8", "replace")
    except (OSError, EOFError, zlib.error):
        return ""


class RocminfoReader:
    """What rocprof v1 saves of ``rocminfo`` beside its results."""

    name = "rocminfo"
    help = "GPUs of the node as rocminfo lists them (results.sysinfo.txt of rocprof v1)"
    order = 10
    content = "description"

    def recognises(self, source: Source) -> bool:
        """Tell by the heading that rocminfo prints."""
        return "HSA System Attributes" in source.text_head and "ROCk module" in source.text_head

    def read(self, source: Source, builder: CaptureBuilder) -> None:
        """Describe every GPU; a dump without one is noticed."""
        agents = parse_text(_inflated(source.path, MAX_DUMP_BYTES))
        if not agents:
            builder.notice(
                "no-gpu-described", f"{source.name} is a rocminfo dump that lists no GPU", source.name
            )
        describe(agents, builder)


READERS = (RocminfoReader(),)
