"""NVML through its unmodified binding over a stand-in library, in the process of its own."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from rocscope.collectors.telemetry import Deadlines, TelemetrySampler
from rocscope.collectors.telemetry_sources import TelemetrySource

HERE = Path(__file__).parent
QUICK = Deadlines(silent_s=0.5, first_backoff_s=0.05, last_backoff_s=0.1)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the stand-in for libnvidia-ml.so.1."""
    if shutil.which("gcc") is None:
        pytest.skip("no gcc to build the stand-in for libnvidia-ml.so.1 with")
    if importlib.util.find_spec("pynvml") is None:
        pytest.skip("nvidia-ml-py is not installed: pip install 'rocscope[nvidia]'")
    folder = tmp_path_factory.mktemp("nvml")
    source, made = HERE.parent / "fake_tools" / "fake_nvml.c", folder / "libnvidia-ml.so.1"
    gcc = ["gcc", "-std=gnu11", "-Wall", "-Werror", "-O1", "-shared", "-fPIC", "-o", str(made), str(source)]
    subprocess.run(gcc, check=True)
    return folder


@pytest.fixture
def told(library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that tells the library what to do."""
    path = tmp_path / "told"
    path.write_text("gpus 2\n")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(library))
    monkeypatch.setenv("FAKE_NVML", str(path))
    return path


def sampled(
    done: Callable[[TelemetrySampler], bool] = lambda sampler: len(sampler.readings) > 0,
) -> TelemetrySampler:
    sampler = TelemetrySampler([TelemetrySource("nvml")], 10, QUICK)
    end = time.monotonic() + 15
    while not done(sampler) and sampler._thread.is_alive() and time.monotonic() < end:
        time.sleep(0.01)
    assert sampler.stop()
    return sampler


def values(sampler: TelemetrySampler, subject: str = "device:0000:18:00.0") -> dict[str, float]:
    columns = sampler.readings.columns()
    texts = zip(columns.subject[0], columns.metric[0], columns.values, strict=True)
    return {columns.metric[1][name]: value for at, name, value in texts if columns.subject[1][at] == subject}


def test_all_figures_arrive_in_our_units(told: Path) -> None:
    sampler = sampled()
    assert sampler.notices == [
        ("telemetry", "GPU telemetry: 2 GPUs at 10 Hz through nvml (driver 550.0-synthetic)")
    ]
    assert values(sampler) == {
        "power_w": pytest.approx(612.345),
        "power_cap_w": 700.0,
        "energy_j": pytest.approx(123456.789),
        "clock_hz": 1980e6,
        "memory_clock_hz": 3201e6,
        "temperature_edge_c": 44.0,
        "temperature_memory_c": 61.0,
        "busy_frac": 0.98,
        "memory_busy_frac": 0.0,
        "vram_used_bytes": 150e9,
        "vram_total_bytes": 150754820096.0,
        "throttled": 0.0,
        "throttle_status": 0.0,
        "throttled_power": 0.0,
        "throttled_thermal": 0.0,
        "ecc_correctable": 7.0,
        "ecc_uncorrectable": 0.0,
        "pcie_bytes_per_s": 1024.0 * 1024,
        "pcie_link_width": 8.0,
        "pcie_max_link_width": 16.0,
    }
    assert [tuple(device) for device in sampler.devices] == [
        (f"0000:{18 + index}:00.0", f"GPU-synthetic-{index}", "Synthetic H200", "") for index in range(2)
    ]


@pytest.mark.parametrize(
    ("reasons", "throttled", "power", "thermal"),
    [("1", 0, 0, 0), ("102", 0, 0, 0), ("4", 1, 1, 0), ("84", 1, 1, 0), ("20", 1, 0, 1), ("8", 1, 0, 0)],
)
def test_an_idle_clock_and_one_that_was_set_are_no_throttling(
    told: Path, reasons: str, throttled: int, power: int, thermal: int
) -> None:
    told.write_text(f"reasons {reasons}\nfail nvmlDeviceGetCurrentClocksEventReasons 13\n")
    found = values(sampled())
    assert found["throttled"] == throttled and found["throttle_status"] == int(reasons, 16)
    assert (found["throttled_power"], found["throttled_thermal"]) == (power, thermal)


def test_what_a_gpu_has_not_is_missing(told: Path) -> None:
    names = ("PowerUsage", "EnforcedPowerLimit", "TotalEnergyConsumption", "FieldValues", "UtilizationRates")
    names += ("MemoryInfo", "TotalEccErrors", "PcieThroughput", "UUID", "Name", "PciInfo_v3")
    names += ("CurrentClocksEventReasons", "CurrentClocksThrottleReasons", "CurrPcieLinkWidth")
    names += ("MaxPcieLinkWidth",)
    told.write_text("gpus 1\n" + "".join(f"fail nvmlDeviceGet{name} 3\n" for name in names))
    found = values(sampled(), "device:unknown-0")
    assert found == {"clock_hz": 1980e6, "memory_clock_hz": 3201e6, "temperature_edge_c": 44.0}


@pytest.mark.parametrize(
    ("orders", "words"),
    [
        ("fail nvmlInitWithFlags 9", "driver is not loaded"),
        ("fail nvmlInitWithFlags 18", "of another version"),
        ("fail nvmlInitWithFlags 4", "no permission"),
        ("fail nvmlInitWithFlags 999", "NVML code 999"),
        ("fail nvmlDeviceGetCount_v2 13", "do not fit together"),
        ("gpus 0", "NVML sees no GPU"),
    ],
)
def test_each_way_to_fail_is_named(told: Path, orders: str, words: str) -> None:
    told.write_text(orders + "\n")
    ((code, message),) = sampled().notices
    assert code == "telemetry-missing" and words in message


def test_without_the_library_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: Path
) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    ((code, message),) = sampled().notices
    assert code == "telemetry-missing" and "libnvidia-ml.so.1 is not installed" in message


def test_a_gpu_that_is_lost_and_found(told: Path) -> None:
    def back(sampler: TelemetrySampler) -> bool:
        if len(sampler.readings) and not sampler._troubles:
            told.write_text("fail nvmlDeviceGetPowerUsage 15\n")
        elif sampler._troubles:
            told.write_text("gpus 2\n")
            back.count = getattr(back, "count", 0) or len(sampler.readings)  # type: ignore[attr-defined]  # a note
            return len(sampler.readings) > back.count  # type: ignore[attr-defined]  # as above
        return False

    sampler = sampled(back)
    assert "the GPU was reset" in sampler.notices[1][1]
