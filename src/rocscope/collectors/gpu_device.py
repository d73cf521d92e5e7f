"""What a telemetry source tells: which GPUs there are, one reading of one of them, why it cannot.

Imported by the telemetry process, so nothing but the standard library is imported here.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Final, Literal, NamedTuple, Protocol

from rocscope.collectors.gpu_metrics import Fields

Absence = Literal[
    "no-gpu",
    "no-package",
    "no-library",
    "wrong-version",
    "no-driver",
    "no-permission",
    "failed",
]
MI100_DEVICES: Final = frozenset({0x7388, 0x738C, 0x738E, 0x7390})  # PCI ids that amdgpu drives as gfx908


class Device(NamedTuple):
    """One physical GPU. What is not known is ``""``."""

    bdf: str  # "0000:c1:00.0"
    uuid: str = ""  # AMD: the unique id, 16 hexadecimal digits; NVIDIA: "GPU-…"
    name: str = ""
    arch: str = ""  # "gfx908"; NVIDIA's is not told


class Reading(NamedTuple):
    """One reading of one GPU."""

    values: dict[str, float]  # our metrics; what the GPU does not give is absent
    energy_ticks: int | None = None
    fields: Fields | None = None  # as read, for the reading after


class Unavailable(Exception):
    """A source that cannot be used: of which kind the cause is, and in words."""

    def __init__(self, kind: Absence, text: str) -> None:
        super().__init__(text)
        self.kind: Absence = kind
        self.text = text


class NothingRead(Exception):
    """One reading of one GPU that gave nothing; the message says why in a few words."""


class GpuReset(Exception):
    """The driver restarted its GPU: all that was opened is void."""


class GpuReader(Protocol):
    """One way to read GPUs. Its methods may hang, crash and print: they run in a process of their own."""

    version: str  # of the library, for the notice
    devices: list[Device]
    energy_tick_j: float

    def open(self) -> None:
        """Find the GPUs. Raises :class:`Unavailable`."""
        ...

    def energy_bits(self, index: int) -> int:
        """Tell how wide the energy counter of a GPU is."""
        ...

    def read(self, index: int, before: Reading | None, *, slow: bool) -> Reading:
        """Read one GPU; ``slow``: also what seldom changes. Raises :class:`NothingRead`."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


class Node(NamedTuple):
    """A GPU in the order in which ROCm counts them."""

    number: int  # as rocprof and rocprofv2 name it
    bdf: str
    arch: str
    uuid: str


def kfd_nodes(sysfs: Path) -> list[Node]:
    """Return the GPUs of ROCm's topology; those that a container hides have no properties to read."""
    found = []
    folder = sysfs / "class" / "kfd" / "kfd" / "topology" / "nodes"
    for node in numbered(folder, ""):
        known: dict[str, int] = {}
        for line in text(node / "properties").splitlines():
            name, _, value = line.partition(" ")
            with contextlib.suppress(ValueError):
                known[name] = int(value)
        place = known.get("location_id", 0)
        if known.get("simd_count", 0) <= 0 or "location_id" not in known:
            continue
        unique = known.get("unique_id", 0)
        found.append(
            Node(
                int(node.name),
                bdf(known.get("domain", 0), place),
                arch(known.get("gfx_target_version", 0)),
                f"{unique:016x}" if unique else "",
            )
        )
    return found


def bdf(domain: int, location: int) -> str:
    """Return a PCI address; ``location`` is bus, device and function in 16 bits, as ROCm packs them."""
    return f"{domain:04x}:{location >> 8 & 0xFF:02x}:{location >> 3 & 0x1F:02x}.{location & 7}"


def address(domain: object, location: object) -> str:
    """Return the PCI address that a recording tells, ``""`` where it tells none; nothing lies at bus 0."""
    if not isinstance(location, int) or location <= 0:
        return ""
    return bdf(domain if isinstance(domain, int) and 0 <= domain <= 0xFFFF else 0, location)


def arch(target: int) -> str:
    """Return the name of a ``gfx_target_version``: 90008 is gfx908, 90010 gfx90a, 110501 gfx1151."""
    return f"gfx{target // 10_000}{target // 100 % 100:x}{target % 100:x}" if target else ""


def numbered(folder: Path, prefix: str) -> list[Path]:
    """Return the entries ``<prefix><number>`` of a folder by number; none where it cannot be read."""
    try:
        entries = list(folder.iterdir())
    except OSError:
        return []
    named = [e for e in entries if e.name.startswith(prefix) and e.name[len(prefix) :].isdecimal()]
    return sorted(named, key=lambda each: int(each.name[len(prefix) :]))


def text(path: Path) -> str:
    """Return a small file's text, ``""`` where it cannot be read."""
    try:
        with path.open("rb") as stream:
            return stream.read(65_536).decode("utf-8", "replace").strip()
    except OSError:
        return ""


def number(path: Path) -> int | None:
    """Return the integer that is a file's text, ``None`` where there is none."""
    try:
        return int(text(path), 0)
    except ValueError:
        return None
