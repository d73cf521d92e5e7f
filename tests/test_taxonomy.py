"""The rules of families.toml: their own examples, hostile names, faults in the file."""

from __future__ import annotations

import time
import tomllib
from importlib import resources
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocscope.errors import InputError
from rocscope.taxonomy import Rule, Taxonomy, classify, taxonomy

RULES = taxonomy().rule
DESIGN_FAMILIES = {
    *("gptq_gemm", "awq_gemm", "gguf_gemm", "bnb_gemm", "dequant", "gemm", "conv", "ssm", "attention"),
    *("rmsnorm", "layernorm", "rope", "activation", "kv_cache", "moe", "quantize", "sampling", "embedding"),
    *("communication", "memcpy", "elementwise", "reduction", "other"),
}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_a_rule_decides_its_examples_and_no_counter_example(rule: Rule) -> None:
    found = classify(rule.examples)
    assert list(found.rule) == [rule.id] * len(rule.examples), found[["raw_name", "rule"]].to_dict("records")
    assert set(found.family) == {rule.family}
    assert rule.id not in set(classify(rule.not_examples).rule)


def test_the_families_are_those_of_the_contract() -> None:
    assert set(taxonomy().families) == DESIGN_FAMILIES
    assert {rule.family for rule in RULES} == DESIGN_FAMILIES


def test_the_frame_has_a_row_for_each_name_in_order() -> None:
    names = ["awq_gemm_kernel", "stranger", "awq_gemm_kernel", "void vllm::rms_norm_kernel<int>(int)"]
    found = classify(names)
    assert list(found.columns) == ["raw_name", "kernel", "family", "subfamily", "rule"]
    assert list(found.index) == [0, 1, 2, 3]
    assert list(found.raw_name) == names
    assert list(found.family) == ["awq_gemm", "other", "awq_gemm", "rmsnorm"]
    assert found.kernel[3] == "rms_norm_kernel"
    assert (found.subfamily[1], found.rule[1]) == ("", "")
    assert classify([]).empty


def test_one_decision_a_distinct_name() -> None:
    begin = time.process_time()
    found = classify(["awq_gemm_kernel", "stranger"] * 250_000)
    assert time.process_time() - begin < 1.5
    assert found.family.value_counts().to_dict() == {"awq_gemm": 250_000, "other": 250_000}


@given(st.lists(st.text(max_size=80), max_size=8))
def test_any_text_is_classified(names: list[str]) -> None:
    found = classify(names)
    assert list(found.raw_name) == names
    assert set(found.family) <= DESIGN_FAMILIES


@pytest.mark.parametrize(
    "piece",
    ["rocprim", "gemm_", "triton_red_fused_", "_rope", "at::cuda::cub", "a", "(?i)(x+x+)+y", "\x00\n"],
)
def test_hostile_names_take_no_time(piece: str) -> None:
    names = [piece * (100_000 // len(piece)) + str(number) for number in range(20)]
    begin = time.process_time()
    assert len(classify(names)) == 20
    assert time.process_time() - begin < 2.0


GOOD = {
    "id": "one",
    "family": "gemm",
    "subfamily": "s",
    "kernel": ["^one$"],
    "examples": ["one"],
    "not_examples": ["two"],
    "source": "made up",
}


def toml(rules: list[dict[str, object]], families: str = 'gemm = "g"\nother = "o"\n') -> str:
    text = f"[families]\n{families}"
    for rule in rules:
        text += "[[rule]]\n" + "".join(f"{key} = {value!r}\n" for key, value in rule.items())
    return text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (toml([GOOD | {"famly": "gemm"}]), "rule one: famly"),
        (toml([{k: v for k, v in GOOD.items() if k != "source"}]), "rule one: source"),
        (toml([GOOD | {"kernel": ["(a"]}]), "rule one: kernel"),
        (toml([GOOD | {"kernel": ["(?=a)bcd"]}]), "rule one: kernel"),
        (toml([GOOD | {"kernel": ["a*b*c*"]}]), "matches anything"),
        (toml([GOOD | {"kernel": [".+?"]}]), "matches anything"),
        (toml([GOOD | {"kernel": ["^" + "a" * 300]}]), "3 to 200 characters"),
        (toml([GOOD | {"kernel": []}]), "needs a pattern"),
        (toml([GOOD | {"examples": []}]), "rule one: examples"),
        (toml([GOOD | {"family": "gem"}]), "rule one: family 'gem' is not in [families]"),
        (toml([GOOD, GOOD]), "rule one: this id is given twice"),
        (toml([GOOD], 'gemm = "g"\n'), "lacks 'other'"),
        (toml([{"id": 3}]), "rule 3: id"),
        ("rule = 3\n[families]\n", "rule: "),
        ("[families\n", "Expected ']'"),
    ],
)
def test_a_fault_names_the_entry_and_the_field(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "families.toml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        Taxonomy.load(path)
    assert says in caught.value.message
    assert str(path) in caught.value.message


def test_a_file_of_ones_own_and_one_that_is_absent(tmp_path: Path) -> None:
    path = tmp_path / "families.toml"
    path.write_text(toml([GOOD]))
    assert Taxonomy.load(path).classify(["one", "two"]).family.to_list() == ["gemm", "other"]
    with pytest.raises(InputError, match="absent"):
        Taxonomy.load(tmp_path / "absent.toml")


def test_a_name_that_is_not_utf_8_is_classified_too() -> None:
    found = classify(["awq_gemm_kernel\udcff", "void f<\ud800>(int)"])
    assert found.raw_name[0] == "awq_gemm_kernel\udcff"
    assert list(found.family) == ["awq_gemm", "other"]


def test_no_pattern_is_a_catch_all() -> None:
    strangers = ["my_kernel", "kernel", "foo", "k", "void a::b<c>(d)", "stencil3d", "triton_foo", "spmv_csr"]
    assert set(classify(strangers).family) == {"other"}


def test_each_entry_of_the_file_is_loaded() -> None:
    text = resources.files("rocscope.data").joinpath("families.toml").read_text()
    assert len(tomllib.loads(text)["rule"]) == len(RULES) == len({rule.id for rule in RULES})
