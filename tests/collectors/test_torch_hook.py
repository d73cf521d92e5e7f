"""The hook that records a PyTorch program, at the boundary of the process: torch is a stand-in."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from rocscope.collectors.run_torch import HOOK

STANDIN = Path(__file__).resolve().parents[1] / "fake_tools/standin_torch"
WORK = "import torch\ntorch.work('first')\ntorch.work('second')\n"
READY = "print('ready', flush=True)\nimport time\nwhile True: time.sleep(0.01)\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "torch"
    made.mkdir()
    return made


def settings(folder: Path, *path: Path, **given: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    python_path = ":".join(map(str, (HOOK, *path, STANDIN)))
    return {**kept, "PYTHONPATH": python_path, "ROCSCOPE_TORCH_FOLDER": str(folder), **given}


def run(folder: Path, code: str, *path: Path, **given: str) -> subprocess.CompletedProcess[str]:
    command, environment = [sys.executable, "-c", code], settings(folder, *path, **given)
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


def started(folder: Path, code: str, **given: str) -> subprocess.Popen[str]:
    """Start a program and wait until it says that it is ready."""
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env=settings(folder, **given),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout and process.stdout.readline() == "ready\n"
    return process


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, errors = process.communicate(timeout=60)
    return process.returncode, errors


def traces(folder: Path) -> list[dict[str, Any]]:
    left = sorted(path.name for path in folder.iterdir())
    assert all(name.endswith(".pt.trace.json.gz") for name in left), left
    return [json.loads(gzip.decompress((folder / name).read_bytes())) for name in left]


def names(folder: Path) -> list[list[str]]:
    return [[event["name"] for event in trace["traceEvents"]] for trace in traces(folder)]


@pytest.mark.parametrize("age", [{}, {"STANDIN_OLD": "1"}], ids=["new", "old"])
def test_a_program_is_recorded_from_its_first_use_of_the_gpu(folder: Path, age: dict[str, str]) -> None:
    code = f"import os\nprint(os.getpid())\n{WORK}raise SystemExit(3)"
    done = run(folder, code, STANDIN_GPU="1", **age)
    assert (done.returncode, done.stderr) == (3, "")
    assert [path.name for path in folder.iterdir()] == [f"{done.stdout.strip()}.pt.trace.json.gz"]
    (trace,) = traces(folder)
    assert [event["cat"] for event in trace["traceEvents"]] == ["kernel", "kernel"]
    assert trace["record_shapes"] == 1 and "distributedInfo" not in trace


def test_without_a_gpu_operators_are_recorded_at_once(folder: Path) -> None:
    assert run(folder, WORK).returncode == 0
    assert [event["cat"] for event in traces(folder)[0]["traceEvents"]] == ["cpu_op", "cpu_op"]


@pytest.mark.parametrize("name", ["HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"])
def test_a_gpu_that_is_hidden_is_none(folder: Path, name: str) -> None:
    code = "import torch\ntorch.autograd.profiler.ran('first')"
    run(folder, code, STANDIN_GPU="1", **{name: ""})
    assert traces(folder)[0]["traceEvents"][0]["cat"] == "cpu_op"


@pytest.mark.parametrize(
    "code", ["print(1)", "import torch", "import importlib.util as u; u.find_spec('torch')"]
)
def test_a_process_that_does_not_use_the_gpu_writes_nothing(folder: Path, code: str) -> None:
    done = run(folder, code, STANDIN_GPU="1")
    assert (done.returncode, done.stderr, list(folder.iterdir())) == (0, "", [])


def test_the_program_finds_everything_as_it_would_without(folder: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "sitecustomize.py").write_text("print('mine')")
    code = (
        "import sys, torch, importlib\n"
        "print([each for each in sys.path if 'hook' in each], sys.modules['sitecustomize'].__file__)\n"
        "print([type(each).__name__ for each in sys.meta_path if 'Finder' == type(each).__name__])\n"
        "print(type(torch.__spec__.loader).__name__, vars(torch.__loader__).keys() - {'name', 'path'})\n"
        "print(importlib.reload(torch) is torch)"
    )
    done = run(folder, code, mine)
    expected = ["mine", f"[] {mine}/sitecustomize.py", "[]", "SourceFileLoader set()", "True"]
    assert (done.stdout.splitlines(), done.stderr) == (expected, "")
    assert len(traces(folder)) == 1


def test_an_error_of_the_users_own_sitecustomize_reads_as_without(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("1 / 0")
    done = run(folder, WORK, tmp_path)
    without = run(folder, "import sys", tmp_path, PYTHONPATH=str(tmp_path))
    assert done.stderr == without.stderr != ""
    assert len(traces(folder)) == 1


def test_without_a_folder_nothing_is_done(tmp_path: Path) -> None:
    done = run(tmp_path / "none", "import sys; print(*map(type, sys.meta_path))\n" + WORK)
    assert "sitecustomize" not in done.stdout and done.stderr == ""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_program_as_ever_and_the_trace_is_written(folder: Path, number: int) -> None:
    process = started(folder, WORK + READY, STANDIN_GPU="1")
    assert len(list(folder.glob("*.recording"))) == 1
    process.send_signal(number)
    code, errors = ended(process)
    assert code == -number
    assert "rocscope" not in errors
    assert names(folder) == [["first", "second"]]


def test_signals_that_come_while_writing_wait(folder: Path) -> None:
    process = started(folder, WORK + READY, STANDIN_EXPORT_S="0.6")
    process.send_signal(signal.SIGTERM)
    for number in (signal.SIGINT, signal.SIGTERM):
        time.sleep(0.2)
        process.send_signal(number)
    assert ended(process)[0] in (-signal.SIGTERM, -signal.SIGINT)
    assert names(folder) == [["first", "second"]]


def test_the_programs_own_handler_stays(folder: Path) -> None:
    own = "import signal, sys\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\n"
    process = started(folder, own + WORK + READY)
    process.terminate()
    assert ended(process)[0] == 7
    assert names(folder) == [["first", "second"]]


def test_a_process_that_is_killed_leaves_word_of_it(folder: Path) -> None:
    process = started(folder, WORK + READY, STANDIN_GPU="1")
    process.kill()
    ended(process)
    assert [path.name for path in folder.iterdir()] == [f"{process.pid}.recording"]


OWN = (
    "with torch.autograd.profiler.profile(record_shapes=True, use_kineto=True) as mine: torch.work('mine')\n"
)


def test_our_recording_ends_before_the_programs_own_begins(folder: Path) -> None:
    code = f"{WORK}{OWN}print(len(mine.events))\n{OWN}torch.work('after')"
    done = run(folder, code)
    assert (done.returncode, done.stdout) == (0, "1\n")
    assert done.stderr.splitlines() == [
        "rocscope: the program starts PyTorch's profiler itself: ours has ended"
    ]
    assert names(folder) == [["first", "second"]]


def test_a_recording_of_the_programs_own_is_left_alone(folder: Path) -> None:
    code = f"import torch\n{OWN}print(len(mine.events))\ntorch.work()"
    done = run(folder, code, STANDIN_GPU="1", STANDIN_OLD="1").stdout, run(folder, code, STANDIN_GPU="1")
    assert (done[0], done[1].stdout, done[1].returncode) == ("1\n", "1\n", 0)
    assert done[1].stderr.count("\n") == 1 and "using PyTorch's profiler itself" in done[1].stderr
    assert [path.suffix for path in folder.iterdir()] == [".failed", ".failed"]


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"STANDIN_FAIL": "start"}, "RuntimeError: no permission to read counters"),
        ({"STANDIN_FAIL": "export"}, "OSError: [Errno 28] No space left on device"),
    ],
)
@pytest.mark.parametrize("gpu", [{}, {"STANDIN_GPU": "1"}], ids=["cpu", "gpu"])
def test_what_fails_is_one_line_and_never_the_program(
    folder: Path, given: dict[str, str], reason: str, gpu: dict[str, str]
) -> None:
    done = run(folder, WORK + "print('done')", **given, **gpu)
    assert (done.returncode, done.stdout) == (0, "done\n")
    assert done.stderr.count("\n") == 1 and done.stderr.rstrip().endswith(reason)
    (failed,) = folder.glob("*.failed")
    assert failed.read_text() == reason
    assert not list(folder.glob("*.part"))


@pytest.mark.parametrize("window", ["soon", "-1", "nan"])
def test_settings_that_are_no_time_are_said(folder: Path, window: str) -> None:
    done = run(folder, WORK, ROCSCOPE_TORCH_WINDOW_S=window)
    assert done.returncode == 0 and done.stderr.startswith("rocscope: PyTorch is not recorded: ValueError")


def test_another_module_called_torch_is_let_be(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("print('another')")
    done = run(folder, "import torch", tmp_path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (0, "another\n", 1)


def test_a_torch_that_cannot_be_imported_fails_as_ever_and_may_be_tried_again(
    folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "torch.py").write_text("import missing")
    code = (
        "import sys\ntry: import torch\nexcept ImportError as error: print(error)\n"
        f"sys.path.remove({str(tmp_path)!r})\n{WORK}"
    )
    done = run(folder, code, tmp_path)
    assert (done.stdout, done.stderr) == ("No module named 'missing'\n", "")
    assert names(folder) == [["first", "second"]]


SLEEP = "import time\nfor _ in range({}): time.sleep(0.01)\n"


@pytest.mark.parametrize("age", [{}, {"STANDIN_OLD": "1"}], ids=["new", "old"])
def test_the_window_ends_the_recording_not_the_program(folder: Path, age: dict[str, str]) -> None:
    code = f"import os\n{WORK}{SLEEP.format(60)}torch.work('late')\nprint(*os.listdir({str(folder)!r}))"
    done = run(folder, code, ROCSCOPE_TORCH_WINDOW_S="0.1", **age)
    assert done.stdout.rstrip().endswith(".pt.trace.json.gz")  # written while the program runs
    assert done.stderr.count("\n") == 1 and "the program goes on unrecorded" in done.stderr
    assert names(folder) == [["first", "second"]]


def test_a_main_thread_that_is_busy_does_not_keep_the_window_open(folder: Path) -> None:
    code = f"{WORK}import threading\nthreading.Event().wait(2)\ntorch.work('late')"
    run(folder, code, ROCSCOPE_TORCH_WINDOW_S="0.1")
    assert names(folder) == [["first", "second"]]


def test_the_recording_may_begin_later(folder: Path) -> None:
    run(folder, f"{WORK}{SLEEP.format(50)}torch.work('late')", STANDIN_GPU="1", ROCSCOPE_TORCH_DELAY_S="0.1")
    assert names(folder) == [["late"]]


IN_THREAD = "import torch, threading\nt = threading.Thread(target=torch.work)\nt.start()\nt.join()\n"


def test_a_gpu_first_used_by_another_thread_is_recorded(folder: Path) -> None:
    assert run(folder, IN_THREAD + "torch.work('main')", STANDIN_GPU="1").stderr == ""
    assert names(folder) == [["standin_kernel", "main"]]


def test_an_old_torch_is_not_recorded_from_another_thread(folder: Path) -> None:
    done = run(folder, IN_THREAD, STANDIN_GPU="1", STANDIN_OLD="1")
    assert done.returncode == 0 and "this needs PyTorch 2.7" in done.stderr


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_each_process_that_uses_the_gpu_leaves_its_own_trace(
    folder: Path, tmp_path: Path, method: str
) -> None:
    script = tmp_path / "several.py"
    script.write_text(
        "import multiprocessing, torch\n"
        "if __name__ == '__main__':\n"
        f"    context = multiprocessing.get_context({method!r})\n"
        "    children = [context.Process(target=torch.work, args=(name,)) for name in 'ab']\n"
        "    [each.start() for each in children]; [each.join() for each in children]\n"
        "    torch.work('parent')\n"
    )
    done = run(folder, f"import runpy; runpy.run_path({str(script)!r}, run_name='__main__')", STANDIN_GPU="1")
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(names(folder)) == [["a"], ["b"], ["parent"]]


def test_a_fork_of_a_process_that_is_recorded_leaves_the_recording_to_it(folder: Path) -> None:
    code = (
        f"import os, signal\n{WORK}"
        "child = os.fork()\n"
        "if not child: raise SystemExit(5)\n"
        "print(os.waitpid(child, 0)[1] >> 8)\n"
        "child = os.fork()\n"
        "if not child:\n    while True: pass\n"
        "os.kill(child, signal.SIGTERM)\n"
        "print(os.waitpid(child, 0)[1])"
    )
    done = run(folder, code, STANDIN_GPU="1")
    assert done.stdout.split() == ["5", "15"]
    assert names(folder) == [["first", "second"]]


def test_a_trace_that_is_there_already_is_kept(folder: Path) -> None:
    code = f"import os\nopen(f'{folder}/{{os.getpid()}}.pt.trace.json.gz', 'w').close()\n{WORK}"
    run(folder, code)
    assert sorted(path.name.partition(".")[2] for path in folder.iterdir()) == [
        "2.pt.trace.json.gz",
        "pt.trace.json.gz",
    ]


def test_the_rank_is_noted(folder: Path) -> None:
    run(folder, WORK, RANK="1")
    assert traces(folder)[0]["distributedInfo"] == {"rank": 1, "world_size": 2}


def test_a_program_without_stderr_is_recorded(folder: Path) -> None:
    assert run(folder, f"import sys\nsys.stderr = None\n{WORK}{OWN}").returncode == 0
    assert names(folder) == [["first", "second"]]


@pytest.mark.parametrize("version", ["3.9", "3.10", "3.12", "3.13"])
def test_other_pythons_are_recorded(folder: Path, version: str) -> None:
    environment = settings(folder, PYENV_VERSION=version)  # for where pyenv holds several
    command = [f"python{version}", "-c", WORK]
    try:
        subprocess.run([*command[:2], ""], env=environment, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip(f"no python{version} on this machine")
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert names(folder) == [["first", "second"]]
