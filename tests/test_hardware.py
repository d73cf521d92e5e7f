"""The GPU table: every figure with its source, and recordings told apart by it."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import pytest

from rocscope import hardware
from rocscope.errors import InputError, UnknownGpu
from rocscope.hardware import by_name, identify, specs

GIB = 1 << 30
PEAKS = {
    "vector_fp16": 12.5,
    "vector_fp32": 10,
    "matrix_fp16": 50,
    "matrix_fp8": 90,
}  # least FLOPs a byte


def test_the_table_holds_every_gpu_that_is_promised() -> None:
    assert {spec.name for spec in specs()} >= {
        *("MI100", "MI210", "MI250X", "MI300X", "MI300A", "MI325X", "MI350X", "MI355X"),
        *("RX 7900 XTX", "Radeon 8060S", "RX 9070 XT", "H100", "H200"),
    }


@pytest.mark.parametrize("spec", specs(), ids=lambda spec: spec.name)
def test_figures_are_whole_and_sane(spec: hardware.GpuSpec) -> None:
    bandwidth = spec.datasheet.bandwidth_bytes_per_s
    assert bandwidth is not None
    assert {"vector_fp16", "vector_fp32", "matrix_fp16", "matrix_bf16"} <= set(spec.datasheet.flops_per_s)
    for unit, figure in spec.datasheet.flops_per_s.items():
        assert PEAKS.get(unit, 1) < figure.value / bandwidth.value < 1000, unit
        assert len(figure.source) > 20, unit
    achievable = spec.achievable.bandwidth_bytes_per_s
    assert achievable is None or 0.5 < achievable.value / bandwidth.value < 1
    for unit, figure in spec.achievable.flops_per_s.items():
        assert figure.value < spec.datasheet.flops_per_s[unit].value
    # packed FMA from the card's own figures: the vector peak cannot be off by more than the datasheet rounds
    lanes = spec.compute_units * spec.simds_per_cu * (16 if spec.wave_size == 64 else 32)
    assert spec.datasheet.flops_per_s["vector_fp32"].value / (
        2 * lanes * spec.clock_hz.value
    ) == pytest.approx(2 if spec.name[:3] in ("MI3", "RX ", "Rad") else 1, rel=0.02)


def test_mi100_is_as_its_users_measured_it() -> None:
    mi100 = by_name("MI100")
    assert mi100.datasheet.bandwidth_bytes_per_s is not None
    assert mi100.datasheet.bandwidth_bytes_per_s.value == 1228.8e9
    assert mi100.datasheet.flops_per_s["vector_fp16"].value == 46.1e12
    assert (mi100.compute_units, mi100.waves_per_cu, mi100.shader_engines, mi100.l2_channels) == (
        120,
        40,
        8,
        32,
    )


@pytest.mark.parametrize(
    ("known", "name"),
    [
        (
            {"arch": "sm_90", "name": "NVIDIA H200", "compute_units": 132, "memory_bytes": 150109880320},
            "H200",
        ),
        ({"name": "NVIDIA H200"}, "H200"),
        ({"arch": "sm_90", "name": "NVIDIA H100 80GB HBM3"}, "H100"),
        ({"arch": "sm_90", "name": "NVIDIA GH200 480GB"}, None),
        ({"arch": "sm_90", "name": "NVIDIA H200 NVL"}, None),
        ({"arch": "sm_90", "name": "NVIDIA H100 PCIe"}, None),
        ({"arch": "gfx942", "name": "AMD Instinct MI300X VF", "compute_units": 304}, "MI300X"),
        ({"arch": "gfx942", "compute_units": 304, "memory_bytes": 206141652992}, "MI300X"),
        ({"arch": "gfx942", "compute_units": 304}, None),
        ({"arch": "gfx942", "name": "AMD Instinct MI300X", "compute_units": 38}, None),  # a partition
        ({"arch": "gfx942", "compute_units": 228}, "MI300A"),
        ({"arch": "gfx90a", "name": "AMD Instinct MI210", "compute_units": 104}, "MI210"),
        ({"arch": "gfx90a", "compute_units": 104}, "MI210 or MI250"),  # a die of it; the same figures
        ({"arch": "gfx90a", "name": "MI200", "compute_units": 104}, "MI210 or MI250"),  # names of series
        ({"arch": "gfx90a", "name": "MI200", "compute_units": 110}, "MI250X"),
        ({"arch": "gfx90a", "name": "MI200"}, None),
        ({"arch": "gfx942", "name": "MI300", "compute_units": 228}, "MI300A"),
        ({"arch": "gfx942", "name": "MI308X", "compute_units": 304}, None),
        ({"arch": "gfx90a", "compute_units": 110}, "MI250X"),
        ({"arch": "gfx908", "name": "Arcturus_GL-XL_[Instinct_MI100]"}, "MI100"),
        ({"arch": "gfx908:sramecc+:xnack-"}, "MI100"),
        ({"arch": "gfx950"}, None),
        ({"arch": "gfx950", "name": "AMD Instinct MI350X"}, "MI350X"),
        ({"arch": "gfx950", "name": "AMD Instinct MI355X"}, "MI355X"),
        ({"arch": "gfx1100", "compute_units": 48, "memory_bytes": 24 * GIB}, "RX 7900 XTX"),
        ({"arch": "gfx1100", "compute_units": 48, "memory_bytes": 48 * GIB}, None),
        ({"arch": "gfx1100", "name": "AMD Radeon PRO W7900", "compute_units": 96}, None),
        ({"arch": "gfx1151", "name": "AMD Radeon Graphics", "memory_bytes": 96 * GIB}, "Radeon 8060S"),
        ({"arch": "gfx1151", "name": "Radeon 8060S Graphics", "compute_units": 20}, "Radeon 8060S"),
        ({"arch": "gfx1201", "name": "AMD Radeon RX 9070 XT"}, "RX 9070 XT"),
        ({"arch": "gfx1201", "name": "AMD Radeon RX 9070"}, None),
        ({"arch": "gfx900", "name": "Radeon RX Vega"}, None),
        ({"compute_units": 304}, None),
        ({"name": "Quadro"}, None),
    ],
)
def test_a_recording_tells_its_gpu_or_nothing(known: dict[str, object], name: str | None) -> None:
    found = identify(**known)  # type: ignore[arg-type]  # the parameters of identify, by name
    assert (found.name if found else None) == name


def test_no_two_gpus_answer_to_one_name() -> None:
    for spec in specs():
        for called in (*spec.marketing_names, spec.name):
            assert identify(arch=spec.arch, name=called) is spec
        for called in (*spec.aliases, spec.name):
            assert by_name(called.upper()) is spec


def test_a_name_that_is_not_known_or_not_enough() -> None:
    assert by_name("gfx908").name == "MI100"
    with pytest.raises(UnknownGpu, match="MI350X or MI355X"):
        by_name("gfx950")
    with pytest.raises(UnknownGpu, match="no GPU called") as caught:
        by_name("MI999")
    assert "MI100" in caught.value.hint


@pytest.mark.parametrize("fault", ["name = ", 'name = "x"', "flops = 3"])
def test_a_fault_names_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    good = resources.files("rocscope.data.gpus").joinpath("mi100.toml").read_text()
    (tmp_path / "fine.toml").write_text(good)
    (tmp_path / "broken.toml").write_text(fault)
    (tmp_path / "notes.txt").write_text("no GPU")
    monkeypatch.setattr(resources, "files", lambda _: tmp_path)
    specs.cache_clear()
    try:
        with pytest.raises(InputError, match=r"broken\.toml"):
            specs()
    finally:
        monkeypatch.undo()
        specs.cache_clear()
