"""One step by family, ranks side by side: figures worked out by hand, then the recordings."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rocscope
from rocscope.analyzers import ranks
from rocscope.analyzers.step_table import ANALYZER
from rocscope.reports.report import reports
from synthetic_capture import capture, row, study

DECODE = "execute_context_0(0)_generation_2(2)"
FAMILIES = {
    "mm": "gemm",
    "att": "attention",
    "pick": "sampling",
    "gptq": "gptq_gemm",
    "allreduce": "communication",
}


def run(rows, spans=(), ranks=1, **options):
    checked = study(capture(rows, spans=list(spans), ranks=ranks), families=FAMILIES, **options)
    ANALYZER.run(checked)
    return checked


def steps(gpu, kernels, count=3, every=100_000, name=DECODE):
    """`count` steps and one more that nothing follows; the last kernel runs after the annotation's end."""
    rows, spans = [], []
    for i in range(count + 1):
        at = i * every
        for kernel, duration in kernels:
            rows.append(row(kernel, at, duration, gpu=gpu, process=gpu))
            at += duration + 10
        inside = at - 10 - kernels[-1][1]
        more = {"process": gpu, "kind": "gpu_annotation", "gpu": gpu}
        spans.append({**more, "name": name, "start_ns": i * every, "end_ns": inside})
    return rows, spans


def two_ranks(**options):
    """Rank 0 works 1.1 us a step, rank 1, with two products more, 1.5 us."""
    first = steps(0, [("mm", 600), ("att", 400), ("pick", 100)])
    second = steps(1, [("mm", 600), ("mm", 200), ("mm", 200), ("att", 400), ("pick", 100)])
    return run(first[0] + second[0], first[1] + second[1], ranks=2, **options).step_table


def test_two_ranks_as_worked_out_by_hand():
    table = two_ranks()
    assert (table.phase, table.sequences) == ("decode", 2)
    assert [(each.label, each.steps, each.calls) for each in table.ranks] == [
        ("rank 0", 3, 3),
        ("rank 1", 3, 5),
    ]
    assert [each.kernel_s for each in table.ranks] == pytest.approx([1.1e-6, 1.5e-6])
    assert [each.busy_s for each in table.ranks] == pytest.approx([1.1e-6, 1.5e-6])
    assert [each.period_s for each in table.ranks] == pytest.approx([100e-6, 100e-6])
    assert table.mean_s == pytest.approx(1.3e-6)
    assert table.spread_frac == pytest.approx(0.4 / 1.5)
    gemm, attention, sampling = table.families
    assert (gemm.family, attention.family, sampling.family) == ("gemm", "attention", "sampling")
    assert gemm.time_s == pytest.approx([0.6e-6, 1.0e-6]) and gemm.calls == [1, 3]
    assert gemm.mean_s == pytest.approx(0.8e-6)
    assert gemm.time_frac == pytest.approx(0.8 / 1.3)
    assert gemm.spread_frac == pytest.approx(0.4)
    assert attention.spread_frac == 0 and sampling.time_s == pytest.approx([0.1e-6, 0.1e-6])
    assert table.kernels_of == "rank 0"
    assert [(each.kernel, each.calls) for each in table.kernels] == [("mm", 1), ("att", 1), ("pick", 1)]
    assert table.kernels[0].mean_s == pytest.approx(0.6e-6)
    assert table.notes == []


def test_one_gpu_has_one_column_and_no_spread():
    table = run(*steps(0, [("mm", 600), ("pick", 100)])).step_table
    assert [each.label for each in table.ranks] == ["GPU 0"]
    assert table.spread_frac is None and {each.spread_frac for each in table.families} == {None}
    assert table.mean_s == table.ranks[0].kernel_s == pytest.approx(0.7e-6)


def test_a_family_that_one_rank_lacks_took_no_time_there():
    first, second = steps(0, [("mm", 600), ("pick", 100)]), steps(1, [("mm", 600)])
    table = run(first[0] + second[0], first[1] + second[1], ranks=2).step_table
    sampling = table.families[-1]
    assert sampling.family == "sampling" and sampling.time_s == pytest.approx([0.1e-6, 0.0])
    assert sampling.calls == [1, 0] and sampling.spread_frac == 1


@settings(max_examples=25)
@given(
    st.lists(
        st.lists(st.tuples(st.sampled_from(sorted(FAMILIES)), st.integers(1, 900)), min_size=1, max_size=5),
        min_size=1,
        max_size=9,
    )
)
def test_means_shares_and_spreads_add_up(sides):
    parts = [steps(gpu, kernels, count=2) for gpu, kernels in enumerate(sides)]
    rows, spans = ([each for part in parts for each in part[i]] for i in (0, 1))
    table = run(rows, spans, ranks=len(sides)).step_table
    whole = [sum(duration for _, duration in kernels) * 1e-9 for kernels in sides]
    assert [each.kernel_s for each in table.ranks] == pytest.approx(whole)
    assert [each.calls for each in table.ranks] == [len(kernels) for kernels in sides]
    assert table.mean_s == pytest.approx(sum(whole) / len(whole))
    assert sum(each.mean_s for each in table.families) == pytest.approx(table.mean_s)
    assert sum(each.time_frac for each in table.families) == pytest.approx(1)
    for at, rank in enumerate(table.ranks):
        assert sum(each.time_s[at] for each in table.families) == pytest.approx(rank.kernel_s)
    spreads = [table.spread_frac, *(each.spread_frac for each in table.families)]
    assert all(each is None if len(sides) == 1 else 0 <= each <= 1 for each in spreads)
    assert [each.mean_s for each in table.families] == sorted(
        (f.mean_s for f in table.families), reverse=True
    )


def notes_rank(gpu):
    """The field notes' step in three buckets: 12.64 ms of GPTQ in 256 calls, 1.25 of all-reduce, the rest."""
    kernels = [*[("gptq", 49_375)] * 256, *[("allreduce", 10_000)] * 125, *[("mm", 72_200)] * 100]
    return steps(gpu, kernels, count=1, every=30_000_000)


def test_the_kernel_time_of_the_field_notes_does_not_fit_in_their_token():
    parts = [notes_rank(gpu) for gpu in range(4)]
    rows, spans = ([each for part in parts for each in part[i]] for i in (0, 1))
    table = run(rows, spans, ranks=4, tpot_s=18.82e-3).step_table
    assert table.mean_s == pytest.approx(21.11e-3)
    gptq = table.families[0]
    assert (gptq.family, gptq.calls) == ("gptq_gemm", [256] * 4)
    assert gptq.mean_s == pytest.approx(12.64e-3)
    assert gptq.time_frac == pytest.approx(0.599, abs=5e-4)
    assert table.reconciles is False
    assert table.reconciliation.startswith(
        "kernel time a step, 21.11 ms on rank 0, is more than the 18.82 ms that a token takes without the "
        "profiler: the two do not reconcile"
    )


def test_a_token_longer_than_its_kernels_reconciles():
    table = two_ranks(tpot_s=2e-6)
    assert table.reconciles is True
    assert "kernel time a step, 1.5 µs on rank 1, fits in the 2 µs" in table.reconciliation
    long = run(*steps(0, [("mm", 9_000_000)], every=20_000_000), tpot_s=10e-3).step_table
    assert long.reconciliation == (
        "kernel time a step, 9.00 ms, fits in the 10.00 ms that a token takes without the profiler: the two "
        "reconcile, and 1.00 ms of a token (10 %) are no kernel's"
    )


def test_kernels_that_overlap_may_add_up_to_more_than_a_token():
    rows, spans = steps(0, [("mm", 9_000_000)], every=20_000_000)
    rows += [{**each, "kernel": "att", "stream": 2} for each in rows]
    table = run(rows, spans, tpot_s=10e-3).step_table
    assert table.ranks[0].kernel_s == pytest.approx(18e-3)
    assert table.ranks[0].busy_s == pytest.approx(9e-3)
    assert table.reconciles is True and "kernels overlap and fill only 9.00 ms" in table.reconciliation


def test_without_the_time_of_a_token_nothing_is_said_to_reconcile():
    table = run(*steps(0, [("mm", 9_000_000)], every=20_000_000)).step_table
    assert table.reconciles is None and table.tpot_s is None
    assert "the step's length of 20.00 ms, of which kernels fill 45 %" in table.reconciliation
    assert "--tpot-ms" in table.reconciliation


def test_steps_that_make_several_tokens_are_not_held_against_one():
    rows, spans = steps(0, [("mm", 600)], name="execute_context_0(0)_generation_2(6)")
    table = run(rows, spans, tpot_s=1e-9).step_table
    assert table.reconciles is None and "may make several tokens" in table.reconciliation


def test_a_rank_without_such_steps_is_named():
    first = steps(0, [("mm", 600)])
    table = run([*first[0], row("mm", 0, 10, gpu=1, process=1)], first[1], ranks=2).step_table
    assert [each.label for each in table.ranks] == ["rank 0"]
    assert table.notes == ["no such steps were found on rank 1: not in the table"]


def test_without_steps_the_reason_is_given_and_without_kernels_nothing():
    checked = run([row("mm", 0, 10)])
    assert checked.step_table is None
    assert checked.step_table_missing == (
        "there are no step annotations (vLLM's torch profiler writes them), and no sequence of kernels "
        "repeats from end to end"
    )
    empty = run([])
    assert empty.step_table is None and empty.step_table_missing is None


def test_ranks_that_do_not_tell_gpus_apart_are_not_their_names():
    made = capture([row("mm", 0, 10, gpu=gpu, process=0) for gpu in (0, 1)], ranks=2)
    assert ranks.labels(study(made)) == {0: "GPU 0", 1: "GPU 1"}
    apart = capture([row("mm", 0, 10, gpu=gpu, process=gpu) for gpu in (0, 1)], ranks=2)
    assert ranks.labels(study(apart)) == {0: "rank 0", 1: "rank 1"}


def test_the_recorded_straggler_shows_in_its_family(examples):
    """36 layers of four products; rank 1 runs one of the four eight times: 144 calls against 396."""
    folder = examples / "h200_decoder"
    names = [folder / f"tp2_straggler_rank{rank}.json.gz" for rank in (1, 0)]
    analysis = rocscope.analyze(*names, model=folder / "w4_config.json", tp=2, tpot_s=0.016)
    table = analysis.step_table
    assert table.phase == "decode" and [each.label for each in table.ranks] == ["rank 0", "rank 1"]
    assert [each.steps for each in table.ranks] == [3, 3]
    assert [each.calls for each in table.ranks] == [658, 658 + 36 * 7 * 3]
    families = {each.family: each for each in table.families}
    assert families["gptq_gemm"].calls == [144, 144 + 36 * 7]
    assert families["gptq_gemm"].spread_frac == pytest.approx(0.607, abs=0.001)
    assert families["attention"].spread_frac < 0.03 and families["rmsnorm"].spread_frac < 0.03
    # rank 0 waits for rank 1 in 72 all-reduces and one gather a step
    waiting = families["communication"]
    assert waiting.calls == [73, 73] and waiting.time_s[0] > 25 * waiting.time_s[1]
    assert sum(each.mean_s for each in table.families) == pytest.approx(table.mean_s)
    assert sum(each.time_frac for each in table.families) == pytest.approx(1)
    # kernels of three of the four steps: at most what the whole recording has
    whole = {each.family: each.time_s for each in analysis.families}
    assert all(6 * each.mean_s <= whole[each.family] * (1 + 1e-9) for each in table.families)
    assert table.reconciles is False  # with its waiting, and the profiler on


def test_the_table_of_the_recorded_straggler_as_it_is_read(examples, golden):
    """The field notes' table in form: each rank, mean, share, spread, calls, top kernels."""
    folder = examples / "h200_decoder"
    names = [folder / f"tp2_straggler_rank{rank}.json.gz" for rank in (0, 1)]
    text = reports()["markdown"].render(rocscope.analyze(*names))
    start = text.index("### One decode step, by family")
    golden("reports/h200_tp2_straggler.step.md", text[start : text.index("\n### ", start) + 1])


@pytest.mark.captures
def test_a_step_of_vllm_holds_its_head_and_sampler_too(captures):
    """Annotations end before the head: ten steps of four sequences, 36 layers of four products, one head."""
    table = rocscope.analyze(captures / "h200_vllm" / "gptq8_graph.kineto.json.gz").step_table
    assert (table.phase, table.sequences, table.ranks[0].steps) == ("decode", 4, 10)
    calls = {each.family: each.calls[0] for each in table.families}
    assert calls["gptq_gemm"] == 144 and calls["gemm"] == 1 and calls["attention"] == 72
    assert calls["sampling"] == 5
    assert table.ranks[0].busy_s < table.ranks[0].period_s
    assert table.ranks[0].period_s == pytest.approx(6.08e-3, rel=0.01)


@pytest.mark.captures
def test_a_recording_of_one_layer_after_another_is_no_row_of_steps(captures):
    """One annotated step of 36 layers: the layers repeat, the step does not."""
    analysis = rocscope.analyze(captures / "torch_traces" / "vllm_decode_full_graph_execution.json.gz")
    table = analysis.step_table
    assert (table.ranks[0].steps, table.ranks[0].calls, table.sequences) == (1, 434, 32)
    assert table.ranks[0].period_s is None
    assert "often head and sampler, is not" in table.notes[0]
