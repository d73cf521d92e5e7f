import json
import os
from pathlib import Path

import pytest

import rocscope
from rocscope import pipeline, report_files
from rocscope.capture import Capture, Gpu
from rocscope.config import AnalyzeOptions
from rocscope.errors import InputError, UnknownGpu, UsageError
from rocscope.findings import Analysis
from rocscope.reports.report import reports
from synthetic_capture import capture, row

ROOT = Path(__file__).resolve().parent.parent
RECORDINGS = Path(os.environ.get("ROCSCOPE_CAPTURES") or ROOT.parent / "shared" / "captures")
READABLE = [
    *(
        "h200/kineto_fp16_graph.json.gz",
        "h200/kineto_strided_eager.json.gz",
        "h200/kineto_strided_graph.json.gz",
    ),
    *("h200/tp2_straggler_rank0.json.gz", "h200_vllm/fp16_graph.kineto.json.gz"),
    "h200_vllm/gptq8_graph.kineto.json.gz",
    *("torch_traces/mi210_gpu_only_trace.json.gz", "torch_traces/vllm_decode_full_graph_execution.json.gz"),
    "vllm/rank0.pt.trace.json.gz",
    *("rocprofv1/aiter_gfx942", "rocprofv1/gunrock_gfx942", "rocprofv1/laplacian_xr", "rocprofv1/stencil_xr"),
    *(
        "rocprofv1/llamacpp_gfx1201",
        "rocprofv1/llamacpp_gfx900",
        "rocprofv2/golden",
        "omniperf/vcopy/MI300X_A1",
    ),
    *("rocprofv3/gpudiag_mi300x", "rocprofv3/llamacpp_gfx1151", "rocprofv3/sdk_docs"),
    *("rocprofv3/sdk_docs_2024-10", "rocprofv3/tracelens_908"),
]


SIGNED = ("error_frac", "difference_frac", "overhead_frac")  # one figure against another


def shares(value, path=""):
    """Every figure of the JSON whose name ends in _frac."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key.endswith("_frac") and inner is not None and key not in SIGNED:
                each = inner if isinstance(inner, dict) else {"": inner}  # mean and most of a sensor
                many = [part for one in each.values() for part in (one if isinstance(one, list) else [one])]
                yield from ((f"{path}.{key}", one) for one in many if one is not None)
            yield from shares(inner, f"{path}.{key}")
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            yield from shares(inner, f"{path}[{i}]")


@pytest.mark.captures
@pytest.mark.parametrize("name", READABLE)
def test_every_recording_goes_through(captures, name):
    loaded = pipeline.load(captures / name)
    analysis = pipeline.analyze_capture(loaded)
    text = analysis.model_dump_json()
    assert Analysis.model_validate_json(text) == analysis
    assert "NaN" not in text and "Infinity" not in text
    for path, value in shares(json.loads(text)):
        assert -1e-9 <= value <= 1 + 1e-9, path
    kernels = sum(each.time_s or 0.0 for each in analysis.kernels)
    assert sum(each.time_s or 0.0 for each in analysis.families) == pytest.approx(kernels, rel=1e-9)
    assert sum(each.dispatches for each in analysis.kernels) == analysis.integrity.dispatches
    for kernel in analysis.kernels:
        assert kernel.evidence, kernel.kernel
        assert (
            kernel.exposed_s is None
            or kernel.time_s is None
            or kernel.exposed_s <= kernel.time_s * (1 + 1e-9)
        )
        limited = any(
            "[bound-limit]" in sentence for sentence in kernel.evidence
        )  # no size, yet an intensity
        assert kernel.bound == "unknown" or kernel.bytes_per_dispatch.basis or limited
    for gpu in analysis.gpus:
        assert gpu.busy_s is None or gpu.busy_s <= gpu.wall_s * (1 + 1e-9)
    again = pipeline.analyze_capture(loaded).model_dump_json()
    assert again == text


@pytest.mark.captures
def test_no_gpu_kernels_is_an_answer(captures):
    analysis = rocscope.analyze(captures / "vllm" / "rank0.pt.trace.json.gz")
    assert analysis.kernels == [] and analysis.targets == [] and analysis.families == []
    # the steps that vLLM annotated are told all the same, with whose times theirs are
    codes = [each.code for each in analysis.integrity.warnings]
    assert codes == ["no-gpu-kernels", "steps-without-kernels"]
    assert analysis.phases and all(phase.families == [] for phase in analysis.phases)
    assert analysis.integrity.labelled_time_frac is None


def test_the_first_target_of_the_strided_decoder_is_its_quantised_kernel(examples):
    folder = examples / "h200_decoder"
    analysis = rocscope.analyze(folder / "kineto_strided_graph.json.gz", model=folder / "w4_config.json")
    first = analysis.targets[0]
    assert (first.family, first.kernel) == ("gptq_gemm", "gptq_w4a16_gemv_strided_kernel")
    labels = {
        (k.bound, k.limiter) for k in analysis.kernels if k.kernel == first.kernel and k.bound != "unknown"
    }
    assert labels == {("memory", "latency")}
    assert first.expected_gain.high_frac - first.expected_gain.low_frac <= 0.5
    assert first.expected_gain.mid_frac < first.time_frac
    attention = next(each for each in analysis.kernels if each.family == "attention")
    assert attention.limiter == "parallelism"


def test_the_late_rank_is_found(examples):
    folder = examples / "h200_decoder"
    analysis = rocscope.analyze(
        folder / "tp2_straggler_rank0.json.gz", folder / "tp2_straggler_rank1.json.gz"
    )
    assert analysis.targets[0].problem.startswith("rank 1 is late")
    assert [gpu.rank for gpu in analysis.gpus] == [0, 1]


@pytest.mark.captures
def test_steps_of_vllm_are_split_into_phases(captures):
    analysis = rocscope.analyze(captures / "h200_vllm" / "fp16_graph.kineto.json.gz")
    found = {each.phase: each for each in analysis.phases}
    # six requests of 300 tokens in, 12 out, four at a time; decode steps of two and four requests
    assert {"prefill", "decode", "mixed"} == set(found)
    assert found["prefill"].tokens == 300 * found["prefill"].steps
    assert 2 <= found["decode"].tokens / found["decode"].steps <= 4
    prompts = found["prefill"].us_per_token
    assert prompts < found["decode"].us_per_token


def test_progress_is_told_and_a_capture_is_taken_as_it_is():
    told = []
    made = capture([row("k", 0, 10)])
    assert pipeline.analyze(made, progress=told.append) == pipeline.analyze(made)
    assert told == ["classifying kernels", "measuring", "analysing", "ranking"]
    with pytest.raises(UsageError, match="one capture or several paths"):
        pipeline.analyze(made, made)


def test_options_come_as_a_record_or_by_name():
    made = capture([row("k", 0, 10)])
    by_name = pipeline.analyze(made, gpu="H200")
    assert by_name == pipeline.analyze(made, options=AnalyzeOptions(gpu="H200"))
    assert by_name.gpus[0].model == "H200" and by_name.gpus[0].peak_bandwidth_bytes_per_s > 4e12
    with pytest.raises(UnknownGpu):
        pipeline.analyze(made, gpu="Voodoo2")
    with pytest.raises(UsageError, match="tp: "):
        pipeline.analyze(made, tp=0)


def test_a_model_of_unknown_parallelism_is_not_used(examples):
    config = examples / "h200_decoder" / "fp16_config.json"
    made = capture([row("k", 0, 10), row("k", 0, 10, gpu=1, process=1)], ranks=2)
    warned = {each.code for each in pipeline.analyze(made, model=config).integrity.warnings}
    assert "tp-unknown" in warned
    made = capture([row("k", 0, 10), row("k", 0, 10, gpu=1, process=1)], ranks=2)
    warned = {each.code for each in pipeline.analyze(made, model=config, tp=2).integrity.warnings}
    assert "tp-unknown" not in warned


def test_a_model_that_is_not_there_is_said_also_where_it_would_not_be_used():
    made = capture([row("k", 0, 10), row("k", 0, 10, gpu=1, process=1)], ranks=2)
    with pytest.raises(InputError, match="/no/such"):
        pipeline.analyze(made, model="/no/such")


def test_a_gpu_against_what_was_recorded_is_used_and_said(examples):
    recording = examples / "h200_decoder" / "kineto_fp16_graph.json.gz"
    found = pipeline.analyze(recording, gpu="MI100")
    said = [each.message for each in found.integrity.warnings if each.code == "gpu-overridden"]
    assert found.gpus[0].model == "MI100"
    assert len(said) == 1 and "of H200" in said[0]
    same = pipeline.analyze(recording, gpu="H200")
    assert "gpu-overridden" not in {each.code for each in same.integrity.warnings}


def test_one_rank_of_several_is_not_taken_for_the_whole_model(examples, captures):
    config = examples / "h200_decoder" / "fp16_config.json"
    rank = captures / "h200" / "tp2_straggler_rank0.json.gz"
    warned = {each.code for each in pipeline.analyze(rank, model=config).integrity.warnings}
    assert {"tp-unknown", "ranks-missing"} <= warned
    warned = {each.code for each in pipeline.analyze(rank, model=config, tp=2).integrity.warnings}
    assert "tp-unknown" not in warned and "ranks-missing" in warned
    named = capture([row("k", 0, 10)])
    named.manifest.processes = [named.manifest.processes[0].model_copy(update={"name": "VLLM::Worker_TP0"})]
    assert "tp-unknown" in {each.code for each in pipeline.analyze(named, model=config).integrity.warnings}


@pytest.mark.parametrize(
    ("changes", "tp", "reason"),
    [
        ({}, None, None),
        ({"intermediate_size": 14336}, None, "which no layer of the model has"),
        ({}, 2, "which no layer of the model has"),
        ({"quantization_config": None}, None, "the model has 16-bit weights"),
    ],
)
def test_a_model_that_did_not_run_gives_no_shapes(captures, tmp_path, changes, tp, reason):
    folder = captures / "h200_vllm"
    config = tmp_path / "config.json"
    config.write_text(json.dumps(json.loads((folder / "gptq8_config.json").read_text()) | changes))
    found = pipeline.analyze(folder / "gptq8_graph.kineto.json.gz", model=config, tp=tp)
    told = {each.code: each.message for each in found.integrity.warnings}
    assert (reason is None) == ("model-mismatch" not in told)
    assert reason is None or reason in told["model-mismatch"]
    shapes = [each.problem_shape for each in found.kernels if "gptq_8bit" in each.kernel]
    assert shapes and all((shape is None) == (reason is not None) for shape in shapes)


@pytest.mark.parametrize(
    ("changes", "tp", "reason"),
    [
        ({"intermediate_size": 14336}, None, "ran with N of"),
        ({}, 2, "ran with N of"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 8, "group_size": 128}}, None, "8-bit"),
    ],
)
def test_a_decoder_of_another_model_gets_no_shapes(examples, tmp_path, changes, tp, reason):
    folder = examples / "h200_decoder"
    config = tmp_path / "config.json"
    config.write_text(json.dumps(json.loads((folder / "w4_config.json").read_text()) | changes))
    found = pipeline.analyze(folder / "kineto_strided_graph.json.gz", model=config, tp=tp)
    told = {each.code: each.message for each in found.integrity.warnings}
    assert reason in told["model-mismatch"]
    assert not any(each.problem_shape for each in found.kernels)


@pytest.mark.parametrize("name", ["rocprofv3/gpudiag_mi300x", "rocprofv3/llamacpp_gfx1151"])
def test_passes_beside_the_timed_one_make_no_window(captures, name):
    found = pipeline.analyze(captures / name)
    assert "selection" not in {each.code for each in found.integrity.warnings}
    assert found.gpus[0].idle_s is None
    assert "one-long-pause" in {each.code for each in found.integrity.warnings}


def test_idle_gpus_of_the_node_do_not_split_the_model(examples):
    made = capture([row("k", 0, 10)], ranks=1)
    made.manifest.gpus += [Gpu(gpu=index, arch="gfx000", name="Paper") for index in (1, 2, 3)]
    found = pipeline.analyze(made, model=examples / "h200_decoder" / "fp16_config.json")
    assert {each.code for each in found.integrity.warnings} == {"unknown-gpu"}
    assert [gpu.gpu for gpu in found.gpus] == [0]


def test_a_recorded_model_that_is_damaged_is_left_out_and_a_named_one_is_an_error(tmp_path):
    made = capture([row("k", 0, 10)], model={"model_type": "qwen3"})
    assert "model-unusable" in {each.code for each in pipeline.analyze(made).integrity.warnings}
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match=r"config\.json"):
        pipeline.analyze(capture([row("k", 0, 10)]), model=tmp_path / "config.json")


def test_the_selection_is_said():
    made = capture([row("k", 0, 10), row("k", 100, 10)])
    analysis = pipeline.analyze(made, between_s=(0.0, float("inf")))
    assert analysis.capture.selection == {"between_s": [0.0, None]}


def test_hostile_names_pass_through_unharmed():
    name = "evil\x00\ud800<script>\n" + "x" * 5000
    analysis = pipeline.analyze(capture([row(name.replace("\ud800", "�"), 0, 10)]))
    assert analysis.kernels[0].raw_name.startswith("evil\x00")
    assert json.loads(analysis.model_dump_json())["kernels"][0]["raw_name"].endswith("x")


def test_every_report_and_the_capture_are_written_and_replaced(tmp_path):
    made = capture([row("k", 0, 10)])
    analysis = pipeline.analyze(made)
    for _ in range(2):
        written = pipeline.write_reports(analysis, made, tmp_path / "out")
    assert set(written) == {*reports(), "capture"}
    assert Analysis.model_validate_json(written["json"].read_text()) == analysis
    assert Capture.load(written["capture"]).dispatches.num_rows == 1
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(
        p.name for p in written.values()
    )
    assert pipeline.analyze(written["capture"]).kernels == analysis.kernels


def test_a_folder_that_is_no_capture_is_never_replaced(tmp_path):
    made = capture([row("k", 0, 10)])
    (tmp_path / "capture").mkdir()
    (tmp_path / "capture" / "precious").write_text("x")
    with pytest.raises(InputError, match="is no capture"):
        pipeline.write_reports(pipeline.analyze(made), made, tmp_path)
    assert (tmp_path / "capture" / "precious").read_text() == "x"


def test_reports_that_cannot_be_written_are_an_input_error(tmp_path):
    (tmp_path / "file").write_text("x")
    made = capture([row("k", 0, 10)])
    with pytest.raises(InputError, match="cannot write the reports"):
        pipeline.write_reports(pipeline.analyze(made), made, tmp_path / "file" / "out")


def test_a_report_that_fails_leaves_no_half_file(tmp_path, monkeypatch):
    path = tmp_path / "report.md"
    path.write_text("earlier")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(report_files.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        report_files.write(path, "new")
    assert path.read_text() == "earlier" and [each.name for each in tmp_path.iterdir()] == ["report.md"]
