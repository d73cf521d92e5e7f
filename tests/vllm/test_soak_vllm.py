"""The soak in its short form: the daemon beside a real vLLM under load, with windows through its profiler."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from test_profile_vllm import HOME

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(not (HOME / "bin/vllm").exists(), reason=f"no vLLM in {HOME}; run make test-vllm"),
]


def test_nothing_is_lost_and_windows_are_measured(tmp_path: Path) -> None:
    out = tmp_path / "soak"
    command = [sys.executable, "benchmarks/soak.py", "--minutes", "3", "--every", "45", "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1400)
    assert (out / "soak.json").exists(), done.stdout[-2000:] + done.stderr[-2000:]
    print((out / "soak.md").read_text())
    result = json.loads((out / "soak.json").read_text())
    bad = [each for each in result["checks"] if not each["ok"]]
    assert done.returncode == 0 and not bad, (bad, (out / "daemon.log").read_text()[-3000:])
    assert result["load"]["failed"] == 0 and result["load"]["requests"] > 100
    assert result["effect"]["windows"] >= 1 and result["effect"]["p99_gap_in_s"] > 0
