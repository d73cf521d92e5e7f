"""In analysis.json what is not known is null: no empty text, and no 0 for a time that was not taken."""

import json

import pytest

import rocscope
from rocscope import pipeline
from rocscope.findings import Analysis
from rocscope.reports.report import reports
from synthetic_capture import capture, row


def empty_texts(value, path=""):
    if isinstance(value, dict):
        return [found for key, inner in value.items() for found in empty_texts(inner, f"{path}.{key}")]
    if isinstance(value, list):
        return [found for i, inner in enumerate(value) for found in empty_texts(inner, f"{path}[{i}]")]
    return [path] if value == "" else []


def unnamed():
    """A recording that says nothing of its GPU, host, profiler or the times of its kernels."""
    made = capture([row("k", None, None)], profiler="rocprof")
    made.manifest.gpus[0] = made.manifest.gpus[0].model_copy(update={"name": "", "arch": ""})
    return made


def test_text_that_is_not_known_is_null():
    analysis = rocscope.analyze(unnamed())
    text = analysis.model_dump_json()
    assert empty_texts(json.loads(text)) == []
    info, gpu = analysis.capture, analysis.gpus[0]
    assert (info.profiler_version, info.host, info.provenance_note) == (None, None, None)
    assert (gpu.arch, gpu.model, gpu.host) == (None, None, None)
    assert info.passes[0]["note"] is None


def test_a_part_of_a_family_that_was_not_timed_has_no_share():
    family = rocscope.analyze(unnamed()).families[0]
    assert family.time_s is None and [part["time_frac"] for part in family.split] == [None]


@pytest.mark.parametrize("name", ["csv", "html", "json", "markdown", "terminal"])
def test_every_report_copes_with_what_is_null(name):
    text = reports()[name].render(rocscope.analyze(unnamed()))
    assert "None" not in text


def test_older_files_with_empty_texts_are_read_as_null():
    data = json.loads(rocscope.analyze(unnamed()).model_dump_json())
    data["capture"] |= {"host": "", "profiler_version": "", "provenance_note": ""}
    data["gpus"][0] |= {"arch": "", "model": "", "host": ""}
    assert Analysis.model_validate(data) == rocscope.analyze(unnamed()).model_copy(
        update={"capture": Analysis.model_validate(data).capture}
    )
    assert Analysis.model_validate(data).capture.host is None


def test_a_gpu_that_is_not_known_is_no_other_gpu():
    base, new = (capture([row("k", i * 1000, 500) for i in range(8)]) for _ in range(2))
    new.manifest.gpus[0] = new.manifest.gpus[0].model_copy(update={"name": "", "arch": ""})
    found = pipeline.compare(base, new)
    assert not any(why.startswith("GPU") for why in found.why_not)
    assert found.new["gpus"] == [None]


@pytest.mark.captures
@pytest.mark.parametrize(
    "name",
    [
        "rocprofv1/gunrock_gfx942",
        "rocprofv3/sdk_docs",
        "omniperf/vcopy/MI300X_A1",
        "vllm/rank0.pt.trace.json.gz",
    ],
)
def test_recordings_too(captures, name):
    assert empty_texts(json.loads(rocscope.analyze(captures / name).model_dump_json())) == []
