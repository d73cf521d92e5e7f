"""GPU telemetry at its real boundary: a C library under the unmodified binding, in the process of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from synthetic_sysfs import MI100, card, table

from fake_tools import fake_amdsmi
from rocscope.collectors import telemetry_sources
from rocscope.collectors.telemetry import Deadlines, TelemetrySampler
from rocscope.collectors.telemetry_sources import TelemetrySource

AMDSMI = TelemetrySource("amdsmi")
QUICK = Deadlines(start_s=30, silent_s=8, first_backoff_s=0.05, last_backoff_s=0.2)
HASTY = Deadlines(start_s=30, silent_s=1, first_backoff_s=0.05, last_backoff_s=0.2)


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ROCm folder with the stand-in for libamd_smi.so; skips without gcc."""
    if shutil.which("gcc") is None:
        pytest.skip("no gcc to build the stand-in for libamd_smi.so with")
    return fake_amdsmi.install(tmp_path_factory.mktemp("amdsmi") / "rocm")


@pytest.fixture
def told(library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that tells the library what to do: two MI100, all well."""
    path = tmp_path / "told"
    fake_amdsmi.tell(path)
    monkeypatch.setenv("ROCM_PATH", str(library))
    monkeypatch.setenv("FAKE_AMDSMI", str(path))
    return path


@pytest.fixture
def sampling() -> Iterator[Callable[..., TelemetrySampler]]:
    """Starts samplers, and stops those that a failed test left."""
    started: list[TelemetrySampler] = []

    def start(*ways: TelemetrySource, hz: float = 10, limits: Deadlines = QUICK) -> TelemetrySampler:
        started.append(TelemetrySampler(ways or [AMDSMI], hz, limits))
        return started[-1]

    yield start
    for each in started:
        if each._thread.is_alive():
            each.stop()


def rows(sampler: TelemetrySampler, metric: str, subject: str = "device:0000:10:00.0") -> list[float]:
    columns = sampler.readings.columns()
    found = []
    for at, name, value in zip(columns.subject[0], columns.metric[0], columns.values, strict=True):
        if columns.metric[1][name] == metric and columns.subject[1][at] == subject:
            found.append(value)
    return found


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def said(sampler: TelemetrySampler) -> str:
    return "\n".join(f"{code}: {message}" for code, message in sampler.notices)


def test_all_figures_of_an_mi100_arrive(told: Path, sampling: Callable[..., TelemetrySampler]) -> None:
    sampler = sampling()
    until(lambda: len(rows(sampler, "power_w")) >= 3)
    assert sampler.stop()
    assert said(sampler) == "telemetry: GPU telemetry: 2 GPUs at 10 Hz through amdsmi (7.0.2, library 26.0)"
    expected = {
        "power_w": 211.0,
        "power_cap_w": 290.0,
        "energy_j": 1_000_000 / 65536,
        "clock_hz": 1502e6,
        "memory_clock_hz": 1200e6,
        "soc_clock_hz": 1091e6,
        "temperature_hotspot_c": 66.0,
        "temperature_edge_c": 41.0,
        "temperature_memory_c": 58.0,
        "busy_frac": 0.93,
        "memory_busy_frac": 0.34,
        "vram_used_bytes": 12345678901.0,
        "vram_total_bytes": 34359738368.0,
        "throttled": 0.0,
        "throttle_status": 0.0,
        "fan_rpm": 0.0,
        "ecc_correctable": 3.0,
        "ecc_uncorrectable": 0.0,
        "pcie_link_width": 8.0,
        "pcie_max_link_width": 16.0,
    }
    assert {metric: rows(sampler, metric)[0] for metric in expected} == expected
    assert rows(sampler, "power_w", "device:0000:20:00.0")[0] == 212
    for absent in ("xgmi_read_bytes", "pcie_bytes_per_s"):  # an MI100 does not fill these
        assert rows(sampler, absent) == []
    assert 0 < rows(sampler, "telemetry_cpu_s", "rocscope")[-1] < 5
    assert set(sampler.readings.columns().source[1]) == {"amdsmi"}
    assert [device.arch for device in sampler.devices] == ["gfx908"] * 2
    assert sampler.devices[1].uuid == "000000000000abc1"


def test_throttle_bits_survive_the_binding(told: Path, sampling: Callable[..., TelemetrySampler]) -> None:
    fake_amdsmi.tell(told, indep_throttle_status=1 << 36 | 1, throttle_status=2)
    sampler = sampling()
    until(lambda: bool(rows(sampler, "throttled")))
    sampler.stop()
    assert rows(sampler, "throttle_status")[0] == float(1 << 36 | 1)
    assert rows(sampler, "throttled_thermal")[0] == rows(sampler, "throttled_power")[0] == 1.0


def test_the_energy_of_an_mi100_goes_on_over_a_wrap(
    told: Path, sampling: Callable[..., TelemetrySampler]
) -> None:
    fake_amdsmi.tell(told, energy_accumulator=(1 << 32) - 1000)
    sampler = sampling()
    until(lambda: len(rows(sampler, "energy_j")) >= 2)
    fake_amdsmi.tell(told, energy_accumulator=5000)
    count = len(rows(sampler, "energy_j"))
    until(lambda: len(rows(sampler, "energy_j")) > count + 1)
    sampler.stop()
    energy = rows(sampler, "energy_j")
    assert energy == sorted(energy)
    assert energy[-1] - energy[0] == pytest.approx(6000 / 65536)


def test_what_the_table_lacks_is_asked_for_singly(
    told: Path, sampling: Callable[..., TelemetrySampler]
) -> None:
    fake_amdsmi.tell(told, "fail amdsmi_get_gpu_metrics_info 2", "cap 225")
    sampler = sampling()
    until(lambda: bool(rows(sampler, "power_w")))
    sampler.stop()
    assert rows(sampler, "power_w")[0] == 222 and rows(sampler, "clock_hz")[0] == 1000e6
    assert rows(sampler, "temperature_hotspot_c")[0] == 55 and rows(sampler, "busy_frac")[0] == 0.77
    assert rows(sampler, "memory_busy_frac") == []  # 0xFFFF
    assert rows(sampler, "energy_j") == rows(sampler, "throttled") == []
    assert rows(sampler, "power_cap_w")[0] == 225  # in watts on some hosts


def test_noise_of_the_library_stays_out_of_our_output(told: Path, tmp_path: Path) -> None:
    fake_amdsmi.tell(told, "noise 200")
    code = (
        "import time\n"
        "from rocscope.collectors.telemetry import TelemetrySampler\n"
        "from rocscope.collectors.telemetry_sources import TelemetrySource\n"
        "sampler = TelemetrySampler([TelemetrySource('amdsmi')], 10)\n"
        "end = time.monotonic() + 15\n"
        "while not len(sampler.readings) and time.monotonic() < end: time.sleep(0.01)\n"
        "assert sampler.stop() and len(sampler.readings)\n"
        "print('ours')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr, done.returncode) == ("ours\n", "", 0)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("fail amdsmi_init 34", "the amdgpu driver is not loaded"),
        ("fail amdsmi_init 10", "groups render and video"),
        ("fail amdsmi_init 7", "AMD SMI code 7"),
        ("gpus 0", "AMD SMI sees no GPU"),
        ("version 24", "the package amdsmi 7.0.2 is for library 26.x, this machine has 24.0"),
        ("crash amdsmi_init", "the process crashed (signal 11) while it was started"),
        ("fail amdsmi_get_gpu_metrics_info 10", "no permission"),
    ],
)
def test_each_way_to_fail_at_the_start_is_named_and_the_next_source_used(
    told: Path, tmp_path: Path, sampling: Callable[..., TelemetrySampler], line: str, words: str
) -> None:
    refusals = [f"fail {name} 10" for name in fake_amdsmi.READINGS] if "metrics_info" in line else []
    fake_amdsmi.tell(
        told, *([] if line == "gpus 0" else [line]), *refusals, gpus=0 if line == "gpus 0" else 2
    )
    card(tmp_path / "sys", 0, blob=table(3, MI100))
    sampler = sampling(AMDSMI, TelemetrySource("sysfs", str(tmp_path / "sys")))
    until(lambda: bool(rows(sampler, "power_w")))
    assert sampler.stop()
    assert "through sysfs (gpu_metrics v1.3); not used: amdsmi: " in said(sampler) and words in said(sampler)
    assert set(sampler.readings.columns().source[1]) == {"sysfs"}


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ROCM_PATH", str(tmp_path))
    sampler = TelemetrySampler([AMDSMI], 10, QUICK)
    until(lambda: not sampler._thread.is_alive())
    assert sampler.stop()
    missing = "amdsmi: libamd_smi.so is not installed or cannot be loaded"
    assert said(sampler) == f"telemetry-missing: no GPU telemetry ({missing})"


def test_a_library_that_lacks_a_symbol_is_of_another_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: Path
) -> None:
    other = fake_amdsmi.install(tmp_path / "rocm", without="amdsmi_set_gpu_clk_range")
    monkeypatch.setenv("ROCM_PATH", str(other))
    sampler = TelemetrySampler([AMDSMI], 10, QUICK)
    until(lambda: not sampler._thread.is_alive())
    sampler.stop()
    assert "do not fit together" in said(sampler) and "amdsmi_set_gpu_clk_range" in said(sampler)


def test_a_hung_library_costs_samples_and_is_restarted(
    told: Path, sampling: Callable[..., TelemetrySampler]
) -> None:
    sampler = sampling(limits=HASTY)
    until(lambda: len(rows(sampler, "power_w")) >= 2)
    fake_amdsmi.tell(told, "hang amdsmi_get_gpu_metrics_info")
    until(lambda: sum(sampler._troubles.values()) >= 1)
    before = len(rows(sampler, "power_w"))
    fake_amdsmi.tell(told)
    until(lambda: len(rows(sampler, "power_w")) >= before + 2)
    assert sampler.stop()
    assert "telemetry-gaps: GPU telemetry has gaps: it did not answer for 1 s while it was read" in said(
        sampler
    )
    assert sampler._missed >= 3 and f"readings missed: {sampler._missed}" in said(sampler)
    energy = rows(sampler, "energy_j")
    assert len(energy) == len(rows(sampler, "power_w"))  # the restart does not lose the counter


def test_a_hang_that_the_end_of_the_run_cuts_short_is_said(
    told: Path, sampling: Callable[..., TelemetrySampler]
) -> None:
    sampler = sampling(limits=Deadlines(silent_s=30))
    until(lambda: len(rows(sampler, "power_w")) >= 2)
    fake_amdsmi.tell(told, "hang amdsmi_get_gpu_metrics_info")
    time.sleep(0.8)
    assert sampler.stop()
    assert "it did not answer in the last 0." in said(sampler) and sampler._missed >= 4


@pytest.mark.parametrize("function", ["amdsmi_init", "amdsmi_get_gpu_metrics_info", "amdsmi_shut_down"])
def test_a_library_that_hangs_does_not_hold_up_the_end(
    told: Path, sampling: Callable[..., TelemetrySampler], function: str
) -> None:
    fake_amdsmi.tell(told, f"hang {function}")
    sampler = sampling(limits=Deadlines(stop_s=0.3))
    until(lambda: sampler._stage in ("init", "read"))
    time.sleep(0.2)
    began = time.monotonic()
    assert sampler.stop()
    assert time.monotonic() - began < 3
    assert sampler._process is not None and sampler._process.returncode is not None


def test_a_gpu_reset_is_lived_through(told: Path, sampling: Callable[..., TelemetrySampler]) -> None:
    fake_amdsmi.tell(told, energy_accumulator=1 << 31)
    sampler = sampling()
    until(lambda: len(rows(sampler, "power_w")) >= 2)
    fake_amdsmi.tell(told, "fail amdsmi_get_gpu_metrics_info 54")
    until(lambda: sampler._troubles["the GPU was reset"] >= 1)
    fake_amdsmi.tell(told, energy_accumulator=77)
    before = len(rows(sampler, "power_w"))
    until(lambda: len(rows(sampler, "power_w")) >= before + 2)
    assert sampler.stop()
    assert "the GPU was reset" in said(sampler)
    assert (
        "energy-unknown: the energy of GPU 0000:10:00.0 is known only in part: its counter began anew"
        in said(sampler)
    )
    energy = rows(sampler, "energy_j")
    assert energy == sorted(energy) and len(energy) < len(rows(sampler, "power_w"))


def test_a_crash_in_the_middle_is_restarted(told: Path, sampling: Callable[..., TelemetrySampler]) -> None:
    sampler = sampling()
    until(lambda: len(rows(sampler, "power_w")) >= 1)
    fake_amdsmi.tell(told, "crash amdsmi_get_gpu_memory_usage")
    until(lambda: sum(sampler._troubles.values()) >= 2)
    fake_amdsmi.tell(told)
    before = len(rows(sampler, "power_w"))
    until(lambda: len(rows(sampler, "power_w")) > before)
    sampler.stop()
    assert "the process crashed (signal 11) while it was read (" in said(sampler)


def test_one_gpu_that_refuses_does_not_take_the_others_along(
    tmp_path: Path, sampling: Callable[..., TelemetrySampler]
) -> None:
    card(tmp_path, 0, blob=table(3, MI100))
    device = card(tmp_path, 1, blob=table(3, MI100))
    sampler = sampling(TelemetrySource("sysfs", str(tmp_path)))
    until(lambda: bool(rows(sampler, "power_w", "device:0000:20:00.0")))
    for path in (*device.glob("mem_info*"), device / "gpu_metrics"):
        path.unlink()
    count = len(rows(sampler, "power_w"))
    until(lambda: len(rows(sampler, "power_w")) > count + 2)
    sampler.stop()
    assert "readings of a GPU gave nothing: its files give nothing" in said(sampler)


def test_the_process_ends_with_a_parent_that_is_killed(told: Path, tmp_path: Path) -> None:
    fake_amdsmi.tell(told, "hang amdsmi_get_gpu_memory_usage")
    code = (
        "import time\n"
        "from rocscope.collectors.telemetry import TelemetrySampler\n"
        "from rocscope.collectors.telemetry_sources import TelemetrySource\n"
        "sampler = TelemetrySampler([TelemetrySource('amdsmi')], 10)\n"
        "while sampler._stage != 'read': time.sleep(0.01)\n"
        "print(sampler._process.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert Path(f"/proc/{child}").exists()
        parent.kill()
        until(lambda: not _runs(child))


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_to_start_and_end_takes_next_to_no_time(told: Path) -> None:
    times = []
    for _ in range(5):
        began = time.monotonic()
        sampler = TelemetrySampler([AMDSMI], 1)
        assert sampler.stop()
        times.append(time.monotonic() - began)
    assert min(times) < 0.1


def test_the_nodes_own_binding_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ROCM_PATH", "ROCM_HOME"):
        monkeypatch.delenv(name, raising=False)
    binding = tmp_path / "rocm" / "share" / "amd_smi" / "amdsmi"
    binding.mkdir(parents=True)
    (binding / "__init__.py").touch()
    card(tmp_path / "sys", 0, blob=table(3, MI100))
    environment = {"ROCM_PATH": str(tmp_path / "rocm"), "ROCSCOPE_SYSFS": str(tmp_path / "sys")}
    ways = telemetry_sources.sources("auto", environment)
    own = str(binding.parent)
    assert [(way.name, way.where) for way in ways] == [
        ("amdsmi", own),
        ("amdsmi", ""),
        ("sysfs", str(tmp_path / "sys")),
    ]
    assert ways[0].label == f"amdsmi of {own}" and ways[1].label == "amdsmi"
    assert telemetry_sources.sources("amdsmi", environment) == ways[:2]
    assert telemetry_sources.sources("sysfs", environment) == ways[2:]
    assert telemetry_sources.sources("none", environment) == []
    assert telemetry_sources.sources("nvml", environment) == [TelemetrySource("nvml")]


def test_auto_finds_nothing_on_a_machine_without_a_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telemetry_sources, "_NVIDIA", (tmp_path / "nvidiactl",))
    assert telemetry_sources.sources("auto", {"ROCSCOPE_SYSFS": str(tmp_path)}) == []
    (tmp_path / "nvidiactl").touch()
    assert telemetry_sources.sources("auto", {"ROCSCOPE_SYSFS": str(tmp_path)}) == [TelemetrySource("nvml")]


def test_the_binding_of_the_node_is_used_with_its_library(
    told: Path, library: Path, tmp_path: Path, sampling: Callable[..., TelemetrySampler]
) -> None:
    """The same binding, laid out as ROCm does: share/amd_smi/amdsmi beside lib/libamd_smi.so."""
    own = library / "share" / "amd_smi"
    if not own.exists():
        found = fake_amdsmi.package_folder()
        shutil.copytree(found, own / "amdsmi", ignore=shutil.ignore_patterns("__pycache__"))
    ways = telemetry_sources.sources("amdsmi", os.environ)
    sampler = sampling(*ways)
    until(lambda: bool(rows(sampler, "power_w")))
    sampler.stop()
    assert f"through amdsmi of {own} (7.0.2, library 26.0)" in said(sampler)
