"""A claimed state folder with a store in it."""

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
