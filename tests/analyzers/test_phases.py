import pytest

from rocscope import pipeline
from rocscope.analyzers import phase_bytes, phases_idle, runner
from rocscope.analyzers.integrity import ANALYZER as INTEGRITY
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
    assert found["prefill"].us_per_token == pytest.approx(10 / 30)  # to the start of the next
    decode = found["decode"]
    # to the next, 10 us, and what no other follows: 2 us and what usually lies between, 7 us
    assert (decode.steps, decode.tokens, decode.time_s) == (2, 4, pytest.approx(19e-6))
    assert decode.us_per_token == pytest.approx(19 / 4)
    assert [each["family"] for each in decode.families] == ["gemm", "attention"]
    assert decode.families[0]["time_s"] == pytest.approx(1.6e-6)
    assert decode.families[0]["us_per_token"] == pytest.approx(0.4)
    assert sum(each["time_frac"] for each in decode.families) == pytest.approx(1)
    assert decode.kernel_time_s == pytest.approx(2e-6) and decode.kernel_us_per_token == pytest.approx(0.5)


def idle(rows, **more):
    checked = study(capture(rows, spans=SPANS, **more), families={"mm": "gemm", "att": "attention"})
    runner.run(checked, [ANALYZER, phases_idle.ANALYZER, INTEGRITY])
    return {each.phase: each for each in checked.phases}


def test_idle_time_of_a_step_is_what_no_kernel_covers():
    late = row("att", 11_200, 700)  # beside the one before, and over the end of what is annotated
    found = idle([*ROWS, late])
    assert found["prefill"].idle_time_s == pytest.approx(7e-6)
    assert found["decode"].idle_time_s == pytest.approx((19 - 0.6 - 0.9 - 1) * 1e-6)
    assert found["decode"].idle_us_per_token == pytest.approx((19 - 2.5) / 4)
    assert found["decode"].kernel_time_s == pytest.approx(2.7e-6)  # kernels that overlap count twice


def test_idle_time_is_not_told_where_kernels_are_missing():
    assert idle(ROWS, partial=True)["decode"].idle_time_s is None
    perturbed = idle(ROWS, passes=[{"counters": ("X",), "perturbed": True}])
    assert perturbed["decode"].idle_us_per_token is None


def test_a_step_given_once_for_each_stream_is_one_step():
    again = [span(DECODE, 10_500, 12_500), *SPANS]
    _, found = run(ROWS, again)
    assert (found["decode"].steps, found["decode"].tokens) == (2, 4)
    assert found["decode"].time_s == pytest.approx((10 + 2 + 6.75) * 1e-6)


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


def test_what_runs_after_an_annotation_is_of_its_step_and_a_pause_of_none():
    """Head and sampler run after the part that vLLM annotates."""
    rows = [row("mm", at, 600) for at in (0, 10_000, 20_000, 900_000)]
    rows += [row("head", at + 1500, 300) for at in (0, 10_000, 20_000, 900_000)]
    spans = [span(DECODE, at, at + 1000) for at in (0, 10_000, 20_000, 900_000)]
    _, found = run([*rows, row("mm", 500_000, 7000)], spans)  # something in the pause
    decode = found["decode"]
    assert decode.time_s == pytest.approx(4 * 10e-6)
    assert [(each["family"], each["dispatches"]) for each in decode.families] == [
        ("gemm", 4),
        ("elementwise", 4),
    ]
    _, selected = run(rows, spans)
    assert selected["decode"].steps == 4
    made = capture(rows, spans=spans)
    chosen = pipeline.analyze(made, steps=(0, 2)).phases[0]
    assert chosen.steps == 2 and chosen.time_s == pytest.approx(2e-6)  # what follows was not selected


def test_kernels_belong_to_the_host_step_that_launched_them():
    def call(number, at):
        return {"process": 0, "kind": "api", "name": "hipLaunchKernel", "start_ns": at, "end_ns": at + 5,
                "correlation_id": number}  # fmt: skip

    rows = [row("mm", 500, 10, correlation_id=1), row("att", 900, 20, correlation_id=2)]
    spans = [span(PREFILL, 0, 100, kind="annotation"), span(DECODE, 100, 200, kind="annotation")]
    checked, found = run(rows, [*spans, call(1, 50), call(2, 150)])
    assert {name: each.families[0]["family"] for name, each in found.items()} == {
        "prefill": "gemm",
        "decode": "attention",
    }
    assert checked.warnings == [] and {each.length_by for each in found.values()} == {"host"}


def test_steps_of_a_recording_without_kernels_have_the_times_of_the_host():
    spans = [span(DECODE, at, at + 80, kind="annotation") for at in (0, 100, 200)]
    checked, found = run([], spans)
    assert (found["decode"].steps, found["decode"].tokens) == (3, 6) and found["decode"].families == []
    assert found["decode"].time_s == pytest.approx(300e-9)
    assert [each.code for each in checked.warnings] == ["steps-without-kernels"]


@pytest.mark.captures
@pytest.mark.parametrize("name", ["fp16", "gptq8"])
def test_phases_and_the_step_table_agree_on_a_recording_of_vllm(captures, name):
    folder = captures / "h200_vllm"
    analysis = pipeline.analyze(folder / f"{name}_graph.kineto.json.gz", model=folder / f"{name}_config.json")
    table, decode = analysis.step_table, analysis.phases[0]
    assert decode.phase == "decode"
    calls = {each["family"]: each["dispatches"] / decode.steps for each in decode.families}
    per_step = {each.family: each.calls[0] for each in table.families}
    for family in ("gemm", "attention", "rmsnorm", "rope", "activation"):
        assert calls[family] == per_step[family]
    # the phase has steps of two sequences too, in which the 8-bit products, and no others, take less
    kernel_s = sum(each["time_s"] for each in decode.families) / decode.steps
    assert kernel_s == pytest.approx(table.mean_s, rel=0.03 if name == "fp16" else 0.1)
    assert decode.time_s / decode.steps == pytest.approx(table.ranks[0].period_s, rel=0.06)


@pytest.mark.captures
def test_bytes_a_token_of_decode_are_the_weights_over_the_batch(captures):
    folder = captures / "h200_vllm"
    analysis = pipeline.analyze(folder / "fp16_graph.kineto.json.gz", model=folder / "fp16_config.json")
    decode, mixed, _ = analysis.phases
    gemm = {each["family"]: each for each in decode.families}["gemm"]
    layer = 4096 * (6144 + 4096 + 3 * 12288)  # qkv, o, gate, up, down
    weights = 2 * (36 * layer + 4096 * 151936)
    assert gemm["bytes_basis"] == "modelled" and gemm["bytes_time_frac"] == 1
    assert gemm["bytes_per_token"] == pytest.approx(weights * decode.steps / decode.tokens, rel=0.01)
    sampling = {each["family"]: each for each in decode.families}["sampling"]
    assert sampling["bytes"] is sampling["bytes_per_token"] is sampling["bytes_basis"] is None
    assert {each["family"]: each for each in mixed.families}["gemm"]["bytes_per_token"] < gemm["bytes"] / 100


def test_bytes_are_those_of_the_dispatches_and_unknown_where_too_few_are():
    rows = [row("mm", 0, 900), row("mm", 1000, 900, grid_x=512), row("att", 2000, 100)]
    made = study(
        capture(rows, spans=[span(DECODE, 0, 4000), span(DECODE, 10_000, 12_000)]),
        {"mm": {"bytes": 1000.0}},
        families={"mm": "gemm", "att": "attention"},
    )
    made.kernels["flagged"] = None
    ANALYZER.run(made)
    phase_bytes.ANALYZER.run(made)
    gemm, attention = made.phases[0].families
    assert (gemm["bytes"], gemm["bytes_per_token"], gemm["bytes_basis"]) == (2000, 1000, "modelled")
    assert attention["bytes"] is None and attention["bytes_time_frac"] == 0
    made.phases.clear()
    made.kernels.loc[made.kernels["grid_x"] == 512, "flagged"] = "more than the card can do"
    ANALYZER.run(made)
    phase_bytes.ANALYZER.run(made)
    assert made.phases[0].families[0]["bytes"] is None  # of half the time only


def test_annotations_of_the_host_are_used_with_a_warning_and_may_lack_tokens():
    checked, found = run([row("mm", 5, 10)], [span("ProfilerStep#1", 0, 20, kind="annotation")])
    assert found["step"].tokens is None and found["step"].us_per_token is None and found["step"].steps == 1
    assert [each.code for each in checked.warnings] == ["steps-from-host"]
