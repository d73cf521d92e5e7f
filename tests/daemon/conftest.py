"""A claimed state folder with a store in it."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from daemon_clocks import Hands

from rocscope.daemon.state_dir import StateDir
from rocscope.daemon.store import Store


@pytest.fixture
def hands() -> Hands:
    return Hands()


@pytest.fixture
def state(tmp_path: Path) -> Iterator[StateDir]:
    with StateDir.claim(tmp_path / "state") as folder:
        yield folder


@pytest.fixture
def store(state: StateDir, hands: Hands) -> Iterator[Store]:
    opened = Store.open(state, hands.clock(), retry_s=0.05)
    yield opened
    assert opened.close()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for localhost and its key, as cert.pem and key.pem."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    folder = tmp_path_factory.mktemp("tls")
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    words += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    words += ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run(words, check=True, capture_output=True)
    return folder
