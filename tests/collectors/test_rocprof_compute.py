"""Runs around the stand-in for rocprof-compute: what it is told, what it would spoil, what is read of it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pyarrow.compute as pc
import pytest
from click.testing import CliRunner

from rocscope.capture import Capture
from rocscope.collectors import live_passes, run_rocprof_compute
from rocscope.collectors.backend import Absent, Found
from rocscope.collectors.live_outcome import Recorded
from rocscope.collectors.live_plan import Run, plan_run
from rocscope.commands.profile import COMMAND
from rocscope.config import ProfileOptions
from rocscope.errors import ProfilerMissing, UsageError
from rocscope.launch import hidden, locales
from rocscope.launch.tree import Seen

NAP = (sys.executable, "-c", "import time; time.sleep(0.15)")
BACKEND = run_rocprof_compute.BACKEND


@pytest.fixture
def on_path(standins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The stand-ins, and a program called rocscope in a folder of its own, as our installation is."""
    ours = tmp_path / "ours"
    ours.mkdir()
    (ours / "rocscope").write_text("#!/bin/sh\nexit 0\n")
    (ours / "rocscope").chmod(0o755)
    (ours / "beside").write_text("#!/bin/sh\necho beside\n")
    (ours / "beside").chmod(0o755)
    monkeypatch.setenv("PATH", f"{ours}:{standins}:{os.environ['PATH']}")
    return standins


def record(out: Path, *command: str, **chosen: object) -> tuple[Recorded, list[str], list[str]]:
    said: list[str] = []
    told: list[str] = []
    given = {"profiler": "rocprof-compute", "out": out, "sample_hz": 0, "shutdown_timeout_s": 20, **chosen}
    recorded = live_passes.record(
        command or NAP, ProfileOptions.model_validate(given), progress=told.append, say=said.append
    )
    return recorded, said, told


def plan(out: Path, *command: str, dry: bool = False, **chosen: object) -> Run:
    environment = dict(os.environ) | chosen.pop("environment", {})  # type: ignore[operator]
    given = {"profiler": "rocprof-compute", "out": out, **chosen}
    return plan_run(command or NAP, ProfileOptions.model_validate(given), environment=environment, dry=dry)


def codes(capture: Capture) -> set[str]:
    return {each.code for each in capture.manifest.notices}


def test_a_run_leaves_times_levels_and_counters_each_of_its_run(tmp_path: Path, on_path: Path) -> None:
    recorded, said, told = record(tmp_path / "out", on_path and sys.executable, *NAP[1:])
    capture = recorded.capture
    assert recorded.exit_code == 0 and recorded.lost == []
    assert (capture.manifest.profiler, capture.manifest.profiler_version) == ("rocprof-compute", "3.0.0")
    assert capture.manifest.command[-3:] == list(NAP)
    passes = {each.note: set(each.counters) for each in capture.manifest.passes if each.perturbed}
    assert "SQ_ACCUM_PREV_HIRES" in passes["level SQ_LEVEL_WAVES"]
    assert passes["run 2 of pmc_perf.csv"] == {"TCC_HIT_sum", "TCC_MISS_sum"}
    assert len(passes) == 4
    clean = capture.dispatches.filter(capture.dispatches["duration_ns"].is_valid())
    assert set(clean["pass"].to_pylist()) == {0} and clean.num_rows > 20
    waves = capture.counters.filter(pc.equal(capture.counters["counter"].cast("string"), "SQ_WAVES"))
    assert waves.num_rows and "waves-mismatch" not in codes(capture)
    assert capture.manifest.gpus[0].arch == "gfx908" and len(capture.manifest.gpus) == 1
    assert any(text.startswith("pass ") and " of 5: profiling" in text for text in told), told
    assert any("kept off" in text for text in said)


def test_words_stay_whole_and_the_command_has_its_own_surroundings(tmp_path: Path, on_path: Path) -> None:
    """The tool joins the words with spaces; its PATH, locale folder and the like are not the command's."""
    said = tmp_path / "said"
    code = (
        f"import json, os, sys; open({str(said)!r}, 'w').write(json.dumps([sys.argv[1:], dict(os.environ)]))"
    )
    recorded, _, _ = record(tmp_path / "out", sys.executable, "-c", code, "two  words", "*", "a;b", "it's")
    assert recorded.exit_code == 0
    words, environment = json.loads(said.read_text())
    assert words == ["two  words", "*", "a;b", "it's"]
    assert environment["PATH"] == os.environ["PATH"]
    assert environment.get("LOCPATH") == os.environ.get("LOCPATH")
    assert environment.get("LC_ALL") == os.environ.get("LC_ALL")
    assert environment["VLLM_ENABLE_V1_MULTIPROCESSING"] == "0"


def test_the_tool_itself_does_not_start_beside_a_program_of_our_name(on_path: Path) -> None:
    """Why it is kept off its PATH; the stand-in has the options that clash in the real one."""
    asked = subprocess.run([on_path / "rocprof-compute", "--version"], capture_output=True, text=True)
    assert asked.returncode != 0 and "conflicting option string: -s" in asked.stderr
    found = BACKEND.find(os.environ, "")
    assert found == Found(str(on_path / "rocprof-compute"), "3.0.0")


def test_a_folder_of_path_keeps_all_but_the_one_program(tmp_path: Path, on_path: Path) -> None:
    path, links = hidden.without("rocscope", os.environ, tmp_path / "view")
    hidden.make(links)
    assert shutil.which("rocscope", path=path) is None
    beside = shutil.which("beside", path=path)
    assert beside and subprocess.check_output([beside], text=True) == "beside\n"
    rest = os.environ["PATH"].split(":")
    assert path.split(":")[1:2] == rest[1:2]
    assert list(hidden.holding("rocscope", {"PATH": path})) == []


def test_an_environment_of_python_stays_one(tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    (venv / "bin/rocscope").write_text("#!/bin/sh\n")
    (venv / "bin/rocscope").chmod(0o755)
    module = next((venv / "lib").glob("python3.*")) / "site-packages/only_there.py"
    module.write_text("said = 'there'\n")
    path, links = hidden.without("rocscope", {"PATH": str(venv / "bin")}, tmp_path / "view")
    hidden.make(links)
    python = shutil.which("python3", path=path)
    assert python
    said = subprocess.check_output([python, "-c", "import only_there; print(only_there.said)"], text=True)
    assert said == "there\n"


def test_a_locale_that_is_missing_has_a_stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """rocprof-compute before 3.1 asks for en_US.UTF-8 and ends without; containers of vLLM have none."""
    folder = tmp_path / "system"
    (folder / "C.utf8").mkdir(parents=True)
    assert locales.stand_in("en_US.UTF-8", tmp_path / "own", folder) == {
        tmp_path / "own/en_US.UTF-8": folder / "C.utf8",
        tmp_path / "own/C.UTF-8": folder / "C.utf8",
    }
    assert locales.stand_in("en_US.UTF-8", tmp_path / "own", tmp_path / "none") == {}
    assert locales.exists("C") and not locales.exists("xx_YY.UTF-8")
    assert locales.is_utf8({"LANG": "de_DE.utf8"}) and not locales.is_utf8(
        {"LANG": "en_US.UTF-8", "LC_ALL": "C"}
    )
    links = locales.stand_in("xx_YY.UTF-8", tmp_path / "real")
    if not links:
        pytest.skip("no C.UTF-8 on this machine")
    hidden.make(links)
    ask = "import locale; print(locale.setlocale(locale.LC_ALL, 'xx_YY.UTF-8'))"
    said = subprocess.run(
        [sys.executable, "-c", ask],
        capture_output=True,
        text=True,
        env={**os.environ, "LOCPATH": str(tmp_path / "real")},
    )
    assert said.stdout == "xx_YY.UTF-8\n", said.stderr


def test_without_any_utf8_locale_an_old_one_is_refused(
    tmp_path: Path, on_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locales, "exists", lambda name: False)
    monkeypatch.setattr(locales, "FOLDER", tmp_path / "none")
    with pytest.raises(ProfilerMissing, match=r"en_US\.UTF-8") as caught:
        plan(tmp_path / "out")
    assert "locale-gen" in caught.value.hint
    monkeypatch.setenv("STANDIN_COMPUTE_VERSION", "3.1.0")
    assert "LOCPATH" not in plan(tmp_path / "out").added
    assert plan(tmp_path / "out", environment={"LC_ALL": "POSIX"}).added["LC_ALL"] == "C.UTF-8"


@pytest.mark.parametrize(
    "case",
    [
        ("2.0.1", "gfx90a", "rocprof"),
        ("3.0.0", "gfx908", "rocprof"),
        ("3.1.0", "gfx908", "rocprof"),
        ("3.2.1", "gfx942", "rocprofv3"),
        ("3.3.0", "gfx908", None),
    ],
)
def test_the_rocprof_that_it_runs_is_chosen(
    tmp_path: Path, on_path: Path, monkeypatch: pytest.MonkeyPatch, case: tuple[str, str, str | None]
) -> None:
    version, arch, rocprof = case
    monkeypatch.setenv("STANDIN_COMPUTE_VERSION", version)
    monkeypatch.delenv("ROCPROF", raising=False)
    monkeypatch.setattr("rocscope.collectors.gpu_arch.of_machine", lambda: [arch])
    run = plan(tmp_path / "out")
    assert run.added.get("ROCPROF") == (str(on_path / rocprof) if rocprof else None)
    assert "ROCPROF" not in plan(tmp_path / "out", environment={"ROCPROF": "mine"}).added


@pytest.mark.slow
def test_an_older_one_is_called_omniperf(
    tmp_path: Path, on_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = tmp_path / "old"
    old.mkdir()
    shutil.copy(on_path / "rocprof-compute", old / "omniperf")
    for name in ("rocprof", "standin_counters.py", "standin_table.py"):
        shutil.copy(on_path / name, old)
    shutil.copytree(on_path.parent / "lib", tmp_path / "lib")
    monkeypatch.setenv("PATH", f"{old}:{tmp_path / 'ours'}:/usr/bin:/bin")
    monkeypatch.setenv("STANDIN_COMPUTE_VERSION", "2.0.1")
    assert BACKEND.find(os.environ, "") == Found(str(old / "omniperf"), "2.0.1")
    recorded, _, _ = record(tmp_path / "out")
    assert recorded.exit_code == 0 and recorded.capture.counters.num_rows
    assert recorded.capture.manifest.profiler_version.startswith("2.0.1")


def test_where_there_is_none_the_next_step_is_said(tmp_path: Path) -> None:
    found = BACKEND.find({"PATH": str(tmp_path)}, "")
    assert isinstance(found, Absent) and found.reason == "rocprof-compute is not installed"
    (tmp_path / "omniperf").write_text("")
    found = BACKEND.find({"PATH": str(tmp_path)}, "")
    assert isinstance(found, Absent) and found.forbidden
    assert plan(tmp_path / "out", dry=True, environment={"PATH": "/usr/bin:/bin"}).plan.command[0] == (
        "rocprof-compute"
    )


def test_a_server_is_refused_with_the_way_out(tmp_path: Path, on_path: Path) -> None:
    for load in (None, "true"):
        with pytest.raises(UsageError, match="a server does not end") as caught:
            plan(tmp_path / "out", sys.executable, "-m", "vllm.entrypoints.openai.api_server", load=load)
        assert "--counters standard" in caught.value.hint


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"kernels": "gptq.*"}, "a part of their name"),
        ({"kernels": "a&b"}, "a part of their name"),
        ({"profiler": "rocprof-compute:SQ,$(x)"}, "neither a block nor a table"),
        ({"profiler": "rocprofv3:SQ"}, "no such profiler"),
        ({"counters": "standard", "gpu": "MI100"}, "takes no counters"),
    ],
)
def test_what_it_would_not_understand_is_refused(
    tmp_path: Path, on_path: Path, chosen: dict[str, object], message: str
) -> None:
    given = {"profiler": "rocprof-compute", "out": tmp_path / "out", **chosen}
    with pytest.raises(UsageError, match=message):
        live_passes.plan(NAP, ProfileOptions.model_validate(given))


def test_a_path_that_it_would_take_apart_is_refused(tmp_path: Path, on_path: Path) -> None:
    with pytest.raises(UsageError, match="--out"):
        plan(tmp_path / "two words")
    assert plan(tmp_path / "a/../b").plan.command[5].startswith(str(tmp_path / "b"))


def test_filters_and_blocks_reach_it(tmp_path: Path, on_path: Path) -> None:
    words = plan(
        tmp_path / "out", profiler="rocprof-compute:SQ,TCC,no-roof", kernels="gptq", dispatches=(2, 5)
    ).plan.command
    assert " ".join(words[6:]).startswith("--no-roof -b SQ TCC -k gptq -d 2:5 -- /bin/sh ")
    recorded, _, _ = record(tmp_path / "run", profiler="rocprof-compute:TCC", kernels="gptq")
    capture = recorded.capture
    assert recorded.lost == [] and recorded.exit_code == 0
    assert {name for each in capture.manifest.passes for name in each.counters} == {
        *("TCC_HIT_sum", "TCC_MISS_sum", "TCC_EA_RDREQ_sum", "TCC_EA_RDREQ_32B_sum"),
        *("TCC_EA_WRREQ_sum", "TCC_EA_WRREQ_64B_sum"),
    }
    assert all("gptq" in name for name in capture.dispatches["kernel"].to_pylist())
    nothing, _, _ = record(
        tmp_path / "nothing", profiler="rocprof-compute:TCC", kernels="nothing_is_called_so"
    )
    assert "matched-nothing" in codes(nothing.capture) and nothing.lost == []


def test_a_run_that_fails_leaves_what_was_done_before(
    tmp_path: Path, on_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STANDIN_COMPUTE_FAIL", "pmc_perf_1")
    recorded, said, _ = record(tmp_path / "out")
    assert recorded.exit_code == 1  # its own
    (lost,) = recorded.lost
    assert lost.startswith("3 of 5 runs left no table: pmc_perf_1, pmc_perf_2, timestamps")
    assert "exited with code 1" in lost and f"DATA LOST: {lost}" in said
    capture = recorded.capture
    assert capture.manifest.partial and capture.counters.num_rows
    assert {p.note for p in capture.manifest.passes} >= {"level SQ_LEVEL_WAVES"}
    assert not capture.dispatches.filter(capture.dispatches["duration_ns"].is_valid()).num_rows or (
        "times-of-counter-run" in codes(capture)
    )


def test_one_that_fails_at_once_is_said_with_its_reason(
    tmp_path: Path, on_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROCPROF", "rocprofv3")
    recorded, _, _ = record(tmp_path / "out")
    assert recorded.exit_code == 1 and recorded.lost[0].startswith("rocprof-compute left no table")
    assert not recorded.capture.dispatches.num_rows


def test_a_process_that_is_not_seen_is_lost_data(tmp_path: Path, on_path: Path) -> None:
    folder = tmp_path / "raw" / run_rocprof_compute.FOLDER
    folder.mkdir(parents=True)
    (folder / "timestamps.csv").write_text("Dispatch_ID,Kernel_Name\n")
    request = plan(tmp_path).request
    gpu = Seen(pid=7, created=0.0, parent=1, name="worker", command=("worker",), uses_gpu=True)
    assert "no kernel was recorded, though worker" in BACKEND.missing(request, [gpu])[0]
    assert BACKEND.missing(request, []) == []
    assert BACKEND.outputs(request) == [folder]
    assert BACKEND.progress(request) == ""


@pytest.mark.slow
def test_ctrl_c_ends_it_and_keeps_the_runs_that_were_done(tmp_path: Path, on_path: Path) -> None:
    done = tmp_path / "out/raw/rocprof-compute/SQ_LEVEL_WAVES.csv"

    def press() -> None:
        end = time.monotonic() + 20
        while not done.exists() and time.monotonic() < end:
            time.sleep(0.02)
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=press, daemon=True).start()
    recorded, _, _ = record(tmp_path / "out", sys.executable, "-c", "import time; time.sleep(1.2)")
    assert recorded.interrupted and recorded.lost and recorded.capture.manifest.partial
    assert recorded.capture.counters.num_rows


def test_a_dry_run_shows_what_is_set_and_writes_nothing(tmp_path: Path, on_path: Path) -> None:
    words = [
        "--profiler",
        "rocprof-compute",
        "--out",
        str(tmp_path / "out"),
        "--dry-run",
        "--json",
        "--",
        *NAP,
    ]
    done = CliRunner().invoke(COMMAND, [*words, "--", *NAP])
    assert done.exit_code == 0, done.output
    planned = json.loads(done.stdout)
    assert planned["passes"] == [{"counters": [], "launches": None}]
    assert "rocscope" not in {Path(p).name for p in planned["environment"]["PATH"].split(":")}
    assert any("15 to 25 times" in note for note in planned["notes"])
    assert "exec " in next(iter(planned["contents"].values()))
    assert not (tmp_path / "out").exists()
