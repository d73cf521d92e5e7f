"""``--profiler torch`` around a program: traces are gathered, what is lost is said. torch is a stand-in."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from rocscope.collectors import live, run_torch
from rocscope.collectors.backend import Found, Request
from rocscope.collectors.live_outcome import Recorded
from rocscope.config import ProfileOptions
from rocscope.launch.tree import Seen

STANDIN = Path(__file__).resolve().parents[1] / "fake_tools/standin_torch"
WORK = "import torch\nfor _ in range(5): torch.work()\n"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(STANDIN))
    monkeypatch.setenv("STANDIN_GPU", "1")


def record(out: Path, code: str, **options: object) -> Recorded:
    given = {"out": out, "profiler": "torch", "sample_hz": 0, "shutdown_timeout_s": 20, **options}
    return live.record((sys.executable, "-c", code), ProfileOptions.model_validate(given))


def codes(recorded: Recorded) -> set[str]:
    return {each.code for each in recorded.capture.manifest.notices}


def test_a_program_is_recorded_and_its_exit_code_passed_on(tmp_path: Path) -> None:
    recorded = record(tmp_path / "out", WORK + "raise SystemExit(3)")
    manifest = recorded.capture.manifest
    assert (recorded.exit_code, recorded.lost, manifest.partial) == (3, [], False)
    assert recorded.capture.dispatches.num_rows == 5
    assert (manifest.profiler, manifest.provenance, manifest.clock.domain) == (
        "torch",
        "recorded",
        "realtime",
    )
    assert manifest.command[-1] == WORK + "raise SystemExit(3)"


def test_after_the_duration_the_program_is_ended_and_writes(tmp_path: Path) -> None:
    recorded = record(tmp_path / "out", WORK + "import time; time.sleep(60)", duration_s=1.5)
    assert (recorded.exit_code, recorded.lost) == (0, [])
    assert recorded.capture.dispatches.num_rows == 5
    assert recorded.capture.manifest.exit_code == 128 + signal.SIGTERM


def test_a_program_that_uses_no_gpu_leaves_nothing_and_that_is_said(tmp_path: Path) -> None:
    recorded = record(tmp_path / "out", "print(1)")
    assert (recorded.exit_code, recorded.lost) == (0, [])
    assert "no-device-data" in codes(recorded)


def test_a_process_that_was_killed_is_lost_data(tmp_path: Path) -> None:
    code = WORK + "import os, subprocess, sys\nif len(sys.argv) == 1: "
    code += "subprocess.run([sys.executable, '-c', 'import os, torch; torch.work(); os._exit(0)'])\n"
    recorded = record(tmp_path / "out", code)
    (lost,) = recorded.lost
    assert lost.endswith("was ended before it could write its trace")
    assert recorded.exit_code == 11 and recorded.capture.manifest.partial
    assert recorded.capture.dispatches.num_rows == 5  # those of the other process


def test_a_profiler_that_fails_is_lost_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STANDIN_FAIL", "start")
    recorded = record(tmp_path / "out", WORK)
    (lost,) = recorded.lost
    assert lost.endswith("was not recorded: RuntimeError: no permission to read counters")
    assert recorded.exit_code == 11 and {"data-lost", "no-device-data"} <= codes(recorded)


@pytest.mark.parametrize(("uses_gpu", "lost"), [(True, 1), (False, 0)])
def test_a_program_that_used_the_gpu_without_torch_is_lost_data(
    tmp_path: Path, uses_gpu: bool, lost: int
) -> None:
    """No GPU is here to be opened: the processes are as the watch over them would have seen them."""
    (tmp_path / "torch").mkdir()
    request = Request(("a.out",), {}, tmp_path, Found("torch"))
    seen = [Seen(pid=7, created=1.0, parent=1, name="a.out", uses_gpu=uses_gpu)]
    missing = run_torch.BACKEND.missing(request, seen)
    assert missing == ["a.out (pid 7) used a GPU and left no trace"][:lost]
