"""GPU sensors from the amdgpu driver's own files: no library, no ROCm.

Imported by the telemetry process, so nothing but the standard library is imported here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from rocscope.collectors import gpu_metrics
from rocscope.collectors.gpu_device import (
    MI100_DEVICES,
    Device,
    NothingRead,
    Reading,
    Unavailable,
    kfd_nodes,
    number,
    numbered,
    text,
)

AMD: Final = 0x1002
_CHOSEN: Final = re.compile(r"^\s*\d+:\s*(\d+)\s*Mhz\b.*\*", re.IGNORECASE | re.MULTILINE)
_ERRORS: Final = re.compile(r"^\s*(ue|ce):\s*(\d+)", re.MULTILINE)
_CLOCKS: Final = {
    "clock_hz": ("sclk", "pp_dpm_sclk"),
    "memory_clock_hz": ("mclk", "pp_dpm_mclk"),
    "soc_clock_hz": ("", "pp_dpm_socclk"),
}
_TEMPERATURES: Final = {
    "temperature_edge_c": "edge",
    "temperature_hotspot_c": "junction",
    "temperature_memory_c": "mem",
}
_PERCENT: Final = {"busy_frac": "gpu_busy_percent", "memory_busy_frac": "mem_busy_percent"}


class _Card(NamedTuple):
    device: Path  # /sys/class/drm/cardN/device
    sensors: dict[str, Path]  # of hwmon, by label or name: "junction", "sclk", "power1_average"
    errors: tuple[Path, ...]  # error counts of each block with RAS


class Reader:
    """Reads ``/sys/class/drm/card*/device``; each reading opens its files anew, as a reset voids them."""

    energy_tick_j = gpu_metrics.ENERGY_TICK_J

    def __init__(self, where: str | Path, tell: Callable[[str], None] = lambda _: None) -> None:
        """``where``: where sysfs is mounted; there is nothing slow to ``tell`` of."""
        self._sysfs = Path(where)
        self._cards: list[_Card] = []
        self._bits: list[int] = []
        self.devices: list[Device] = []
        self.version = ""

    def open(self) -> None:
        """Find the cards of the amdgpu driver, by PCI address; raises :class:`Unavailable`."""
        found: list[tuple[Device, _Card, int]] = []
        by_bdf = {node.bdf: node for node in kfd_nodes(self._sysfs)}
        versions = set()
        for card in amd_cards(self._sysfs):
            device = card / "device"
            place = _bdf(device)
            node = by_bdf.get(place)
            mi100 = number(device / "device") in MI100_DEVICES
            arch = node.arch if node else "gfx908" if mi100 else ""
            uuid = text(device / "unique_id") or (node.uuid if node else "")
            name = text(device / "product_name")
            version = _version(device)
            versions.add(version)
            identity = Device(place or card.name, uuid.lower(), name, arch)
            errors = sorted((device / "ras").glob("*_err_count"))
            parts = _Card(device, _sensors(device), tuple(errors))
            found.append((identity, parts, gpu_metrics.energy_bits(version, arch)))
        if not found:
            raise Unavailable("no-gpu", f"no GPU of the amdgpu driver under {self._sysfs}/class/drm")
        found.sort(key=lambda each: each[0].bdf)
        self.devices = [each[0] for each in found]
        self._cards = [each[1] for each in found]
        self._bits = [each[2] for each in found]
        known = sorted(versions - {""})
        self.version = f"gpu_metrics v{', v'.join(known)}" if known else "without gpu_metrics"

    def energy_bits(self, index: int) -> int:
        """Tell how wide the energy counter of a GPU is."""
        return self._bits[index]

    def read(self, index: int, before: Reading | None, *, slow: bool) -> Reading:
        """Read one card. Raises :class:`NothingRead` where not one of its files gave anything."""
        card = self._cards[index]
        fields = _table(card.device)
        values = gpu_metrics.readings(fields, before.fields if before else None)
        self._fill_gaps(values, card)
        used = number(card.device / "mem_info_vram_used")
        if used is not None:
            values["vram_used_bytes"] = float(used)
        if slow:
            self._seldom(values, card, fields)
        if not values:
            raise NothingRead("its files give nothing")
        return Reading(values, gpu_metrics.energy_ticks(fields), fields)

    def _fill_gaps(self, values: dict[str, float], card: _Card) -> None:
        """Read what the binary table lacked from the files that have one figure each."""
        if "power_w" not in values:
            power = _first(card.sensors, "power1_average", "power1_input")
            if power is not None:
                values["power_w"] = power / 1e6
        for metric, label in _TEMPERATURES.items():
            if metric not in values and (milli := _first(card.sensors, label)) is not None:
                values[metric] = milli / 1e3
        for metric, (label, levels) in _CLOCKS.items():
            if metric in values:
                continue
            hertz = _first(card.sensors, label)
            if hertz is None and (chosen := _CHOSEN.search(text(card.device / levels))):
                hertz = int(chosen[1]) * 1_000_000
            if hertz is not None:
                values[metric] = float(hertz)
        for metric, name in _PERCENT.items():
            if metric not in values:
                percent = number(card.device / name)
                if percent is not None and 0 <= percent <= 100:
                    values[metric] = percent / 100
        if "fan_rpm" not in values and (rpm := _first(card.sensors, "fan1_input")) is not None:
            values["fan_rpm"] = float(rpm)

    def _seldom(self, values: dict[str, float], card: _Card, fields: gpu_metrics.Fields) -> None:
        cap = _first(card.sensors, "power1_cap")
        if cap:  # 0: the driver cannot say
            values["power_cap_w"] = cap / 1e6
        total = number(card.device / "mem_info_vram_total")
        if total:
            values["vram_total_bytes"] = float(total)
        # the table's first: on cards with a switch of their own the file tells the link behind it
        table_width = fields.get("pcie_link_width")
        width = table_width if isinstance(table_width, int) else number(card.device / "current_link_width")
        for metric, lanes in (
            ("pcie_link_width", width),
            ("pcie_max_link_width", number(card.device / "max_link_width")),
        ):
            if lanes in gpu_metrics.LANES:
                values[metric] = float(lanes)
        counts = {"ce": 0, "ue": 0}
        told = False
        for path in card.errors:
            for kind, count in _ERRORS.findall(text(path)):
                counts[kind] += int(count)
                told = True
        if told:
            values["ecc_correctable"], values["ecc_uncorrectable"] = float(counts["ce"]), float(counts["ue"])

    def close(self) -> None:
        """Nothing is kept open."""


def amd_cards(sysfs: Path) -> list[Path]:
    """Return ``cardN`` of each GPU that the amdgpu driver serves."""
    cards = numbered(sysfs / "class" / "drm", "card")
    return [
        card
        for card in cards
        if number(card / "device" / "vendor") == AMD
        and ((card / "device" / "mem_info_vram_total").exists() or (card / "device" / "gpu_metrics").exists())
    ]


def _bdf(device: Path) -> str:
    for line in text(device / "uevent").splitlines():
        name, _, value = line.partition("=")
        if name == "PCI_SLOT_NAME":
            return value.strip().lower()
    return ""


def _table(device: Path) -> gpu_metrics.Fields:
    try:
        return gpu_metrics.decode(_blob(device))
    except (OSError, gpu_metrics.Unreadable):
        return {}


def _version(device: Path) -> str:
    """Return the version of a card's table, ``""`` where it cannot be used."""
    try:
        blob = _blob(device)
        gpu_metrics.decode(blob)
        return gpu_metrics.revision(blob)
    except (OSError, gpu_metrics.Unreadable):
        return ""


def _blob(device: Path) -> bytes:
    with (device / "gpu_metrics").open("rb", buffering=0) as stream:
        return stream.read(65_536) or b""


def _sensors(device: Path) -> dict[str, Path]:
    """Return the files of hwmon by label where they have one (``temp2_label``: junction), else by name."""
    found: dict[str, Path] = {}
    for folder in numbered(device / "hwmon", "hwmon"):
        for path in sorted(folder.iterdir()):
            if path.name.endswith(("_input", "_average", "_cap")):
                found.setdefault(path.name, path)
                label = text(folder / f"{path.name.rpartition('_')[0]}_label")
                if label:
                    found.setdefault(label, path)
    return found


def _first(sensors: dict[str, Path], *names: str) -> int | None:
    """Return the first of these sensors that has a figure."""
    for name in names:
        if name in sensors and (value := number(sensors[name])) is not None:
            return value
    return None


READER: Final = Reader
