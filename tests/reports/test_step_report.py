"""The step table in every report: a column a rank, or least, mean and most; synthetic figures."""

import re

import pytest
from sample_analysis import HOSTILE_NAMES, empty_analysis, sample_analysis

from rocscope.findings import StepFamily, StepKernel, StepRank, StepTable
from rocscope.reports import figures, step_table
from rocscope.reports.report import reports

TEXTS = ("html", "markdown", "terminal")


def spread(values):
    return (max(values) - min(values)) / max(values) if len(values) > 1 else None


def made(ranks=4, **changes):
    """After the field notes: each rank is 0.02 ms slower than the one before in its GPTQ products."""
    gptq = [12.61e-3 + 0.02e-3 * rank for rank in range(ranks)]
    rope = [0.06e-3] * ranks
    whole = [first + second for first, second in zip(gptq, rope, strict=True)]
    mean = sum(whole) / ranks
    families = [
        StepFamily(
            family=name,
            time_s=times,
            calls=[calls] * ranks,
            mean_s=sum(times) / ranks,
            time_frac=sum(times) / ranks / mean,
            spread_frac=spread(times),
        )
        for name, times, calls in (("gptq_gemm", gptq, 256.0), ("rope", rope, 64.5))
    ]
    names = [
        ("gptq<8>", "void gptq<8>()", "gptq_gemm", 256, 45.4e-6),
        ("gather", "gather", "communication", 1, 8e-6),
    ]
    known = {
        "phase": "decode",
        "sequences": 1,
        "found_by": "decode steps of 1 sequence, as annotated",
        "ranks": [
            StepRank(
                label=f"rank {i}",
                gpu=i,
                rank=i,
                steps=20,
                kernel_s=each,
                busy_s=each,
                period_s=None,
                calls=320.25,
            )
            for i, each in enumerate(whole)
        ],
        "families": families,
        "mean_s": mean,
        "spread_frac": spread(whole),
        "kernels_of": "rank 0",
        "kernels": [
            StepKernel(kernel=kernel, raw_name=raw, family=family, calls=calls, mean_s=mean_s)
            for kernel, raw, family, calls, mean_s in names
        ],
        "reconciles": False,
        "reconciliation": "kernel time a step is more than a token takes: the two do not reconcile",
    }
    return StepTable(**{**known, **changes})


def shown(name, **changes):
    text = reports()[name].render(sample_analysis(**changes))
    return figures.ordinary_spaces(
        re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", text)) if name == "html" else text
    )


def test_ranks_stand_side_by_side_in_markdown():
    text = shown("markdown", step_table=made())
    assert "### One decode step, by family" in text
    for line in (
        "| bucket | rank 0 ms | rank 1 ms | rank 2 ms | rank 3 ms | mean ms | % of step | spread of ranks |",
        "| gptq_gemm | 12.61 | 12.63 | 12.65 | 12.67 | 12.64 | 99.5 % | 0.47 % |",
        "| rope | 0.06 | 0.06 | 0.06 | 0.06 | 0.06 | 0.47 % | 0 % |",
        "| all kernels | 12.67 | 12.69 | 12.71 | 12.73 | 12.70 | 100 % | 0.47 % |",
        "| calls (count) | 320 | 320 | 320 | 320 | 320 |  | 0 % |",
    ):
        assert line in text, line
    assert "Mean of 4 ranks, 12.70 ms of kernel time a step; ranks within 0.47 %." in text
    assert "as annotated; 20 whole steps each." in text
    assert "the two do not reconcile." in text
    assert "`gptq<8>` 256 calls × 45.4 µs; `gather` 1 call × 8.00 µs." in text


def test_more_ranks_than_columns_are_told_by_least_mean_and_most():
    layout = step_table.layout(made(ranks=8))
    assert [name for name, _ in layout.header] == ["bucket", "least", "mean", "most", "%", "spread"]
    assert layout.rows[0][1:4] == ["12.61", "12.68", "12.75"]
    assert all(len(row) == len(layout.header) for row in layout.rows)
    first = figures.ordinary_spaces(step_table.sentences(made(ranks=8))[0])
    assert first.startswith("Mean of 8 ranks, 12.74 ms of kernel time a step; ranks within 1.09 %")
    assert first.endswith(", from 12.67 ms on rank 0 to 12.81 ms on rank 7.")


def test_gpus_that_no_rank_names_are_not_called_ranks():
    table = made(ranks=2)
    gpus = [each.model_copy(update={"rank": None, "label": f"GPU {each.gpu}"}) for each in table.ranks]
    first = step_table.sentences(table.model_copy(update={"ranks": gpus}))[0]
    assert first.startswith("Mean of 2 GPUs, ") and "; GPUs within" in first


def test_one_gpu_has_one_column():
    table = made(ranks=1)
    layout = step_table.layout(table)
    assert layout.header == [("bucket", ""), ("rank 0", "ms"), ("%", "of step")]
    assert all(len(row) == 3 for row in layout.rows)
    assert step_table.sentences(table)[0].startswith("12.67")


@pytest.mark.parametrize("ranks", [1, 2, 4, 8])
def test_the_terminal_keeps_to_its_width(ranks):
    text = shown("terminal", step_table=made(ranks=ranks))
    assert "One decode step, by family" in text and "gptq<8>  256 calls × 45.4 µs" in text
    assert max(len(line) for line in text.splitlines()) <= 80


def test_the_page_has_the_table_under_a_heading():
    text = shown("html", step_table=made())
    assert "One decode step, by family" in text and "Rank 3 ms" in text
    assert "12.61 12.63 12.65 12.67 12.64 99.5 % 0.47 %" in text
    page = reports()["html"].render(sample_analysis(step_table=made()))
    assert 'href="#ranks"' in page
    assert 'data-label="rank 3 ms">12.67</td>' in page and 'data-label="rank 3">320</td>' in page
    assert 'href="#ranks"' not in reports()["html"].render(sample_analysis())


@pytest.mark.parametrize("name", TEXTS)
def test_why_there_is_no_table_is_one_line(name):
    reason = "there are no step annotations, and no sequence of kernels that repeats"
    text = " ".join(shown(name, step_table_missing=reason).split())
    assert f"One step by family is not shown: {reason}." in text
    assert "by family is not shown" not in shown(name)
    assert "by family is not shown" not in reports()[name].render(empty_analysis())


@pytest.mark.parametrize("name", TEXTS)
def test_a_step_of_which_nothing_says_that_it_decodes_is_not_called_so(name):
    text = shown(name, step_table=made(phase="step"))
    assert "One step, by family" in text and "One decode step" not in text


@pytest.mark.parametrize("name", TEXTS)
def test_hostile_text_stays_text(name):
    bad = HOSTILE_NAMES[0]
    base = made(ranks=2)
    table = base.model_copy(
        update={
            "found_by": bad,
            "reconciliation": bad,
            "notes": list(HOSTILE_NAMES),
            "families": [each.model_copy(update={"family": bad}) for each in base.families],
            "kernels": [
                each.model_copy(update={"kernel": hostile})
                for hostile in HOSTILE_NAMES
                for each in base.kernels[:1]
            ],
        }
    )
    text = reports()[name].render(sample_analysis(step_table=table))
    assert "\x1b" not in text and "\u202e" not in text
    if name == "html":
        assert "<script>window" not in text and "<img src=x" not in text
    if name == "markdown":
        outside = re.sub(r"(`+).*?\1", "", text)
        assert "<script>" not in outside and "@everyone" not in outside


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (1e-6, "<0.01"), (5e-6, "0.01"), (12.64e-3, "12.64"), (1.2345, "1,234.50")],
)
def test_milliseconds_have_two_decimals(value, text):
    assert figures.milliseconds(value) == text
