"""The timeline as a chart and as tables: one axis, nothing named that does not fit, hostile names inert."""

import json
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import plotly.graph_objects as go
import pytest
from sample_analysis import HOSTILE_NAMES, sample_analysis, sample_gpu
from sample_window import sample_window

from rocscope.findings import Timeline, TimelineGap, TimelineSeries, TimelineSpan
from rocscope.reports import html, timeline_table
from rocscope.reports.charts import timeline


def drawn(found: Timeline) -> dict[str, Any]:
    figure = timeline.figure(found)
    assert figure is not None
    return json.loads(figure.json())


def strings(part: Any) -> Iterator[str]:
    if isinstance(part, str):
        yield part
    elif isinstance(part, dict | list):
        for each in part.values() if isinstance(part, dict) else part:
            yield from strings(each)


def notes(figure: dict[str, Any], name: str) -> list[str]:
    return [note["text"] for note in figure["layout"]["annotations"] if note.get("name") == name]


def test_plotly_accepts_every_part_of_the_figure() -> None:
    go.Figure(drawn(sample_window()))


def test_rows_stand_one_under_another_and_share_the_axis_of_time() -> None:
    figure = drawn(sample_window())
    titles = ["phase", "rank 0, busy", "rank 1, busy", "power", "clock", "temperature"]
    assert notes(figure, "row") == titles
    domains = [figure["layout"][f"yaxis{i if i > 1 else ''}"]["domain"] for i in range(1, len(titles) + 1)]
    assert all(below[1] < above[0] for above, below in pairwise(domains))
    assert domains[0][1] < 1 and domains[-1][0] == 0
    assert {trace.get("xaxis", "x") for trace in figure["data"]} == {"x"}


def test_pauses_families_phases_and_throttling_are_named_where_they_are() -> None:
    figure = drawn(sample_window())
    assert notes(figure, "gap") == ["pause 150\u00a0ms", "pause 150\u00a0ms"]
    assert {"gemm", "gptq_gemm", "prefill", "decode"} <= set(notes(figure, "on"))
    assert "attention" not in notes(figure, "on"), "too flat for a name"
    assert notes(figure, "throttled") == ["GPU 0 throttled: thermal"]
    hover = [text for trace in figure["data"] for text in trace.get("hovertext", [])]
    assert "rank 0: pause of 150\u00a0ms<br>the host was in Scheduler.schedule" in hover


@pytest.mark.parametrize(("span_s", "unit"), [(3.0, "s"), (0.02, "ms"), (3e-5, "µs")])
def test_the_axis_is_in_the_unit_that_suits_its_length(span_s: float, unit: str) -> None:
    found = sample_window().model_copy(update={"span_s": span_s})
    assert drawn(found)["layout"]["xaxis"]["title"]["text"].endswith(f", {unit}")


def test_a_clock_is_in_mhz_and_a_missing_reading_is_a_break() -> None:
    figure = drawn(sample_window(gpus=1))
    clock = next(trace for trace in figure["data"] if trace.get("name") == "GPU 0 clock")
    assert clock["y"][0] == 1502
    heat = next(trace for trace in figure["data"] if trace.get("name") == "GPU 0 temperature")
    assert heat["y"][0] is None and heat["connectgaps"] is False


def test_names_at_the_ends_of_lines_keep_apart() -> None:
    figure = drawn(sample_window(gpus=8))
    ends = [note for note in figure["layout"]["annotations"] if note.get("name") == "end"]
    power = [note for note in ends if note["yref"] == ends[0]["yref"]]
    known = [
        v
        for t in figure["data"]
        if t.get("meta") == "series" and t["yaxis"] == ends[0]["yref"]
        for v in t["y"]
    ]
    heights = [note["y"] / max(known) * timeline.SERIES_PX + note["yshift"] for note in power]
    apart = [b - a for a, b in pairwise(sorted(heights))]
    assert len(power) == 8 and min(apart) > 9


def test_nothing_to_draw_is_no_chart() -> None:
    empty = Timeline(span_s=0.0, bin_s=1.0, lanes=[], gaps=[], gaps_left_out=0, spans=[], series=[])
    assert timeline.figure(empty) is None
    silent = TimelineSeries(name="power", unit="W", gpu=0, source="none", time_s=[0.1], value=[None])
    only = empty.model_copy(update={"span_s": 1.0, "series": [silent]})
    assert timeline_table.series(only) == [] and timeline_table.gaps(only) == []


def test_hostile_text_is_inert_in_the_chart_and_in_the_tables() -> None:
    bad = HOSTILE_NAMES[0]
    base = sample_window()
    lanes = [
        lane.model_copy(
            update={
                "label": bad,
                "families": [each.model_copy(update={"family": bad}) for each in lane.families],
            }
        )
        for lane in base.lanes
    ]
    found = base.model_copy(
        update={
            "lanes": lanes,
            "gaps": [TimelineGap(gpu=0, start_s=0.1, duration_s=0.5, during=name) for name in HOSTILE_NAMES],
            "spans": [
                TimelineSpan(kind=kind, name=bad, gpu=None, start_s=0, end_s=1)
                for kind in ("phase", "throttled")
            ],
            "series": [each.model_copy(update={"name": bad, "source": bad}) for each in base.series],
        }
    )
    figure = timeline.figure(found)
    assert figure is not None
    text = figure.json()
    assert "<" not in text, "nor a tag that Plotly would obey"
    for shown in strings(json.loads(text)):
        assert "<" not in shown.replace("<br>", ""), shown
        assert shown.isprintable() or "\u00a0" in shown, shown
    page = html.REPORT.render(sample_analysis(timeline=found))
    assert "<script>window" not in page and "<img src" not in page


def test_the_same_stands_in_tables() -> None:
    found = sample_window()
    assert timeline_table.gaps(found)[0] == [
        "rank 0", "400\u00a0ms", "150\u00a0ms", "the host was in Scheduler.schedule"
    ]  # fmt: skip
    assert (
        timeline_table.rest(found) == "12 shorter pauses, 6.00\u00a0ms together, are left out of the table."
    )
    assert [row[0] for row in timeline_table.spans(found)] == ["prefill", "decode", "throttled: thermal"]
    assert timeline_table.series(found)[1][:4] == [
        "GPU 0 clock", "1,200\u00a0MHz", "1,430\u00a0MHz", "1,500\u00a0MHz"
    ]  # fmt: skip
    gpus = [sample_gpu(0), sample_gpu(1, busy_frac=0.5)]
    assert timeline_table.busy(sample_analysis(gpus=gpus)) == "Busy: rank 0 87.6\u00a0%, rank 1 50.0\u00a0%."
    page = html.REPORT.render(sample_analysis(timeline=found, gpus=gpus))
    assert 'href="#timeline"' in page and "Scheduler.schedule" in page
