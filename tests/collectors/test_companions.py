"""What lies beside a recording and is of its run: taken along, said, refused, never guessed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocscope import pipeline
from rocscope.cli import run
from rocscope.collectors import companions
from rocscope.collectors.discovery import load
from rocscope.errors import InputError

LEVEL = [{"concurrency": 1, "output_tokens_per_s": 100.0, "requests": 4}]
MODEL = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "model_type": "qwen3"}
KERNELS = (
    "Kind,Agent_Id,Queue_Id,Thread_Id,Dispatch_Id,Kernel_Id,Kernel_Name,Correlation_Id,Start_Timestamp,"
    "End_Timestamp,Workgroup_Size_X,Workgroup_Size_Y,Workgroup_Size_Z,Grid_Size_X,Grid_Size_Y,Grid_Size_Z\n"
    "KERNEL_DISPATCH,Agent 1,1,5,1,7,k,1,10,30,8,8,1,32,32,1\n"
)


def recording(path: Path) -> Path:
    path.write_text(KERNELS)
    return path


def sources(made: object) -> dict[str, str]:
    return {each.path: each.format for each in made.manifest.sources}  # type: ignore[attr-defined]


def said(made: object) -> dict[str, str]:
    return {each.code: each.message for each in made.manifest.notices}  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("fp16_graph.kineto.json.gz", "fp16_graph"),
        ("123_kernel_trace.csv", "123"),
        ("results.csv", "results"),
        ("rank0.1732.pt.trace.json.gz", "rank0"),
    ],
)
def test_the_shared_part_of_a_name(name: str, own: str) -> None:
    assert companions.stem(name) == own


def test_a_served_recording_takes_its_files_along(captures: Path) -> None:
    folder = captures / "h200_vllm"
    made = load([folder / "fp16_graph.kineto.json.gz"])
    assert sources(made) == {
        "fp16_graph.kineto.json.gz": "torch-trace",
        "fp16_graph.load.json": "load-result",
        "fp16_graph.metrics_before.txt": "server-metrics",
        "fp16_graph.metrics_after.txt": "server-metrics",
        "fp16_graph.telemetry.csv": "telemetry-csv",
        "fp16_graph.log.gz": "server-log",
        "fp16_config.json": "model-config",
    }
    assert all(name in said(made)["companions"] for name in sources(made))
    assert "--no-companions" in said(made)["companions"]
    assert made.manifest.model["hidden_size"] == 4096
    assert [each["concurrency"] for each in made.manifest.load["beside"]["levels"]] == [1, 16]
    alone = load([folder / "fp16_graph.kineto.json.gz"], companions=False)
    assert list(sources(alone)) == ["fp16_graph.kineto.json.gz"] and alone.manifest.load is None


def test_the_analysis_uses_them_and_weakens_nothing(captures: Path) -> None:
    found = pipeline.analyze(captures / "h200_vllm" / "gptq8_graph.kineto.json.gz")
    assert [each["concurrency"] for each in found.serving["load"]["beside"]["levels"]] == [1, 16]
    assert found.serving["against_load"]["difference_frac"] == 0  # server and clients count the same tokens
    assert found.serving["profiling_overhead"]["overhead_frac"] is None
    assert "does not say whether a profiler was on" in found.serving["profiling_overhead"]["why_not"]
    assert found.integrity.labelled_time_frac > 0.95 and found.telemetry["gpus"]
    codes = {each.code for each in found.integrity.warnings}
    assert not codes & {"companions", "model-mismatch", "model-unusable", "unreadable-file"}


def test_a_config_that_the_kernels_contradict_is_not_used(captures: Path, tmp_path: Path) -> None:
    shutil.copy(captures / "h200_vllm" / "gptq8_graph.kineto.json.gz", tmp_path)
    config = json.loads((captures / "h200_vllm" / "gptq8_config.json").read_text())
    config["quantization_config"]["bits"] = 4
    (tmp_path / "gptq8_config.json").write_text(json.dumps(config))
    found = pipeline.analyze(tmp_path / "gptq8_graph.kineto.json.gz")
    assert [each.code for each in found.integrity.warnings if each.code.startswith("model")] == [
        "model-mismatch"
    ]


def test_names_decide_and_then_content(tmp_path: Path) -> None:
    here = recording(tmp_path / "run7.csv")
    for name in (
        "run7.load.json",
        "run7_c16.load.json",
        "run70.load.json",
        "run7b_load.json",
        "other.load.json",
    ):
        (tmp_path / name).write_text(json.dumps(LEVEL))
    (tmp_path / "run7.log").write_text("nothing that a server says\n")
    (tmp_path / "run7_results.csv").write_text(KERNELS)  # another recording: never taken along
    (tmp_path / "run7.2.load.json").symlink_to(tmp_path / "other.load.json")
    made = load([here])
    assert set(sources(made)) == {"run7.csv", "run7.load.json", "run7_c16.load.json"}
    assert made.dispatches.num_rows == 1


def test_a_damaged_companion_costs_no_recording(tmp_path: Path) -> None:
    here = recording(tmp_path / "run7.csv")
    (tmp_path / "run7.load.json").write_text('[{"concurrency": 1, "output_tokens_per_s": 5.0')
    (tmp_path / "run7.log.gz").write_bytes(b"\x1f\x8bnot gzip")
    made = load([here])
    assert made.dispatches.num_rows == 1 and "companions" not in said(made)
    assert "run7" in said(made)["unreadable-file"]


def test_a_config_is_taken_by_the_first_word_if_nothing_is_nearer(tmp_path: Path) -> None:
    here = recording(tmp_path / "fp16_graph.csv")
    (tmp_path / "fp16_config.json").write_text(json.dumps(MODEL))
    assert load([here]).manifest.model == MODEL
    (tmp_path / "fp16_graph_config.json").write_text(json.dumps({**MODEL, "hidden_size": 128}))
    assert load([here]).manifest.model["hidden_size"] == 128
    (tmp_path / "fp16_graph_config.json").unlink()
    (tmp_path / "fp16.config.json").write_text(json.dumps(MODEL))
    assert load([here]).manifest.model is None  # two of that word: neither is told


def test_of_several_configs_in_a_folder_none_is_used(tmp_path: Path) -> None:
    recording(tmp_path / "run.csv")
    (tmp_path / "a_config.json").write_text(json.dumps(MODEL))
    assert load([tmp_path]).manifest.model == MODEL
    (tmp_path / "b_config.json").write_text(json.dumps(MODEL))
    made = load([tmp_path])
    assert made.manifest.model is None and "a_config.json" in said(made)["model-ambiguous"]


@pytest.mark.parametrize("text", ['{"hidden_size": 5, "num_hidden_layers": ', "{" + '"a": [' * 90_000])
def test_a_config_that_is_none_is_left_out(tmp_path: Path, text: str) -> None:
    here = recording(tmp_path / "run.csv")
    (tmp_path / "run_config.json").write_text('{"hidden_size": 1, "num_hidden_layers": 1, "x": ' + text)
    made = load([here])
    assert made.manifest.model is None and "run_config.json" in said(made)["unreadable-file"]


def test_a_folder_of_several_runs_is_refused(captures: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        load([captures / "h200_vllm"])
    assert "fp16_graph.kineto.json.gz, gptq8_graph.kineto.json.gz" in caught.value.message
    assert "rocscope compare" in str(caught.value.hint)
    for rank in "01":  # ranks of one run have traces and logs of their own, but one load
        recording(tmp_path / f"rank{rank}.csv")
    (tmp_path / "rank0.load.json").write_text(json.dumps(LEVEL))
    assert load([tmp_path]).dispatches.num_rows == 2


def test_the_command_line_says_what_it_took(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    here = recording(tmp_path / "run7.csv")
    (tmp_path / "run7.load.json").write_text(json.dumps(LEVEL))
    assert run(["analyze", "--json", str(here)]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["serving"]["load"]["beside"] and "taken along with run7.csv" in err
    assert run(["analyze", "--json", "--no-companions", str(here)]) == 0
    out, err = capsys.readouterr()
    assert not json.loads(out)["serving"] and "taken along" not in err


@given(
    st.text(alphabet="ab1._-/()[]*\\", min_size=1, max_size=12),
    st.text(alphabet="ab1._-", min_size=1, max_size=12),
)
def test_no_name_breaks_the_matching(one: str, other: str) -> None:
    companions.stem(one)
    companions.runs([(one, "load-result", False), (other, "torch-trace", True)])
