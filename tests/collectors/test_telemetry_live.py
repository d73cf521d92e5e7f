"""Telemetry in a whole run: on by itself where there is a GPU, silent where none, never in the way."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest
from synthetic_sysfs import MI100, card, table

from fake_tools import fake_amdsmi
from rocscope.capture import Capture
from rocscope.collectors import live, live_attach, live_plan, telemetry_sources
from rocscope.collectors.live_outcome import Outcome, Recorded
from rocscope.collectors.telemetry import TelemetrySampler
from rocscope.config import ProfileOptions
from rocscope.launch import running
from rocscope.launch.clocks import Offsets

NAP = (sys.executable, "-c", "import time; time.sleep(2)")


@pytest.fixture(scope="module")
def rocm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ROCm folder with the stand-in for libamd_smi.so."""
    if shutil.which("gcc") is None:
        pytest.skip("no gcc to build the stand-in for libamd_smi.so with")
    return fake_amdsmi.install(tmp_path_factory.mktemp("amdsmi") / "rocm")


@pytest.fixture
def machine(rocm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of two synthetic MI100; returns the file that tells AMD SMI what to do."""
    for index in range(2):
        card(tmp_path / "sys", index, blob=table(3, MI100), node=2 - index)
    fake_amdsmi.tell(tmp_path / "told")
    monkeypatch.setenv("ROCM_PATH", str(rocm))
    monkeypatch.setenv("FAKE_AMDSMI", str(tmp_path / "told"))
    monkeypatch.setenv("ROCSCOPE_SYSFS", str(tmp_path / "sys"))
    for name in ("HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "told"


def record(out: Path, *command: str, **options: object) -> Recorded:
    given = {"out": out, "sample_hz": 0, "telemetry_hz": 10, "shutdown_timeout_s": 20, **options}
    return live.record(command, ProfileOptions.model_validate(given))


def notices(capture: Capture) -> dict[str, str]:
    return {each.code: each.message for each in capture.manifest.notices}


def samples(capture: Capture) -> pd.DataFrame:
    return capture.samples.to_pandas()


def test_a_run_on_a_machine_with_gpus_has_their_readings(machine: Path, tmp_path: Path) -> None:
    capture = record(tmp_path / "out", *NAP, profiler="none").capture
    found = samples(capture)
    assert set(found.source) == {"amdsmi"} and set(found.subject) == {"gpu:0", "gpu:1", "rocscope"}
    power = found[found.metric == "power_w"]
    assert dict(power.groupby("subject", observed=True).value.first()) == {"gpu:0": 212.0, "gpu:1": 211.0}
    assert (power.subject == "gpu:0").sum() <= 30  # ROCm counts the second card first: node 1
    assert (
        found.time_ns.is_monotonic_increasing
        or found.groupby("subject", observed=True).time_ns.is_monotonic_increasing.all()
    )
    assert "2 GPUs at 10 Hz through amdsmi" in notices(capture)["telemetry"]


@pytest.mark.slow
def test_visibility_of_the_command_counts(
    machine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HIP_VISIBLE_DEVICES", "1")
    found = samples(record(tmp_path / "out", *NAP, profiler="none").capture)
    assert set(found.subject) == {"gpu:0", "device:0000:20:00.0", "rocscope"}
    assert found[(found.subject == "gpu:0") & (found.metric == "power_w")].value.iloc[0] == 211


@pytest.mark.slow
@pytest.mark.parametrize(
    ("profiler", "place"),
    [
        ("rocprofv3", {"bus": 3, "node": 7}),
        ("rocprof", {"bus": 9, "node": 1}),
        ("rocprofv2", {"bus": 9, "node": 1}),
    ],
)
def test_readings_go_to_the_gpu_that_the_profiler_names(
    standins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, profiler: str, place: dict[str, int]
) -> None:
    """rocprofv3 tells the PCI address, 0000:03:00.0 in its stand-in; the older ones the node, 1."""
    card(tmp_path / "sys", 0, blob=table(3, MI100), bus=1, node=5)
    card(tmp_path / "sys", 1, blob=table(3, MI100 | {"average_socket_power": 99}), **place)
    monkeypatch.setenv("ROCSCOPE_SYSFS", str(tmp_path / "sys"))
    monkeypatch.setenv("PATH", f"{standins}:{os.environ['PATH']}")
    capture = record(tmp_path / "out", *NAP, profiler=profiler, telemetry="sysfs").capture
    found = samples(capture)
    assert "telemetry-unmatched" not in notices(capture)
    power = found[(found.subject == "gpu:0") & (found.metric == "power_w")]
    assert set(power.value) == {99.0} and "device:0000:01:00.0" in set(found.subject)
    kernels = capture.dispatches.to_pandas()
    inside = power.time_ns.between(kernels.start_ns.min(), kernels.end_ns.max())
    assert inside.any()  # one clock


@pytest.mark.slow
def test_a_recording_whose_gpu_is_not_here_is_not_joined(
    standins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for index in range(2):
        card(tmp_path / "sys", index, blob=table(3, MI100))
    monkeypatch.setenv("ROCSCOPE_SYSFS", str(tmp_path / "sys"))
    monkeypatch.setenv("PATH", f"{standins}:{os.environ['PATH']}")
    capture = record(tmp_path / "out", *NAP, profiler="rocprofv3", telemetry="sysfs").capture
    assert "GPU 0 of the recording cannot be told for sure" in notices(capture)["telemetry-unmatched"]
    assert set(samples(capture).subject) == {"device:0000:10:00.0", "device:0000:20:00.0", "rocscope"}


def test_a_library_that_hangs_from_the_start_does_not_hold_up_the_run(machine: Path, tmp_path: Path) -> None:
    fake_amdsmi.tell(machine, "hang amdsmi_init")
    began = time.monotonic()
    recorded = record(tmp_path / "out", "sleep", "2.5", profiler="none")
    assert time.monotonic() - began < 6 and recorded.exit_code == 0
    assert len(recorded.capture.samples) == 0
    said = notices(recorded.capture)["telemetry-missing"]
    assert said.startswith("no GPU telemetry (amdsmi did not answer in 2.")
    assert said.endswith("while it was started)")


def test_a_machine_without_a_gpu_is_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROCSCOPE_SYSFS", str(tmp_path))
    monkeypatch.setattr(telemetry_sources, "_NVIDIA", ())
    capture = record(tmp_path / "out", "true", profiler="none").capture
    assert set(notices(capture)) == {"no-device-data"} and len(capture.samples) == 0


@pytest.mark.slow
def test_what_was_asked_for_by_name_and_is_not_there_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROCSCOPE_SYSFS", str(tmp_path))
    capture = record(tmp_path / "out", "sleep", "3", profiler="none", telemetry="sysfs").capture
    assert "no GPU of the amdgpu driver" in notices(capture)["telemetry-missing"]


@pytest.mark.slow
def test_a_replayed_recording_is_not_given_this_machines_readings(
    machine: Path, tmp_path: Path, examples: Path
) -> None:
    recording = examples / "h200_decoder" / "kineto_strided_graph.json.gz"
    capture = record(tmp_path / "out", *NAP, profiler=f"replay:{recording}").capture
    assert not set(samples(capture).source) & {"amdsmi", "sysfs", "nvml"}


def profile(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "rocscope", "profile", "--profiler", "none", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.slow
def test_the_command_takes_source_and_rate(machine: Path, tmp_path: Path) -> None:
    done = profile(
        "--telemetry", "sysfs", "--telemetry-hz", "10", "--out", "o", "--json", "--", *NAP, folder=tmp_path
    )
    assert done.returncode == 0, done.stderr
    json.loads(done.stdout)
    assert "2 GPUs at 10 Hz through sysfs (gpu_metrics v1.3)" in done.stderr
    found = samples(Capture.load(tmp_path / "o" / "capture"))
    assert {"sysfs"} <= set(found.source) and "power_w" in set(found.metric)
    done = profile("--telemetry", "none", "--out", "p", "--", *NAP, folder=tmp_path)
    assert "GPU telemetry" not in done.stderr
    assert not {"sysfs", "amdsmi"} & set(samples(Capture.load(tmp_path / "p" / "capture")).source)


@pytest.mark.parametrize(
    "wrong", [("--telemetry", "dcgm"), ("--telemetry-hz", "11"), ("--telemetry-hz", "0")]
)
def test_a_wrong_choice_is_a_usage_error(tmp_path: Path, wrong: tuple[str, str]) -> None:
    done = profile(*wrong, "--", "true", folder=tmp_path)
    assert done.returncode == 2 and wrong[0] in done.stderr


@pytest.mark.slow
def test_what_was_read_is_no_warning_and_what_is_missing_is(machine: Path, tmp_path: Path) -> None:
    done = profile("--telemetry-hz", "10", "--out", "o", "--json", "--", *NAP, folder=tmp_path)
    warned = {each["code"] for each in json.loads(done.stdout)["integrity"]["warnings"]}
    assert not {code for code in warned if code.startswith("telemetry")}
    fake_amdsmi.tell(machine, "fail amdsmi_init 34")
    done = profile("--telemetry", "amdsmi", "--out", "p", "--json", "--", *NAP, folder=tmp_path)
    warned = {each["code"] for each in json.loads(done.stdout)["integrity"]["warnings"]}
    assert "telemetry-missing" in warned


@pytest.mark.parametrize("readable", [True, False])
def test_what_is_attached_to_counts_its_gpus_as_we_do_only_where_its_environment_is_known(
    machine: Path, tmp_path: Path, readable: bool
) -> None:
    options = ProfileOptions(out=tmp_path / "out", profiler="none", sample_hz=0, telemetry="sysfs")
    found = running.Running(address=None, process=psutil.Process(), readable=readable)
    run = live_plan.plan_run(("true",), options)
    outcome = Outcome(run=run, offsets=Offsets({}), started_at="", began_ns=0)
    live_attach._sample(outcome, found, options)
    (sampler,) = outcome.samplers
    assert sampler.stop() and isinstance(sampler, TelemetrySampler) and sampler.by_order is readable
