"""A token rebuilt from steps, and held against what was measured: worked out by hand, then the recordings."""

import pytest

import rocscope
import serving_recorded
from rocscope import pipeline
from rocscope.analyzers import phases, serving, step_table, token_ceiling, token_time
from rocscope.models.served import ServedModel
from synthetic_capture import capture, row, study

MS = 1_000_000
PREFILL = "execute_context_1(30)_generation_0(0)"
MIXED = "execute_context_1(30)_generation_1(1)"
ONE = "execute_context_0(0)_generation_1(1)"
TWO = "execute_context_0(0)_generation_2(2)"


def span(name, at, length=4 * MS, kind="gpu_annotation"):
    return {"process": 0, "kind": kind, "name": name, "start_ns": at, "end_ns": at + length, "gpu": 0}


def decoding(name=TWO, count=4, every=10 * MS, busy=8 * MS):
    """Steps of 10 ms in which kernels take 8 ms."""
    rows = [row("mm", at * every, busy) for at in range(count)]
    return rows, [span(name, at * every) for at in range(count)]


def samples(mean_s=0.01, tokens=80.0, steps=40.0, seconds=5):
    """A server that counted 100 gaps of ``mean_s``, from 0 to ``seconds`` of the capture's clock."""
    zero = {"generation_tokens": 0.0, "prompt_tokens": 0.0, "engine_steps": 0.0}
    zero |= {"itl_s_sum": 0.0, "itl_s_count": 0.0}
    last = {
        **zero,
        "generation_tokens": tokens,
        "engine_steps": steps,
        "itl_s_sum": 100 * mean_s,
        "itl_s_count": 100.0,
    }
    return serving_recorded.samples([(0, zero), (seconds * 1000 * MS, last)])


def run(rows, spans, table=None, manifest=None, served=None, **options):
    made = capture(rows, spans=spans, **(manifest or {}))
    if table is not None:
        made.samples = table
    checked = study(made, families={"mm": "gemm"}, **options)
    checked.served = served
    for module in (phases, serving, step_table, token_ceiling, token_time):
        module.ANALYZER.run(checked)
    return checked


def test_kernels_and_gaps_of_the_steps_are_a_token():
    checked = run(*decoding(), samples(0.0102))
    found = checked.serving["tpot"]
    assert (found["kernels_s"], found["gaps_s"], found["prompts_s"]) == pytest.approx((8e-3, 2e-3, 0))
    assert found["rebuilt_s"] == pytest.approx(10e-3) and found["recorded_tokens_per_step"] == 2
    assert found["measured_s"] == pytest.approx(10.2e-3) and found["measured_with_profiler"]
    assert found["error_frac"] == pytest.approx(10 / 10.2 - 1)
    assert found["reconciles"] is True
    assert found["statement"] == (
        "a token is rebuilt as 10.00 ms (8.00 ms of kernels, 2.00 ms between kernels), profiler on, against "
        "the 10.20 ms between tokens that the server counted while it was profiled: 1.96 % less; the two "
        "reconcile"
    )
    assert checked.step_table.tpot_s == pytest.approx(10.2e-3)
    assert checked.step_table.reconciles is True
    assert (
        "that the server counted while it was profiled: the two reconcile"
        in checked.step_table.reconciliation
    )


def test_what_differs_by_more_does_not_reconcile():
    found = run(*decoding(), samples(0.007)).serving["tpot"]
    assert found["reconciles"] is False and found["statement"].endswith("the two do not reconcile")
    found = run(*decoding(), tpot_s=0.007).serving["tpot"]
    assert found["measured_by"] == "given" and not found["measured_with_profiler"]
    assert found["statement"].endswith("do not reconcile, as the profiler was on for one of them only")


def test_steps_of_prompts_are_waited_through_by_those_that_go_on():
    """Request A decodes in four steps, waits through B's prompt, and shares a mixed step with C's."""
    names = [ONE, ONE, PREFILL, TWO, MIXED, TWO, TWO]
    spans = [span(name, at * 10 * MS) for at, name in enumerate(names)]
    rows = [row("mm", at * 10 * MS, 5 * MS) for at in range(len(names))]
    found = run(rows, spans).serving["tpot"]
    # tokens 1+1+0+2+1+2+2 = 9; in the prompt's step one request waits; 10 ms each for all that sit in a step
    assert found["rebuilt_s"] == pytest.approx(10e-3 * (1 + 1 + 1 + 2 + 1 + 2 + 2) / 9)
    assert found["prompts_s"] == pytest.approx(10e-3 * (1 + 1) / 9)
    assert found["kernels_s"] == pytest.approx(5e-3 * 8 / 9) == pytest.approx(found["gaps_s"])
    assert found["measured_s"] is None and found["reconciles"] is None
    assert found["statement"].endswith("no measured time of a token is known to hold against it")


def test_a_prompt_before_all_decoding_is_waited_through_by_none():
    names = [PREFILL, ONE, ONE, ONE]
    spans = [span(name, at * 10 * MS) for at, name in enumerate(names)]
    found = run([row("mm", at * 10 * MS, 5 * MS) for at in range(4)], spans).serving["tpot"]
    assert found["prompts_s"] == 0 and found["rebuilt_s"] == pytest.approx(10e-3)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"table": samples(0.01, tokens=400.0)}, "not of the same load: 10 tokens a step there, 2 in"),
        ({"manifest": {"provenance": "replayed"}, "tpot_s": 0.01}, "of another run"),
    ],
)
def test_what_need_not_reconcile_is_not_judged(change, why):
    change = dict(change)
    provenance = change.pop("manifest", {}).get("provenance")
    made = capture(*decoding()[:1], spans=decoding()[1])
    made.samples = change.pop("table", made.samples)
    made.manifest.provenance = provenance or "recorded"
    checked = study(made, families={"mm": "gemm"}, **change)
    for module in (serving, step_table, token_time):
        module.ANALYZER.run(checked)
    found = checked.serving["tpot"]
    assert found["reconciles"] is None and why in found["statement"]


def test_steps_that_make_several_tokens_are_not_judged():
    rows, spans = decoding("execute_context_0(0)_generation_2(6)")
    found = run(rows, spans, tpot_s=0.01).serving["tpot"]
    assert found["reconciles"] is None and "several tokens" in found["statement"]


def test_without_annotations_the_steps_that_repeat_are_taken():
    body = [("embed", 1), ("mm", 4), ("pick", 1)]
    rows, at = [], 0
    for _ in range(6):
        for kernel, length in body:
            rows.append(row(kernel, at * MS, length * MS))
            at += length + 1
    rows.append(row("embed", at * MS, MS))
    made = capture(rows)
    checked = study(made, families={"mm": "gemm", "embed": "embedding", "pick": "sampling"}, tpot_s=9e-3)
    for module in (serving, step_table, token_time):
        module.ANALYZER.run(checked)
    found = checked.serving["tpot"]
    assert found["rebuilt_s"] == pytest.approx(9e-3) and found["kernels_s"] == pytest.approx(6e-3)
    assert found["prompts_s"] is None and found["reconciles"] is True


def test_without_kernels_the_hosts_steps_are_taken_and_without_steps_nothing():
    spans = [span(TWO, at * 10 * MS, kind="annotation") for at in range(4)]
    found = run([], spans, samples(0.01)).serving["tpot"]
    assert found["kernels_s"] is None and found["rebuilt_s"] == pytest.approx(10e-3)
    assert "(by the host's annotations)" in found["statement"] and found["reconciles"] is True
    found = run([], [], samples(0.01)).serving["tpot"]
    assert found["rebuilt_s"] is None and found["statement"].endswith(
        "cannot be rebuilt: no kernel was recorded"
    )
    found = run([row("mm", 0, 5)], [], samples(0.01)).serving["tpot"]
    assert found["statement"].endswith("cannot be rebuilt: steps are not known")
    assert "tpot" not in run([row("mm", 0, 5)], []).serving


def test_the_log_says_how_it_was_executed_and_what_timed_out():
    lines = {"eager-mode": 1, "collective-timeout": 2}
    checked = run(*decoding(), manifest={"log_lines": lines})
    assert checked.serving["execution"] == "eager"
    assert "collective-timeout" in [each.code for each in checked.warnings]
    assert "execution" not in run(*decoding()).serving


def test_a_server_that_started_anew_is_a_warning():
    table = serving_recorded.samples([(0, {"generation_tokens": 9.0}), (MS, {"generation_tokens": 1.0})])
    assert [each.code for each in run([], [], table).warnings] == ["server-restarted"]


def test_chosen_steps_alone_do_not_tell_the_time_between_them():
    made = capture(*decoding()[:1], spans=decoding()[1])
    assert pipeline.analyze(made, steps=(0, 3)).serving.get("tpot") is None


def level(**more):
    return {"concurrency": 2, "output_tokens": 80, "duration_s": 2.0, "tpot_s": {"mean": 0.0101}, **more}


def test_what_the_load_saw_without_the_profiler_comes_before_the_servers_count():
    load = {"kind": "builtin", "profiled": {"kind": "builtin", "levels": [level()]},
            "unprofiled": {"kind": "builtin", "levels": [level()]}}  # fmt: skip
    checked = run(*decoding(), samples(0.02), manifest={"load": load})
    found = checked.serving["tpot"]
    assert found["measured_s"] == 0.0101 and found["measured_by"] == "the load's clients, profiler off"
    assert found["reconciles"] is True
    against = checked.serving["against_load"]
    assert against["server_generation_tokens_per_s"] == 40 and against["difference_frac"] == 0
    load["unprofiled"]["levels"].append(level())  # of which level the steps are is not told
    load["profiled"]["levels"][0]["output_tokens"] = 60
    checked = run(*decoding(), samples(0.02), manifest={"load": load})
    assert checked.serving["tpot"]["measured_s"] == pytest.approx(0.02)
    against = checked.serving["against_load"]
    assert against["server_generation_tokens_per_s"] is None  # warm-up tokens: in what time is not told
    assert against["client_output_tokens_per_s"] == 30


CONFIG = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 12288,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 151936,
    "torch_dtype": "float16",
}


def test_the_ceiling_is_bandwidth_over_bytes():
    detailed = "execute_2_context_0(sq0sk0sqsq0sqsk0)_generation_2(sq2sk1000sqsq2sqsk1000)"
    rows, spans = decoding(detailed, every=40 * MS, busy=30 * MS)
    checked = run(rows, spans, samples(0.04), served=ServedModel.load(CONFIG))
    recorded, load = checked.serving["decode_ceiling"]
    weights = 2 * (36 * 4096 * (6144 + 4096 + 3 * 12288) + 4096 * 151936)
    cache = 36 * 2 * 8 * 128 * 2 * 1000
    assert (recorded["weight_bytes"], recorded["cache_bytes"]) == (weights, cache)
    assert recorded["context_basis"] == "step annotations" and recorded["bandwidth_basis"] == "achievable"
    assert recorded["floor_s"] == pytest.approx((weights + cache) / 0.8e12)
    assert recorded["ceiling_tokens_per_s"] == pytest.approx(2 / recorded["floor_s"])
    assert recorded["measured_tokens_per_s"] == pytest.approx(50)
    assert recorded["reached_frac"] == pytest.approx(50 / recorded["ceiling_tokens_per_s"])
    # nothing says how long the served requests were: the weights alone
    assert load["cache_bytes"] is None and "weights alone" in load["basis"]
    assert load["measured_tokens_per_s"] == pytest.approx(16) and load["sequences"] == 2


def test_a_rate_above_its_ceiling_is_a_warning_and_no_share():
    rows, _ = decoding(busy=MS // 4, every=MS)
    checked = run(rows, [span(TWO, at * MS, MS // 2) for at in range(4)], served=ServedModel.load(CONFIG))
    (found,) = checked.serving["decode_ceiling"]
    assert found["reached_frac"] is None
    assert [each.code for each in checked.warnings] == ["above-decode-ceiling"]


def test_without_model_or_bandwidth_there_is_no_ceiling():
    assert "decode_ceiling" not in run(*decoding()).serving
    assert "decode_ceiling" not in run(*decoding(), served=ServedModel.load(CONFIG), spec=None).serving
    split = {"manifest": {"command": ["vllm", "serve", "M", "--pipeline_parallel_size=2"]}}
    assert "decode_ceiling" not in run(*decoding(), served=ServedModel.load(CONFIG), **split).serving
    odd = ServedModel.load({**CONFIG, "model_type": "odd"})
    assert "decode_ceiling" not in run(*decoding(), served=odd).serving
    assert "decode_ceiling" not in run([row("mm", 0, 5)], [], served=ServedModel.load(CONFIG)).serving


@pytest.mark.captures
def test_the_recorded_server_and_its_steps(captures):
    """Profiled with 300 tokens in and four requests at a time; metrics of another load."""
    folder = captures / "h200_vllm"
    names = ("kineto.json.gz", "metrics_before.txt", "metrics_after.txt")
    analysis = rocscope.analyze(
        *(folder / f"fp16_graph.{name}" for name in names), model=folder / "fp16_config.json"
    )
    tpot = analysis.serving["tpot"]
    parts = tpot["kernels_s"] + tpot["gaps_s"] + tpot["prompts_s"]
    assert tpot["rebuilt_s"] == pytest.approx(parts)
    assert tpot["measured_s"] == pytest.approx(6.345e-3, rel=1e-3)  # 41.1 s in 6,477 gaps
    assert tpot["reconciles"] is None and "not of the same load" in tpot["statement"]
    assert analysis.step_table.reconciles is None
    recorded, load = analysis.serving["decode_ceiling"]
    assert recorded["sequences"] == 4 and 1200 < recorded["context_tokens"] < 1260
    assert 0.5 < recorded["reached_frac"] < 0.7  # 15.3 GB in 5.7 ms of 4.36 TB/s
    assert load["measured_tokens_per_s"] is None
