"""Models whose size is tokens and context, held against hardware counters and on paper."""

from __future__ import annotations

import csv
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rocscope import pipeline
from rocscope.config import AnalyzeOptions
from rocscope.models.model import Dispatch, Estimate, Operand
from rocscope.models.registry import shape_models
from rocscope.models.served import ServedModel
from rocscope.models.served_attention import cache_bits
from rocscope.taxonomy import classify

CONFIG: dict[str, Any] = {
    "model_type": "qwen3",
    "hidden_size": 4096,
    "intermediate_size": 12288,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "torch_dtype": "float16",
}
SERVED = ServedModel.load(CONFIG)
HALF = "c10::Half"
ROW = 4096 * 2  # bytes of a token's queries, or output
CACHE = 8 * 128 * 2 * 2  # bytes of a token's keys and values in one layer


def dispatch(name: str, groups=None, threads=128, operator=None, operands=(), **step: Any) -> Dispatch:
    """Make a dispatch; ``groups`` is the grid in workgroups."""
    workgroup = (threads, 1, 1) if groups else None
    return Dispatch(
        raw_name=name,
        family=classify([name]).family[0],
        subfamily="",
        kind="kernel",
        grid=(groups[0] * threads, groups[1], groups[2]) if groups else None,
        grid_items=None,
        workgroup=workgroup,
        operator=operator,
        operands=tuple(Operand(tuple(dims), dtype) for dims, dtype in operands),
        copied_bytes=None,
        lds_bytes=None,
        gpu=None,
        **step,
    )


def estimate(given: Dispatch, served: ServedModel | None = SERVED) -> Estimate | None:
    """Ask the models as ``models.apply`` does: by family, the first that knows."""
    models = [model for model in shape_models() if given.family in model.families]
    answers = (model.estimate(given, served) for model in models)
    return next((answer for answer in answers if answer is not None), None)


def decode(sequences: int, context: int) -> dict[str, Any]:
    return {
        "step_tokens": float(sequences),
        "step_sequences": float(sequences),
        "step_context_tokens": float(context),
        "step_attended_pairs": float(context),
        "step_phase": "decode",
        "step_context_source": "the test",
    }


def prefill(sequences: int, each: int) -> dict[str, Any]:
    pairs = sequences * each * (each + 1) / 2
    return decode(sequences, sequences * each) | {
        "step_tokens": float(sequences * each),
        "step_attended_pairs": pairs,
        "step_phase": "prefill",
    }


# ------------------------------------------------------------------------- against counters of vLLM's kernels

READS = {  # kernel: (bytes that the model counts as written, tolerance)
    "kernel_unified_attention": 0.03,
    "reduce_segments": 0.05,
    "act_and_mul_kernel": 0.03,
    "reshape_and_cache_kernel_flash": 0.01,
}
STILL_IN_THE_L2 = (  # what the kernel before has just written is not read from memory again
    ("rotary_embedding_kernel", None, "queries and keys, by the norm before"),
    ("act_and_mul_kernel", 1, "one token's gate and up, by the product before"),
    ("reshape_and_cache_kernel_flash", 1, "4 KB: whole lines and slots outweigh it"),
    ("reshape_and_cache_kernel_flash", 8, "keys, by the rotation before"),
)


def vllm_truth(path: Path):
    with path.open(newline="") as stream:
        for row in csv.DictReader(stream):
            found = re.search(
                "|".join([*READS, "rotary_embedding_kernel"]), row["kernel_name"].replace("<unnamed>", "")
            )
            if found:
                yield found[0], row


def test_reads_agree_with_the_counters_of_vllm(captures: Path):
    """Bytes less what is written (which stays in the L2 of these small cases) against DRAM reads."""
    checked: dict[str, int] = dict.fromkeys([*READS, "excepted"], 0)
    for kernel, row in vllm_truth(captures / "h200_vllm" / "kernel_truth.csv"):
        batch, prompt = int(row["batch"]), int(row["prompt_tokens"])
        groups = tuple(int(part) for part in re.findall(r"\d+", row["grid"]))
        threads = int(re.findall(r"\d+", row["block"])[0])
        tokens = groups[0]
        if kernel == "kernel_unified_attention":
            tokens = batch if groups[2] > 1 else batch * prompt
        if any(kernel == name and each in (None, tokens) for name, each, _ in STILL_IN_THE_L2):
            checked["excepted"] += 1
            continue
        step = prefill(batch, prompt) if tokens > batch else decode(batch, batch * (prompt + 1))
        found = estimate(dispatch(row["kernel_name"], groups, threads, **step))
        assert found and found.bytes
        written = {
            "kernel_unified_attention": tokens * ROW,
            "reduce_segments": tokens * ROW,
            "act_and_mul_kernel": tokens * 12288 * 2,
            "reshape_and_cache_kernel_flash": tokens * CACHE,
        }[kernel]
        if kernel == "kernel_unified_attention" and groups[2] > 1:
            parts = estimate(dispatch("reduce_segments", (batch, 32, 1), **step))
            assert parts and parts.bytes
            written += parts.bytes - tokens * ROW
        measured = float(row["dram_read_bytes"])
        assert found.bytes - written == pytest.approx(measured, rel=READS[kernel]), (kernel, row)
        checked[kernel] += 1
    assert checked == {
        "kernel_unified_attention": 8,
        "reduce_segments": 4,
        "act_and_mul_kernel": 5,
        "reshape_and_cache_kernel_flash": 4,
        "excepted": 14,
    }


# ------------------------------------------------------------------ against counters of the recorded decoder

SDPA = (
    "cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16_knob_7_64x128x128_4x1x1_cga1x1x1_kernel0_0"
)
QKV = [((4, 32, 4096, 128), HALF)] * 3
SUM = "void at::native::reduce_kernel<512, 1, at::native::ReduceOp<c10::Half, sum_functor<float>>>(int)"
SOFTMAX = (
    "void at::native::(anonymous namespace)::cunn_SoftMaxForward<8, c10::Half, float, c10::Half, int>(int)"
)
GATHER = "void at::native::vectorized_gather_kernel<16, long>(char*)"
CASES = {  # case: (dispatch, tolerance of DRAM reads and writes, or None and the reason in the comment)
    "silu_and_mul_t32768": (dispatch("silu_and_mul_kernel", (32768, 12, 1)), 0.01),
    "paged_decode_s256_c4096": (
        dispatch("paged_attention_decode_kernel", (256, 8, 1), **decode(256, 256 * 4096)),
        0.01,
    ),
    "paged_decode_s1_c4096": (
        dispatch("paged_attention_decode_kernel", (1, 8, 1), **decode(1, 4096)),
        0.01,
    ),
    "sdpa_prefill_t4096": (
        dispatch(SDPA, (132, 1, 1), 384, "aten::_cudnn_attention_forward", QKV),
        0.02,
    ),
    "sum_16k": (dispatch(SUM, (16384, 1, 1), 32, "aten::sum", [((16384, 32768), HALF)]), 0.01),
    # rows of 152 thousand do not fit into a workgroup: read twice more, of which half from memory
    "softmax_vocab": (
        dispatch(SOFTMAX, (1024, 1, 1), 1024, "aten::_softmax", [((1024, 151936), HALF)]),
        None,
    ),
    # 21 of 67 MB of the output are still in the 60 MB L2 when it ends
    "embedding": (
        dispatch(
            GATHER,
            (8192, 2, 1),
            256,
            "aten::index_select",
            [((151936, 4096), HALF), ((8192,), "long int")],
        ),
        None,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_bytes_and_flops_agree_with_the_recorded_decoder(examples: Path, case: str):
    with (examples / "h200_decoder" / "kernel_truth.csv").open(newline="") as stream:
        row = next(row for row in csv.DictReader(stream) if row["case"] == case)
    given, tolerance = CASES[case]
    found = estimate(given)
    assert found and found.bytes
    assert found.bytes == pytest.approx(float(row["case_min_bytes"]), rel=1e-3)
    measured = float(row["dram_read_bytes"]) + float(row["dram_write_bytes"])
    if tolerance is None:
        assert found.bytes != pytest.approx(measured, rel=0.05)
    else:
        assert found.bytes == pytest.approx(measured, rel=tolerance)
    if case != "sum_16k":
        assert found.flops == pytest.approx(float(row["case_flops"]), rel=1e-3)


# ----------------------------------------------------------------------------------------- attention on paper


def test_a_prompt_counts_the_causal_half():
    found = estimate(dispatch("kernel_unified_attention", (76, 8, 1), **prefill(1, 300)))
    assert found and found.flops == 4 * 45150 * 4096
    assert found.bytes == 300 * CACHE + 2 * 300 * ROW
    assert found.flops_unit == "matrix_fp16"
    assert found.problem_shape and found.problem_shape["context_tokens"] == 300


def test_without_pairs_bytes_are_known_and_flops_are_not():
    given = replace(dispatch("kernel_unified_attention", **prefill(3, 300)), step_attended_pairs=None)
    found = estimate(given)
    assert found and found.bytes and found.flops is None and found.flops_unit is None


@pytest.mark.parametrize(
    "given",
    [
        dispatch("kernel_unified_attention", (76, 4, 1), **prefill(1, 300)),  # another number of key heads
        dispatch("kernel_unified_attention", (70, 8, 1), **prefill(1, 300)),  # a grid for fewer tokens
        dispatch("reduce_segments", (4, 16, 1), **decode(4, 400)),
        dispatch("reduce_segments", (2, 32, 1), **decode(4, 400)),
        dispatch("reduce_segments", (300, 32, 1), **prefill(1, 300)),
        dispatch("kernel_unified_attention", (5, 4, 16)),  # no step known, and another number of key heads
        dispatch(
            "kernel_paged_attention_2d", **prefill(1, 300)
        ),  # of such a step the prompt is done elsewhere
        dispatch("_fwd_grouped_kernel_stage1", **decode(4, 400)),
    ],
)
def test_attention_that_is_not_of_this_step_or_model_is_unknown(given: Dispatch):
    assert estimate(given) is None


def test_a_decode_kernel_has_a_limit_without_context():
    """Four query heads share each key and value of 2 B: 4 FLOP a byte at most."""
    found = estimate(dispatch("paged_attention_decode_kernel", (1, 8, 1)))
    assert found and found.bytes is None and found.flops is None
    assert found.intensity_limit == 4
    known = estimate(dispatch("paged_attention_decode_kernel", (1, 8, 1), **decode(1, 2048)))
    assert known and known.flops and known.bytes and known.intensity_limit is None
    assert known.flops / known.bytes < 4
    assert estimate(dispatch("paged_attention_decode_kernel", (1, 8, 1)), None) is None


def test_split_decode_attention_leaves_and_adds_up_its_segments():
    """16 segments a head: 128 sums, a maximum and a total of 32 bit each; the cache is read once as ever."""
    whole = estimate(dispatch("paged_attention_decode_kernel", (1, 8, 1), **decode(1, 2048)))
    split = estimate(dispatch("paged_attention_decode_split_kernel", (1, 8, 16), **decode(1, 2048)))
    reduced = estimate(dispatch("paged_attention_decode_reduce_kernel", (1, 32, 1), **decode(1, 2048)))
    assert whole and split and reduced and whole.bytes and split.bytes
    partials = 32 * 16 * (128 + 2) * 4
    assert split.bytes - whole.bytes == partials
    assert split.flops == whole.flops
    assert reduced.bytes == partials + ROW
    assert estimate(dispatch("paged_attention_decode_reduce_kernel", (1, 8, 1), **decode(1, 2048))) is None


def test_ranks_share_the_heads():
    served = ServedModel.load(CONFIG, tp=4)
    found = estimate(dispatch("kernel_unified_attention", (2, 2, 16), **decode(1, 1000)), served)
    assert found and found.problem_shape
    assert (found.problem_shape["heads"], found.problem_shape["kv_heads"]) == (8, 2)


def test_an_fp8_cache_is_half_as_large():
    name = "void vllm::paged_attention_v1_kernel<unsigned short, 128, (vllm::Fp8KVCacheDataType)1>()"
    wide, narrow = (
        estimate(dispatch(each, **decode(2, 1000))) for each in (name.replace(")1>", ")0>"), name)
    )
    assert wide and narrow and wide.bytes and narrow.bytes
    assert wide.bytes - narrow.bytes == 1000 * CACHE / 2
    assert wide.flops_unit == "vector_fp32"
    scheme = {"quantization_config": {"quant_method": "x", "kv_cache_scheme": {"num_bits": 8}}}
    served = ServedModel.load(CONFIG | scheme)
    found = estimate(dispatch("kernel_unified_attention_2d", **decode(2, 1000)), served)
    assert found and found.bytes == 1000 * CACHE / 2 + 2 * 2 * ROW


@pytest.mark.parametrize(
    ("command", "bits"),
    [
        (["vllm", "serve", "--kv-cache-dtype", "fp8_e4m3"], 8),
        (["vllm", "serve", "--kv-cache-dtype=fp8"], 8),
        (["vllm", "serve", "--kv-cache-dtype=bfloat16"], 16),
        (["vllm", "serve", "--kv-cache-dtype", "auto"], None),
        (["vllm", "serve", "--kv-cache-dtype"], None),
        ([], None),
    ],
)
def test_the_command_line_says_how_the_cache_is_kept(command: list[str], bits: int | None):
    assert cache_bits(command) == bits


def test_the_command_of_a_recording_is_heeded(captures: Path):
    recorded = pipeline.load(captures / "h200_vllm" / "gptq8_graph.kineto.json.gz")
    model = captures / "h200_vllm" / "gptq8_config.json"
    sizes = []
    for command in ([], ["vllm", "serve", "m", "--kv-cache-dtype", "fp8"]):
        recorded.manifest.command = command
        found = pipeline.analyze_capture(recorded, AnalyzeOptions(model=str(model))).kernels
        decode = [
            k for k in found if k.kernel == "kernel_unified_attention" and k.launch_shape.grid[0] == 256
        ]
        sizes.append(decode[0].bytes_per_dispatch.value)
    assert sizes[0] - sizes[1] == pytest.approx(612 * CACHE / 2)


def test_others_than_the_unified_kernel_may_do_a_mixed_step_in_parts():
    step = prefill(1, 300) | {"step_phase": "mixed"}
    name = "void cutlass::device_kernel<flash::FlashAttnFwdSm90<int> >(int)"
    assert estimate(dispatch(name, **step)) is None
    found = estimate(dispatch(name, **prefill(1, 300)))
    assert found and found.bytes == 300 * CACHE + 2 * 300 * ROW
    combine = "_ZN7ck_tile6kentryILi1ENS_29FmhaFwdSplitKVCombineKernelINS_1AEEEEEvi"
    assert estimate(dispatch(combine, **prefill(1, 300))) is None


def test_the_rocm_kernel_leaves_parts_of_256_tokens():
    name = "void paged_attention_ll4mi_{}_kernel<__half>(int)"
    main = estimate(dispatch(name.format("QKV_mfma16"), **decode(2, 1200)))
    after = estimate(dispatch(name.format("reduce"), **decode(2, 1200)))
    assert main and after
    parts = 2 * 32 * 3 * (128 * 2 + 8)
    assert main.bytes == 1200 * CACHE + 2 * 2 * ROW + parts
    assert after.bytes == parts + 2 * ROW


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"sliding_window": 1024, "model_type": "mistral"}, 1024),  # every layer
        ({"sliding_window": 1024, "use_sliding_window": False}, 4000),
        ({"sliding_window": 1024}, 4000),  # off in this model type unless it is said to be on
        ({"sliding_window": 4096, "model_type": "mistral"}, 4000),
        ({"sliding_window": 1024, "layer_types": ["sliding_attention", "full_attention"] * 18}, 2512),
        ({"sliding_window": 1024, "model_type": "gemma2"}, None),  # in which layers is not told
    ],
)
def test_windows_shorten_the_context(more: dict[str, Any], expected: float | None):
    served = ServedModel.load(CONFIG | more)
    found = estimate(dispatch("kernel_unified_attention", **decode(1, 4000)), served)
    if expected is None:
        assert found and found.bytes is None and found.intensity_limit
    else:
        assert found and found.bytes == expected * CACHE + 2 * ROW


def test_a_window_over_several_sequences_is_not_guessed():
    served = ServedModel.load(CONFIG | {"sliding_window": 1024, "model_type": "mistral"})
    unknown = estimate(dispatch("kernel_unified_attention_2d", **decode(4, 4000)), served)
    assert unknown and unknown.bytes is None and unknown.intensity_limit == 4
    found = estimate(dispatch("kernel_unified_attention_2d", **decode(4, 1000)), served)
    assert found and found.bytes == 1000 * CACHE + 2 * 4 * ROW


def test_shapes_of_the_operator_come_before_the_model():
    given = dispatch(
        "kernel_unified_attention",
        (76, 4, 1),
        operator="vllm::unified_attention_with_output",
        operands=[((300, 16, 64), HALF), ((300, 4, 64), HALF), ((300, 4, 64), HALF)],
        **prefill(1, 300),
    )
    found = estimate(given, None)
    assert found and found.bytes == 300 * 4 * 64 * 4 + 2 * 300 * 16 * 64 * 2


def test_pytorchs_attention_without_a_model_has_bytes_only():
    given = dispatch(SDPA, operator="aten::_cudnn_attention_forward", operands=QKV)
    found = estimate(given, None)
    assert found and found.bytes and found.flops is None
    one = [((4, 32, 1, 128), HALF), *QKV[1:]]
    found = estimate(replace(given, operands=tuple(Operand(*each) for each in one)), None)
    assert found and found.flops == 4 * 4 * 32 * 128 * 4096
    for wrong in (QKV[:2], [((4, 32, 4096, 64), HALF), *QKV[1:], QKV[0]][:2], [((4, 32), HALF)] * 3):
        assert estimate(replace(given, operands=tuple(Operand(*each) for each in wrong)), None) is None
