"""The build hook: npm's answer is taken only if it is the pinned one; nothing it says stops a build."""

import hashlib
import importlib.util
import io
import os
import stat
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = b"/**\n* plotly.js (basic - minified) v4.1.1\n*/\nvar Plotly = {};\n"


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.delenv("ROCSCOPE_BUILD_OFFLINE", raising=False)
    spec = importlib.util.spec_from_file_location("hatch_build_under_test", ROOT / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def archive(path: Path, member: str = "package/plotly-basic.min.js") -> bytes:
    with tarfile.open(path, "w:gz") as packed:
        entry = tarfile.TarInfo(member)
        entry.size = len(SCRIPT)
        packed.addfile(entry, io.BytesIO(SCRIPT))
    return path.read_bytes()


def stand_in(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a program called npm first on the PATH."""
    folder.mkdir(exist_ok=True)
    npm = folder / "npm"
    npm.write_text(f"#!{sys.executable}\nimport shutil, sys\nplace = sys.argv[-1]\n{script}\n")
    npm.chmod(npm.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)


@pytest.fixture
def served(hook: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The hook with an npm that serves an archive of ours, pinned to that archive."""
    packed = tmp_path / "packed.tgz"
    digest = hashlib.sha512(archive(packed)).digest()
    monkeypatch.setattr(hook, "INTEGRITY", "sha512-" + hook.base64.b64encode(digest).decode())
    monkeypatch.setattr(hook, "SCRIPT_SHA256", hashlib.sha256(SCRIPT).hexdigest())
    stand_in(tmp_path / "bin", f"shutil.copy({str(packed)!r}, place + '/one.tgz')", monkeypatch)
    return hook


def test_what_is_pinned_is_put_in_place_once(served: Any, tmp_path: Path) -> None:
    target = tmp_path / "package" / "plotly.js"
    assert served.fetch(target)
    assert target.read_bytes() == SCRIPT
    assert not served.fetch(target), "nothing is fetched twice"
    target.write_bytes(b"something else")
    assert served.fetch(target)
    assert target.read_bytes() == SCRIPT
    assert [each.name for each in target.parent.iterdir()] == ["plotly.js"]


def test_another_hash_is_refused_and_what_was_there_of_another_version_is_gone(
    served: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "plotly.js"
    target.write_bytes(b"an older version")
    monkeypatch.setattr(served, "INTEGRITY", "sha512-AAAA")
    with pytest.raises(served.Unavailable, match="hash"):
        served.fetch(target)
    assert not target.exists()


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("sys.exit(1)", "failed, code 1"),
        ("pass", "failed, code 0"),
        ("import time; time.sleep(30)", "did not end well"),
    ],
)
def test_an_npm_that_fails_hangs_or_says_nothing_is_no_error(
    hook: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, words: str
) -> None:
    monkeypatch.setattr(hook, "DEADLINE_S", 0.5)
    stand_in(tmp_path / "bin", script, monkeypatch)
    if words == "failed, code 0":
        monkeypatch.setattr(hook, "DEADLINE_S", 60)
    with pytest.raises(hook.Unavailable, match=words):
        hook.fetch(tmp_path / "plotly.js")


def test_without_npm_or_offline_the_build_says_so_in_one_line_and_goes_on(
    hook: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []

    class App:
        def display_warning(self, text: str) -> None:
            said.append(text)

    made = hook.Hook.__new__(hook.Hook)
    monkeypatch.setattr(hook.Hook, "root", str(tmp_path), raising=False)
    monkeypatch.setattr(hook.Hook, "app", App(), raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    made.initialize("standard", {})
    monkeypatch.setenv("ROCSCOPE_BUILD_OFFLINE", "1")
    made.initialize("editable", {})
    assert said == [
        "reports will carry the whole of plotly.js (4.8 MB): npm is not installed",
        "reports will carry the whole of plotly.js (4.8 MB): ROCSCOPE_BUILD_OFFLINE is set",
    ]
    assert not (tmp_path / hook.TARGET).exists()


def test_git_ignores_what_is_fetched_and_the_wheel_carries_it(hook: Any) -> None:
    ignored = subprocess.run(["git", "check-ignore", "-q", str(hook.TARGET)], cwd=ROOT)
    assert ignored.returncode == 0
    settings = (ROOT / "pyproject.toml").read_text()
    assert f'artifacts = ["{hook.TARGET.parent}/*.js"]' in settings
