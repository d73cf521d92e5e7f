"""Live runs around the profiler stand-ins: everything is gathered, everything ends, what is lost is said."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import psutil
import pyarrow.compute as pc
import pytest

from rocscope.capture import Capture
from rocscope.collectors import live
from rocscope.collectors.live_outcome import Recorded
from rocscope.config import AnalyzeOptions, ProfileOptions
from rocscope.errors import InputError, PermissionMissing, TargetDied, TargetError, TargetNotReady
from rocscope.selection import select

NAP = "import time; time.sleep(0.4)"


@pytest.fixture
def on_path(standins: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", f"{standins}:{os.environ['PATH']}")
    return standins


def record(out: Path, *command: str, **options: object) -> Recorded:
    said: list[str] = []
    given = {"out": out, "sample_hz": 10, "shutdown_timeout_s": 20, **options}
    recorded = live.record(command, ProfileOptions.model_validate(given), say=said.append)
    assert ("data-lost" in codes(recorded)) == any(text.startswith("DATA LOST") for text in said)
    return recorded


def codes(recorded: Recorded) -> set[str]:
    return {each.code for each in recorded.capture.manifest.notices}


def metrics(capture: Capture, subject: str) -> set[str]:
    rows = capture.samples.filter(pc.starts_with(capture.samples["subject"].cast("string"), subject))
    return set(rows["metric"].to_pylist())


def interrupt_after(condition: Path, *, times: int = 1, number: signal.Signals = signal.SIGINT) -> None:
    """Send us a signal once ``condition`` exists, as a user would, from another thread."""

    def press() -> None:
        end = time.monotonic() + 20
        while not condition.exists() and time.monotonic() < end:
            time.sleep(0.02)
        for _ in range(times):
            time.sleep(0.2)
            os.kill(os.getpid(), number)

    threading.Thread(target=press, daemon=True).start()


@pytest.mark.parametrize("profiler", ["rocprofv3", "rocprofv2", "rocprof"])
def test_a_plain_command_is_recorded(on_path: Path, tmp_path: Path, profiler: str) -> None:
    recorded = record(tmp_path / "out", sys.executable, "-c", NAP, profiler=profiler)
    manifest = recorded.capture.manifest
    assert recorded.exit_code == 0 and recorded.lost == [] and not manifest.partial
    assert recorded.capture.dispatches.num_rows > 100
    assert (manifest.profiler, manifest.provenance) == (profiler, "recorded")
    assert manifest.profiler_version and manifest.command[-2:] == ["-c", NAP]
    assert manifest.clock.domain == "boottime"
    wall = pc.min(recorded.capture.dispatches["start_ns"]).as_py() + (manifest.clock.wall_offset_ns or 0)
    assert abs(wall - time.time_ns()) < 60e9
    assert 0.3 < (manifest.duration_s or 0) < 20


def test_the_host_is_sampled_and_the_cost_of_it_kept(tmp_path: Path) -> None:
    code = "import time; e = time.time() + 0.8\nwhile time.time() < e: pass"
    capture = record(tmp_path / "out", sys.executable, "-c", code, profiler="none").capture
    assert metrics(capture, "host") == {"cpu_frac", "memory_used_bytes", "memory_available_bytes"}
    assert metrics(capture, "process:") >= {"cpu_frac", "rss_bytes", "threads", "io_read_bytes"}
    assert metrics(capture, "rocscope") == {"sampler_cpu_s"}
    rows = capture.samples.to_pandas()
    busy = rows[rows.subject.str.startswith("process:") & (rows.metric == "cpu_frac")].value.max()
    assert 0.3 < busy < 1.3
    assert rows[rows.metric == "sampler_cpu_s"].value.max() < 0.5
    assert set(rows.source) == {"host"}


def test_no_profiler_is_said_and_nothing_is_invented(tmp_path: Path) -> None:
    recorded = record(tmp_path / "out", "true", profiler="none", sample_hz=0)
    assert codes(recorded) == {"no-device-data"}
    assert recorded.capture.dispatches.num_rows == recorded.capture.samples.num_rows == 0


@pytest.mark.parametrize(("script", "code"), [("exit 3", 3), ("kill -KILL $$", 137)])
def test_the_commands_exit_code_is_passed_on(tmp_path: Path, script: str, code: int) -> None:
    assert record(tmp_path / "out", "sh", "-c", script, profiler="none").exit_code == code


def test_files_of_all_processes_are_gathered(
    on_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STANDIN_GPU_PROCESS", "spawn_main")
    script = tmp_path / "two.py"
    script.write_text(
        "import multiprocessing as m, time\n"
        "if __name__ == '__main__':\n"
        "    c = m.get_context('spawn'); p = [c.Process(target=time.sleep, args=(0.3,)) for _ in range(2)]\n"
        "    [x.start() for x in p]; [x.join() for x in p]\n"
    )
    recorded = record(tmp_path / "out", sys.executable, str(script))
    assert recorded.lost == [] and recorded.exit_code == 0
    assert len(recorded.capture.manifest.processes) == 2
    assert len(set(recorded.capture.dispatches["process"].to_pylist())) == 2


def test_a_killed_worker_is_said_loudly_and_the_rest_is_used(
    on_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STANDIN_GPU_PROCESS", "worker")
    body = "import sys, time; time.sleep(float(sys.argv[1]))"
    worker = f"{sys.executable} -c '{body}'"
    script = f"{worker} 30 worker & sleep 0.5; kill -9 $!; {worker} 0.3 worker; exit 0"
    recorded = record(tmp_path / "out", "bash", "-c", script)
    assert recorded.exit_code == 11
    assert len(recorded.lost) == 1 and "left nothing" in recorded.lost[0]
    assert "data-lost" in codes(recorded)
    assert recorded.capture.manifest.partial
    assert recorded.capture.dispatches.num_rows > 100


def test_lost_data_does_not_hide_the_commands_own_failure(on_path: Path, tmp_path: Path) -> None:
    recorded = record(tmp_path / "out", "bash", "-c", "sleep 0.3; kill -9 $$")
    assert recorded.exit_code == 137
    assert recorded.lost and "no-device-data" in codes(recorded)


def test_rocprof_that_made_no_table_is_said(on_path: Path, tmp_path: Path) -> None:
    recorded = record(tmp_path / "out", "bash", "-c", "kill -9 $PPID; sleep 0.2", profiler="rocprof")
    assert recorded.exit_code == 137
    assert "wrote no results.csv" in recorded.lost[0]


@pytest.mark.parametrize("profiler", ["rocprofv3", "rocprof"])
def test_ctrl_c_ends_in_order(on_path: Path, tmp_path: Path, profiler: str) -> None:
    ready = tmp_path / "ready"
    interrupt_after(ready)
    code = f"import time; time.sleep(0.3); open({str(ready)!r}, 'w'); time.sleep(60)"
    recorded = record(tmp_path / "out", sys.executable, "-c", code, profiler=profiler)
    assert recorded.lost == [] and recorded.capture.dispatches.num_rows > 50
    assert recorded.exit_code in (1, 130)  # Python's own way to die of KeyboardInterrupt


def test_sigterm_to_us_ends_in_order_too(on_path: Path, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    interrupt_after(ready, number=signal.SIGTERM)
    code = f"import time; time.sleep(0.3); open({str(ready)!r}, 'w'); time.sleep(60)"
    recorded = record(tmp_path / "out", sys.executable, "-c", code)
    assert recorded.exit_code == 143 and recorded.capture.dispatches.num_rows > 50


def test_a_second_ctrl_c_reaches_every_process(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    interrupt_after(ready, times=2)
    started = time.monotonic()
    child = f"trap '' INT; touch {ready}; while :; do sleep 0.1; done"
    recorded = record(
        tmp_path / "out", "bash", "-c", f"trap '' INT; bash -c \"{child}\"; exit 5", profiler="none"
    )
    assert time.monotonic() - started < 15
    assert recorded.exit_code in (5, 143)


def test_a_third_ctrl_c_kills(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    interrupt_after(ready, times=3)
    started = time.monotonic()
    script = f"trap '' INT TERM; touch {ready}; while :; do sleep 0.1; done"
    recorded = record(tmp_path / "out", "bash", "-c", script, profiler="none", shutdown_timeout_s=60)
    assert time.monotonic() - started < 15
    assert recorded.exit_code == 137 and "killed" in codes(recorded)
    said = next(each.message for each in recorded.capture.manifest.notices if each.code == "killed")
    assert said.startswith("killed as you asked: bash (pid ")  # not "after 60 s", which did not pass


def test_duration_ends_a_command_that_would_go_on(on_path: Path, tmp_path: Path) -> None:
    recorded = record(tmp_path / "out", sys.executable, "-c", "import time; time.sleep(60)", duration_s=0.6)
    assert recorded.exit_code == 0 and recorded.lost == []
    assert recorded.capture.manifest.exit_code == 143


def test_a_command_that_ignores_everything_is_killed_at_the_deadline(tmp_path: Path) -> None:
    script = "trap '' INT TERM; while :; do sleep 0.1; done"
    options = {"profiler": "none", "duration_s": 0.3, "shutdown_timeout_s": 1}
    recorded = record(tmp_path / "out", "bash", "-c", script, **options)
    assert "killed" in codes(recorded) and recorded.capture.manifest.partial
    assert recorded.exit_code == 137


def test_what_a_command_leaves_running_is_ended(tmp_path: Path) -> None:
    recorded = record(
        tmp_path / "out", "sh", "-c", "sleep 200 & echo $! > " + str(tmp_path / "pid"), profiler="none"
    )
    assert recorded.exit_code == 0 and "left-behind" in codes(recorded)
    pid = int((tmp_path / "pid").read_text())  # a zombie where the machine's init does not reap
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_a_recording_is_replayed_beside_a_real_run(examples: Path, tmp_path: Path) -> None:
    recording = examples / "h200_decoder" / "kineto_strided_graph.json.gz"
    recorded = record(tmp_path / "out", sys.executable, "-c", NAP, profiler=f"replay:{recording}")
    manifest = recorded.capture.manifest
    assert manifest.provenance == "replayed" and recording.name in manifest.provenance_note
    assert recorded.capture.dispatches.num_rows > 100
    first = pc.min(recorded.capture.dispatches["start_ns"]).as_py()
    host = recorded.capture.samples.filter(
        pc.equal(recorded.capture.samples["source"].cast("string"), "host")
    )
    assert abs(pc.min(host["time_ns"]).as_py() - first) < 5e9
    assert "clocks-unrelated" in codes(recorded)


def test_a_recording_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "bad").write_text("nothing")
    with pytest.raises(InputError):
        record(tmp_path / "out", "true", profiler=f"replay:{tmp_path / 'bad'}")


def test_secrets_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_API_KEY", "sesame")
    monkeypatch.setenv("HF_TOKEN", "hf_sesamesesame")
    monkeypatch.setenv("VLLM_LOGGING_LEVEL", "INFO")
    command = ("true", "--api-key", "sesame", "--hf-token=sesame", "--tokenizer", "T", "hf_abcdefghijkl")
    recorded = record(tmp_path / "out", *command, "--max-num-batched-tokens", "8", profiler="none")
    text = recorded.capture.manifest.model_dump_json()
    assert "sesame" not in text and "hf_abc" not in text
    assert recorded.capture.manifest.environment["VLLM_LOGGING_LEVEL"] == "INFO"
    assert recorded.capture.manifest.command[-2:] == ["--max-num-batched-tokens", "8"]
    assert recorded.capture.manifest.command[4:6] == ["--tokenizer", "T"]


def test_only_the_part_that_was_asked_for_is_analysed(on_path: Path, tmp_path: Path) -> None:
    capture = record(tmp_path / "out", sys.executable, "-c", NAP).capture
    first = pc.min(capture.dispatches["start_ns"]).as_py()
    whole = capture.dispatches.num_rows

    def rows(*window: int) -> int:
        capture.manifest.window_ns = (window[0], window[1])
        return select(capture, AnalyzeOptions()).dispatches.num_rows

    assert rows(first - 1, first + 10**12) == whole
    assert 0 < rows(first + 100_000_000, first + 200_000_000) < whole
    chosen = select(capture, AnalyzeOptions(between_s=(0.0, 60.0)))  # what the user names comes first
    assert chosen.dispatches.num_rows == whole
    assert rows(first + 10**12, first + 2 * 10**12) == whole
    assert any(each.code == "window-empty" for each in capture.manifest.notices)


def test_errors_of_a_launch_are_passed_on(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="command not found"):
        record(tmp_path / "out", "no-such-program", profiler="none")
    assert issubclass(TargetDied, TargetError) and issubclass(TargetNotReady, TargetError)


@pytest.mark.parametrize("profiler", ["none", "rocprofv3", "rocprofv2", "rocprof"])
def test_a_command_that_is_not_there_is_said_before_a_profiler_runs(
    on_path: Path, tmp_path: Path, profiler: str
) -> None:
    out = tmp_path / "out"
    with pytest.raises(TargetError, match="no-such-program: command not found"):
        record(out, "no-such-program", profiler=profiler)
    plain = tmp_path / "plain.txt"
    plain.write_text("no program")
    with pytest.raises(PermissionMissing, match=r"plain\.txt: permission denied"):
        record(out, str(plain), profiler=profiler)
    with pytest.raises(PermissionMissing, match="is a folder"):
        record(out, str(tmp_path), profiler=profiler)


def test_a_command_of_one_word_under_a_wrapper_is_signalled_itself(on_path: Path, tmp_path: Path) -> None:
    script = tmp_path / "forever"
    script.write_text(f"#!{sys.executable}\nimport time\ntime.sleep(60)\n")
    script.chmod(0o755)
    recorded = record(tmp_path / "out", str(script), profiler="rocprof", duration_s=0.6)
    assert recorded.lost == [] and recorded.capture.dispatches.num_rows > 50


def test_replaying_a_replay_says_so_and_keeps_no_old_host_samples(examples: Path, tmp_path: Path) -> None:
    recording = examples / "h200_decoder" / "kineto_strided_graph.json.gz"
    first = record(tmp_path / "one", sys.executable, "-c", NAP, profiler=f"replay:{recording}")
    saved = first.capture.save(tmp_path / "capture")
    again = record(tmp_path / "two", "true", profiler=f"replay:{saved}")
    assert "itself replayed" in again.capture.manifest.provenance_note
    assert again.capture.manifest.id != first.capture.manifest.id
    assert again.capture.samples.num_rows < first.capture.samples.num_rows
    assert again.capture.manifest.command == ["true"]


def test_a_command_that_ignores_ctrl_c_is_told_to_terminate(on_path: Path, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    interrupt_after(ready)
    code = f"import signal, time; signal.signal(2, signal.SIG_IGN); open({str(ready)!r}, 'w'); time.sleep(60)"
    recorded = record(tmp_path / "out", sys.executable, "-c", code, shutdown_timeout_s=2)
    assert recorded.exit_code == 143 and recorded.lost == []


def test_a_background_job_still_hears_of_ctrl_c(tmp_path: Path) -> None:
    """A shell starts background jobs with SIGINT ignored; neither we nor the command are to inherit that."""
    ready = tmp_path / "ready"
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        interrupt_after(ready)
        code = f"import time; open({str(ready)!r}, 'w'); time.sleep(60)"
        recorded = record(tmp_path / "out", sys.executable, "-c", code, profiler="none")
    finally:
        signal.signal(signal.SIGINT, before)
    assert recorded.exit_code in (1, 130)
