"""What --load means, and the command that is run for it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocscope.errors import UsageError
from rocscope.traffic.spec import Place, Shape, parse

HERE = Place("http://127.0.0.1:8000", vllm=("vllm",), model="/models/q")


def test_none_is_no_load() -> None:
    assert parse("none") is None


def test_a_command_is_split_and_kept() -> None:
    load = parse("./client --name 'a b'")
    assert load is not None
    assert load.kind == "command"
    assert load.command(HERE, Path("/out")) == ("./client", "--name", "a b")


def test_the_builtin_load_has_defaults_and_fields() -> None:
    load = parse("builtin")
    assert load is not None
    assert load.shape == Shape()
    words = load.command(HERE, Path("/out"))
    assert words[:5] == (sys.executable, "-m", "rocscope", "load", "http://127.0.0.1:8000")
    assert words[-2:] == ("--json-to", "/out/result.json")
    chosen = parse("builtin:concurrency=1+16,prompt=1024,output=8,requests=3,rate=2.5,warmup=0,seed=7")
    assert chosen is not None
    assert chosen.shape == Shape(
        concurrency=(1, 16), prompt=1024, output=8, requests=3, rate=2.5, warmup=0, seed=7
    )
    socket = chosen.command(Place("http://localhost", socket_path="/run/v.sock"), Path("/out"))
    assert socket[socket.index("--uds") + 1] == "/run/v.sock"


def test_vllms_own_benchmark_is_called_beside_the_server() -> None:
    load = parse("bench-serve --num-prompts 40")
    assert load is not None
    python = Place(
        "http://h:1", vllm=("python3", "-m", "vllm.entrypoints.cli.main"), model="m", served_name="n"
    )
    words = load.command(python, Path("/out"))
    assert words[:5] == ("python3", "-m", "vllm.entrypoints.cli.main", "bench", "serve")
    assert words[words.index("--served-model-name") + 1] == "n"
    assert words[-2:] == ("--num-prompts", "40")  # what the user says comes last, and counts
    for place in (Place("http://h:1"), Place("http://localhost", socket_path="/s", model="m")):
        with pytest.raises(UsageError, match="bench-serve"):
            load.command(place, Path("/out"))


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "is empty"),
        ("'unclosed", "mind the quotes"),
        ("builtin:promt=5", "'promt'"),
        ("builtin:prompt", "no value"),
        ("builtin:prompt=many", "prompt"),
        ("builtin:concurrency=0", "1 to 4096"),
        ("builtin:concurrency=", "concurrency"),
        ("builtin:rate=nan", "rate"),
        ("builtin prompt=5", "what is 'prompt=5'"),
    ],
)
def test_what_cannot_be_meant_is_said(text: str, named: str) -> None:
    with pytest.raises(UsageError) as error:
        parse(text)
    assert named in f"{error.value.message} {error.value.hint}"


@given(
    st.lists(st.integers(1, 4096), min_size=1, max_size=5),
    st.integers(1, 10**6),
    st.integers(1, 10**6),
    st.none() | st.integers(1, 10**6),
    st.none() | st.floats(0.01, 1e6),
)
def test_arguments_say_the_whole_shape(
    concurrency: list[int], prompt: int, output: int, requests: int | None, rate: float | None
) -> None:
    shape = Shape(
        concurrency=tuple(concurrency),
        prompt=prompt,
        output=output,
        requests=requests,
        rate=None if rate is None else float(f"{rate:g}"),
    )
    words = shape.arguments()
    fields = {name[2:]: value for name, value in zip(words[::2], words[1::2], strict=True)}
    assert Shape.model_validate(fields) == shape
