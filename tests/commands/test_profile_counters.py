"""`rocscope profile --counters` as a user meets it: the plan before, the measured bytes after."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rocscope.cli import run
from rocscope.commands.profile import COMMAND

LIMITS = {"SQ": 8, "TA": 2, "TD": 2, "TCP": 4, "TCC": 4, "CPC": 2, "CPF": 2, "SPI": 6, "GRBM": 2}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def profile(*arguments: str, path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "rocscope", "profile", *arguments],
        capture_output=True,
        text=True,
        timeout=90,
        env={**os.environ, "PATH": f"{path}:{os.environ['PATH']}", **environment},
    )


def dry(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, object]:
    assert run(["profile", "--dry-run", "--json", *arguments]) == 0
    return json.loads(capsys.readouterr().out)  # type: ignore[no-any-return]


def test_standard_counters_give_measured_bytes(standins: Path, tmp_path: Path) -> None:
    done = profile(
        *("--counters", "standard", "--gpu", "MI100", "--out", "out", "--json", "--sample-hz", "0"),
        *("--", sys.executable, "-c", "import time; time.sleep(0.3)"),
        path=standins,
    )
    assert done.returncode == 0, done.stderr
    analysis = json.loads(done.stdout)
    assert analysis == json.loads((tmp_path / "out/analysis.json").read_text())
    passes = analysis["capture"]["passes"]
    assert [each["perturbed"] for each in passes] == [False, True, True, True]
    (gemm,) = [each for each in analysis["kernels"] if each["family"] == "gptq_gemm"]
    assert gemm["bytes_per_dispatch"]["value"] == 46_508_160
    assert gemm["bytes_per_dispatch"]["basis"] == "measured"
    measures = {each["measure"]: each for each in gemm["measures"]}
    assert measures["achieved_occupancy_frac"]["value"] == pytest.approx(0.1, rel=0.01)
    assert "rocprofv3 1.0.0" in measures["l2_hit_frac"]["source"]
    assert "a file of ours defines them" in done.stderr


@pytest.mark.slow
def test_a_saved_run_gives_the_same_again(standins: Path, tmp_path: Path) -> None:
    profile(
        *("--counters", "bandwidth", "--gpu", "MI100", "--out", "out", "--", "sleep", "0.3"), path=standins
    )
    before = json.loads((tmp_path / "out/analysis.json").read_text())
    again = subprocess.run(
        [sys.executable, "-m", "rocscope", "analyze", "out/capture", "--gpu", "MI100", "--json"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    kernels = json.loads(again.stdout)["kernels"]
    assert [each["bytes_per_dispatch"] for each in kernels] == [
        each["bytes_per_dispatch"] for each in before["kernels"]
    ]


def test_the_plan_is_shown_before_anything_runs(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    wish = ("--counters", "standard", "--gpu", "MI100", "--duration", "30")
    told = dry(capsys, *wish, "--", "vllm", "serve", "M")
    passes = told["passes"]
    assert isinstance(passes, list)
    assert passes[0]["counters"] == [] and passes[0]["launches"] == 1
    for one in passes:
        used: dict[str, int] = {}
        for name in one["counters"]:
            block = name.split("_")[0].replace("SQC", "SQ")
            used[block] = used.get(block, 0) + 1
        assert all(count <= LIMITS[block] for block, count in used.items())
    every = [name for one in passes for name in one["counters"]]
    assert len(every) == len(set(every)) > 20 and "FETCH_SIZE" not in every
    assert told["estimated_s"] == 30 * len(passes)
    assert not (tmp_path / "rocscope-out").exists()
    contents = told["contents"]
    assert isinstance(contents, dict) and any("architectures: [gfx908]" in text for text in contents.values())


def test_a_person_reads_the_plan_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        run(
            ["profile", "--dry-run", "--counters", "VALUBusy", "--gpu", "MI100", "--profiler", "rocprof", "x"]
        )
        == 0
    )
    out = capsys.readouterr().out
    assert "no counters (times, without counters)" in out
    assert "GRBM_GUI_ACTIVE SQ_ACTIVE_INST_VALU (" in out
    assert "2 launches, about 10 times as long as the command alone" in out
    assert (
        run(["profile", "--dry-run", "--counters", "SQ_WAVES", "--gpu", "MI100", "--duration", "9", "x"]) == 0
    )
    assert "2 launches, 18 s of recording" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--counters", "SQ_WAVEZ", "--gpu", "MI100"), 2, "did you mean SQ_WAVES"),
        (("--counters", "standard", "--profiler", "rocprofv3"), 2, "name the GPU with --gpu"),
        (("--counters", "standard", "--gpu", "H200", "--profiler", "rocprofv3"), 5, "sm_90"),
        (("--kernels", "gptq"), 2, "say which counters"),
        (("--dispatches", "2:9"), 2, "say which counters"),
        (("--counters", "standard", "--dispatches", "9:2"), 2, "for example --dispatches 10:20"),
        (("--counters", "standard", "--dispatches", "x"), 2, "not a range"),
        (("--counters", "standard", "--kernels", "("), 2, "no regular expression"),
        (("--counters", "standard", "--profiler", "torch"), 2, ""),
    ],
)
def test_each_mistake_has_a_message_a_next_step_and_a_code(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], code: int, said: str
) -> None:
    assert run(["profile", "--dry-run", *arguments, "--", "true"]) == code
    err = capsys.readouterr().err
    assert said in err and "Traceback" not in err


def test_help_and_completion_know_the_levels(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["profile", "--help"]) == 0
    out = capsys.readouterr().out
    assert "--counters" in out and "--kernels gptq" in out
    (option,) = [each for each in COMMAND.params if each.name == "counters"]
    context = COMMAND.make_context("profile", ["--", "true"])
    found = [each.value for each in option.shell_complete(context, "")]
    assert found == ["none", "bandwidth", "standard", "full"]
    assert [each.value for each in option.shell_complete(context, "st")] == ["standard"]
