"""``rocscope report`` as a user types it."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from rocscope import pipeline
from rocscope.cli import run
from rocscope.commands.report import COMMAND, FORMATS
from rocscope.exports.export import exports
from rocscope.reports.report import reports

Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def saved(examples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    trace = examples / "h200_decoder" / "kineto_fp16_graph.json.gz"
    return pipeline.load(trace).save(tmp_path_factory.mktemp("saved") / "capture")


def out(capsys: Captured, *arguments: object, code: int = 0) -> tuple[str, str]:
    got = run([str(argument) for argument in arguments])
    shown = capsys.readouterr()
    assert got == code, shown.err
    return shown.out, shown.err


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_written_from_a_capture(
    capsys: Captured, saved: Path, tmp_path: Path, name: str
) -> None:
    target = tmp_path / "made"
    told, _ = out(capsys, "report", saved, "--format", name, "-o", target)
    assert told.strip() == str(target) and target.stat().st_size > 500
    before = target.read_bytes()
    assert "exists" in out(capsys, "report", saved, "--format", name, "-o", target, code=2)[1]
    assert target.read_bytes() == before


def test_help_lists_every_format_as_it_describes_itself(capsys: Captured) -> None:
    found = {**reports(), "perfetto": exports()["perfetto"]}
    assert {name: each.help for name, each in found.items()} == FORMATS
    text = " ".join(out(capsys, "report", "--help")[0].split())
    assert all(f"{name} {told}" in text[text.index("Formats:") :] for name, told in FORMATS.items())
    option = next(each for each in COMMAND.params if each.name == "name")
    assert str(option.metavar).split("|") == list(FORMATS)


def test_tab_completes_formats() -> None:
    option = next(each for each in COMMAND.params if each.name == "name")
    context = click.Context(COMMAND)
    assert {each.value for each in option.shell_complete(context, "")} == set(FORMATS)
    assert [each.value for each in option.shell_complete(context, "perf")] == ["perfetto"]
    words = {
        "_ROCSCOPE_COMPLETE": "bash_complete",
        "COMP_WORDS": "rocscope report --format m",
        "COMP_CWORD": "3",
    }
    done = subprocess.run(
        [str(Path(sys.executable).with_name("rocscope"))],
        env={**os.environ, **words},
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == ["plain,markdown"]


def test_a_trace_holds_the_labels_and_only_what_was_selected(
    capsys: Captured, saved: Path, tmp_path: Path
) -> None:
    target = tmp_path / "trace.json.gz"
    out(capsys, "report", saved, "--format", "perfetto", "-o", target, "--between", "0:0.01")
    found = json.loads(gzip.decompress(target.read_bytes()))
    kernels = [e for e in found["traceEvents"] if "kernel" in e.get("args", {})]
    assert 0 < len(kernels) < 1000 and max(e["ts"] for e in kernels) < 1e6
    analysis = pipeline.analyze(saved, between_s=(0.0, 0.01))
    shown = {(e["args"]["kernel"], e["args"]["bound"]) for e in kernels}
    assert shown <= {(k.raw_name, k.bound) for k in analysis.kernels}
    assert found["otherData"]["labelled_time_frac"] == analysis.integrity.labelled_time_frac


@pytest.fixture(scope="module")
def analysed(examples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Reports that were made with the model's config, which the capture does not hold."""
    folder = tmp_path_factory.mktemp("analysed")
    trace, model = (
        examples / "h200_decoder" / name for name in ("kineto_strided_graph.json.gz", "w4_config.json")
    )
    assert run(["analyze", str(trace), "--model", str(model), "--out", str(folder), "-q"]) == 0
    return folder


@pytest.mark.parametrize("name", ["markdown", "json", "csv", "html"])
def test_a_folder_of_reports_is_told_as_it_was_analysed(capsys: Captured, analysed: Path, name: str) -> None:
    written = (analysed / reports()[name].filename).read_text()
    capsys.readouterr()
    for place in (analysed, analysed / "capture"):
        assert out(capsys, "report", place, "--format", name)[0] == written
    assert out(capsys, "report", analysed, "--format", name, "--between", "0:0.05")[0] != written


def test_its_trace_has_the_labels_of_its_reports(capsys: Captured, analysed: Path, tmp_path: Path) -> None:
    out(capsys, "report", analysed, "--format", "perfetto", "-o", tmp_path / "trace.json")
    found = json.loads((tmp_path / "trace.json").read_text())
    labels = {
        e["args"]["bound"]
        for e in found["traceEvents"]
        if e.get("cat") == "gptq_gemm" and "bound" in e.get("args", {})
    }
    assert labels == {"memory"}


def test_what_was_analysed_in_part_or_is_of_another_capture_is_analysed_anew(
    capsys: Captured, analysed: Path, saved: Path, tmp_path: Path
) -> None:
    out(capsys, "analyze", saved, "--between", "0:0.01", "--out", tmp_path / "part", "-q")
    part = json.loads(out(capsys, "report", tmp_path / "part", "--format", "json")[0])
    whole = json.loads(out(capsys, "report", tmp_path / "part" / "capture", "--format", "json")[0])
    assert part["integrity"]["dispatches"] < whole["integrity"]["dispatches"]
    (tmp_path / "part" / "analysis.json").write_bytes((analysed / "analysis.json").read_bytes())
    other = json.loads(out(capsys, "report", tmp_path / "part", "--format", "json")[0])
    assert other["capture"]["id"] == whole["capture"]["id"]
    (tmp_path / "part" / "analysis.json").write_text('{"schema_version": "1", "kernels": 7}')
    again = json.loads(out(capsys, "report", tmp_path / "part", "--format", "json")[0])
    assert again["integrity"] == whole["integrity"]


def test_a_trace_needs_the_capture_and_a_file(capsys: Captured, saved: Path, tmp_path: Path) -> None:
    assert "-o trace.json.gz" in out(capsys, "report", saved, "--format", "perfetto", code=2)[1]
    stored = tmp_path / "analysis.json"
    out(capsys, "report", saved, "--format", "json", "-o", stored)
    err = out(capsys, "report", stored, "--format", "perfetto", "-o", tmp_path / "t", code=2)[1]
    assert "no dispatches" in err and str(tmp_path / "capture") in err
    err = out(capsys, "report", saved, "--format", "perfetto", "-o", tmp_path, "--force", code=2)[1]
    assert "is a folder" in err and "trace.json.gz" in err


@pytest.mark.captures
def test_ranks_of_a_recording_may_be_several_files(capsys: Captured, captures: Path) -> None:
    files = sorted((captures / "h200").glob("tp2_straggler_rank*.json.gz"))
    text, _ = out(capsys, "report", *files, "--format", "json")
    assert len(json.loads(text)["gpus"]) == 2
