"""Who made a rocprofv3 file: process and host from its name and its siblings, devices from agent_info.csv."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow as pa

from rocscope.collectors import csv_rows, gpu_device, stems
from rocscope.collectors.builder import CaptureBuilder
from rocscope.collectors.reader import Reader
from rocscope.collectors.source import Source
from rocscope.errors import InputError

_WITH_PID: Final = (
    "counter_collection",
    "hip_api_trace",
    "hsa_api_trace",
    "marker_api_trace",
    "rccl_api_trace",
    "kernel_trace",
)
_PASS_FOLDER: Final = re.compile(r"(pass|pmc)_\d+$")


@dataclass(frozen=True)
class Agent:
    """A GPU as agent_info.csv describes it."""

    node: int
    logical: int
    arch: str
    name: str
    compute_units: int | None
    wave_size: int | None
    memory_bytes: int | None
    pci: str = ""


def sibling(source: Source, what: str) -> Path | None:
    """Return the file of the same run that holds ``what`` (``agent_info``…), or ``None``."""
    prefix = stems.split(source.path.name)[0]
    name = f"{prefix}_{what}.csv" if prefix else f"{what}.csv"
    return source.sibling(name) or source.sibling(f"{name}.gz")


def host(source: Source) -> str:
    """Return the host: the folder that holds ``<pid>_*.csv``, where the file lies in such a one."""
    folders = Path(source.name).parent.parts
    if not folders or not stems.split(source.path.name)[0].isdigit() or _PASS_FOLDER.match(folders[-1]):
        return ""
    return folders[-1]


def pid(source: Source) -> int:
    """Return the process id as best known, 0 where nothing tells it.

    In this order: the name ``<pid>_kernel_trace.csv``; ``Process_Id`` of a sibling of the same run; the
    ``Thread_Id`` of the kernel trace's first row (the main thread's is the process id); the number that
    ends the name's prefix.
    """
    prefix = stems.split(source.path.name)[0]
    if prefix.isdigit():
        return int(prefix)
    thread = 0
    for what in _WITH_PID:
        path = sibling(source, what)
        row = csv_rows.first_row(Source.open(path)) if path else {}
        if row.get("processid", "").isdigit():
            return int(row["processid"])
        if row.get("threadid", "").isdigit():
            thread = int(row["threadid"])
    number = re.search(r"(\d+)$", prefix)
    return thread or (int(number[1]) if number else 0)


def processes(source: Source, table: pa.Table, builder: CaptureBuilder) -> pa.Array | pa.Scalar:
    """Return the process index of each row, or one for all."""
    where = host(source)
    if "processid" in table.column_names:
        keys = table["processid"].combine_chunks().dictionary_encode()
        known = {each: each for each in keys.dictionary.to_pylist()}
    elif "guid" in table.column_names and len(table["guid"].unique()) > 1:  # several databases converted
        keys = table["guid"].unify_dictionaries().combine_chunks()
        known = {guid: pids_by_guid(source).get(guid) for guid in keys.dictionary.to_pylist()}
    else:
        return pa.scalar(builder.process(pid(source), host=where), pa.int32())
    indices = [builder.process(known[key] or 0, host=where) for key in keys.dictionary.to_pylist()]
    fallback = builder.process(pid(source), host=where) if keys.null_count else 0
    return pa.array(indices, pa.int32()).take(keys.indices).fill_null(fallback)


def pids_by_guid(source: Source) -> dict[str, int]:
    """Return the process of each guid in the files of one run that several databases were converted to.

    ``Process_Id`` where a file has it, else the lowest ``Thread_Id`` of a kernel trace.
    """
    found: dict[str, int] = {}
    for what in _WITH_PID:
        path = sibling(source, what)
        if path is None:
            continue
        wanted = {"guid": pa.string(), "processid": pa.int64(), "threadid": pa.int64()}
        table = csv_rows.read(Source.open(path), wanted, CaptureBuilder())
        column = next((name for name in ("processid", "threadid") if name in table.column_names), None)
        if column is None or "guid" not in table.column_names:
            continue
        least = table.group_by("guid").aggregate([(column, "min")])
        for guid, number in zip(least["guid"].to_pylist(), least[f"{column}_min"].to_pylist(), strict=True):
            found.setdefault(guid, number)
    return found


def gpus(source: Source, agents: pa.ChunkedArray, builder: CaptureBuilder) -> pa.Array:
    """Return the GPU index of each row from a column of agent names."""
    known = read_agents(source)
    where = host(source)
    column = agents.unify_dictionaries().combine_chunks()
    found = [register(text, known, where, builder) for text in column.dictionary.to_pylist()]
    return pa.array(found, pa.int32()).take(column.indices)


def register(text: str, known: list[Agent], where: str, builder: CaptureBuilder) -> int:
    """Register the GPU that a file calls ``text`` ("Agent 4", "4", "GPU 0") and return its index."""
    agent = resolve(text, known)
    if agent is None:
        number = re.sub(r"^agent[ -]*", "", text.strip().lower())
        return builder.gpu(text, host=where, key=f"agent:{number}")
    return builder.gpu(
        text,
        host=where,
        key=f"node:{agent.node}",
        arch=agent.arch,
        name=agent.name,
        compute_units=agent.compute_units,
        wave_size=agent.wave_size,
        memory_bytes=agent.memory_bytes,
        pci=agent.pci,
    )


def resolve(text: str, known: list[Agent]) -> Agent | None:
    """Return the GPU meant by ``text``, or ``None``.

    A bare number (6.x) is a node id. "Agent N" is by default the logical node id, under
    ``--agent-index absolute`` the node id; "GPU N" counts the GPUs.
    """
    found = re.fullmatch(r"(?:(agent|gpu)[ -]*)?(\d+)", text.strip().lower())
    if not found or not known:
        return None
    kind, number = found[1], int(found[2])
    if kind == "gpu":
        return known[number] if number < len(known) else None
    by_node = {agent.node: agent for agent in known}
    by_logical = {agent.logical: agent for agent in known}
    first, second = (by_logical, by_node) if kind else (by_node, by_logical)
    return first.get(number) or second.get(number)


def read_agents(source: Source) -> list[Agent]:
    """Return the GPUs of the sibling agent_info.csv in logical order; ``[]`` without a usable one."""
    path = sibling(source, "agent_info")
    try:
        return parse_agents(Source.open(path), CaptureBuilder()) if path else []
    except InputError:
        return []  # reading that file itself reports it


def parse_agents(source: Source, builder: CaptureBuilder) -> list[Agent]:
    """Return the GPUs that ``source`` (an agent_info.csv) describes, in logical order.

    Raises :class:`InputError` if no row of it can be read.
    """
    # Only what is needed is converted: ids such as Hive_Id exceed 2^63.
    numbers = ("nodeid", "logicalnodeid", "cucount", "wavefrontsize", "localmemsize", "locationid", "domain")
    texts = ("agenttype", "name", "productname", "modelname")
    wanted = {**dict.fromkeys(numbers, pa.int64()), **dict.fromkeys(texts, pa.string())}
    table = csv_rows.read(source, wanted, builder)
    if not table.num_rows:
        raise InputError(f"{source.name}: no device in it", "the file was cut off; the rest can be analysed")
    found = []
    for row in table.to_pylist():
        if (row.get("agenttype") or "").upper() != "GPU" or row["nodeid"] is None:
            continue
        logical = row.get("logicalnodeid")
        found.append(
            Agent(
                node=row["nodeid"],
                logical=row["nodeid"] if logical is None else logical,
                arch=row.get("name") or "",
                name=row.get("productname") or row.get("modelname") or "",
                compute_units=row.get("cucount") or None,
                wave_size=row.get("wavefrontsize") or None,
                memory_bytes=row.get("localmemsize") or None,
                pci=gpu_device.address(row.get("domain"), row.get("locationid")),
            )
        )
    return sorted(found, key=lambda agent: agent.logical)


class _AgentInfo:
    name = "rocprofv3-csv-agents"
    help = "rocprofv3 agent_info.csv: the devices of a run"
    order = 20
    content = "description"
    bundle = "rocprofv3-csv"

    def recognises(self, source: Source) -> bool:
        return {"nodeid", "agenttype", "wavefrontsize"} <= set(csv_rows.header(source))

    def read(self, source: Source, builder: CaptureBuilder) -> None:
        """Check it; the devices are registered when a dispatch names them."""
        parse_agents(source, builder)
        builder.manifest.setdefault("profiler", "rocprofv3")


READERS: list[Reader] = [_AgentInfo()]
