"""Figures of a server: against what a real benchmark said of the same window, and worked out by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import serving_recorded
from rocscope import redaction_words, serving_metrics
from rocscope.serving_metrics import Histogram, Scrapes, figures, histogram, of_window

SECOND = 1_000_000_000


def scrapes(*rows, subject="server"):
    """Scrapes a second apart."""
    table = serving_recorded.samples([(at * SECOND, values) for at, values in enumerate(rows)], subject)
    found = Scrapes.read(table)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def recorded():
    return Scrapes.read(serving_recorded.recorded())


def test_tokens_and_rate_are_those_of_the_benchmark(recorded):
    bench = serving_recorded.bench()
    start = int(bench["start_s"] * SECOND)
    found = of_window(recorded, start, start + int(bench["duration"] * SECOND))
    assert found["generation_tokens"] == bench["total_output_tokens"] == 4608
    assert found["prompt_tokens"] == bench["total_input_tokens"]
    assert found["generation_tokens_per_s"] == pytest.approx(bench["output_throughput"], rel=1e-4)
    assert found["requests_per_s"] == pytest.approx(bench["request_throughput"], rel=1e-4)
    assert found["requests_finished"] == bench["completed"]


def test_a_window_beyond_the_scrapes_has_no_rate(recorded):
    first, last = int(recorded.times[0]), int(recorded.times[-1])
    assert of_window(recorded, first, last)["generation_tokens_per_s"] > 0
    late = of_window(recorded, first, last + SECOND)
    assert late["generation_tokens"] == 4608 and late["generation_tokens_per_s"] is late["span_s"] is None


def test_the_rate_while_active_is_bounded_by_what_scrapes_can_tell(recorded):
    bench, found = serving_recorded.bench(), figures(recorded)
    active = found["active"]
    low, high = active["generation_tokens_per_s_low"], active["generation_tokens_per_s_high"]
    assert low <= bench["output_throughput"] <= high
    assert low <= active["generation_tokens_per_s"] <= high
    assert active["generation_tokens_per_s"] == pytest.approx(bench["output_throughput"], rel=0.05)
    assert found["generation_tokens_per_s"] < low  # the window is longer than the load


def test_latencies_of_the_recording(recorded):
    """Of the server: the client's of that run include its own waiting, which is why they are longer."""
    bench, found = serving_recorded.bench(), figures(recorded)["latencies"]
    assert found["itl_s"]["count"] == 96 * 47 and found["ttft_s"]["count"] == 96
    assert found["itl_s"]["mean_s"] == pytest.approx(bench["mean_itl_ms"] / 1e3, abs=0.01)  # a bucket
    assert found["tpot_s"]["mean_s"] == pytest.approx(found["itl_s"]["mean_s"])  # requests of one length
    assert found["ttft_s"]["p50_low_s"] <= found["ttft_s"]["p50_s"] <= found["ttft_s"]["p50_high_s"]
    assert (found["ttft_s"]["p50_low_s"], found["ttft_s"]["p50_high_s"]) == (0.04, 0.06)
    assert found["ttft_s"]["mean_s"] < bench["mean_ttft_ms"] / 1e3
    # the first bucket ends at 10 ms: where in it the median lies is not claimed
    assert found["itl_s"]["p50_s"] is None and found["itl_s"]["p50_high_s"] == 0.01
    assert found["queue_s"]["mean_s"] < 1e-4 and found["queue_s"]["p99_s"] is None


def test_the_rest_of_the_recording(recorded):
    found = figures(recorded)
    assert found["requests_finished_by_reason"] == {"length": 96}
    assert found["preemptions"] == 0 and found["restarts"] == 0 and found["engines"] == 1
    assert found["requests_running"]["most"] == 8 and found["requests_waiting"]["most"] == 0
    assert 0 < found["kv_cache_used_frac"]["most"] < 0.01
    assert found["mean_request_generation_tokens"] == 48
    assert found["generation_tokens_per_step"] == pytest.approx(4608 / 590)
    assert found["prefix_cache_hit_frac"] == 0 and found["estimated_flops_per_gpu"] is None


def test_a_server_that_starts_anew_is_counted_from_then_on():
    found = figures(
        scrapes(
            {"generation_tokens": 900.0, "server_started_s": 5.0},
            {"generation_tokens": 1000.0, "server_started_s": 5.0},
            {"generation_tokens": 10.0, "server_started_s": 90.0},
            {"generation_tokens": 50.0, "server_started_s": 90.0},
        )
    )
    assert found["restarts"] == 1 and found["generation_tokens"] == 40 and found["span_s"] == 1
    # an hour later it may have made more tokens than before: its start tells
    found = figures(
        scrapes(
            {"generation_tokens": 10.0, "server_started_s": 5.0},
            {"generation_tokens": 50.0, "server_started_s": 90.0},
            {"generation_tokens": 55.0, "server_started_s": 90.0},
        )
    )
    assert found["restarts"] == 1 and found["generation_tokens"] == 5


def test_what_is_not_there_is_none_and_never_nothing():
    found = figures(scrapes({"requests_running": 1.0}, {"requests_running": 3.0}))
    assert found["generation_tokens"] is None and found["generation_tokens_per_s"] is None
    assert found["requests_finished"] is None and found["preemptions"] is None and found["active"] is None
    assert found["latencies"] == {} and found["kv_cache_used_frac"] is None
    assert found["requests_running"] == {"mean": 2, "most": 3}
    one = figures(scrapes({"generation_tokens": 7.0}))
    assert one["span_s"] is None and one["generation_tokens"] is None


def test_saved_texts_have_no_times_so_no_rates():
    found = figures(
        scrapes(
            {"generation_tokens": 7.0, "requests_running": 0.0}, {"generation_tokens": 9.0}, subject="saved:x"
        )
    )
    assert found["generation_tokens"] == 2 and found["generation_tokens_per_s"] is None
    assert found["requests_running"] is None and found["active"] is None
    two = serving_recorded.samples([(0, {"generation_tokens": 1.0})], "saved:x")
    other = serving_recorded.samples([(0, {"generation_tokens": 1.0})], "saved:y")
    import pyarrow as pa

    assert Scrapes.read(pa.concat_tables([two, other])) is None  # of which server is not told
    assert Scrapes.read(two.slice(0, 0)) is None


def test_work_from_the_first_scrape_to_the_last_is_the_span():
    found = figures(scrapes(*({"generation_tokens": 10.0 * at, "prompt_tokens": 0.0} for at in range(4))))
    assert found["active"]["span_s"] == 3 and found["active"]["generation_tokens_per_s"] == 10
    idle = figures(scrapes(*({"generation_tokens": 10.0, "prompt_tokens": 0.0} for _ in range(4))))
    assert idle["active"] is None and idle["generation_tokens"] == 0
    short = [{"generation_tokens": 10.0 * (at > 1), "prompt_tokens": 0.0} for at in range(4)]
    active = figures(scrapes(*short))["active"]
    assert (active["span_s"], active["span_low_s"], active["span_high_s"]) == (None, 0, 1)
    assert active["generation_tokens_per_s"] is active["generation_tokens_per_s_high"] is None
    assert active["generation_tokens_per_s_low"] == 10


def test_buckets_that_do_not_add_up_are_not_shown():
    broken = {"ttft_s_sum": 1.0, "ttft_s_count": 5.0, "ttft_s_bucket:1": 4.0, "ttft_s_bucket:inf": 3.0}
    zeros = dict.fromkeys(broken, 0.0)
    assert histogram(scrapes(zeros, broken), "ttft_s") is None
    assert histogram(scrapes(zeros, {**broken, "ttft_s_bucket:inf": 5.0}), "ttft_s").count == 5
    plain = {"ttft_s_sum": 1.0, "ttft_s_count": 5.0}
    found = histogram(scrapes(dict.fromkeys(plain, 0.0), plain), "ttft_s")
    assert found.mean == 0.2 and found.quantile(0.5) is None and found.bracket(0.5) == (0, math.inf)


BOUNDS = [0.01, 0.02, 0.04, 0.08, math.inf]


@given(st.lists(st.floats(0, 0.1), min_size=1, max_size=60), st.sampled_from(serving_metrics.QUANTILES))
def test_a_quantile_lies_in_its_bucket(values, share):
    places = np.searchsorted(BOUNDS, values, side="left")
    counts = np.bincount(places, minlength=len(BOUNDS)).astype(float)
    made = Histogram(np.array(BOUNDS), counts, math.fsum(values))
    rank = min(len(values) - 1, max(0, math.ceil(share * len(values) - 1e-9) - 1))
    low, high = made.bracket(share)
    assert low <= sorted(values)[rank] <= high
    found = made.quantile(share)
    assert found is None or low <= found <= high
    assert made.mean == pytest.approx(sum(values) / len(values))


def test_a_shared_capture_keeps_them():
    names = set(serving_recorded.recorded()["metric"].to_pylist())
    assert len(names) > 150 and all(redaction_words.METRICS.fullmatch(name) for name in names)
    assert not redaction_words.METRICS.fullmatch("requests_finished:my_secret")


def test_rows_of_a_capture_from_anywhere_are_no_more_than_they_can_be():
    odd = {"ttft_s_bucket:1.2.3": 1.0, "made_up": 1.0, "requests_finished:<b>": 1.0, "ttft_s_count": math.inf}
    table = serving_recorded.samples(
        [(0, {**odd, "preemptions": 0.0}), (SECOND, {**odd, "preemptions": 1.0})]
    )
    found = Scrapes.read(table)
    assert set(found.values) == {"ttft_s_bucket:1.2.3", "ttft_s_count", "preemptions"}
    assert figures(found)["preemptions"] == 1 and figures(found)["latencies"] == {}
    many = {f"ttft_s_bucket:{at}": 1.0 for at in range(3000)}
    assert Scrapes.read(serving_recorded.samples([(0, many)])) is None
    assert Scrapes.read(serving_recorded.samples([(0, {"made_up": 1.0})])) is None
