"""The least bytes of a decode step: worked out by hand, and against the shape models of the same products."""

from pathlib import Path

import pytest

from rocscope.models import token_bytes
from rocscope.models.served import ServedModel

DENSE = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 1000,
    "torch_dtype": "float16",
}
ATTENTION = 64 * (64 + 32 + 32) + 64 * 64  # qkv, o
MLP = 64 * 256 + 128 * 64  # gate and up, down
HEAD = 64 * 1024  # the vocabulary is padded to a multiple of 64


def served(tp=1, **more):
    return ServedModel.load({**DENSE, **more}, tp)


def test_weights_of_sixteen_bit_are_two_bytes_each():
    found = token_bytes.weights(served())
    assert found.value == 2 * (3 * (ATTENTION + MLP) + HEAD)
    assert "16-bit" in found.source and "rank" not in found.source


def test_a_rank_reads_its_part():
    found = token_bytes.weights(served(tp=2))
    assert found.value == 2 * (3 * (ATTENTION + MLP) / 2 + HEAD / 2)
    assert "one of 2 ranks" in found.source


@pytest.mark.parametrize(
    ("method", "more", "zeros"),
    [("gptq", {"bits": 4}, 4), ("awq", {"bits": 4, "zero_point": True}, 4), ("gptq", {"bits": 8}, 8)],
)
def test_packed_weights_have_scales_and_zeros_and_the_head_is_not_packed(method, more, zeros):
    packing = {"quant_method": method, "group_size": 32, **more}
    bits = more["bits"]
    found = token_bytes.weights(served(quantization_config=packing))
    per_layer = sum(
        k * n * bits / 8 + (k // 32) * n * (2 + zeros / 8)
        for n, k in ((128, 64), (64, 64), (256, 64), (64, 128))
    )
    assert found.value == 3 * per_layer + 2 * HEAD


def test_fp8_is_a_byte_each_and_unknown_packing_is_unknown():
    found = token_bytes.weights(served(quantization_config={"quant_method": "fp8"}))
    assert found.value == 3 * (ATTENTION + MLP) + 2 * HEAD
    assert token_bytes.weights(served(quantization_config={"quant_method": "other", "bits": 4})) is None
    assert token_bytes.weights(served(quantization_config={"quant_method": "gptq", "bits": 4})) is None
    assert token_bytes.weights(served(torch_dtype="odd")) is None
    assert token_bytes.weights(served(model_type="deepseek_v3")) is None


def test_of_experts_those_of_one_token_are_read_at_least():
    sparse = {
        "model_type": "qwen3_moe",
        "num_experts": 8,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 32,
    }
    found = token_bytes.weights(served(**sparse))
    experts = 2 * (64 * 64 + 32 * 64)
    assert found.value == 2 * (3 * (ATTENTION + experts + 8 * 64) + HEAD)
    assert "2 experts a layer at least" in found.source
    assert token_bytes.weights(served(**{**sparse, "num_experts_per_tok": None})) is None


def test_the_cache_is_keys_and_values_of_every_layer_or_of_its_window():
    a_layer = 2 * 2 * 16 * 2  # keys and values, two heads, fp16
    assert token_bytes.cache(served(), 1000.0, 4.0) == 3 * a_layer * 1000
    assert token_bytes.cache(served(tp=2), 1000.0, 4.0) == 3 * a_layer / 2 * 1000
    windowed = served(model_type="mistral", sliding_window=100)
    assert token_bytes.cache(windowed, 1000.0, 4.0) == 3 * a_layer * 400
    assert token_bytes.cache(windowed, 90.0, 4.0) == 3 * a_layer * 90
    assert token_bytes.cache(served(model_type="deepseek_v3"), 1000.0, 4.0) is None


@pytest.mark.captures
@pytest.mark.parametrize("name", ["fp16", "gptq8"])
def test_the_weights_are_what_the_products_of_a_recorded_step_read(captures: Path, name):
    """The shape models tell each product of the recording; activations are the hundredth that is left out."""
    import rocscope

    folder = captures / "h200_vllm"
    config = folder / f"{name}_config.json"
    analysis = rocscope.analyze(folder / f"{name}_graph.kineto.json.gz", model=config)
    decode = analysis.phases[0]
    products = sum(each["bytes"] for each in decode.families if each["family"] in ("gemm", "gptq_gemm"))
    found = token_bytes.weights(ServedModel.load(config))
    assert products / decode.steps == pytest.approx(found.value, rel=0.01)
