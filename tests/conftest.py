"""Fixtures all tests share: where the recordings are, golden files, no process left behind."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = Path(__file__).parent / "golden"

# machines are shared, and slowness is for the benchmarks; the coverage run tries more examples
settings.register_profile("house", deadline=None, max_examples=int(os.environ.get("ROCSCOPE_EXAMPLES", "40")))
settings.load_profile("house")
os.environ["ROCSCOPE_CEILINGS"] = "/nonexistent/ceilings"  # what is measured on this machine changes no test
_LEDGERS = tempfile.mkdtemp(prefix="rocscope-test-ledgers-")
atexit.register(shutil.rmtree, _LEDGERS, ignore_errors=True)
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as in the background of a script; children inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden", action="store_true", help="rewrite golden files from what the code says now"
    )


@pytest.fixture(scope="session")
def captures() -> Path:
    """The folder of real recordings; skips the test where it is absent."""
    folder = Path(os.environ.get("ROCSCOPE_CAPTURES") or ROOT.parent / "shared" / "captures")
    if not (folder / "PROVENANCE.csv").is_file():
        pytest.skip(f"no recordings at {folder}; set ROCSCOPE_CAPTURES to run this test")
    return folder


@pytest.fixture(scope="session")
def examples() -> Path:
    """The recordings that the project carries itself."""
    return ROOT / "examples"


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compare text with ``tests/golden/<name>``, or rewrite the file under ``--update-golden``."""

    def check(name: str, text: str) -> None:
        path = GOLDEN / name
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            return
        assert path.is_file(), f"{path} is missing; run pytest --update-golden and read the diff"
        assert text == path.read_text(encoding="utf-8"), (
            f"{name} differs; if rightly so, pytest --update-golden"
        )

    return check


@pytest.fixture(scope="session")
def standins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ``bin`` folder of stand-ins for ROCm's profilers (tests/fake_tools); skips without gcc."""
    import shutil

    from fake_tools import standins as builder

    if shutil.which("gcc") is None:
        pytest.skip("no gcc to build the profiler stand-ins with")
    return builder.install(tmp_path_factory.mktemp("rocm"))


@pytest.fixture(autouse=True)
def own_ledger(monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ledger of forecasts of each test's own, not made yet: none learns from another, or from a user's."""
    path = Path(_LEDGERS) / uuid.uuid4().hex / "forecasts.sqlite"
    monkeypatch.setenv("ROCSCOPE_FORECASTS", str(path))
    return path


@pytest.fixture(autouse=True)
def no_process_left() -> Iterator[None]:
    """Fail a test that leaves a child process running."""
    yield
    left = [
        p
        for p in psutil.Process().children(recursive=True)
        if p.is_running() and p.status() != psutil.STATUS_ZOMBIE
    ]
    names = []
    for process in left:
        try:
            command = " ".join(process.cmdline())
        except psutil.Error:
            continue
        if "resource_tracker" in command or "forkserver" in command:  # Python's own, ends with the test run
            continue
        names.append(f"{process.pid} {command}")
        process.kill()
    assert not names, f"left running: {names}"
