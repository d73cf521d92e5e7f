"""Readings go to the GPU of the recording that they are of, or to none."""

from __future__ import annotations

import pytest

from rocscope import redaction
from rocscope.capture import Gpu
from rocscope.collectors.gpu_device import Device, Node, address
from rocscope.collectors.telemetry_match import match
from rocscope.redaction_words import Words

BUSES = ("10", "20", "30", "40")
CARDS = [Device(f"0000:{bus}:00.0", f"00000000000000{bus}", "MI100", "gfx908") for bus in BUSES]
NODES = [Node(2 + i, card.bdf, card.arch, card.uuid) for i, card in enumerate(reversed(CARDS))]
"""ROCm counts these four from the highest address down."""
H200 = [Device(f"0000:{bus}:00.0", f"GPU-{bus}aa", "H200") for bus in BUSES]


def subjects(
    gpus: list[Gpu], profiler: str = "torch", **environment: str
) -> tuple[dict[str, str], list[int]]:
    found = match(gpus, CARDS, NODES, environment, profiler)
    return {place[5:7]: subject for place, subject in found.subjects.items()}, found.unmatched


def torch(*numbers: int) -> list[Gpu]:
    return [Gpu(gpu=index, agent=f"device {number}", arch="gfx908") for index, number in enumerate(numbers)]


def test_an_address_settles_it_whatever_is_visible() -> None:
    gpus = [Gpu(gpu=0, agent="Agent 4", pci="0000:30:00.0"), Gpu(gpu=1, agent="Agent 5", pci="0000:10:00.0")]
    assert subjects(gpus, "rocprofv3", HIP_VISIBLE_DEVICES="3") == ({"30": "gpu:0", "10": "gpu:1"}, [])


def test_an_address_that_is_not_here_matches_nothing_else() -> None:
    gpus = [Gpu(gpu=0, agent="device 0", pci="0000:99:00.0")]
    assert subjects(gpus) == ({}, [0])


@pytest.mark.parametrize("profiler", ["rocprof", "rocprofv2"])
def test_rocprofs_number_is_the_node(profiler: str) -> None:
    assert subjects([Gpu(gpu=0, agent="3")], profiler) == ({"30": "gpu:0"}, [])
    assert subjects([Gpu(gpu=0, agent="3")], "rocprofv3") == ({}, [0])  # there it may be something else


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, {"40": "gpu:0", "30": "gpu:1"}),
        ({"HIP_VISIBLE_DEVICES": "2,0"}, {"20": "gpu:0", "40": "gpu:1"}),
        ({"CUDA_VISIBLE_DEVICES": "2,0"}, {"20": "gpu:0", "40": "gpu:1"}),
        ({"CUDA_VISIBLE_DEVICES": "0,1", "HIP_VISIBLE_DEVICES": "2,3"}, {"20": "gpu:0", "10": "gpu:1"}),
        ({"ROCR_VISIBLE_DEVICES": "1,2,3", "HIP_VISIBLE_DEVICES": "1,0"}, {"20": "gpu:0", "30": "gpu:1"}),
        (
            {"ROCR_VISIBLE_DEVICES": "GPU-0000000000000010,GPU-0000000000000040"},
            {"10": "gpu:0", "40": "gpu:1"},
        ),
        ({"GPU_DEVICE_ORDINAL": "3,2"}, {"10": "gpu:0", "20": "gpu:1"}),
        ({"HIP_VISIBLE_DEVICES": ""}, {"40": "gpu:0", "30": "gpu:1"}),
    ],
)
def test_numbers_count_what_is_visible_in_rocms_order(
    environment: dict[str, str], expected: dict[str, str]
) -> None:
    assert subjects(torch(0, 1), **environment) == (expected, [])


@pytest.mark.parametrize("value", ["1,-1,0", "1,9,0", "1,x", "1,1"])
def test_a_wrong_index_ends_the_list_as_it_does_in_hip(value: str) -> None:
    assert subjects(torch(0, 1), HIP_VISIBLE_DEVICES=value) == ({"30": "gpu:0"}, [1])


def test_two_that_claim_one_card_are_both_unsure() -> None:
    assert subjects(torch(0, 0, 1)) == ({"30": "gpu:2"}, [0, 1])


def test_a_card_of_another_architecture_is_another_card() -> None:
    assert subjects([Gpu(gpu=0, agent="device 0", arch="gfx90a")]) == ({}, [0])


def test_without_rocms_order_numbers_tell_nothing_unless_there_is_one() -> None:
    assert match(torch(0), CARDS, [], {}, "torch").unmatched == [0]
    assert match(torch(0), CARDS, NODES[:3], {}, "torch").subjects == {"0000:40:00.0": "gpu:0"}
    hidden = [*NODES, Node(9, "0000:50:00.0", "gfx908", "")]  # ROCm has one more than telemetry
    assert match(torch(0), CARDS, hidden, {}, "torch").unmatched == [0]
    assert match(torch(0), CARDS[:1], [], {}, "torch").subjects == {"0000:10:00.0": "gpu:0"}
    one = [Gpu(gpu=0, agent="Agent 1", arch="gfx908")]
    assert match(one, CARDS[:1], [], {}, "rocprofv3").subjects == {"0000:10:00.0": "gpu:0"}


def test_what_an_unknown_container_sees_is_not_guessed() -> None:
    assert match(torch(0), CARDS, NODES, {}, "torch", by_order=False) == ({}, [0])
    assert match(torch(0), CARDS[:1], [], {}, "torch", by_order=False).subjects == {"0000:10:00.0": "gpu:0"}
    told = [Gpu(gpu=0, agent="Agent 4", pci="0000:30:00.0")]
    assert match(told, CARDS, NODES, {}, "rocprofv3", by_order=False).subjects == {"0000:30:00.0": "gpu:0"}


def test_without_a_recording_they_are_numbered_as_the_command_sees_them() -> None:
    assert subjects([], HIP_VISIBLE_DEVICES="1") == ({"30": "gpu:0"}, [])
    assert match([], CARDS[:2], [], {}, "none").subjects == {"0000:10:00.0": "gpu:0", "0000:20:00.0": "gpu:1"}


def test_nvidia_counts_by_address_where_all_are_alike() -> None:
    def places(devices: list[Device], **environment: str) -> dict[str, str]:
        found = match(torch_nvidia(), devices, [], environment, "torch").subjects
        return {place[5:7]: subject for place, subject in found.items()}

    def torch_nvidia() -> list[Gpu]:
        return [Gpu(gpu=0, agent="device 0", arch="sm_90"), Gpu(gpu=1, agent="device 1", arch="sm_90")]

    assert places(H200) == {"10": "gpu:0", "20": "gpu:1"}
    assert places(H200, CUDA_VISIBLE_DEVICES="3,1") == {"40": "gpu:0", "20": "gpu:1"}
    assert places(H200, CUDA_VISIBLE_DEVICES="GPU-30,GPU-10aa") == {"30": "gpu:0", "10": "gpu:1"}
    assert places(H200, CUDA_VISIBLE_DEVICES="MIG-1") == {}
    mixed = [*H200[:3], Device("0000:40:00.0", "GPU-x", "A100")]
    assert places(mixed) == {}  # CUDA counts the fastest first
    assert places(mixed, CUDA_DEVICE_ORDER="PCI_BUS_ID") == {"10": "gpu:0", "20": "gpu:1"}


@pytest.mark.parametrize(
    ("domain", "location", "expected"),
    [
        *((0, 29952, "0000:75:00.0"), (1, 0x1A0B, "0001:1a:01.3"), (None, 256, "0000:01:00.0")),
        *((0, 0, ""), (0, None, ""), (0, "x", ""), (-1, 256, "0000:01:00.0")),
    ],
)
def test_addresses_as_recordings_tell_them(domain: object, location: object, expected: str) -> None:
    assert address(domain, location) == expected


def test_an_address_is_shared_and_nothing_else_in_its_place() -> None:
    words = Words()
    assert redaction._subject("device:0000:c1:00.0", words) == "device:0000:c1:00.0"
    assert "secret" not in redaction._subject("device:secret", words)
