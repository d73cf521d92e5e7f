"""The recordings made for comparisons hold what their notes say."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from rocscope import archive, steps
from rocscope.capture import Capture
from rocscope.traffic import result

SERVED = [f"{model}_c1_{number}" for model in ("fp16", "gptq8") for number in (1, 2, 3)]
LEVELS = [1, 2, 4, 8, 16]


def opened(examples: Path, name: str) -> Capture:
    capture = archive.unpack(examples / "h200_compare" / f"{name}.tar.gz")
    assert capture is not None
    assert capture.manifest.provenance == "recorded" and not capture.manifest.partial
    return capture


@pytest.mark.parametrize(
    ("name", "requests", "least"),
    [
        *((name, 1, 280) for name in SERVED),
        ("fp16_c16", 16, 140),
        ("gptq8_c16", 16, 140),
        *((f"decoder_{name}", 1, 270) for name in ("strided_1", "strided_2", "coalesced_1")),
    ],
)
def test_there_are_enough_decode_steps_to_draw_from(
    examples: Path, name: str, requests: int, least: int
) -> None:
    capture = opened(examples, name)
    frame = steps.annotated(capture)
    assert frame["on_gpu"].all()
    decode = frame[(frame["phase"] == "decode") & (frame["generation_requests"] == requests)]
    assert len(decode) >= least
    sampled = capture.samples.filter(
        [at == "nvml" and what == "clock_hz" for at, what in pairs(capture, "source", "metric")]
    )
    assert sampled.num_rows > 20
    if not name.startswith("decoder"):
        assert "prefill" in set(frame["phase"])
        load = result.numbers(capture.manifest.load or {})
        for side in ("profiled", "unprofiled"):
            assert load[side] is not None and load[side]["levels"][0]["concurrency"] == requests


def pairs(capture: Capture, *names: str) -> zip[tuple[str, ...]]:
    return zip(*(capture.samples[name].to_pylist() for name in names), strict=True)


@pytest.mark.parametrize("name", ["fp16_c16", "gptq8_c1_2", "decoder_strided_1"])
def test_nothing_says_where_they_were_made(examples: Path, name: str) -> None:
    manifest = opened(examples, name).manifest
    text = manifest.model_dump_json()
    assert not re.search(r'"[^"]*/(opt|root|home|tmp|usr)/', text)
    assert manifest.environment == {} and manifest.host == "host-0"


def test_five_repeats_of_five_levels(examples: Path) -> None:
    rates: dict[str, list[list[float]]] = {}
    for model in ("fp16", "gptq8"):
        files = sorted((examples / "h200_compare/load").glob(f"{model}_*.json"))
        assert len(files) == 5
        repeats = [result.read(path)["levels"] for path in files]
        assert all([level["concurrency"] for level in levels] == LEVELS for levels in repeats)
        assert not any(level["failed"] for levels in repeats for level in levels)
        rates[model] = [[level["output_tokens_per_s"] for level in levels] for levels in repeats]
    # 8-bit is faster for one client in each repeat, slower for sixteen
    assert min(each[0] for each in rates["gptq8"]) > max(each[0] for each in rates["fp16"])
    assert max(each[-1] for each in rates["gptq8"]) < min(each[-1] for each in rates["fp16"])


def test_the_decoder_says_itself_how_much_faster_it_became(examples: Path) -> None:
    place = examples / "h200_compare/timing"
    median = {}
    for path in place.glob("*.json"):
        told = json.loads(path.read_text())
        assert told["profiler_active"] is False and told["steps"] == 272
        median.setdefault(told["variant"], []).append(told["step_time_s"]["median"])
    assert {name: len(values) for name, values in median.items()} == {"strided": 2, "coalesced": 2}
    assert max(median["coalesced"]) / min(median["strided"]) == pytest.approx(0.532, abs=0.002)
