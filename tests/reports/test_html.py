"""The page as text: what its policy allows, what it escapes and leaves out; the browser has its own tests."""

import base64
import hashlib
import json
import re
from typing import Any

import pytest
from sample_analysis import (
    HOSTILE_NAMES,
    empty_analysis,
    hostile_analysis,
    sample_analysis,
    sample_families,
    sample_gpu,
    sample_kernel,
)

from rocscope.findings import Analysis, LaunchShape, Quantity
from rocscope.reports import figures, html, kernel_rows, markdown, summary, terminal
from rocscope.reports import page as page_parts
from rocscope.reports.charts import roofline, shares


def page(analysis: Analysis) -> str:
    return html.REPORT.render(analysis)


def section(text: str, name: str) -> str:
    """Return a section's words, without markup."""
    (found,) = re.findall(rf'<section [^>]*id="{name}".*?</section>', text, re.S)
    return " ".join(re.sub(r"<[^>]*>", " ", found).replace("\u00a0", " ").split())


def test_the_hosts_steps_are_not_drawn_as_the_gpus_time() -> None:
    """A token of 1 µs by the host's annotations, of 12.9 ms by the kernels that ran for it."""
    of_host = {"length_by": "host", "idle_us_per_token": None, "idle_time_s": None, "us_per_token": 1.0}
    phases = [each.model_copy(update=of_host) for each in sample_analysis().phases]
    told = section(page(sample_analysis(phases=phases)), "budget")
    assert "1.00 µs" not in told and "no kernel 9" not in told
    spent = figures.seconds(sum(shares.phase_times(phases[0]).values())).replace("\u00a0", " ")
    assert f"{spent} of kernels a token" in told
    assert "decode and prefill is not told, as only the host annotated it" in told
    assert "annotated it" not in section(page(sample_analysis()), "budget")
    bare = [each.model_copy(update={"families": []}) for each in phases]
    assert "(host)" in section(page(sample_analysis(phases=bare)), "budget")


@pytest.mark.parametrize("kernel", ["vecCopy", "axpy", "rms_norm_kernel", "gemm4"])
def test_a_kernels_name_is_never_altered(kernel: str) -> None:
    target = sample_analysis().targets[0]
    problem = f"{kernel} takes 57.2 % of the window: memory bound, limited by latency"
    named = target.model_copy(update={"problem": problem, "kernel": kernel})
    told = page(sample_analysis(targets=[named]))
    assert f"<h3>{problem}</h3>" in told
    for report in (terminal.REPORT, markdown.REPORT):
        told = report.render(sample_analysis(targets=[named])).replace("**", "").replace("\\", "")
        assert f"1. {kernel} takes" in told
    assert page_parts._capital("vecCopy: slow") == "vecCopy: slow"
    assert page_parts._capital("no warnings") == "No warnings"


def test_a_kernel_of_one_of_several_gpus_says_of_which() -> None:
    first = sample_kernel()
    both = [first, first.model_copy(update={"gpu": 1})]
    gpus = [sample_gpu(), sample_gpu().model_copy(update={"gpu": 1})]
    several = sample_analysis(kernels=both, gpus=gpus)
    labels = [shares.labels(several)[each.gpu] for each in both]
    assert len(set(labels)) == 2
    occupied, kernels = (section(page(several), name) for name in ("occupancy", "kernels"))
    rows = [line for line in markdown.REPORT.render(several).splitlines() if line.startswith("| `")]
    names = [line for line in terminal.REPORT.render(several).splitlines() if first.kernel[:20] in line]
    for label in labels:
        assert f"· {label}" in occupied and f"· {label}" in kernels
        assert sum(f", {label} |" in row for row in rows) == 1
        assert sum(line.endswith(label) for line in names) == 1
    alone = sample_analysis(kernels=[first])
    assert labels[0] not in section(page(alone), "occupancy")


def test_a_very_long_name_is_cut_wherever_it_would_be_all_there_is() -> None:
    name = "Cijk_Alik_Bljk_BBS_BH_" + "MT64x16x256_" * 40 + "WG64_4_1"
    target = sample_analysis().targets[0]
    long = target.model_copy(
        update={
            "rank": 1,
            "kernel": name,
            "problem": f"{name} takes 2.58 % of the window: memory bound",
            "advice": f"Look at {name} first, with `rocscope analyze trace.json.gz`",
        }
    )
    told = page(sample_analysis(targets=[long]))
    for part in ("answer", "targets"):
        words = section(told, part)
        assert name not in words and "takes 2.58 % of the window" in words and "Cijk_Alik_Bljk" in words
    assert "<code>rocscope analyze trace.json.gz</code>" in told


@pytest.mark.parametrize("reached", [935e9, None])
def test_a_dashed_roof_is_spoken_of_where_there_is_one(reached: float | None) -> None:
    gpu = sample_gpu(achievable_bandwidth_bytes_per_s=reached)
    told = section(page(sample_analysis(gpus=[gpu])), "roofline")
    assert ("the dashed one was achieved by a benchmark" in told) == (reached is not None)
    assert "Solid roofs are datasheet peaks" in told


def test_a_launch_of_which_nothing_is_known_is_not_spelt_out() -> None:
    bare = sample_kernel(launch_shape=LaunchShape(grid=[None] * 3, workgroup=[None] * 3), problem_shape=None)
    told = section(page(sample_analysis(kernels=[bare])), "kernels")
    assert "grid –" not in told and "Launch –" in told
    assert "grid –" not in markdown.REPORT.render(sample_analysis(kernels=[bare]))


def drawn(analysis: Analysis) -> dict[str, Any]:
    figure = roofline.figure(analysis)
    return json.loads(figure.json()) if figure is not None else {}


def scripts(text: str) -> list[tuple[str, str]]:
    return re.findall(r"<script([^>]*)>(.*?)</script>", text, re.S)


def policy(text: str) -> dict[str, list[str]]:
    content = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    assert content is not None
    parts = content.group(1).replace("&#39;", "'").split("; ")
    return {part.split()[0]: part.split()[1:] for part in parts}


def digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@pytest.mark.parametrize("analysis", [sample_analysis(), empty_analysis(), hostile_analysis()])
def test_the_policy_allows_our_script_and_style_by_hash_and_nothing_else(analysis: Analysis) -> None:
    text = page(analysis)
    allowed = policy(text)
    assert allowed["default-src"] == ["'none'"]
    ours = {digest(body) for attributes, body in scripts(text) if "json" not in attributes}
    assert set(allowed["script-src"]) == ours
    style = re.search(r"<style>(.*?)</style>", text, re.S)
    assert style is not None
    assert digest(style.group(1)) in allowed["style-src"]
    assert "unsafe" not in str(allowed)
    assert "http" not in str(allowed)


def test_the_page_refers_to_nothing_outside() -> None:
    own = re.sub(r"<script>.*?</script>", "", page(sample_analysis()), flags=re.S)
    assert not re.search(r"""(src|href)=["'](?!#)|@import|url\(""", own)


def test_a_kernel_of_measured_bytes_and_uncounted_flops_is_a_line_along_its_bandwidth() -> None:
    measured = Quantity(value=1e6, basis="measured", source="device memory, read and written")
    uncounted = sample_kernel(
        kernel="vecCopy",
        bytes_per_dispatch=measured,
        flops_per_dispatch=Quantity(),
        intensity_flop_per_byte=None,
        achieved_bandwidth_bytes_per_s=5e11,
        time_frac=0.5,
    )
    analysis = sample_analysis(kernels=[uncounted])
    figure = drawn(analysis)
    (line,) = [trace for trace in figure["data"] if trace["line"]["dash"] == "dot"]
    label = figure["layout"]["annotations"][-1]["text"]
    assert label.startswith("vecCopy N=3584: 500") and label.endswith("FLOPs not counted")
    assert "62.1" not in line["text"] and "latency" in line["text"], "its evidence, under the pointer"
    assert {round(y / x / 1e11, 6) for x, y in zip(line["x"], line["y"], strict=True)} == {5.0}
    assert "A dotted line is a kernel" in page(analysis)
    rare = [uncounted.model_copy(update={"time_frac": 0.01})]
    assert roofline.figure(sample_analysis(kernels=rare)) is None


def test_a_chart_is_there_only_when_there_is_something_to_draw() -> None:
    modelled = Quantity(value=1e6, basis="modelled", source="by hand")
    flat = sample_analysis(
        kernels=[
            sample_kernel(
                bytes_per_dispatch=modelled, flops_per_dispatch=Quantity(), intensity_flop_per_byte=None
            )
        ],
        timeline=None,
    )
    unknown = sample_analysis(
        timeline=None, gpus=[sample_gpu(peak_bandwidth_bytes_per_s=None, peak_flops_per_s={})]
    )
    for analysis in (flat, unknown, empty_analysis()):
        assert roofline.figure(analysis) is None
        assert len(scripts(page(analysis))) == 1
        assert len(page(analysis)) < 120_000


def test_hostile_text_is_escaped_everywhere() -> None:
    text = page(hostile_analysis())
    assert len(scripts(text)) == 4
    own = re.sub(r"<script>.*?</script>", "", text, flags=re.S)
    assert "<img" not in own
    assert "onerror=window" not in re.sub(r"&lt;.*?&gt;", "", own)
    assert "\x1b" not in own
    data = next(body for attributes, body in scripts(text) if "json" in attributes)
    assert "<" not in data
    figure = json.loads(data)
    hover = "".join(str(trace.get("hovertext", "")) for trace in figure["data"])
    assert "&lt;script&gt;" in hover
    assert "<script" not in hover
    assert HOSTILE_NAMES[1].replace("'", "&#39;") in own


def test_a_million_shapes_do_not_make_a_page_of_a_million_rows() -> None:
    kernels = [
        sample_kernel(time_s=1 / (i + 1), time_frac=1e-4, launch_shape=LaunchShape(grid=[i], workgroup=[1]))
        for i in range(1000)
    ]
    analysis = sample_analysis(kernels=kernels)
    text = page(analysis)
    assert text.count('<tbody id="kernel-') == kernel_rows.MAX_KERNELS
    assert "600 smaller kernels (6.00" in text
    library = max(len(body) for _, body in scripts(text))
    assert len(text) - library < 3_000_000


def test_rows_carry_what_they_sort_by_and_unknown_is_no_number() -> None:
    kernel = sample_kernel(bandwidth_frac=None, headroom_s=None)
    row = re.search(r'<tbody id="kernel-0"[^>]*>', page(sample_analysis(kernels=[kernel])))
    assert row is not None
    assert 'data-bandwidth=""' in row.group()
    assert 'data-headroom=""' in row.group()
    assert f'data-time="{kernel.time_s!r}"' in row.group()


def test_several_gpus_are_told_apart() -> None:
    kernels = [sample_kernel(), sample_kernel(gpu=1)]
    text = page(sample_analysis(kernels=kernels, gpus=[sample_gpu(0), sample_gpu(1)]))
    assert "· rank 1" in text
    assert '<option value="rank 1">' in text, "the table can be filtered by it"
    assert "2 × MI100" in text
    alike = page(sample_analysis(kernels=kernels, gpus=[sample_gpu(0, rank=None), sample_gpu(1, rank=None)]))
    assert "· GPU 1" in alike


def test_equal_gpus_share_their_roofs_and_others_have_their_own() -> None:
    def roofs(*gpus: object) -> int:
        figure = drawn(sample_analysis(gpus=list(gpus)))
        return sum(trace["meta"] == "roof" for trace in figure["data"])

    alone = roofs(sample_gpu(0))
    assert roofs(sample_gpu(0), sample_gpu(1)) == alone
    other = sample_gpu(1, model="MI210", peak_bandwidth_bytes_per_s=1638e9)
    assert roofs(sample_gpu(0), other) > alone
    assert roofs(sample_gpu(0, achievable_bandwidth_bytes_per_s=None)) == alone - 1


def test_roofs_and_points_lie_where_they_should() -> None:
    figure = drawn(sample_analysis())
    slope = figure["data"][0]
    assert slope["y"][0] / slope["x"][0] == pytest.approx(1228.8e9)
    assert slope["y"][-1] == pytest.approx(46.1e12), "the pipe the kernels use, not the fastest of the card"
    gemm = next(trace for trace in figure["data"] if trace["mode"] == "markers+text")
    assert gemm["x"][0] == 1.917
    assert gemm["y"][0] == pytest.approx(2 * 8704 * 5120 / 60937.5e-9)
    sizes = gemm["marker"]["size"]
    assert (sizes[0] / sizes[1]) ** 2 == pytest.approx(0.0039 / 0.0025137), "area goes with time"


def test_all_pipes_are_drawn_where_it_is_not_told_which_is_used() -> None:
    kernels = [sample_kernel(ridge_flop_per_byte=None)]
    figure = drawn(sample_analysis(kernels=kernels))
    levels = {
        trace["y"][0]
        for trace in figure["data"]
        if trace["meta"] == "roof" and trace["y"][0] == trace["y"][1]
    }
    assert levels == {46.1e12, 23.1e12, 184.6e12}


def test_labels_never_overlap() -> None:
    kernels = [
        sample_kernel(
            intensity_flop_per_byte=1.0 + 0.01 * i,
            flops_per_dispatch=Quantity(value=1e6 * (1 + i % 3), basis="modelled"),
            time_s=0.001 * (9 - i),
        )
        for i in range(8)
    ]
    figure = drawn(sample_analysis(kernels=kernels))
    named = [
        text for trace in figure["data"] if trace["mode"] == "markers+text" for text in trace["text"] if text
    ]
    assert len(named) <= roofline.MAX_NAMED


def test_a_divided_family_is_named_for_half_of_it_or_not_at_all() -> None:
    def family(share: float) -> Analysis:
        split = [
            {"bound": "memory", "limiter": "latency", "shapes": 2, "time_frac": share},
            {"bound": "unknown", "limiter": "unknown", "shapes": 1, "time_frac": 1 - share},
        ]
        first = sample_families()[0].model_copy(
            update={"bound": "unknown", "limiter": "unknown", "split": split}
        )
        return sample_analysis(families=[first])

    mostly, partly = family(0.628), family(0.2)
    assert "62.8\u00a0% of that is held back by latency" in summary.headline(mostly)
    assert summary.verdict(mostly.families[0], "bound") == "memory (62.8\u00a0%)"
    assert "latency (62.8" in page(mostly)
    assert summary.headline(partly).endswith("limiter unknown.")
    assert summary.verdict(partly.families[0], "limiter") == "unknown"


def test_json_inside_a_script_is_plain_json() -> None:
    assert json.loads(page_parts.for_script(json.dumps({"a": "</script><!--\u2028"}))) == {
        "a": "</script><!--\u2028"
    }
    assert "<" not in page_parts.for_script('"</script>"')
