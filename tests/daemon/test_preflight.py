"""`rocscope daemon --check-config`: what it finds, on real files, sockets and certificates."""

import json
import os
import shutil
import socket
import subprocess

import pytest
from click.testing import CliRunner

from rocscope.cli import cli
from rocscope.daemon import preflight
from rocscope.daemon.settings import load
from rocscope.daemon.state_dir import StateDir

TOKEN = "Zm9yIHRlc3RzIGFsb25lLCBub3QgYSBzZWNyZXQ"


def checked(tmp_path, text="", **overrides):
    config = tmp_path / "rocscope.toml"
    state = f"[state]\nfolder = '{tmp_path / 'state'}'\nmin_free_bytes = 1\n"
    config.write_text(text if "[state]" in text else state + text)
    found = preflight.examine(lambda: load(config, **{"listen": "127.0.0.1:0", **overrides}))
    return {each.what: each for each in found}, preflight.exit_code(found)


def test_a_good_machine_passes_and_nothing_is_made(tmp_path):
    found, code = checked(tmp_path)
    assert code == 0, found
    assert "will be made" in found["state folder"].text and not (tmp_path / "state").exists()
    assert all(not each.remedy for what, each in found.items() if what != "control group")


def test_wrong_settings_are_code_2(tmp_path):
    found, code = checked(tmp_path, "[windows]\nevery_s = -1\n")
    assert code == 2 and "windows.every_s" in found["settings"].text and found["settings"].remedy
    _, code = checked(tmp_path, f"[control]\nsocket = '/{'x' * 200}'\n")
    assert code == 2


def test_a_port_that_is_taken_or_not_ours(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        found, code = checked(tmp_path, listen=f"127.0.0.1:{taken.getsockname()[1]}")
    assert code == 3 and "is taken" in found["port"].text and "--listen" in found["port"].remedy
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    found, code = checked(tmp_path, listen=f"127.0.0.1:{port}")
    assert code == 0 and "is free" in found["port"].text


def test_folders_that_cannot_be_used(tmp_path):
    (tmp_path / "file").write_text("")
    found, code = checked(tmp_path, f"[state]\nfolder = '{tmp_path / 'file' / 'state'}'\n")
    assert code == 3 and "is no folder" in found["state folder"].text
    state = tmp_path / "open"
    state.mkdir()
    state.chmod(0o777)
    found, code = checked(tmp_path, f"[state]\nfolder = '{state}'\nmin_free_bytes = 1\n")
    assert code == 3 and "by anybody" in found["state folder"].text
    found, code = checked(tmp_path, f"[reports]\nfolder = '{tmp_path / 'file'}'\n")
    assert code == 3 and not found["reports folder"].ok
    found, code = checked(tmp_path, "[reports]\nfolder = '/proc/reports'\n[spool]\nenabled = false\n")
    assert "spool folder" not in found


def test_a_folder_of_another_user_or_not_to_be_written(tmp_path, monkeypatch):
    state = tmp_path / "state"
    state.mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: state.stat().st_uid + 1)
    if state.stat().st_uid != 0:
        found, code = checked(tmp_path)
        assert code == 3 and "belongs to user" in found["state folder"].text
    monkeypatch.setattr(os, "access", lambda *_: False)
    found, code = checked(tmp_path)
    assert code == 3 and "may not be written" in found["state folder"].text


def test_too_little_space_and_a_file_system_without_locks(tmp_path, monkeypatch):
    found, code = checked(tmp_path, f"[state]\nfolder = '{tmp_path / 'state'}'\nmin_free_bytes = {1 << 49}\n")
    assert code == 3 and "free some space" in found["free space"].remedy
    monkeypatch.setattr(preflight, "_file_system", lambda _: "nfs4")
    found, code = checked(tmp_path)
    assert code == 3 and "lies on nfs4" in found["file system"].text


def test_the_file_system_of_a_path_is_told():
    assert preflight._file_system(preflight.Path("/proc/self")) == "proc"


def test_another_daemon_on_the_folder_is_seen(tmp_path):
    with StateDir.claim(tmp_path / "state"):
        found, code = checked(tmp_path)
        assert code == 3 and "one runs on" in found["other daemon"].text
    found, code = checked(tmp_path)
    assert code == 0


@pytest.mark.parametrize(
    ("text", "mode", "said"),
    [
        (TOKEN, 0o644, "mode 0644"),
        ("short", 0o600, "at least 128 bits"),
        (None, 0o600, "No such file"),
        ("\xff\xfe", 0o600, "at least 128 bits"),
        (TOKEN, 0o600, ""),
        (TOKEN, 0o640, ""),
    ],
)
def test_a_tokens_file_and_never_its_content(tmp_path, text, mode, said):
    path = tmp_path / "token"
    if text is not None:
        path.write_bytes(text.encode("latin-1"))
        path.chmod(mode)
    found, code = checked(tmp_path, f"[http]\ntoken_file = '{path}'\n")
    assert found["token"].ok is (not said) and said in found["token"].text
    assert code == (3 if said else 0) and TOKEN not in str(found)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    folder = tmp_path_factory.mktemp("tls")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=x"
    files = ["-keyout", str(folder / "key"), "-out", str(folder / "cert")]
    subprocess.run([*command.split(), *files], check=True, capture_output=True)
    return folder


def tls(certificate, key, ca=None):
    more = f"client_ca = '{ca}'\n" if ca else ""
    return f"[http]\ntls_certificate = '{certificate}'\ntls_key = '{key}'\n{more}"


def test_certificates_that_fit_and_do_not(tmp_path, certificate):
    cert, key = certificate / "cert", certificate / "key"
    key.chmod(0o600)
    found, code = checked(tmp_path, tls(cert, key, cert))
    assert code == 0 and found["TLS"].ok
    found, code = checked(tmp_path, tls(cert, cert))
    assert code == 3 and not found["TLS"].ok
    found, code = checked(tmp_path, tls(cert, tmp_path / "absent", tmp_path / "absent"))
    assert code == 3 and not found["TLS"].ok and "absent" in found["TLS"].text
    key.chmod(0o644)
    found, code = checked(tmp_path, tls(cert, key))
    assert code == 3 and "can be read by others" in found["TLS key"].text


def test_what_an_engine_names_must_be_there(tmp_path):
    found, code = checked(
        tmp_path, "[[engines.known]]\nurl = 'http://127.0.0.1:8000'\ntraces = '/nonexistent'\n"
    )
    assert code == 3 and "/nonexistent" in found["engine's traces"].text


def run(*arguments):
    return CliRunner().invoke(cli, ["daemon", *arguments], catch_exceptions=False)


def test_the_command_shows_it_and_ends_with_its_code(tmp_path):
    told = run("--check-config", "--state", str(tmp_path / "s"), "--listen", "127.0.0.1:0")
    assert "ok    settings: they can be read" in told.output and "ok    port" in told.output
    (tmp_path / "bad.toml").write_text("[http\n")
    told = CliRunner().invoke(
        cli,
        ["daemon", "--check-config", "--json", "--config", str(tmp_path / "bad.toml")],
        standalone_mode=False,
    )
    answer = json.loads(told.output)
    assert answer["exit_code"] == told.return_value == 2 and answer["checks"][0]["what"] == "settings"
    told = run("--check-config", "--config", str(tmp_path / "bad.toml"))
    assert "FAIL  settings" in told.output and "next: " in told.output


def test_the_command_prints_settings_that_it_reads_back(tmp_path):
    printed = run("--print-config", "--state", str(tmp_path / "s")).output
    (tmp_path / "printed.toml").write_text(printed)
    assert run("--print-config", "--config", str(tmp_path / "printed.toml")).output == printed


@pytest.mark.parametrize("options", [["--json"], ["--print-config", "--check-config"]])
def test_options_that_contradict_each_other(options):
    from rocscope.errors import UsageError

    with pytest.raises(UsageError):
        run(*options)
