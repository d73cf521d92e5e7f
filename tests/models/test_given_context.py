"""``--context``: decode attention whose context no annotation tells, and only that."""

import json

import pandas as pd
import pytest

from rocscope import pipeline
from rocscope.cli import run
from rocscope.models import given_context

OWN = "paged_attention_decode_kernel"
SPLIT = "paged_attention_decode_split_kernel"
V1 = "void vllm::paged_attention_v1_kernel<unsigned short, unsigned short, 128, 16, 128>(int)"
V2_REDUCE = "void vllm::paged_attention_v2_reduce_kernel<unsigned short, 128, 128, 512>(int)"
AMD = "void paged_attention_ll4mi_QKV_mfma16_kernel<_Float16, _Float16, 16, 128, 256>(int)"
UNIFIED = "kernel_unified_attention_2d"


def rows(*given):
    """Kernels with the columns that are read; steps are unknown unless said otherwise."""
    nothing = {
        **dict.fromkeys(("step_tokens", "step_sequences", "step_context_tokens", "step_attended_pairs")),
        **dict.fromkeys(("step_phase", "step_context_source")),
    }
    shape = {f"grid_{axis}": float("nan") for axis in "xyz"} | {
        f"workgroup_{axis}": float("nan") for axis in "xyz"
    }
    made = pd.DataFrame([{"family": "attention", **shape, **nothing, **each} for each in given])
    numbers = [name for name in nothing if name not in ("step_phase", "step_context_source")]
    return made.astype(dict.fromkeys(numbers, float))


def launch(name, x, y=1.0, z=1.0, threads=128):
    grid = {"grid_x": x * threads, "grid_y": y, "grid_z": z}
    return {"raw_name": name, **grid, "workgroup_x": threads, "workgroup_y": 1, "workgroup_z": 1}


@pytest.mark.parametrize(
    ("kernel", "sequences"),
    [
        (launch(OWN, 1, 8), 1),
        (launch(OWN, 48, 8), 48),
        (launch(SPLIT, 3, 8, 16), 3),
        (launch("paged_attention_decode_reduce_kernel", 5, 32), 5),
        (launch(V1, 32, 2), 2),
        (launch(V1, 32, 8), None),  # may be padded from five
        (launch(V2_REDUCE, 32, 1), 1),
        (launch(AMD, 2, 8, 8), 2),
        (launch(AMD, 4, 8, 8), None),
        (launch(UNIFIED, 2, 8), None),  # may be a prompt
        (launch("flash_fwd_kernel", 1, 1, 32), None),
        ({"raw_name": OWN}, None),  # a graph replay without its grid
        ({**launch(OWN, 2, 8), "family": "gemm"}, None),
        ({**launch(OWN, 2, 8), "step_phase": "mixed"}, None),
    ],
)
def test_sequences_are_read_off_launches_that_only_decode(kernel, sequences):
    row = given_context.fill(rows(kernel), 1000).iloc[0]
    if sequences is None:
        assert pd.isna(row["step_context_tokens"]) and row["step_context_source"] is None
        return
    assert (row["step_sequences"], row["step_tokens"]) == (sequences, sequences)
    assert row["step_context_tokens"] == row["step_attended_pairs"] == 1000 * sequences
    assert (row["step_phase"], row["step_context_source"]) == ("decode", "given by --context")


def test_what_annotations_tell_stays():
    step = {"step_phase": "decode", "step_sequences": 4, "step_context_source": "annotations"}
    told = {**step, "step_tokens": 4, "step_context_tokens": 70.0, "step_attended_pairs": 70.0}
    drafted = {**step, "step_tokens": 8}
    found = given_context.fill(
        rows(*({"raw_name": UNIFIED, **each} for each in (told, {**step, "step_tokens": 4}, drafted))), 100
    )
    assert found["step_context_tokens"].tolist() == [70.0, 400.0, 400.0]
    assert found["step_tokens"].tolist() == [4, 4, 8]
    assert found["step_attended_pairs"].fillna(-1).tolist() == [70.0, 400.0, -1]
    both = "given by --context, sequences by annotations"
    assert found["step_context_source"].tolist() == ["annotations", both, both]


def test_without_a_context_or_kernels_nothing_changes():
    frame = rows(launch(OWN, 1, 8))
    assert given_context.fill(frame, None) is frame
    assert given_context.fill(frame.iloc[:0], 5).empty


def test_the_share_of_kernel_time_with_bytes_and_flops(examples):
    """The decoder's attention was 36 % of the time of a step, and the only part without a size."""
    folder = examples / "h200_decoder"
    recording, model = folder / "kineto_strided_graph.json.gz", folder / "w4_config.json"
    without = pipeline.analyze(recording, model=model).integrity
    found = pipeline.analyze(recording, model=model, context=2048)
    assert without.bound_with_bytes_time_frac < 0.65
    assert found.integrity.bound_with_bytes_time_frac >= 0.95
    attention = next(each for each in found.kernels if each.kernel == OWN)
    # 2048 tokens of 8 key-value heads of 128 halves, keys and values; queries and output of 32 heads
    assert attention.bytes_per_dispatch.value == 2048 * 8 * 128 * 2 * 2 + 2 * 32 * 128 * 2
    assert attention.flops_per_dispatch.value == 4 * 2048 * 32 * 128
    assert "given by --context" in attention.bytes_per_dispatch.source
    assert (attention.bound, attention.limiter) == ("memory", "parallelism")


def test_a_context_that_the_time_contradicts_gives_no_label(examples):
    folder = examples / "h200_decoder"
    recording, model = folder / "kineto_strided_graph.json.gz", folder / "w4_config.json"
    found = pipeline.analyze(recording, model=model, context=10_000_000)
    attention = next(each for each in found.kernels if each.kernel == OWN)
    assert attention.bound == attention.limiter == "unknown"
    assert "above-ceiling" in [each.code for each in found.integrity.warnings]


def test_analyze_and_profile_take_the_option(capsys, examples, tmp_path):
    folder = examples / "h200_decoder"
    recording = str(folder / "kineto_strided_graph.json.gz")
    options = ["--model", str(folder / "w4_config.json"), "--context", "2048", "--json"]
    replay = ["profile", "--profiler", f"replay:{recording}", "--out", str(tmp_path / "out"), *options]
    shares = []
    for words in (["analyze", recording, *options], [*replay, "--", "true"]):
        assert run(words) == 0
        shares.append(json.loads(capsys.readouterr().out)["integrity"]["bound_with_bytes_time_frac"])
    assert shares[0] == shares[1] >= 0.95


@pytest.mark.parametrize("bad", ["0", "-5", "long", "1.5"])
@pytest.mark.parametrize("command", ["analyze", "profile"])
def test_a_context_that_is_none_is_refused(capsys, command, bad):
    words = ["some.csv"] if command == "analyze" else ["--", "true"]
    assert run([command, "--context", bad, *words]) != 0
    assert "--context" in capsys.readouterr().err
