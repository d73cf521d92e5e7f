"""Whether two recordings compare, what was changed on purpose, and what merely differs."""

import functools
import json

import pytest

from rocscope import pipeline
from rocscope.comparison import comparable
from rocscope.errors import UsageError
from synthetic_capture import capture, row
from synthetic_steps import decode_steps


@functools.cache
def side_of(told):
    return pipeline.side(decode_steps(**json.loads(told)))


def side(**more):
    return side_of(json.dumps(more))


def why(first, second, across=()):
    return comparable.likeness(side(**first), side(**second), across)


MODEL = {"model_type": "qwen3", "hidden_size": 4096, "torch_dtype": "float16"}
GPTQ = {**MODEL, "quantization_config": {"quant_method": "gptq", "bits": 8}}


@pytest.mark.parametrize(
    ("key", "base", "new", "told"),
    [
        ("gpu", {"gpu": "gfx908"}, {"gpu": "gfx90a"}, "GPU: "),
        ("tp", {"model_tp": 1}, {"model_tp": 4}, "tensor-parallel size: 1 against 4"),
        (
            "dtype",
            {"model": MODEL},
            {"model": {**MODEL, "torch_dtype": "bfloat16"}},
            "type of activations: float16 against bfloat16",
        ),
        (
            "dtype",
            {"command": ["vllm", "serve", "--dtype", "half"]},
            {"command": ["vllm", "serve", "--dtype=bfloat16"]},
            "type of activations: float16 against bfloat16",
        ),
        (
            "mode",
            {"command": ["vllm", "serve", "--enforce-eager"]},
            {"graphs": True},
            "execution: eager against graphs",
        ),
        ("mode", {"log_lines": {"eager-mode": 1}}, {"graphs": True}, "execution: eager against graphs"),
        (
            "model",
            {"model": MODEL},
            {"model": {**MODEL, "hidden_size": 2048}},
            "model: hidden_size is 4096 against 2048",
        ),
    ],
)
def test_what_makes_no_comparison_may_be_declared(key, base, new, told):
    unlike = why(base, new)
    assert len(unlike.why_not) == 1 and unlike.why_not[0].startswith(told) and not unlike.across
    meant = why(base, new, (key,))
    assert meant.why_not == [] and meant.across == unlike.why_not
    other = next(each for each in comparable.ACROSS if each != key)
    assert why(base, new, (other,)).why_not == unlike.why_not


def test_what_is_not_known_of_one_side_is_no_difference():
    assert why({"model_tp": 4}, {}).why_not == []
    assert why({"model": MODEL}, {"command": ["vllm", "serve", "--dtype", "auto"]}).why_not == []
    assert why({"graphs": True}, {}).why_not == []


def test_quantisation_and_profilers_differ_without_standing_in_the_way():
    found = why({"model": MODEL, "profiler": "torch"}, {"model": GPTQ, "profiler": "rocprofv3"})
    assert found.why_not == []
    assert found.differs == [
        "quantisation: none against gptq 8 bits",
        "profiler: torch against rocprofv3",
    ]


def test_synthetic_data_is_held_against_synthetic_data_only():
    recorded, made, replayed = (decode_steps() for _ in range(3))
    made.manifest.provenance = "synthetic"
    replayed.manifest.provenance = "replayed"
    first, second, third = (pipeline.side(each) for each in (recorded, made, replayed))
    assert comparable.likeness(second, first).why_not == ["data: synthetic against recorded"]
    assert comparable.likeness(third, first).why_not == []


def test_a_recording_without_kernels_cannot_be_compared():
    found = comparable.likeness(side(), pipeline.side(capture([])))
    assert found.why_not == ["new holds no GPU kernels"]


def test_what_cannot_be_declared_is_refused():
    assert comparable.check(["mode,gpu", "gpu"]) == ("mode", "gpu")
    with pytest.raises(UsageError, match="weather"):
        comparable.check(["weather"])


def test_eager_against_graphs_on_real_recordings(examples):
    folder = examples / "h200_decoder"
    pair = folder / "kineto_strided_eager.json.gz", folder / "kineto_strided_graph.json.gz"
    found = pipeline.compare(*pair)
    assert not found.comparable and found.why_not == ["execution: eager against graphs"]
    assert found.tiers[0].verdict == "no difference shown" and all(
        each.verdict is None for each in [*found.kernels, *found.families]
    )
    meant = pipeline.compare(*pair, across=["mode"])
    assert meant.comparable and meant.across == found.why_not and meant.tiers[0].verdict == "better"
    assert "changed on purpose" in meant.notes[0]
    idle = next(each for each in meant.gaps if each.name == "idle")
    assert idle.verdict == "better" and idle.step_frac == pytest.approx(meant.tiers[0].change_frac, abs=0.01)


def test_calls_that_launch_one_kernel_each_are_no_graphs():
    from rocscope.comparison import mode

    def of(calls):
        rows = [row("a", 100 * i, 50, correlation_id=call) for i, call in enumerate(calls)]
        return mode.of(pipeline.side(capture(rows)))

    assert of(range(1, 9)) == "eager"
    assert of([7] * 8) == "graphs"
    assert of([1, 2, 3, 4] * 2) == "eager"
    assert of([5] * 4 + list(range(10, 200))) is None  # too few to call it either
    assert of([None] * 8) is None
