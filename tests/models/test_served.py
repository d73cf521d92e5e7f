"""The served model: sizes and layers out of config.json, and what is wrong with one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rocscope.errors import InputError
from rocscope.models.served import Linear, ServedModel

QWEN: dict[str, Any] = {
    "model_type": "qwen3",
    "hidden_size": 4096,
    "intermediate_size": 12288,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 151936,
    "torch_dtype": "float16",
    "quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": False},
}


def named(model: ServedModel) -> dict[str, tuple[int, int]]:
    return {each.name: (each.n, each.k) for each in model.linears}


def test_the_recorded_model(examples: Path) -> None:
    model = ServedModel.load(examples / "h200_decoder" / "w4_config.json")
    assert model == ServedModel.load(QWEN)
    assert named(model) == {
        "qkv_proj": (6144, 4096),
        "o_proj": (4096, 4096),
        "q_proj": (4096, 4096),
        "k_proj": (1024, 4096),
        "v_proj": (1024, 4096),
        "gate_up_proj": (24576, 4096),
        "down_proj": (4096, 12288),
        "gate_proj": (12288, 4096),
        "up_proj": (12288, 4096),
    }
    assert model.lm_head == Linear("lm_head", 151936, 4096)
    assert (model.element_bytes, model.norms_heads, model.linears_complete) == (2, True, True)


def test_the_slices_of_one_rank_are_those_of_the_field_notes() -> None:
    """A 27B model over four cards: (K, N) of gate_up (5120, 8704) and down (4352, 5120)."""
    found = named(
        ServedModel.load(
            QWEN
            | {"hidden_size": 5120, "intermediate_size": 17408, "num_attention_heads": 24, "head_dim": 256},
            tp=4,
        )
    )
    assert found["gate_up_proj"] == (8704, 5120)
    assert found["down_proj"] == (5120, 4352)
    assert found["o_proj"] == (5120, 1536)


def test_one_head_is_kept_where_ranks_outnumber_them() -> None:
    found = named(ServedModel.load(QWEN | {"num_key_value_heads": 2}, tp=8))
    assert found["k_proj"] == (128, 4096)


def test_a_folder_a_text_part_and_what_is_left_out(tmp_path: Path) -> None:
    inner = {k: v for k, v in QWEN.items() if k not in ("quantization_config", "torch_dtype", "head_dim")}
    outer = {"text_config": inner | {"vocab_size": 100}, "dtype": "bfloat16"}
    outer["quantization_config"] = {"bits": 8}
    (tmp_path / "config.json").write_text(json.dumps(outer))
    model = ServedModel.load(tmp_path, tp=2)
    assert (model.dtype, model.head_dim, model.element_bytes) == ("bfloat16", 128, 2)
    assert model.lm_head == Linear("lm_head", 64, 4096)  # padded to 128, two ranks
    assert model.quantization is not None
    assert model.quantization.bits == 8
    bare = ServedModel.load({k: v for k, v in inner.items() if k != "vocab_size"}, tp=None)
    assert (bare.tp, bare.lm_head, bare.quantization, bare.element_bytes) == (1, None, None, None)


@pytest.mark.parametrize(
    ("config", "method", "bits", "groups_of_4096", "act_order"),
    [
        ({"quant_method": "gptq", "bits": 8, "group_size": 128, "desc_act": True}, "gptq", 8, 32, True),
        ({"quant_method": "awq", "w_bit": 4, "q_group_size": 64}, "awq", 4, 64, False),
        ({"quant_method": "gptq", "bits": 4, "group_size": -1}, "gptq", 4, 1, False),
        ({"quant_method": "fp8"}, "fp8", None, None, False),
        (
            {"quant_method": "compressed-tensors", "config_groups": {
                "0": {"weights": {"num_bits": 4, "group_size": 32}}}},
            "compressed-tensors", 4, 128, False,
        ),
        (
            {"quant_method": "compressed-tensors", "config_groups": {
                "0": {"weights": {"num_bits": 8, "group_size": None, "actorder": "group"}}}},
            "compressed-tensors", 8, 1, True,
        ),
        (
            {"quant_method": "compressed-tensors", "config_groups": {
                "0": {"weights": {"num_bits": 8}}, "1": {"weights": {"num_bits": 4}}}},
            "compressed-tensors", None, None, False,
        ),
    ],
)  # fmt: skip
def test_quantisation(
    config: dict[str, Any], method: str, bits: int | None, groups_of_4096: int | None, act_order: bool
) -> None:
    found = ServedModel.load(QWEN | {"quantization_config": config}).quantization
    assert found is not None
    assert (found.method, found.bits, found.act_order) == (method, bits, act_order)
    assert found.groups(4096) == groups_of_4096


def test_experts_have_no_dense_layers_of_their_own() -> None:
    experts = {"model_type": "mixtral", "num_local_experts": 8, "num_experts_per_tok": 2}
    mixtral = ServedModel.load(QWEN | experts)
    assert (mixtral.experts, mixtral.experts_per_token) == (8, 2)
    assert not any("gate" in name for name in named(mixtral))
    shared = ServedModel.load(
        QWEN
        | {"model_type": "qwen2_moe", "num_experts": 60, "moe_intermediate_size": 1408}
        | {"shared_expert_intermediate_size": 5632}
    )
    assert named(shared)["shared_expert.gate_up_proj"] == (11264, 4096)


def test_a_kind_of_model_whose_layers_are_not_known_is_not_complete() -> None:
    assert not ServedModel.load(QWEN | {"model_type": "deepseek_v3"}).linears_complete
    assert not ServedModel.load({k: v for k, v in QWEN.items() if k != "model_type"}).linears_complete


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"hidden_size": None}, "hidden_size"),
        ({"hidden_size": -1}, "hidden_size"),
        ({"num_attention_heads": "many"}, "num_attention_heads"),
        ({"head_dim": None, "num_attention_heads": 24}, "no multiple of num_attention_heads"),
        ({"quantization_config": {"bits": 99}}, "quantization_config: bits"),
        ({"quantization_config": [4]}, "quantization_config"),
        ({"num_key_value_heads": 6, "num_attention_heads": 32}, "num_key_value_heads cannot be split over 4"),
    ],
)
def test_a_fault_names_the_field(change: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        ServedModel.load(QWEN | change, tp=4)


def test_ranks_that_are_none() -> None:
    with pytest.raises(InputError, match="cannot be split over 0 ranks"):
        ServedModel.load(QWEN | {"num_key_value_heads": 32}, tp=0)


@pytest.mark.parametrize("text", ["", "{", "[1]", "\xff", "[" * 100_000])
def test_a_file_that_is_no_config(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=r"config\.json"):
        ServedModel.load(path)


def test_no_file_and_one_too_large(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file") as caught:
        ServedModel.load(tmp_path / "absent.json")
    assert "--model" in caught.value.hint
    large = tmp_path / "config.json"
    with large.open("wb") as stream:
        stream.truncate(17 << 20)
    with pytest.raises(InputError, match="too large"):
        ServedModel.load(large)
