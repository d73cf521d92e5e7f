"""vLLM's /metrics of every version: real texts, names as they were, and text that is none."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rocscope
import serving_recorded
from rocscope import serving_metrics
from rocscope.collectors import serving
from rocscope.collectors.serving import Snapshot, looks_like
from rocscope.errors import InputError

LABELS = 'engine="0",model_name="m"'


def text(*lines):
    return "".join(f"{line}\n" for line in lines)


def test_a_recorded_text_has_all_that_is_read():
    _, last = serving_recorded.texts()[-1]
    found = Snapshot.parse(last)
    assert found.bad_lines == 0
    for name in (*serving_metrics.GAUGES, *serving_metrics.TOTALS, "engines", "server_started_s"):
        assert name in found.values
    assert found.values["generation_tokens"] == 4608 and found.values["engine_steps"] == 590
    assert found.values["requests_finished:length"] == 96 and found.values["itl_s_count"] == 4512
    assert found.values["ttft_s_bucket:0.04"] == 24 and found.values["ttft_s_bucket:inf"] == 96
    assert found.values["kv_cache_capacity_tokens"] == 4096 * 128


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        pytest.param(
            [
                f"vllm:gpu_cache_usage_perc{{{LABELS}}} 0.5",
                f"vllm:gpu_prefix_cache_queries_total{{{LABELS}}} 10",
                f"vllm:gpu_prefix_cache_hits_total{{{LABELS}}} 4",
                f"vllm:time_per_output_token_seconds_sum{{{LABELS}}} 3",
                f"vllm:time_per_output_token_seconds_count{{{LABELS}}} 100",
            ],
            {
                "kv_cache_used_frac": 0.5,
                "prefix_cache_queried_tokens": 10,
                "prefix_cache_hit_tokens": 4,
                "itl_s_sum": 3,
                "itl_s_count": 100,
            },
            id="0.9",
        ),
        pytest.param(
            [
                f"vllm:gpu_cache_usage_perc{{{LABELS}}} 0.5",
                f"vllm:kv_cache_usage_perc{{{LABELS}}} 0.25",
                f"vllm:time_per_output_token_seconds_count{{{LABELS}}} 100",
                f"vllm:inter_token_latency_seconds_count{{{LABELS}}} 7",
                f"vllm:request_time_per_output_token_seconds_count{{{LABELS}}} 5",
            ],
            {"kv_cache_used_frac": 0.25, "itl_s_count": 7, "tpot_s_count": 5},
            id="0.11, both",
        ),
        pytest.param(
            [f"vllm:prompt_tokens{{{LABELS}}} 5", 'vllm:request_success{finished_reason="stop"} 2'],
            {"prompt_tokens": 5, "requests_finished:stop": 2},
            id="counters without _total",
        ),
    ],
)  # fmt: skip
def test_names_changed(lines, expected):
    """Names as vLLM's loggers of these versions have them (set differences of their sources)."""
    assert Snapshot.parse(text("vllm:num_requests_running 1", *lines)).values == {
        "requests_running": 1,
        "engines": 1,
        **expected,
    }


def test_engines_are_summed_and_their_caches_averaged():
    lines = [
        f'vllm:{name}{{engine="{engine}",model_name="m"}} {value + engine}'
        for engine in (0, 1)
        for name, value in (
            ("num_requests_running", 3),
            ("generation_tokens_total", 100),
            ("kv_cache_usage_perc", 0),
        )
    ]
    lines += [f'vllm:time_to_first_token_seconds_bucket{{engine="{e}",le="0.1"}} 5' for e in (0, 1)]
    lines += [f'vllm:time_to_first_token_seconds_count{{engine="{e}"}} 6' for e in (0, 1)]
    lines += [f'vllm:cache_config_info{{engine="{e}",num_gpu_blocks="10",block_size="16"}} 1' for e in (0, 1)]
    found = Snapshot.parse(text(*lines)).values
    assert found["engines"] == 2 and found["requests_running"] == 7 and found["generation_tokens"] == 201
    assert found["kv_cache_used_frac"] == 0.5
    assert found["ttft_s_bucket:0.1"] == 10 and found["ttft_s_count"] == 12
    assert found["kv_cache_capacity_tokens"] == 320


def test_lines_that_are_no_samples_are_counted_and_the_rest_used():
    found = Snapshot.parse(
        text(
            "vllm:num_requests_running 1",
            "vllm:num_requests_running 2",  # twice
            'vllm:generation_tokens_total{engine="0} 5',
            'vllm:prompt_tokens_total{engine="0"} many',
            "vllm:num_requests_waiting NaN",
            "vllm:num_preemptions_total -1",
            'vllm:request_success_total{finished_reason="<script>"} 3',
            'vllm:cache_config_info{num_gpu_blocks="None",block_size="16"} 1',
            f'vllm:kv_cache_usage_perc{{x="{"y" * serving.MAX_LINE}"}} 0.5',
            "something_else{ nothing",  # of no known name: not looked at
        )
    )
    assert found.bad_lines == 6
    assert found.values == {"requests_running": 1, "engines": 1, "requests_finished:other": 3}


def test_text_that_is_not_of_vllm_is_refused():
    with pytest.raises(InputError, match="no metric of vLLM"):
        Snapshot.parse("up 1\n")
    with pytest.raises(InputError, match="no metric of vLLM"):
        Snapshot.parse("vllm:num_requests_running\n")
    with pytest.raises(InputError, match="more than 16 MiB"):
        Snapshot.parse("#" * (serving.MAX_BYTES + 1))


def test_no_more_lines_are_parsed_than_there_can_be(monkeypatch):
    monkeypatch.setattr(serving, "MAX_LINES", 3)
    lines = [f'vllm:generation_tokens_total{{engine="{at}"}} 1' for at in range(5)]
    found = Snapshot.parse(text(*lines))
    assert found.values["generation_tokens"] == 3 and found.bad_lines == 2


NAMES = sorted(serving._WANTED)
ODD = ['{engine="0"}', '{le="+Inf"}', '{le="x"}', "{", "}", '{a="\\', " ", " 1", " 1e400", " -0", "="]
PIECES = st.one_of(st.sampled_from(ODD), st.text(max_size=8))


@settings(max_examples=150)
@given(st.lists(st.tuples(st.sampled_from(NAMES), st.lists(PIECES, max_size=4)), max_size=8))
def test_any_text_is_read_or_refused(parts):
    lines = [name + "".join(rest) for name, rest in parts]
    try:
        found = Snapshot.parse("\n".join(["vllm:num_requests_waiting 2", *lines]))
    except InputError:
        return
    assert all(value >= 0 for value in found.values.values())


def test_saved_texts_beside_a_recording_are_its_serving_figures(captures):
    folder = captures / "h200_vllm"
    analysis = rocscope.analyze(
        folder / "fp16_graph.kineto.json.gz",
        folder / "fp16_graph.metrics_after.txt",
        folder / "fp16_graph.metrics_before.txt",
        model=folder / "fp16_config.json",
    )
    found = analysis.serving
    # the load around which they were taken: 3 and 48 requests, 128 tokens each (fp16_graph.load.json)
    assert found["generation_tokens"] == 51 * 128 and found["requests_finished"] == 51
    assert found["prompt_tokens"] == 51 * 512 and found["mean_request_prompt_tokens"] == 512
    assert found["generation_tokens_per_s"] is None
    mean = (3 * 0.7577855587005615 + 48 * 1.0330384522676468) / 51
    assert found["latencies"]["e2e_s"]["mean_s"] == pytest.approx(mean, rel=0.02)  # of the clients
    assert [each["format"] for each in analysis.capture.sources].count("server-metrics") == 2


def test_a_text_whose_name_tells_nothing_is_refused(tmp_path):
    (tmp_path / "metrics.txt").write_text(serving_recorded.texts()[0][1])
    with pytest.raises(InputError, match="nothing says of when"):
        rocscope.load(tmp_path / "metrics.txt")
    (tmp_path / "metrics.before.txt").write_text("# TYPE vllm:x gauge\nvllm:other{} 1\n")
    with pytest.raises(InputError, match=r"metrics\.before\.txt: no metric of vLLM"):
        rocscope.load(tmp_path / "metrics.before.txt")


def test_texts_are_told_by_their_content():
    assert looks_like(serving_recorded.texts()[0][1][: 1 << 16])
    assert not looks_like("vllm serve MODEL\n") and not looks_like("# TYPE up gauge\nup 1\n")
