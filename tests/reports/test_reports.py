"""All formats are made of one analysis: they agree, open with the answer, and invent nothing."""

import csv
import io
import json
import math
import re
from collections.abc import Callable

import pytest
from rich.console import Console
from sample_analysis import (
    HOSTILE_NAMES,
    empty_analysis,
    hostile_analysis,
    sample_analysis,
    sample_capture,
    sample_families,
    sample_kernel,
    sample_target_many,
)

from rocscope.findings import Analysis
from rocscope.reports import figures, palette, summary, terminal
from rocscope.reports.report import Report, reports

TEXTS = ("html", "markdown", "terminal")


def render(name: str, analysis: Analysis) -> str:
    return reports()[name].render(analysis)


def plain(text: str) -> str:
    return figures.ordinary_spaces(text)


def test_every_format_is_found_with_its_name_help_and_file() -> None:
    found = reports()
    assert set(found) == {"csv", "html", "json", "markdown", "terminal"}
    assert all(isinstance(report, Report) and report.help for report in found.values())
    assert found["json"].filename == "analysis.json"
    assert found["html"].filename == "report.html"
    assert found["markdown"].filename == "report.md"
    assert found["csv"].filename == "kernels.csv"


@pytest.mark.parametrize("name", ["markdown", "terminal", "csv"])
def test_golden(name: str, golden: Callable[[str, str], None]) -> None:
    golden(f"reports/sample_synthetic.{reports()[name].filename}", render(name, sample_analysis()))


def test_json_is_the_contract_unrounded() -> None:
    analysis = sample_analysis()
    assert Analysis.model_validate_json(render("json", analysis)) == analysis


def test_json_writes_nan_as_null() -> None:
    analysis = sample_analysis(kernels=[sample_kernel(mean_ns=math.nan, bandwidth_frac=math.inf)])
    kernel = json.loads(render("json", analysis))["kernels"][0]
    assert kernel["mean_ns"] is None
    assert kernel["bandwidth_frac"] is None


def test_the_formats_agree_on_every_family_and_kernel() -> None:
    analysis = sample_analysis()
    texts = {name: plain(render(name, analysis)) for name in TEXTS}
    for family in analysis.families:
        for shown in (figures.seconds(family.time_s), figures.percent(family.time_frac)):
            assert all(plain(shown) in text for text in texts.values()), (family.family, shown)
    rows = list(csv.DictReader(io.StringIO(render("csv", analysis))))
    assert len(rows) == len(analysis.kernels)
    for kernel, row in zip(analysis.kernels, rows, strict=True):
        assert float(row["mean_ns"]) == kernel.mean_ns
        assert row["bandwidth_frac"] == ("" if kernel.bandwidth_frac is None else str(kernel.bandwidth_frac))
        assert (row["bound"], row["limiter"]) == (kernel.bound, kernel.limiter)
        for shown in (figures.nanoseconds(kernel.mean_ns), figures.percent(kernel.bandwidth_frac)):
            assert all(plain(shown) in text for text in texts.values()), (kernel.kernel, shown)
    for target in analysis.targets:
        if target.expected_gain:
            parts = (target.expected_gain.low_frac, target.expected_gain.mid_frac)
            assert all(plain(figures.percent(part)) in text for text in texts.values() for part in parts)


@pytest.mark.parametrize("name", TEXTS)
def test_not_recorded_is_said_before_anything_else(name: str) -> None:
    replayed = sample_analysis(capture=sample_capture(provenance="replayed", provenance_note="from an H200"))
    text = render(name, replayed)
    body = text[text.index("<body>") :] if name == "html" else text
    words = re.sub(r"<[^>]*>|[>*]", "", body).strip()
    assert words.startswith("Device side replayed from an H200. Nothing ran on a GPU here.")
    assert "Device side" not in render(
        "terminal", sample_analysis(capture=sample_capture(provenance="recorded"))
    )


@pytest.mark.parametrize(
    ("provenance", "note", "line"),
    [
        ("replayed", "", "Device side replayed from a saved capture. Nothing ran on a GPU here."),
        ("synthetic", "", "Synthetic: no GPU was measured."),
        ("imagined", "", "Device side is imagined, not recorded."),
        ("recorded", "x", ""),
    ],
)
def test_provenance_lines(provenance: str, note: str, line: str) -> None:
    assert summary.provenance(sample_capture(provenance=provenance, provenance_note=note)) == line


@pytest.mark.parametrize("name", TEXTS)
def test_without_kernels_nothing_is_invented(name: str) -> None:
    text = render(name, empty_analysis())
    assert "no GPU kernels in this recording" in text
    assert "What to change" not in text
    assert "Where the time went" not in text
    assert not re.search(
        r"\d\s*%", re.sub(r"<style>.*?</style>", "", plain(text), flags=re.S).split("<body>")[-1]
    )


def test_csv_without_kernels_is_a_header() -> None:
    assert render("csv", empty_analysis()).count("\n") == 1


def test_untimed_kernels_get_no_share() -> None:
    families = [f.model_copy(update={"time_s": None, "time_frac": None}) for f in sample_families()]
    kernel = sample_kernel(time_s=None, time_frac=None, mean_ns=None)
    analysis = sample_analysis(families=families, kernels=[kernel], targets=[], phases=[], timeline=None)
    assert (
        summary.headline(analysis)
        == "The kernels in this recording carry no times; only their counts are known."
    )
    assert summary.kernel_time_s(analysis) is None
    for name in TEXTS:
        text = render(name, analysis)
        assert "carry no times" in text
        assert "Nothing stands out" in text
        assert not re.search(r"\b0\s[mµn]?s\b", plain(text.split("<body>")[-1].split("<script")[0]))


@pytest.mark.parametrize("analysis", [sample_analysis(), hostile_analysis(), empty_analysis()])
def test_terminal_fits_80_columns_and_has_no_controls(analysis: Analysis) -> None:
    text = render("terminal", analysis)
    assert max(len(line) for line in text.splitlines()) <= 80
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", text)


def test_terminal_takes_names_literally() -> None:
    kernel = sample_kernel(kernel="[bold]k[/bold] [link=x]")
    assert "[bold]k[/bold]" in render("terminal", sample_analysis(kernels=[kernel]))


def test_terminal_colours_only_terminals(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def shown(**options: object) -> str:
        out = io.StringIO()
        terminal.show(sample_analysis(), Console(file=out, width=80, **options))  # type: ignore[arg-type]
        return out.getvalue()

    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[36m" in shown(force_terminal=True)
    assert "\x1b" not in shown()
    monkeypatch.setenv("NO_COLOR", "1")
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", shown(force_terminal=True))
    terminal.show(sample_analysis())
    assert "gptq_gemm takes 59.9" in capsys.readouterr().out


def test_a_wide_terminal_shows_more_of_the_name() -> None:
    out = io.StringIO()
    terminal.show(sample_analysis(), Console(file=out, width=140))
    assert "gemm_half_q_half_gptq_8bit_kernel<true, 1> " in out.getvalue()


@pytest.mark.parametrize("width", [50, 60, 70])
def test_a_narrow_terminal_cuts_no_figure(width: int) -> None:
    out = io.StringIO()
    analysis = sample_analysis()
    terminal.show(analysis, Console(file=out, width=width))
    text = out.getvalue().replace("\N{NO-BREAK SPACE}", " ")
    lines = [line.split("  ") for line in text.splitlines()]
    assert max(map(len, text.splitlines())) <= width
    pairs = [(figures.seconds(each.time_s), each.time_frac) for each in analysis.families[:3]]
    pairs += [(figures.nanoseconds(each.mean_ns), each.time_frac) for each in analysis.kernels[:3]]
    for time, share in pairs:
        shown = f"{time} {figures.percent(share)}".replace("\N{NO-BREAK SPACE}", " ")
        assert any(shown in " ".join(" ".join(line).split()) for line in lines), shown


def test_long_lists_are_cut_and_say_so() -> None:
    base = sample_analysis()
    many = sample_analysis(
        kernels=base.kernels * 10,
        targets=sample_target_many(8),
        families=base.families * 2,
        integrity=base.integrity.model_copy(update={"warnings": base.integrity.warnings * 20}),
    )
    text, short = render("markdown", many), render("terminal", many)
    assert "35 more kernels are in `kernels.csv` and `analysis.json`." in text
    assert "3 more targets are in `analysis.json`." in text
    assert "12 smaller families left out." in text
    assert "10 more warnings in `analysis.json`" in text
    assert "48 more kernels left out" in short
    assert "12 smaller families left out" in short
    assert "3 more targets left out" in short
    assert "12 more warnings left out" in short


def test_markdown_is_inert() -> None:
    text = render("markdown", hostile_analysis())
    fenced = re.sub(r"^```text\n[^`]*\n```$", "", text, flags=re.M)
    outside = re.sub(r"(`+)(.+?)\1", "", fenced)
    assert "<script" not in outside
    assert "<img" not in outside
    assert not re.search(r"@\w", outside)
    assert not re.search(r"(?<!\\)\[link(?<!\\)\]\(", outside)
    cells = {len(re.findall(r"(?<!\\)\|", line)) for line in text.splitlines() if line.startswith("| `")}
    assert len(cells) == 1, "a pipe in a name added a cell"


def test_csv_cells_cannot_be_formulas() -> None:
    rows = list(csv.reader(io.StringIO(render("csv", hostile_analysis()))))
    assert len(rows) == 1 + len(HOSTILE_NAMES)
    assert all(cell[:1] not in set("=+@\t\r") for row in rows for cell in row)
    assert rows[2][0] == "'" + HOSTILE_NAMES[1]


def test_a_family_has_one_colour_everywhere() -> None:
    assert len(set(palette.COLOURS.values())) == len(palette.COLOURS)
    assert palette.colour("gptq_gemm") == palette.COLOURS["gptq_gemm"]
    assert palette.colour("something new") == palette.colour("something new")


def test_first_target_needs_a_gain() -> None:
    targets = [t for t in sample_analysis().targets if t.expected_gain is None]
    assert "can be estimated" in summary.first_target(sample_analysis(targets=targets))
