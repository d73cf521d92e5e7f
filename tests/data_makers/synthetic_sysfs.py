"""Makes synthetic trees of the amdgpu driver's files, with gpu_metrics tables packed field by field.

Offsets are written down here as they are in the kernel's header (kgd_pp_interface.h, natural alignment),
apart from how rocscope lays the table out, so that each checks the other.
"""

from __future__ import annotations

import struct
from pathlib import Path

SIZES = {0: 80, 1: 96, 2: 104, 3: 120, 4: 288, 5: 360, 6: 1664, 7: 2208, 8: 3360}
_DISCRETE = {  # v1.1 to v1.3; one more field each
    "temperature_edge": (4, "H"),
    "temperature_hotspot": (6, "H"),
    "temperature_mem": (8, "H"),
    "average_gfx_activity": (16, "H"),
    "average_umc_activity": (18, "H"),
    "average_socket_power": (22, "H"),
    "energy_accumulator": (24, "Q"),
    "average_gfxclk_frequency": (40, "H"),
    "current_gfxclk": (54, "H"),
    "current_socclk": (56, "H"),
    "current_uclk": (58, "H"),
    "throttle_status": (68, "I"),
    "current_fan_speed": (72, "H"),
    "pcie_link_width": (74, "H"),
    "firmware_timestamp": (96, "Q"),
    "indep_throttle_status": (112, "Q"),
}
_FIRST = {
    "temperature_edge": (16, "H"),
    "temperature_hotspot": (18, "H"),
    "temperature_mem": (20, "H"),
    "average_gfx_activity": (28, "H"),
    "average_umc_activity": (30, "H"),
    "average_socket_power": (34, "H"),
    "energy_accumulator": (36, "I"),
    "average_gfxclk_frequency": (40, "H"),
    "current_gfxclk": (54, "H"),
    "current_socclk": (56, "H"),
    "current_uclk": (58, "H"),
    "throttle_status": (68, "I"),
    "current_fan_speed": (72, "H"),
}
_SOCKET = {
    "temperature_hotspot": (4, "H"),
    "temperature_mem": (6, "H"),
    "current_socket_power": (10, "H"),
    "average_gfx_activity": (12, "H"),
    "average_umc_activity": (14, "H"),
}
OFFSETS: dict[int, dict[str, tuple[int, str]]] = {
    0: _FIRST,
    1: _DISCRETE,
    2: _DISCRETE,
    3: _DISCRETE,
    4: _SOCKET
    | {
        "energy_accumulator": (24, "Q"),
        "throttle_status": (40, "I"),
        "pcie_bandwidth_inst": (72, "Q"),
        "xgmi_read_data_acc": (104, "8Q"),
        "xgmi_write_data_acc": (168, "8Q"),
        "current_gfxclks": (240, "8H"),
        "current_socclks": (256, "4H"),
        "current_uclk": (280, "H"),
    },
    5: _SOCKET
    | {
        "energy_accumulator": (88, "Q"),
        "throttle_status": (104, "I"),
        "xgmi_read_data_acc": (176, "8Q"),
        "current_gfxclks": (312, "8H"),
        "current_uclk": (352, "H"),
    },
    6: _SOCKET
    | {
        "energy_accumulator": (16, "Q"),
        "prochot_residency_acc": (36, "I"),
        "ppt_residency_acc": (40, "I"),
        "socket_thm_residency_acc": (44, "I"),
        "vr_thm_residency_acc": (48, "I"),
        "hbm_thm_residency_acc": (52, "I"),
        "pcie_bandwidth_inst": (88, "Q"),
        "xgmi_read_data_acc": (128, "8Q"),
        "xgmi_write_data_acc": (192, "8Q"),
        "current_gfxclks": (264, "8H"),
        "current_uclk": (304, "H"),
    },
    7: _SOCKET
    | {
        "energy_accumulator": (24, "Q"),
        "ppt_residency_acc": (48, "I"),
        "pcie_bandwidth_inst": (96, "Q"),
        "xgmi_read_data_acc": (136, "8Q"),
        "current_gfxclks": (296, "8H"),
        "current_socclks": (312, "4H"),
        "current_uclk": (336, "H"),
    },
}
OFFSETS[8] = OFFSETS[7]

MI100 = {
    "temperature_edge": 41,
    "temperature_hotspot": 66,
    "temperature_mem": 58,
    "average_gfx_activity": 93,
    "average_umc_activity": 34,
    "average_socket_power": 211,
    "energy_accumulator": 1_000_000,
    "current_gfxclk": 1502,
    "current_socclk": 1091,
    "current_uclk": 1200,
    "throttle_status": 0,
    "indep_throttle_status": 0,
    "current_fan_speed": 0,
}
"""What an MI100 fills of v1.3; the figures are made up."""


def table(content: int, fields: dict[str, int | list[int]]) -> bytes:
    """Pack a table of version 1.``content``; fields that are not given stay all ones: not filled."""
    blob = bytearray(b"\xff" * SIZES[content])
    struct.pack_into("<HBB", blob, 0, SIZES[content], 1, content)
    for name, value in fields.items():
        offset, kind = OFFSETS[content][name]
        if offset < SIZES[content]:
            struct.pack_into(f"<{kind}", blob, offset, *(value if isinstance(value, list) else [value]))
    return bytes(blob)


def card(
    root: Path,
    index: int,
    *,
    blob: bytes | None = None,
    node: int | None = None,
    bus: int | None = None,
    **files: str,
) -> Path:
    """Make card ``index`` at ``bus``, by default 0x10, 0x20, ... under ``root``; return its device folder.

    ``files`` are further files: ``gpu_busy_percent="93"``, ``hwmon__power1_average="211000000"``
    (``__`` for a slash; hwmon's folder has a number of its own).
    """
    device = root / "class" / "drm" / f"card{index}" / "device"
    device.mkdir(parents=True)
    bus = 0x10 + 0x10 * index if bus is None else bus
    given = {
        "vendor": "0x1002",
        "device": "0x738c",
        "uevent": f"DRIVER=amdgpu\nPCI_ID=1002:738C\nPCI_SLOT_NAME=0000:{bus:02x}:00.0",
        "unique_id": f"{0xABC0 + index:016x}",
        "mem_info_vram_total": "34342961152",
        "mem_info_vram_used": "12345678901",
        **files,
    }
    for name, content in given.items():
        path = device / name.replace("hwmon__", f"hwmon/hwmon{index + 3}/").replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n", encoding="utf-8")
    if blob is not None:
        (device / "gpu_metrics").write_bytes(blob)
    if node is not None:
        kfd_node(root, node, location=bus << 8, unique=0xABC0 + index)
    return device


def kfd_node(root: Path, number: int, *, location: int | None, unique: int = 0, target: int = 90008) -> None:
    """Make node ``number`` of ROCm's topology: a CPU where ``location`` is ``None``."""
    folder = root / "class" / "kfd" / "kfd" / "topology" / "nodes" / str(number)
    folder.mkdir(parents=True)
    known = {"simd_count": 0 if location is None else 480, "gfx_target_version": target if location else 0}
    if location is not None:
        known |= {"location_id": location, "domain": 0, "unique_id": unique}
    (folder / "properties").write_text("".join(f"{name} {value}\n" for name, value in known.items()))
