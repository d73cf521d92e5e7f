"""The sampler against telemetry processes that misbehave: each is a small program of its own."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from synthetic_sysfs import MI100, card, table

from rocscope.collectors import telemetry
from rocscope.collectors.telemetry import Deadlines, TelemetrySampler
from rocscope.collectors.telemetry_sources import TelemetrySource

PATIENT = Deadlines(start_s=30, silent_s=30, stop_s=0.5, first_backoff_s=0.05, last_backoff_s=0.1)
HASTY = Deadlines(start_s=2, silent_s=2, stop_s=0.5)
HEAD = "import os, sys, time, signal\nsay = lambda t: os.write(int(sys.argv[4]), t.encode() + b'\\n')\n"
READY = '{"ready": [["0000:10:00.0", "", "", ""]], "version": "x"}'
VALUES = '{"power_w": 5.0, "clock_hz": NaN}'
ROW = f'{{"rows": [[0, 1000, {VALUES}, null]], "failures": {{}}, "took_s": 0, "cpu_s": 0}}'


def sampled(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    body: str,
    done: Callable[[TelemetrySampler], object] = lambda _: False,
    limits: Deadlines = PATIENT,
) -> TelemetrySampler:
    """Run ``body`` as the telemetry process: ``say(text)`` writes a line to the pipe."""
    (tmp_path / "misbehaving.py").write_text(f"{HEAD}{body}\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(telemetry, "CHILD", "misbehaving")
    sampler = TelemetrySampler([TelemetrySource("sysfs", "/sys")], 10, limits)
    end = time.monotonic() + 30
    while time.monotonic() < end and sampler._thread.is_alive() and not done(sampler):
        time.sleep(0.02)
    assert sampler.stop()
    return sampler


def said(sampler: TelemetrySampler) -> str:
    return "\n".join(message for _, message in sampler.notices)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("say('no JSON'); time.sleep(60)", "cannot be read (JSONDecodeError)"),
        ("say('[1]'); say('3'); time.sleep(60)", "cannot be read (TypeError)"),
        ("say('{\"energy\": 7}'); time.sleep(60)", "cannot be read (IndexError)"),
        ("say('{\"rows\": 5}'); time.sleep(60)", "cannot be read (KeyError)"),
        ("sys.exit(3)", "the process crashed (code 3) at its start"),
        ("os.kill(os.getpid(), 9)", "the process crashed (signal 9) at its start"),
        ("raise ImportError", "the process crashed (code 1) at its start"),
    ],
)
def test_a_process_that_says_nothing_sensible_is_ended_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, words: str
) -> None:
    sampler = sampled(tmp_path, monkeypatch, body)
    assert "no GPU telemetry (sysfs: " in said(sampler) and words in said(sampler)


@pytest.mark.parametrize("body", ["os.write(int(sys.argv[4]), b'x' * 300000)", "time.sleep(60)"])
def test_a_process_that_never_gets_ready_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str
) -> None:
    sampler = sampled(tmp_path, monkeypatch, f"{body}; time.sleep(60)", limits=HASTY)
    assert said(sampler) == "no GPU telemetry (sysfs: it did not answer for 2 s at its start)"


def test_a_line_without_end_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry, "MAX_LINE_BYTES", 1000)
    body = "while True: os.write(int(sys.argv[4]), b'x' * 100)"
    assert "it sent what cannot be read" in said(sampled(tmp_path, monkeypatch, body))


def test_what_was_read_before_it_misbehaved_is_kept_and_no_number_is_no_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = f"say('{READY}'); say('{ROW}'); say('broken'); time.sleep(60)"
    sampler = sampled(tmp_path, monkeypatch, body, lambda each: sum(each._troubles.values()) > 1)
    assert "GPU telemetry has gaps: it sent what cannot be read (JSONDecodeError) (" in said(sampler)
    columns = sampler.readings.columns()
    assert "power_w" in columns.metric[1] and "clock_hz" not in columns.metric[1]


def test_a_process_that_will_not_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = f"signal.signal(15, signal.SIG_IGN); say('{READY}'); say('{ROW}')\nwhile True: time.sleep(1)"
    sampler = sampled(tmp_path, monkeypatch, body, lambda each: len(each.readings))
    assert sampler._process is not None and sampler._process.returncode == -9


def test_without_an_interpreter_to_start_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telemetry.sys, "executable", str(tmp_path / "nothing"))
    sampler = sampled(tmp_path, monkeypatch, "")
    assert "no process could be started: No such file or directory" in said(sampler)


def test_a_fault_of_our_own_is_said_and_ends_telemetry_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("of ours")

    monkeypatch.setattr(TelemetrySampler, "_serve", broken)
    sampler = sampled(tmp_path, monkeypatch, "")
    assert said(sampler) == "no GPU telemetry (it ended early (ZeroDivisionError: of ours))"


def test_many_open_files_do_not_matter(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2000:
        pytest.skip(f"only {hard} open files are allowed here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (2000, hard))
    opened = [os.open("/dev/null", os.O_RDONLY) for _ in range(1100)]
    try:
        card(tmp_path, 0, blob=table(3, MI100))
        sampler = TelemetrySampler([TelemetrySource("sysfs", str(tmp_path))], 10)
        end = time.monotonic() + 30
        while not len(sampler.readings) and time.monotonic() < end:
            time.sleep(0.02)
        assert sampler.stop() and len(sampler.readings)
    finally:
        for each in opened:
            os.close(each)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_readings_that_were_drained_are_gone():
    from rocscope.collectors.sampling import Readings

    readings = Readings()
    readings.add(1, "nvml", "gpu:0", "power_w", 90.0)
    first = readings.drain()
    readings.add(2, "nvml", "gpu:0", "power_w", 91.0)
    second = readings.drain()
    assert (list(first.times), list(first.values)) == ([1], [90.0])
    assert (list(second.times), list(second.values), len(readings)) == ([2], [91.0], 0)
    assert second.metric[1][second.metric[0][0]] == "power_w"
