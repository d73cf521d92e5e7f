"""What processes used, what the launching one did in the GPU's pauses, and what sampling cost."""

import pytest

from rocscope import pipeline
from synthetic_capture import capture, row
from synthetic_samples import MS, analysed, sampled, series

WORKER = "process:100:VLLM::Worker"


def every(step_ms, count, value):
    return [(i * step_ms, value(i) if callable(value) else value) for i in range(count)]


def paused():
    """A kernel of 100 ms and a pause of 400 ms, ten times."""
    return [row("k", i * 500 * MS, 100 * MS) for i in range(10)]


def stall(found):
    return next(each for each in found.targets if each.id.startswith("timeline-host-stalls"))


def cpu(value, step_ms=50):
    return series("cpu_frac", every(step_ms, 4600 // step_ms, value), subject=WORKER)


@pytest.mark.parametrize(
    ("used", "words"),
    [(0.99, "it computed on the host"), (0.03, "it slept"), (0.5, "for a part of the time")],
)
def test_the_launching_process_in_the_pauses(used, words):
    found = analysed(sampled(capture(paused()), cpu(lambda i: used if i % 10 > 2 else 0.4)))
    line = next(each for each in stall(found).evidence if "[stalls-cpu]" in each)
    assert words in line and "VLLM::Worker" in line and line.startswith("the process that launches")


def test_readings_too_seldom_or_of_another_process_tell_nothing_of_pauses():
    for samples in (
        cpu(0.99, step_ms=1000),  # each holds kernels and pauses alike, and there are four
        series("cpu_frac", every(50, 92, 0.99), subject="process:7:other"),
        series("rss_bytes", every(50, 92, 1e9), subject=WORKER),
    ):
        found = analysed(sampled(capture(paused()), samples))
        assert not any("stalls-cpu" in each for each in stall(found).evidence)
    made = sampled(capture(paused()), cpu(0.99))
    made.notice("clock-unknown", "times of another clock")
    assert not any("stalls-cpu" in each for each in stall(analysed(made)).evidence)


def span(name, start_ms, length_ms, thread=1, **more):
    base = {"process": 0, "thread": thread, "kind": "api", "name": name}
    return {**base, "start_ns": start_ms * MS, "end_ns": (start_ms + length_ms) * MS, **more}


def test_calls_of_the_launching_thread_in_the_pauses():
    launches = [span("hipLaunchKernel", i * 500, 1) for i in range(10)]
    waits = [span("hipStreamSynchronize", i * 500 + 100, 300) for i in range(9)]
    other = [span("hipMemcpy", i * 500 + 100, 400, thread=2) for i in range(9)]
    line = stall(analysed(capture(paused(), spans=[*launches, *waits, *other]))).evidence[1]
    assert "within API calls for 75 % of the pauses (hipStreamSynchronize 75 %)" in line
    assert "outside of any for 25 %: it waits within them [stalls-api]" in line
    line = stall(analysed(capture(paused(), spans=launches))).evidence[1]
    assert "within API calls for 0 % of the pauses and outside of any for 100 %" in line
    assert "it computes between calls" in line
    bare = stall(analysed(capture(paused(), spans=[span("hipMalloc", 0, 1)])))
    assert not any("stalls-api" in each for each in bare.evidence)


def test_summary_of_processes_and_cost():
    made = sampled(
        capture(paused()),
        series("cpu_frac", [(0, 0.2), (1000, 1.0), (2000, 0.5)], subject=WORKER),
        series("rss_bytes", [(0, 1e9), (1000, 3e9)], subject=WORKER),
        series("threads", [(0, 40)], subject=WORKER),
        series("io_read_bytes", [(0, 100), (1000, 400)], subject=WORKER),
        series("io_write_bytes", [(0, 100), (1000, 50)], subject=WORKER),
        series("rss_bytes", [(0, 1e6)], subject="process:7:a:b"),
        series("cpu_frac", [(0, 0.1), (1000, 0.3)], subject="host"),
        series("sampler_cpu_s", [(0, 0.5), (2000, 0.52)], subject="rocscope"),
    )
    told = analysed(made).telemetry["host"]
    first, second = told["processes"]
    assert (first["pid"], first["name"], first["cpu_s"]) == (100, "VLLM::Worker", pytest.approx(1.5))
    assert first["full_core_frac"] == pytest.approx(1 / 3) and first["rss_bytes"]["most"] == 3e9
    assert first["io_read_bytes"] == 300 and first["io_write_bytes"] is None and first["samples"] == 3
    assert (second["name"], second["cpu_s"], second["threads"]) == ("a:b", None, None)
    assert told["cpu_frac"] == {"mean": 0.2, "most": 0.3} and told["memory_used_bytes"] is None
    assert told["sampling_cost"]["host_sampler"] == pytest.approx({"cpu_s": 0.02, "core_frac": 0.01})
    assert told["sampling_cost"]["gpu_telemetry"] == {"cpu_s": None, "core_frac": None}


def test_a_run_without_a_profiler_shows_its_host_where_it_lasted():
    made = sampled(capture([]), series("rss_bytes", [(0, 1e6), (1000, 2e6)], subject=WORKER))
    made.manifest.duration_s = 1.0
    options = pipeline.AnalyzeOptions()
    assert pipeline._without_kernels(made, options).telemetry == {}
    made.manifest.duration_s = 60.0
    told = pipeline._without_kernels(made, options)
    assert told.telemetry["host"]["processes"][0]["rss_bytes"]["most"] == 2e6 and told.kernels == []
    watts = series("power_w", [(at * 100, 90.0) for at in range(21)])
    told = pipeline._without_kernels(sampled(capture([], duration_s=60.0), watts), options)
    assert told.telemetry["gpus"][0]["energy_j"]["value"] == pytest.approx(180.0)
