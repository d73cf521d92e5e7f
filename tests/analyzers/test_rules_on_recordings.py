"""Rules fire on a recording, or on a synthetic twin of a described case, and are quiet elsewhere."""

import csv

import pyarrow as pa
import pytest

import rocscope
from rocscope import pipeline
from rocscope.analyzers import rules as analyzer
from rocscope.analyzers import runner
from rocscope.capture import Gpu
from rocscope.config import AnalyzeOptions
from rocscope.rules import rules
from rocscope.tables import conform
from synthetic_capture import capture, row, study

FILL = "void at::native::vectorized_elementwise_kernel<4, at::native::FillFunctor<c10::Half>>(int)"
GPTQ4 = "void vllm::gptq::gemm_half_q_half_gptq_4bit_kernel<true, 1>(unsigned int const*)"
TILED = "Cijk_Alik_Bljk_HHS_BH_MT128x128x32_MI32x32x8x1_SN_1LDSB0"


def fired(analysis):
    told = " ".join(sentence for each in analysis.targets for sentence in each.evidence)
    told += " ".join(f"[{each.code}]" for each in analysis.integrity.warnings)
    return {rule.id for rule in rules() if f"[rule-{rule.id}]" in told}


def open_rules(analysis):
    return {each.rule: each for each in analysis.not_evaluated}


RECORDED = [
    ("h200_vllm/gptq8_graph.kineto.json.gz", {"quantised-more-bytes-than-16-bit", "fill-per-projection"}),
    ("h200_vllm/fp16_graph.kineto.json.gz", {"split-k-partial-sums"}),
    ("h200/kineto_fp16_graph.json.gz", {"split-k-partial-sums", "grid-smaller-than-the-gpu"}),
    ("rocprofv3/llamacpp_gfx1151", {"lds-bank-conflicts"}),
]


@pytest.mark.captures
@pytest.mark.parametrize(("name", "wanted"), RECORDED)
def test_rules_that_fire_on_recordings(captures, name, wanted):
    analysis = rocscope.analyze(captures / name)
    assert wanted <= fired(analysis)
    quiet = set().union(*(rule for _, rule in RECORDED)) - wanted - {"grid-smaller-than-the-gpu"}
    assert fired(analysis).isdisjoint(quiet)
    for target in analysis.targets:
        if target.id.startswith("rule-"):
            assert target.evidence[-1].startswith("source: ") and "[rule-" in target.evidence[0]
            assert (
                target.advice
                and target.confirm_by
                and "{" not in target.problem
                and "?" not in target.problem
            )


@pytest.mark.captures
def test_bytes_of_reconstructed_weights_are_counted_against_16_bit_weights(captures):
    folder, rule = captures / "h200_vllm", "quantised-more-bytes-than-16-bit"
    config = folder / "gptq8_config.json"
    analysis = rocscope.analyze(folder / "gptq8_graph.kineto.json.gz", model=config)
    target = next(each for each in analysis.targets if rule in each.id)
    assert rule in fired(analysis)
    # N=24576, K=4096, M=300: 8-bit weights of 32 groups read, halves written, then read with activations
    n, k, m = 24576, 4096, 300
    written = n * k * (1 + 2) + 32 * n * (2 + 1)
    ratio = (written + 2 * (n * k + m * (n + k))) / (2 * n * k + 2 * m * (n + k))
    assert f"bytes_over_16_bit {ratio:.3g} " in target.evidence[0] and f"{ratio:.3g} times" in target.problem
    assert 1 < ratio < 2.5  # activations make it less than the bits alone
    assert target.evidence[0].startswith("reconstruct_exllama_8bit_kernel: family dequant")


@pytest.mark.parametrize(("bits", "ratio"), [(4, "2.25"), (8, "2.5")])
def test_bytes_of_reconstructed_weights_by_the_bits_alone(bits, ratio):
    name = f"void vllm::gptq::reconstruct_exllama_{bits}bit_kernel(unsigned int const*)"
    analysis = pipeline.analyze_capture(synthetic(step(name, TILED, name, TILED)))
    target = next(each for each in analysis.targets if "quantised-more-bytes" in each.id)
    assert f"{ratio} times the bytes of 16-bit weights" in target.problem
    fused = pipeline.analyze_capture(synthetic(step(GPTQ4, TILED, GPTQ4, TILED)))
    assert "quantised-more-bytes-than-16-bit" not in fired(fused) | set(open_rules(fused))


def synthetic(rows, arch="gfx908", name="MI100", **manifest):
    """A run on MI100 as described, nothing of it recorded."""
    made = capture(rows, **manifest)
    made.manifest.provenance = "synthetic"
    made.manifest.gpus[:] = [Gpu(gpu=0, arch=arch, name=name)]
    return made


def step(*kernels, each_ns=10_000):
    return [row(name, i * each_ns, each_ns, dispatch_id=i) for i, name in enumerate(kernels)]


CONFIG = {
    "model_type": "llama",
    "hidden_size": 4096,
    "num_hidden_layers": 2,
    "num_attention_heads": 32,
    "intermediate_size": 11008,
    "quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 128},
}


def test_settings_and_log_of_a_run_on_mi100():
    lines = {"tunableop-wrong-arch": 4, "hipblaslt-first-call": 2, "awq-triton-forced": 1}
    made = synthetic(
        step("awq_gemm_kernel", TILED), model=CONFIG, log_lines=lines, environment={"VLLM_X": "1"}
    )
    analysis = pipeline.analyze_capture(made)
    wanted = {"triton-awq-forced", "tuning-results-for-another-gpu", "group-size-128-on-gfx908"}
    assert wanted | {"hipblaslt-first-call-lines"} <= fired(analysis)
    for target in analysis.targets:
        if target.scope == "configuration":
            assert target.expected_gain is None and target.kernel is None and target.rank > 0
    note = next(w for w in analysis.integrity.warnings if w.code == "rule-hipblaslt-first-call-lines")
    assert "(there are 2)" in note.message


def test_the_same_run_without_those_settings_is_quiet():
    config = {**CONFIG, "quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 32}}
    none = {"tunableop-wrong-arch": 0, "hipblaslt-first-call": 0, "awq-triton-forced": 0}
    made = synthetic(
        step("awq_gemm_kernel", TILED), model=config, log_lines=none, environment={"VLLM_X": "1"}
    )
    analysis = pipeline.analyze_capture(made)
    settings = {rule.id for rule in rules() if rule.scope == "configuration"}
    assert fired(analysis).isdisjoint(settings) and settings.isdisjoint(open_rules(analysis))


def test_a_run_of_which_nothing_is_known_is_not_judged():
    analysis = pipeline.analyze_capture(synthetic(step("awq_gemm_kernel", TILED)))
    found = open_rules(analysis)
    assert {rule.id for rule in rules() if rule.scope == "configuration"} <= set(found)
    assert "server.log" in found["tuning-results-for-another-gpu"].collect_with
    assert "--model config.json" in found["group-size-128-on-gfx908"].collect_with
    assert "telemetry.csv" in found["clock-below-peak"].collect_with


def test_a_tile_wasted_on_one_row_is_found_by_its_shape():
    made = synthetic(step(TILED, TILED))
    checked = study(made, families={TILED: "gemm"})
    runner.run(checked)
    assert "tile-wider-than-the-problem" in {each.rule for each in checked.not_evaluated}
    for rows, wanted in ((1, True), (512, False)):
        checked = study(made, families={TILED: "gemm"})
        checked.kernels["problem_shape"] = [{"m": rows, "n": 4096, "k": 4096}] * len(checked.kernels)
        runner.run(checked)
        told = [each for each in checked.targets if "tile" in each.id]
        assert bool(told) is wanted
        if told:
            assert "tiles of at least 128 rows and columns for a problem of M = 1" in told[0].problem
            assert told[0].expected_gain is None


def test_fills_of_the_field_notes():
    rows = step(*[name for _ in range(16) for name in (FILL, GPTQ4)])
    analysis = pipeline.analyze_capture(synthetic(rows))
    target = next(each for each in analysis.targets if each.id.startswith("rule-fill-per-projection"))
    assert "16 times, 1 for each product with packed weights (50 % of kernel time)" in target.problem
    gain = target.expected_gain
    assert (gain.low_frac, gain.mid_frac, gain.high_frac) == pytest.approx((0.15, 0.35, 0.5))
    once = pipeline.analyze_capture(synthetic(step(FILL, *[GPTQ4] * 16)))
    assert "fill-per-projection" not in fired(once)


def clocks(made, hertz, subject="gpu:0"):
    """Samples of the clock, spread evenly over the time in which kernels ran."""
    count = len(hertz)
    last = max(made.dispatches["end_ns"].to_pylist())
    made.samples = conform(
        "samples",
        {
            "time_ns": pa.array([1 + i * (last - 2) // count for i in range(count)]),
            "source": pa.array(["nvml"] * count),
            "subject": pa.array([subject] * count),
            "metric": pa.array(["clock_hz"] * count),
            "value": pa.array(hertz, pa.float64()),
        },
        count,
    )
    return made


@pytest.mark.parametrize(
    ("hertz", "subject", "outcome"),
    [
        (1.08e9, "gpu:0", "fires"),
        (1.502e9, "gpu:0", "quiet"),
        (1.08e9, "gpu:7", "open"),
    ],
)
def test_a_clock_below_its_peak(hertz, subject, outcome):
    analysis = pipeline.analyze_capture(clocks(synthetic(step(GPTQ4, GPTQ4)), [hertz] * 20, subject))
    assert ("clock-below-peak" in fired(analysis)) is (outcome == "fires")
    assert ("clock-below-peak" in open_rules(analysis)) is (outcome == "open")
    if outcome == "fires":
        target = next(each for each in analysis.targets if "clock" in each.id)
        assert target.scope == "timeline" and "71.9 %" in target.problem
        assert target.expected_gain.high_frac == pytest.approx(1 - 1.08 / 1.502)
        assert target.evidence[0] == "telemetry.clock_frac 71.9 % [rule-clock-below-peak]"


@pytest.mark.parametrize(("sectors", "outcome"), [(64e6, True), (16e6, False), (None, None)])
def test_uncoalesced_loads_by_sectors_a_request(sectors, outcome):
    """64 sectors for the 64 work-items of a wave, as where each reads a column of its own."""
    checked = study(capture(step("gemv", each_ns=100_000)), {"gemv": {"bytes": 1e7, "flops": 4e7}})
    runner.run(checked)
    checked.not_evaluated.clear()
    if sectors is not None:
        checked.kernels["global_load_requests"] = 1e6
        checked.kernels["global_load_sectors"] = sectors
        checked.kernels["l2_bytes"] = 2e7
    analyzer.ANALYZER.run(checked)
    told = [each for each in checked.targets if each.id.startswith("rule-uncoalesced")]
    assert bool(told) is (outcome is True)
    unknown = "uncoalesced-global-loads" in {each.rule for each in checked.not_evaluated}
    assert unknown is (outcome is None)


@pytest.mark.parametrize(
    ("source", "outcome"),
    [
        ("64 x TCC_REQ_sum", True),
        ("128 x TCC_REQ_sum (each is counted as a full line, so at most this)", None),
    ],
)
def test_what_is_at_most_so_much_is_no_proof_of_uncoalesced_loads(source, outcome):
    checked = study(capture(step("gemv", each_ns=100_000)), {"gemv": {"bytes": 1e7, "flops": 4e7}})
    runner.run(checked)
    checked.not_evaluated.clear()
    checked.kernels["l2_bytes"] = 6e7
    checked.kernels["measures_source"] = [{"l2_bytes": source} for _ in range(len(checked.kernels))]
    analyzer.ANALYZER.run(checked)
    assert any(each.id.startswith("rule-uncoalesced") for each in checked.targets) is bool(outcome)
    unknown = "uncoalesced-global-loads" in {each.rule for each in checked.not_evaluated}
    assert unknown is (outcome is None)


def test_many_kernels_make_a_target_each_of_those_that_matter():
    names = [f"few{i}" for i in range(6)]
    rows = [row(n, 100_000 * i, 100_000, grid_x=1024) for i, n in enumerate(names)]
    checked = study(capture(rows), {n: {"bytes": 1e6, "flops": 0.0} for n in names})
    runner.run(checked)
    told = [each.kernel for each in checked.targets if each.id.startswith("rule-grid")]
    assert told == ["few0", "few1", "few2"]


def test_an_unusable_model_and_an_empty_recording_are_no_facts():
    made = synthetic(step(GPTQ4), model={"hidden_size": "wide"})
    assert "group-size-128-on-gfx908" in open_rules(pipeline.analyze_capture(made))
    plain = {key: value for key, value in CONFIG.items() if key != "quantization_config"}
    assert "group-size-128-on-gfx908" not in open_rules(
        pipeline.analyze_capture(synthetic(step(GPTQ4), model=plain))
    )
    checked = study(capture([]))
    analyzer.ANALYZER.run(checked)
    assert checked.targets == [] and checked.not_evaluated == []


def test_selected_options_reach_the_rules(tmp_path):
    import json

    path = tmp_path / "config.json"
    path.write_text(json.dumps(CONFIG))
    analysis = pipeline.analyze_capture(synthetic(step(GPTQ4)), AnalyzeOptions(model=path))
    assert "group-size-128-on-gfx908" in fired(analysis)


def test_the_recorded_clock_of_the_decoder_is_at_its_peak(examples):
    """An H200 at 1980 MHz while it worked; before that it idled at 345 MHz, which is no throttling."""
    with (examples / "h200_decoder" / "decode_telemetry.csv").open(newline="") as stream:
        read = list(csv.DictReader(stream))
    made = synthetic(step(GPTQ4, GPTQ4), arch="sm_90", name="NVIDIA H200")
    working = clocks(made, [float(each["sm_mhz"]) * 1e6 for each in read if each["phase"] == "strided"])
    analysis = pipeline.analyze_capture(working)
    assert "clock-below-peak" not in fired(analysis) | set(open_rules(analysis))
    idle = [float(each["sm_mhz"]) * 1e6 for each in read if float(each["sm_mhz"]) < 1000]
    assert idle and "clock-below-peak" in fired(pipeline.analyze_capture(clocks(made, idle)))
