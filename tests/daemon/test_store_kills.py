"""kill -9 at any instant: what was accepted is there, once."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

KILLS = 50


@pytest.mark.slow
def test_nothing_accepted_is_lost_or_doubled_by_kills_at_random_instants(tmp_path):
    seed = random.randrange(1 << 30)
    done = subprocess.run(
        [
            sys.executable,
            Path(__file__).with_name("store_victim.py"),
            tmp_path / "state",
            str(KILLS),
            str(seed),
        ],
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert "wrong" not in found, found
    assert found["kills"] == KILLS and min(found["accepted"].values()) > KILLS
