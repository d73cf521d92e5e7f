"""The amdgpu driver's files, from synthetic trees: the table first, single files where it lacks a figure."""

from __future__ import annotations

from pathlib import Path

import pytest
from synthetic_sysfs import MI100, card, kfd_node, table

from rocscope.collectors.gpu_device import Device, NothingRead, Reading, Unavailable, arch, kfd_nodes
from rocscope.collectors.sysfs import Reader


def opened(root: Path) -> Reader:
    reader = Reader(root)
    reader.open()
    return reader


def test_an_mi100_is_read_from_its_table(tmp_path: Path) -> None:
    ras = {"ras__umc_err_count": "ue: 1\nce: 12", "ras__sdma_err_count": "ue: 0\nce: 3"}
    card(tmp_path, 0, blob=table(3, MI100), hwmon__power1_cap="290000000", node=2, **ras)
    reader = opened(tmp_path)
    assert reader.devices == [Device("0000:10:00.0", "000000000000abc0", "", "gfx908")]
    assert reader.version == "gpu_metrics v1.3" and reader.energy_bits(0) == 32
    found = reader.read(0, None, slow=True)
    assert found.energy_ticks == 1_000_000
    assert found.values["power_w"] == 211 and found.values["clock_hz"] == 1502e6
    assert found.values["vram_used_bytes"] == 12345678901 and found.values["vram_total_bytes"] == 34342961152
    assert found.values["power_cap_w"] == 290
    assert (found.values["ecc_correctable"], found.values["ecc_uncorrectable"]) == (15, 1)
    seldom = {"power_cap_w", "vram_total_bytes", "ecc_correctable", "ecc_uncorrectable"}
    assert not seldom & reader.read(0, None, slow=False).values.keys()


@pytest.mark.parametrize(
    ("in_table", "in_file", "lanes"),
    [(8, "16", 8.0), (None, "4", 4.0), (None, "0", None), (None, "255", None), (6, "16", None)],
)
def test_the_link_is_told_by_the_table_first(
    tmp_path: Path, in_table: int | None, in_file: str, lanes: float | None
) -> None:
    fields = MI100 if in_table is None else MI100 | {"pcie_link_width": in_table}
    card(tmp_path, 0, blob=table(3, fields), current_link_width=in_file, max_link_width="16")
    reader = opened(tmp_path)
    values = reader.read(0, None, slow=True).values
    assert (values.get("pcie_link_width"), values["pcie_max_link_width"]) == (lanes, 16)
    assert "pcie_link_width" not in reader.read(0, None, slow=False).values


SINGLE_FILES = {
    "gpu_busy_percent": "93",
    "mem_busy_percent": "0",
    "hwmon__power1_average": "211000000",
    "hwmon__temp1_input": "41000",
    "hwmon__temp1_label": "edge",
    "hwmon__temp2_input": "66000",
    "hwmon__temp2_label": "junction",
    "hwmon__temp3_input": "58000",
    "hwmon__temp3_label": "mem",
    "hwmon__freq1_input": "1502000000",
    "hwmon__freq1_label": "sclk",
    "hwmon__fan1_input": "0",
    "pp_dpm_mclk": "0: 167Mhz\n1: 1200Mhz *",
    "pp_dpm_socclk": "0: 1000Mhz\n1: 1091Mhz *\n2: 1200Mhz",
}


def test_without_a_table_single_files_are_read(tmp_path: Path) -> None:
    card(tmp_path, 0, **SINGLE_FILES)
    reader = opened(tmp_path)
    assert reader.version == "without gpu_metrics"
    found = reader.read(0, None, slow=False)
    assert found == Reading(
        {
            "power_w": 211.0,
            "temperature_edge_c": 41.0,
            "temperature_hotspot_c": 66.0,
            "temperature_memory_c": 58.0,
            "clock_hz": 1502e6,
            "memory_clock_hz": 1200e6,
            "soc_clock_hz": 1091e6,
            "busy_frac": 0.93,
            "memory_busy_frac": 0.0,
            "fan_rpm": 0.0,
            "vram_used_bytes": 12345678901.0,
        },
        None,
        {},
    )


def test_single_files_fill_what_the_table_lacks_and_nothing_else(tmp_path: Path) -> None:
    card(tmp_path, 0, blob=table(3, {"average_socket_power": 100}), **SINGLE_FILES)
    values = opened(tmp_path).read(0, None, slow=False).values
    assert values["power_w"] == 100 and values["temperature_edge_c"] == 41 and values["busy_frac"] == 0.93


def test_a_table_of_an_unknown_version_is_left_alone(tmp_path: Path) -> None:
    card(tmp_path, 0, blob=b"\x08\x01\x03\x00" + bytes(260), hwmon__power1_input="15000000")
    reader = opened(tmp_path)
    assert reader.version == "without gpu_metrics"
    assert reader.read(0, None, slow=False).values["power_w"] == 15


def test_broken_files_are_missing_figures(tmp_path: Path) -> None:
    broken = {
        "mem_info_vram_used": "many",
        "gpu_busy_percent": "400",
        "hwmon__power1_average": "",
        "hwmon__power1_cap": "0",
        "pp_dpm_sclk": "0: 300Mhz\n1: 1502Mhz",
        "ras__umc_err_count": "query failed",
    }
    card(tmp_path, 0, mem_info_vram_total="0", **broken)
    reader = opened(tmp_path)
    with pytest.raises(NothingRead, match="give nothing"):
        reader.read(0, None, slow=True)
    reader.close()


def test_cards_are_those_of_amdgpu_by_address(tmp_path: Path) -> None:
    for index in (10, 2, 0):
        card(tmp_path, index, blob=table(3, MI100 | {"average_socket_power": 100 + index}))
    card(tmp_path, 3, vendor="0x10de")
    (tmp_path / "class/drm/card0-DP-1/device").mkdir(parents=True)
    (tmp_path / "class/drm/renderD128").mkdir()
    simple = tmp_path / "class/drm/card7/device"  # amdgpu's compute partitions have no memory of their own
    simple.mkdir(parents=True)
    (simple / "vendor").write_text("0x1002\n")
    reader = opened(tmp_path)
    assert [device.bdf for device in reader.devices] == ["0000:10:00.0", "0000:30:00.0", "0000:b0:00.0"]
    powers = [reader.read(index, None, slow=False).values["power_w"] for index in range(3)]
    assert powers == [100, 102, 110]


def test_a_machine_without_amd_says_so(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="no GPU of the amdgpu driver") as raised:
        opened(tmp_path)
    assert raised.value.kind == "no-gpu"


def test_a_card_without_an_address_keeps_its_own_name(tmp_path: Path) -> None:
    card(tmp_path, 0, uevent="DRIVER=amdgpu", device="0x74a1")
    reader = opened(tmp_path)
    assert reader.devices == [Device("card0", "000000000000abc0", "", "")] and reader.energy_bits(0) == 64


def test_rocms_topology_is_read_in_its_order(tmp_path: Path) -> None:
    kfd_node(tmp_path, 0, location=None)
    kfd_node(tmp_path, 10, location=0xC100, unique=0xF)
    kfd_node(tmp_path, 2, location=0x7511, target=90402)
    (tmp_path / "class/kfd/kfd/topology/nodes/3").mkdir()  # hidden by the container: nothing to read
    found = kfd_nodes(tmp_path)
    assert [(node.number, node.bdf, node.arch, node.uuid) for node in found] == [
        (2, "0000:75:02.1", "gfx942", ""),
        (10, "0000:c1:00.0", "gfx908", "000000000000000f"),
    ]
    assert [arch(target) for target in (90010, 110501, 0)] == ["gfx90a", "gfx1151", ""]
