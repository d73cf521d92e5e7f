"""Targets of real recordings: how wide their forecasts are, and what rules say of counters."""

import csv
import statistics

import pytest

import rocscope
from rocscope import pipeline
from rocscope.config import AnalyzeOptions

FOLDER = "h200_decoder"
RUNS = [
    (("kineto_strided_graph.json.gz",), "w4_config.json"),
    (("kineto_strided_eager.json.gz",), "w4_config.json"),
    (("kineto_fp16_graph.json.gz",), "fp16_config.json"),
    (("tp2_straggler_rank0.json.gz", "tp2_straggler_rank1.json.gz"), "w4_config.json"),
]
COLUMNS = [
    *("kernel", "case", "duration_ns", "grid_x", "grid_y", "grid_z", "workgroup_x", "read_bytes"),
    *("write_bytes", "l2_bytes", "flops", "global_load_requests", "global_load_sectors"),
]
FEW_ROWS = ("w4_gemm_m1_qkv8b", "w4_gemv_strided_o8b", "w4_gemv_gateup32b")


@pytest.fixture(scope="module")
def analyses(examples):
    folder = examples / FOLDER
    return [
        rocscope.analyze(*(folder / name for name in names), model=folder / model, tp=len(names))
        for names, model in RUNS
    ]


def saying(analysis, rule):
    return [each for each in analysis.targets if any(f"[rule-{rule}]" in told for told in each.evidence)]


def width(target):
    return target.expected_gain.high_frac - target.expected_gain.low_frac


def test_forecasts_are_narrow_where_they_matter(analyses):
    large = [
        target
        for analysis in analyses
        for target in analysis.targets
        if target.expected_gain and (target.time_frac or 0) >= 0.05
    ]
    assert len(large) >= 4
    assert statistics.median(map(width, large)) <= 0.25
    first = analyses[0].targets[0]
    assert first.kernel == "gptq_w4a16_gemv_strided_kernel" and width(first) <= 0.5


def test_no_gain_exceeds_the_time_that_it_would_come_from(analyses):
    for analysis in analyses:
        for target in analysis.targets:
            gain = target.expected_gain
            if gain is None:
                continue
            assert 0 <= gain.low_frac <= gain.mid_frac <= gain.high_frac <= 1
            if target.time_frac is not None:
                assert gain.high_frac <= target.time_frac + 1e-9, target.id


def test_launch_shapes_of_a_kernel_are_one_target(analyses):
    for analysis in analyses:
        kernels = [(t.kernel, t.family) for t in analysis.targets if t.id.startswith("kernel-")]
        assert len(kernels) == len(set(kernels))
    strided = analyses[0].targets[0]
    assert len(strided.launch_shapes) == len({shape.model_dump_json() for shape in strided.launch_shapes}) > 1


def test_registers_limit_the_prefill_of_the_eager_run(analyses):
    told = saying(analyses[1], "occupancy-limited-by-registers-or-lds")
    assert [each.kernel for each in told] == ["gptq_w4a16_gemm_kernel"]
    assert told[0].expected_gain is not None and "less LDS a workgroup" in told[0].advice
    assert saying(analyses[2], "occupancy-limited-by-registers-or-lds") == []


def sides(text):
    return [int(part) for part in text.strip("()").split(",")]


def table(examples, path):
    """The counters of three products of few rows, as another tool's table."""
    with (examples / FOLDER / "kernel_truth.csv").open(newline="") as stream:
        rows = [each for each in csv.DictReader(stream) if each["case"] in FEW_ROWS]
    assert len(rows) == len(FEW_ROWS)
    with path.open("w", newline="") as stream:
        out = csv.writer(stream)
        out.writerow(COLUMNS)
        for each in rows:
            grid, group = sides(each["grid"]), sides(each["block"])
            names = ("dram_read_bytes", "dram_write_bytes", "l2_bytes", "case_flops")
            counted = [each[name] for name in (*names, "global_load_requests", "global_load_sectors")]
            grid_items = [side * wide for side, wide in zip(grid, group, strict=True)]
            out.writerow(
                [each["kernel_name"], each["case"], each["duration_ns"], *grid_items, group[0], *counted]
            )
    return path


def test_the_strided_product_is_told_from_coalesced_ones_by_its_counters(examples, tmp_path):
    made = pipeline.load_table(table(examples, tmp_path / "counters.csv"))
    analysis = pipeline.analyze_capture(made, AnalyzeOptions(gpu="H200"))
    told = saying(analysis, "uncoalesced-global-loads")
    assert [each.kernel for each in told] == ["gptq_w4a16_gemv_strided_kernel"]
    assert "l2_over_memory 7.4" in " ".join(told[0].evidence)
