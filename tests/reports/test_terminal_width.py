"""The terminal's report at any width: no line is longer, no figure is cut, and a cut word says so."""

import io
import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from sample_analysis import empty_analysis, hostile_analysis, sample_analysis

from rocscope import pipeline
from rocscope.findings import Analysis
from rocscope.reports import figures, summary, terminal
from rocscope.reports.terminal_table import Column, Fitted

WORDS = st.text("abc ", min_size=0, max_size=30)
FIGURES = st.text("0123456789", min_size=0, max_size=7)


def shown(analysis: Analysis, width: int) -> list[str]:
    out = io.StringIO()
    terminal.show(analysis, Console(file=out, width=width))
    return figures.ordinary_spaces(out.getvalue()).splitlines()


def check(analysis: Analysis, width: int) -> list[str]:
    lines = shown(analysis, width)
    assert max(map(len, lines)) <= width
    assert not [line for line in lines if line != line.rstrip()], "blanks at the end of a line"
    assert not re.search(r"[\x00-\x1f\x7f-\x9f\u202e]", "".join(lines))
    for family in analysis.families[: terminal.MAX_FAMILIES] if analysis.kernels else ():
        row = _row(lines, figures.seconds(family.time_s), figures.percent(family.time_frac), family.family)
        words = row.split()
        for what in ("bound", "limiter"):
            full = figures.ordinary_spaces(summary.verdict(family, what))
            whole = full in row
            assert whole or any(w.endswith("…") and full.startswith(w[:-1]) for w in _joined(words)), row
    return lines


def _row(lines: list[str], time: str, share: str, name: str) -> str:
    start = f"{figures.ordinary_spaces(time)} {figures.ordinary_spaces(share)}"
    found = [line for line in lines if start in " ".join(line.split()) and line[:3] == name[:3]]
    assert found, (name, start)
    return found[0]


def _joined(words: list[str]) -> list[str]:
    """Words, and neighbours together: a verdict may have several."""
    return [" ".join(words[i:j]) for i in range(len(words)) for j in range(i + 1, min(i + 4, len(words)) + 1)]


@pytest.mark.parametrize("width", [50, 60, 70, 80, 120])
@pytest.mark.parametrize("analysis", [sample_analysis(), hostile_analysis(), empty_analysis()])
def test_made_up_analyses_fit(analysis: Analysis, width: int) -> None:
    lines = shown(analysis, width)
    assert max(map(len, lines)) <= width
    if analysis.kernels and "<" not in analysis.families[0].family:
        check(analysis, width)


def test_golden_of_a_narrow_terminal(golden: Callable[[str, str], None]) -> None:
    golden("reports/sample_synthetic.report.60.txt", "\n".join(shown(sample_analysis(), 60)) + "\n")


def test_a_column_that_does_not_fit_is_named() -> None:
    text = "\n".join(shown(sample_analysis(), 60))
    assert "too narrow for: occupancy" in text
    assert "too narrow for" not in "\n".join(shown(sample_analysis(), 80))


def test_names_of_kernels_fill_the_line() -> None:
    kernel = sample_analysis().kernels[0]
    long = kernel.model_copy(update={"kernel": "k" * 300})
    lines = shown(sample_analysis(kernels=[long]), 80)
    named = next(line for line in lines if line.startswith("kkk"))
    assert len(named) == 80 and "…" in named and named.endswith("M=1 N=8704 K=5120")


def test_a_sentence_with_a_very_long_name_stays_readable() -> None:
    long = {"problem": f"the {'n' * 300} is slow", "kernel": None}
    target = sample_analysis().targets[0].model_copy(update=long)
    lines = shown(sample_analysis(targets=[target]), 80)
    assert any(line.startswith("1. The nnn") and line.endswith("is slow") for line in lines)


@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 3), st.booleans()), min_size=1, max_size=7),
    st.integers(10, 120),
    st.data(),
)
def test_tables_fit_or_have_nothing_left_to_give(
    kinds: list[tuple[bool, int, bool]], width: int, data: st.DataObject
) -> None:
    kinds = [(kinds[0][0], 0, kinds[0][2]), *kinds[1:]]  # one column at least stays
    columns = [Column(f"h{at}", figure, whole, keep) for at, (figure, keep, whole) in enumerate(kinds)]
    cells = [FIGURES if figure else WORDS for figure, _, _ in kinds]
    rows = data.draw(st.lists(st.tuples(*cells).map(list), min_size=1, max_size=4))
    fitted = Fitted.to(width, columns, rows)
    total = sum(fitted.widths) + len(fitted.widths) - 1
    assert total <= width or not any(each.keep for each in fitted.columns)
    for column, room, *shown in zip(fitted.columns, fitted.widths, *fitted.rows, strict=True):
        if column.figure:
            assert room >= max(map(len, shown)), "a figure is cut"
    told = {*(each.header for each in fitted.columns), *fitted.left_out}
    assert told == {each.header for each in columns}
    lines = [fitted.head().plain, *(fitted.line(at).plain for at in range(len(rows)))]
    assert {len(line) for line in lines} == {total}


@pytest.mark.slow
@pytest.mark.captures
@pytest.mark.parametrize("width", [60, 80])
@pytest.mark.parametrize(
    "names",
    [
        ["h200_vllm/gptq8_graph.kineto.json.gz", "h200_vllm/gptq8_graph.telemetry.csv"],
        ["torch_traces/vllm_decode_full_graph_execution.json.gz"],
        ["h200/tp2_straggler_rank0.json.gz", "h200/tp2_straggler_rank1.json.gz"],
        ["omniperf/vcopy/MI100"],
    ],
)
def test_recorded_analyses_fit(captures, names: list[str], width: int) -> None:
    lines = check(pipeline.analyze(*(captures / name for name in names)), width)
    assert len(lines) < 260
