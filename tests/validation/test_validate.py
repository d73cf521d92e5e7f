"""``rocscope doctor --validate`` from the command line to the archive."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rocscope import pipeline

Run = Callable[..., tuple[int, str, str]]
SECRETS = (
    "alice",
    "Instinct MI100 of",
    "hello",
    str(Path.home()),
    "standin_known",
    "/tmp",
    os.uname().nodename,
)


def contents(archive: Path) -> dict[str, bytes]:
    with tarfile.open(archive) as tar:
        return {
            each.name: found.read()
            for each in tar.getmembers()
            if (found := tar.extractfile(each)) is not None
        }


def test_one_command_runs_all_profilers_and_packs_what_they_read(
    bench: Any, run: Run, tmp_path: Path
) -> None:
    out = tmp_path / "kit"
    words = ("doctor", "--validate", out, "--python", bench.python, "--counters", "bandwidth", "--json")
    code, printed, said = run(*words, "--profiler", "rocprofv3", "--profiler", "rocprof")
    told = json.loads(printed)
    assert code == 0, printed
    assert told["counts"]["fail"] == 0 and told["counts"]["pass"] > 100 and not told["partial"]
    assert told["archive"] == str(out / "rocscope-validation.tar.gz")
    assert "5 runs of the known kernels under 2 profilers, about" in said
    assert "3 of 3: rocprof bandwidth" in said
    files = contents(out / "rocscope-validation.tar.gz")
    names = {name.removeprefix("rocscope-validation/") for name in files}
    assert names >= {"README.txt", "verdicts.txt", "verdicts.json", "doctor.json", "truth/no-profiler.json"}
    assert "captures/rocprofv3-bandwidth/manifest.json" in names
    for name, content in files.items():
        for secret in SECRETS:
            assert secret.encode() not in content, (name, secret)
    sent = json.loads(files["rocscope-validation/verdicts.json"])
    assert sent["counts"] == told["counts"] and sent["device"]["name"] == "MI100"
    assert sent["software"]["runtime"] == "6.3.42134"  # without the builder's own word behind it
    assert sent["software"]["torch"] == "2.7.1+rocm6.3" and sent["profilers"]["rocprofv3"] == "1.0.0"
    assert files["rocscope-validation/verdicts.txt"].count(b"\n") == sum(sent["counts"].values())
    with tarfile.open(out / "rocscope-validation.tar.gz") as tar:
        tar.extractall(tmp_path / "received", filter="data")
    received = tmp_path / "received" / "rocscope-validation" / "captures" / "rocprofv3-bandwidth"
    analysis = pipeline.analyze(received)
    (copy,) = [each for each in analysis.kernels if each.kernel == "rocscope_known_copy"]
    assert copy.bytes_per_dispatch.basis == "measured" and copy.bytes_per_dispatch.value == 2 * 268_435_456


@pytest.mark.slow
def test_a_failed_check_is_an_exit_code_and_a_line(bench: Any, run: Run, tmp_path: Path) -> None:
    bench.play(copy={"read": 400e6})
    words = ("doctor", "--python", bench.python, "--counters", "bandwidth", "--profiler", "rocprofv3")
    code, printed, _ = run(*words, "--validate", tmp_path / "kit.zip")
    assert code == 18
    (line,) = [line for line in printed.splitlines() if line.startswith("fail")]
    assert line.split(None, 1)[1] == (
        "rocprofv3 bandwidth copy read-bytes: expected 268.4 MB +- 5 %; seen 400.0 MB"
    )
    assert "1 fail" in printed
    with zipfile.ZipFile(tmp_path / "kit.zip") as packed:
        assert line in packed.read("rocscope-validation/verdicts.txt").decode()
    assert sorted(path.name for path in tmp_path.iterdir() if "kit" in path.name) == ["kit.zip"]


def test_a_dry_run_says_what_would_be_run_and_runs_nothing(bench: Any, run: Run, tmp_path: Path) -> None:
    words = ("doctor", "--validate", tmp_path / "kit", "--python", bench.python, "--dry-run")
    code, printed, _ = run(*words, "--json")
    told = json.loads(printed)
    assert code == 0 and not (tmp_path / "kit").exists()
    assert next(each["trial"] for each in told["runs"]) == "no profiler"
    assert told["estimated_s"] > 60 and "known_kernels.py" in told["command"]
    whys = {each["trial"]: each["why"] for each in told["not_run"]}
    assert whys["torch bandwidth"] == "this profiler takes no counters that could be planned"
    assert "about" in run(*words)[1]


def test_what_is_missing_is_said_before_anything_runs(bench: Any, run: Run, tmp_path: Path) -> None:
    out = tmp_path / "kit"
    bench.patch.setenv("STANDIN_FAULT", "no-torch")
    code, _, said = run("doctor", "--validate", out, "--python", bench.python)
    assert code == 6 and "no torch" in said and "--python" in said and "pip install torch" in said
    code, _, said = run("doctor", "--validate", out, "--python", tmp_path / "nothing")
    assert code == 6 and "No such file" in said
    assert not out.exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--profiler", "rocprofv9"), "no such profiler"),
        (("--counters", "many"), "no such plan"),
        (("--measure",), "no --measure beside it"),
        (("--device", "0", "--device", "1"), "one GPU"),
    ],
)
def test_wrong_options_are_usage_errors(
    bench: Any, run: Run, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    code, _, message = run("doctor", "--validate", tmp_path / "kit", "--python", bench.python, *words)
    assert code == 2 and said in message


def test_options_need_validate_and_nothing_is_written_over(bench: Any, run: Run, tmp_path: Path) -> None:
    assert run("doctor", "--profiler", "torch")[0] == 2
    (tmp_path / "kit").mkdir()
    (tmp_path / "kit" / "mine").touch()
    code, _, said = run("doctor", "--validate", tmp_path / "kit", "--python", bench.python)
    assert code == 2 and "there is something of that name" in said


@pytest.mark.slow
def test_ctrl_c_leaves_an_archive_of_what_was_done(bench: Any, tmp_path: Path) -> None:
    bench.patch.setenv("STANDIN_FAULT", "hang")
    out = tmp_path / "kit"
    words = [sys.executable, "-m", "rocscope", "doctor", "--validate", str(out), "--python", bench.python]
    words += ["--profiler", "rocprofv3", "--profiler", "rocprofv2", "--counters", "bandwidth"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None and process.stdout is not None
        for line in process.stderr:
            if "pass 1 of 2" in line:
                break
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        printed, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "not run        rocprofv2 bandwidth recorded: you ended it before it" in printed
    files = contents(out / "rocscope-validation.tar.gz")
    sent = json.loads(files["rocscope-validation/verdicts.json"])
    assert sent["partial"] and sent["counts"]["pass"] and not sent["counts"]["fail"]
    assert b"ended before all was done" in files["rocscope-validation/README.txt"]


def test_a_program_that_fails_without_a_profiler_ends_it(bench: Any, run: Run, tmp_path: Path) -> None:
    bench.told["kernels"][0]["launches"] = 0  # which no program may print
    bench.play()
    words = ("doctor", "--python", bench.python, "--profiler", "rocprofv3", "--json")
    code, printed, _ = run(*words, "--validate", tmp_path / "kit")
    assert code == 18
    told = json.loads(printed)
    failed = [each for each in told["verdicts"] if each["status"] == "fail"]
    assert "kernels.0.launches" in failed[0]["detail"]
    assert {each["trial"] for each in failed} == {"no profiler"} and told["counts"]["pass"] == 0


@pytest.mark.slow
def test_rocprof_compute_is_judged_by_its_workload(bench: Any, run: Run, tmp_path: Path) -> None:
    words = ("doctor", "--python", bench.python, "--profiler", "rocprof-compute", "--json")
    code, printed, _ = run(*words, "--validate", tmp_path / "kit")
    told = json.loads(printed)
    assert code == 0, [each for each in told["verdicts"] if each["status"] == "fail"]
    passed = {(each["check"], each["kernel"]) for each in told["verdicts"] if each["status"] == "pass"}
    assert passed >= {("waves", "copy"), ("read-bytes", "copy"), ("time", "copy"), ("launches", "w4a16")}


@pytest.mark.slow
def test_checks_that_break_cost_no_other_verdict(
    bench: Any, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rocscope.validation import checks_launches

    def broken(seen: object) -> list[object]:
        raise ZeroDivisionError("a strange recording")

    monkeypatch.setattr(checks_launches, "launches", broken)
    words = ("doctor", "--python", bench.python, "--profiler", "rocprofv3", "--counters", "none", "--json")
    code, printed, _ = run(*words, "--validate", tmp_path / "kit")
    (failed,) = [each for each in json.loads(printed)["verdicts"] if each["status"] == "fail"]
    assert code == 18 and failed["check"] == "checks" and "strange" in failed["detail"]
