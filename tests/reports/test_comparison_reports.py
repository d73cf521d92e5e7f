"""A comparison as a page and as Markdown: the verdict first, each tier by itself, nothing invented."""

import io
import re

import pytest
from sample_analysis import HOSTILE_NAMES
from sample_comparison import (
    hostile_comparison,
    sample_comparison,
    sample_difference,
    sample_tier,
    several_comparison,
    unlike_comparison,
)

from rocscope.comparison.result import Comparison, Reason
from rocscope.reports import comparison_html, comparison_markdown, comparison_text, figures
from rocscope.reports import comparison_rows as rows
from rocscope.reports import comparison_words as words
from rocscope.reports.charts import changes
from rocscope.reports.charts.changes import Change

REPORTS = (comparison_html.REPORT, comparison_markdown.REPORT, comparison_text.REPORT)


def plain(text: str) -> str:
    return " ".join(figures.ordinary_spaces(re.sub(r"<[^>]*>|\*\*", " ", text)).split())


def headline(*tiers: object) -> str:
    return figures.ordinary_spaces(words.headline(sample_comparison(tiers=list(tiers))))


def test_a_gain_under_one_load_and_a_loss_under_another_both_show() -> None:
    assert words.headline(sample_comparison()) == (
        "Better at concurrency 2; worse at concurrency 6; no difference shown in the step."
    )
    for report in REPORTS:
        text = plain(report.render(sample_comparison()))
        assert "Better at concurrency 2; worse at concurrency 6" in text
        for part in ("52.90 tokens/s", "56.25 tokens/s", "+6.33 %", "to +8.33 %", "−7.12 %"):
            assert part in text, (report.name, part)


@pytest.mark.parametrize(
    ("tier", "said"),
    [
        (sample_tier("step", "period_s", 0.02, 0.507), "New is worse: a step takes 50.7 % longer."),
        (sample_tier("step", "period_s", 0.02, -0.33), "New is better: a step takes 33.0 % shorter."),
        (sample_tier("step", "period_s", 0.02, 0.001), "No difference is shown in the period of a step."),
        (
            sample_tier("concurrency 1", "output_tokens_per_s", 100.0, 0.1),
            "New is better: 10.0 % more tokens a second at concurrency 1.",
        ),
        (
            sample_tier("concurrency 1", "tpot_p99_s", 0.1, -0.1),
            "New is better: 10.0 % less time a token, 99th percentile at concurrency 1.",
        ),
    ],
)
def test_one_figure_is_told_in_words(tier: object, said: str) -> None:
    assert headline(tier) == said


def test_figures_of_one_load_that_disagree_are_better_and_worse() -> None:
    tiers = [
        sample_tier("concurrency 4", "output_tokens_per_s", 50.0, 0.1),
        sample_tier("concurrency 4", "ttft_s", 0.2, 0.3),
        sample_tier("step, 4 sequences", "period_s", 0.02, -0.1),
        sample_tier("concurrency 8", "tpot_s", 0.2, 0.001),
        sample_tier("concurrency 8", "output_tokens_per_s", 90.0, 0.1),
    ]
    assert headline(*tiers) == (
        "Better in steps of 4 sequences, at concurrency 8; better and worse at concurrency 4."
    )


@pytest.mark.parametrize("report", REPORTS)
def test_what_cannot_be_compared_says_what_differs_and_judges_nothing(report) -> None:
    text = report.render(unlike_comparison())
    assert "These recordings cannot be compared." in text
    assert "GPU: MI100 against MI210" in text and "5120" in text
    assert "Verdicts" not in text and "Kernels" not in text


@pytest.mark.parametrize("report", REPORTS)
def test_without_steps_there_is_no_verdict_and_times_are_of_the_recording(report) -> None:
    rows = [sample_difference("gemm", 1.0, 1.5, step_frac=None, step_low_frac=None, step_high_frac=None)]
    comparison = sample_comparison(
        tiers=[], families=rows, kernels=rows, gaps=[], times_of="recording", statistics=None,
        noise_floor_frac=None,
    )  # fmt: skip
    text = plain(report.render(comparison))
    assert "No verdict: the recordings have no steps and no load in common." in text
    assert "What changed in a step" not in text and "Of a base step" not in text.replace("Part", "")[:2000]
    assert "+50.0 %" in text


@pytest.mark.parametrize("report", REPORTS)
def test_every_recording_after_the_first_has_its_own_verdict(report) -> None:
    text = plain(report.render(several_comparison()))
    assert "New is better: a step takes 12.0 % shorter." in text
    assert "other/" in text and "hanged on purpose: gpu" in text


@pytest.mark.parametrize("report", REPORTS)
def test_reasons_forecasts_and_what_else_differs_are_told(report) -> None:
    text = plain(report.render(sample_comparison()))
    for part in (
        "communication −3.28 ms",
        "extrapolated",
        "vLLM: 0.10 against 0.11",
        "clocks: new ran 3.0 % lower"
        if report.name == "markdown"
        else "Clocks: new ran 3.0 % lower"
        if "Clocks: new" in text
        else "clocks: new ran 3.0 % lower",
        "2.00 to 4.00 %",
        "miss",
        "hit",
        "no kernel runs",
        "3 repeats",
    ):
        assert part in text, part


def test_forecasts_that_nobody_tried_are_folded_away_or_left_out() -> None:
    page = comparison_html.REPORT.render(sample_comparison())
    assert "1 that nobody worked on" in page
    assert page.index("kernel-fill is limited") < page.index("1 that nobody worked on")
    assert "timeline-idle" not in comparison_markdown.REPORT.render(sample_comparison())
    alone = sample_comparison(forecasts=[sample_comparison().forecasts[-1]])
    assert "None of them was tried" in comparison_html.REPORT.render(alone)
    assert "### Forecasts" not in comparison_markdown.REPORT.render(alone)


def test_hostile_text_stays_text() -> None:
    page = comparison_html.REPORT.render(hostile_comparison())
    own = re.sub(r"<script>.*?</script>", "", page, flags=re.S)
    assert "<img" not in own and "<script" not in own and "\x1b" not in own and "\u202e" not in own
    assert HOSTILE_NAMES[1].replace("'", "&#39;").replace("=", "=") in own
    text = comparison_markdown.REPORT.render(hostile_comparison())
    outside = re.sub(r"(`+).*?\1", "", text)
    assert "<script>" not in outside and "@everyone" not in outside and "\x1b" not in text


@pytest.mark.parametrize("width", [60, 80, 140])
def test_a_terminal_shows_whole_figures_in_its_width(width: int) -> None:
    from rich.console import Console

    for comparison in (sample_comparison(), several_comparison(), unlike_comparison(), hostile_comparison()):
        out = io.StringIO()
        comparison_text.show(comparison, Console(file=out, width=width))
        lines = out.getvalue().splitlines()
        assert max(map(len, lines)) <= width and not any(line.endswith(" ") for line in lines)
        assert "\x1b" not in out.getvalue() and "\u202e" not in out.getvalue()
        for tier in comparison.tiers if comparison.base["id"] == "base1" else ():
            base, new = (plain(words.amount(each, tier.unit)) for each in (tier.base, tier.new))
            assert f"{tier.verdict} {base} {new} {plain(figures.change(tier.change_frac))}" in plain(
                out.getvalue()
            )


def test_text_reports_say_as_much_as_each_other() -> None:
    """Each row of Markdown stands in the terminal's text with the same figures."""
    told = plain(comparison_text.REPORT.render(sample_comparison()))
    for table in (rows.tiers, rows.families, rows.phases, rows.kernels, rows.forecasts):
        found = table(sample_comparison())
        assert found.rows
        for name, verdict, *cells in found.rows:
            short = [plain(cell).replace(" % to ", " to ") for cell in cells]
            word = verdict.replace("no difference shown", "none shown") if found.of else verdict
            assert " ".join((word, *short)) in told, name


def test_several_recordings_are_told_apart_in_text() -> None:
    for report in (comparison_markdown.REPORT, comparison_text.REPORT):
        text = report.render(several_comparison())
        assert "New 1 of 2: Better at concurrency 2" in text and "New 2 of 2: New is better: a step" in text


def test_a_synthetic_side_is_said_on_the_first_line() -> None:
    for report in (comparison_markdown.REPORT, comparison_text.REPORT):
        first = report.render(sample_comparison()).splitlines()[0]
        assert "Base is synthetic, not recorded" in first
        recorded = {"id": "a", "provenance": "recorded", "sources": ["a/"]}
        text = report.render(sample_comparison(base=recorded, new=recorded))
        assert "not recorded" not in text


@pytest.mark.parametrize("report", REPORTS)
def test_warnings_of_a_side_are_counted_beside_it(report) -> None:
    base = {**sample_comparison().base, "warnings": ["truncated-file"]}
    text = plain(report.render(sample_comparison(base=base)))
    assert text.count("1 integrity warning") == 1


def test_kernels_of_one_name_are_told_apart_by_their_shape() -> None:
    shapes = (
        {"grid": [6144, 1, 1], "workgroup": [128, 1, 1]},
        {"grid": [1024, 1, 1], "workgroup": [128, 1, 1]},
    )
    kernels = [
        sample_difference("FillFunctor", None, 1e-3, match="new only", launch_shape=shape) for shape in shapes
    ]
    page = comparison_html.REPORT.render(sample_comparison(kernels=kernels))
    told = comparison_text.REPORT.render(sample_comparison(kernels=kernels))
    listed = comparison_markdown.REPORT.render(sample_comparison(kernels=kernels))
    for shape in ("grid 6144×1×1 workgroup 128×1×1", "grid 1024×1×1 workgroup 128×1×1"):
        assert f"· new only · {shape}" in page and f"FillFunctor  {shape}" in told
        assert f"| `FillFunctor` {shape} |" in listed
    assert 'data-find="fillfunctor  grid 6144' in page.replace("  fillfunctor", "")


def test_renamed_kernels_say_what_they_do() -> None:
    listed = comparison_markdown.REPORT.render(sample_comparison())
    assert "| `LLGemm1_kernel -> gemm_half_q_half` product after rms_norm_kernel |" in listed
    assert "product after rms_norm_kernel: LLGemm1_kernel" in comparison_text.REPORT.render(
        sample_comparison()
    )


def test_reasons_that_are_left_out_are_counted() -> None:
    told = {"about": "step", "evidence": ["a", "b", "c"], "basis": "measured"}
    many = [Reason(text=f"reason {number}", **told) for number in range(13)]
    for report in (comparison_markdown.REPORT, comparison_text.REPORT):
        text = report.render(sample_comparison(reasons=many)).replace("`", "")
        assert "reason 9" in text and "reason 10" not in text and "- 3 more in compare.json" in text
    text = comparison_markdown.REPORT.render(sample_comparison(reasons=many))
    assert "  - 1 more in `compare.json`" in text


def test_a_million_kernels_do_not_make_a_page_of_a_million_rows() -> None:
    rows = [sample_difference(f"kernel_{i}", 1e-3, 1e-3 + 1e-6 * i, match="same") for i in range(900)]
    other = sample_comparison(kernels=rows)
    page = comparison_html.REPORT.render(sample_comparison(kernels=rows, more=[other]))
    most = comparison_html.MAX_KERNELS + comparison_html.MAX_KERNELS_OF_OTHERS
    assert page.count('<tbody id="kernel') == most
    assert "500 kernels that changed less" in page and "kernel_899" in page
    assert len(page) < 3_000_000
    assert "888 more changed less" in comparison_markdown.REPORT.render(sample_comparison(kernels=rows))


def test_the_page_stands_under_the_same_policy() -> None:
    page = comparison_html.REPORT.render(sample_comparison())
    assert "default-src 'none'" in page.replace("&#39;", "'")
    assert "style=" not in page and "Plotly" not in page


@pytest.mark.parametrize(
    ("values", "ends"),
    [((0.507,), (-0.01, 0.6)), ((-0.93, 0.85), (-1.0, 1.0)), ((0.002,), (-0.01, 0.01)), ((), (-0.01, 0.01))],
)
def test_a_scale_has_round_ends_and_zero_in_it(values: tuple[float, ...], ends: tuple[float, float]) -> None:
    scale = changes.scale([Change(value, None, None) for value in values])
    assert (scale.low_frac, scale.high_frac) == pytest.approx(ends)
    assert 0 < scale.zero < 1


def test_an_interval_the_noise_floor_and_zero_are_drawn_where_they_are() -> None:
    scale, (drawn, unknown) = changes.draw(
        [Change(0.5, 0.4, 1.0, "worse", 0.1), Change(None, None, None, None)]
    )
    assert (scale.low_frac, scale.high_frac) == pytest.approx((-0.1, 1.0))
    assert drawn.mid == pytest.approx(0.6 / 1.1)
    assert drawn.left == pytest.approx(0.5 / 1.1) and drawn.width == pytest.approx(0.6 / 1.1)
    assert drawn.floor_left == pytest.approx(0) and drawn.floor_width == pytest.approx(0.2 / 1.1)
    assert drawn.kind == "worse"
    assert (unknown.mid, unknown.left, unknown.kind) == (None, None, "none")


def test_changes_are_written_with_their_sign() -> None:
    told = [figures.ordinary_spaces(figures.change(each)) for each in (0.5067, -0.032, 0.0, 3e-5, None)]
    assert told == ["+50.7 %", "−3.20 %", "±0 %", "~0 %", "–"]


def test_it_can_be_told_from_json_again() -> None:
    again = Comparison.model_validate_json(several_comparison().model_dump_json())
    assert comparison_html.REPORT.render(again) == comparison_html.REPORT.render(several_comparison())
