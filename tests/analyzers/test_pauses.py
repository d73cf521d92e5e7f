"""Which pauses are for launches: by annotated steps where there are any, by their length elsewhere."""

import json
import re

import pytest

import rocscope
from rocscope.analyzers import runner
from synthetic_capture import capture, row, study

US = 1_000
DECODE = "execute_context_0(0)_generation_4(4)"


def run(rows, spans, **more):
    checked = study(capture(rows, spans=spans, **more))
    runner.run(checked)
    found = {each.id.split("-")[1]: each for each in checked.targets if each.scope == "timeline"}
    return found.get("launch"), found.get("host")


def step(at_us, length_us, name=DECODE):
    start, end = at_us * US, (at_us + length_us) * US
    place = {"process": 0, "gpu": 0, "start_ns": start, "end_ns": end}
    return {"kind": "gpu_annotation", "name": name, **place}


def kernels(pause_us, count=10, **more):
    """Kernels of 100 us, with a pause after each, and how long they take with their last pause."""
    every = 100 + pause_us
    rows = [row("k", i * every * US, 100 * US, correlation_id=i + 1, **more) for i in range(count)]
    return rows, every * count


def test_a_long_pause_within_a_step_is_a_launch_gap_and_no_stall():
    rows, length = kernels(400)
    launch, host = run(rows, [step(0, length)])
    assert launch.headroom_s == pytest.approx(9 * 400e-6) and host is None
    assert launch.time_frac == pytest.approx(9 * 400 / (length - 400))
    assert "9 pauses between kernels of one annotated step add up to 3.6 ms" in launch.evidence[0]
    assert any("9 in decode steps, 3.6 ms" in each for each in launch.evidence)
    launch, host = run(rows, [])  # the same without annotations
    assert launch is None and host.headroom_s == pytest.approx(9 * 400e-6)


def test_a_long_pause_between_steps_is_a_stall():
    rows, _ = kernels(400)
    launch, host = run(rows, [step(i * 500, 100) for i in range(10)])
    assert launch is None and host.headroom_s == pytest.approx(9 * 400e-6)


def test_pauses_count_once_whatever_they_are():
    rows, length = kernels(400, count=4)
    more = [row("k", (length + 1000 + i * 150) * US, 100 * US, correlation_id=90 + i) for i in range(9)]
    launch, host = run([*rows, *more], [step(0, length)])
    assert launch.headroom_s == pytest.approx(3 * 400e-6 + 8 * 50e-6)
    assert host.headroom_s == pytest.approx(1400e-6)
    assert "beside them one longer pause takes 1.4 ms" in " ".join(launch.evidence)


def test_kernels_of_one_graph_launch_wait_for_no_host():
    rows = [{**each, "correlation_id": 7} for each in kernels(50)[0]]
    assert run(rows, [step(0, 1500)]) == (None, None)
    assert run(rows, []) == (None, None)
    rows = [{**each, "correlation_id": None} for each in rows]  # nobody recorded who launched what
    assert run(rows, [step(0, 1500)])[0].headroom_s == pytest.approx(9 * 50e-6)
    rows = [
        {**each, "process": i % 2, "correlation_id": 7} for i, each in enumerate(rows)
    ]  # of two processes
    assert run(rows, [], ranks=2)[0] is not None


def test_what_is_compiled_in_a_step_is_no_launch_gap():
    """One pause of 40 ms among launches, as where a kernel is compiled when it is first needed."""
    rows, length = kernels(400)
    after = [{**each, "start_ns": each["start_ns"] + 40_000 * US + length * US} for each in rows]
    after = [{**each, "end_ns": each["start_ns"] + 100 * US, "correlation_id": None} for each in after]
    launch, host = run([*rows, *after], [step(0, 40_000 + 2 * length)])
    assert launch.headroom_s == pytest.approx(18 * 400e-6)
    assert launch.time_frac == pytest.approx(18 * 400 / 9200)
    assert host.headroom_s == pytest.approx(40.4e-3)
    assert "one pause of more than 10 ms within steps, 40.4 ms, is left out" in " ".join(launch.evidence)


def test_eager_steps_of_vllm_were_forecast_too_low_and_are_no_more(examples):
    """What graphs gave there, without the profiler: 54.7 %."""
    place = examples / "h200_changes"
    found = json.loads((place / "measured.json").read_text())["graphs"]
    base, new = (sorted(found[side][1:])[2] for side in ("base_s", "new_s"))
    targets = rocscope.analyze(place / "gptq8_eager.tar.gz").targets
    first = next(each for each in targets if each.scope == "timeline")
    gain = first.expected_gain
    assert first.rank == 1 and first.id.startswith("timeline-launch-gaps")
    assert gain.low_frac <= 1 - new / base <= gain.high_frac
    assert gain.high_frac - gain.low_frac <= 0.6
    stalls = next(each for each in targets if "host-stalls" in each.id)
    assert first.headroom_s + stalls.headroom_s < 2.34  # all idle time between kernels, once


@pytest.mark.captures
def test_replayed_steps_have_no_launch_gaps(captures):
    """Decode steps in graphs; the prefills were not captured, and there the GPU does wait for launches."""
    for name in ("h200/kineto_strided_graph.json.gz", "h200/kineto_fp16_graph.json.gz"):
        assert not [t for t in rocscope.analyze(captures / name).targets if "launch-gaps" in t.id]
    for name in ("gptq8", "fp16"):
        targets = rocscope.analyze(captures / "h200_vllm" / f"{name}_graph.kineto.json.gz").targets
        told = " ".join(next(t for t in targets if "launch-gaps" in t.id).evidence)
        lost = dict(re.findall(r"(prefill|mixed|decode) steps, ([\d.]+) ms", told))
        assert float(lost["decode"]) < 0.1 * float(lost["prefill"]), told
        assert "one launch made both" in told
