import pytest

from rocscope import pipeline
from rocscope.analyzers.phases import ANALYZER
from synthetic_capture import capture, row, study

PREFILL = "execute_context_1(30)_generation_0(0)"
DECODE = "execute_context_0(0)_generation_2(2)"


def run(rows, spans, **more):
    checked = study(capture(rows, spans=spans, **more), families={"mm": "gemm", "att": "attention"})
    ANALYZER.run(checked)
    return checked, {each.phase: each for each in checked.phases}


def span(name, start, end, gpu=0, kind="gpu_annotation"):
    return {"process": gpu, "kind": kind, "name": name, "start_ns": start, "end_ns": end, "gpu": gpu}


ROWS = [row("mm", 0, 3000), row("mm", 10_000, 600), row("att", 11_000, 400), row("mm", 20_000, 1000)]
SPANS = [span(PREFILL, 0, 4000), span(DECODE, 10_000, 12_000), span(DECODE, 20_000, 22_000)]


def test_steps_are_summed_by_phase_and_family():
    _, found = run(ROWS, SPANS)
    assert (found["prefill"].steps, found["prefill"].tokens) == (1, 30)
    assert found["prefill"].us_per_token == pytest.approx(4 / 30)
    decode = found["decode"]
    assert (decode.steps, decode.tokens, decode.time_s) == (2, 4, pytest.approx(4e-6))
    assert decode.us_per_token == pytest.approx(1.0)
    assert [each["family"] for each in decode.families] == ["gemm", "attention"]
    assert decode.families[0]["time_s"] == pytest.approx(1.6e-6)
    assert decode.families[0]["us_per_token"] == pytest.approx(0.4)
    assert sum(each["time_frac"] for each in decode.families) == pytest.approx(1)


def test_a_step_given_once_for_each_stream_is_one_step():
    again = [span(DECODE, 10_500, 12_500), *SPANS]
    _, found = run(ROWS, again)
    assert (found["decode"].steps, found["decode"].tokens) == (2, 4)
    assert found["decode"].time_s == pytest.approx(4.5e-6)


def test_a_step_that_is_cut_in_two_is_in_no_phase():
    made = capture(ROWS, spans=SPANS)
    found = pipeline.analyze(made, between_s=(0.0, 20.5e-6))
    assert {each.phase: each.steps for each in found.phases} == {"prefill": 1, "decode": 1}
    assert pipeline.analyze(made, between_s=(10.0e-6, 10.1e-6)).phases == []


def test_ranks_run_the_same_steps_and_are_averaged():
    rows = [*ROWS, *({**each, "gpu": 1, "process": 1} for each in ROWS)]
    spans = [*SPANS, *({**each, "gpu": 1, "process": 1} for each in SPANS)]
    _, one = run(ROWS, SPANS)
    _, both = run(rows, spans, ranks=2)
    assert both == one


def test_steps_without_kernels_and_recordings_without_steps_are_left_out():
    _, found = run([row("mm", 0, 10)], [span(PREFILL, 0, 20), span(DECODE, 100, 200)])
    assert list(found) == ["prefill"]
    assert run(ROWS, [])[1] == {} and run([], SPANS)[1] == {}


def test_annotations_of_the_host_are_used_with_a_warning_and_may_lack_tokens():
    checked, found = run([row("mm", 5, 10)], [span("ProfilerStep#1", 0, 20, kind="annotation")])
    assert found["step"].tokens is None and found["step"].us_per_token is None and found["step"].steps == 1
    assert [each.code for each in checked.warnings] == ["steps-from-host"]
