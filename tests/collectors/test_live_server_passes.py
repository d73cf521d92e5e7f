"""A server under counters: groups take turns in one launch where they can; else the load is replayed."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path

import pyarrow.compute as pc
import pytest

from rocscope.collectors import live_passes
from rocscope.collectors.live_outcome import Recorded
from rocscope.config import ProfileOptions
from rocscope.errors import UsageError
from rocscope.pipeline import analyze_capture

SERVER = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
    def log_message(self, *_): pass
port = int(sys.argv[sys.argv.index("--port") + 1])
import signal
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


@pytest.fixture
def serve(standins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """A command called vllm that answers as a server does; its process "launches kernels"."""
    folder = tmp_path / "bin"
    metadata = folder / "vllm-0.32.0.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text("Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0\n")
    (folder / "vllm").write_text(f"#!{sys.executable}\n{SERVER}")
    (folder / "vllm").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{standins}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.setenv("STANDIN_GPU_PROCESS", "vllm serve")
    monkeypatch.setenv("STANDIN_DISPATCHES", "3000")  # so many that every kernel meets every group
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return ("vllm", "serve", "M", "--port", str(probe.getsockname()[1]))


def options(tmp_path: Path, **chosen: object) -> ProfileOptions:
    given = {"out": tmp_path / "out", "gpu": "MI100", "counters": "standard", "sample_hz": 0}
    return ProfileOptions.model_validate({**given, "shutdown_timeout_s": 20, **chosen})


def record(serve: tuple[str, ...], tmp_path: Path, **chosen: object) -> tuple[Recorded, list[str]]:
    said: list[str] = []
    return live_passes.record(serve, options(tmp_path, **chosen), say=said.append), said


def test_groups_take_turns_in_one_launch_beside_a_clean_one(
    serve: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STANDIN_V3_VERSION", "1.1.0")
    recorded, said = record(serve, tmp_path, duration_s=0.4)
    capture = recorded.capture
    assert recorded.exit_code == 0 and recorded.lost == []
    assert [each.perturbed for each in capture.manifest.passes] == [False, True]
    assert capture.manifest.passes[1].note == "rotating counter groups"
    assert any("take turns" in text for text in said)
    analysis = analyze_capture(capture)
    (gemm,) = [each for each in analysis.kernels if each.family == "gptq_gemm"]
    assert gemm.bytes_per_dispatch.value == 46_508_160 and gemm.bytes_per_dispatch.basis == "measured"
    assert {each.measure for each in gemm.measures} >= {"l2_hit_frac", "achieved_occupancy_frac"}
    assert "perturbed-times" not in {each.code for each in analysis.integrity.warnings}
    window = capture.manifest.window_ns
    rows = capture.dispatches
    timed = pc.and_(pc.equal(rows["pass"], 0), pc.greater_equal(rows["start_ns"], window[0]))
    timed = pc.and_(timed, pc.less_equal(rows["start_ns"], window[1]))
    assert sum(each.dispatches for each in analysis.kernels) == pc.sum(timed).as_py()
    # what the server did before it was ready and while it ended is in neither launch's figures
    assert pc.sum(pc.equal(rows["pass"], 1)).as_py() < 2500 < pc.sum(pc.equal(rows["pass"], 0)).as_py()


def test_until_ctrl_c_there_is_one_launch_and_its_times_are_said_to_be_slowed(
    serve: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STANDIN_V3_VERSION", "1.1.0")

    def press() -> None:
        end = time.monotonic() + 30
        while time.monotonic() < end:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", int(serve[-1]))) == 0:
                    break
            time.sleep(0.05)
        time.sleep(1.5)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=press, daemon=True).start()
    recorded, said = record(serve, tmp_path)
    capture = recorded.capture
    assert recorded.exit_code == 0 and len(capture.manifest.passes) == 1
    assert not capture.manifest.partial  # Ctrl-C is how such a run ends
    assert any("slow its times" in text for text in said)
    analysis = analyze_capture(capture)
    assert "perturbed-times" in {each.code for each in analysis.integrity.warnings}
    (gemm,) = [each for each in analysis.kernels if each.family == "gptq_gemm"]
    assert gemm.bytes_per_dispatch.value == 46_508_160


@pytest.mark.slow
def test_without_turns_the_same_load_is_replayed_in_each_launch(
    serve: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STANDIN_V3_VERSION", "0.5.0")
    loads = tmp_path / "loads"
    load = (
        sys.executable,
        "-c",
        f"import time; open({str(loads)!r}, 'a').write('seed 0 '); time.sleep(0.4)",
    )
    recorded, said = record(serve, tmp_path, load=load, counters="TCC_HIT,TCC_MISS,FETCH_SIZE,WRITE_SIZE")
    assert [len(each.counters) for each in recorded.capture.manifest.passes] == [0, 2, 4]
    assert loads.read_text() == "seed 0 " * 3
    assert any("give it a seed" in text for text in said)


def test_many_launches_of_a_server_need_an_end(
    serve: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STANDIN_V3_VERSION", "0.5.0")
    with pytest.raises(UsageError, match="launched 4 times") as caught:
        record(serve, tmp_path)
    assert "--duration" in caught.value.hint
    planned = live_passes.plan(serve, options(tmp_path), dry=True)
    assert len(planned.launches) == 4 and any("launched 4 times" in note for note in planned.notes)


def test_a_plan_says_which_passes_share_a_launch(
    serve: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = live_passes.plan(serve, options(tmp_path, duration_s=30), dry=True).dry(
        options(tmp_path, duration_s=30)
    )
    assert [one["launches"] for one in told["passes"]] == [1, 1, 0, 1]
    assert [one["launch"] for one in told["passes"]] == [1, 2, 2, 3]
    assert told["estimated_s"] == 90 and told["launches"] == 3
    groups = next(text for path, text in told["contents"].items() if path.endswith("counter_groups.json"))
    assert "TCC_HIT" in groups and "SQ_WAVE_CYCLES" not in groups  # that one is defined by us: a launch apart


def test_what_is_known_to_go_wrong_with_a_server_is_said_before(
    serve: tuple[str, ...], tmp_path: Path
) -> None:
    def notes(*more: str) -> str:
        return " ".join(live_passes.plan((*serve, *more), options(tmp_path, duration_s=9), dry=True).notes)

    assert "--enforce-eager" in notes() and "collectives" not in notes()
    assert "--enforce-eager" not in notes("--enforce-eager")
    assert "collectives" in notes("-tp", "4")
