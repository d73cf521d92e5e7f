"""kill -9 at any instant: each content that was dropped is analysed or refused, once."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

KILLS = 15


@pytest.mark.slow
def test_nothing_dropped_is_lost_or_doubled_by_kills_at_random_instants(tmp_path):
    here, seed = Path(__file__), str(random.randrange(1 << 30))
    command = [sys.executable, here.with_name("spool_victim.py"), tmp_path / "state", str(KILLS), seed,
               here.with_name("quick_child.py"), "--longest-s", "1"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert "wrong" not in found, found
    assert found["kills"] == KILLS and found["contents"] == 3 * KILLS
    assert len(found["in_work"]) > 1, "the kills fell on different steps"
