"""What reports without charts say of a token's budget, of time and of ranks."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample_analysis import sample_analysis, sample_gpu, sample_kernel, sample_target_many
from sample_timeline import sample_lane, sample_timeline

from rocscope.findings import TimelineGap, TimelineSpan
from rocscope.reports import figures, side_by_side, timeline_words, token_budget


def plain(text: str) -> str:
    return figures.ordinary_spaces(text)


def cells(analysis, most: int = token_budget.MAX_FAMILIES) -> dict[str, list[str]]:
    return {name: [plain(each) for each in rest] for name, *rest in token_budget.rows(analysis, most)}


def test_a_tokens_budget_has_a_column_a_phase_and_adds_up() -> None:
    analysis = sample_analysis()
    assert token_budget.header(analysis) == ["family", "decode", "share", "prefill", "share"]
    found = cells(analysis)
    assert found["gptq_gemm"] == ["12.6 ms", "54.7 %", "401 µs", "79.1 %"]
    assert found["memcpy"][2:] == ["–", "–"]
    assert found["all kernels"][:2] == ["20.1 ms", "87.1 %"] and found["GPU idle"][:2] == [
        "2.99 ms",
        "12.9 %",
    ]
    assert found["whole step"] == ["23.1 ms", "100 %", "507 µs", "100 %"]
    for column in (1, 3):
        families = [v[column] for k, v in found.items() if k not in ("all kernels", "whole step")]
        assert sum(float(each.split()[0]) for each in families if each != "–") == pytest.approx(100, abs=0.1)


def test_smaller_families_are_one_row() -> None:
    found = cells(sample_analysis(), 3)
    assert list(found)[3] == "8 smaller families"
    spent = sum(each["us_per_token"] for each in sample_analysis().phases[0].families) - 12640 - 1415 - 1310
    assert found["8 smaller families"][0] == plain(figures.seconds(spent * 1e-6))


def test_the_hosts_steps_say_nothing_of_the_gpus_time() -> None:
    phases = [each.model_copy(update={"length_by": "host", "idle_us_per_token": None, "us_per_token": 1.0})
              for each in sample_analysis().phases]  # fmt: skip
    analysis = sample_analysis(phases=phases)
    found = cells(analysis)
    assert "whole step" not in found and "GPU idle" not in found
    assert found["all kernels"][1::2] == ["100 %", "100 %"]
    said = " ".join(token_budget.sentences(analysis))
    assert "decode and prefill is not told, as only the host annotated it" in said and "overlap" not in said


def test_kernels_that_overlap_are_said_to() -> None:
    phase = sample_analysis().phases[0]
    over = phase.model_copy(update={"us_per_token": 15_000.0, "idle_us_per_token": 100.0})
    said = token_budget.sentences(sample_analysis(phases=[over]))
    assert said[-1] == "Kernels overlap in decode: the families add up to more than the step."
    assert len(token_budget.sentences(sample_analysis())) == 1


def test_time_is_drawn_from_blank_to_full() -> None:
    lane = sample_lane().model_copy(update={"busy_frac": [0.0, 0.001, 0.5, 0.99, 1.0]})
    drawn = timeline_words.lines(sample_analysis(timeline=sample_timeline(lanes=[lane])), 60)
    assert drawn[0] == "rank 0 | ▁▄▇█|" and plain(drawn[1]).endswith("24.0 ms")


@given(st.lists(st.floats(0, 1), min_size=1, max_size=700), st.integers(24, 120), st.integers(1, 20))
def test_drawn_lines_fit(busy: list[float], width: int, lanes: int) -> None:
    made = [
        sample_lane(at).model_copy(update={"busy_frac": busy, "label": f"GPU {at}"}) for at in range(lanes)
    ]
    drawn = timeline_words.lines(sample_analysis(timeline=sample_timeline(lanes=made)), width)
    assert max(map(len, drawn[:-1])) <= width and len(drawn) == min(lanes, timeline_words.MAX_LANES) + 1
    blocks = drawn[0].split("|")[1]
    assert len(blocks) == min(len(busy), width - len("GPU 10" if lanes > 10 else "GPU 1") - 3)
    assert (set(blocks) <= {" "}) == (not any(busy))


def test_pauses_are_told_by_what_they_were_for() -> None:
    gaps = [
        TimelineGap(gpu=0, start_s=at / 1000, duration_s=0.001 * (9 - at), during=during)
        for at, during in enumerate(
            [
                "waiting for launches",
                None,
                "host in a for 41 % of it",
                "host in a for 72.5 % of it",
                "b",
                "c",
                "d",
            ]
        )
    ]
    said = [
        plain(each) for each in timeline_words.sentences(sample_analysis(timeline=sample_timeline(gaps=gaps)))
    ]
    assert said[1] == (
        "The longest 7 pauses take 42.0 ms: 13.0 ms host in a; 9.00 ms waiting for launches; 8.00 ms with no "
        "cause recorded; 5.00 ms b; 7.00 ms for 2 other reasons; 412 shorter ones add up to 940 µs."
    )
    assert said[2].startswith(
        "The longest: 9.00 ms at 0 s (waiting for launches); 8.00 ms at 1.00 ms; 7.00 ms"
    )
    one = sample_timeline(gaps=gaps[:1], gaps_left_out=0)
    assert "One pause takes 9.00 ms, waiting for launches." in map(
        plain, timeline_words.sentences(sample_analysis(timeline=one))
    )


def test_phases_throttling_and_notes_are_told() -> None:
    spans = [
        TimelineSpan(kind="phase", name="decode", gpu=1, start_s=at, end_s=at + 1, steps=2) for at in range(9)
    ]
    spans += [
        TimelineSpan(kind="throttled", name="power", gpu=0, start_s=at, end_s=at + 0.5) for at in (0, 2)
    ]
    timeline = sample_timeline(spans=spans, lanes=[sample_lane(0), sample_lane(1)], gaps=[], notes=["a note"])
    said = [plain(each) for each in timeline_words.sentences(sample_analysis(timeline=timeline))]
    assert said[1].startswith(
        "Phases of rank 1: decode 0 s to 1.00 s (2 steps), decode 1.00 s to 2.00 s (2 steps)"
    )
    assert said[1].endswith("and 3 more stretches.")
    assert said[2:] == ["Throttled, by the GPU's own word: rank 0 for 1.00 s by power.", "A note."]
    assert timeline_words.sentences(sample_analysis(timeline=None)) == []


def test_ranks_stand_side_by_side() -> None:
    kernels = [
        sample_kernel(gpu=0, time_s=0.3),
        sample_kernel(gpu=0, time_s=0.7, family="communication"),
        sample_kernel(gpu=1, time_s=0.9),
        sample_kernel(gpu=1, time_s=0.1, family="communication"),
    ]
    late = sample_target_many(1)[0].model_copy(
        update={"id": "timeline:straggler", "problem": "rank 1 is late", "evidence": ["a", "b", "c"]}
    )
    gpus = [sample_gpu(0), sample_gpu(1, host=None, rank=None), sample_gpu(7)]
    telemetry = {"gpus": [{"gpu": 1, "clock_hz": {"mean": 1.3335e9}}]}
    analysis = sample_analysis(kernels=kernels, gpus=gpus, targets=[late], telemetry=telemetry)
    assert side_by_side.present(analysis) and not side_by_side.present(sample_analysis())
    rows = [[plain(cell) for cell in row] for row in side_by_side.rows(analysis)]
    assert rows == [
        ["rank 0, node-1", "21.1 ms", "87.6 %", "1.00 s", "70.0 %", "–", "–"],
        ["GPU 1", "21.1 ms", "87.6 %", "1.00 s", "10.0 %", "–", "1,334 MHz"],
    ]
    assert side_by_side.sentences(analysis) == ["Rank 1 is late: a; b."]


def test_many_ranks_are_cut_and_counted() -> None:
    kernels = [sample_kernel(gpu=at) for at in range(40)]
    analysis = sample_analysis(kernels=kernels, gpus=[sample_gpu(at) for at in range(40)])
    assert len(side_by_side.rows(analysis)) == 16
    assert side_by_side.sentences(analysis) == ["24 more GPUs are in analysis.json."]
    assert not re.search("nan", str(side_by_side.rows(analysis)))
