"""Runs under counters around profiler stand-ins: how many launches, what is joined, what a failure costs."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pyarrow.compute as pc
import pytest

from rocscope.capture import Capture
from rocscope.collectors import live_passes
from rocscope.collectors.live_outcome import Recorded
from rocscope.config import ProfileOptions
from rocscope.errors import ProfilerMissing, RocscopeError, TargetError, UsageError
from rocscope.pipeline import analyze_capture

NAP = (sys.executable, "-c", "import time; time.sleep(0.3)")


@pytest.fixture(autouse=True)
def on_path(standins: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", f"{standins}:{os.environ['PATH']}")
    return standins


def options(out: Path, **chosen: object) -> ProfileOptions:
    given = {"out": out, "gpu": "MI100", "counters": "standard", "sample_hz": 0, "shutdown_timeout_s": 20}
    return ProfileOptions.model_validate({**given, **chosen})


def record(out: Path, *command: str, **chosen: object) -> tuple[Recorded, list[str], list[str]]:
    said: list[str] = []
    told: list[str] = []
    recorded = live_passes.record(
        command or NAP, options(out, **chosen), progress=told.append, say=said.append
    )
    return recorded, said, told


def codes(capture: Capture) -> set[str]:
    return {each.code for each in capture.manifest.notices}


def counted(capture: Capture) -> list[set[str]]:
    return [set(each.counters) for each in capture.manifest.passes]


@pytest.mark.slow
def test_each_pass_is_a_launch_and_counters_never_touch_the_times(tmp_path: Path) -> None:
    recorded, said, told = record(tmp_path / "out", sample_hz=5)
    capture = recorded.capture
    assert recorded.exit_code == 0 and recorded.lost == [] and not capture.manifest.partial
    assert [each.perturbed for each in capture.manifest.passes] == [False, True, True, True]
    assert {"TCC_EA_RDREQ", "SQ_ACTIVE_INST_VALU"} <= counted(capture)[1]
    assert counted(capture)[2] == {"TCC_HIT", "TCC_MISS"} and "SQ_WAVE_CYCLES" in counted(capture)[3]
    assert (tmp_path / "out/pass-4/raw/counter_definitions.yaml").exists()
    assert len(capture.manifest.processes) == 4 and len(capture.manifest.gpus) == 1
    assert any("a file of ours defines them" in text for text in said)
    assert "pass 3 of 4: L2 hit rate" in told and any(
        text.startswith("pass 4 of 4: reading") for text in told
    )
    clean = capture.dispatches.filter(pc.equal(capture.dispatches["pass"], 0))
    analysis = analyze_capture(capture)
    kernels = {each.kernel: each for each in analysis.kernels}
    gemm = kernels["gemm_half_q_half_gptq_8bit_kernel"]
    rows = clean.filter(pc.match_substring(clean["kernel"].cast("string"), "gptq_8bit"))
    assert gemm.time_s == pytest.approx(pc.sum(rows["duration_ns"]).as_py() / 1e9)
    assert gemm.dispatches == rows.num_rows
    assert gemm.bytes_per_dispatch.value == 46_499_968 + 8192 and gemm.bytes_per_dispatch.basis == "measured"
    assert gemm.occupancy.achieved_frac == pytest.approx(0.1, rel=0.01)
    warned = {each.code for each in analysis.integrity.warnings}
    assert warned.isdisjoint({"passes-disagree", "perturbed-times"})
    assert set(capture.samples["subject"].to_pylist())  # the first launch's alone
    spread = pc.min_max(capture.samples["time_ns"]).as_py()
    assert spread["max"] - spread["min"] < 5e9


@pytest.mark.slow
@pytest.mark.parametrize("profiler", ["rocprof", "rocprofv2"])
def test_older_profilers_take_one_line_a_launch(tmp_path: Path, profiler: str) -> None:
    recorded, _, _ = record(tmp_path / "out", profiler=profiler)
    capture = recorded.capture
    assert recorded.exit_code == 0 and recorded.lost == []
    assert len(capture.manifest.passes) == 3 and len(capture.manifest.gpus) == 1
    for number in (2, 3):
        text = (tmp_path / f"out/pass-{number}/raw/counters.txt").read_text()
        assert text.count("pmc:") == 1
    kernels = {each.kernel: each for each in analyze_capture(capture).kernels}
    assert kernels["gemm_half_q_half_gptq_8bit_kernel"].bytes_per_dispatch.value == 46_508_160
    assert "SQ_WAVE_CYCLES" in set().union(*counted(capture))


def test_filters_reach_the_profiler_and_are_no_disagreement(tmp_path: Path) -> None:
    recorded, _, _ = record(
        tmp_path / "out", counters="bandwidth", kernels="gptq|rms_norm", dispatches=(2, 11)
    )
    capture = recorded.capture
    one = capture.manifest.passes[1]
    assert (one.kernels, one.dispatches) == ("gptq|rms_norm", (2, 11))
    rows = capture.dispatches.filter(pc.equal(capture.dispatches["pass"], 1))
    assert rows.num_rows == 20
    analysis = analyze_capture(capture)
    assert "passes-disagree" not in {each.code for each in analysis.integrity.warnings}
    kernels = {each.kernel: each for each in analysis.kernels}
    assert kernels["rms_norm_kernel"].bytes_per_dispatch.basis == "measured"
    assert kernels["act_and_mul_kernel"].bytes_per_dispatch.basis != "measured"


def test_a_filter_that_matches_nothing_is_said(tmp_path: Path) -> None:
    recorded, said, _ = record(tmp_path / "out", counters="SQ_WAVES", kernels="no_such_kernel")
    assert recorded.exit_code == 11 and recorded.capture.dispatches.num_rows > 100
    assert any("gave no counters" in text and "called" in text for text in said)


@pytest.mark.slow
def test_a_pass_that_aborts_leaves_the_others_usable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STANDIN_LIMITS", "TCC=2")  # a card with fewer registers than its data say
    recorded, said, _ = record(tmp_path / "out")
    capture = recorded.capture
    assert recorded.exit_code == 11 and len(recorded.lost) >= 1
    assert counted(capture)[1:] == [{"TCC_HIT", "TCC_MISS"}, counted(capture)[2]]
    assert "pass-failed" in codes(capture)
    assert any(text.startswith("pass 2 of 4 gave no counters") for text in said)
    (gemm,) = [each for each in analyze_capture(capture).kernels if each.family == "gptq_gemm"]
    assert {each.measure: each.value for each in gemm.measures}["l2_hit_frac"] == pytest.approx(0.2, rel=1e-4)


@pytest.mark.slow
def test_counters_that_all_read_zero_are_no_measurement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STANDIN_ZERO", "1")  # as without the right to read the registers
    recorded, _, _ = record(tmp_path / "out", counters="bandwidth")
    capture = recorded.capture
    assert "counters-all-zero" in codes(capture)
    assert capture.counters["value"].null_count == capture.counters.num_rows > 100
    assert not any(each.bytes_per_dispatch.basis == "measured" for each in analyze_capture(capture).kernels)
    recorded, _, _ = record(tmp_path / "conflicts", counters="SQ_LDS_BANK_CONFLICT")
    assert "counters-all-zero" not in codes(recorded.capture)  # may rightly be 0
    assert recorded.capture.counters["value"].null_count == 0


def test_a_counter_that_was_silently_left_out_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STANDIN_DROPS", "TCC_MISS")
    recorded, said, _ = record(tmp_path / "out", counters="TCC_HIT,TCC_MISS")
    assert recorded.exit_code == 0 and "pass 2 of 2: TCC_MISS asked for and not recorded" in said
    assert "counters-missing" in codes(recorded.capture)


@pytest.mark.slow
def test_an_old_rocprofv3_refuses_our_definitions_and_the_rest_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STANDIN_V3_VERSION", "0.5.0")
    recorded, said, _ = record(tmp_path / "out")
    assert len(recorded.capture.manifest.passes) == 3
    assert any(text.startswith("pass 4 of 4") for text in said)
    assert recorded.capture.manifest.profiler_version == ""


@pytest.mark.slow
def test_a_launch_that_cannot_be_made_costs_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rocscope.collectors import live

    whole = live.record
    calls: list[int] = []

    def failing(*arguments: object, **named: object) -> Recorded:
        calls.append(1)
        if len(calls) == 2:
            raise TargetError("the port is taken")
        return whole(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(live, "record", failing)
    recorded, said, _ = record(tmp_path / "out")
    assert len(recorded.capture.manifest.passes) == 3 and recorded.exit_code == 11
    assert any("pass 2 of 4 failed, the others are used: the port is taken" in text for text in said)


def test_the_first_launch_decides_whether_the_command_runs_at_all(tmp_path: Path) -> None:
    with pytest.raises(TargetError):
        record(tmp_path / "out", "no-such-program")
    runs = tmp_path / "runs"
    code = f"import sys; print('run', file=open({str(runs)!r}, 'a')); sys.exit(7)"
    recorded, said, _ = record(tmp_path / "failing", sys.executable, "-c", code)
    assert recorded.exit_code == 7 and runs.read_text() == "run\n"
    assert any("ended with code 7" in text for text in said)
    assert recorded.capture.manifest.partial and "passes-cut" in codes(recorded.capture)


def test_ctrl_c_keeps_what_was_recorded_so_far(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    runs.touch()

    def press() -> None:
        end = time.monotonic() + 30
        while len(runs.read_text()) < 2 and time.monotonic() < end:
            time.sleep(0.02)
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=press, daemon=True).start()
    code = f"import time\ntry: open({str(runs)!r}, 'a').write('x'); time.sleep(1.5)\n"
    code += "except KeyboardInterrupt: pass"
    recorded, said, _ = record(tmp_path / "out", sys.executable, "-c", code)
    capture = recorded.capture
    assert recorded.interrupted and capture.manifest.partial and "passes-cut" in codes(capture)
    assert [each.perturbed for each in capture.manifest.passes] == [False, True]
    assert capture.counters.num_rows > 100
    assert not (tmp_path / "out/pass-3/raw").exists()
    assert "ended in pass 2 of 4, as you asked: what was recorded so far is kept" in said


def test_a_signal_between_launches_ends_the_run_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rocscope.collectors import live

    whole = live.record

    def then_signalled(*arguments: object, **named: object) -> Recorded:
        recorded = whole(*arguments, **named)  # type: ignore[arg-type]
        os.kill(os.getpid(), signal.SIGINT)
        return recorded

    monkeypatch.setattr(live, "record", then_signalled)
    recorded, said, _ = record(tmp_path / "out")
    assert len(recorded.capture.manifest.passes) == 1 and recorded.capture.manifest.partial
    assert "ended before pass 2 of 4, as you asked" in said


def test_a_command_under_counters_gets_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_passes, "LIMIT_LEAST_S", 0.5)
    monkeypatch.setattr(live_passes, "LIMIT_FACTOR", 0.1)
    code = "import os, time; time.sleep(30 if os.environ.get('STANDIN_COUNTERS') else 0.3)"
    began = time.monotonic()
    recorded, _, _ = record(tmp_path / "out", sys.executable, "-c", code, counters="bandwidth")
    assert time.monotonic() - began < 20
    assert recorded.exit_code == 0 and recorded.capture.counters.num_rows > 0


def test_wishes_that_cannot_be_met_are_refused_before_the_launch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    for chosen, said in (
        ({"profiler": "none"}, "takes no counters"),
        ({"profiler": "rocprof", "kernels": "a.*b"}, "part of their name"),
        ({"gpu": None}, "no AMD GPU is found here"),
        ({"counters": "SQ_WAVEZ"}, "called so"),
    ):
        with pytest.raises(UsageError, match=said):
            record(out, "true", **chosen)
    with pytest.raises(RocscopeError, match="counter limits of sm_90"):
        record(out, "true", gpu="H200")
    assert not out.exists()
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    with pytest.raises(ProfilerMissing):
        record(out, "true", profiler="rocprofv3")


def test_without_counters_it_is_one_launch_as_before(tmp_path: Path) -> None:
    recorded, said, told = record(tmp_path / "out", counters="none", gpu=None)
    assert len(recorded.capture.manifest.passes) == 1 and said == []
    assert not any(text.startswith("pass ") for text in told)
