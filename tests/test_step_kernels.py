"""Which kernels are a step: told only where it is seen, and why not elsewhere."""

import pytest

import rocscope
from rocscope import step_kernels
from rocscope.config import AnalyzeOptions
from synthetic_capture import capture, row, study

FAMILIES = {"emb": "embedding", "mm": "gemm", "att": "attention", "pick": "sampling"}
DECODE = "execute_context_0(0)_generation_1(1)"
PREFILL = "execute_context_1(30)_generation_0(0)"


def find(made, **options):
    return step_kernels.find(made, study(made, families=FAMILIES).kernels, AnalyzeOptions(**options))


def queue(*kernels, gap=10, duration=90):
    return [row(kernel, i * (gap + duration), duration) for i, kernel in enumerate(kernels)]


def span(name, start, end, kind="gpu_annotation", gpu=0):
    return {"process": gpu, "kind": kind, "name": name, "start_ns": start, "end_ns": end, "gpu": gpu}


def annotated(*names, every=1000, length=500):
    """A kernel in each annotation and one after it."""
    rows = [
        row(each, i * every + at, 100) for i in range(len(names)) for each, at in (("mm", 0), ("pick", 700))
    ]
    return capture(rows, spans=[span(name, i * every, i * every + length) for i, name in enumerate(names)])


def test_a_sequence_that_repeats_with_a_sampler_in_it_is_a_step():
    found = find(capture(queue(*["emb", "mm", "att", "mm", "att", "pick"] * 4)))
    assert found.steps == {0: 3} and int(found.inside.sum()) == 18
    assert found.period_s[0] == pytest.approx(600e-9)
    assert found.phase == "step"  # these kernels do not say that they decode
    assert found.found_by.startswith("no annotations, but the same 6 kernels come 3 times in a row")


def test_a_step_after_a_prefill_and_one_that_is_cut_are_told():
    step = ["emb", "mm", "att", "mm", "att", "pick"]
    found = find(capture(queue("long", "long", *step * 3, *step[:3])))
    assert found.steps == {0: 2} and int(found.inside.sum()) == 12  # from the first sampler to the third


@pytest.mark.parametrize(
    "kernels",
    [
        ["emb", *["mm", "att"] * 12, "head", "pick"],  # one step of twelve layers
        ["mm", "att"] * 12,  # of layers alone
    ],
)
def test_layers_that_repeat_are_no_steps(kernels):
    assert "may be a layer" in find(capture(queue(*kernels)))


def test_the_batch_that_most_steps_have_is_taken_and_of_several_the_largest():
    four = "execute_context_0(0)_generation_4(4)"
    assert find(annotated(DECODE, DECODE, four, four, four, DECODE)).sequences == 4
    assert find(annotated(DECODE, DECODE, four, DECODE)).sequences == 1
    assert find(annotated(DECODE, DECODE, four, four, PREFILL)).sequences == 4


def test_a_step_lasts_until_the_next_begins_and_the_last_is_left_out():
    found = find(annotated(PREFILL, DECODE, DECODE, DECODE))
    assert found.steps == {0: 2} and int(found.inside.sum()) == 4
    assert found.rows["kernel"].filter(found.inside).to_pylist() == ["mm", "pick"] * 2


def test_a_step_before_a_pause_is_left_out():
    rows = [row(each, at, 100) for at in (0, 1000, 2000, 90_000) for each in ("mm",)]
    spans = [span(DECODE, at, at + 500) for at in (0, 1000, 2000, 90_000)]
    found = find(capture(rows, spans=spans))
    assert found.steps == {0: 2} and found.period_s[0] == pytest.approx(1e-6)


def test_one_step_alone_is_what_was_annotated_of_it():
    found = find(annotated(DECODE))
    assert found.steps == {0: 1} and int(found.inside.sum()) == 1 and found.period_s == {0: None}
    assert "head and sampler" in found.notes[0]


def test_steps_of_the_profiler_serve_where_nothing_says_more():
    found = find(annotated("ProfilerStep#1", "ProfilerStep#2", "ProfilerStep#3"))
    assert (found.phase, found.sequences, found.steps) == ("step", None, {0: 2})


def test_no_decode_step_no_table():
    assert "no annotated step is a decode step" in find(annotated(PREFILL, PREFILL))


def test_a_selection_of_steps_or_seconds_leaves_whole_steps_only():
    made = annotated(*[DECODE] * 6)
    chosen = rocscope.analyze(made, steps=(1, 4)).step_table
    assert chosen.ranks[0].steps == 3 and chosen.ranks[0].calls == 1 and chosen.notes
    between = rocscope.analyze(made, between_s=(0.5e-6, 4.2e-6)).step_table
    assert between.ranks[0].steps == 3 and between.ranks[0].calls == 2


def launched(correlated=True):
    """Annotations of the host; kernels run after their step has ended there."""
    rows, spans = [], []
    for i in range(3):
        spans.append(span(DECODE, i * 1000, i * 1000 + 300, kind="annotation"))
        rows.append(row("mm", i * 1000 + 1500, 100, correlation_id=i))
        if correlated:
            call = {"process": 0, "kind": "api", "name": "launch", "correlation_id": i}
            spans.append({**call, "start_ns": i * 1000 + 50, "end_ns": i * 1000 + 60})
    return capture(rows, spans=spans)


def test_steps_of_the_host_hold_what_was_launched_in_them():
    found = find(launched())
    assert found.steps == {0: 2} and found.inside.tolist() == [True, True, False]
    assert "no kernel can be assigned" in find(launched(correlated=False))
    assert "on the host only" in find(launched(), between_s=(0.0, 1.0))


def test_what_cannot_have_steps_says_so():
    untimed = [row("mm", None, 100), row("mm", None, 100)]
    assert find(capture(untimed)) == "the recording has no start times of kernels"
    counted = capture(queue("mm", "mm"), passes=[{"counters": ("SQ_WAVES",), "perturbed": True}])
    assert "under counters" in find(counted)
    assert "no steps" in find(capture(queue("mm"), profiler="table"))
