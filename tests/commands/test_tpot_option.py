"""``--tpot-ms``: a token's time without the profiler, held against the kernel time of a step."""

import json

import pytest

from rocscope.cli import run


@pytest.mark.parametrize(("tpot_ms", "reconciles"), [("16.15", None), ("8", False), ("30", True)])
def test_a_recording_is_held_against_the_time_of_a_token(capsys, examples, tpot_ms, reconciles):
    """The strided decoder takes 16.15 ms a step without the profiler, its kernels about as much."""
    recording = examples / "h200_decoder" / "kineto_strided_graph.json.gz"
    assert run(["analyze", str(recording), "--tpot-ms", tpot_ms, "--json"]) == 0
    table = json.loads(capsys.readouterr().out)["step_table"]
    assert table["tpot_s"] == pytest.approx(float(tpot_ms) * 1e-3)
    assert table["mean_s"] == pytest.approx(16.15e-3, rel=0.03)
    if reconciles is not None:
        assert table["reconciles"] is reconciles
    assert run(["report", str(recording), "--format", "markdown", "--tpot-ms", tpot_ms]) == 0
    said = capsys.readouterr().out
    assert "that a token takes without the profiler" in said and "reconcile" in said


@pytest.mark.parametrize("bad", ["0", "-1", "nan", "inf", "fast"])
def test_a_time_that_is_none_is_refused(capsys, examples, bad):
    recording = examples / "h200_decoder" / "kineto_fp16_graph.json.gz"
    assert run(["analyze", str(recording), "--tpot-ms", bad]) != 0
    assert "tpot" in capsys.readouterr().err.lower()


def test_a_stored_analysis_and_a_comparison_take_no_such_time(capsys, examples, tmp_path):
    recording = examples / "h200_decoder" / "kineto_fp16_graph.json.gz"
    assert run(["compare", str(recording), str(recording), "--tpot-ms", "9"]) != 0
    assert run(["analyze", str(recording), "--out", str(tmp_path / "out"), "-q"]) == 0
    capsys.readouterr()
    assert run(["report", str(tmp_path / "out" / "analysis.json"), "--tpot-ms", "9"]) != 0
    assert "--tpot-ms cannot change analysis.json" in capsys.readouterr().err
