"""Which servers run: found in the real process table by what their commands say."""

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from rocscope.daemon import engines as module
from rocscope.daemon.engines import Discovery, Engine, is_ours, wanted
from rocscope.daemon.settings import Engines

PROGRAM = "import sys, time\nprint('up', flush=True)\ntime.sleep(120)\n"


@pytest.fixture
def start(tmp_path):
    """Start something that the process table shows as the given command; all of it ends with the test."""
    (tmp_path / "vllm").write_text(PROGRAM)
    started = []

    def run(*arguments, folder=tmp_path):
        process = subprocess.Popen(
            [sys.executable, str(tmp_path / "vllm"), *arguments], stdout=subprocess.PIPE, cwd=folder
        )
        started.append(process)
        assert process.stdout.readline() == b"up\n"
        return process

    yield run
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def found(discovery):
    return {engine.url: engine for engine in discovery.scan()}


def test_a_server_is_found_with_what_its_command_tells_and_gone_when_it_ends(start):
    discovery = Discovery()
    process = start("serve", "/models/tiny", "--port", "18765", "-tp", "4")
    engine = found(discovery)["http://127.0.0.1:18765"]
    assert engine.pid == process.pid and engine.model == "/models/tiny" and engine.tensor_parallel == 4
    assert engine.uid == os.getuid() and engine.created_s == psutil.Process(process.pid).create_time()
    assert engine.started_ticks == module.started_ticks(process.pid)
    assert engine.subject == "engine:http://127.0.0.1:18765" and not engine.configured
    process.kill()
    process.wait()
    assert engine.url not in found(discovery)


def test_a_shell_that_becomes_a_server_is_seen_though_its_pid_was_known(tmp_path):
    script = f"echo up; read line; exec {sys.executable} {tmp_path}/vllm serve m --port 18766"
    (tmp_path / "vllm").write_text(PROGRAM)
    with subprocess.Popen(["sh", "-c", script], stdin=-1, stdout=-1) as process:
        try:
            assert process.stdout.readline() == b"up\n"
            discovery = Discovery()
            discovery.scan()
            process.stdin.write(b"go\n")
            process.stdin.flush()
            assert process.stdout.readline() == b"up\n"
            assert found(discovery)["http://127.0.0.1:18766"].pid == process.pid
        finally:
            process.kill()


def test_a_known_process_that_is_no_server_is_read_only_now_and_then(start, monkeypatch):
    discovery, read = Discovery(), []
    other = start("bench", "serve", "--port", "18767")
    original = Discovery._read
    monkeypatch.setattr(Discovery, "_read", lambda self, pid: (read.append(pid), original(self, pid))[1])
    for _ in range(module.FULL_EVERY + 1):
        assert "http://127.0.0.1:18767" not in found(discovery)
    assert read.count(str(other.pid)) == module._YOUNG + 1


def test_the_address_may_stand_in_a_file_beside_the_server(start, tmp_path):
    (tmp_path / "serve.yaml").write_text("port: 18768\n")
    start("serve", "m", "--config", "serve.yaml")
    assert "http://127.0.0.1:18768" in found(Discovery())


def test_a_pipe_for_a_file_holds_nobody_up(start, tmp_path):
    os.mkfifo(tmp_path / "serve.yaml")
    start("serve", "m", "--port", "18769", "--config", str(tmp_path / "serve.yaml"))
    began = time.monotonic()
    assert "http://127.0.0.1:18769" in found(Discovery())
    assert time.monotonic() - began < 30  # that it returned at all


def test_the_address_of_another_machine_is_not_asked(start):
    start("serve", "m", "--host", "192.0.2.7", "--port", "80")
    start("serve", "m", "--host", "metadata.internal", "--port", "80")
    discovery = Discovery()
    assert not [url for url in found(discovery) if "192.0.2" in url or "internal" in url]
    assert sorted(discovery.foreign) == ["192.0.2.7:80", "metadata.internal:80"]


def test_a_socket_is_an_address_too(start, tmp_path):
    start("serve", "m", "--uds", str(tmp_path / "s"))
    engine = found(Discovery())[f"unix:{tmp_path / 's'}"]
    assert engine.socket_path == str(tmp_path / "s")


def test_of_a_wrapper_and_its_server_the_server_counts(start, tmp_path):
    code = f"import subprocess as s, sys; s.run([sys.executable, {str(tmp_path / 'vllm')!r}, *sys.argv[3:]])"
    wrapper = subprocess.Popen(
        [sys.executable, "-c", code, "--", "vllm", "serve", "m", "--port", "18770"],
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    (tmp_path / "vllm").write_text(PROGRAM)
    try:
        assert wrapper.stdout.readline() == b"up\n"
        child = psutil.Process(wrapper.pid).children()[0]
        assert found(Discovery())["http://127.0.0.1:18770"].pid == child.pid
    finally:
        os.killpg(wrapper.pid, 9)
        wrapper.wait()
        wrapper.stdout.close()


def test_processes_that_end_while_they_are_looked_at_are_left_out(tmp_path):
    for pid, raw in (("999999991", b"vllm\0serve\0m\0"), ("999999992", b"\xff\xfe vllm"), ("3", b"")):
        (tmp_path / pid).mkdir()
        (tmp_path / pid / "cmdline").write_bytes(raw)
    (tmp_path / "999999993").mkdir()
    assert Discovery(tmp_path).scan() == []


def test_own_addresses():
    assert is_ours("127.0.0.1") and is_ours("::1") and is_ours("localhost") and is_ours("127.9.9.9")
    assert not is_ours("192.0.2.1") and not is_ours("example.org") and not is_ours("")


def test_what_the_settings_name_comes_first_and_takes_what_its_process_tells():
    settings = Engines.model_validate(
        {"known": [{"url": "http://localhost:8000/".rstrip("/"), "name": "main", "traces": "/traces"}]}
    )
    running = [
        Engine("http://127.0.0.1:8000", pid=7, model="m", uid=0),
        Engine("http://127.0.0.1:8001", pid=8),
    ]
    first, second = wanted(settings, running)
    assert (first.url, first.name, first.pid, first.model) == ("http://localhost:8000", "main", 7, "m")
    assert first.configured and first.traces == Path("/traces") and second.pid == 8
    alone = wanted(settings.model_copy(update={"discover": False}), running)
    assert [each.url for each in alone] == ["http://localhost:8000"]
    assert len(wanted(Engines(), [Engine(f"http://127.0.0.1:{port}") for port in range(99)])) == module.MOST


def test_when_a_process_began_is_told_whatever_its_name(tmp_path):
    program = tmp_path / "a) 1 (b"
    program.symlink_to("/bin/sleep")
    mine = module.started_ticks(os.getpid())
    with subprocess.Popen([str(program), "60"]) as process:
        assert module.started_ticks(process.pid) >= mine > 0
        process.kill()
    assert module.started_ticks(process.pid) is None
