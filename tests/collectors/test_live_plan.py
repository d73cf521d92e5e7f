"""Choosing a profiler, composing the command, refusing what would spoil the data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rocscope.collectors.backend import Absent, Found, backends, find_program
from rocscope.collectors.live_plan import Run, plan_run, prepare
from rocscope.config import ProfileOptions
from rocscope.errors import InputError, PermissionMissing, ProfilerMissing, RocscopeError, UsageError


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    folder = tmp_path / "tools"
    folder.mkdir()
    return folder


def tool(folder: Path, name: str, body: str = "echo version: 1.0.0", mode: int = 0o755) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{body}\n")
    (folder / name).chmod(mode)


def vllm(folder: Path, version: str) -> None:
    """A `vllm` script whose interpreter reports ``version``; it is asked, never run."""
    tool(folder, "python-of-vllm", f"echo {version}")
    (folder / "vllm").write_text(f"#!{folder}/python-of-vllm\n")
    (folder / "vllm").chmod(0o755)


def plan(tools: Path, *command: str, dry: bool = False, **options: object) -> Run:
    given = {"out": tools.parent / "out", **options}
    environment = {"PATH": f"{tools}:/usr/bin:/bin", **given.pop("environment", {})}  # type: ignore[dict-item]
    return plan_run(command, ProfileOptions.model_validate(given), environment=environment, dry=dry)


def test_the_newest_profiler_is_taken(tools: Path) -> None:
    tool(tools, "rocprof", "echo 'ROCProfiler version: 2.0.6'")
    assert plan(tools, "true").backend.name == "rocprof"
    tool(tools, "rocprofv2", "echo 'Usage: rocprofv2'; exit 1")
    assert plan(tools, "true").backend.name == "rocprofv2"
    tool(tools, "rocprofv3")
    run = plan(tools, "true")
    assert run.backend.name == "rocprofv3"
    assert run.request.found == Found(f"{tools}/rocprofv3", "1.0.0")


def test_one_that_does_not_run_is_passed_over(tools: Path) -> None:
    tool(tools, "rocprofv3", "echo ImportError: librocprofiler-sdk.so >&2; exit 1")
    tool(tools, "rocprof")
    assert plan(tools, "true").backend.name == "rocprof"


def test_one_that_may_not_be_run_is_passed_over_and_named(tools: Path) -> None:
    tool(tools, "rocprofv3", mode=0o644)
    tool(tools, "rocprof")
    assert "not executable" in plan(tools, "true").notes[0]


@pytest.mark.parametrize("name", ["auto", "rocprofv3"])
def test_only_one_that_may_not_be_run_is_a_matter_of_permission(tools: Path, name: str) -> None:
    tool(tools, "rocprofv3", mode=0o644)
    with pytest.raises(PermissionMissing, match="not executable") as caught:
        plan(tools, "true", profiler=name)
    assert "chmod +x" in caught.value.hint


@pytest.mark.parametrize("name", ["auto", "rocprofv3", "rocprofv2", "rocprof"])
def test_no_profiler_is_an_error_with_the_next_step(tools: Path, name: str) -> None:
    with pytest.raises(ProfilerMissing, match="not installed") as caught:
        plan(tools, "true", profiler=name)
    assert caught.value.hint


def test_a_profiler_that_hangs_is_given_up_on(tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rocscope.collectors.backend.VERSION_DEADLINE_S", 0.2)
    tool(tools, "rocprofv3", "/bin/sleep 30; echo version: 1.0.0")  # the shell waits for a child of its own
    found = find_program("rocprofv3", {"PATH": str(tools)})
    assert isinstance(found, Absent) and "did not answer" in found.reason


def test_a_profiler_of_another_machine_is_named(tools: Path) -> None:
    (tools / "rocprofv3").write_bytes(b"\x7fELF nonsense")
    (tools / "rocprofv3").chmod(0o755)
    assert isinstance(find_program("rocprofv3", {"PATH": str(tools)}), Absent)


def test_rocm_path_is_searched(tools: Path) -> None:
    (tools / "bin").mkdir()
    tool(tools / "bin", "rocprofv3")
    assert find_program("rocprofv3", {"PATH": "/nowhere", "ROCM_PATH": str(tools)}) == Found(
        f"{tools}/bin/rocprofv3", "1.0.0"
    )


def test_a_server_without_rocprof_gets_torch(tools: Path) -> None:
    vllm(tools, "0.32.0")
    run = plan(tools, "vllm", "serve", "M")
    assert run.backend.name == "torch"
    config = json.loads(run.plan.command[-1])
    assert run.plan.command[-2] == "--profiler-config"
    assert config["torch_profiler_dir"] == str(tools.parent / "out/raw/torch")
    assert config["detailed_trace_annotation"] is True
    assert config["torch_profiler_with_stack"] is False
    assert not any(name.startswith("VLLM_TORCH") for name in run.added)


def test_an_old_vllm_gets_variables_and_no_flag(tools: Path) -> None:
    vllm(tools, "0.12.0")
    run = plan(tools, "vllm", "serve", "M", profiler="torch")
    assert "--profiler-config" not in run.plan.command
    assert run.added["VLLM_TORCH_PROFILER_DIR"] == str(tools.parent / "out/raw/torch")
    assert run.added["VLLM_RPC_TIMEOUT"] == "1800000"


def test_vllm_between_the_two_gets_the_flag_without_newer_keys(tools: Path) -> None:
    vllm(tools, "0.13.0")
    run = plan(tools, "vllm", "serve", "M", profiler="torch", environment={"VLLM_RPC_TIMEOUT": "5"})
    assert "detailed_trace_annotation" not in json.loads(run.plan.command[-1])
    assert "VLLM_RPC_TIMEOUT" not in run.added


def test_torch_needs_a_vllm_of_known_version(tools: Path) -> None:
    vllm(tools, "")
    with pytest.raises(ProfilerMissing, match="version is unknown"):
        plan(tools, "vllm", "serve", "M", profiler="torch")
    vllm(tools, "0.32.0")
    with pytest.raises(UsageError, match="sets it too"):
        plan(tools, "vllm", "serve", "M", "--profiler-config", "{}", profiler="torch")


def test_torch_in_a_program_comes_by_the_environment_alone(tools: Path) -> None:
    given = {"PYTHONPATH": "/mine:/yours", "ROCSCOPE_TORCH_WINDOW_S": "5"}
    run = plan(tools, "python3", "decode.py", profiler="torch", environment=given)
    assert run.plan.command == ("python3", "decode.py")
    hook, *rest = run.added["PYTHONPATH"].split(":")
    assert (Path(hook) / "sitecustomize.py").is_file()
    assert rest == ["/mine", "/yours"]
    assert run.added["ROCSCOPE_TORCH_FOLDER"] == str(tools.parent / "out/raw/torch")
    assert run.added["ROCSCOPE_TORCH_WINDOW_S"] == "5"
    assert plan(tools, "true", profiler="torch").added["ROCSCOPE_TORCH_WINDOW_S"] == "120"


def test_torch_in_a_server_brings_no_second_profiler(tools: Path) -> None:
    vllm(tools, "0.32.0")
    assert "PYTHONPATH" not in plan(tools, "vllm", "serve", "M", profiler="torch").added


def test_the_command_of_rocprofv3_keeps_processes_apart(tools: Path) -> None:
    tool(tools, "rocprofv3")
    vllm(tools, "0.32.0")
    run = plan(tools, "vllm", "serve", "M", "-tp", "4")
    out = str(tools.parent / "out/raw")
    assert run.plan.command == (
        *(f"{tools}/rocprofv3", "--kernel-trace", "--memory-copy-trace", "--output-format", "csv"),
        *("--output-directory", out, "--output-file", "%hostname%/%pid%", "--"),
        *("vllm", "serve", "M", "-tp", "4", "--shutdown-timeout", "90"),
    )
    assert run.added == {
        "VLLM_WORKER_SHUTDOWN_TIMEOUT_SECONDS": "60",
        "ROCPROF_TMPDIR": f"{out}/unwritten",
    }


def test_rocprof_runs_the_command_once(tools: Path) -> None:
    tool(tools, "rocprof")
    run = plan(tools, "./app", "-n", "3")
    assert "-i" not in run.plan.command
    assert run.plan.command[-3:] == ("./app", "-n", "3")
    assert not run.backend.in_place
    vllm(tools, "0.32.0")
    assert any("several processes" in note for note in plan(tools, "vllm", "serve", "M").notes)


@pytest.mark.parametrize(
    ("environment", "command"),
    [
        ({"LD_PRELOAD": "/opt/rocm/lib/librocprofiler-sdk-tool.so"}, ("true",)),
        ({"HSA_TOOLS_LIB": "/opt/rocm/lib/libroctracer64.so"}, ("true",)),
        ({"ROCP_TOOL_LIBRARIES": "librocprof-sys.so"}, ("true",)),
        ({"VLLM_TORCH_PROFILER_DIR": "/x"}, ("true",)),
        ({}, ("rocprofv3", "--", "true")),
        ({}, ("/usr/bin/nsys", "profile", "true")),
        ({}, ("vllm", "serve", "M", "--profiler-config.profiler", "torch")),
    ],
)
def test_two_profilers_in_one_process_are_refused(
    tools: Path, environment: dict[str, str], command: tuple[str, ...]
) -> None:
    tool(tools, "rocprofv3")
    vllm(tools, "0.32.0")
    with pytest.raises(UsageError) as caught:
        plan(tools, *command, environment=environment)
    assert caught.value.hint
    plan(tools, *command, environment=environment, profiler="none")


def test_a_harmless_preload_is_no_profiler(tools: Path) -> None:
    tool(tools, "rocprofv3")
    plan(tools, "true", environment={"LD_PRELOAD": "/usr/lib/libjemalloc.so"})


@pytest.mark.parametrize("name", ["nsight", "replay", "rocprofv3:x", "auto:x", ""])
def test_unknown_profilers_are_refused(tools: Path, name: str) -> None:
    tool(tools, "rocprofv3")
    with pytest.raises((UsageError, InputError)) as caught:
        plan(tools, "true", profiler=name)
    assert caught.value.hint


def test_a_recording_to_replay_has_to_exist(tools: Path) -> None:
    with pytest.raises(InputError, match="no such recording"):
        plan(tools, "true", profiler="replay:/no/such")


def test_load_needs_a_server_and_a_command_is_needed(tools: Path) -> None:
    with pytest.raises(UsageError, match="--load"):
        plan(tools, "true", profiler="none", load=("curl",))
    with pytest.raises(UsageError, match="no command"):
        plan(tools, profiler="none")


def test_vllm_in_a_shell_is_noted(tools: Path) -> None:
    assert "shell" in plan(tools, "bash", "-c", "vllm serve M", profiler="none").notes[0]


def test_a_dry_run_needs_no_profiler(tools: Path) -> None:
    run = plan(tools, "true", dry=True, profiler="rocprofv3")
    assert run.plan.command[0] == "rocprofv3"
    assert "not installed" in run.notes[0]
    assert plan(tools, "true", dry=True, gpu="MI100").backend.name == "rocprofv3"
    with pytest.raises(ProfilerMissing):
        plan(tools, "true", dry=True)
    with pytest.raises(RocscopeError):
        plan(tools, "true", dry=True, gpu="H100")


def test_a_folder_in_use_or_out_of_reach_is_refused(tools: Path) -> None:
    run = plan(tools, "true", profiler="none")
    out = tools.parent / "out"
    out.mkdir()
    (out / "raw").mkdir()
    (out / "logs").mkdir()
    (out / "logs" / "stderr.log").write_text("of a launch that failed")
    prepare(run, out)
    (out / "raw" / "1_kernel_trace.csv").touch()
    with pytest.raises(UsageError, match="not empty"):
        prepare(run, out)
    (out / "raw" / "1_kernel_trace.csv").unlink()
    (out / "old").touch()
    with pytest.raises(UsageError, match="not empty"):
        prepare(run, out)
    with pytest.raises(PermissionMissing):
        prepare(run, Path("/proc/rocscope-out"))
    blocked = plan(tools, "true", profiler="none", out=out / "old" / "below")
    with pytest.raises(PermissionMissing, match="Not a directory"):
        prepare(blocked, out / "old" / "below")


def test_every_backend_says_what_it_is() -> None:
    assert list(backends())[:3] == ["rocprofv3", "rocprofv2", "rocprof"]
    assert set(backends()) == {
        *("rocprofv3", "rocprofv2", "rocprof", "rocprof-compute", "torch", "replay", "none"),
    }
    assert all(backend.help for backend in backends().values())
