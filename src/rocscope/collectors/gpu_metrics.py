"""AMD's ``gpu_metrics``: the versioned binary table of a GPU's sensors, and what we call its fields.

Imported by the telemetry process, so nothing but the standard library is imported here.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Final

Fields = dict[str, "int | list[int]"]
"""What a GPU gave, by AMD SMI's names of the fields; what it did not give is absent."""

ENERGY_TICK_J: Final = 2**-16
"""Unit of ``energy_accumulator``: 15.259 uJ (kernel, kgd_pp_interface.h; AMD SMI rounds it to 15.3)."""

LANES: Final = frozenset({1, 2, 4, 8, 12, 16, 32})
"""Widths that a PCIe link can have (PCI Express base specification); all else, 0 too, is no width."""

_CLOCKS: Final = ("gfxclk", "socclk", "uclk", "vclk0", "dclk0", "vclk1", "dclk1")
_SENSORS: Final = ("edge", "hotspot", "mem", "vrgfx", "vrsoc", "vrmem")
_TEMPERATURES: Final = tuple(f"temperature_{each}:H" for each in _SENSORS)
_ACTIVITY: Final = ("average_gfx_activity:H", "average_umc_activity:H", "average_mm_activity:H")
_AVERAGES: Final = tuple(f"average_{each}_frequency:H" for each in _CLOCKS)
_CURRENTS: Final = tuple(f"current_{each}:H" for each in _CLOCKS)
_V1_0: Final = (
    *("system_clock_counter:Q", *_TEMPERATURES, *_ACTIVITY, "average_socket_power:H", "energy_accumulator:I"),
    *(*_AVERAGES, *_CURRENTS, "throttle_status:I", "current_fan_speed:H"),
    *("pcie_link_width:B", "pcie_link_speed:B"),
)
_V1_1: Final = (
    *(*_TEMPERATURES, *_ACTIVITY, "average_socket_power:H", "energy_accumulator:Q", "system_clock_counter:Q"),
    *(*_AVERAGES, *_CURRENTS, "throttle_status:I", "current_fan_speed:H"),
    *("pcie_link_width:H", "pcie_link_speed:H", "-:H", "gfx_activity_acc:I", "mem_activity_acc:I"),
    "temperature_hbm:4H",
)
_V1_2: Final = (*_V1_1, "firmware_timestamp:Q")
_V1_3: Final = (
    *_V1_2,
    *("voltage_soc:H", "voltage_gfx:H", "voltage_mem:H", "-:H", "indep_throttle_status:Q"),
)
_SOCKET: Final = (
    *("temperature_hotspot:H", "temperature_mem:H", "temperature_vrsoc:H", "current_socket_power:H"),
    *("average_gfx_activity:H", "average_umc_activity:H"),
)
_ENERGY: Final = ("energy_accumulator:Q", "system_clock_counter:Q")
_RESIDENCIES: Final = (
    *("accumulation_counter:I", "prochot_residency_acc:I", "ppt_residency_acc:I"),
    *("socket_thm_residency_acc:I", "vr_thm_residency_acc:I", "hbm_thm_residency_acc:I"),
)
_LINKS: Final = (
    *("gfxclk_lock_status:I", "pcie_link_width:H", "pcie_link_speed:H", "xgmi_link_width:H"),
    *("xgmi_link_speed:H", "gfx_activity_acc:I", "mem_activity_acc:I", "pcie_bandwidth_acc:Q"),
    *("pcie_bandwidth_inst:Q", "pcie_l0_to_recov_count_acc:Q", "pcie_replay_count_acc:Q"),
    "pcie_replay_rover_count_acc:Q",
)
_NAKS: Final = ("pcie_nak_sent_count_acc:I", "pcie_nak_rcvd_count_acc:I")
_XGMI: Final = ("xgmi_read_data_acc:8Q", "xgmi_write_data_acc:8Q")
_EACH_CLOCK: Final = (
    *("firmware_timestamp:Q", "current_gfxclks:8H", "current_socclks:4H", "current_vclk0s:4H"),
    *("current_dclk0s:4H", "current_uclk:H", "-:H"),
)
_V1_4: Final = (*_SOCKET, "-:4H", *_ENERGY, "throttle_status:I", *_LINKS, *_XGMI, *_EACH_CLOCK)
_V1_5: Final = (
    *(*_SOCKET, "-:4H", "-:32H", *_ENERGY, "throttle_status:I", *_LINKS, *_NAKS, *_XGMI, *_EACH_CLOCK),
)
_V1_6: Final = (*_SOCKET, *_ENERGY, *_RESIDENCIES, *_LINKS, *_NAKS, *_XGMI, *_EACH_CLOCK)
_V1_7: Final = (
    *(*_SOCKET, "mem_max_bandwidth:Q", *_ENERGY, *_RESIDENCIES, *_LINKS, *_NAKS, *_XGMI),
    *("xgmi_link_status:8H", "-:H", *_EACH_CLOCK),
)
_LAYOUTS: Final = {  # by content revision of format 1: bytes, and fields as in the kernel's header
    0: (80, _V1_0),
    1: (96, _V1_1),
    2: (104, _V1_2),
    3: (120, _V1_3),
    4: (288, _V1_4),
    5: (360, _V1_5),
    6: (1664, _V1_6),  # from here on figures of each partition follow, which are not read
    7: (2208, _V1_7),
    8: (3360, _V1_7),
}
_HEADER: Final = struct.Struct("<HBB")

_POWER_BITS: Final = 0x0000_0000_0000_00FF  # PPT0-3, SPL, FPPT, SPPT
_CURRENT_BITS: Final = 0x0000_0000_00FF_0000  # TDC, EDC, APCC
_THERMAL_BITS: Final = 0x0000_FFFF_0000_0000  # temperatures, VRHOT, PROCHOT
_RELIABILITY_BITS: Final = 0xFF00_0000_0000_0000  # PPM, FIT
_RESIDENCY_REASONS: Final = {
    "throttled_power": ("ppt_residency_acc",),
    "throttled_thermal": (
        *("prochot_residency_acc", "socket_thm_residency_acc"),
        *("vr_thm_residency_acc", "hbm_thm_residency_acc"),
    ),
}


class Unreadable(ValueError):
    """A table of an unknown version, or one that is cut off; the message says which."""


def _compile(fields: tuple[str, ...]) -> list[tuple[str, int, str, int]]:
    """Return (name, offset, type, count) as a C compiler lays them out behind the header."""
    offset, found = _HEADER.size, []
    for each in fields:
        name, _, kind = each.partition(":")
        code, count = kind[-1], int(kind[:-1] or 1)
        width = struct.calcsize(f"<{code}")
        offset += -offset % width
        if name != "-":
            found.append((name, offset, code, count))
        offset += width * count
    return found


def _unpackers() -> dict[int, tuple[int, struct.Struct, list[tuple[str, str, int]]]]:
    made = {}
    for revision, (size, fields) in _LAYOUTS.items():
        pattern, at, named = "<", 0, []
        for name, offset, code, count in _compile(fields):
            pattern += f"{offset - at}x{count}{code}"
            at = offset + struct.calcsize(f"<{count}{code}")
            named.append((name, code, count))
        made[revision] = (size, struct.Struct(pattern), named)
    return made


_UNPACKERS: Final = _unpackers()
_MISSING: Final = {code: (1 << 8 * struct.calcsize(f"<{code}")) - 1 for code in "BHIQ"}


def revision(blob: bytes) -> str:
    """Return ``"1.3"``; raises :class:`Unreadable` for what has no header."""
    if len(blob) < _HEADER.size:
        raise Unreadable(f"gpu_metrics holds {len(blob)} bytes")
    _, form, content = _HEADER.unpack_from(blob)
    return f"{form}.{content}"


def decode(blob: bytes) -> Fields:
    """Return the fields of a table of version 1.0 to 1.8.

    A field that is all ones in its own width is not filled by this GPU, and absent. Raises
    :class:`Unreadable` for another version, a size that is not that version's, or a table cut short.
    """
    version = revision(blob)
    size, form, content = _HEADER.unpack_from(blob)
    if form != 1 or content not in _UNPACKERS:
        raise Unreadable(f"gpu_metrics v{version} is not known")
    expected, unpacker, named = _UNPACKERS[content]
    if size != expected or len(blob) < size:
        raise Unreadable(f"gpu_metrics v{version} of {size} bytes ({len(blob)} read) instead of {expected}")
    values = iter(unpacker.unpack_from(blob))
    fields: Fields = {}
    for name, code, count in named:
        missing = _MISSING[code]
        if count == 1:
            value = next(values)
            if value != missing:
                fields[name] = value
        elif kept := [each for each in (next(values) for _ in range(count)) if each != missing]:
            fields[name] = kept
    return fields


def readings(fields: Fields, before: Mapping[str, int | list[int]] | None = None) -> dict[str, float]:
    """Return our metrics of ``fields``; ``before`` are those of the reading before, for residencies.

    Power in W, clocks in Hz (over the dies of a GPU their mean), temperatures in C, activity 0 to 1 as the
    firmware averages it, XGMI totals in bytes over all links (the table counts units of 1024). Energy is
    left to :func:`energy_ticks`: it needs its history.
    """
    found: dict[str, float] = {}
    for metric, scale, names in _DIRECT:
        for name in names:
            value = fields.get(name)
            if value is not None:
                found[metric] = (sum(value) / len(value) if isinstance(value, list) else value) * scale
                break
    for metric, name in _ACTIVITIES:
        percent = fields.get(name)
        if isinstance(percent, int) and percent <= 100:
            found[metric] = percent / 100
    for metric, name in _TOTALS:
        parts = fields.get(name)
        if isinstance(parts, list):
            found[metric] = sum(parts) * 1024.0
    _add_throttling(found, fields, before)
    return found


_DIRECT: Final = (
    ("power_w", 1.0, ("current_socket_power", "average_socket_power")),
    ("clock_hz", 1e6, ("current_gfxclk", "current_gfxclks", "average_gfxclk_frequency")),
    ("memory_clock_hz", 1e6, ("current_uclk", "average_uclk_frequency")),
    ("soc_clock_hz", 1e6, ("current_socclk", "current_socclks", "average_socclk_frequency")),
    ("temperature_hotspot_c", 1.0, ("temperature_hotspot",)),
    ("temperature_edge_c", 1.0, ("temperature_edge",)),
    ("temperature_memory_c", 1.0, ("temperature_mem",)),
    ("fan_rpm", 1.0, ("current_fan_speed",)),
    ("pcie_bytes_per_s", 125_000.0, ("pcie_bandwidth_inst",)),  # Mbit/s, as AMD SMI documents it
)
_ACTIVITIES: Final = (("busy_frac", "average_gfx_activity"), ("memory_busy_frac", "average_umc_activity"))
_TOTALS: Final = (("xgmi_read_bytes", "xgmi_read_data_acc"), ("xgmi_write_bytes", "xgmi_write_data_acc"))


def _add_throttling(
    found: dict[str, float], fields: Fields, before: Mapping[str, int | list[int]] | None
) -> None:
    """Say whether the GPU throttles, and why where its table tells reasons the same way on every GPU."""
    bits, own = fields.get("indep_throttle_status"), fields.get("throttle_status")
    if isinstance(bits, int):
        found["throttle_status"] = float(bits & ~_RELIABILITY_BITS)  # a double holds 53 bits
        found["throttled_power"] = float(bool(bits & _POWER_BITS))
        found["throttled_current"] = float(bool(bits & _CURRENT_BITS))
        found["throttled_thermal"] = float(bool(bits & _THERMAL_BITS))
        found["throttled_reliability"] = float(bool(bits & _RELIABILITY_BITS))
        found["throttled"] = float(bool(bits))
    if isinstance(own, int):
        found["throttled"] = float(bool(own) or bool(found.get("throttled")))
    if before is None:
        return
    for metric, names in _RESIDENCY_REASONS.items():
        grown = [_grown(name, fields, before) for name in names]
        if None not in grown:
            found[metric] = float(any(grown))
            found["throttled"] = float(any(grown) or bool(found.get("throttled")))


def _grown(name: str, fields: Fields, before: Mapping[str, int | list[int]]) -> bool | None:
    now, then = fields.get(name), before.get(name)
    return now != then if isinstance(now, int) and isinstance(then, int) else None


def energy_ticks(fields: Fields) -> int | None:
    """Return the energy counter in :data:`ENERGY_TICK_J`, ``None`` where the GPU keeps none (it reads 0)."""
    ticks = fields.get("energy_accumulator")
    return ticks if isinstance(ticks, int) and ticks else None


def energy_bits(version: str, arch: str) -> int:
    """Return how wide the counter really is: 32 bits in v1.0, and in MI100's firmware whatever the table."""
    return 32 if version == "1.0" or arch == "gfx908" else 64
