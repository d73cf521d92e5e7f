"""Energy, power and joules a token of captures whose figures are worked out by hand."""

import pytest

import rocscope
from synthetic_capture import capture, row
from synthetic_samples import MS, analysed, gpu, sampled, series

SECOND = 1000 * MS
DECODE, PREFILL = "execute_context_0(0)_generation_4(4)", "execute_context_1(100)_generation_0(0)"


def busy(seconds=4, **more):
    """Kernels of 100 ms without pause: one in four is a product, the rest elementwise."""
    return [
        row("product" if i % 4 == 0 else "add", i * 100 * MS, 100 * MS, **more) for i in range(seconds * 10)
    ]


def every(step_ms, count, value, start_ms=0.0):
    return [(start_ms + i * step_ms, value(i) if callable(value) else value) for i in range(count)]


def power(points, **more):
    return series("power_w", points, **more)


def test_energy_of_the_window_is_shared_out_by_kernel_time():
    made = sampled(capture(busy()), power(every(100, 41, 250.0)), series("power_cap_w", [(0, 290)]))
    found = analysed(made, families={"product": "gemm"})
    entry = gpu(found)
    assert entry["energy_j"]["value"] == pytest.approx(1000.0) and entry["energy_j"]["basis"] == "measured"
    assert entry["energy_j"]["source"] == (
        "power, integrated by trapezoid without the first second, in which the sensor still averages what "
        "was before"
    )
    shares = {each["family"]: each["energy_j"] for each in entry["families"]}
    assert shares == pytest.approx({"elementwise": 750.0, "gemm": 250.0})
    assert {each["basis"] for each in entry["families"]} == {"modelled"}
    assert entry["power_w"]["at_work"] == 250.0 and entry["power_w"]["idle"] is None
    assert entry["power_cap_frac"] == pytest.approx(250 / 290) and entry["at_cap_frac"] == 0.0
    assert found.telemetry["energy_per_token"] == []
    assert "no tokens were counted" in found.telemetry["energy_per_token_missing"]


def test_at_work_and_idle_are_told_apart_by_kernels():
    """Readings average a second; those that hold much of work and of idling count for neither."""
    rows = [row("k", 0, 3000 * MS), row("k", 6000 * MS, 3000 * MS)]
    true = [300.0 if i < 60 or i >= 120 else 90.0 for i in range(180)]
    watts = every(50, 180, lambda i: sum(true[max(0, i - 19) : i + 1]) / min(20, i + 1))
    entry = gpu(analysed(sampled(capture(rows), power(watts))))
    assert entry["power_w"]["at_work"] == pytest.approx(300.0, rel=0.02)
    assert entry["power_w"]["idle"] == pytest.approx(90.0, rel=0.06)


def test_the_energy_counter_comes_first_and_is_held_against_power():
    rows = busy(8)
    counter = series("energy_j", every(1000, 9, lambda i: 5000 + 210.0 * i))
    found = analysed(sampled(capture(rows), counter, power(every(1000, 9, 200.0))))
    assert gpu(found)["energy_j"]["value"] == pytest.approx(8 * 210.0)
    assert gpu(found)["energy_j"]["source"] == "energy counter"
    found = analysed(sampled(capture(rows), counter, power(every(1000, 9, 300.0))))
    assert gpu(found)["energy_j"]["value"] is None and gpu(found)["families"] == []
    assert gpu(found)["power_w"]["mean"] == 300.0
    assert [each.code for each in found.warnings if "energy" in each.code] == ["energy-disagrees"]
    broken = series("energy_j", every(1000, 9, lambda i: 100.0 - i))
    found = analysed(sampled(capture(rows), broken, power(every(1000, 9, 300.0))))
    assert gpu(found)["energy_j"]["source"].startswith("power, integrated by trapezoid")


def test_too_few_readings_or_too_little_of_the_window_is_refused():
    found = analysed(sampled(capture(busy()), power(every(1000, 4, 250.0))))
    assert gpu(found)["energy_j"]["value"] is None and gpu(found)["power_w"] is None
    assert "4 readings lie in the window of 4 s" in gpu(found)["energy_j"]["source"]
    assert "the energy of GPU 0 is not known" in found.telemetry["energy_per_token_missing"]
    found = analysed(sampled(capture(busy()), power(every(100, 20, 250.0))))
    assert "less than 80 % of the window" in gpu(found)["energy_j"]["source"]
    found = analysed(sampled(capture(busy()), power(every(100, 36, 250.0))))
    assert gpu(found)["energy_j"]["value"] == pytest.approx(1000.0)
    assert "400 ms of the window have no reading" in gpu(found)["energy_j"]["source"]
    found = analysed(sampled(capture(busy(1)), power(every(100, 11, 250.0))))
    assert "the window of 1 s is shorter than 2 s" in gpu(found)["energy_j"]["source"]
    found = analysed(sampled(capture(busy()), series("clock_hz", every(100, 41, 1e9))))
    assert gpu(found)["energy_j"]["source"] == "neither power nor an energy counter was sampled"


def test_without_telemetry_nothing_is_said():
    found = analysed(capture(busy()))
    assert found.telemetry == {}
    assert not any("cycles" in line for line in found.kernels["evidence"].iloc[0])


def test_replayed_kernels_are_not_set_against_this_machine():
    made = sampled(capture(busy()), power(every(100, 41, 250.0)))
    made.manifest.provenance = "replayed"
    found = analysed(made)
    assert "replayed" in found.telemetry["not_set_against_kernels"]
    assert gpu(found)["families"] == [] and gpu(found)["power_w"]["at_work"] is None
    assert "replayed" in found.telemetry["energy_per_token_missing"]


def scraped(points):
    tokens = series("generation_tokens", points, subject="server")
    return [*tokens, *series("prompt_tokens", [(at, 0) for at, _ in points], subject="server")]


def test_joules_a_token_of_the_servers_own_count_over_all_gpus():
    rows = busy() + busy(gpu=1, process=1)
    watts = [power(every(100, 41, 250.0)), power(every(100, 41, 150.0), subject="gpu:1")]
    made = sampled(capture(rows, ranks=2), *watts, scraped([(1000, 50), (2000, 90), (3000, 150)]))
    told = analysed(made).telemetry["energy_per_token"]
    assert [each["of"] for each in told] == ["generated tokens"]
    assert told[0]["joules_per_token"] == pytest.approx(400.0 * 2 / 100) and told[0]["basis"] == "measured"
    alone = analysed(sampled(capture(rows, ranks=2), watts[0], scraped([(1000, 50), (3000, 150)])))
    assert alone.telemetry["energy_per_token"] == []
    assert alone.telemetry["energy_per_token_missing"] == "the energy of GPU 1 is not known"


def test_joules_a_token_of_steps_by_phase():
    spans = [
        {
            "process": 0,
            "kind": "gpu_annotation",
            "name": DECODE if i >= 2 else PREFILL,
            "start_ns": i * SECOND,
            "end_ns": (i + 1) * SECOND,
            "gpu": 0,
        }
        for i in range(4)
    ]
    watts = every(100, 41, lambda i: 300.0 if i < 20 else 200.0)
    told = {
        each["of"]: each
        for each in analysed(sampled(capture(busy(), spans=spans), power(watts))).telemetry[
            "energy_per_token"
        ]
    }
    decode, prefill = told["tokens of decode steps"], told["tokens of prefill steps"]
    assert decode["tokens"] == 8 and decode["energy_j"] == pytest.approx(400.0)
    # the line from 300 to 200 W in the last tenth of a second of the prefills: 5 J less
    assert (
        prefill["joules_per_token"] == pytest.approx((600.0 - 5.0) / 200) and prefill["basis"] == "modelled"
    )
    seldom = every(500, 9, 300.0)
    found = analysed(sampled(capture(busy(), spans=spans), power(seldom)))
    assert found.telemetry["energy_per_token"] == []


LEVEL = {"concurrency": 16, "output_tokens": 400, "duration_s": 2.0}


@pytest.mark.parametrize(("side", "count"), [("profiled", 2), ("unprofiled", 1)])
def test_joules_a_token_of_the_load_and_of_marked_phases(side, count):
    load = {"kind": "builtin", "profiled": None, "unprofiled": None}
    load[side] = {"kind": "builtin", "levels": [LEVEL]}
    marked = [
        *series("marked", every(100, 20, 1), subject="phase:c16"),
        *series("marked", every(100, 20, 1), subject="phase:c8"),
        *series("marked", every(100, 10, 1), subject="phase:warm"),
    ]
    found = analysed(sampled(capture(busy(), load=load), power(every(100, 41, 250.0)), marked))
    told = found.telemetry["energy_per_token"]
    assert len(told) == count
    assert told[-1]["joules_per_token"] == pytest.approx(250.0 / 200)
    assert told[-1]["of"] == "output tokens at concurrency 16"
    assert [each["phase"] for each in found.telemetry["marked_phases"]] == ["c16", "c8", "warm"]


def test_a_phase_that_took_another_time_than_its_load_is_not_taken_for_it():
    load = {"profiled": None, "unprofiled": {"levels": [{**LEVEL, "duration_s": 3.0}]}}
    marked = series("marked", every(100, 20, 1), subject="phase:c16")
    found = analysed(sampled(capture(busy(), load=load), power(every(100, 41, 250.0)), marked))
    assert found.telemetry["energy_per_token"] == []


def test_a_run_without_a_profiler_has_its_energy_and_joules_a_token():
    watts, tokens = power(every(100, 41, 250.0)), scraped([(1000, 50), (3000, 150)])
    made = sampled(capture([]), watts, tokens)
    told = rocscope.analyze(made).telemetry
    assert told["gpus"][0]["energy_j"]["value"] == pytest.approx(1000.0)
    assert told["energy_per_token"][0]["joules_per_token"] == pytest.approx(5.0)
    made.manifest.window_ns = (2000 * MS, 4000 * MS)
    assert rocscope.analyze(made).telemetry["gpus"][0]["energy_j"]["value"] == pytest.approx(500.0)
