"""A live recording carries the ceilings that its machine keeps of the very cards it ran on."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from rocscope import ceilings, ceilings_store
from rocscope.capture import Capture, Gpu, Manifest
from rocscope.ceilings import CardCeilings
from rocscope.collectors import card_ceilings
from rocscope.config import ProfileOptions


def mi100s(root: Path) -> Path:
    """SYNTHETIC: two MI100s as the driver tells of them."""
    for number, bus in enumerate((0xC1, 0xC2)):
        node = root / f"class/kfd/kfd/topology/nodes/{number + 1}"
        node.mkdir(parents=True)
        (node / "properties").write_text(
            "simd_count 480\ngfx_target_version 90008\ndomain 0\n"
            f"location_id {bus << 8}\nunique_id {number + 1}\n"
        )
        device = root / f"class/drm/card{number}/device"
        device.mkdir(parents=True)
        for name, text in {
            "vendor": "0x1002",
            "device": "0x738c",
            "uevent": f"PCI_SLOT_NAME=0000:{bus:02x}:00.0",
            "mem_info_vram_total": str(32 << 30),
            "unique_id": f"{number + 1:016x}",
        }.items():
            (device / name).write_text(text + "\n")
    return root


def kept(store: Path, number: int, bandwidth: float) -> CardCeilings:
    card = CardCeilings(
        measured_at="2026-11-21",
        name="AMD Instinct MI100",
        arch="gfx908",
        uuid=f"{number:016x}",
        memory_bytes=32 << 30,
        model="MI100",
        bandwidth_bytes_per_s=bandwidth,
        software={"torch": "2.9"},
    )
    ceilings_store.save(card, store)
    return card


def note(tmp_path: Path, gpus: list[Gpu], backend: str = "rocprofv3", **options: Any) -> Capture:
    capture = Capture(Manifest(gpus=gpus))
    run = SimpleNamespace(
        backend=SimpleNamespace(name=backend),
        environment={"ROCSCOPE_SYSFS": str(tmp_path / "sys"), "ROCSCOPE_CEILINGS": str(tmp_path / "store")},
    )
    outcome = SimpleNamespace(run=run, samplers=[])
    card_ceilings.note(capture, cast(Any, outcome), ProfileOptions(out=tmp_path / "out", **options))
    return capture


def test_each_gpu_gets_its_own_card_s(tmp_path: Path) -> None:
    mi100s(tmp_path / "sys")
    kept(tmp_path / "store", 1, 0.93e12)
    kept(tmp_path / "store", 2, 0.95e12)
    gpus = [
        Gpu(gpu=0, arch="gfx908", name="AMD Instinct MI100", pci="0000:c2:00.0"),
        Gpu(gpu=1, pci="0000:c1:00.0"),  # what it is, only the machine tells
    ]
    carried = note(tmp_path, gpus).manifest.ceilings
    assert carried is not None
    assert [(c.gpu, c.same_card, c.ceilings.bandwidth_bytes_per_s) for c in carried] == [
        (0, True, 0.95e12),
        (1, True, 0.93e12),
    ]
    assert not any(each.ceilings.uuid for each in carried)


def test_a_card_that_cannot_be_told_gets_those_of_its_model(tmp_path: Path) -> None:
    mi100s(tmp_path / "sys")
    kept(tmp_path / "store", 1, 0.93e12)
    carried = note(tmp_path, [Gpu(gpu=0, arch="gfx908", name="AMD Instinct MI100")]).manifest.ceilings
    assert [each.same_card for each in carried or []] == [False]
    carried = note(tmp_path, [Gpu(gpu=0)], gpu="MI210").manifest.ceilings
    assert carried == []  # the user says that it is another


@pytest.mark.parametrize("backend", ["replay", "none"])
def test_other_people_s_cards_get_none(tmp_path: Path, backend: str) -> None:
    mi100s(tmp_path / "sys")
    kept(tmp_path / "store", 1, 0.93e12)
    assert note(tmp_path, [Gpu(gpu=0, arch="gfx908")], backend).manifest.ceilings is None


def test_a_machine_without_cards_or_with_a_broken_store(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "cut.json").write_text("{")
    capture = note(tmp_path, [Gpu(gpu=0, arch="gfx908")])
    assert capture.manifest.ceilings == []
    assert [each.code for each in capture.manifest.notices] == ["ceilings-unusable"]


def test_what_is_shared_holds_figures_and_no_text_of_a_machine(examples: Path) -> None:
    raw = json.loads((examples / "h200_ceilings" / "ceilings.json").read_text())
    card = ceilings.judge(ceilings.measurement(raw), measured_at="2026-11-21T10:11:12+00:00")
    odd = card.model_copy(
        update={"name": "alice's card", "bandwidth_of": "/home/alice", "errors": {"a": "b"}}
    )
    unknown = card.model_copy(update={"model": None})
    recorded = [
        ceilings.RecordedCeilings(gpu=number, same_card=True, ceilings=each)
        for number, each in enumerate((odd, unknown))
    ]
    shared = ceilings.anonymous(recorded)
    assert shared is not None
    assert [each.gpu for each in shared] == [0]
    text = shared[0].model_dump_json()
    assert "alice" not in text
    assert raw["device"]["uuid"].replace("-", "") not in text
    assert shared[0].ceilings.bandwidth_bytes_per_s == card.bandwidth_bytes_per_s
    assert shared[0].ceilings.measured_at == "2026-11-21"
    assert ceilings.anonymous(None) is None
    assert ceilings.anonymous([]) == []
