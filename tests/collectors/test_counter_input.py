"""What the profilers are told: one line for rocprof, definitions with the numbers of the events."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from rocscope import counter_plan
from rocscope.collectors import counter_input
from rocscope.collectors.counter_input import Counting


def counting(
    wish: str, arch: str = "gfx908", tool: str = "rocprof", version: str = "", **more: object
) -> Counting:
    made = counter_plan.plan(wish, arch, tool=tool, version=version)
    return Counting(made.arch, made.passes, **more)  # type: ignore[arg-type]


def test_rocprof_gets_one_line_with_sums_and_filters() -> None:
    text = counter_input.pmc_text(counting("TCC_HIT,TCC_MISS,SQ_WAVES", kernels="gptq", dispatches=(3, 9)))
    assert re.findall(r"^pmc:.*$", text, re.M) == ["pmc: SQ_WAVES TCC_HIT_sum TCC_MISS_sum"]
    assert "range: 3:9" in text and "kernel: gptq" in text
    assert "range: \n" in counter_input.pmc_text(counting("SQ_WAVES"))


def test_several_passes_never_become_several_lines() -> None:
    with pytest.raises(ValueError):
        counter_input.pmc_text(counting("standard"))


def test_rocprofs_definitions_are_those_of_amds_own_table_for_mi100() -> None:
    text = counter_input.metrics_xml(counting("TCC_HIT,TCC_MISS,SQ_WAVE_CYCLES"))
    assert '<metric name="SQ_WAVE_CYCLES" block=SQ event=47 ' in text
    assert 'name="TCC_HIT_sum" expr=sum(TCC_HIT,32)' in text  # rocprof's own ratio adds up 16 of 32 channels
    assert "SQ_WAVE_CYCLES_sum" not in text
    assert counter_input.metrics_xml(counting("TCC_HIT", "gfx942")) == ""  # events are not known here


def test_rocprofv3_is_told_only_what_it_lacks() -> None:
    made = counting("SQ_WAVES,SQ_WAVE_CYCLES", tool="rocprofv3", version="1.0.0")
    text = counter_input.definitions_yaml(made, "rocprofv3", "1.0.0")
    assert re.findall(r"- name: (\w+)", text) == ["SQ_WAVE_CYCLES"]
    assert "block: SQ\n          event: 47\n" in text and "architectures: [gfx908]" in text
    assert made.defined


@pytest.mark.captures
def test_groups_that_take_turns_hold_to_the_published_schema(captures: Path) -> None:
    import jsonschema

    made = counting("standard", tool="rocprofv3", version="1.1.0")
    written = json.loads(counter_input.groups_json(made))
    jsonschema.validate(
        written, json.loads((captures / "rocprofv3/schema/rocprofv3_input_schema.json").read_text())
    )
    assert [tuple(group) for group in written["jobs"][0]["pmc_groups"]] == [
        one.counters for one in made.passes
    ]


def test_turns_drift_through_the_steps_of_a_model() -> None:
    """Whatever the length of a step, each of its kernels meets each group."""
    for step in (64, 100, 256, 640, 1000, 1111):
        for groups in (2, 3, 4):
            place = step // 2
            met = {(at * step + place) // counter_input.ROTATE_EVERY % groups for at in range(400)}
            assert met == set(range(groups)), (step, groups)
