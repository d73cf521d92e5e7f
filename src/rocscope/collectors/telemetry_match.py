"""Which physical GPU is which of a recording's: by PCI address, ROCm's node, or order and visibility."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from rocscope.capture import Gpu
from rocscope.collectors.gpu_device import Device, Node, kfd_nodes
from rocscope.collectors.sampling import Columns
from rocscope.collectors.telemetry import TelemetrySampler
from rocscope.collectors.telemetry_sources import sysfs_root

_ORDINAL: Final = re.compile(r"device (\d{1,4})$")
_BY_NODE: Final = ("rocprof", "rocprofv2")  # name a GPU by its node of ROCm's topology


class Matched(NamedTuple):
    """Subject of each GPU's readings by PCI address, and which of the recording's GPUs have none."""

    subjects: dict[str, str]
    unmatched: list[int]


def relabel(
    sampler: TelemetrySampler,
    gpus: Sequence[Gpu],
    environment: Mapping[str, str],
    profiler: str,
) -> tuple[Columns, list[tuple[str, str]]]:
    """Return the readings with the subjects of a recording (``gpu:N``), and what to tell the user.

    A GPU that the recording does not have keeps ``device:<PCI address>``, and so do all that cannot be told
    apart: readings of the wrong card would be worse than none.
    """
    columns = sampler.readings.columns()
    if sampler.source is None:
        return columns, []
    nodes = kfd_nodes(sysfs_root(environment)) if sampler.source.name != "nvml" else []
    found = match(gpus, sampler.devices, nodes, environment, profiler, by_order=sampler.by_order)
    index, texts = columns.subject
    texts = [found.subjects.get(text.removeprefix("device:"), text) for text in texts]
    columns.subject = (index, texts)
    if not found.unmatched:
        return columns, []
    which = ", ".join(map(str, found.unmatched))
    message = (
        f"which of this machine's cards is GPU {which} of the recording cannot be told for sure: the "
        "readings of such cards keep their PCI addresses and are not set against kernels"
    )
    return columns, [("telemetry-unmatched", message)]


def match(
    gpus: Sequence[Gpu],
    devices: Sequence[Device],
    nodes: Sequence[Node],
    environment: Mapping[str, str],
    profiler: str,
    *,
    by_order: bool = True,
) -> Matched:
    """Match ``gpus`` of a recording to ``devices`` of the machine that it was made on.

    ``nodes`` are ROCm's, in its order; ``environment`` is the command's: what it may see it counts from 0.
    Without ``by_order`` it is not known what it sees: a container may have been given some of the cards.
    """
    alone = list(devices) if len(devices) == 1 else None
    seen = visible(devices, nodes, environment) if by_order else alone
    if not gpus:
        order = seen if seen is not None else list(devices)
        return Matched({device.bdf: f"gpu:{number}" for number, device in enumerate(order)}, [])
    by_bdf = {device.bdf: device for device in devices}
    by_node = {str(node.number): node.bdf for node in nodes}
    claims: dict[int, Device] = {}
    for gpu in gpus:
        place = gpu.pci or (by_node.get(gpu.agent, "") if profiler in _BY_NODE else "")
        device = by_bdf.get(place)
        ordinal = _ORDINAL.match(gpu.agent)
        if device is None and not place and seen is not None:
            if profiler == "torch" and ordinal and int(ordinal[1]) < len(seen):
                device = seen[int(ordinal[1])]
            elif len(gpus) == len(seen) == 1:
                device = seen[0]
        if device is not None and not (gpu.arch and device.arch and gpu.arch != device.arch):
            claims[gpu.gpu] = device
    often = Counter(device.bdf for device in claims.values())
    sure = {number: device for number, device in claims.items() if often[device.bdf] == 1}
    subjects = {device.bdf: f"gpu:{number}" for number, device in sure.items()}
    return Matched(subjects, [gpu.gpu for gpu in gpus if gpu.gpu not in sure])


def visible(
    devices: Sequence[Device], nodes: Sequence[Node], environment: Mapping[str, str]
) -> list[Device] | None:
    """Return the devices that a command with ``environment`` sees, in its order; ``None``: not for sure."""
    if any(device.uuid.startswith("GPU-") for device in devices):
        if environment.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID" and len({d.name for d in devices}) > 1:
            return None  # CUDA counts the fastest first
        order: list[Device] | None = sorted(devices, key=lambda each: each.bdf)
        variables: tuple[tuple[str, ...], ...] = (("CUDA_VISIBLE_DEVICES",),)
    else:
        by_bdf = {device.bdf: device for device in devices}
        order = [by_bdf[node.bdf] for node in nodes if node.bdf in by_bdf]
        if len(order) != len(nodes) or not nodes:  # ROCm's order is not known, which matters not for one
            order = list(devices) if len(devices) == 1 else None
        variables = (
            ("ROCR_VISIBLE_DEVICES",),
            (
                "HIP_VISIBLE_DEVICES",
                "CUDA_VISIBLE_DEVICES",
            ),  # HIP heeds the second where the first is not set
            ("GPU_DEVICE_ORDINAL",),
        )
    for names in variables:
        value = next((environment[name] for name in names if environment.get(name)), None)
        if order is not None and value is not None:
            order = _chosen(order, value)
    return order


def _chosen(devices: list[Device], value: str) -> list[Device] | None:
    """Return what a list of indices or UUIDs leaves; what it names wrongly ends it, as in the runtimes."""
    found: list[Device] = []
    for word in (part.strip() for part in value.split(",")):
        if word.isdecimal():
            same = devices[int(word) : int(word) + 1]
        elif word.upper().startswith("GPU-"):
            wanted = word.lower().removeprefix("gpu-")
            same = [d for d in devices if d.uuid.lower().removeprefix("gpu-").startswith(wanted)]
        elif word.startswith("MIG-"):
            return None  # a slice of a card, whose power is not told
        else:
            same = []
        if len(same) != 1 or same[0] in found:
            break
        found += same
    return found
