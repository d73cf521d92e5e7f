"""The readers of AMD SMI and NVML and the loop around them, called here where a debugger reaches them."""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from synthetic_sysfs import MI100, card, table

from fake_tools import fake_amdsmi
from rocscope.collectors import amdsmi, nvml, sysfs, telemetry_child
from rocscope.collectors.gpu_device import GpuReset, NothingRead, Unavailable
from rocscope.collectors.telemetry_child import Pipe, reader_of, serve

FAKES = Path(__file__).parent.parent / "fake_tools"


@pytest.fixture(scope="module")
def rocm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("gcc") is None:
        pytest.skip("no gcc to build the stand-in for libamd_smi.so with")
    return fake_amdsmi.install(tmp_path_factory.mktemp("amdsmi") / "rocm")


@pytest.fixture
def told(rocm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What tells AMD SMI, loaded into this very process, what to do."""
    monkeypatch.setenv("ROCM_PATH", str(rocm))
    monkeypatch.setenv("FAKE_AMDSMI", str(tmp_path / "told"))
    fake_amdsmi.tell(tmp_path / "told")
    return tmp_path / "told"


@pytest.fixture
def reader(told: Path) -> Iterator[amdsmi.Reader]:
    made = amdsmi.Reader()
    made.open()
    yield made
    made.close()


def test_amd_smi_is_read_with_all_that_it_gives(reader: amdsmi.Reader) -> None:
    assert [reader.energy_bits(0), len(reader.devices)] == [32, 2]
    assert reader.devices[0] == ("0000:10:00.0", "000000000000abc0", "Synthetic MI100", "gfx908")
    slow, fast = reader.read(1, None, slow=True), reader.read(1, None, slow=False)
    assert slow.values["power_w"] == fast.values["power_w"] == 212
    seldom = {"vram_total_bytes", "power_cap_w", "ecc_correctable", "ecc_uncorrectable"}
    links = {"pcie_link_width", "pcie_max_link_width"}
    assert slow.values.keys() - fast.values.keys() == seldom | links
    assert (slow.values["pcie_link_width"], slow.values["pcie_max_link_width"]) == (8, 16)


@pytest.mark.parametrize("lanes", [0, 255, 65535, 6])
def test_a_link_of_no_width_that_exists_is_not_told(reader: amdsmi.Reader, told: Path, lanes: int) -> None:
    fake_amdsmi.tell(told, f"lanes {lanes}")
    values = reader.read(0, None, slow=True).values
    assert "pcie_link_width" not in values and values["pcie_max_link_width"] == 16


def test_what_is_refused_once_is_asked_for_again_later(reader: amdsmi.Reader, told: Path) -> None:
    fake_amdsmi.tell(told, "fail amdsmi_get_gpu_memory_usage 2")
    assert "vram_used_bytes" not in reader.read(0, None, slow=False).values
    fake_amdsmi.tell(told)
    assert "vram_used_bytes" not in reader.read(0, None, slow=False).values  # not asked at each reading
    assert "vram_used_bytes" in reader.read(0, None, slow=True).values  # nor given up for ever


def test_arrays_of_the_mi300_generation_come_through_the_binding(reader: amdsmi.Reader, told: Path) -> None:
    lines = [
        "gpus 2",
        "set current_socket_power 700",
        "set xgmi_read_data_acc 10",
        "set current_gfxclks 2100",
    ]
    told.write_text("\n".join([*lines, "set ppt_residency_acc 7"]))
    first = reader.read(0, None, slow=False)
    assert first.values["power_w"] == 700 and first.values["xgmi_read_bytes"] == 8 * 10 * 1024
    assert first.values["clock_hz"] == 2100e6 and first.energy_ticks is None
    told.write_text("\n".join([*lines, "set ppt_residency_acc 8"]))
    assert reader.read(0, first, slow=False).values["throttled_power"] == 1.0


@pytest.mark.parametrize("function", ["amdsmi_get_gpu_metrics_info", "amdsmi_get_gpu_memory_usage"])
@pytest.mark.parametrize("code", [54, 32])
def test_void_handles_are_a_reset(reader: amdsmi.Reader, told: Path, function: str, code: int) -> None:
    fake_amdsmi.tell(told, f"fail {function} {code}")
    with pytest.raises(GpuReset, match=str(code)):
        reader.read(0, None, slow=False)
    fake_amdsmi.tell(told, f"fail amdsmi_shut_down {code}")
    reader.close()  # of no matter then


@pytest.mark.parametrize(("code", "words"), [(10, "no permission"), (30, "AMD SMI code 30")])
def test_a_reading_that_gives_nothing_says_why(
    reader: amdsmi.Reader, told: Path, code: int, words: str
) -> None:
    refusals = [f"fail {name} {code}" for name in ("amdsmi_get_gpu_metrics_info", *fake_amdsmi.READINGS)]
    fake_amdsmi.tell(told, *refusals)
    with pytest.raises(NothingRead, match=words):
        reader.read(0, None, slow=True)


@pytest.mark.parametrize(
    ("lines", "arch", "bits"),
    [
        (["arch 942", "device 74a1"], "gfx942", 64),
        (["arch 0", "device 738c"], "gfx908", 32),
        (["arch 0", "device 1"], "", 64),
        (["fail amdsmi_get_gpu_asic_info 2"], "", 64),
    ],
)
def test_what_kind_of_gpu_decides_how_wide_its_energy_counter_is(
    told: Path, lines: list[str], arch: str, bits: int
) -> None:
    fake_amdsmi.tell(told, *lines)
    made = amdsmi.Reader()
    made.open()
    assert (made.devices[0].arch, made.energy_bits(0)) == (arch, bits)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ModuleNotFoundError("none", name="amdsmi"), "no-package"),
        (KeyError("libamd_smi.so"), "no-library"),
        (OSError("cannot load"), "no-library"),
        (AttributeError("undefined symbol: x"), "wrong-version"),
        (RuntimeError("a\nb"), "failed"),
    ],
)
def test_what_the_binding_raises_has_a_meaning(error: Exception, kind: str) -> None:
    assert amdsmi._unavailable(error).kind == kind


@pytest.mark.parametrize(
    ("release", "library"),
    [
        ("7.0.2", 26),
        ("6.1.2", 24),
        ("10.1.0", 27),
        ("26.0.0+9c", 26),
        ("25.3", 25),
        ("8.0", None),
        ("", None),
    ],
)
def test_a_binding_goes_with_one_library(release: str, library: int | None) -> None:
    assert amdsmi._library_of(release) == library


@pytest.fixture
def nvidia(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """NVML in this very process: a library of that soname that is loaded already is what dlopen finds."""
    if shutil.which("gcc") is None or importlib.util.find_spec("pynvml") is None:
        pytest.skip("no gcc, or nvidia-ml-py is not installed")
    import pynvml

    made = tmp_path / "libnvidia-ml.so.1"
    name = "-Wl,-soname,libnvidia-ml.so.1"
    gcc = ["gcc", "-std=gnu11", "-O1", "-shared", "-fPIC", name, "-o", str(made), str(FAKES / "fake_nvml.c")]
    subprocess.run(gcc, check=True)
    ctypes.CDLL(str(made))
    monkeypatch.setattr(pynvml, "nvmlLib", None)
    monkeypatch.setenv("FAKE_NVML", str(tmp_path / "told"))
    (tmp_path / "told").write_text("gpus 1\n")
    return tmp_path / "told"


def test_nvml_is_read_here_too(nvidia: Path) -> None:
    made = reader_of("nvml", "", lambda _: None)
    assert isinstance(made, nvml.Reader)
    made.open()
    assert [device.uuid for device in made.devices] == ["GPU-synthetic-0"] and made.energy_bits(0) == 64
    assert made.read(0, None, slow=True).values["power_cap_w"] == 700
    nvidia.write_text("fail nvmlDeviceGetPowerUsage 15\n")
    with pytest.raises(GpuReset):
        made.read(0, None, slow=False)
    names = (
        "PowerUsage ClockInfo Temperature UtilizationRates MemoryInfo FieldValues CurrentClocksEventReasons"
    )
    names += " CurrentClocksThrottleReasons"
    nvidia.write_text("".join(f"fail nvmlDeviceGet{name} 3\n" for name in names.split()))
    with pytest.raises(NothingRead):
        made.read(0, None, slow=False)
    made.close()
    for code, kind in ((9, "no-driver"), (12, "no-library"), (13, "wrong-version"), (4, "no-permission")):
        nvidia.write_text(f"fail nvmlInitWithFlags {code}\n")
        with pytest.raises(Unavailable) as raised:
            nvml.Reader().open()
        assert raised.value.kind == kind


def test_nvml_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pynvml", None)
    with pytest.raises(Unavailable, match="pip install") as raised:
        nvml.Reader().open()
    assert raised.value.kind == "no-package"


def served(reader: Any, hz: float, ticks: int) -> list[dict[str, Any]]:
    """What :func:`serve` writes until ``ticks`` were read."""
    data, writer = os.pipe()
    stop, stopper = os.pipe()
    thread = threading.Thread(target=serve, args=(reader, Pipe(writer), stop, hz))
    thread.start()
    messages = []
    with os.fdopen(data, "rb") as stream:
        for line in stream:
            messages.append(json.loads(line))
            if sum("rows" in each for each in messages) >= ticks or "failed" in messages[-1]:
                break
        os.close(stopper)
        thread.join(10)
    assert not thread.is_alive()
    os.close(writer)
    os.close(stop)
    return messages


def test_the_loop_tells_what_it_reads_at_its_rate(tmp_path: Path) -> None:
    card(tmp_path, 0, blob=table(3, MI100))
    broken = card(tmp_path, 1)
    (broken / "mem_info_vram_used").unlink()
    reader = reader_of("sysfs", str(tmp_path), lambda _: None)
    assert isinstance(reader, sysfs.Reader)
    messages = served(reader, 20, 3)
    assert [place[0] for place in messages[0]["ready"]] == ["0000:10:00.0", "0000:20:00.0"]
    assert messages[1] == {"energy": 0, "bits": 32, "tick_j": 2**-16}
    ticks = [each for each in messages if "rows" in each]
    assert [row[0] for row in ticks[0]["rows"]] == [0, 1]  # the second has its memory's size to tell
    assert ticks[1]["failures"] == {"its files give nothing": 1}
    times = [each["rows"][0][1] for each in ticks]
    assert 0.03e9 < times[1] - times[0] < 2e9 and ticks[2]["cpu_s"] > 0


def test_the_loop_tells_why_it_cannot(tmp_path: Path) -> None:
    (message,) = served(reader_of("sysfs", str(tmp_path), lambda _: None), 1, 1)
    assert message["failed"] == "no-gpu"


def test_the_loop_tells_a_reset_and_ends(told: Path) -> None:
    fake_amdsmi.tell(told, "fail amdsmi_get_gpu_metrics_info 54")
    data, writer = os.pipe()
    serve(reader_of("amdsmi", "", lambda _: None), Pipe(writer), 0, 1)
    os.close(writer)
    with os.fdopen(data, "rb") as stream:
        assert json.loads(stream.read().splitlines()[-1]) == {"reset": "AMD SMI code 54"}


def test_the_process_does_not_outlive_a_parent_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[int] = []
    monkeypatch.setattr(telemetry_child.os, "_exit", ended.append)
    monkeypatch.setattr(telemetry_child.os, "getppid", lambda: 1)
    monkeypatch.setattr(ctypes, "CDLL", lambda _: (_ for _ in ()).throw(OSError()))  # no C library to ask
    telemetry_child._die_with(12345)
    assert ended == [0]
