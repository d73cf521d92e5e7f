"""AMD's table of sensors: every version packed by offset and read back, what is not filled is missing."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic_sysfs import MI100, OFFSETS, SIZES, table

from rocscope.collectors import gpu_metrics

REASONS = ("throttle_status", *(f"throttled_{r}" for r in ("power", "current", "thermal", "reliability")))
WIDTHS = {"B": 8, "H": 16, "I": 32, "Q": 64}


@pytest.mark.parametrize("content", [0, 1, 2, 3])
def test_what_an_mi100_fills_comes_back_in_our_units(content: int) -> None:
    given = {name: value for name, value in MI100.items() if name in OFFSETS[content]}
    fields = gpu_metrics.decode(table(content, given))
    assert gpu_metrics.readings(fields) == {
        "power_w": 211.0,
        "clock_hz": 1502e6,
        "memory_clock_hz": 1200e6,
        "soc_clock_hz": 1091e6,
        "temperature_edge_c": 41.0,
        "temperature_hotspot_c": 66.0,
        "temperature_memory_c": 58.0,
        "busy_frac": 0.93,
        "memory_busy_frac": 0.34,
        "fan_rpm": 0.0,
        "throttled": 0.0,
        **(dict.fromkeys(REASONS, 0.0) if content == 3 else {}),
    }
    assert gpu_metrics.energy_ticks(fields) == 1_000_000
    assert gpu_metrics.energy_bits(f"1.{content}", "") == (32 if content == 0 else 64)
    assert gpu_metrics.energy_bits(f"1.{content}", "gfx908") == 32


@pytest.mark.parametrize("content", sorted(SIZES))
def test_a_table_that_fills_nothing_gives_nothing(content: int) -> None:
    fields = gpu_metrics.decode(table(content, {}))
    assert fields == {} and gpu_metrics.readings(fields) == {} and gpu_metrics.energy_ticks(fields) is None


@pytest.mark.parametrize("content", [4, 5, 6, 7, 8])
def test_tables_of_the_mi300_generation(content: int) -> None:
    given: dict[str, int | list[int]] = {
        "temperature_hotspot": 71,
        "current_socket_power": 690,
        "average_gfx_activity": 100,
        "energy_accumulator": 1 << 40,
        "xgmi_read_data_acc": [100, 200, *[(1 << 64) - 1] * 6],
        "current_gfxclks": [2100, 2000, *[0xFFFF] * 6],
        "current_uclk": 1300,
    }
    if "pcie_bandwidth_inst" in OFFSETS[content]:
        given["pcie_bandwidth_inst"] = 8
    fields = gpu_metrics.decode(table(content, given))
    found = gpu_metrics.readings(fields)
    assert found["power_w"] == 690 and found["clock_hz"] == 2050e6 and found["memory_clock_hz"] == 1300e6
    assert found["xgmi_read_bytes"] == 300 * 1024 and "xgmi_write_bytes" not in found
    assert found.get("pcie_bytes_per_s") == (1e6 if "pcie_bandwidth_inst" in given else None)
    assert gpu_metrics.energy_ticks(fields) == 1 << 40
    assert found["busy_frac"] == 1.0 and "memory_busy_frac" not in found and "temperature_edge_c" not in found


@given(st.sampled_from(sorted(SIZES)), st.data())
def test_every_field_survives_the_way_through_any_version(content: int, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(OFFSETS[content])))
    offset, kind = OFFSETS[content][name]
    if offset >= SIZES[content]:
        return
    bits = WIDTHS[kind[-1]]
    each = st.integers(0, (1 << bits) - 1)
    value = data.draw(st.lists(each, min_size=int(kind[0]), max_size=int(kind[0])) if len(kind) > 1 else each)
    fields = gpu_metrics.decode(table(content, {name: value}))
    missing = (1 << bits) - 1
    if isinstance(value, list):
        assert fields.get(name, []) == [one for one in value if one != missing]
    else:
        assert fields == ({} if value == missing else {name: value})


def test_only_all_ones_of_the_fields_own_width_is_missing() -> None:
    assert gpu_metrics.readings(gpu_metrics.decode(table(3, {"average_socket_power": 255})))["power_w"] == 255
    assert "power_w" not in gpu_metrics.readings(
        gpu_metrics.decode(table(3, {"average_socket_power": 65535}))
    )
    found = gpu_metrics.readings(
        gpu_metrics.decode(table(3, {"average_gfx_activity": 101, "current_uclk": 0}))
    )
    assert found == {"memory_clock_hz": 0.0}  # more than 100 % is no activity; 0 is a value


@pytest.mark.parametrize(
    ("bit", "reason"),
    [
        *((0, "power"), (7, "power"), (16, "current"), (23, "current")),
        *((32, "thermal"), (47, "thermal"), (56, "reliability"), (57, "reliability")),
    ],
)
def test_throttling_is_told_with_its_reason(bit: int, reason: str) -> None:
    found = gpu_metrics.readings(gpu_metrics.decode(table(3, {"indep_throttle_status": 1 << bit})))
    assert found["throttled"] == 1.0
    reasons = {name for name in found if name.startswith("throttled_") and found[name]}
    assert reasons == {f"throttled_{reason}"}
    assert found["throttle_status"] == (0.0 if bit >= 56 else float(1 << bit))


def test_bits_that_only_this_gpu_understands_tell_that_it_throttles_and_not_why() -> None:
    found = gpu_metrics.readings(gpu_metrics.decode(table(1, {"throttle_status": 4})))
    assert found == {"throttled": 1.0}


def test_residencies_tell_throttling_between_two_readings() -> None:
    names = ("prochot", "ppt", "socket_thm", "vr_thm", "hbm_thm")
    first = gpu_metrics.decode(table(6, {f"{name}_residency_acc": 5 for name in names}))
    assert "throttled" not in gpu_metrics.readings(first)  # one reading shows no growth
    same = gpu_metrics.readings(first, first)
    assert (same["throttled"], same["throttled_power"], same["throttled_thermal"]) == (0.0, 0.0, 0.0)
    hot = gpu_metrics.decode(
        table(6, {f"{name}_residency_acc": 6 if name == "hbm_thm" else 5 for name in names})
    )
    found = gpu_metrics.readings(hot, first)
    assert (found["throttled"], found["throttled_power"], found["throttled_thermal"]) == (1.0, 0.0, 1.0)


@pytest.mark.parametrize(
    ("blob", "words"),
    [
        (b"", "0 bytes"),
        (b"\x78\x00\x01", "3 bytes"),
        (struct.pack("<HBB", 264, 3, 0) + bytes(260), "v3.0 is not known"),
        (struct.pack("<HBB", 264, 1, 9) + bytes(260), "v1.9 is not known"),
        (table(3, {})[:100], "100 read"),
        (struct.pack("<HBB", 376, 1, 6) + bytes(372), "instead of 1664"),  # of kernels before 6.12
    ],
)
def test_another_version_or_size_is_refused_by_name(blob: bytes, words: str) -> None:
    with pytest.raises(gpu_metrics.Unreadable, match=words):
        gpu_metrics.decode(blob)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(blob: bytes) -> None:
    try:
        fields = gpu_metrics.decode(blob)
    except gpu_metrics.Unreadable:
        return
    assert all(isinstance(value, float) for value in gpu_metrics.readings(fields, fields).values())


def test_the_header_tells_size_and_version() -> None:
    assert [table(content, {})[:4] for content in (1, 3, 8)] == [
        b"\x60\0\x01\x01",
        b"\x78\0\x01\x03",
        b"\x20\x0d\x01\x08",
    ]
    assert gpu_metrics.revision(table(7, {})) == "1.7"
