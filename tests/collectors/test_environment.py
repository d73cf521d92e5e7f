"""What is kept of environments and command lines."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rocscope.collectors import environment


def test_only_listed_variables_stay() -> None:
    kept = environment.allowed(
        {
            "RANK": "3",
            "HIP_VISIBLE_DEVICES": "0,1",
            "VLLM_ROCM_USE_AITER": "1",
            "HSA_OVERRIDE_GFX_VERSION": "9.0.8",
            "PYTORCH_TUNABLEOP_ENABLED": "1",
            "VLLM_API_KEY": "abc",
            "VLLM_HTTP": "http://user:pass@host/",
            "VLLM_MODEL_REVISION": "hf_abcdefgh",
            "HF_TOKEN": "hf_x",
            "HOME": "/home/someone",
            "TP": 4,
        }
    )
    assert kept == {
        "RANK": "3",
        "HIP_VISIBLE_DEVICES": "0,1",
        "HSA_OVERRIDE_GFX_VERSION": "9.0.8",
        "PYTORCH_TUNABLEOP_ENABLED": "1",
        "VLLM_ROCM_USE_AITER": "1",
    }


def test_secrets_on_command_lines() -> None:
    line = "serve m --api-key s3cret --hf-token=hf_abcdefgh -tp 4 HF_TOKEN=zzz sk-abcdefgh --max-num-seqs 4"
    shown = "serve m --api-key <hidden> --hf-token=<hidden> -tp 4 HF_TOKEN=<hidden> <hidden> --max-num-seqs 4"
    assert " ".join(environment.command(line.split())) == shown
    plain = ("--tokenizer", "org/name", "--max-num-batched-tokens=8192", "--eos-token-id", "2")
    assert environment.command(plain) == plain
    assert environment.command(["--api-key", "--port", "8000"]) == ("--api-key", "--port", "8000")


@given(st.dictionaries(st.text(max_size=20), st.text(max_size=20)))
def test_nothing_secret_by_name(variables: dict[str, str]) -> None:
    kept = environment.allowed({**variables, "VLLM_SECRET": "x", "MY_TOKEN": "y"})
    assert not {"VLLM_SECRET", "MY_TOKEN"} & set(kept)
    assert all(name.startswith("VLLM_") or name.isupper() for name in kept)
