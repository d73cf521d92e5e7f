"""Why few bits are faster alone and slower in company: real servers, both ways, and what was not recorded."""

from __future__ import annotations

from pathlib import Path

import pytest
import truth_table
from hypothesis import given
from hypothesis import strategies as st

from rocscope import pipeline
from rocscope.cli import run
from rocscope.comparison import Comparison, Reason, carriers, extrapolation, quantised
from rocscope.comparison.products import Product, Products, products, time_s
from rocscope.comparison.result import Difference, Tier
from rocscope.errors import UsageError
from synthetic_capture import capture, row

US = 1e-6


@pytest.fixture(scope="module")
def served(captures: Path) -> Comparison:
    folder = captures / "h200_vllm"
    return pipeline.compare(folder / "fp16_graph.kineto.json.gz", folder / "gptq8_graph.kineto.json.gz")


@pytest.fixture(scope="module")
def sixteen(examples: Path) -> Comparison:
    folder = examples / "h200_compare"
    return pipeline.compare(folder / "fp16_c16.tar.gz", folder / "gptq8_c16.tar.gz")


def about(found: Comparison, what: str, words: str = "") -> Reason:
    (reason,) = [each for each in found.reasons if each.about == what and words in each.text]
    return reason


def test_alone_half_the_bytes_are_faster(served: Comparison) -> None:
    alone = about(served, "concurrency 1")
    assert (
        "at 1 row a layer's 4 products take 86.3 µs in 8-bit (new) and 112 µs in 16-bit (base)" in alone.text
    )
    assert "198 MB instead of 386 MB" in alone.text and "are faster for it" in alone.text
    assert alone.basis == "modelled"  # the times are measured, the bytes are not
    assert len(alone.evidence) == 8
    fused = next(each for each in alone.evidence if each.startswith("8-bit (new) gate_up_proj"))
    for told in (
        "M=1, N=24576, K=4096",
        "gptq_8bit_kernel 37",
        "(measured, mean of 36)",
        "103 MB (modelled)",
    ):
        assert told in fused
    assert "on vector fp16" in fused and "1 pass over the weights by the launch" in fused
    assert any("on matrix fp16" in each for each in alone.evidence)


def test_sixteen_rows_that_were_not_recorded_are_extrapolated_and_said_to_be(served: Comparison) -> None:
    company = about(served, "concurrency 16")
    assert company.basis == "extrapolated" and "which neither recording has" in company.text
    assert (
        "177 µs to 354 µs, about 290 µs in 8-bit (new) and 113 µs to 116 µs in 16-bit (base)" in company.text
    )
    assert "cost 2.18 ms to 8.67 ms more a step of 36 layers" in company.text
    formula = " ".join(company.evidence)
    assert "ceil(M / 8)" in formula and "at most 2 x t(8)" in formula
    assert "+7.23 ms from token to token" in formula  # what the load itself shows


def test_time_grows_with_the_rows_on_the_vector_units_alone(served: Comparison) -> None:
    grows = about(served, "step", "longer")
    assert "from 1 to 4 rows a layer's products in 8-bit (new) take 39.8 % longer" in grows.text
    assert "on the vector units (12.8 TFLOP/s at 4 rows" in grows.text and "matrix units" in grows.text
    assert grows.basis == "measured"


def test_prompts_go_through_weights_written_out(served: Comparison) -> None:
    prompts = about(served, "prefill")
    assert (
        "300 tokens" in prompts.text
        and "182 µs of it write the weights out as 16 bit (386 MB" in prompts.text
    )
    assert "8-bit weights, yet more bytes and more time than 16-bit: 1.01 GB against 424 MB" in prompts.text
    assert any("writing out 16-bit weights" in each for each in prompts.evidence)


def test_the_ceiling_of_both_is_told(served: Comparison) -> None:
    ceiling = about(served, "step", "memory bandwidth allows")
    assert "1,140 tokens/s in base and 2,040 tokens/s in new" in ceiling.text
    assert "61.6 % and 32.2 %" in ceiling.text and "3.83 GB a token" in ceiling.evidence[0]


@pytest.mark.slow
def test_the_other_way_round_says_the_same_of_the_other_side(captures: Path) -> None:
    folder = captures / "h200_vllm"
    found = pipeline.compare(folder / "gptq8_graph.kineto.json.gz", folder / "fp16_graph.kineto.json.gz")
    assert "86.3 µs in 8-bit (base) and 112 µs in 16-bit (new)" in about(found, "concurrency 1").text
    assert "−7.23 ms from token to token" in " ".join(about(found, "concurrency 16").evidence)


def test_sixteen_recorded_rows_explain_the_step(sixteen: Comparison) -> None:
    step = sixteen.tiers[0]
    company = about(sixteen, "concurrency 16")
    assert step.verdict == "worse" and step.new - step.base == pytest.approx(7.24e-3, abs=2e-5)
    assert "+7.13 ms a step of 36 layers" in company.text and company.basis == "modelled"
    assert "once for each 8 rows, 2 times here, as its launch tells" in company.text
    assert "yet take longer" in company.text
    carried = about(sixteen, "step", "the step changes by")
    assert "gptq_gemm +11 ms, gemm −3.92 ms" in carried.text and "attention takes the same" in carried.text


def test_the_extrapolation_holds_against_what_was_recorded(captures: Path, examples: Path) -> None:
    fewer = products(pipeline.side(pipeline.load(captures / "h200_vllm" / "gptq8_graph.kineto.json.gz")))
    recorded = products(pipeline.side(pipeline.load(examples / "h200_compare" / "gptq8_c16.tar.gz")))
    assert fewer is not None and recorded is not None
    eight, sixteen = (extrapolation.expected(fewer, m) for m in (8, 16))
    assert eight is not None and sixteen is not None
    assert eight.mid_s == pytest.approx(time_s(recorded.at(8)), rel=0.03)
    assert sixteen.low_s < time_s(recorded.at(16)) < sixteen.high_s
    assert sixteen.mid_s == pytest.approx(time_s(recorded.at(16)), rel=0.1)


def test_four_bits_through_uncoalesced_loads(captures: Path) -> None:
    folder = captures / "h200"
    traces = folder / "kineto_fp16_graph.json.gz", folder / "kineto_strided_graph.json.gz"
    found = pipeline.compare(*traces, model=folder / "w4_config.json")
    products_told = about(found, "step", "at 1 row")
    assert "272 µs in 4-bit (new) and 112 µs in 16-bit (base)" in products_told.text
    assert "103 MB instead of 386 MB" in products_told.text and "377 GB/s (7.85 % of" in products_told.text
    assert "+5.78 ms a step of 36 layers" in products_told.text
    carried = about(found, "step", "the step changes by")
    assert "attention takes the same (5.19 ms in base, 5.18 ms in new)" in carried.text
    unknown = pipeline.compare(*traces)
    assert [each.text for each in unknown.reasons] == [carried.text]
    assert any("name it with --model" in note for note in unknown.notes)
    assert not any("name it with --model" in note for note in found.notes)


def test_the_command_line_says_why(captures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    traces = [str(captures / "h200_vllm" / f"{each}_graph.kineto.json.gz") for each in ("fp16", "gptq8")]
    assert run(["compare", "--no-ledger", *traces]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "concurrency 16 (extrapolated): at 16 rows, which neither recording has" in text


def alone(folder: Path, truth: Path) -> Path:
    path = folder / "alone.csv"
    truth_table.table(truth_table.read(truth)).to_csv(path, index=False)
    return path


def test_eight_rows_measured_alone_stand_in_for_what_was_not_recorded(captures: Path, tmp_path: Path) -> None:
    folder = captures / "h200_vllm"
    traces = folder / "fp16_graph.kineto.json.gz", folder / "gptq8_graph.kineto.json.gz"
    found = pipeline.compare(*traces, tables=[alone(tmp_path, folder / "kernel_truth.csv")])
    company = about(found, "concurrency 16")
    assert "180 µs to 361 µs, about 300 µs in 8-bit (new)" in company.text and company.basis == "extrapolated"
    assert "t(8) = 180 µs, measured alone (alone.csv)" in company.evidence[0]
    four = about(found, "step, 4 sequences")
    assert (
        "Counters: gate_up_proj measured alone (alone.csv): its instructions keep the issue slots"
        in four.text
    )


def test_counters_tell_what_holds_four_bits_back(
    captures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = captures / "h200"
    words = [str(folder / f"kineto_{each}_graph.json.gz") for each in ("fp16", "strided")]
    words += ["--model", str(folder / "w4_config.json"), "--no-ledger", "--json"]
    assert run(["compare", *words, "--table", str(alone(tmp_path, folder / "kernel_truth.csv"))]) == 0
    told = about(Comparison.model_validate_json(capsys.readouterr().out), "step", "at 1 row")
    assert "issue slots 67.5 % busy and 7.45 times its bytes pass the L2" in told.text
    assert "o_proj measured alone (alone.csv): 27.5 µs a dispatch" in told.evidence[-1]


def test_a_table_needs_a_gpu_that_is_known(tmp_path: Path) -> None:
    path = tmp_path / "alone.csv"
    path.write_text("kernel,duration_ns\nk,5\n")
    unknown = capture([row("a", 0, 10)])
    unknown.manifest.gpus[0] = unknown.manifest.gpus[0].model_copy(update={"name": "", "arch": ""})
    with pytest.raises(UsageError, match="on which GPU"):
        pipeline.compare(unknown, unknown, tables=[path])


@pytest.mark.slow
def test_equal_bits_give_no_reason(examples: Path) -> None:
    folder = examples / "h200_compare"
    sides = [pipeline.side(pipeline.load(folder / f"gptq8_c1_{each}.tar.gz")) for each in (1, 2)]
    assert quantised.pair(*sides) is None and quantised.reasons(*sides, []) == []


def made(times: dict[int, float], **more: object) -> Products:
    """Products of one layer that take so long at so many rows, in microseconds."""
    plain = {
        "layer": "down_proj",
        "n": 64,
        "k": 64,
        "bits": 8,
        "kernel": "k",
        "unit": None,
        "count": 1.0,
        "multiply_s": 0.0,
        "write_out_s": 0.0,
        "bytes": None,
        "bytes_basis": None,
        "passes": None,
        "limiter": "memory-bandwidth",
        "prompts": False,
        **more,
    }
    found = {
        ("down_proj", m): Product(m=m, time_s=each * US, **{**plain, "prompts": m > 100})
        for m, each in times.items()
    }
    return Products(("down_proj",), 1, found)


@given(st.floats(1, 100), st.floats(1.001, 1.5), st.integers(9, 24))
def test_passes_lie_between_one_and_all_one_after_the_other(first: float, grows: float, m: int) -> None:
    found = extrapolation.expected(made({2: first, 4: first * grows}, passes=1.0), m)
    assert found is not None and found.mid_s is not None and not found.measured
    eight = first * (1 + 3 * (grows - 1)) * US
    assert found.low_s == pytest.approx(eight)
    assert found.high_s == pytest.approx(-(-m // 8) * eight)
    assert found.low_s <= found.mid_s <= found.high_s


@pytest.mark.parametrize(
    ("times", "m", "more"),
    [
        ({4: 10.0}, 16, {"passes": 1.0}),  # one number of rows tells no growth
        ({2: 10.0, 4: 9.0}, 16, {"passes": 1.0}),  # it does not grow
        ({2: 10.0, 4: 11.0}, 25, {"passes": 1.0}),  # another path in vLLM
        ({2: 10.0, 4: 11.0}, 1, {"passes": 1.0}),  # fewer than recorded
        ({2: 10.0, 4: 11.0}, 16, {}),  # dense, and nothing larger recorded
        ({2: 10.0, 4: 11.0, 300: 9.0}, 16, {}),  # dense, and faster with more rows
    ],
)
def test_what_cannot_be_extrapolated_is_not(times: dict[int, float], m: int, more: dict[str, object]) -> None:
    assert extrapolation.expected(made(times, **more), m) is None


def test_dense_products_lie_between_their_neighbours() -> None:
    times = {1: 10.0, 4: 10.0, 304: 40.0}
    bound = extrapolation.expected(made(times), 16)
    assert bound is not None and (bound.low_s, bound.high_s) == pytest.approx((10 * US, 11.2 * US))
    loose = extrapolation.expected(made(times, limiter="latency"), 16)
    assert loose is not None and (loose.low_s, loose.high_s) == pytest.approx((10 * US, 40 * US))
    known = extrapolation.expected(made(times), 4)
    assert known is not None and known.measured and known.mid_s == pytest.approx(10 * US)


STEP = Tier(
    tier="step",
    metric="period_s",
    unit="s",
    base=0.010,
    new=0.012,
    change_frac=0.2,
    low_frac=0.15,
    high_frac=0.25,
    verdict="worse",
)


def difference(name: str, base: float, new: float, **more: object) -> Difference:
    values = {
        "name": name,
        "base_s": base,
        "new_s": new,
        "change_frac": new / base - 1,
        "verdict": "worse",
        "step_frac": (new - base) / STEP.base,
        "base_frac": None,
        "new_frac": None,
        **more,
    }
    return Difference.model_validate(values)


def test_gaps_and_clocks_carry_a_change_where_they_do() -> None:
    gaps = [difference("no kernel ran", 0.001, 0.002)]
    kernels = [difference("k", 0.008, 0.009, explained_by="the clock: a dispatch takes +12 %, ...")]
    families = [difference("gemm", 0.008, 0.009), difference("rope", 0.0001, 0.00011)]
    told = carriers.reasons([STEP], families, kernels, gaps)
    assert [each.about for each in told] == ["step"] * 3
    assert "the step changes by +2 ms: gemm +1 ms" in told[0].text and "rope" not in told[0].text
    assert "no kernel ran +1 ms" in told[1].text
    assert "50 % of the step's change is of kernels that changed just as the clock did" in told[2].text


def test_a_change_that_is_not_shown_has_no_reasons() -> None:
    same = STEP.model_copy(update={"verdict": "no difference shown"})
    rows = [difference("gemm", 0.008, 0.009)]
    assert carriers.reasons([same], rows, rows, rows) == []
    assert carriers.reasons([], rows, rows, rows) == []
    doubtful = [difference("gemm", 0.008, 0.009, verdict="no difference shown")]
    assert carriers.reasons([STEP], doubtful, doubtful, doubtful) == []
