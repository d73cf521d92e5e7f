"""Tokens, sequences and context of each kernel's engine step, from both kinds of vLLM's annotations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocscope import metrics, step_context
from rocscope.collectors import discovery
from rocscope.step_context import Running
from rocscope.study import GROUP_COLUMNS
from synthetic_capture import capture, row


def follow(*given: tuple[int, int, int]) -> list[float]:
    """Return the contexts of steps of (requests that prefill, their tokens, requests that generate)."""
    running = Running()
    return [running.step(requests, tokens, left, left)[0] for requests, tokens, left in given]


def test_a_request_grows_by_a_token_a_step():
    assert follow((1, 300, 0), (0, 0, 1), (0, 0, 1)) == [300, 301, 302]


def test_requests_that_join_are_summed():
    assert follow((1, 300, 0), (3, 900, 1), (0, 0, 4)) == [300, 1201, 1205]


def test_who_ended_does_not_matter_where_all_are_as_long():
    assert follow((1, 300, 0), (1, 300, 1), (0, 0, 2), (0, 0, 1)) == [300, 601, 603, 302.5]


@pytest.mark.parametrize(
    "story",
    [
        [(1, 300, 0), (1, 30, 1), (0, 0, 1)],  # one of two ended, and they differ in length
        [(2, 300, 0), (0, 0, 2), (0, 0, 1)],  # only the sum of the two is known
        [(1, 512, 0), (1, 100, 0)],  # a second chunk, or the first request ended at once: not told
        [(1, 512, 0), (0, 0, 3)],  # requests that were prefilled before the recording, or elsewhere
        [(0, 0, 2)],  # the recording began in the middle
    ],
)
def test_where_more_than_one_story_fits_the_context_is_unknown(story):
    found = follow(*story, (0, 0, 1))
    assert np.isnan(found[len(story) - 1]) or story[-1][0], story
    assert np.isnan(found[-1])


def test_the_story_begins_anew_when_no_request_is_left():
    found = follow((0, 0, 2), (1, 64, 0), (0, 0, 1))
    assert np.isnan(found[0])
    assert found[1:] == [64, 65]


def test_speculation_is_not_guessed():
    running = Running()
    running.step(1, 10, 0, 0)
    assert np.isnan(running.step(0, 0, 1, 3)[0])


def test_pairs_are_known_for_one_prompt_only():
    assert Running().step(1, 4, 0, 0) == (4, 1 + 2 + 3 + 4)
    assert np.isnan(Running().step(2, 4, 0, 0)[1])


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 60)), min_size=1, max_size=8), st.integers(0, 9))
def test_as_long_as_nobody_leaves_the_sum_is_exact(prefills, decodes):
    """Against a simulation that knows each request."""
    running, lengths = Running(), []
    for requests, each in prefills:
        context, _ = running.step(requests, requests * each, len(lengths), len(lengths))
        lengths = [length + 1 for length in lengths] + [each] * requests
        assert context == sum(lengths)
    for _ in range(decodes):
        lengths = [length + 1 for length in lengths]
        assert running.step(0, 0, len(lengths), len(lengths)) == (sum(lengths), sum(lengths))


def annotation(name, start, end, *, kind="gpu_annotation", gpu=0):
    return {"process": 0, "kind": kind, "name": name, "start_ns": start, "end_ns": end, "gpu": gpu}


def test_a_dispatch_belongs_to_the_step_in_which_it_starts():
    spans = [
        annotation("execute_context_1(64)_generation_0(0)", 0, 40),
        annotation("execute_context_0(0)_generation_1(1)", 50, 90),
    ]
    rows = [row("a", 5, 10), row("a", 60, 70, grid_x=7), row("b", 41, 45)]
    recorded = capture(rows, spans=spans)
    found = step_context.add(metrics.group(recorded), recorded).set_index(["raw_name", "grid_x"])
    assert found.loc[("a", 7), list(step_context.COLUMNS[:5])].tolist() == [1, 1, 65, 65, "decode"]
    other = found.drop(index=("a", 7))
    assert other.loc["a", "step_context_tokens"].tolist() == [64]
    assert other.loc["b", "step_phase"].tolist() == [None]
    assert other.loc["b", "step_tokens"].isna().all()


def test_a_row_of_unlike_steps_has_means_and_no_phase():
    spans = [
        annotation("execute_context_1(64)_generation_0(0)", 0, 40),
        annotation("execute_context_0(0)_generation_1(1)", 50, 90),
    ]
    recorded = capture([row("a", 5, 10), row("a", 60, 70)], spans=spans)
    found = step_context.add(metrics.group(recorded), recorded)
    assert found.step_tokens.tolist() == [32.5]
    assert found.step_phase.tolist() == [None]


def test_a_mean_needs_nearly_all_its_dispatches():
    spans = [annotation("execute_context_1(64)_generation_0(0)", 0, 100)]
    recorded = capture([row("a", 5 + n, 6 + n) for n in range(8)] + [row("a", 200, 210)], spans=spans)
    found = step_context.add(metrics.group(recorded), recorded)
    assert found.step_tokens.isna().all()


def test_host_annotations_hold_what_was_launched_in_them():
    spans = [
        annotation("execute_context_0(0)_generation_2(2)", 0, 40, kind="annotation", gpu=None),
        {"process": 0, "kind": "api", "name": "launch", "start_ns": 10, "end_ns": 12, "correlation_id": 5},
        {"process": 0, "kind": "api", "name": "launch", "start_ns": 60, "end_ns": 62, "correlation_id": 6},
    ]
    rows = [row("in", 100, 110, correlation_id=5), row("out", 20, 30, correlation_id=6), row("none", 21, 22)]
    recorded = capture(rows, spans=spans)
    found = step_context.add(metrics.group(recorded), recorded).set_index("raw_name")
    assert found.step_sequences["in"] == 2
    assert found.step_sequences[["out", "none"]].isna().all()
    assert np.isnan(found.step_context_tokens["in"])


def test_without_annotations_nothing_is_known():
    recorded = capture([row("a", 5, 10)])
    found = step_context.add(metrics.group(recorded), recorded)
    assert set(GROUP_COLUMNS) <= set(found.columns)
    assert found[list(step_context.COLUMNS[:4])].isna().all(axis=None)
    assert found.step_phase.tolist() == found.step_context_source.tolist() == [None]


def test_vllm_with_plain_annotations(captures: Path):
    """Six requests of 300 tokens, four at a time, in graphs for 1, 2 and 4 sequences; one ends early."""
    found = _recorded(captures / "h200_vllm" / "gptq8_graph.kineto.json.gz")
    attention = found[found.raw_name == "kernel_unified_attention"].set_index(["grid_x", "grid_z"])
    known = attention.step_context_tokens.dropna().to_dict()
    assert known[640.0, 16.0] == pytest.approx(1223)  # ten of eleven steps: 1205 to 1241
    assert known[256.0, 16.0] == pytest.approx(612)
    assert known[9728.0, 1.0] == 300
    assert known[29312.0, 1.0] == 1201
    blocks = attention.step_tokens // 4 + attention.step_sequences  # BLOCK_Q is 4 with four queries a key
    whole = attention.step_tokens % 1 == 0
    assert (blocks[whole] * 128 == attention[whole].index.get_level_values("grid_x")).all()
    assert np.isnan(
        attention.loc[(29312.0, 1.0), "step_attended_pairs"]
    )  # of three prompts only the sum is told


def test_vllm_with_detailed_annotations_on_the_host(captures: Path):
    found = _recorded(captures / "torch_traces" / "vllm_decode_full_graph_execution.json.gz")
    attention = found[found.raw_name.str.startswith("kernel_unified_attention")]
    assert attention.step_context_tokens.tolist() == [55086, 55086]
    assert attention.step_sequences.tolist() == [32, 32]
    assert attention.step_phase.tolist() == ["decode", "decode"]


def _recorded(path: Path) -> pd.DataFrame:
    recorded = discovery.load([path])
    return step_context.add(metrics.group(recorded), recorded)


def test_rows_that_are_kept_apart_have_their_own_steps():
    spans = [
        annotation("execute_context_1(64)_generation_0(0)", 0, 40),
        annotation("execute_context_0(0)_generation_1(1)", 50, 90),
    ]
    recorded = capture([row("a", 5, 3), row("a", 60, 3)], spans=spans)
    placed = {"layer": (np.array([0, 1]), np.array(["first", "second"], object))}
    kernels = metrics.group(recorded, None, placed)
    found = step_context.add(kernels, recorded, placed).set_index("layer")
    assert found.step_tokens.to_dict() == {"first": 64, "second": 1}
