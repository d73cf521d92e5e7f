"""The daemon's settings: defaults, TOML there and back, errors that name file and field."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocscope.daemon.settings import Settings, load
from rocscope.daemon.settings_text import as_toml
from rocscope.errors import InputError, NotFound, UsageError


def written(tmp_path, text):
    path = tmp_path / "rocscope.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_defaults_come_back_from_what_is_printed(tmp_path):
    settings = load(None)
    assert load(written(tmp_path, as_toml(settings))) == settings
    assert settings.http.loopback and settings.windows.every_s == 900


@given(
    st.text(max_size=40).filter(lambda text: "\x00" not in text and text.isprintable()),
    st.lists(st.text(alphabet='ab"\\\n\x1b', max_size=5), max_size=3),
)
def test_any_text_survives_the_way_through_toml(tmp_path_factory, name, hosts):
    made = Settings.model_validate({"node": {"name": name}, "http": {"allowed_hosts": hosts}})
    path = written(tmp_path_factory.mktemp("toml"), as_toml(made))
    assert load(path).node.name == name and list(load(path).http.allowed_hosts) == hosts


def test_tables_of_many_are_read_back(tmp_path):
    text = (
        "[[engines.known]]\nurl = 'http://127.0.0.1:8000'\n[[triggers]]\nname = 'slow'\nmetric = 'power_w'\n"
        "below = 90.0\n[windows.profiles.kernel-trace]\nwindow_s = 3\n[windows.profiles.long]\nwindow_s = 9\n"
    )
    settings = load(written(tmp_path, text))
    assert settings.windows.profiles["long"].window_s == 9 and settings.triggers[0].below == 90
    assert load(written(tmp_path, as_toml(settings))) == settings


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[windows]\nevery = 3\n", "windows.every"),
        ("[windows]\nmax_duty_frac = 2\n", "windows.max_duty_frac"),
        ("[http]\nlisten = '0.0.0.0:80'\n", "tls_certificate and tls_key are needed"),
        ("[http]\nlisten = '0.0.0.0:80'\ntls_certificate='/c'\ntls_key='/k'\n", "token_file or a client_ca"),
        ("[http]\nlisten = '9814'\n", "no address"),
        ("[http]\ntls_key = '/k'\n", "go together"),
        ("[[triggers]]\nname='a'\nmetric='power_w'\n", "exactly one of below and above"),
        ("[[triggers]]\nname='a'\nmetric='power_w'\nbelow=1\nprofile='x'\n", "no profile"),
        ("[windows.profiles.x]\nwindow_s = 1\n", "kernel-trace"),
        ("[windows.profiles.kernel-trace]\nwindow_s = 60\n", "longer than max_window_s"),
        ("[reports]\ndaily_at = '25:00'\n", "no time of day"),
        ("[http\n", "line 1"),
        ("state = 3\n", "state is no table"),
    ],
)
def test_a_mistake_names_file_and_field(tmp_path, text, said):
    path = written(tmp_path, text)
    with pytest.raises(InputError) as caught:
        load(path)
    assert said in caught.value.message and str(path) in caught.value.message and caught.value.hint


def test_overrides_win_and_are_checked(tmp_path):
    settings = load(None, state=tmp_path / "state", listen="127.0.0.1:0")
    assert settings.state.folder == tmp_path / "state" and settings.http.address == ("127.0.0.1", 0)
    assert settings.control_socket == tmp_path / "state" / "control.sock"
    with pytest.raises(UsageError, match="not loopback"):
        load(None, listen="0.0.0.0:9814")
    with pytest.raises(NotFound):
        load(tmp_path / "absent.toml")


def test_a_user_without_root_gets_a_folder_of_their_own(monkeypatch, tmp_path):
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert load(None).state.folder == tmp_path / "rocscope"


def test_under_systemd_the_socket_lies_in_the_units_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("RUNTIME_DIRECTORY", "/run/rocscope:/run/other")
    assert str(load(None, state=tmp_path).control_socket) == "/run/rocscope/control.sock"
    named = written(tmp_path, "[control]\nsocket = '/run/mine.sock'\n")
    assert str(load(named).control_socket) == "/run/mine.sock"
