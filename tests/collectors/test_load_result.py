"""Results of loads as files: beside a recording, alone, several of one run, and what is none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocscope import load_samples
from rocscope.collectors.discovery import load, recognise
from rocscope.errors import InputError, RocscopeError
from rocscope.traffic import level, per_request

PLAIN = [
    {
        "concurrency": 1,
        "requests": 3,
        "input": 512,
        "output": 128,
        "wall_s": 2.0,
        "output_tokens_per_s": 192.0,
    },
    {"concurrency": 4, "requests": 8, "input": 512, "output": 128, "output_tokens_per_s": 500.0},
]
BENCH = {
    "max_concurrency": 2,
    "completed": 3,
    "failed": 1,
    "duration": 3.0,
    "output_throughput": 10.0,
    "request_rate": "inf",
    "mean_ttft_ms": 20.0,
    "p99_ttft_ms": 30.0,
    "ttfts": [0.01, 0.02, 0.0, 0.03],
    "itls": [[0.1, 0.1], [0.2, 0.2], [], [0.3]],
    "output_lens": [3, 3, 0, 2],
    "errors": ["", "", "timed out", ""],
}


def written(path: Path, value: object) -> Path:
    path.write_text(json.dumps(value))
    return path


def levels(path: Path) -> list[dict[str, object]]:
    found = load([path]).manifest.load
    assert found is not None and found.get("profiled") is None and found.get("unprofiled") is None
    return list(found["beside"]["levels"])


def test_a_plain_list_gives_a_level_an_object(tmp_path: Path) -> None:
    first, second = levels(written(tmp_path / "run.load.json", PLAIN))
    assert (first["concurrency"], first["output_tokens_per_s"], first["duration_s"]) == (1, 192.0, 2.0)
    assert (first["output_tokens"], first["prompt_length"], first["output_length"]) == (384.0, 512, 128)
    assert (second["concurrency"], second["duration_s"], second["output_tokens"]) == (4, None, None)


def test_vllms_benchmark_with_single_requests(tmp_path: Path) -> None:
    made = load([written(tmp_path / "bench.json", BENCH)])
    (only,) = made.manifest.load["beside"]["levels"]
    assert (only["concurrency"], only["requests"], only["failed"], only["rate_per_s"]) == (2, 3, 1, None)
    assert only["ttft_s"] == {"mean": 0.02, "p50": None, "p90": None, "p99": 0.03}
    found = load_samples.of(made.samples, "beside", 0)
    assert found["ttft_s"].tolist() == [0.01, 0.02, 0.03]
    assert found["e2e_s"].tolist() == pytest.approx([0.21, 0.42, 0.33])
    assert found["tpot_s"].tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert load_samples.of(made.samples, "beside", 1) == {}


def test_our_generators_single_requests() -> None:
    told = {"per_request": {"ttft_s": [0.1, "x", None, 0.2], "e2e_s": [], "other": [1.0]}}
    assert per_request.of_level(told) == {"ttft_s": [0.1, 0.2]}


def test_recorded_by_vllm_single_requests_agree_with_its_own_means(captures: Path) -> None:
    made = load([captures / "vllm" / "bench_serve_result.json"])
    (only,) = made.manifest.load["beside"]["levels"]
    found = load_samples.of(made.samples, "beside", 0)
    for name in ("ttft_s", "tpot_s", "e2e_s"):
        assert found[name].mean() == pytest.approx(only[name]["mean"], rel=1e-6), name


def test_several_files_are_several_levels_or_the_same_again(tmp_path: Path) -> None:
    written(tmp_path / "c1.json", PLAIN[:1])
    written(tmp_path / "c4.json", PLAIN[1:])
    written(tmp_path / "c4_again.json", BENCH)
    found = load([tmp_path])
    assert [each["concurrency"] for each in found.manifest.load["beside"]["levels"]] == [1, 4, 2]
    assert len(load_samples.of(found.samples, "beside", 2)["ttft_s"]) == 3


def test_latencies_have_many_names() -> None:
    told = {
        "output_tokens_per_s": 5,
        "tpot_ms": 37.17,
        "p99_latency_s": 2.0,
        "median_itl_ms": 4,
        "ttft_s": 0.5,
    }
    found = level.read(told)
    assert found["tpot_s"]["mean"] == pytest.approx(0.03717)
    assert (found["e2e_s"]["p99"], found["itl_s"]["p50"], found["ttft_s"]["mean"]) == (2.0, 0.004, 0.5)


@pytest.mark.parametrize(
    "text",
    [
        '{"output_tokens_per_s": ',  # cut
        '{"output_tokens_per_s": "fast"}',
        '[{"output_tokens_per_s": null}, 5]',
        '{"kind": "builtin", "levels": 5, "output_throughput": "x" }x',
    ],
)
def test_what_is_no_result_is_said(tmp_path: Path, text: str) -> None:
    path = tmp_path / "run.load.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"run\.load\.json"):
        load([path])


def test_a_trace_or_a_report_that_names_tokens_is_no_load(tmp_path: Path) -> None:
    trace = {"schemaVersion": 1, "traceEvents": [{"name": "output_tokens_per_s"}], "output_tokens_per_s": 5}
    assert getattr(recognise(written(tmp_path / "a.json", trace)), "name", None) != "load-result"
    report = {"schema_version": "1", "serving": {"output_tokens_per_s": 5}}
    assert recognise(written(tmp_path / "b.json", report)) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["concurrency", "output_tokens_per_s", "requests", "wall_s", "ttfts", "itls", "errors"]
            )
            | st.text(max_size=4),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)


@given(JSON)
def test_whatever_the_file_holds_gives_levels_or_an_error(
    tmp_path_factory: pytest.TempPathFactory, value
) -> None:
    path = tmp_path_factory.mktemp("load") / "x.json"
    try:
        found = levels(written(path, value))
    except RocscopeError:
        return
    assert found
    for each in found:
        numbers = [value for value in each.values() if not isinstance(value, dict)]
        assert all(
            value is None or (isinstance(value, int | float) and abs(value) < 1e40) for value in numbers
        )
