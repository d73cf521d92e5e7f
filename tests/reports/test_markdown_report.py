"""``report.md``: GitHub shows all of it as meant, however large or hostile the recording was."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_analysis import hostile_analysis, sample_analysis, sample_kernel

from rocscope import pipeline
from rocscope.findings import Analysis, NotEvaluated, Warned
from rocscope.reports import markdown
from rocscope.reports.text import short_words, ticked

ISSUE = 65_536  # characters that GitHub takes
BACKTICK = re.compile(r"(`+)(.+?)\1")


def render(analysis: Analysis) -> str:
    return markdown.REPORT.render(analysis)


def check(text: str) -> None:
    """Hold text against what GitHub needs: whole tables, closed folds with blank lines, closed fences."""
    lines = text.splitlines()
    assert len(text) < ISSUE and len(text.encode()) < ISSUE
    assert sum(line.startswith("```") for line in lines) % 2 == 0
    assert text.count("<details>") == text.count("</details>") == text.count("<summary>")
    for at, line in enumerate(lines):
        if line.startswith("<details>"):
            assert lines[at + 1] == "" and not line.count("\n"), "a blank line has to follow"
        if line == "</details>":
            assert lines[at - 1] == ""
        if re.fullmatch(r"\|( --[-:] \|)+", line):
            assert lines[at - 2] == "", "a table needs a blank line before it"
            width = _cells(lines[at - 1])
            row = at
            while row < len(lines) and lines[row].startswith("|"):
                assert _cells(lines[row]) == width, lines[row]
                row += 1


def _cells(line: str) -> int:
    return len(re.findall(r"(?<!\\)\|", line))


def monster(name: str) -> Analysis:
    """An analysis with more of everything, and longer, than any recording has."""
    base = hostile_analysis()
    kernels = [sample_kernel(kernel=f"{name}{at}", raw_name=name, evidence=[name] * 30) for at in range(500)]
    target = base.targets[0].model_copy(
        update={"problem": name, "advice": name, "evidence": [name] * 40, "confirm_by": name, "kernel": name}
    )
    return base.model_copy(
        update={
            "kernels": kernels,
            "targets": [target] * 60,
            "families": [each.model_copy(update={"family": name}) for each in base.families] * 9,
            "gpus": base.gpus * 64,
            "integrity": base.integrity.model_copy(
                update={"warnings": [Warned(code=name, message=name)] * 80}
            ),
            "not_evaluated": [NotEvaluated(rule=name, missing=name, collect_with=name)] * 90,
        }
    )


@pytest.mark.parametrize("analysis", [sample_analysis(), hostile_analysis()])
def test_made_up_reports_are_whole(analysis: Analysis) -> None:
    check(render(analysis))


@settings(max_examples=12)
@given(st.text(max_size=600))
def test_no_recording_makes_a_report_too_long(text: str) -> None:
    name = (text + "<|`_" * 2000)[:9000]
    found = render(monster(name))
    check(found)
    assert ("### What to change" in found and "Labels cover" in found) or "labelled share" in found


def test_what_does_not_fit_is_left_out_from_the_least_needed_and_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = render(sample_analysis())
    monkeypatch.setattr(markdown, "MAX_BYTES", len(whole.encode()) - 200)
    less = render(sample_analysis())
    assert "could not be judged" in whole and "could not be judged" not in less
    assert less.rstrip().endswith("*Sections are left out that an issue could not hold: see `report.html`.*")
    monkeypatch.setattr(markdown, "MAX_BYTES", 2600)
    least = render(sample_analysis())
    assert least.startswith(whole[:300]) and "### Where the time went" in least and "### Kernels" not in least


def test_the_answer_comes_first() -> None:
    heads = re.findall(r"^#+ (.+)$", render(sample_analysis()), re.M)
    assert heads[0].startswith("gptq_gemm takes 59.9 % of GPU kernel time")
    assert heads[1:5] == [
        "Where the time went",
        "What to change",
        "A token's time by family and phase",
        "Over time",
    ]


def test_a_step_of_one_rank_is_folded_beside_a_budget() -> None:
    assert "### Phases" not in render(sample_analysis())
    untold = [each.model_copy(update={"kernel_us_per_token": None}) for each in sample_analysis().phases]
    text = render(sample_analysis(phases=untold))
    assert "### Phases" in text and "A token's time" not in text


def test_words_that_are_too_long_are_cut_and_others_are_not() -> None:
    assert short_words(f"see {'x' * 99} now", 12) == "see xxxxxxxx…xxx now"
    assert ticked("run `a|b` now_", 20) == "run `a|b` now\\_"
    assert ticked("one ` alone", 20) == "one \\` alone"


@pytest.mark.captures
@pytest.mark.parametrize(
    "names",
    [
        ["h200_vllm/gptq8_graph.kineto.json.gz", "h200_vllm/gptq8_graph.telemetry.csv"],
        ["torch_traces/vllm_decode_full_graph_execution.json.gz"],
        ["h200/tp2_straggler_rank0.json.gz", "h200/tp2_straggler_rank1.json.gz"],
        ["omniperf/vcopy/MI100"],
    ],
)
def test_recorded_reports_are_whole(captures, names: list[str]) -> None:
    text = render(pipeline.analyze(*(captures / name for name in names)))
    check(text)
    assert len(text) < 30_000
