"""Serving figures of a real vLLM 0.32 on CPU against those of its own benchmark, of the same run.

Few requests at a time, of long prompts: with many short ones the benchmark's own process is what delays the
tokens that it counts, and a client's latencies are no longer the server's.
"""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import pytest
from test_profile_vllm import HOME, MODEL, environment, port, rocscope, serve  # noqa: F401  # fixtures among them

from rocscope import serving_metrics
from rocscope.capture import Capture
from rocscope.serving_metrics import Scrapes

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(not (HOME / "bin/vllm").exists(), reason=f"no vLLM in {HOME}; run make test-vllm"),
]
REQUESTS, PROMPT, OUTPUT, AT_ONCE = 24, 800, 32, 4


def bench(port: int, folder: Path) -> str:  # noqa: F811
    return (
        f"vllm bench serve --backend vllm --model tiny --tokenizer {MODEL} --host 127.0.0.1 --port {port} "
        f"--dataset-name random --random-input-len {PROMPT} --random-output-len {OUTPUT} "
        f"--num-prompts {REQUESTS} --max-concurrency {AT_ONCE} --ignore-eos "
        "--percentile-metrics ttft,tpot,itl,e2el --save-result --save-detailed "
        f"--result-dir {folder} --result-filename bench.json"
    )


@pytest.fixture
def profiled(environment: dict[str, str], tmp_path: Path, port: int) -> Path:  # noqa: F811
    out = tmp_path / "out"
    command = rocscope(
        *("--profiler", "torch", "--out", str(out), "--load", bench(port, tmp_path), "--no-overhead"),
        *("--", *serve(port)),
    )
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1400)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return out


def width(scrapes: Scrapes, name: str, value_s: float) -> float:
    """Width of the bucket that holds a latency, s."""
    found = serving_metrics.histogram(scrapes, name)
    assert found is not None
    at = int(found.bounds.searchsorted(value_s))
    return float(found.bounds[at] - (found.bounds[at - 1] if at else 0.0))


def test_serving_figures_are_those_of_vllms_own_benchmark(profiled: Path) -> None:
    said = json.loads((profiled.parent / "bench.json").read_text())
    analysis = json.loads((profiled / "analysis.json").read_text())
    capture = Capture.load(profiled / "capture")
    serving = analysis["serving"]

    # tokens, and their rate in the benchmark's own window: its clock is CLOCK_MONOTONIC
    offset = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    scrapes = Scrapes.read(capture.samples)
    assert scrapes is not None and capture.manifest.window_ns is not None
    wall = capture.manifest.clock.wall_offset_ns
    assert wall is not None
    shift = time.clock_gettime_ns(time.CLOCK_REALTIME) - time.clock_gettime_ns(time.CLOCK_BOOTTIME) - wall
    start = int(min(said["start_times"]) * 1e9) + offset + shift
    window = (start, start + int(said["duration"] * 1e9))
    same = serving_metrics.of_window(scrapes, *window)
    assert same["generation_tokens"] == said["total_output_tokens"] == REQUESTS * OUTPUT
    assert same["prompt_tokens"] == said["total_input_tokens"]
    assert same["generation_tokens_per_s"] == pytest.approx(said["output_throughput"], rel=0.01)
    active = serving["active"]
    assert active["generation_tokens_per_s_low"] <= said["output_throughput"] * 1.01
    assert (active["generation_tokens_per_s_high"] or float("inf")) >= said["output_throughput"] * 0.99
    assert serving["requests_finished"] == said["completed"] == REQUESTS

    # latencies within the width of their buckets: the client's are longer by what lies between the two
    for ours, theirs in (("ttft_s", "ttft"), ("itl_s", "itl"), ("tpot_s", "tpot")):
        found, client = serving["latencies"][ours]["mean_s"], said[f"mean_{theirs}_ms"] / 1e3
        bucket = width(scrapes, ours, found)
        print(
            f"{ours}: {found * 1e3:.2f} ms, the client's {client * 1e3:.2f} ms, a bucket {bucket * 1e3:g} ms"
        )
        assert found == pytest.approx(client, abs=bucket), ours
    median = serving["latencies"]["ttft_s"]
    spare = median["p50_high_s"] - median["p50_low_s"]
    assert median["p50_low_s"] - spare <= said["median_ttft_ms"] / 1e3 <= median["p50_high_s"] + spare

    # steps by phase: every token of the load was made in one of them, the first of a request with its prompt
    phases = {each["phase"]: each for each in analysis["phases"]}
    assert set(phases) <= {"prefill", "decode", "mixed"} and phases["decode"]["us_per_token"] > 0
    assert phases["decode"]["tokens"] <= REQUESTS * (OUTPUT - 1)

    # a token rebuilt from the steps, its error said, and whether the two reconcile
    tpot = serving["tpot"]
    assert tpot["rebuilt_s"] > 0 and tpot["measured_s"] == serving["latencies"]["itl_s"]["mean_s"]
    assert tpot["error_frac"] == pytest.approx(tpot["rebuilt_s"] / tpot["measured_s"] - 1)
    assert "a token is rebuilt as" in tpot["statement"] and "reconcile" in tpot["statement"]
    print(tpot["statement"])
    report = (profiled / "report.md").read_text()
    assert "### Serving" in report and "### Phases" in report and "is rebuilt as" in report

    kept = {path.name for path in (profiled / "raw/serving").iterdir()}
    assert kept == {"before.metrics.txt", "after.metrics.txt"}
    before, after = (profiled / f"raw/serving/{name}.metrics.txt" for name in ("before", "after"))
    assert "vllm:generation_tokens_total" in before.read_text() and after.stat().st_size > 10_000
