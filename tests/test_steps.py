import pytest

from rocscope import steps
from synthetic_capture import capture, row


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("execute_context_1(300)_generation_0(0)", steps.Step("prefill", 1, 300, 0, 0)),
        ("execute_context_0(0)_generation_4(4)", steps.Step("decode", 0, 0, 4, 4)),
        ("execute_context_3(900)_generation_1(1)", steps.Step("mixed", 3, 900, 1, 1)),
        (
            "execute_8_context_0(sq0sk0sqsq0sqsk0)_generation_8(sq8sk329sqsq8sqsk329)",
            steps.Step("decode", 0, 0, 8, 8, 329, 329.0),
        ),
        (
            "execute_9_context_1(sq7sk7sqsq49sqsk49)_generation_2(sq2sk30sqsq2sqsk30)",
            steps.Step("mixed", 1, 7, 2, 2, 37, 58.0),
        ),
        ("ProfilerStep#12", steps.Step("step")),
        ("execute_context_0(0)_generation_0(0)", None),
        ("nccl:all_reduce", None),
        ("", None),
    ],
)
def test_annotations_are_read(text, expected):
    assert steps.parse(text) == expected


def span(name, start, end, **more):
    return {"process": 0, "kind": "gpu_annotation", "name": name, "start_ns": start, "end_ns": end, **more}


DECODE = "execute_context_0(0)_generation_2(2)"
PREFILL = "execute_context_1(64)_generation_0(0)"


def test_annotations_on_the_gpu_are_preferred_and_sorted():
    spans = [
        span(DECODE, 50, 90, gpu=0),
        span(PREFILL, 0, 40, gpu=0),
        span(DECODE, 1, 2, kind="annotation"),
        span("ProfilerStep#1", 0, 100, gpu=0),
    ]
    found = steps.annotated(capture([row("k", 0, 10)], spans=spans))
    assert found["phase"].tolist() == ["prefill", "decode"]
    assert found["context_tokens"].tolist() == [64, 0] and found["on_gpu"].all()


def test_annotations_of_the_host_stand_for_every_gpu_of_their_process():
    spans = [span("ProfilerStep#1", 0, 50, kind="annotation"), span("other", 0, 9, kind="annotation")]
    found = steps.annotated(capture([row("k", 0, 10), row("k", 0, 10, gpu=1)], spans=spans, ranks=2))
    assert found["gpu"].tolist() == [0, 1] and not found["on_gpu"].any()


def test_no_annotations_no_steps():
    assert steps.annotated(capture([row("k", 0, 10)])).empty
    assert steps.decode_periods(capture([row("k", 0, 10)]), 0) == {}


def test_periods_are_between_neighbours_of_one_kind():
    names = [DECODE, DECODE, PREFILL, DECODE, DECODE]
    spans = [span(name, 100 * i, 100 * i + 60, gpu=0) for i, name in enumerate(names)]
    found = steps.decode_periods(capture([row("k", 0, 10)], spans=spans), 0)
    assert list(found) == [DECODE]
    assert found[DECODE].lengths_s.tolist() == pytest.approx([1e-7, 1e-7])


def replay(count, body="abbc", gap=10, jitter=0):
    rows, time = [], 0
    for step in range(count):
        for name in body:
            rows.append(row(name, time, 100))
            time += 100 + gap
        time += jitter * step
    return rows


def test_a_replayed_sequence_has_a_period():
    found = steps.repeating(capture(replay(6)), 0)
    assert found is not None and found.whole and found.steps == 6
    assert found.lengths_s.tolist() == pytest.approx([440e-9] * 5)
    assert "the same 4 kernels come 5 times in a row" in found.found_by


@pytest.mark.parametrize(
    "rows",
    [
        replay(2),
        replay(6, jitter=200),
        replay(3) + replay(3, body="abc"),
        [row(name, 100 * i, 50) for i, name in enumerate("abcacbbcacabbabc")],
        [row("a", 100 * i, 50) for i in range(10)],
        replay(3) + [row(f"once{i}", 10**5 + 200 * i, 100) for i in range(400)],
        [row("a", None, 10)],
    ],
    ids=["too few", "uneven", "two bodies", "no order", "one kernel", "small part", "no starts"],
)
def test_no_period_rather_than_a_wrong_one(rows):
    assert steps.repeating(capture(rows), 0) is None
