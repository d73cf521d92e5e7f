"""Attaching to what runs already: vLLM's own profiler, and rocprofv3 by a stand-in that takes its flags.

The stand-in behaves as ROCm 7.2 does: without ROCP_TOOL_ATTACH=1 in the target it says that it attached,
exits with 0 and writes nothing. Its kernels are synthetic.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from test_live_server import SERVER

from rocscope.collectors import attach_rocprofv3, live_attach
from rocscope.collectors.live_outcome import Recorded
from rocscope.config import ProfileOptions
from rocscope.errors import NotFound, PermissionMissing, TargetError, UsageError
from rocscope.launch import readiness, running

STANDIN = """#!{python}
import os, pathlib, socket, sys
words = sys.argv[1:]
if words == ["--version"]:
    print("version: {version}"); sys.exit()
known = {{"--attach": 1, "--kernel-trace": 0, "--memory-copy-trace": 0, "--output-format": 1,
         "--output-directory": 1, "--output-file": 1}}
given = {{}}
while words:
    name = words.pop(0)
    if name not in known: sys.exit(f"rocprofv3: error: unrecognized arguments: {{name}}")
    given[name] = words.pop(0) if known[name] else True
pid = int(given["--attach"])
if "{fails}": sys.exit("ptrace attach failed: Operation not permitted")
print("Attached; press Enter to detach", flush=True)
sys.stdin.readline()
if b"ROCP_TOOL_ATTACH=1" not in pathlib.Path(f"/proc/{{pid}}/environ").read_bytes().split(b"\\0"): sys.exit()
if "{silent}": sys.exit()
name = given["--output-file"].replace("%hostname%", socket.gethostname())
place = pathlib.Path(given["--output-directory"], name)
place.parent.mkdir(parents=True, exist_ok=True)
import time
now = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
head = ("Kind,Agent_Id,Queue_Id,Stream_Id,Thread_Id,Dispatch_Id,Kernel_Id,Kernel_Name,Correlation_Id,"
        "Start_Timestamp,End_Timestamp,LDS_Block_Size,Scratch_Size,VGPR_Count,Accum_VGPR_Count,SGPR_Count,"
        "Workgroup_Size_X,Workgroup_Size_Y,Workgroup_Size_Z,Grid_Size_X,Grid_Size_Y,Grid_Size_Z")
rows = [f'KERNEL_DISPATCH,Agent 1,1,1,{{pid}},{{n}},1,synthetic_kernel,{{n}},'
        f'{{now + n * 100}},{{now + n * 100 + 50}},0,0,8,0,8,64,1,1,512,1,1' for n in range(1, 6)]
pathlib.Path(f"{{place}}_kernel_trace.csv").write_text("\\n".join([head, *rows]) + "\\n")
"""
NAP = "import time\nopened = open('/dev/null')\ntime.sleep(60)"
Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start processes that are attached to; afterwards each must still have been running."""
    started: list[subprocess.Popen[bytes]] = []

    def run(*words: str, **variables: str) -> subprocess.Popen[bytes]:
        started.append(subprocess.Popen(words, env={**os.environ, **variables}))
        return started[-1]

    yield run
    for each in started:
        assert each.poll() is None, "what was attached to was ended"
        each.kill()
        each.wait()


@pytest.fixture
def server(start: Start, tmp_path: Path) -> str:
    return serve(start, tmp_path, tmp_path / "traces")


def serve(start: Start, tmp_path: Path, traces: Path | None) -> str:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    program = tmp_path / "vllm"
    program.write_text(f"#!{sys.executable}\n{SERVER}")
    program.chmod(0o755)
    more: tuple[str, ...] = ()
    if traces is not None:
        traces.mkdir()
        more = ("--profiler-config", f'{{"profiler":"torch","torch_profiler_dir":"{traces}"}}')
    start(str(program), "serve", "M", "--port", port, *more, KERNELS="1")
    url = f"http://127.0.0.1:{port}"
    for _ in range(200):
        if readiness.Address("127.0.0.1", int(port)).listening():
            return url
        time.sleep(0.02)
    raise AssertionError("the server did not start")


def record(tmp_path: Path, attach: str, **options: object) -> tuple[Recorded, list[str]]:
    said: list[str] = []
    given = {"out": tmp_path / "out", "attach": attach, "sample_hz": 0, "telemetry": "none", **options}
    return live_attach.record(ProfileOptions.model_validate(given), say=said.append), said


def test_a_server_is_profiled_by_its_own_profiler(server: str, tmp_path: Path) -> None:
    (tmp_path / "traces" / "old.pt.trace.json.gz").write_bytes(b"of an earlier window")
    recorded, said = record(tmp_path, server, duration_s=0.3)
    assert recorded.exit_code == 0
    assert recorded.capture.dispatches.num_rows == 9
    assert recorded.capture.manifest.window_ns is not None
    assert [path.name for path in (tmp_path / "out" / "raw" / "torch").iterdir()] == [
        "rank0.1.pt.trace.json.gz"
    ]
    assert said == ["attached by the server: the server runs on afterwards"]


def test_a_load_is_put_on_it_and_what_profiling_costs_is_measured(server: str, tmp_path: Path) -> None:
    load = "builtin:concurrency=1,requests=3,prompt=4,output=3,warmup=0"
    recorded, _ = record(tmp_path, server, load=load, sample_hz=5)
    measured = recorded.capture.manifest.load
    assert measured is not None
    assert measured["profiled"]["levels"][0]["requests"] == 3
    assert measured["unprofiled"]["levels"][0]["requests"] == 3
    samples = recorded.capture.samples.to_pydict()
    assert "host" in samples["source"]
    assert {path.name for path in (tmp_path / "out" / "raw" / "serving").iterdir()} >= {
        "after.metrics.txt",
        "before.metrics.txt",
    }
    assert "serving" in samples["source"]


def test_a_server_without_a_profiler_is_refused_with_every_reason(start: Start, tmp_path: Path) -> None:
    url = serve(start, tmp_path, None)
    with pytest.raises(PermissionMissing) as error:
        record(tmp_path, url)
    assert "started without a profiler: start it with" in error.value.message
    assert "rocprofv3 is not installed" in error.value.message
    assert not (tmp_path / "out").exists()


def test_a_server_that_writes_nothing_is_said(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rocscope.collectors.attach_torch.SETTLE_S", 0.5)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with pytest.raises(TargetError, match="wrote nothing new"):
        record(tmp_path, server, duration_s=0.2, traces=elsewhere)


def test_ctrl_c_ends_the_recording_and_not_the_server(server: str, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "rocscope", "profile", "--attach", server, "--duration", "60"]
    words += ["--out", str(tmp_path / "out"), "--telemetry", "none", "--quiet"]
    ours = subprocess.Popen(words, stderr=subprocess.PIPE)
    while not (tmp_path / "out" / "logs").exists():
        time.sleep(0.05)
    time.sleep(0.5)
    ours.send_signal(signal.SIGINT)
    told = ours.communicate(timeout=40)[1].decode()
    assert ours.returncode == 0, told
    assert (tmp_path / "out" / "analysis.json").exists()
    assert readiness.Address("127.0.0.1", int(server.rsplit(":", 1)[1])).listening()


def rocprofv3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str = "1.1.0", **how: str) -> None:
    folder = tmp_path / "tools"
    folder.mkdir()
    fields = {"python": sys.executable, "version": version, "fails": "", "silent": "", **how}
    (folder / "rocprofv3").write_text(STANDIN.format(**fields))
    (folder / "rocprofv3").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setattr("rocscope.launch.tree.GPU_DEVICES", ("/dev/null",))
    monkeypatch.setattr(attach_rocprofv3, "BEGIN_S", 0.5)
    monkeypatch.setattr(running, "_ptrace_scope", lambda: 0)


def napping(start: Start, **variables: str) -> str:
    process = start(sys.executable, "-c", NAP, **variables)
    time.sleep(0.3)
    return str(process.pid)


def test_rocprofv3_attaches_to_a_program_that_allows_it(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rocprofv3(tmp_path, monkeypatch)
    pid = napping(start, ROCP_TOOL_ATTACH="1")
    recorded, _ = record(tmp_path, pid, duration_s=0.3)
    assert recorded.capture.dispatches.num_rows == 5
    assert recorded.exit_code == 0
    assert recorded.capture.manifest.profiler == "rocprofv3"


@pytest.mark.parametrize(
    ("version", "variables", "reason"),
    [
        ("1.1.0", {}, "started without ROCP_TOOL_ATTACH=1"),
        ("1.0.0", {"ROCP_TOOL_ATTACH": "1"}, "1.0.0 cannot attach"),
    ],
)
def test_what_would_write_nothing_is_refused(
    start: Start,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    version: str,
    variables: dict[str, str],
    reason: str,
) -> None:
    rocprofv3(tmp_path, monkeypatch, version)
    with pytest.raises(PermissionMissing, match=reason):
        record(tmp_path, napping(start, **variables), duration_s=0.3)


def test_ptrace_that_is_forbidden_is_said(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rocprofv3(tmp_path, monkeypatch)
    monkeypatch.setattr(running, "_ptrace_scope", lambda: 2)
    monkeypatch.setattr(running, "_effective_capabilities", lambda: 0)
    with pytest.raises(PermissionMissing, match="ptrace_scope is 2"):
        record(tmp_path, napping(start, ROCP_TOOL_ATTACH="1"))
    monkeypatch.setattr(running, "_ptrace_scope", lambda: 3)
    with pytest.raises(PermissionMissing, match="until the next boot"):
        record(tmp_path, napping(start, ROCP_TOOL_ATTACH="1"))


def test_success_without_output_is_lost_data(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rocprofv3(tmp_path, monkeypatch, silent="yes")
    recorded, said = record(tmp_path, napping(start, ROCP_TOOL_ATTACH="1"), duration_s=0.2)
    assert recorded.exit_code == 11
    assert any("left no kernels" in each for each in said)


def test_what_cannot_attach_says_why(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rocprofv3(tmp_path, monkeypatch, fails="yes")
    with pytest.raises(TargetError, match="ptrace attach failed"):
        record(tmp_path, napping(start, ROCP_TOOL_ATTACH="1"), duration_s=0.2)


def test_what_is_named_wrongly_is_said(tmp_path: Path) -> None:
    for text, kind in (
        ("ftp://h:1", UsageError),
        ("http://127.0.0.1:9", TargetError),
        ("4194304", NotFound),
        ("h:port", UsageError),
    ):
        with pytest.raises(kind):
            record(tmp_path, text)
    mine = str(os.getpid())
    with pytest.raises(UsageError, match="cannot join"):
        record(tmp_path, mine, profiler="rocprof")
    with pytest.raises(UsageError, match="no counters"):
        record(tmp_path, mine, counters="standard")
    with pytest.raises(UsageError, match="needs a server"):
        record(tmp_path, mine, load="builtin")


def test_a_worker_stands_for_its_server(tmp_path: Path, start: Start) -> None:
    program = tmp_path / "vllm"
    program.write_text(
        f"#!{sys.executable}\nimport subprocess, sys\nsubprocess.run([sys.executable, '-c', {NAP!r}])"
    )
    program.chmod(0o755)
    parent = start(str(program), "serve", "M", "--port", "8123")
    for _ in range(100):
        children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
        if children:
            break
        time.sleep(0.05)
    found = running.find(children[0])
    assert found.process is not None
    assert found.process.pid == parent.pid
    assert found.address is not None
    assert found.address.port == 8123
    os.kill(int(children[0]), 0)
    assert found.root == Path("/")
