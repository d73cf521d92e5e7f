"""Live runs around a server that answers as vLLM does: readiness, load, profiler requests, ends.

The server is a few lines of Python; the same against the real one is in tests/vllm.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path

import pyarrow.compute as pc
import pytest

from rocscope import load_samples
from rocscope.collectors import live
from rocscope.collectors.live_outcome import Recorded
from rocscope.config import ProfileOptions
from rocscope.errors import TargetDied, TargetError, TargetNotReady
from rocscope.traffic import result

SERVER = r"""
import gzip, http.server, json, os, sys, time
option = lambda name, default=None: sys.argv[sys.argv.index(name) + 1] if name in sys.argv else default
port = int(option("--port"))
folder = json.loads(option("--profiler-config", "{}")).get("torch_profiler_dir")
def event(n):
    return {"ph": "X", "cat": "cpu_op", "name": "aten::mm", "pid": 1, "tid": 1, "ts": 1000.0 + n, "dur": 0.5}
BASE = (time.time_ns() // 10**9 - 4_000_000) * 10**9  # PyTorch counts from a base of its own
def kernel(n):
    launch = {"device": 0, "stream": 7, "correlation": n, "grid": [8, 1, 1], "block": [64, 1, 1]}
    return {"ph": "X", "cat": "kernel", "name": "synthetic_kernel", "pid": 0, "tid": 7,
            "ts": (time.time_ns() - BASE) / 1000 + n, "dur": 0.5, "args": launch}
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
        metrics = b'# TYPE vllm:num_requests_running gauge\nvllm:num_requests_running{model_name="M"} 1.0\n'
        self.wfile.write(metrics if self.path == "/metrics" else b'{"data": [{"id": "M"}]}')
    def do_POST(self):
        if self.path == "/v1/completions":
            wanted = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["max_tokens"]
            self.send_response(200); self.end_headers()
            for _ in range(wanted):
                self.wfile.write(b'data: {"choices": [{"text": "a"}]}\n\n'); time.sleep(0.001)
            usage = json.dumps({"choices": [], "usage": {"prompt_tokens": 4, "completion_tokens": wanted}})
            self.wfile.write(f"data: {usage}\n\ndata: [DONE]\n\n".encode())
            return
        known = folder is not None and not (os.environ.get("NO_STOP") and "stop" in self.path)
        if known and self.path == "/stop_profile" and not os.environ.get("NO_TRACE"):
            with gzip.open(f"{folder}/rank0.1.pt.trace.json.gz", "wt") as stream:
                json.dump({"schemaVersion": 1, "deviceProperties": [],
                           "distributedInfo": {"backend": "gloo", "rank": 0, "world_size": 1},
                           "baseTimeNanoseconds": BASE,
                           "traceEvents": [(kernel if os.environ.get("KERNELS") else event)(n)
                                           for n in range(9)]}, stream)
        self.send_response(200 if known else 404); self.end_headers()
    def log_message(self, *_): pass
http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def vllm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program called vllm, of version 0.32.0 as far as its interpreter knows."""
    folder = tmp_path / "bin"
    metadata = folder / "vllm-0.32.0.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text("Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0\n")
    program = folder / "vllm"
    program.write_text(f"#!{sys.executable}\n{SERVER}")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return program


def record(tmp_path: Path, port: int, *more: str, **options: object) -> tuple[Recorded, list[str]]:
    said: list[str] = []
    given = {"out": tmp_path / "out", "profiler": "none", "sample_hz": 0, "shutdown_timeout_s": 20, **options}
    command = ("vllm", "serve", "M", "--port", str(port), *more)
    return live.record(command, ProfileOptions.model_validate(given), say=said.append), said


def test_a_server_is_loaded_and_ended_by_us(
    vllm: Path, tmp_path: Path, port: int, capfd: pytest.CaptureFixture[str]
) -> None:
    load = (sys.executable, "-c", "import time; print('loading'); time.sleep(0.4)")
    recorded, said = record(tmp_path, port, load=load)
    manifest = recorded.capture.manifest
    assert recorded.exit_code == 0 and manifest.exit_code == 143 and said == []
    assert manifest.window_ns is not None
    assert 0.3e9 < manifest.window_ns[1] - manifest.window_ns[0] < 10e9
    assert (tmp_path / "out/logs/load-stdout.log").read_text() == "loading\n"
    out, err = capfd.readouterr()
    assert "loading" in err and "loading" not in out
    assert manifest.command[-2:] == ["--shutdown-timeout", "15"]


def test_a_load_that_fails_is_said(vllm: Path, tmp_path: Path, port: int) -> None:
    recorded, said = record(tmp_path, port, load=("false",))
    assert recorded.exit_code == 0
    assert any("the load ended with code 1" in text for text in said)


def test_a_load_that_does_not_exist_ends_the_run(vllm: Path, tmp_path: Path, port: int) -> None:
    with pytest.raises(TargetError, match="no-such-load: command not found"):
        record(tmp_path, port, load=("no-such-load",))


def test_duration_ends_the_load_before_the_server(vllm: Path, tmp_path: Path, port: int) -> None:
    ended = tmp_path / "ended"
    code = (
        "import time, urllib.request as u\n"
        f"try: time.sleep(60)\nexcept KeyboardInterrupt: u.urlopen('http://127.0.0.1:{port}/health')\n"
        f"open({str(ended)!r}, 'w')"
    )
    recorded, said = record(tmp_path, port, load=(sys.executable, "-c", code), duration_s=0.8)
    assert recorded.exit_code == 0 and said == []
    assert ended.exists()  # the server still answered while the load was being ended


def test_a_server_that_is_never_ready(vllm: Path, tmp_path: Path, port: int) -> None:
    with pytest.raises(TargetNotReady, match="did not answer within 1 s"):
        record(tmp_path, port, "--uds", str(tmp_path / "socket"), ready_timeout_s=1)


def test_a_server_that_dies_at_once(vllm: Path, tmp_path: Path, port: int) -> None:
    vllm.write_text(f"#!{sys.executable}\nimport sys; sys.exit('cannot allocate memory')\n")
    with pytest.raises(TargetDied, match="cannot allocate memory"):
        record(tmp_path, port)


def test_times_from_a_base_of_their_own_meet_the_host_samples(
    vllm: Path, tmp_path: Path, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KERNELS", "1")
    recorded, _ = record(tmp_path, port, profiler="torch", duration_s=0.6, sample_hz=5)
    capture = recorded.capture
    assert not any(each.code == "clock-unknown" for each in capture.manifest.notices)
    first, window = pc.min(capture.dispatches["start_ns"]).as_py(), capture.manifest.window_ns
    sampled = pc.min_max(capture.samples["time_ns"]).as_py()
    assert window is not None and window[0] < first
    assert sampled["min"] < first < sampled["max"] + 5e9


def test_a_port_that_is_taken(vllm: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(TargetError, match="is taken"):
        record(tmp_path, taken.getsockname()[1])


def test_a_server_that_ends_while_profiled_passes_its_code_on(vllm: Path, tmp_path: Path, port: int) -> None:
    first, *rest = vllm.read_text().splitlines(keepends=True)
    vllm.write_text(
        first + "import os, threading\nthreading.Timer(2, os._exit, (4,)).start()\n" + "".join(rest)
    )
    recorded, _ = record(tmp_path, port)
    assert recorded.exit_code == recorded.capture.manifest.exit_code == 4


def test_ctrl_c_while_waiting_ends_the_server_and_says_it_was_cut(
    vllm: Path, tmp_path: Path, port: int
) -> None:
    threading.Timer(0.8, os.kill, (os.getpid(), signal.SIGINT)).start()
    started = time.monotonic()
    recorded, _ = record(tmp_path, port, "--uds", str(tmp_path / "socket"))
    assert time.monotonic() - started < 15
    assert recorded.exit_code == 130 and recorded.capture.manifest.partial


def test_ctrl_c_while_profiling_ends_the_server_in_order(vllm: Path, tmp_path: Path, port: int) -> None:
    threading.Timer(2.0, os.kill, (os.getpid(), signal.SIGINT)).start()
    recorded, said = record(tmp_path, port)
    assert recorded.exit_code == 0 and not recorded.capture.manifest.partial
    assert said and "ending in order" in said[0]


def test_torch_is_started_and_stopped_and_its_traces_read(vllm: Path, tmp_path: Path, port: int) -> None:
    recorded, _ = record(tmp_path, port, profiler="torch", duration_s=0.3)
    capture = recorded.capture
    assert recorded.exit_code == 0 and recorded.lost == []
    assert capture.spans.num_rows == 9 and capture.dispatches.num_rows == 0
    assert any("GPU kernels" in each.message for each in capture.manifest.notices)


def test_a_rank_without_a_trace_is_lost_data(
    vllm: Path, tmp_path: Path, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_TRACE", "1")
    recorded, said = record(tmp_path, port, "-tp", "2", profiler="torch", duration_s=0.3)
    assert recorded.exit_code == 11 and recorded.lost == ["0 of 2 ranks left a trace"]
    assert said[-1].startswith("DATA LOST")


def test_a_profiler_that_cannot_be_stopped_is_said(
    vllm: Path, tmp_path: Path, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_STOP", "1")
    recorded, said = record(tmp_path, port, profiler="torch", duration_s=0.3)
    assert any("/stop_profile: HTTP 404" in text for text in said)
    assert recorded.exit_code == 11


def test_a_profiler_that_cannot_be_started_is_an_error(vllm: Path, tmp_path: Path, port: int) -> None:
    vllm.write_text(vllm.read_text().replace("folder is not None and", "False and"))
    with pytest.raises(TargetError, match=r"/start_profile: HTTP 404"):
        record(tmp_path, port, profiler="torch", duration_s=0.3)


def test_a_server_that_dies_of_being_asked_is_named(vllm: Path, tmp_path: Path, port: int) -> None:
    vllm.write_text(
        vllm.read_text().replace("    def do_POST(self):\n", "    def do_POST(self):\n        os._exit(1)\n")
    )
    with pytest.raises(TargetError, match=r"/start_profile"):
        record(tmp_path, port, profiler="torch", duration_s=0.3)


def test_a_trace_that_cannot_be_read_is_lost_data(vllm: Path, tmp_path: Path, port: int) -> None:
    vllm.write_text(
        vllm.read_text().replace("json.dump({", "stream.write('not a trace') if 1 else json.dump({")
    )
    recorded, _ = record(tmp_path, port, profiler="torch", duration_s=0.3)
    assert recorded.exit_code == 11
    assert any(each.code == "unreadable" for each in recorded.capture.manifest.notices)


@pytest.mark.parametrize("overhead", [True, False])
def test_what_profiling_costs_is_measured_with_the_same_load(
    vllm: Path, tmp_path: Path, port: int, overhead: bool
) -> None:
    load = "builtin:concurrency=1,requests=4,prompt=4,output=3,warmup=0"
    recorded, said = record(tmp_path, port, profiler="torch", load=load, overhead=overhead)
    assert said == []
    measured = recorded.capture.manifest.load
    assert measured is not None
    assert measured["profiled"]["levels"][0]["output_tokens"] == 12
    assert (measured["unprofiled"] is not None) == overhead
    told = result.overhead(measured)
    assert (told["overhead_frac"] is not None) == overhead
    for run, known in (("profiled", True), ("unprofiled", overhead)):
        requests = load_samples.of(recorded.capture.samples, run, 0)
        assert set(requests) == ({"ttft_s", "tpot_s", "e2e_s"} if known else set())
        assert all(len(values) == 4 for values in requests.values())
    window = recorded.capture.manifest.window_ns
    assert window is not None  # of the load under the profiler alone


def test_without_a_profiler_the_load_is_unprofiled(vllm: Path, tmp_path: Path, port: int) -> None:
    load = "builtin:concurrency=1,requests=2,prompt=4,output=3,warmup=0"
    made = record(tmp_path, port, load=load)[0].capture
    measured = made.manifest.load
    assert measured is not None
    assert measured["profiled"] is None
    assert len(load_samples.of(made.samples, "unprofiled", 0)["e2e_s"]) == 2
    assert measured["unprofiled"]["levels"][0]["requests"] == 2
