"""A comparison says first what either recording lacks."""

import gzip

import pytest

from rocscope import pipeline
from synthetic_steps import decode_steps

TOLD = "trace.json is cut off"


def test_a_recording_that_is_cut_off_is_said_to_be_so(tmp_path, examples):
    whole = examples / "h200_decoder" / "kineto_fp16_graph.json.gz"
    text = gzip.decompress(whole.read_bytes())
    cut = tmp_path / "trace.json"
    cut.write_bytes(text[: len(text) * 3 // 4])
    found = pipeline.compare(cut, whole)
    assert found.notes[0].startswith(f"base: {TOLD}") and found.base["warnings"] == ["truncated-file"]
    assert not any(note.startswith("new: ") for note in found.notes) and found.new["warnings"] == []
    assert pipeline.compare(whole, cut).notes[0].startswith(f"new: {TOLD}")


@pytest.mark.parametrize(("count", "told"), [(3, 3), (5, 4)])
def test_many_of_them_are_counted(count, told):
    damaged = decode_steps(count=12, seed=1)
    for number in range(count):
        damaged.notice("unreadable-file", f"file {number} cannot be read")
    damaged.notice("telemetry-unmatched", "no lack of kernels")
    found = pipeline.compare(decode_steps(count=12), damaged)
    said = [note for note in found.notes if note.startswith("new: ")]
    assert len(said) == told and said[0] == "new: file 0 cannot be read"
    assert (said[-1] == "new: 2 more warnings of what it lacks, in its own report") == (count == 5)
    assert "telemetry-unmatched" in found.new["warnings"]
