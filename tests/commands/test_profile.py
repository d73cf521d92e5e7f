"""`rocscope profile` as a user meets it: output untouched, exit codes, messages, dry run, Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rocscope.capture import Capture
from rocscope.cli import run


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default folder for output is made in the working folder."""
    monkeypatch.chdir(tmp_path)


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "rocscope", "profile", *map(str, arguments)]


def profile(
    *arguments: str | Path, cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        command(*arguments), capture_output=True, timeout=60, cwd=cwd, env={**os.environ, **environment}
    )


def refused(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str]:
    code = run(["profile", *map(str, arguments)])
    err = capsys.readouterr().err
    assert "Traceback" not in err
    return code, err


def test_a_command_is_profiled_from_launch_to_reports(standins: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code = "import sys, time; time.sleep(0.4); sys.stdout.buffer.write(b'\\xff\\x00raw'); sys.exit(7)"
    done = profile(
        "--out",
        out,
        "--gpu",
        "MI100",
        "--",
        sys.executable,
        "-c",
        code,
        PATH=f"{standins}:{os.environ['PATH']}",
    )
    assert done.returncode == 7
    assert done.stdout.startswith(b"\xff\x00raw")
    assert b"gptq_gemm" in done.stdout
    for name in ("analysis.json", "report.html", "report.md", "kernels.csv"):
        assert (out / name).stat().st_size
    assert Capture.load(out / "capture").manifest.exit_code == 7
    assert (out / "logs" / "stdout.log").read_bytes() == b"\xff\x00raw"


def test_json_alone_is_on_standard_output(standins: Path, tmp_path: Path) -> None:
    done = profile(
        *("--json", "--out", tmp_path / "out", "--", "bash", "-c", "echo noise; sleep 0.3"),
        PATH=f"{standins}:{os.environ['PATH']}",
    )
    assert done.returncode == 0
    analysis = json.loads(done.stdout)
    assert analysis["capture"]["profiler"] == "rocprofv3"
    assert b"noise" in done.stderr


def test_without_a_profiler_the_report_says_so_and_heavy_libraries_stay_out(tmp_path: Path) -> None:
    code = (
        "import sys; from rocscope.cli import run\n"
        "assert run(['profile', '--profiler', 'none', '--', 'true']) == 0\n"
        "heavy = {'pandas', 'plotly', 'httpx', 'jinja2', 'amdsmi', 'rocscope.collectors.discovery'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "no device data was collected" in done.stdout
    folder = next((tmp_path / "rocscope-out").iterdir())
    assert "no device data was collected" in (folder / "report.md").read_text()
    assert Capture.load(folder / "capture").manifest.profiler == "none"


def test_a_named_folder_gets_every_report_also_without_a_profiler(tmp_path: Path) -> None:
    assert run(["profile", "--profiler", "none", "-q", "--out", str(tmp_path / "o"), "--", "true"]) == 0
    assert {"analysis.json", "report.html", "report.md", "kernels.csv"} <= {
        each.name for each in (tmp_path / "o").iterdir()
    }


def test_ctrl_c_ends_in_order_and_reports(standins: Path, tmp_path: Path) -> None:
    ready, out = tmp_path / "ready", tmp_path / "out"
    code = f"import time; time.sleep(0.3); open({str(ready)!r}, 'w'); time.sleep(60)"
    running = subprocess.Popen(
        command("--out", out, "--", sys.executable, "-c", code),
        env={**os.environ, "PATH": f"{standins}:{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    end = time.monotonic() + 20
    while not ready.exists() and time.monotonic() < end:
        time.sleep(0.02)
    running.send_signal(signal.SIGINT)
    stdout, stderr = running.communicate(timeout=40)
    assert b"ending in order" in stderr and b"Aborted" not in stderr
    assert running.returncode in (1, 130)
    assert b"gptq_gemm" in stdout
    assert (out / "analysis.json").exists()


def test_a_reader_that_leaves_does_not_lose_the_capture(tmp_path: Path) -> None:
    out = tmp_path / "out"
    line = " ".join(command("--profiler", "none", "--out", out, "--", "seq", "100000"))
    subprocess.run(["bash", "-c", f"{line} | head -n 1"], timeout=60, capture_output=True)
    assert Capture.load(out / "capture").manifest.exit_code == 0
    assert (out / "logs/stdout.log").read_bytes().endswith(b"100000\n")


def test_dry_run_prints_what_it_would_do_and_does_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    arguments = ["profile", "--dry-run", "--gpu", "MI100", "--profiler", "rocprofv3", "--out", str(out)]
    assert run([*arguments, "--json", "--duration", "30", "--", "./app", "--flag", "a b"]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert planned["profiler"] == "rocprofv3"
    assert planned["command"][-4:] == ["--", "./app", "--flag", "a b"]
    assert planned["environment"] == {"ROCPROF_TMPDIR": str(out / "raw/unwritten")}
    assert planned["passes"] == [{"counters": [], "launches": 1}]
    assert planned["estimated_s"] == 30
    assert str(out / "logs/stdout.log") in planned["files"]
    assert run([*arguments, "--", "./app", "--flag", "a b"]) == 0
    text = capsys.readouterr().out
    assert "-- ./app --flag 'a b'" in text and f"ROCPROF_TMPDIR={out}/raw/unwritten" in text
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--profiler", "none", "--", "no-such-program"), 8, "command not found"),
        (("--profiler", "rocprofv3", "--", "true"), 6, "not installed"),
        (("--profiler", "replay:/no/such", "--", "true"), 13, "no such recording"),
        (("--profiler", "none", "--gpu", "MI999", "--", "true"), 5, "no GPU called MI999"),
        (("--dry-run", "--profiler", "none", "--gpu", "MI999", "--", "true"), 5, "no GPU called MI999"),
        (("--profiler", "magic", "--", "true"), 2, "no such profiler"),
        (("--duration", "-1", "--profiler", "none", "--", "true"), 2, "--duration"),
        (("--sample-hz", "99", "--profiler", "none", "--", "true"), 2, "--sample-hz"),
        (("--duration", "nan", "--profiler", "none", "--", "true"), 2, "--duration"),
        (("--load", "'x", "--profiler", "none", "--", "true"), 2, "--load"),
    ],
)
def test_each_mistake_has_a_message_a_next_step_and_a_code(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], code: int, message: str
) -> None:
    got, err = refused(capsys, *arguments)
    assert got == code
    assert message in err and "next:" in err


def test_a_command_is_required(capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(capsys, "--profiler", "none")[0] == 2


def test_nohup_is_respected(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    script = f"touch {ready}; sleep 1; echo whole"
    line = ["nohup", *command("--profiler", "none", "-q", "--", "bash", "-c", script)]
    running = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 20
    while not ready.exists() and time.monotonic() < end:
        time.sleep(0.02)
    running.send_signal(signal.SIGHUP)
    assert b"whole" in running.communicate(timeout=30)[0]
    assert running.returncode == 0


def test_what_cannot_work_afterwards_is_told_before(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    ran = tmp_path / "ran"
    for option, value, code in (("--gpu", "MI9", 5), ("--model", tmp_path / "absent.json", 3)):
        got, err = refused(capsys, "--profiler", "none", option, value, "--", "touch", ran)
        assert got == code and "next:" in err
    assert not ran.exists()


def test_a_recording_is_kept_when_its_analysis_fails(
    standins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rocscope import pipeline
    from rocscope.errors import InputError

    def broken(*_: object) -> None:
        raise InputError("no analysis today")

    monkeypatch.setattr(pipeline, "analyze_capture", broken)
    monkeypatch.setenv("PATH", f"{standins}:{os.environ['PATH']}")
    with pytest.raises(InputError, match="today"):
        pipeline.profile(["sleep", "0.3"], out=tmp_path / "out", sample_hz=0)
    assert Capture.load(tmp_path / "out" / "capture").dispatches.num_rows > 0


def test_the_library_checks_its_options(tmp_path: Path) -> None:
    from rocscope import profile
    from rocscope.errors import UsageError

    with pytest.raises(UsageError, match="duration_s"):
        profile(["true"], out=tmp_path / "out", duration_s=-1)


def test_a_model_config_that_was_merely_found_and_is_no_use_is_left_out() -> None:
    from rocscope import pipeline
    from rocscope.capture import Manifest
    from rocscope.config import AnalyzeOptions

    capture = Capture(Manifest(model={"model_type": "exotic"}))
    pipeline._drop_unusable_model(capture, AnalyzeOptions())
    assert capture.manifest.model is None
    assert [each.code for each in capture.manifest.notices] == ["model-unusable"]
