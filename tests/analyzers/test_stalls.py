import pytest

import rocscope
from rocscope.analyzers import runner
from synthetic_capture import capture, row, study

US = 1_000


def run(made):
    checked = study(made)
    runner.run(checked)
    return [each for each in checked.targets if each.id.startswith("timeline-host-stalls")]


def steps(pause_us, count=5, **more):
    """Steps of 1 ms each, with a pause after each."""
    every = (1000 + pause_us) * US
    return [row("k", i * every, 1000 * US, **more) for i in range(count)]


def span(name, start_us, length_us, kind="operator"):
    start = start_us * US
    return {"process": 0, "kind": kind, "name": name, "start_ns": start, "end_ns": start + length_us * US}


def test_long_pauses_and_what_the_host_did_in_them():
    spans = [span("sample on the CPU", 1000 + i * 1500, 400) for i in range(4)]
    spans += [span("whole run", 0, 7000), span("gpu step", 0, 400, "gpu_annotation"), span("short", 1000, 10)]
    target = run(capture(steps(500), spans=spans))[0]
    assert target.time_frac == pytest.approx(4 * 500 / 7000)
    assert target.headroom_s == pytest.approx(4 * 500e-6)
    assert target.evidence[0].startswith(
        "4 pauses of more than 100 µs between kernels add up to 2 ms of 7 ms"
    )
    assert target.evidence[2:] == ["sample on the CPU: 80 % of the pauses [stalls-host-span]"]
    assert target.expected_gain.low_frac == 0 and target.confidence == "low"


def test_without_spans_the_pauses_alone_are_said():
    assert len(run(capture(steps(500)))[0].evidence) == 1
    far = [span("later", 10**6, 10)]
    assert len(run(capture(steps(500), spans=far))[0].evidence) == 1


def test_short_pauses_are_launches_and_rare_ones_do_not_matter():
    assert run(capture(steps(99))) == []
    assert run(capture([*steps(0), row("k", 5_120 * US, 50_000 * US)])) == []
    assert run(capture(steps(500, count=1))) == []


def test_pauses_are_not_claimed_where_kernels_are_missing_or_not_placed():
    cut = capture(steps(500))
    cut.manifest.partial = True
    assert run(cut) == []
    counted = [{"counters": ("SQ_WAVES",), "perturbed": True}]
    assert run(capture(steps(500), passes=counted)) == []
    assert run(capture([row("k", None, 1000 * US, count=4)])) == []


@pytest.mark.captures
def test_on_recordings_between_requests_and_not_within_replays(captures):
    served = rocscope.analyze(captures / "h200_vllm" / "gptq8_graph.kineto.json.gz")
    target = next(each for each in served.targets if "host-stalls" in each.id)
    # 8.2 ms between steps, and 39 ms within the first, in which kernels are loaded, of 366 ms
    assert target.time_frac == pytest.approx(0.129, abs=0.002) and target.expected_gain.low_frac == 0
    assert "21 pauses of more than 100 µs outside of annotated steps, or 10 ms within," in target.evidence[0]
    eager = rocscope.analyze(captures / "h200" / "kineto_strided_eager.json.gz")
    assert not any("host-stalls" in each.id for each in eager.targets)
