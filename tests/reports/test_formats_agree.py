"""Every format shows the same figures: those of the analysis, at the precision in which it writes them."""

from collections.abc import Callable
from pathlib import Path

import headlines
import pytest

from rocscope import pipeline
from rocscope.exports.export import exports
from rocscope.findings import Analysis, Warned
from rocscope.reports.report import reports

RECORDINGS: dict[str, tuple[list[str], str | None]] = {
    "a decoder in graphs": (["h200/kineto_fp16_graph.json.gz"], "h200/fp16_config.json"),
    "a vLLM server": (
        ["h200_vllm/gptq8_graph.kineto.json.gz", "h200_vllm/gptq8_graph.telemetry.csv"],
        "h200_vllm/gptq8_config.json",
    ),
    "a trace of an MI300X": (["torch_traces/vllm_decode_full_graph_execution.json.gz"], None),
    "counters of an MI100": (["omniperf/vcopy/MI100"], None),
    "two ranks, one late": (["h200/tp2_straggler_rank0.json.gz", "h200/tp2_straggler_rank1.json.gz"], None),
}


def shown(recording: str, captures: Path, folder: Path) -> tuple[Analysis, dict[str, headlines.Headlines]]:
    """Analyse a recording, and read the headlines out of every format of it."""
    names, model = RECORDINGS[recording]
    capture = pipeline.load(*(captures / name for name in names))
    options = pipeline.AnalyzeOptions(model=captures / model if model else None)
    analysis = pipeline.analyze_capture(capture, options)
    target = folder / "trace.json"
    exports()["perfetto"].write(capture, target, analysis)
    texts = {name: reports()[name].render(analysis) for name in headlines.READERS if name != "perfetto"}
    texts["perfetto"] = target.read_text()
    return analysis, {name: read(texts[name]) for name, read in headlines.READERS.items()}


def held(found: dict[str, headlines.Headlines], truth: Analysis) -> dict[str, list[str]]:
    """What each format says otherwise than the contract of ``truth``."""
    contract = headlines.from_json(reports()["json"].render(truth))
    return {name: headlines.disagreements(name, each, contract) for name, each in found.items()}


def test_every_format_is_held_against_the_contract() -> None:
    assert set(headlines.READERS) == {*reports(), "perfetto"} - {"json"}


@pytest.mark.captures
@pytest.mark.parametrize("recording", RECORDINGS)
def test_formats_say_what_the_analysis_says(captures: Path, recording: str, tmp_path: Path) -> None:
    analysis, found = shown(recording, captures, tmp_path)
    assert held(found, analysis) == {name: [] for name in headlines.READERS}


def _family(analysis: Analysis) -> Analysis:
    """The first family's share by one in the third digit."""
    first, *rest = analysis.families
    changes = {name: (getattr(first, name) or 0) * 1.01 for name in ("time_s", "time_frac")}
    return analysis.model_copy(update={"families": [first.model_copy(update=changes), *rest]})


def _gain(analysis: Analysis) -> Analysis:
    first, *rest = analysis.targets
    assert first.expected_gain is not None
    low = first.expected_gain.low_frac * 1.02
    gain = first.expected_gain.model_copy(update={"low_frac": low})
    return analysis.model_copy(update={"targets": [first.model_copy(update={"expected_gain": gain}), *rest]})


def _integrity(analysis: Analysis, **changes: object) -> Analysis:
    return analysis.model_copy(update={"integrity": analysis.integrity.model_copy(update=changes)})


def _labelled(analysis: Analysis) -> Analysis:
    return _integrity(analysis, labelled_time_frac=(analysis.integrity.labelled_time_frac or 0) * 0.99)


def _warnings(analysis: Analysis) -> Analysis:
    return _integrity(analysis, warnings=[*analysis.integrity.warnings, Warned(code="x", message="y")])


def _busy(analysis: Analysis) -> Analysis:
    gpus = [each.model_copy(update={"busy_frac": (each.busy_frac or 0) * 0.99}) for each in analysis.gpus]
    return analysis.model_copy(update={"gpus": gpus})


TEXTS = {"terminal", "markdown", "html"}
MUTATIONS: dict[str, tuple[Callable[[Analysis], Analysis], set[str]]] = {
    "share": (_family, {*TEXTS, "csv", "perfetto"}),
    "gain": (_gain, TEXTS),
    "labelled": (_labelled, {*TEXTS, "csv", "perfetto"}),
    "busy": (_busy, TEXTS),
    "warnings": (_warnings, TEXTS),
}


@pytest.mark.captures
def test_a_figure_that_is_off_is_found_in_every_format_that_shows_it(captures: Path, tmp_path: Path) -> None:
    """Each headline figure is changed a little in the contract, by no more than its last digit or two."""
    analysis, found = shown("a vLLM server", captures, tmp_path)
    for what, (mutate, formats) in MUTATIONS.items():
        told = held(found, mutate(analysis))
        assert {name for name, each in told.items() if each} == formats, what
        assert all(what in " ".join(told[name]) for name in formats), told
