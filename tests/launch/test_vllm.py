"""Telling a vLLM server from its command line, and making it end so that its workers can write."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from rocscope.launch import vllm
from rocscope.launch.readiness import Address
from rocscope.launch.vllm import Server, detect


def server(*command: str) -> Server:
    found = detect(command, os.environ.get("PATH"))
    assert found is not None
    return found


@pytest.mark.parametrize(
    "command",
    [
        ("vllm", "serve", "M"),
        ("/opt/venv/bin/vllm", "serve", "M"),
        ("env", "A=B", "vllm", "serve", "M"),
        ("numactl", "-N", "0", "vllm", "serve", "M"),
        ("python", "/opt/bin/vllm", "serve", "M"),
        ("python3", "-m", "vllm.entrypoints.openai.api_server", "--model", "M"),
        ("python3.11", "-u", "-m", "vllm.entrypoints.openai.api_server", "--model=M"),
        ("python3", "-m", "vllm.entrypoints.cli.main", "serve", "M"),
    ],
)
def test_a_server_is_recognised(command: tuple[str, ...]) -> None:
    assert server(*command).model == "M"


@pytest.mark.parametrize(
    "command",
    [
        ("vllm", "bench", "serve"),
        ("python", "train.py"),
        ("python", "-m", "http.server"),
        ("echo", "serve"),
        ("vllm",),
        ("python", "-m"),
    ],
)
def test_other_commands_are_no_server(command: tuple[str, ...]) -> None:
    assert detect(command, None) is None


def test_a_server_inside_a_shell_is_hidden() -> None:
    assert vllm.hidden(("bash", "-c", "cd x && vllm serve M"))
    assert vllm.hidden(("sh", "-c", "python -m vllm.entrypoints.openai.api_server --model M"))
    assert not vllm.hidden(("bash", "-c", "echo vllm"))


@pytest.mark.parametrize(
    ("arguments", "size"),
    [
        ((), 1),
        (("-tp", "4"), 4),
        (("-tp=4",), 4),
        (("--tensor-parallel-size", "8"), 8),
        (("--tensor_parallel_size=2",), 2),
        (("-tp", "many"), None),
        (("-tp", "0"), None),
    ],
)
def test_tensor_parallel_size_is_read(arguments: tuple[str, ...], size: int | None) -> None:
    assert server("vllm", "serve", "M", *arguments).tensor_parallel == size


@pytest.mark.parametrize(
    ("arguments", "url"),
    [
        ((), "http://127.0.0.1:8000"),
        (("--host", "0.0.0.0", "--port", "81"), "http://127.0.0.1:81"),
        (("--host=::", "--port=81"), "http://[::1]:81"),
        (("--host", "10.0.0.5"), "http://10.0.0.5:8000"),
        (("--ssl-certfile", "c.pem"), "https://127.0.0.1:8000"),
        (("--port", "nonsense"), "http://127.0.0.1:8000"),
        (("--uds", "/run/x.sock"), "http://localhost"),
    ],
)
def test_where_it_listens_is_read(arguments: tuple[str, ...], url: str) -> None:
    assert server("vllm", "serve", "M", *arguments).address.url == url


def test_a_stale_unix_socket_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "s").touch()
    address = Address("127.0.0.1", 8000, socket_path=str(tmp_path / "s"))
    assert str(address) == str(tmp_path / "s")
    assert not address.listening()


def test_a_config_file_counts_where_the_command_line_is_silent(tmp_path: Path) -> None:
    config = tmp_path / "serve.yaml"
    config.write_text(
        "port: 9001  # ours\nhost: '10.1.1.1'\nshutdown-timeout: 7\ntensor_parallel_size: 4\nx:\n  y: 1\n"
    )
    found = server("vllm", "serve", "M", "--config", str(config), "--port", "9002")
    assert found.address.url == "http://10.1.1.1:9002"
    assert found.tensor_parallel == 4
    arguments, _, _ = found.ending_in_order("0.32.0", {}, 120)
    assert arguments == []


def test_a_config_file_that_cannot_be_read_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_bytes(b"\xff\xfe")
    for name in ("absent.yaml", "bad.yaml"):
        assert server("vllm", "serve", "M", "--config", str(tmp_path / name)).address.port == 8000


def test_a_new_version_gets_both_settings() -> None:
    arguments, variables, notes = server("vllm", "serve", "M").ending_in_order("0.32.0+cpu", {}, 120)
    assert arguments == ["--shutdown-timeout", "90"]
    assert variables == {"VLLM_WORKER_SHUTDOWN_TIMEOUT_SECONDS": "60"}
    assert notes == []


def test_what_the_user_set_is_kept() -> None:
    found = server("vllm", "serve", "M", "--shutdown-timeout=30")
    arguments, variables, _ = found.ending_in_order("0.32.0", {vllm.SHUTDOWN_VARIABLE: "9"}, 120)
    assert (arguments, variables) == ([], {})


def test_a_user_who_asked_for_no_time_is_warned() -> None:
    _, _, notes = server("vllm", "serve", "M", "--shutdown-timeout", "0").ending_in_order("0.32.0", {}, 120)
    assert "kill its workers" in notes[0]


@pytest.mark.parametrize(("version", "flag"), [("0.17.1", False), ("0.18.0", True), ("0.23.0", True)])
def test_old_versions_get_the_flag_only_where_it_exists(version: str, flag: bool) -> None:
    arguments, _, notes = server("vllm", "serve", "M").ending_in_order(version, {}, 120)
    assert bool(arguments) == flag
    assert "before 0.24" in notes[0]


@pytest.mark.parametrize("version", [None, "0.1.dev123+g0", "main"])
def test_an_unknown_version_gets_no_flag_and_a_note(version: str | None) -> None:
    arguments, variables, notes = server("vllm", "serve", "M").ending_in_order(version, {}, 120)
    assert arguments == []
    assert vllm.SHUTDOWN_VARIABLE in variables
    assert "--shutdown-timeout 90" in notes[0]


def fake_vllm(folder: Path, body: str, interpreter: str = sys.executable) -> Path:
    script = folder / "vllm"
    script.write_text(f"#!{interpreter}\n{body}")
    script.chmod(0o755)
    return script


def test_the_version_is_that_of_the_interpreter_which_runs_the_script(tmp_path: Path) -> None:
    site = tmp_path / "vllm-0.21.3.dist-info"
    site.mkdir()
    (site / "METADATA").write_text("Metadata-Version: 2.1\nName: vllm\nVersion: 0.21.3\n")
    fake_vllm(tmp_path, "")
    found = detect(("vllm", "serve", "M"), str(tmp_path))
    assert found is not None
    assert found.version({**os.environ, "PYTHONPATH": str(tmp_path)}) == "0.21.3"


def test_no_version_where_nothing_answers(tmp_path: Path) -> None:
    fake_vllm(tmp_path, "", "/no/such/python")
    found = detect(("vllm", "serve", "M"), str(tmp_path))
    assert found is not None
    assert found.version(os.environ) is None
    assert detect(("vllm", "serve", "M"), "/nowhere").interpreter == ("python3",)  # type: ignore[union-attr]


def test_the_config_of_a_local_model_is_read(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"hidden_size": 64}')
    assert vllm.model_config(str(tmp_path)) == {"hidden_size": 64}
    (tmp_path / "config.json").write_text("[1]")
    assert vllm.model_config(str(tmp_path)) is None
    assert vllm.model_config("org/name") is None
    assert vllm.model_config(None) is None
