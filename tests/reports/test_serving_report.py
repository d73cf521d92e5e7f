"""Serving and phases in the reports: only what there is, each figure once, nothing invented."""

import pytest
from sample_analysis import empty_analysis, sample_analysis

import serving_recorded
from rocscope import serving_metrics
from rocscope.reports import figures, serving
from rocscope.reports.report import reports

TEXTS = ("html", "markdown", "terminal")
CEILING = {
    "of": "recorded decode steps",
    "sequences": 4.0,
    "weight_bytes": 15e9,
    "cache_bytes": 0.3e9,
    "bandwidth_bytes_per_s": 4.36e12,
    "bandwidth_basis": "achievable",
    "ceiling_tokens_per_s": 1139.4,
    "measured_tokens_per_s": 701.6,
    "measured_basis": "the recorded steps, profiler on",
    "reached_frac": 0.616,
}
LOAD = {
    "client_output_tokens": 4608,
    "duration_s": 4.0801,
    "client_output_tokens_per_s": 1129.4,
    "server_generation_tokens": 4608,
    "server_generation_tokens_per_s": 1129.4,
    "difference_frac": 0.0,
}


@pytest.fixture(scope="module")
def recorded():
    return serving_metrics.figures(serving_metrics.Scrapes.read(serving_recorded.recorded()))


def plain(name, analysis):
    return " ".join(figures.ordinary_spaces(reports()[name].render(analysis)).split())


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("make", [sample_analysis, empty_analysis])
def test_the_section_is_in_every_report_with_or_without_kernels(name, make, recorded):
    analysis = make().model_copy(update={"serving": {**recorded, "decode_ceiling": [CEILING]}})
    text = plain(name, analysis)
    assert "4,608 in 7.28 s" in text and "1,099 tokens/s (879 to 1,470) while it worked" in text
    assert "96 (96 length)" in text and "8 at most" in text
    assert "52.0 ms (40–60)" in text and "5.32 ms" in text and "≤ 10.0 ms" in text
    assert "15.3 GB a step of 4 sequences, at 4.36 TB/s (achievable) at most 1,139 tokens/s" in text
    assert "701.6 tokens/s by the recorded steps, profiler on, 61.6 % of it" in text


@pytest.mark.parametrize("name", TEXTS)
def test_without_figures_there_is_no_section(name):
    analysis = sample_analysis().model_copy(update={"serving": {}, "phases": [], "timeline": None})
    text = plain(name, analysis)
    assert "first token" not in text and "Phases" not in text
    assert not serving.present(analysis)
    assert serving.present(analysis.model_copy(update={"serving": {"tpot": {"statement": "a token is"}}}))


def test_a_load_between_two_scrapes_has_a_least_rate_alone(recorded):
    active = {**recorded["active"], "span_s": None, "generation_tokens_per_s": None}
    active["generation_tokens_per_s_high"] = None
    analysis = empty_analysis().model_copy(update={"serving": {**recorded, "active": active}})
    told = figures.ordinary_spaces(dict(serving.facts(analysis))["tokens made"])
    assert told.endswith("; at least 879.3 tokens/s while it worked")


def test_no_line_of_the_terminal_is_cut(recorded):
    analysis = empty_analysis().model_copy(update={"serving": recorded})
    lines = reports()["terminal"].render(analysis).splitlines()
    assert max(map(len, lines)) <= 80
    assert all(
        line.endswith(("s", ")")) for line in lines if line.startswith(("first token", "whole request"))
    )


def said(**given):
    return figures.ordinary_spaces(
        " ".join(serving.sentences(empty_analysis().model_copy(update={"serving": given})))
    )


def test_the_load_and_the_server_are_set_against_each_other():
    assert said(against_load=LOAD) == (
        "The load's clients counted 4,608 tokens in 4.08 s, 1,129 tokens/s; the server's tokens in that time "
        "are 1,129 tokens/s, 0 % apart."
    )
    other = {**LOAD, "server_generation_tokens": 4700, "server_generation_tokens_per_s": None}
    assert "the server made 4,700 in the window, others' or warm-up tokens among them" in said(
        against_load=other
    )


def test_what_profiling_cost_is_said_or_why_not():
    measured = {"overhead_frac": 0.1, "profiled_tokens_per_s": 900.0, "unprofiled_tokens_per_s": 1000.0}
    assert said(profiling_overhead=measured) == (
        "With the profiler on the load got 900.0 tokens/s, without it 1,000 tokens/s: 10.0 % less."
    )
    assert said(profiling_overhead={**measured, "overhead_frac": -0.02}).endswith("2.00 % more.")
    unknown = {"overhead_frac": None, "why_not": "not measured: the load was a command"}
    assert said(profiling_overhead=unknown) == "What profiling cost is not measured: the load was a command."


def test_a_ceiling_without_a_rate_or_a_cache_claims_neither():
    text = said(decode_ceiling=[{**CEILING, "cache_bytes": None, "reached_frac": None}])
    assert "weights alone are 15.0 GB" in text and text.endswith("at most 1,139 tokens/s.")


def test_saved_texts_have_no_rates_and_say_so(recorded):
    saved = {**recorded, "span_s": None, "active": None, "generation_tokens_per_s": None}
    analysis = empty_analysis().model_copy(update={"serving": saved})
    assert ("tokens made", "4,608") in serving.facts(analysis)
    assert "when they were taken is not known, so there are no rates" in " ".join(serving.sentences(analysis))


def test_quantiles_of_open_and_unknown_buckets():
    ends = {
        "p50_s": None,
        "p50_low_s": 80.0,
        "p50_high_s": None,
        "p90_s": 90.0,
        "p90_low_s": 80,
        "p90_high_s": 100,
    }
    found = {"latencies": {"ttft_s": {"mean_s": 70.0, "count": 3, **ends}}}
    (row,) = serving.latencies(empty_analysis().model_copy(update={"serving": found}))
    assert [figures.ordinary_spaces(cell) for cell in row] == [
        "first token", "70.0 s", "> 80.0 s", "90.0 s (80–100)", figures.UNKNOWN,
    ]  # fmt: skip
