"""``rocscope capture`` and ``rocscope report`` as a user types them."""

import json
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from rocscope.capture import Capture
from rocscope.cli import run
from rocscope.findings import Analysis

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def trace(examples: Path) -> str:
    return str(examples / "h200_decoder" / "kineto_fp16_graph.json.gz")


@pytest.fixture
def saved(trace: str, tmp_path: Path) -> Path:
    from rocscope import pipeline

    return pipeline.load(trace).save(tmp_path / "capture")


def out(capsys: Captured, *arguments: str | Path, code: int = 0) -> tuple[str, str]:
    got = run([str(argument) for argument in arguments])
    shown = capsys.readouterr()
    assert got == code, shown.err
    return shown.out, shown.err


@pytest.mark.parametrize(
    "command", [["capture"], ["capture", "info"], ["capture", "export"], ["capture", "share"], ["report"]]
)
def test_help_has_examples(capsys: Captured, command: list[str]) -> None:
    text, _ = out(capsys, *command, "--help")
    assert "Usage: rocscope" in text or "Usage: " in text
    assert "Examples:" in text or "Commands:" in text


def test_info_says_what_is_inside(capsys: Captured, saved: Path) -> None:
    text, _ = out(capsys, "capture", "info", saved)
    assert "device side recorded" in text
    assert "4,794 dispatches" in text
    assert "GPU 0       NVIDIA H200, sm_90" in text
    assert "kineto_fp16_graph.json.gz (torch-trace" in text


def test_info_as_json_is_json_alone(capsys: Captured, trace: str) -> None:
    found = json.loads(out(capsys, "capture", "info", trace, "--json")[0])
    assert found["rows"]["dispatches"] == 4794
    assert found["gpus"][0]["arch"] == "sm_90"
    assert found["time_range_s"] == pytest.approx(0.068, rel=0.01)
    assert found["environment"] == []


def test_info_of_hostile_text_is_harmless(capsys: Captured, saved: Path) -> None:
    capture = Capture.load(saved)
    capture.manifest.host = "\x1b]0;owned\x07"
    capture.manifest.partial = True
    capture.manifest.command = ["\x1b[2J"]
    capture.notice("a-code", "text\x9b31m")
    capture.save(saved.with_name("hostile"))
    text, _ = out(capsys, "capture", "info", saved.with_name("hostile"))
    assert "\x1b" not in text
    assert "\x9b" not in text
    assert "\\x1b]0;owned" in text
    assert "partial" in text
    assert "notice      a-code" in text


@pytest.mark.parametrize(
    ("name", "made"),
    [("parquet", "tables/dispatches.parquet"), ("csv", "tables/dispatches.csv"), ("perfetto", "t.json.gz")],
)  # fmt: skip
def test_export_writes_and_refuses_to_replace(
    capsys: Captured, saved: Path, tmp_path: Path, name: str, made: str
) -> None:
    arguments = (
        "capture",
        "export",
        saved,
        "--format",
        name,
        "-o",
        tmp_path / made.split("/", maxsplit=1)[0],
    )
    assert str(tmp_path / made) in out(capsys, *arguments)[0].splitlines()
    before = (tmp_path / made).stat().st_mtime_ns
    assert "exists" in out(capsys, *arguments, code=2)[1]
    assert (tmp_path / made).stat().st_mtime_ns == before
    out(capsys, *arguments, "--force")
    assert (tmp_path / made).stat().st_mtime_ns > before


def test_export_refuses_a_folder_for_a_file(capsys: Captured, saved: Path, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    arguments = ("capture", "export", saved, "--format", "perfetto", "-o", tmp_path / "folder")
    assert "writes a file" in out(capsys, *arguments, code=2)[1]
    (tmp_path / "file").write_text("x")
    arguments = ("capture", "export", saved, "--format", "csv", "-o", tmp_path / "file", "--force")
    assert "writes a folder" in out(capsys, *arguments, code=2)[1]
    assert (tmp_path / "file").read_text() == "x"


def test_an_unknown_format_names_the_known(capsys: Captured, saved: Path) -> None:
    err = out(capsys, "capture", "export", saved, "--format", "xml", "-o", "x", code=2)[1]
    assert "csv, parquet, perfetto" in err
    err = out(capsys, "report", saved, "--format", "pdf", code=2)[1]
    assert "terminal, markdown, html, json, csv, perfetto" in err


def test_share_makes_an_archive_that_loads_again(capsys: Captured, saved: Path, tmp_path: Path) -> None:
    target = tmp_path / "shared.tar.gz"
    text, err = out(capsys, "capture", "share", saved, "-o", target)
    assert text.strip() == str(target)
    assert "file names removed" in err
    with tarfile.open(target) as packed:
        packed.extractall(tmp_path / "again", filter="data")
    assert "4,794 dispatches" in out(capsys, "capture", "info", tmp_path / "again" / "capture")[0]
    assert "4,794 dispatches" in out(capsys, "capture", "info", tmp_path / "again")[0]
    assert "4,794 dispatches" in out(capsys, "capture", "info", target)[0]
    zipped = tmp_path / "shared.zip"
    out(capsys, "capture", "share", saved, "-o", zipped)
    assert "4,794 dispatches" in out(capsys, "capture", "info", zipped)[0]
    assert "exists" in out(capsys, "capture", "share", saved, "-o", target, code=2)[1]
    assert "end it in .tar.gz" in out(capsys, "capture", "share", saved, "-o", tmp_path / "x.rar", code=2)[1]
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("command", ["info", "share", "export"])
def test_a_missing_capture_is_named(capsys: Captured, tmp_path: Path, command: str) -> None:
    more = {"share": ["-o", tmp_path / "x.zip"], "export": ["--format", "csv", "-o", tmp_path / "x"]}
    err = out(capsys, "capture", command, tmp_path / "absent", *more.get(command, []), code=13)[1]
    assert "absent" in err
    assert "next:" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "opening"),
    [
        ("html", "<!doctype html>"),
        ("markdown", "## "),
        ("csv", "kernel,raw_name"),
        ("json", "{"),
        ("terminal", ""),
    ],
)
def test_every_format_of_a_capture_to_a_file(
    capsys: Captured, saved: Path, tmp_path: Path, name: str, opening: str
) -> None:
    target = tmp_path / "deep" / "report"
    assert out(capsys, "report", saved, "--format", name, "-o", target)[0].strip() == str(target)
    assert target.read_text(encoding="utf-8").startswith(opening)
    assert "exists" in out(capsys, "report", saved, "--format", name, "-o", target, code=2)[1]


def test_a_stored_analysis_gives_the_same_report_as_its_capture(
    capsys: Captured, saved: Path, tmp_path: Path
) -> None:
    stored = tmp_path / "analysis.json"
    text, _ = out(capsys, "report", saved, "--format", "json")
    stored.write_text(text)
    Analysis.model_validate_json(text)
    assert out(capsys, "report", stored, "--format", "markdown") == out(
        capsys, "report", saved, "--format", "markdown"
    )
    assert "kernel time" in out(capsys, "report", stored)[0]
    assert "analysed already" in out(capsys, "report", stored, "--tp", "2", code=2)[1]


def test_a_damaged_analysis_is_named(capsys: Captured, saved: Path, tmp_path: Path) -> None:
    stored = tmp_path / "analysis.json"
    text, _ = out(capsys, "report", saved, "--format", "json")
    stored.write_text(text[: len(text) // 2])
    assert "damaged JSON" in out(capsys, "report", stored, code=3)[1]
    stored.write_text(text.replace('"schema_version": "1"', '"schema_version": "2"'))
    assert "schema_version 2" in out(capsys, "report", stored, code=3)[1]
    stored.write_text(text.replace('"labelled_time_frac"', '"labeled"', 1))
    assert "integrity" in out(capsys, "report", stored, code=3)[1]
    stored.write_text('{"schema_version": "1", "x": 1}')
    assert "analysis.json" in out(capsys, "report", stored, code=16)[1]


def test_a_folder_is_no_place_for_a_report(capsys: Captured, saved: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    err = out(capsys, "report", saved, "--format", "html", "-o", tmp_path / "empty", code=2)[1]
    assert "is a folder" in err
    assert "report.html" in err


def test_help_does_not_wait_for_arrow() -> None:
    script = (
        "import sys; from rocscope.cli import run; run(['capture', 'export', '--help']);"
        "run(['report', '--help']);"
        "sys.exit(any(m in sys.modules for m in ('pyarrow', 'pandas', 'plotly', 'pydantic', 'jinja2')))"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=60).returncode == 0
