"""The command line as a user meets it: messages, next steps, exit codes; never a traceback."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rocscope.cli import run


def rocscope(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "rocscope", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environment},
    )


def refused(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str]:
    code = run([str(a) for a in arguments])
    err = capsys.readouterr().err
    assert "Traceback" not in err
    return code, err


def test_a_missing_file_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, err = refused(capsys, "analyze", tmp_path / "absent.csv")
    assert code == 13
    assert "absent.csv" in err and "next:" in err


def test_an_empty_file_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "results.csv").touch()
    code, err = refused(capsys, "analyze", tmp_path / "results.csv")
    assert code == 14
    assert "results.csv" in err and "empty" in err


def test_a_file_packed_twice_is_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "results.csv.gz").write_bytes(gzip.compress(gzip.compress(b"Index,KernelName\n")))
    code, err = refused(capsys, "analyze", tmp_path / "results.csv.gz")
    assert code == 16
    assert "packed twice" in err and "gunzip" in err


def test_tables_of_allocations_are_passed_over(capsys: pytest.CaptureFixture[str], captures: Path) -> None:
    for name in ("memory_allocation_trace.csv", "scratch_memory_trace.csv"):
        code, err = refused(capsys, "analyze", "-q", captures / "rocprofv3" / "sdk_docs" / name)
        assert code == 4, err


def test_a_foreign_format_lists_what_can_be_read(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("Dear diary\n")
    code, err = refused(capsys, "analyze", tmp_path / "notes.txt")
    assert code == 16
    assert "notes.txt" in err and "rocprofv3" in err


def test_a_truncated_gzip_gives_what_precedes_the_cut_and_says_so(tmp_path: Path, examples: Path) -> None:
    whole = (examples / "h200_decoder" / "kineto_fp16_graph.json.gz").read_bytes()
    (tmp_path / "cut.json.gz").write_bytes(whole[: len(whole) // 2])
    done = rocscope("analyze", tmp_path / "cut.json.gz", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert 1000 < found["integrity"]["dispatches"] < 4794
    assert any("cut.json.gz" in warned["message"] for warned in found["integrity"]["warnings"])


def test_a_recording_without_kernels_is_reported_and_refused(tmp_path: Path) -> None:
    event = {
        "ph": "X",
        "cat": "cpu_op",
        "name": "aten::mm",
        "pid": 1,
        "tid": 1,
        "ts": 1.0,
        "dur": 5.0,
        "args": {},
    }
    trace = {"schemaVersion": 1, "deviceProperties": [], "traceEvents": [event]}
    (tmp_path / "cpu.json").write_text(json.dumps(trace))
    done = rocscope("analyze", tmp_path / "cpu.json", "--json", "--out", tmp_path / "out")
    assert done.returncode == 4
    assert "no GPU kernels" in done.stderr and "next:" in done.stderr
    assert json.loads(done.stdout)["kernels"] == []
    assert "no GPU kernels in this recording" in (tmp_path / "out" / "report.md").read_text()


def test_a_recording_cut_before_its_first_kernel_is_called_cut(tmp_path: Path) -> None:
    event = json.dumps(
        {"ph": "X", "cat": "cpu_op", "name": "aten::mm", "pid": 1, "tid": 1, "ts": 1, "dur": 5}
    )
    text = f'{{"schemaVersion": 1, "deviceProperties": [], "traceEvents": [{event}, {{"ph": "X", "cat": "ker'
    (tmp_path / "cut.json").write_text(text)
    done = rocscope("analyze", tmp_path / "cut.json", "--quiet")
    assert done.returncode == 4
    assert "cut.json is cut off at byte" in done.stderr and "copy the file again" in done.stderr


def test_an_unknown_gpu_lists_the_known(capsys: pytest.CaptureFixture[str], examples: Path) -> None:
    code, err = refused(
        capsys, "analyze", examples / "h200_decoder" / "kineto_fp16_graph.json.gz", "--gpu", "MI9"
    )
    assert code == 5
    assert "MI9" in err and "MI100" in err


@pytest.mark.parametrize(
    ("option", "value"),
    [("--ranks", "zero"), ("--steps", "9:3"), ("--between", "late"), ("--steps", "7")],
)
def test_a_bad_range_says_how_to_write_it(
    capsys: pytest.CaptureFixture[str], examples: Path, option: str, value: str
) -> None:
    code, err = refused(
        capsys, "analyze", examples / "h200_decoder" / "kineto_fp16_graph.json.gz", option, value
    )
    assert code == 2
    assert option in err and "for example" in err


def test_a_misspelt_command_is_guessed(capsys: pytest.CaptureFixture[str]) -> None:
    code, err = refused(capsys, "analyse")
    assert code == 2
    assert "Did you mean analyze?" in err


def test_json_is_alone_on_standard_output(examples: Path) -> None:
    done = rocscope("analyze", examples / "h200_decoder" / "kineto_fp16_graph.json.gz", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["schema_version"] == "1"


def test_no_colour_off_a_terminal(examples: Path) -> None:
    done = rocscope("analyze", examples / "h200_decoder" / "kineto_fp16_graph.json.gz")
    assert done.returncode == 0, done.stderr
    assert "\x1b[" not in done.stdout + done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_out_writes_every_report_and_names_them(examples: Path, tmp_path: Path) -> None:
    done = rocscope(
        "analyze", examples / "h200_decoder" / "kineto_fp16_graph.json.gz", "--out", tmp_path / "out"
    )
    assert done.returncode == 0, done.stderr
    for name in ("analysis.json", "report.html", "report.md", "kernels.csv"):
        assert (tmp_path / "out" / name).stat().st_size > 100
        assert name in done.stdout
    again = rocscope("analyze", tmp_path / "out" / "capture", "--json")
    first = json.loads((tmp_path / "out" / "analysis.json").read_text())
    assert [k["time_s"] for k in json.loads(again.stdout)["kernels"]] == [
        k["time_s"] for k in first["kernels"]
    ]


def test_a_reader_that_goes_away_is_no_error(examples: Path) -> None:
    trace = examples / "h200_decoder" / "kineto_fp16_graph.json.gz"
    done = subprocess.run(
        f"set -o pipefail; {sys.executable} -m rocscope analyze {trace} --json | head -c 20",
        shell=True,
        executable="/bin/bash",
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0
    assert "Traceback" not in done.stderr


def test_control_characters_of_a_recording_do_not_reach_the_terminal(tmp_path: Path) -> None:
    hostile = "evil\x1b[31m\x07kernel(<script>alert(1)</script>)"
    event = {
        "ph": "X",
        "cat": "kernel",
        "name": hostile,
        "pid": 0,
        "tid": 7,
        "ts": 1.0,
        "dur": 5.0,
        "args": {"device": 0, "stream": 7, "correlation": 1, "grid": [1, 1, 1], "block": [64, 1, 1]},
    }
    trace = {"schemaVersion": 1, "deviceProperties": [], "traceEvents": [event]}
    path = tmp_path / "trace.json.gz"
    path.write_bytes(gzip.compress(json.dumps(trace).encode()))
    done = rocscope("analyze", path, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout and "\x07" not in done.stdout
    assert "evil" in done.stdout
    assert "<script>alert(1)" not in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["completion", shell]) == 0
    assert "_ROCSCOPE_COMPLETE" in capsys.readouterr().out


def test_tab_completes_commands() -> None:
    words = {"_ROCSCOPE_COMPLETE": "bash_complete", "COMP_WORDS": "rocscope an", "COMP_CWORD": "1"}
    program = Path(sys.executable).with_name("rocscope")
    done = subprocess.run([program], env={**os.environ, **words}, capture_output=True, text=True, timeout=60)
    assert "analyze" in done.stdout
