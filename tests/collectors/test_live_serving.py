"""A live run whose server has metrics: sampled from readiness on, marked at both ends of the window.

The server is a few lines of Python that count as vLLM does; the same against the real one is in tests/vllm.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path

import pytest

from rocscope import pipeline

SERVER = """
import http.server, sys, time
port = int(sys.argv[sys.argv.index("--port") + 1])
made = 0
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
        if self.path == "/metrics":
            self.wfile.write(f'''# TYPE vllm:generation_tokens counter
vllm:generation_tokens_total{{engine="0"}} {made}
vllm:prompt_tokens_total{{engine="0"}} {made}
vllm:num_requests_running{{engine="0"}} {int(made > 0)}
vllm:request_success_total{{finished_reason="length"}} {made / 50}
vllm:inter_token_latency_seconds_bucket{{le="0.01"}} {made}
vllm:inter_token_latency_seconds_bucket{{le="+Inf"}} {made}
vllm:inter_token_latency_seconds_count {made}
vllm:inter_token_latency_seconds_sum {made * 0.004}
'''.encode())
    def do_POST(self):
        global made
        made += 50
        self.send_response(200); self.end_headers()
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""
LOAD = (
    "import urllib.request as u\nfor _ in range(4): u.urlopen('http://127.0.0.1:{port}/v1/completions', b'')"
)


@pytest.fixture
def port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """A port for a program called vllm, of version 0.32.0 as far as its interpreter knows."""
    folder = tmp_path / "bin"
    metadata = folder / "vllm-0.32.0.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text("Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0\n")
    program = folder / "vllm"
    program.write_text(f"#!{sys.executable}\n{SERVER}")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(folder))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_what_was_served_is_in_the_analysis_and_its_texts_are_kept(tmp_path: Path, port: int) -> None:
    out = tmp_path / "out"
    script = tmp_path / "load.py"
    script.write_text(LOAD.format(port=port))
    done = pipeline.profile(
        ["vllm", "serve", "M", "--port", str(port)],
        out=out,
        profiler="none",
        shutdown_timeout_s=20,
        load=f"{sys.executable} {script}",
    )
    serving = json.loads((out / "analysis.json").read_text())["serving"]
    assert serving["generation_tokens"] == 200 and serving["requests_finished_by_reason"] == {"length": 4}
    assert serving["latencies"]["itl_s"]["mean_s"] == pytest.approx(0.004)
    assert serving["scrapes"] >= 2 and 0 < serving["span_s"] < 20
    assert serving["restarts"] == 0
    window = done.capture.manifest.window_ns
    assert window is not None and (window[1] - window[0]) * 1e-9 >= serving["span_s"]
    texts = {path.name: path.read_text() for path in (out / "raw/serving").iterdir()}
    assert 'generation_tokens_total{engine="0"} 0\n' in texts["before.metrics.txt"]
    assert 'generation_tokens_total{engine="0"} 200\n' in texts["after.metrics.txt"]
    assert "### Serving" in (out / "report.md").read_text()


def test_sampling_can_be_left_out(tmp_path: Path, port: int) -> None:
    done = pipeline.profile(
        ["vllm", "serve", "M", "--port", str(port)],
        out=tmp_path / "out",
        profiler="none",
        shutdown_timeout_s=20,
        sample_hz=0,
        duration_s=0.2,
    )
    assert done.analysis.serving == {} and not (tmp_path / "out/raw/serving").exists()
