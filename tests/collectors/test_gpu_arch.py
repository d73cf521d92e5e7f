"""The architecture of this machine, from trees as AMD's driver lays them out."""

from __future__ import annotations

from pathlib import Path

import pytest

from rocscope.collectors import gpu_arch
from rocscope.errors import UnknownGpu, UsageError


def tree(folder: Path, *versions: int | None) -> Path:
    for number, version in enumerate(versions):
        node = folder / str(number)
        node.mkdir(parents=True)
        if version is not None:
            (node / "properties").write_text(
                f"cpu_cores_count 0\ngfx_target_version {version}\nvendor_id 4098\n"
            )
    return folder


@pytest.mark.parametrize(
    ("version", "name"),
    [(90008, "gfx908"), (90010, "gfx90a"), (90402, "gfx942"), (90006, "gfx906"), (110000, "gfx1100")],
)
def test_versions_are_read_as_amd_writes_them(version: int, name: str) -> None:
    assert gpu_arch.name(version) == name


def test_a_machine_with_four_cards_of_a_kind(tmp_path: Path) -> None:
    topology = tree(tmp_path / "nodes", 0, None, 90008, 90008, 90008, 90008)
    assert gpu_arch.of_machine(topology) == ["gfx908"] == [gpu_arch.choose(None, topology)]


def test_the_users_word_counts_first(tmp_path: Path) -> None:
    topology = tree(tmp_path / "nodes", 0, 90008)
    assert gpu_arch.choose("MI300X", topology) == "gfx942"
    with pytest.raises(UnknownGpu):
        gpu_arch.choose("MI999", topology)


def test_where_it_cannot_be_told_the_user_is_asked(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no AMD GPU") as caught:
        gpu_arch.choose(None, tmp_path / "nothing")
    assert "--gpu" in caught.value.hint
    with pytest.raises(UsageError, match="gfx908, gfx1100"):
        gpu_arch.choose(None, tree(tmp_path / "nodes", 90008, 110000))
